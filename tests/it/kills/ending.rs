//! What is left when a story is over: what it is compared by with the same story without a kill.
//!
//! Must not: hold what time or chance decide.

use std::collections::BTreeMap;
use std::path::Path;

use houston::audit;
use houston::metrics::Metrics;
use houston::runs::journal::{Journal, headers, read_log};
use houston::runs::outbox;
use houston::store::{Store, Tree};
use serde_json::Value as Json;

use super::door::Effects;
use super::lives::program;
use super::stage::Stage;

/// The answer to an act that a kill came into: it was perhaps done, and whoever asked is told so.
pub const INTERRUPTED: &str = "I was stopped while I did ";

/// Everything in order, so that two of them can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    pub said: Vec<String>,
    /// What runs on the engine.
    pub world: Vec<String>,
    /// How often the engine was changed.
    pub effects: Effects,
    /// Files that steps wrote on the host.
    pub marks: BTreeMap<String, String>,
    /// What happened to the runs, as the journal has it; what a kill adds to that aside.
    pub events: Vec<String>,
    /// What the audit log was told.
    pub audited: Vec<String>,
}

impl Ending {
    /// Once Houston has stopped.
    pub async fn of(stage: &Stage) -> Self {
        // Where the store was killed, sled's own thread may hold the folder a moment longer.
        let journal = stage.state().join("journal");
        let store = Store::open(&journal).expect("the store opens");
        let left = left(&store);
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", stage.told());
        let events = events(&store);
        drop(store);
        let audit = stage.state().join("audit.jsonl");
        verify(&stage.state()).await;
        let entries = audit::tail(&audit, 10_000).expect("readable").into_iter().map(|entry| entry.event);
        let mut audited: Vec<String> = entries
            .filter(|event| !matches!(event.action.as_str(), "started" | "torn"))
            .map(|event| {
                let result = plain(event.result.as_deref().unwrap_or_default());
                format!("{} by {}: {} {result}", event.action, event.who.name, event.command)
            })
            .collect();
        audited.sort();
        Self {
            said: said(stage),
            world: stage.world().await,
            effects: stage.door.effects(),
            marks: marks(&stage.marks()),
            events,
            audited,
        }
    }

    /// What differs from the story that nobody was killed in; empty if nothing does.
    pub fn differences(&self, undisturbed: &Self) -> Vec<String> {
        let mut found = said_otherwise(&self.said, &undisturbed.said);
        if self.world != undisturbed.world {
            found.push(format!("the world: {:?}, not {:?}", self.world, undisturbed.world));
        }
        if self.effects != undisturbed.effects {
            found.push(format!("changes of the engine: {:?}, not {:?}", self.effects, undisturbed.effects));
        }
        if self.marks != undisturbed.marks {
            found.push(format!("on the host: {:?}, not {:?}", self.marks, undisturbed.marks));
        }
        // See `plain`: what it changed would show in the engine.
        let more = minus(&self.events, &undisturbed.events);
        let again = |event: &&String| more.contains(event) && event.ends_with(" undo_succeeded");
        let events: Vec<String> = self.events.iter().filter(|event| !again(event)).cloned().collect();
        for (what, these, those) in
            [("event", &events, &undisturbed.events), ("audit", &self.audited, &undisturbed.audited)]
        {
            found.extend(minus(these, those).into_iter().map(|line| format!("{what} too much: {line}")));
            found.extend(minus(those, these).into_iter().map(|line| format!("{what} missing: {line}")));
        }
        found
    }
}

/// What differs in the rooms. Whoever was told that an act was interrupted was answered by that.
pub fn said_otherwise(these: &[String], those: &[String]) -> Vec<String> {
    let (told, more): (Vec<_>, Vec<_>) =
        minus(these, those).into_iter().partition(|line| line.contains(INTERRUPTED));
    let (answers, missing): (Vec<_>, Vec<_>) =
        minus(those, these).into_iter().partition(|line| line.starts_with("ops answer: "));
    let mut found: Vec<String> = more.iter().map(|line| format!("said too much: {line}")).collect();
    found.extend(missing.iter().map(|line| format!("not said: {line}")));
    if answers.len() > told.len() {
        found.extend(answers.iter().map(|line| format!("not said: {line}")));
    }
    found
}

/// What is in `these` and not, or not as often, in `those`.
fn minus(these: &[String], those: &[String]) -> Vec<String> {
    let mut those = those.to_vec();
    let surplus = |line: &&String| match those.iter().position(|other| other == *line) {
        Some(at) => {
            those.swap_remove(at);
            false
        }
        None => true,
    };
    these.iter().filter(surplus).cloned().collect::<Vec<_>>()
}

/// Rooms as they read, without what time decides.
pub fn said(stage: &Stage) -> Vec<String> {
    let mut said: Vec<String> = stage
        .said()
        .iter()
        .map(|(room, message)| {
            let text = message["msg"].as_str().unwrap_or_default();
            let kind = if stage.is_answer(message) { "answer" } else { "message" };
            let thread = if message["tmid"].is_string() { " in a thread" } else { "" };
            format!("{room} {kind}: {}{thread}", plain(text))
        })
        .collect();
    said.sort();
    said
}

