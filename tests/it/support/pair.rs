//! Houston as real processes, one or several on one account: a chat server and an engine in the test, and bots that
//! are started, signalled and read from outside.
//!
//! Must not: share anything with the bots but files, sockets and signals.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use houston::sandbox::engine::Engine;
use houston::sandbox::{self, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::Instant;

use super::house;
use crate::cli::houston;

/// How long anything expected may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Pair {
    pub sandbox: Sandbox,
    engine: Option<Engine>,
    dir: tempfile::TempDir,
}

impl Pair {
    /// `services` run at 1.7.
    pub async fn new(services: &[(&str, u64)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let options = sandbox::Options { rate_limits: false, ..Default::default() };
        let sandbox = sandbox::start(options).await.expect("the sandbox starts");
        let engine = house::docker(dir.path(), services).await;
        Self { sandbox, engine: Some(engine), dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration folder `name`, whose Swarm is behind `socket`.
    pub fn configure(&self, name: &str, socket: &Path, more: &str) {
        let config = self.path(name);
        std::fs::create_dir_all(config.join("environments")).expect("a folder");
        let (user_id, token) = self.sandbox.personal_token("houston").expect("the bot's account");
        std::fs::write(config.join("token"), token).expect("written");
        let service = |name: &str| {
            format!(
                "  {name}:\n    image: demo/{name}\n    version: \"1.7\"\n    replicas: {{count: 1, min: 1, max: 3}}\n    \
                 endpoint_mode: dnsrr\n    ports: [{{target: 8080, mode: host}}]\n    \
                 update: {{order: start-first, monitor: 200ms}}\n"
            )
        };
        let staging = format!(
            "swarm:\n  socket: {}\nservices:\n{}{}",
            socket.display(),
            service("web"),
            service("api")
        );
        std::fs::write(config.join("environments/staging.yaml"), staging).expect("written");
        let main = format!(
            "rocketchat:\n  url: {}\n  user_id: {user_id}\n  token: {{file: token}}\n\
             access:\n  roles:\n    operator: {{users: [alice, bob]}}\n    lead: {{users: [carol]}}\n{more}",
            self.sandbox.url()
        );
        std::fs::write(config.join("houston.yaml"), main).expect("written");
    }

    /// The engine's own socket.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// `houston serve` with the configuration folder `config` on the state folder `state`.
    pub fn serve(&self, config: &str, state: &str) -> Bot {
        self.serve_until(config, state, None)
    }

    /// As [`Pair::serve`]; it is killed at this moment of its commits, such as `before:3`.
    pub fn serve_until(&self, config: &str, state: &str, kill_at: Option<&str>) -> Bot {
        let log = self.path(&format!("{state}.log"));
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let (config, state) = (self.path(config), self.path(state));
        let mut command = houston(&["serve"]);
        command.arg("--config").arg(&config).arg("--state").arg(&state);
        command.stdout(Stdio::null()).stderr(file);
        if let Some(moment) = kill_at {
            command.env("HOUSTON_KILL_AT", moment);
        }
        let child = command.spawn().expect("the program starts");
        Bot { child, state, log }
    }

    pub async fn say(&self, who: &str, text: &str) -> String {
        self.sandbox.say(who, "ops", text).await.expect("said")
    }

    /// What the bots' account has said in #ops, as it stands now.
    pub fn said(&self) -> Vec<String> {
        let me = self.sandbox.user_id("houston").expect("the bot's account");
        let of_bot = |m: &Value| m["u"]["_id"] == me.as_str() && m.get("t").is_none_or(Value::is_null);
        let messages = self.sandbox.messages("ops").into_iter().filter(of_bot);
        messages.map(|m| m["msg"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// How often exactly this was said.
    pub fn count(&self, text: &str) -> usize {
        self.said().iter().filter(|said| *said == text).count()
    }

    /// Until somebody of the bots has said something with all of `parts`.
    pub async fn hear(&self, parts: &[&str]) -> String {
        self.until(&format!("{parts:?}"), || {
            self.said().into_iter().find(|said| parts.iter().all(|part| said.contains(part)))
        })
        .await
    }

    pub async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.story());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything that a failed test would want to know.
    fn story(&self) -> String {
        let mut out = format!("said: {:#?}\n", self.said());
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "log") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                out.push_str(&format!("--- {}\n{text}", entry.path().display()));
            }
        }
        out
    }

    /// Asks the engine.
    pub async fn docker(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        house::ask_engine(&self.socket(), method, path, body).await
    }

    pub async fn image(&self, service: &str) -> String {
        let service = self.docker("GET", &format!("/services/{service}"), None).await;
        service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn end(mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }
}

/// One `houston serve`; ends with this value.
pub struct Bot {
    child: Child,
    state: PathBuf,
    log: PathBuf,
}

impl Bot {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("it is there");
    }

    /// Its exit code, once it has one, and how long that took.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return (status.code(), begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether it is up; `None` while that is open.
    pub fn acts_or_died(&mut self) -> Option<bool> {
        if self.child.try_wait().expect("it is ours").is_some() {
            return Some(false);
        }
        self.log().contains("Houston 0.1.0 is up").then_some(true)
    }

    /// Everything that it wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it answers over its admin socket: the status and the text; `None` while nobody listens there.
    pub async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let socket = self.state.join("admin.sock");
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().ok()?;
        let answer = client.get(format!("http://houston{path}")).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Until `/readyz` answers so.
    pub async fn is(&self, status: u16, begins: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask("/readyz").await;
            if answer.as_ref().is_some_and(|(found, text)| *found == status && text.starts_with(begins)) {
                return;
            }
            let log = self.log();
            assert!(Instant::now() < deadline, "wanted {status} {begins:?}, got {answer:?}\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
