//! Reads a configuration folder over the built-in defaults, checks it as a whole, and reports everything
//! that is wrong with it at once.
//!
//! Must not: connect to anything or resolve a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Access, Config, Http, Limits, RocketChat, environment};
use crate::assets::{BUILT_IN, Source};
use crate::command::CommandSpec;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::digest::Digest;
use crate::ids::ScheduleName;
use crate::playbook::steps::StepKind;
use crate::yaml::{self, Node};

/// What `houston check` prints.
#[derive(Debug)]
pub struct Report {
    /// Absent when there are errors.
    pub config: Option<Config>,
    /// Of the files as far as they could be read, also when they are wrong.
    pub revision: Digest,
    pub diagnostics: Diagnostics,
}

impl Report {
    /// `2 environments, 6 services, 24 commands and 3 playbooks: no problems`, or how many there are.
    pub fn summary(&self) -> String {
        let count = |severity, noun| crate::text::count(self.diagnostics.count(severity), noun);
        let problems = match (self.diagnostics.has_errors(), self.diagnostics.is_empty()) {
            (_, true) => "no problems".to_owned(),
            (false, false) => count(Severity::Warning, "warning"),
            (true, false) if self.diagnostics.count(Severity::Warning) == 0 => {
                count(Severity::Error, "error")
            }
            (true, false) => {
                format!("{} and {}", count(Severity::Error, "error"), count(Severity::Warning, "warning"))
            }
        };
        match &self.config {
            None => problems,
            Some(config) => {
                let services = config.environments.values().map(|e| e.services.len()).sum();
                let schedules = match config.schedules.len() {
                    0 => String::new(),
                    some => format!("{}, ", crate::text::count(some, "schedule")),
                };
                format!(
                    "{}, {}, {schedules}{} and {}: {problems}",
                    crate::text::count(config.environments.len(), "environment"),
                    crate::text::count(services, "service"),
                    crate::text::count(config.commands.len(), "command"),
                    crate::text::count(config.playbooks.len(), "playbook"),
                )
            }
        }
    }
}

/// Checks the folder `dir`; `kinds` are the step kinds that playbooks may use. What `houston check` and
/// `houston serve` call.
pub fn check(dir: &Path, kinds: &[&dyn StepKind]) -> Report {
    Config::load(dir, kinds)
}

impl Config {
    /// Loads `dir` over the built-in defaults. The configuration is there when nothing is wrong beyond
    /// warnings.
    fn load(dir: &Path, kinds: &[&dyn StepKind]) -> Report {
        let mut found = Diagnostics::new();
        if !dir.is_dir() {
            found.push(
                Diagnostic::error(None, format!("the configuration folder `{}` is not there", dir.display()))
                    .hint("give its path with --config DIR"),
            );
            return Report { config: None, revision: Digest::of(b""), diagnostics: found };
        }
        let sources = super::sources::collect(dir, &mut found);
        let revision = super::sources::revision(&sources);
        let config = read(dir, &sources, kinds, &mut found).filter(|_| !found.has_errors());
        Report { config, revision, diagnostics: found }
    }

    /// The same for files that are not on the disk: paths are relative to a folder that need not exist.
    /// For `demo` and for tests.
    pub fn from_files(files: &[(&str, &str)], kinds: &[&dyn StepKind]) -> (Option<Self>, Diagnostics) {
        let mut found = Diagnostics::new();
        if !files.iter().any(|(path, _)| *path == MAIN) {
            found.push(super::sources::no_main(None));
        }
        let sources = files.iter().map(|(path, text)| Source {
            path: PathBuf::from(path),
            bytes: text.as_bytes().to_vec(),
            overlays: false,
        });
        let sources = super::sources::over_defaults(sources.collect());
        let config = read(Path::new(""), &sources, kinds, &mut found);
        (config.filter(|_| !found.has_errors()), found)
    }

    /// The sample configuration: two environments of a small company.
    pub fn sample(kinds: &[&dyn StepKind]) -> (Option<Self>, Diagnostics) {
        let files: Vec<(&str, &str)> =
            crate::assets::SAMPLE.iter().map(|asset| (asset.path, asset.text)).collect();
        Self::from_files(&files, kinds)
    }
}

