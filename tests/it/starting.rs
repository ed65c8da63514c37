//! `houston serve` as a process: what a start needs, and what it does without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use houston::sandbox::{self, Sandbox};
use tokio::time::{Instant, sleep};

/// A child that ends with this value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(dir: &std::path::Path, sandbox: &Sandbox, environment: &[(&str, &str)]) -> Serving {
    let (_, token) = sandbox.personal_token("houston").unwrap();
    serve_with(&token, dir, sandbox, environment)
}

/// What it logs is in `log` of the folder.
#[expect(clippy::disallowed_methods, reason = "the program is tested from outside")]
fn serve_with(
    token: &str,
    dir: &std::path::Path,
    sandbox: &Sandbox,
    environment: &[(&str, &str)],
) -> Serving {
    let user_id = sandbox.user_id("houston").unwrap();
    let config = dir.join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("token"), token).unwrap();
    let url = sandbox.url();
    let yaml = format!(
        "rocketchat:\n  url: {url}\n  user_id: {user_id}\n  token: {{file: token}}\naccess:\n  roles:\n    operator: {{users: [alice]}}\n"
    );
    std::fs::write(config.join("houston.yaml"), yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_houston"));
    command.arg("serve").arg("--config").arg(&config).arg("--state").arg(dir.join("state"));
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    command.stderr(std::fs::File::create(dir.join("log")).unwrap());
    Serving(command.spawn().unwrap())
}

async fn answers(sandbox: &Sandbox) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        sandbox.say("alice", "ops", "!ping").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        if sandbox.messages("ops").iter().any(|message| message["msg"] == "pong") {
            return true;
        }
    }
    false
}

/// An image may have no root certificates.
#[tokio::test]
async fn a_workspace_without_tls_is_served_without_root_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let options = sandbox::Options { rate_limits: false, ..Default::default() };
    let sandbox = sandbox::start(options).await.unwrap();
    let nowhere = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let _serving = serve(dir.path(), &sandbox, &nowhere);
    assert!(answers(&sandbox).await, "Houston does not come up");
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_said_once_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let options = sandbox::Options { rate_limits: false, ..Default::default() };
    let sandbox = sandbox::start(options).await.unwrap();
    let mut serving = serve_with("of-nobody-0123456789", dir.path(), &sandbox, &[]);
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !log().contains("does not accept") {
        assert!(Instant::now() < deadline, "{}", log());
        sleep(Duration::from_millis(20)).await;
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(serving.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert!(serving.0.wait().unwrap().success(), "{}", log());
    let log = log();
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("accept") || line.contains("offline")).collect();
    assert_eq!(said.len(), 1, "{log}");
    for part in ["ERROR", "create a personal access token", "`houston reload`"] {
        assert!(said[0].contains(part), "`{part}`: {}", said[0]);
    }
    assert!(!log.contains("of-nobody-0123456789"), "{log}");
}
