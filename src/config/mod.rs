//! The configuration folder: `houston.yaml`, `environments/*.yaml`, and overlays of `commands/`,
//! `playbooks/` and `prompts/`. Loading reports every problem at once and never panics.
//!
//! Must not: connect to anything, resolve secrets at load, or change after it was loaded.

mod access;
pub mod approvals;
mod basis;
pub mod changes;
pub mod cron;
mod current;
pub mod docs;
pub mod env;
pub mod environment;
pub mod expectations;
pub mod exports;
mod http;
pub mod lease;
mod limits;
pub mod load;
pub mod maintenance;
mod policies;
pub mod providers;
mod reports;
pub mod retention;
mod rocketchat;
pub mod schedules;
mod secrets;
mod sources;
mod whole;
pub mod window;

pub use current::Current;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::conversation::schedule_named;
use crate::diagnostic::Location;
use crate::digest::Digest;
use crate::ids::{EnvName, RoleName, ScheduleName};
use crate::playbook::model::Playbook;
use crate::secret::SecretRef;

/// Everything that the folder says, checked as a whole.
#[derive(Clone, Debug)]
pub struct Config {
    pub dir: PathBuf,
    /// Over every file's name and bytes, the embedded defaults included.
    pub revision: Digest,
    /// Each file in force, with the digest of its bytes.
    pub files: BTreeMap<PathBuf, Digest>,
    pub rocketchat: RocketChat,
    pub http: Option<Http>,
    pub access: Access,
    pub limits: Limits,
    /// Which of several Houstons of this account acts.
    pub lease: lease::Lease,
    /// How long a request waits for consent where no rule says otherwise. Default 30 min.
    pub approval_expires: Duration,
    /// Whether a message with buttons follows each approval card. Default no.
    pub approval_buttons: bool,
    /// In which people's times are meant and shown where an environment says nothing else. Default UTC.
    pub time_zone: TimeZone,
    /// Who may start without consent where an environment's file says nothing; absent: nobody.
    pub break_glass: Option<environment::BreakGlassRule>,
    /// When the store is exported by itself.
    pub exports: exports::Exports,
    /// How long what is kept is kept.
    pub retention: retention::Retention,
    /// Where maintenance is announced where an environment's file says nothing.
    pub maintenance: maintenance::Announcing,
    /// What is rented or asked elsewhere.
    pub providers: providers::Providers,
    /// Commands that are given again and again.
    pub schedules: BTreeMap<ScheduleName, schedules::Schedule>,
    pub environments: BTreeMap<EnvName, environment::Environment>,
    pub commands: Vec<crate::command::CommandSpec>,
    pub playbooks: BTreeMap<String, Playbook>,
    /// Templates of `prompts/reports/`, by name.
    pub reports: BTreeMap<String, String>,
    /// Of `policies.yaml`.
    pub expectations: Vec<expectations::Expectation>,
}

#[derive(Clone, Debug)]
pub struct RocketChat {
    /// `ROOT_URL` of the workspace, with its sub-path if it has one, without a slash at the end.
    pub url: url::Url,
    pub auth: Auth,
    pub at: Location,
}

#[derive(Clone, Debug)]
pub enum Auth {
    /// A personal access token, or any login token.
    Token {
        user_id: String,
        token: SecretRef,
    },
    Password {
        username: String,
        password: SecretRef,
    },
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    /// Under which others reach it, for links in messages.
    pub public_url: Option<url::Url>,
    /// How long a link to a run's page is good for. Default 1 d.
    pub link_expires: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Access {
    pub roles: BTreeMap<RoleName, Role>,
    /// Tried from the top; the first that matches decides. After them come the built-in ones: everybody
    /// may read, operators and leads may change.
    pub rules: Vec<Rule>,
}

impl Access {
    /// Whom roles and rules name, without schedules.
    pub fn people(&self) -> impl Iterator<Item = (&str, &Location)> {
        let in_roles = self.roles.values().flat_map(|role| role.users.iter().map(|user| (user, &role.at)));
        let in_rules = self.rules.iter().flat_map(|rule| rule.users.iter().map(|user| (user, &rule.at)));
        let all = in_roles.chain(in_rules).map(|(user, at)| (user.as_str(), at));
        all.filter(|(user, _)| schedule_named(user).is_none())
    }
}

/// Who is in a role.
#[derive(Clone, Debug)]
pub struct Role {
    /// User ids or user names; `schedule:NAME` for a schedule.
    pub users: Vec<String>,
    pub rocketchat_roles: Vec<String>,
    pub at: Location,
}

/// `allow`/`deny` for people, rooms, commands and argument values. An empty list matches everything.
#[derive(Clone, Debug)]
pub struct Rule {
    pub allow: bool,
    pub roles: Vec<RoleName>,
    /// As in a role.
    pub users: Vec<String>,
    /// Room ids or names; `direct` for direct messages.
    pub rooms: Vec<String>,
    /// Command names, `changing` or `reading` for all of a sort.
    pub commands: Vec<String>,
    /// Argument name → accepted values: `environment: [dev, staging]`.
    pub arguments: BTreeMap<String, Vec<String>>,
    pub at: Location,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Commands found at catch-up that are older are asked about and not run. Default 2 min.
    pub stale_after: Duration,
    /// How long a step may take that says nothing else. Default 30 min.
    pub step_timeout: Duration,
    /// Commands of one person in a minute. Default 60.
    pub commands_per_minute: u32,
    /// With less free space below the state folder no run begins: what runs already has to be able to write
    /// its journal to the end. Default 64.
    pub free_megabytes: u32,
}

impl Config {
    /// Of the file that names people. Whoever saves it anew vouches for the names in it; a change elsewhere says
    /// nothing about who bears them.
    pub fn names_revision(&self) -> Digest {
        self.files.get(std::path::Path::new(load::MAIN)).unwrap_or(&self.revision).clone()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(120),
            step_timeout: Duration::from_secs(1800),
            commands_per_minute: 60,
            free_megabytes: 64,
        }
    }
}
