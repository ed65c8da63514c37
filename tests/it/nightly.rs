//! What Houston does by night: exports of its store, that are kept, bring it back, and are missed aloud.

use std::path::PathBuf;
use std::time::Duration;

use houston::clock::Clock;
use serde_json::json;

use crate::restore::{commands, destroy, refused, typed};
use crate::support::exposition::Exposition;
use crate::support::house::{House, Said, Setup};

const NIGHT: Duration = Duration::from_secs(86_400);

async fn house(more: &str) -> (House, Clock) {
    let clock = Clock::manual(Clock::system().now());
    let houston = format!("exports: {{at: 03:15, keep: 2}}\n{more}");
    (House::with(Setup { houston, clock: clock.clone(), ..Setup::default() }).await, clock)
}

fn exports(t: &House) -> Vec<PathBuf> {
    let found = std::fs::read_dir(t.state().join("exports")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// A night passes, and has left its export.
async fn night(t: &House, clock: &Clock) -> PathBuf {
    let before = exports(t).pop();
    clock.advance(NIGHT);
    t.wait("the export of the night", || {
        let newest = exports(t).pop()?;
        let whole = newest.extension().is_some_and(|end| end == "gz");
        (whole && Some(&newest) != before.as_ref()).then_some(newest)
    })
    .await
}

async fn metric(t: &House, name: &str) -> f64 {
    let client = reqwest::Client::builder().unix_socket(t.state().join("admin.sock")).no_proxy().build();
    let answer = client.expect("a client").get("http://localhost/metrics").send().await.expect("an answer");
    Exposition::parse(&answer.text().await.expect("a text")).expect("is right").value(name, &[])
}

async fn told_to_carol(t: &House) -> Vec<Said> {
    let state = t.control("state", json!({})).await;
    let carol = t.sandbox.user_id("carol").expect("she is there");
    let rooms = state["rooms"].as_array().cloned().unwrap_or_default();
    let hers = rooms.iter().filter(|room| {
        room["t"] == "d"
            && room["uids"].as_array().is_some_and(|uids| uids.iter().any(|id| *id == carol.as_str()))
    });
    hers.filter_map(|room| room["_id"].as_str()).flat_map(|room| t.said(room)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_export_of_the_night_brings_a_destroyed_store_back() {
    let (mut t, clock) = house("").await;
    t.say("alice", "ops", "!lock prod the audit").await;
    t.expect("ops", &["prod"]).await;
    night(&t, &clock).await;
    night(&t, &clock).await;
    let newest = night(&t, &clock).await;
    t.wait("the oldest to go", || (exports(&t).len() == 2).then_some(())).await;
    assert!(metric(&t, "houston_last_export_timestamp_seconds").await > 0.0);
    // A kill in the middle of a night loses no export, and the next start makes up for one that was missed.
    t.kill().await;
    std::fs::write(t.state().join("exports/houston.part"), "half").expect("written");
    clock.advance(NIGHT);
    t.start_again().await;
    let made_up = t
        .wait("the export that was missed", || {
            exports(&t).pop().filter(|last| last.extension().is_some_and(|end| end == "gz") && *last > newest)
        })
        .await;
    t.stop().await;
    destroy(&t.state().join("journal"));
    let error = refused(&t).await;
    let commands = commands(&error);
    assert!(error.contains(&made_up.display().to_string()), "the newest one is named: {error}");
    assert_eq!(commands.len(), 2, "{error}");
    for command in &commands {
        typed(command);
    }
    t.start_again().await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &["prod"]).await;
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_fails_is_said_once_to_the_leads_and_tried_again() {
    let (t, clock) = house("").await;
    let folder = t.state().join("exports");
    std::fs::write(&folder, "something else").expect("written");
    for hours in 0..3 {
        clock.advance(if hours == 0 { NIGHT } else { Duration::from_secs(3700) });
        t.wait("an attempt", || {
            let failures = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(metric(&t, "houston_export_failures_total"))
            });
            (failures > f64::from(hours) + 0.5).then_some(())
        })
        .await;
    }
    let told = t
        .wait("carol to be told", || {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(told_to_carol(&t)))
                .pop()
        })
        .await;
    t.expect(&told.room, &["My store was not exported this night: cannot write into `", "no export at all"])
        .await;
    std::fs::remove_file(&folder).expect("removed");
    clock.advance(Duration::from_secs(3700));
    t.wait("the export", || exports(&t).pop().filter(|path| path.extension().is_some_and(|end| end == "gz")))
        .await;
    assert_eq!(told_to_carol(&t).await.len(), 1, "one message for one night");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_left_to_what_runs() {
    let (t, clock) = house("limits: {free_megabytes: 4000000000}\n").await;
    // Who the leads are is known from here on.
    t.say("carol", "ops", "!whoami").await;
    t.expect("ops", &["lead"]).await;
    clock.advance(NIGHT);
    let told = t
        .wait("carol to be told", || {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(told_to_carol(&t)))
                .pop()
        })
        .await;
    t.expect(&told.room, &["not exported", "`limits.free_megabytes` keeps 4000000000 MB"]).await;
    assert!(exports(&t).is_empty());
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_of_a_run_that_is_over_is_packed_and_reads_as_before() {
    let (mut t, clock) = house("").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.tick_until(&clock, "the end", &["@alice", "deployed in"]).await;
    t.forget_what_was_said(&["ops"]);
    let folder = t.state().join("transcripts");
    let plain = folder.join("R-1.log");
    assert!(plain.exists(), "one of today is read with any tool");
    clock.advance(Duration::from_secs(3 * 3600));
    let packed = folder.join("R-1.log.gz");
    t.wait("the transcript to be packed", || (packed.exists() && !plain.exists()).then_some(())).await;
    t.say("alice", "ops", "!logs R-1").await;
    t.expect("ops", &["*R-1*", "update web to 1.8", "── succeeded"]).await;
    let state = t.state().display().to_string();
    let logs =
        || tokio::task::block_in_place(|| crate::cli::run(&["runs", "--state", &state, "logs", "R-1"]));
    let (code, running, _) = logs();
    assert!(code == 0 && running.trim_end().ends_with("── succeeded"), "{running}");
    t.stop().await;
    assert_eq!(logs(), (0, running, String::new()), "the same when nobody runs");
    t.start_again().await;
    t.end().await;
}