/// The text of the file that a finding is about.
pub fn source_text(dir: &Path, file: &Path) -> Option<String> {
    match crate::assets::built_in_text(file) {
        Some(text) => Some(text.to_owned()),
        None => std::fs::read_to_string(dir.join(file)).ok(),
    }
}

/// The file that every configuration has.
pub(super) const MAIN: &str = "houston.yaml";

/// Sections of `houston.yaml` that later versions have.
const LATER: &[&str] = &["knowledge", "model", "webhooks", "audit"];

/// `houston.yaml` as far as it could be read.
#[derive(Default)]
struct Main {
    rocketchat: Option<RocketChat>,
    http: Option<Http>,
    /// Absent: the file could not be read, so that nothing is known about roles.
    access: Option<Access>,
    limits: Limits,
    lease: super::lease::Written,
    approval_expires: Option<Duration>,
    approval_buttons: bool,
    time_zone: Option<TimeZone>,
    exports: super::exports::Exports,
    retention: super::retention::Retention,
    maintenance: super::maintenance::Announcing,
    schedules: BTreeMap<ScheduleName, super::schedules::Schedule>,
    break_glass: Option<environment::BreakGlassRule>,
    providers: super::providers::Providers,
}

fn read(dir: &Path, sources: &[Source], kinds: &[&dyn StepKind], found: &mut Diagnostics) -> Option<Config> {
    let mut main = Main::default();
    let mut expectations = Vec::new();
    let mut files: Vec<(&Source, Option<Node>)> = Vec::new();
    let mut reports = BTreeMap::new();
    for source in sources {
        if folder(&source.path) == "prompts" {
            reports.extend(super::reports::read(source, found));
            continue;
        }
        let node = yaml::parse(&source.path, &source.bytes, found);
        let own = !source.path.starts_with(BUILT_IN);
        if let (Some(node), true) = (&node, own) {
            super::secrets::look(node, found);
        }
        if source.path == Path::new(MAIN) {
            if let Some(node) = &node {
                main = read_main(node, found);
            }
        } else if source.path == Path::new(super::expectations::FILE) {
            if let Some(node) = &node {
                expectations = super::expectations::read(node, found);
            }
        } else {
            files.push((source, node));
        }
    }
    let expires = main.approval_expires.unwrap_or(super::approvals::EXPIRES);
    let time_zone = main.time_zone.clone().unwrap_or(TimeZone::UTC);
    let defaults = environment::read::Defaults { dir, expires, time_zone: &time_zone };
    let mut environments = BTreeMap::new();
    let mut commands = Vec::new();
    let mut commands_complete = true;
    let mut playbooks = BTreeMap::new();
    let mut playbook_names = Vec::new();
    let mut uses = crate::playbook::check::Uses::default();
    for (source, node) in &files {
        match folder(&source.path) {
            "environments" => {
                let Some(node) = node else { continue };
                if let Some(e) = environment::read::read(node, &source.path, &defaults, found) {
                    environments.insert(e.name.clone(), e);
                }
            }
            "commands" => match node {
                Some(node) => {
                    let read = crate::command::read::read(node, found);
                    commands_complete &= read.len() == node.entries(found).map_or(0, <[_]>::len);
                    commands.extend(read);
                }
                None => commands_complete = false,
            },
            _ => {
                playbook_names.extend(source.path.file_stem().and_then(|s| s.to_str()).map(str::to_owned));
                let Some(node) = node else { continue };
                let located = crate::playbook::parse::read(node, &source.path, &source.bytes, expires, found);
                if let Some(located) = located {
                    let used = crate::playbook::check::check(&located, kinds, found);
                    uses.variables.extend(used.variables);
                    uses.roles.extend(used.roles);
                    uses.approvals.extend(used.approvals);
                    playbooks.insert(located.playbook.name.clone(), located.playbook);
                }
            }
        }
    }
    commands.sort_by(|a: &CommandSpec, b| a.name.cmp(&b.name).then_with(|| a.at.cmp(&b.at)));
    let everything = super::whole::Everything {
        access: main.access.as_ref(),
        break_glass: main.break_glass.as_ref(),
        maintenance: &main.maintenance,
        schedules: &main.schedules,
        environments: &environments,
        commands: &commands,
        commands_complete,
        playbooks: &playbooks,
        playbook_names: &playbook_names,
        reports: &reports,
        uses: &uses,
    };
    super::whole::check(&everything, found);
    super::providers::check(&main.providers, &environments, found);
    let lease = super::lease::choose(main.lease, &environments, found);
    Some(Config {
        dir: dir.to_path_buf(),
        revision: super::sources::revision(sources),
        files: sources.iter().map(|file| (file.path.clone(), Digest::of(&file.bytes))).collect(),
        rocketchat: main.rocketchat?,
        http: main.http,
        access: main.access?,
        limits: main.limits,
        lease,
        approval_expires: expires,
        approval_buttons: main.approval_buttons,
        time_zone,
        break_glass: main.break_glass,
        exports: main.exports,
        retention: main.retention,
        maintenance: main.maintenance,
        providers: main.providers,
        schedules: main.schedules,
        environments,
        commands,
        playbooks,
        reports,
        expectations,
    })
}

