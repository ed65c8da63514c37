//! `houston doctor`: looks at everything that Houston depends on, and says of each finding how to mend it.
//!
//! Looks go on side by side, each within its time, and are told in a fixed order.
//!
//! Must not: change anything, accept a host key, disturb a Houston that runs, or show a secret. What it does
//! leave behind for a moment (a login by password, connections, an opened store) it takes away again.

mod here;
mod hetzner;
mod lease;
mod machines;
pub mod permissions;
mod server;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::chat::policies;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::load::Report;
use crate::diagnostic::Severity;
use crate::exec::ssh::{SshOptions, SshPool};
use crate::playbook::steps::Kinds;
use crate::secret::Redactor;
use crate::text;

/// How much a check matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Houston works; something about it does not, or will not for long.
    Warning,
    /// Houston, or a command of it, does not work.
    Problem,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `server`, `permission create-d`, `prod host node1`…
    pub check: String,
    pub result: Level,
    pub message: String,
    /// What a person does about it; there is one for whatever is not ok.
    pub fixes: Vec<String>,
}

impl Check {
    pub fn new(check: impl Into<String>, result: Level, message: impl Into<String>) -> Self {
        Self { check: check.into(), result, message: message.into(), fixes: Vec::new() }
    }
    pub fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, message)
    }
    pub fn warning(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, message)
    }
    pub fn problem(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(check, Level::Problem, message)
    }
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes.push(fix.into());
        self
    }

    fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |text: &String| redactor.redact(text).into_owned();
        Self {
            check: clean(&self.check),
            message: clean(&self.message),
            fixes: self.fixes.iter().map(clean).collect(),
            ..self
        }
    }
}

/// Whether a Houston runs on the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    Absent,
    Runs,
    /// Its socket is there, and it does not answer as it should.
    Silent(String),
}

/// What to look at.
pub struct Options {
    /// The configuration folder.
    pub config: PathBuf,
    pub state: PathBuf,
    pub kinds: Kinds,
    pub daemon: Daemon,
    /// For control sockets of SSH; made, and removed at the end.
    pub runtime: PathBuf,
    pub clock: Clock,
    pub redactor: Redactor,
    /// For each look. Default of the command line: 30 s.
    pub limit: Duration,
}

/// What is told while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// In their order.
    Checks(&'a [Check]),
    /// These are not done yet; every second.
    Waiting(&'a [&'a str]),
}

/// What one look has to do with.
struct Patient {
    /// Absent: the folder is wrong.
    config: Option<Config>,
    state: PathBuf,
    daemon: Daemon,
    clock: Clock,
    redactor: Redactor,
    limit: Duration,
}

/// One look, and what it is at.
struct Look {
    about: String,
    checks: BoxFuture<'static, Vec<Check>>,
}

impl Look {
    fn new(about: impl Into<String>, checks: impl Future<Output = Vec<Check>> + Send + 'static) -> Self {
        Self { about: about.into(), checks: Box::pin(checks) }
    }
}

/// Looks at everything; returns what was found, in the order in which it was told.
pub async fn examine(options: Options, mut told: impl FnMut(Told<'_>)) -> Vec<Check> {
    let Options { config, state, kinds, daemon, runtime, clock, redactor, limit } = options;
    let report = {
        let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
        policies::load(&config, &kinds)
    };
    let mut found: Vec<Check> =
        configuration(&report).into_iter().map(|check| check.redacted(&redactor)).collect();
    told(Told::Checks(&found));
    let patient =
        Arc::new(Patient { config: report.config, state, daemon, clock, redactor: redactor.clone(), limit });
    let ssh_options =
        SshOptions { connect_timeout: limit.min(Duration::from_secs(10)), ..SshOptions::default() };
    let ssh = SshPool::new(&runtime.join("ssh"), ssh_options, redactor.clone());
    let mut looks = here::looks(&patient);
    looks.extend(server::looks(&patient));
    match &ssh {
        Ok(ssh) => {
            looks.extend(machines::looks(&patient, ssh));
            looks.extend(lease::looks(&patient, ssh));
        }
        Err(error) => {
            let check = Check::problem("ssh sockets", format!("no folder for them can be made: {error}"))
                .fix("let Houston's user write to the temporary folder, or name another one in `TMPDIR`");
            looks.push(Look::new("ssh sockets", async { vec![check] }));
        }
    }
    looks.extend(hetzner::looks(&patient));
    let mut under_way: Vec<(String, JoinHandle<Vec<Check>>)> = Vec::new();
    for look in looks {
        under_way.push((look.about, tokio::spawn(look.checks)));
    }
    for at in 0..under_way.len() {
        let checks = wait_for(&mut under_way, at, &mut told).await;
        let checks: Vec<Check> = checks.into_iter().map(|check| check.redacted(&redactor)).collect();
        told(Told::Checks(&checks));
        found.extend(checks);
    }
    if let Ok(ssh) = ssh {
        ssh.close().await;
    }
    // What cannot be removed is a few sockets in the temporary folder.
    let _ = std::fs::remove_dir_all(&runtime);
    found
}

async fn wait_for(
    under_way: &mut [(String, JoinHandle<Vec<Check>>)],
    at: usize,
    told: &mut impl FnMut(Told<'_>),
) -> Vec<Check> {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.tick().await;
    loop {
        tokio::select! {
            done = &mut under_way[at].1 => {
                let about = &under_way[at].0;
                return done.unwrap_or_else(|error| {
                    vec![Check::problem(about, format!("the look itself failed: {error}"))
                        .fix("this is a bug in Houston: please report it, with what stands above")]
                });
            }
            _ = every.tick() => {
                let waiting: Vec<&str> = under_way[at..]
                    .iter()
                    .filter(|(_, task)| !task.is_finished())
                    .map(|(about, _)| about.as_str())
                    .collect();
                told(Told::Waiting(&waiting));
            }
        }
    }
}

/// The work, or that it took too long.
async fn within(limit: Duration, about: &str, work: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("no answer within {}", text::duration(limit));
        vec![Check::problem(about, message).fix("is it up, and may this machine reach it?")]
    })
}

/// As `houston check` finds it.
fn configuration(report: &Report) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for finding in report.diagnostics.sorted() {
        let level = match finding.severity {
            Severity::Warning => Level::Warning,
            Severity::Error => Level::Problem,
        };
        let place = finding.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        let mut check = Check::new("configuration", level, format!("{place}{}", finding.message));
        check.fixes.clone_from(&finding.hints);
        if check.fixes.is_empty() {
            check = check.fix("`houston check` shows it in its place");
        }
        checks.push(check);
    }
    if report.config.is_none() {
        let message = "it is wrong, so nothing that it names was looked at";
        checks.push(Check::problem("configuration", message).fix("mend it first, then ask again"));
    } else if checks.is_empty() {
        checks.push(Check::ok("configuration", report.summary()));
    }
    checks
}
