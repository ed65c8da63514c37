//! `houston doctor`: a healthy set-up has no finding; each test breaks one thing, and sees that finding and its
//! fix.

mod chat;
mod here;
mod lease;
mod machines;
mod program;

use std::path::PathBuf;
use std::time::Duration;

use houston::clock::Clock;
use houston::doctor::{self, Check, Daemon, Level};
use houston::sandbox::{self, Dialect, Sandbox, Version};
use houston::secret::Redactor;

/// A workspace, a configuration folder for it and a state folder, all in order.
pub struct Clinic {
    pub sandbox: Sandbox,
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub daemon: Daemon,
    pub limit: Duration,
}

impl Clinic {
    pub async fn open() -> Self {
        Self::with(Dialect::Monolith, Version::V8, |_| ()).await
    }

    pub async fn with(dialect: Dialect, server: Version, change: impl FnOnce(&mut sandbox::Seed)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut seed = sandbox::Seed::default();
        seed.settings.insert("Message_AllowUnrecognizedSlashCommand".to_owned(), true.into());
        change(&mut seed);
        let options = sandbox::Options { dialect, server, seed, rate_limits: false, ..Default::default() };
        let sandbox = sandbox::start(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (daemon, limit) = (Daemon::Absent, Duration::from_secs(30));
        let clinic = Self { sandbox, dir, clock: Clock::system(), daemon, limit };
        let (user_id, token) = clinic.sandbox.personal_token("houston").unwrap();
        clinic.file("token", &token);
        clinic.auth(&format!("user_id: {user_id}, token: {{file: token}}"));
        clinic.made_state();
        clinic
    }

    /// A file of the configuration folder.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.config().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `houston.yaml` with this way to log in.
    pub fn auth(&self, auth: &str) {
        self.main(&self.sandbox.url(), auth, "");
    }

    pub fn main(&self, url: &str, auth: &str, more: &str) {
        let access = if more.contains("access:") {
            ""
        } else {
            "access: {roles: {operator: {users: [alice, bob]}, lead: {users: [carol]}}}\n"
        };
        // One finding at a time: what is said of the lease has tests of its own.
        let lease = if more.contains("lease:") { "" } else { "lease: {enabled: false}\n" };
        self.file("houston.yaml", &format!("rocketchat: {{url: '{url}', {auth}}}\n{access}{more}{lease}"));
    }

    /// More lines of `houston.yaml`.
    pub fn more(&self, more: &str) {
        let id = self.sandbox.user_id("houston").unwrap();
        self.main(&self.sandbox.url(), &format!("user_id: {id}, token: {{file: token}}"), more);
    }

    fn made_state(&self) {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(self.state()).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub async fn examine(&self) -> Vec<Check> {
        let options = doctor::Options {
            config: self.config(),
            state: self.state(),
            kinds: houston::app::kinds(),
            daemon: self.daemon.clone(),
            runtime: self.dir.path().join("run"),
            clock: self.clock.clone(),
            redactor: Redactor::new(),
            limit: self.limit,
        };
        let checks = doctor::examine(options, |_| ()).await;
        let token = std::fs::read_to_string(self.config().join("token")).unwrap_or_default();
        let all = format!("{checks:?}");
        assert!(token.is_empty() || !all.contains(token.trim()), "the token is shown: {all}");
        for check in &checks {
            let mended = check.result == Level::Ok || !check.fixes.is_empty();
            assert!(mended && !check.message.is_empty(), "a finding without a fix: {check:?}");
        }
        assert!(!self.dir.path().join("run").exists(), "what it was made for is taken away");
        checks
    }

    /// What is not ok.
    pub async fn findings(&self) -> Vec<Check> {
        self.examine().await.into_iter().filter(|check| check.result != Level::Ok).collect()
    }

    /// The only finding is this one, and its fix says so.
    #[track_caller]
    pub fn only(findings: &[Check], level: Level, check: &str, message: &str, fix: &str) {
        assert_eq!(findings.len(), 1, "one finding, `{check}`: {findings:#?}");
        is(&findings[0], level, check, message, fix);
    }
}

#[track_caller]
pub fn is(found: &Check, level: Level, check: &str, message: &str, fix: &str) {
    assert_eq!((found.check.as_str(), found.result), (check, level), "{found:?}");
    assert!(found.message.contains(message), "`{message}` is not said: {found:?}");
    assert!(found.fixes.iter().any(|one| one.contains(fix)), "`{fix}` is no fix: {found:?}");
}

#[track_caller]
pub fn find<'c>(checks: &'c [Check], name: &str) -> &'c Check {
    checks.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no `{name}`: {checks:#?}"))
}
