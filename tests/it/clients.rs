//! Rocket.Chat clients that nobody here wrote, in both dialects of the sandbox: the drivers of
//! `tests/clients/` say one JSON line per step.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use houston::sandbox::{Dialect, Options, start};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::parts;
use crate::support::rc::{Person, control};

const LOGGED_OUT: &str = "You've been logged out by the server. Please log in again.";

/// The steps of a driver, in order; `None` when the clients are not installed.
#[expect(clippy::disallowed_methods, reason = "the client is another program")]
async fn steps(program: &str, script: &str, dialect: Dialect) -> Option<Vec<Value>> {
    let parts = parts::clients()?.display().to_string();
    let sandbox = start(Options { dialect, ..Options::default() }).await.unwrap();
    let url = sandbox.url();
    let alice = Person::login(&url, "alice").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let program = if program == "node" { program.to_owned() } else { format!("{parts}/{program}") };
    let mut child = tokio::process::Command::new(program)
        .arg(script)
        .args([&url, "alice", "alice", &alice.token, &sandbox.room_id("ops").unwrap()])
        .env("NODE_PATH", format!("{parts}/node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut steps = Vec::new();
    let said = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let step: Value = serde_json::from_str(&line).unwrap();
            if step["step"] == "cut me" {
                control(&url, "drop", json!({})).await;
                input.write_all(b"cut\n").await.unwrap();
            }
            if step["step"] == "again" {
                control(&url, "say", json!({"user": "bob", "room": "ops", "msg": "are you back?"})).await;
            }
            steps.push(step);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect("the client ends in time");
    assert!(child.wait().await.unwrap().success(), "{steps:?}");
    Some(steps)
}

fn ok(steps: &[&str]) -> Vec<Value> {
    steps
        .iter()
        .map(|step| if *step == "cut me" { json!({"step": step}) } else { json!({"step": step, "ok": true}) })
        .collect()
}

fn refused(step: &str, text: &str) -> Value {
    json!({"step": step, "refused": text})
}

#[tokio::test]
async fn ddp_client_and_api_client_are_at_home() {
    let rest = ["subscribe", "send", "edit", "react", "thread", "method sendMessage"];
    let unknown = refused("method deleteMessage", "Method 'deleteMessage' not found [404]");
    let end = ok(&["cut me", "again", "back"]);
    let Some(said) = steps("node", "ddp-client.js", Dialect::Monolith).await else { return };
    assert_eq!(said, [ok(&["login by password"]), ok(&rest), vec![unknown.clone()], end.clone()].concat());
    // A streamer takes tokens only.
    let Some(said) = steps("node", "ddp-client.js", Dialect::Streamer).await else { return };
    let password = refused("login by password", &format!("{LOGGED_OUT} [403]"));
    assert_eq!(said, [vec![password], ok(&["login by token"]), ok(&rest), vec![unknown], end].concat());
}

#[tokio::test]
async fn rocketchat_async_is_at_home() {
    let python = "python/bin/python";
    let rest = ok(&["subscribe", "send", "react", "thread", "cut me"]);
    let end = ok(&["again", "back"]);
    let Some(said) = steps(python, "rocketchat_async_client.py", Dialect::Monolith).await else { return };
    let login = ok(&["login by password"]);
    assert_eq!(said, [login.clone(), rest.clone(), login, end.clone()].concat());
    let Some(said) = steps(python, "rocketchat_async_client.py", Dialect::Streamer).await else { return };
    let login =
        [vec![refused("login by password", &format!("RuntimeError: {LOGGED_OUT}"))], ok(&["login by token"])]
            .concat();
    assert_eq!(said, [login.clone(), rest, login, end].concat());
}

#[tokio::test]
async fn rocketchat_api_is_at_home() {
    let wanted = ok(&["login by password", "send", "edit", "react", "thread", "cut me", "back"]);
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let Some(said) = steps("python/bin/python", "rocketchat_api_client.py", dialect).await else {
            return;
        };
        assert_eq!(said, wanted);
    }
}
