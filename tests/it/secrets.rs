//! A secret that was resolved is found nowhere: not in the room, the audit log, the store or a transcript. The
//! marker is Houston's own password, and a task of the sandbox that crashes happens to write it into its log.

use std::path::Path;

use crate::support::house::{House, Setup};

/// What a crashing task of the sandbox writes to its standard error.
const MARKER: &str = "migration 0042_add_index has not been applied";

/// A deployment that fails, with the marker in the failed task's last words.
async fn story() -> House {
    let setup =
        Setup { services: vec![("staging-web", 1)], password: Some(MARKER.to_owned()), ..Setup::default() };
    let t = House::with(setup).await;
    t.say("alice", "ops", "!deploy staging web 1.9").await;
    let progress = t.ended("R-1", &["*failed*", "cannot connect to the database"]).await;
    assert!(progress.text.contains("fatal: [redacted]"), "{}", progress.text);
    t.say("alice", "ops", &format!("!deploy staging web 1.8 --reason \"{MARKER}\"")).await;
    t.ended("R-2", &["deployed in"]).await;
    t
}

pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).expect("readable")));
        }
    }
    found
}

fn holds_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

#[tokio::test]
async fn a_secret_in_a_log_does_not_reach_the_room() {
    let t = story().await;
    t.say("alice", "ops", "!logs R-1").await;
    t.expect("ops", &["*R-1*", "update web to 1.9"]).await;
    t.say("alice", "ops", "!show R-1").await;
    t.expect("ops", &["*R-1*", "by alice_"]).await;
    t.say("alice", "ops", "!show R-2").await;
    t.expect("ops", &["*R-2*", "by alice_"]).await;
    t.say("alice", "ops", "!audit").await;
    t.expect("ops", &["alice", "R-1"]).await;
    for said in t.said("ops") {
        assert!(!said.text.contains(MARKER), "{}", said.text);
    }
    t.end().await;
}

#[tokio::test]
async fn a_secret_does_not_reach_the_audit_log() {
    let t = story().await;
    let log = std::fs::read(t.state().join("audit.jsonl")).expect("readable");
    assert!(!holds_marker(&log), "{}", String::from_utf8_lossy(&log));
    t.end().await;
}

#[tokio::test]
async fn a_secret_does_not_reach_a_transcript() {
    let t = story().await;
    let transcripts = files(&t.state().join("transcripts"));
    assert!(!transcripts.is_empty());
    for (path, bytes) in transcripts {
        assert!(!holds_marker(&bytes), "{path}: {}", String::from_utf8_lossy(&bytes));
    }
    t.end().await;
}

#[tokio::test]
async fn a_secret_does_not_reach_the_store() {
    let mut t = story().await;
    t.stop().await;
    let store = files(&t.state().join("journal"));
    assert!(!store.is_empty());
    for (path, bytes) in store {
        assert!(!holds_marker(&bytes), "{path}");
    }
    t.start_again().await;
    t.end().await;
}

#[tokio::test]
async fn a_secret_in_a_command_that_is_asked_about_is_not_stored() {
    let setup =
        Setup { services: vec![("staging-web", 1)], password: Some(MARKER.to_owned()), ..Setup::default() };
    let mut t = House::with(setup).await;
    t.say("alice", "ops", &format!("!rollback staging --reason \"{MARKER}\"")).await;
    t.expect("ops", &["A secret of my configuration stands in that", "I did nothing"]).await;
    t.silence("ops").await;
    t.stop().await;
    for (path, bytes) in files(&t.state()) {
        assert!(!holds_marker(&bytes), "{path}");
    }
    t.start_again().await;
    t.end().await;
}

#[tokio::test]
async fn a_typed_secret_is_pointed_out_and_not_stored() {
    let t = House::talk().await;
    let secret = format!("ghp_{}", "a1B2c3".repeat(6));
    t.say("alice", "ops", &format!("!lock staging waits for {secret}")).await;
    let told = t.expect("ops", &["That looks like a GitHub token", "replace the secret"]).await;
    assert!(!told.text.contains(&secret));
    t.silence("ops").await;
    assert!(t.bot().engine.held().await.is_empty());
    for (path, bytes) in files(&t.state()) {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path}");
    }
    t.end().await;
}

#[tokio::test]
async fn the_audit_log_tells_the_whole_story_and_its_chain_holds() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["deployed in"]).await;
    t.say("bob", "ops", "!rollback prod web").await;
    let card = t.card().await;
    t.say("carol", "ops", "!deny R-2 it is fine").await;
    t.expect("ops", &["R-2 is denied."]).await;
    t.denied("R-2", "carol").await;
    t.until(&card, &["*denied* by carol"]).await;
    let entries = t.audited();
    let told: Vec<(&str, &str)> =
        entries.iter().map(|e| (e.event.who.name.as_str(), e.event.action.as_str())).collect();
    let story = [
        ("alice", "requested"),
        ("bob", "approved"),
        ("alice", "started"),
        ("alice", "succeeded"),
        ("bob", "requested"),
        ("carol", "denied"),
    ];
    assert_eq!(told, story);
    let end = &entries[3].event;
    assert_eq!((end.command.as_str(), end.target.as_deref()), ("deploy prod web 1.8", Some("prod/web")));
    assert_eq!(end.result.as_deref(), Some("succeeded"));
    let by: Vec<&str> = end.approval.iter().flat_map(|a| &a.by).map(|who| who.id.as_str()).collect();
    assert_eq!(by, ["u-bob"]);
    t.say("carol", "ops", "!audit --run R-1").await;
    t.expect(
        "ops",
        &["R-1", "deploy prod web 1.8 (alice)", "approved", "deploy prod web 1.8 (bob)", "succeeded"],
    )
    .await;
    t.end().await;
}

#[test]
fn a_secret_is_known_as_a_room_would_show_it() {
    let redactor = houston::secret::Redactor::new();
    let value = "p@ss`word @7?";
    redactor.learn(value);
    for shown in [houston::text::defuse(value).into_owned(), houston::text::code(value)] {
        assert!(redactor.redact(&shown).trim_matches('`') == houston::secret::REDACTED, "{shown}");
    }
}
