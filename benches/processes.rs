//! The programs that are measured, each in a process of its own: the sandbox, Houston, the echo bot.
//!
//! Must not: leave one behind.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_houston");

/// People who send bursts: one each, since a person may make 1200 calls a minute.
pub const SENDERS: usize = 12;

/// A child that ends with this value.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program starts"))
    }

    /// Resident memory in MB, and the part of it that no other process could share.
    pub fn memory(&self) -> (f64, f64) {
        let path = format!("/proc/{}/status", self.0.id());
        let status = std::fs::read_to_string(path).expect("the process lives");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("Linux tells it");
            let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
            kib.expect("a number of kB") * 1024.0 / 1e6
        };
        (field("VmRSS:"), field("RssAnon:"))
    }

    /// As a machine that loses its power.
    pub fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// As an operator stops it.
    pub fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process id"));
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A chat server with its default limits; people may send many messages at once.
pub struct Sandbox {
    pub url: String,
    pub http: reqwest::Client,
    _process: Process,
    /// It may have more to say, and ends when nobody can hear it.
    _out: BufReader<ChildStdout>,
}

impl Sandbox {
    pub async fn start(dir: &Path) -> Self {
        let seed = dir.join("seed.json");
        std::fs::write(&seed, seeded().to_string()).expect("writes");
        let mut command = command(PROGRAM);
        command.args(["sandbox", "--port", "0", "--seed"]).arg(&seed).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut line = String::new();
        let mut out = BufReader::new(process.0.stdout.take().expect("it is piped"));
        out.read_line(&mut line).expect("it says where it listens");
        let url = line.trim().trim_start_matches("sandbox: ").to_owned();
        let http = reqwest::Client::builder().tcp_nodelay(true).build().expect("an HTTP client");
        let sandbox = Self { url, http, _process: process, _out: out };
        let many = json!({"permission": "send-many-messages", "roles": ["user", "bot"]});
        sandbox.control("grant", &many).await;
        sandbox
    }

    pub async fn control(&self, act: &str, body: &Value) -> Value {
        let url = format!("{}/_sandbox/{act}", self.url);
        let answer = self.http.post(url).json(body).send().await.expect("the sandbox answers");
        assert!(answer.status().is_success(), "{act}: {answer:?}");
        answer.json().await.expect("JSON")
    }

    /// As if Alice had typed it.
    pub async fn say(&self, room: &str, text: &str) {
        self.control("say", &json!({"user": "alice", "room": room, "msg": text})).await;
    }
}

fn seeded() -> Value {
    let mut people = vec![
        json!({"username": "alice", "token": token("alice")}),
        json!({"username": "houston", "token": token("houston"), "roles": ["user", "bot"]}),
        json!({"username": "echo", "token": token("echo"), "roles": ["user", "bot"]}),
    ];
    people.extend((0..SENDERS).map(sender).map(|name| json!({"username": name, "token": token(&name)})));
    let mut talkers: Vec<String> = (0..SENDERS).map(sender).collect();
    talkers.extend(["alice", "houston"].map(str::to_owned));
    // Each bot in a room that the other cannot hear.
    let rooms = json!([
        {"name": "ops", "private": true, "members": talkers},
        {"name": "floor", "private": true, "members": ["alice", "echo"]},
    ]);
    json!({"people": people, "rooms": rooms})
}

pub fn sender(n: usize) -> String {
    format!("sender{n}")
}

/// Of a person in the seed.
pub fn token(username: &str) -> String {
    format!("token-of-{username}-0123456789abcdefghijklmnop")
}

/// Of a person in the seed.
pub fn user_id(username: &str) -> String {
    format!("u-{username}")
}

/// Of a room in the seed.
pub fn room_id(name: &str) -> String {
    format!("r-{name}")
}

/// What `houston serve` is given: a configuration folder and a folder for its state.
pub struct Home {
    dir: PathBuf,
}

impl Home {
    pub fn new(dir: PathBuf, url: &str) -> Self {
        let config = dir.join("config");
        std::fs::create_dir_all(&config).expect("makes a folder");
        std::fs::write(config.join("token"), token("houston")).expect("writes");
        let yaml = format!(
            "rocketchat:\n  url: {url}\n  user_id: {}\n  token: {{file: token}}\naccess:\n  roles:\n    \
             operator: {{users: [alice]}}\nlimits:\n  commands_per_minute: 10000\n\
             retention: {{runs: {{for: forever, megabytes: unlimited}}}}\n",
            user_id("houston")
        );
        std::fs::write(config.join("houston.yaml"), yaml).expect("writes");
        Self { dir }
    }

    /// Those who send may change things too.
    pub fn trust_senders(&self) {
        let path = self.dir.join("config/houston.yaml");
        let yaml = std::fs::read_to_string(&path).expect("is there");
        let trusted: Vec<String> = (0..SENDERS).map(sender).collect();
        let yaml = yaml.replace("[alice]", &format!("[alice, {}]", trusted.join(", ")));
        std::fs::write(path, yaml).expect("writes");
    }

    /// One more file of the configuration.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join("config").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes a folder");
        std::fs::write(path, text).expect("writes");
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Of its log.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.join("log")).map_or(0, |log| log.len())
    }

    /// What `houston store stat` says of it.
    pub fn stored(&self) -> String {
        let mut command = command(PROGRAM);
        let said = command.args(["store", "--state"]).arg(self.state()).arg("stat").output();
        String::from_utf8_lossy(&said.expect("the program starts").stdout).into_owned()
    }

    /// Its log goes where a service manager would put it: into a file.
    pub fn serve(&self) -> Process {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("opens");
        let mut command = command(PROGRAM);
        command.arg("serve").arg("--config").arg(self.dir.join("config"));
        command.arg("--state").arg(self.state()).stderr(log);
        Process::start(&mut command)
    }
}

/// The bench itself, as the echo bot.
pub fn echo_bot(url: &str) -> Process {
    let this = std::env::current_exe().expect("its own file");
    let mut command = command(this.to_str().expect("a path in UTF-8"));
    command.args([crate::ECHO, url, &user_id("echo"), &token("echo")]);
    Process::start(&mut command)
}

#[expect(clippy::disallowed_methods, reason = "the bench stands outside of what it measures")]
fn command(program: &str) -> Command {
    Command::new(program)
}
