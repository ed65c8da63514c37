//! What is long, odd or frequent: shown in part, said to be in part, whole in a file, and never in the way of
//! what somebody waits for.

use houston::text::chat_len;
use serde_json::{Value, json};

use crate::support::house::{House, Said, Setup};

/// A house with one run, `R-1`, whose transcript is then what `bytes` says.
async fn house_with_output(bytes: &[u8]) -> House {
    let t = House::with(Setup { services: vec![("staging-web", 1)], ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy staging web 1.8").await;
    t.ended("R-1", &["deployed"]).await;
    let transcript = t.state().join("transcripts").join("R-1.log");
    // Its last line comes after the last word.
    t.wait("the end of the transcript", || {
        let text = std::fs::read_to_string(&transcript).unwrap_or_default();
        text.ends_with("── succeeded\n").then_some(())
    })
    .await;
    std::fs::write(&transcript, bytes).expect("written");
    t
}

async fn the_file(t: &House) -> Said {
    let file = t.wait("the file", || t.said("ops").into_iter().find(|said| said.file)).await;
    t.expect("ops", &[&file.text]).await
}

#[tokio::test]
async fn output_of_any_kind_takes_one_message_and_one_file() {
    let mut odd = Vec::new();
    odd.extend_from_slice("first line\n".as_bytes());
    for n in 0..300 {
        odd.extend_from_slice(format!("{n} {}\n", "long ".repeat(2000)).as_bytes());
    }
    odd.extend_from_slice(b"\x00\xff\xfe\x07binary ``` @all \x1b[31mred\x1b[0m\n");
    odd.extend_from_slice("\u{202e}evil שלום\u{200f} مرحبا 🚀\n".as_bytes());
    let t = house_with_output(&odd).await;
    t.say("alice", "ops", "!logs R-1 --lines 200").await;
    let logs = t.expect("ops", &["*R-1*", "The whole output is attached."]).await;
    assert!(chat_len(&logs.text) <= 5000, "{} units", chat_len(&logs.text));
    for part in ["first line", "lines left out …", "characters left out", "שלום", "مرحبا 🚀", "ˋˋˋ", " red\n"]
    {
        assert!(logs.text.contains(part), "`{part}`: {}", logs.text);
    }
    for never in ["@all", "\u{202e}", "\u{200f}", "\u{1b}", "\u{0}", "\u{7}", "[31m"] {
        assert!(!logs.text.contains(never), "{never:?}: {}", logs.text);
    }
    assert_eq!(logs.text.matches("```").count(), 2, "it stays in its block: {}", logs.text);
    the_file(&t).await;
    // One message and one file, also when Houston died right after.
    t.silence("ops").await;
    let mut t = t;
    t.kill().await;
    t.start_again().await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn what_is_too_long_to_be_attached_is_counted_and_said_to_be_elsewhere() {
    let line = format!("{}\n", "x".repeat(1023));
    let t = house_with_output(line.repeat(5 * 1024).as_bytes()).await;
    t.say("alice", "ops", "!logs R-1").await;
    // A mebibyte, and what is left of the line that it ends in.
    let said = "attached, 1049600 bytes of it are not; `houston runs logs R-1` prints the whole.";
    t.expect("ops", &["*R-1*", said]).await;
    the_file(&t).await;
    t.end().await;
}

/// Calls of Houston's to a route of the chat server.
async fn calls(t: &House, route: &str) -> Vec<Value> {
    let log = t.control("log", json!({"name": route, "user": "houston"})).await;
    log["lines"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_card_does_not_wait_for_an_edit_that_has_to_wait() {
    let t = House::with(Setup { services: vec![("staging-web", 1), ("web", 1)], ..Setup::default() }).await;
    t.control("set", json!({"API_Enable_Rate_Limiter_Limit_Time_Default": 6000})).await;
    t.say("alice", "ops", "!deploy staging web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    t.control("rate_limit", json!({"method": "chat.update", "count": 1})).await;
    t.wait("R-1 to be done", || {
        let runs = t.bot().engine.list(10).expect("readable");
        runs.iter().any(|run| run.state == "succeeded").then_some(())
    })
    .await;
    t.say("bob", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    let now = t.said("ops").into_iter().find(|said| said.id == progress.id).expect("it stands there");
    assert!(!now.text.contains("deployed"), "the card came after the edit that had to wait: {}", now.text);
    // And in the end the message says what is so.
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.say("bob", "ops", "!cancel R-2").await;
    t.until(&card, &["cancelled"]).await;
    t.silence_but("ops", &["R-2"]).await;
    t.end().await;
}

#[tokio::test]
async fn ten_thousand_lines_are_a_few_edits_and_the_last_one_is_the_truth() {
    let Some(hosts) = super::step_kinds::hosts() else { return };
    let commands = "flood:\n  summary: Prints much.\n  playbook: flood\n  arguments:\n    \
                    environment: {type: environment, doc: an environment}\n  examples: [flood prod]\n";
    let playbook = "description: Prints much\ninputs:\n  environment: {type: environment}\nsteps:\n  - id: print\n    \
                    ssh: {host: node1, command: [seq, \"1\", \"10000\"], repeat: idempotent}\n    undo: none\n";
    let files =
        vec![("commands/flood.yaml", commands.to_owned()), ("playbooks/flood.yaml", playbook.to_owned())];
    let prod = format!("approvals: {{default: none}}\n{hosts}");
    let t = House::with(Setup { prod, files, ..Setup::default() }).await;
    t.say("alice", "ops", "!flood prod").await;
    let progress = t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    let edits = calls(&t, "chat.update").await;
    assert!(edits.len() <= 10, "{} edits", edits.len());
    assert_eq!(edits.last().map(|edit| edit["params"]["text"].clone()), Some(progress.text.into()));
    t.say("alice", "ops", "!logs R-1").await;
    t.expect("ops", &["*R-1*", "\n10000\n", "lines left out", "The whole output is attached."]).await;
    the_file(&t).await;
    t.end().await;
}