/// The folder that a file stands in, also of a default.
fn folder(path: &Path) -> &str {
    let path = path.strip_prefix(BUILT_IN).unwrap_or(path);
    path.components().next().and_then(|first| first.as_os_str().to_str()).unwrap_or("")
}

fn read_main(node: &Node, found: &mut Diagnostics) -> Main {
    let Some(mut map) = node.map(found) else { return Main::default() };
    let rocketchat =
        map.need("rocketchat", "the workspace: url, and user_id and token or username and password", found);
    let rocketchat = rocketchat.and_then(|node| super::rocketchat::read(node, found));
    let http = map.take("http").and_then(|node| super::http::read(node, found));
    let access = match map.take("access") {
        Some(node) => super::access::read(node, found),
        None => {
            found.push(
                Diagnostic::warning(node.at.clone(), "nobody may change anything: `access` is missing")
                    .hint("write access: {roles: {operator: {users: [NAME]}}}"),
            );
            Access::default()
        }
    };
    let limits = map.take("limits").map(|node| super::limits::read(node, found)).unwrap_or_default();
    let lease = map.take("lease").map(|node| super::lease::read(node, found)).unwrap_or_default();
    let (approval_expires, approval_buttons, break_glass) = map
        .take("approvals")
        .and_then(|node| {
            let mut map = node.map(found)?;
            let expires = map.take("expires");
            let expires = expires.and_then(|node| node.duration(super::approvals::EXPIRES_RANGE, found));
            let buttons = map.take("buttons").and_then(|node| node.boolean(found));
            map.take(super::approvals::BREAK_GLASS);
            map.finish(found);
            let break_glass = super::approvals::break_glass(node, found);
            Some((expires, buttons.unwrap_or_default(), break_glass))
        })
        .unwrap_or_default();
    let time_zone = map.take("time_zone").and_then(|node| super::window::read_zone(node, found));
    let exports = map.take("exports").map(|node| super::exports::read(node, found)).unwrap_or_default();
    let retention = map.take("retention").map(|node| super::retention::read(node, found)).unwrap_or_default();
    let maintenance = map.take("maintenance").map(|node| super::maintenance::read(node, found));
    let providers = map.take("providers").map(|node| super::providers::read(node, found)).unwrap_or_default();
    let zone = time_zone.clone().unwrap_or(TimeZone::UTC);
    let schedules = map.take("schedules").map(|node| super::schedules::read(node, &zone, found));
    for name in LATER {
        if let Some(section) = map.take(name) {
            let at = map.key_at(name).unwrap_or_else(|| section.at.clone());
            found.push(
                Diagnostic::error(at, format!("`{name}` is not supported by this version yet"))
                    .hint("remove it, or comment it out"),
            );
        }
    }
    map.finish(found);
    Main {
        rocketchat,
        http,
        access: Some(access),
        limits,
        lease,
        approval_expires,
        approval_buttons,
        time_zone,
        exports,
        retention,
        maintenance: maintenance.unwrap_or_default(),
        schedules: schedules.unwrap_or_default(),
        break_glass,
        providers,
    }
}