/// Without times, addresses and the order of what a task wrote, and without what only an interruption adds.
fn plain(text: &str) -> String {
    let text = &without_folder(text);
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("_I was away ") {
            lines.push(line.replace(", taken up again after a restart", ""));
        }
    }
    for line in &mut lines {
        // Put back by the process that was killed, or never changed: the next one cannot tell, and says what is so.
        *line = line.replace("`web` is at `1.7`, as before", "`web` is back at `1.7`");
        // How far the step is depends on when it was.
        if line.starts_with("Cancelling R-1") {
            line.truncate("Cancelling R-1".len());
        }
    }
    let mut out: Vec<String> = Vec::new();
    let text = lines.join(" ");
    let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        // As the audit log has it: `2026-11-25T18:20:00+00:00[UTC]`.
        if word.starts_with("20") && word.trim_end_matches(':').ends_with("[UTC]") {
            out.push("MOMENT".to_owned());
            continue;
        }
        let number = word.trim_matches(['(', ',', '.', ':']).replace([':', '.'], "");
        let unit = words.peek().map(|next| next.trim_matches([')', ',', '.', ':']));
        let of_day = word.len() >= 5 && word.split_once(':').is_some_and(|(_, minutes)| !minutes.is_empty());
        let is_time = of_day || matches!(unit, Some("ms" | "s" | "min" | "h" | "UTC"));
        if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) && is_time {
            if !of_day || unit == Some("UTC") {
                words.next();
            }
            if out.last().is_none_or(|last| last != "TIME") {
                out.push("TIME".to_owned());
            }
            continue;
        }
        out.push(without_port(word));
    }
    out.join(" ")
}

/// Temporary folders have another name each time, and what is cut off after so many characters another end.
fn without_folder(text: &str) -> String {
    let mut parts = text.split("/.tmp");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("/FOLDER");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
    }
    out
}

/// `http://127.0.0.1:4711/health` without its port.
fn without_port(word: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let Some((before, after)) = word.split_once(HOST) else { return word.to_owned() };
    format!("{before}{HOST}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

fn marks(folder: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    files
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).expect("readable");
            (file.file_name().to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// What must not be there any more.
fn left(store: &Store) -> Vec<String> {
    let journal = Journal::load(store.clone(), Metrics::new(0.0)).expect("the journal is readable");
    let mut left: Vec<String> =
        journal.open_runs().map(|run| format!("{} {}", run.id, run.phase.word())).collect();
    left.extend(journal.held().iter().map(|held| format!("the lock {held:?}")));
    left.extend(outbox::waiting(store).expect("readable").iter().map(|entry| format!("unsaid {entry:?}")));
    for tree in [Tree::Owed, Tree::Begun, Tree::Followed] {
        let records = store.scan::<Json>(tree, &[]);
        left.extend(records.map(|record| format!("{tree:?} {}", record.expect("readable").1)));
    }
    left
}

/// Of all runs: each event by its name, votes with who and what. Beginnings of steps and undos are told apart
/// from their ends since only they may stand there once more.
fn events(store: &Store) -> Vec<String> {
    let headers: Vec<_> = headers(store).collect::<Result<_, _>>().expect("readable");
    let mut events = Vec::new();
    for run in headers.into_iter().rev().map(|header| header.run) {
        for record in read_log(store, run).expect("readable") {
            let event = serde_json::to_value(&record.event).expect("plain data");
            let name = event["type"].as_str().unwrap_or_default();
            if matches!(name, "step_started" | "undo_started" | "taken_up" | "found") {
                continue;
            }
            let who = [&event["vote"]["by"]["username"], &event["by"]["username"], &event["vote"]["choice"]];
            let who: Vec<&str> = who.into_iter().filter_map(Json::as_str).collect();
            events.push(format!("{run} {name} {}", who.join(" ")).trim_end().to_owned());
        }
    }
    events
}

async fn verify(state: &Path) {
    let mut command = program();
    let command = command.arg("audit").arg("--state").arg(state).arg("verify");
    let output = command.output().await.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn times_are_no_difference_and_a_second_message_is() {
    assert_eq!(plain("deployed in 1.2 s (3 min 12 s, usually 900 ms)"), "deployed in TIME usually TIME");
    assert_eq!(plain("approved by bob at 14:32 UTC, 850 ms after"), "approved by bob at TIME after");
    assert_eq!(plain("from 17:40 to 18:40 (UTC): disks"), "from TIME to TIME (UTC): disks");
    assert_ne!(plain("step 1 of 2"), plain("step 2 of 2"));
    assert_eq!(plain("`http://127.0.0.1:4711/health`: no"), "`http://127.0.0.1:/health`: no");
    assert_eq!(plain(":x: a: broke\n```\nx\n```"), ":x: a: broke");
    assert_ne!(plain(":leftwards_arrow_with_hook: a: broke; undone"), ":x: a: broke");
    let lines = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let before = lines("ops answer: R-1 is approved.|ops message: x");
    assert!(said_otherwise(&before, &before).is_empty());
    let told = lines("ops answer: I was stopped while I did `approve R-1`|ops message: x");
    assert!(said_otherwise(&told, &before).is_empty(), "that is an answer");
    for other in [
        "ops message: x",
        "ops answer: R-1 is approved.",
        "ops answer: R-1 is approved.|ops message: x|ops message: x",
    ] {
        assert_eq!(said_otherwise(&lines(other), &before).len(), 1, "{other}");
    }
}
