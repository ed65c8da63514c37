//! `/metrics`, as Prometheus reads it: what people do moves the numbers, and nothing of theirs stands in a label.

use std::collections::BTreeSet;

use houston::metrics::table;
use houston::sandbox::Dialect;
use serde_json::json;

use crate::support::exposition::Exposition;
use crate::support::house::{House, Setup};

async fn get(t: &House) -> (String, String) {
    let socket = t.state().join("admin.sock");
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().expect("a client");
    let answer = client.get("http://localhost/metrics").send().await.expect("an answer");
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    (kind, answer.text().await.expect("a text"))
}

async fn scrape(t: &House) -> Exposition {
    let (_, text) = get(t).await;
    Exposition::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Waits until a number stands so.
pub async fn until(
    t: &House,
    name: &str,
    labels: &[(&str, &str)],
    wanted: impl Fn(f64) -> bool,
) -> Exposition {
    for _ in 0..3000 {
        let now = scrape(t).await;
        if wanted(now.value(name, labels)) {
            return now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {name} {labels:?}");
}

/// Of `houston_runs_open`, in one state.
pub async fn open_runs(t: &House, state: &str) -> u32 {
    let found = scrape(t).await.value("houston_runs_open", &[("state", state)]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let found = found.round() as u32;
    found
}

#[track_caller]
fn is(found: f64, wanted: u32) {
    assert!((found - f64::from(wanted)).abs() < 1e-9, "{found} and not {wanted}");
}

#[tokio::test]
async fn a_conversation_moves_the_numbers() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let t = House::with(Setup { dialect, ..Setup::default() }).await;
        let before = scrape(&t).await;
        is(before.value("houston_connected", &[]), 1);
        is(before.value("houston_caught_up", &[]), 1);
        is(before.value("houston_connections_total", &[]), 1);
        is(before.value("houston_approvals_total", &[("decision", "approved")]), 0);

        t.say("alice", "ops", "!ping").await;
        t.expect("ops", &["pong"]).await;
        t.say("alice", "ops", "good morning").await;
        t.say("alice", "ops", "!deploy prod web 1.8").await;
        let card = t.card().await;
        let waiting = until(&t, "houston_runs_open", &[("state", "deciding")], |n| n > 0.5).await;
        is(waiting.value("houston_runs_created_total", &[("command", "deploy")]), 1);
        t.react("bob", &card, ":+1:").await;
        t.ended("R-1", &["deployed in"]).await;
        t.say("alice", "ops", "!scale prod web 2").await;
        let card = t.card().await;
        t.say("bob", "ops", "!deny R-2 not now").await;
        t.until(&card, &["*denied* by bob"]).await;
        t.denied("R-2", "bob").await;
        t.newcomer("mallory").await;
        t.say("mallory", "ops", "!deploy prod web 1.9").await;
        t.expect("ops", &["You may not `deploy` here"]).await;

        let now = until(
            &t,
            "houston_commands_total",
            &[("command", "deploy"), ("outcome", "refused")],
            |refused| refused > 0.5,
        )
        .await;
        is(now.value("houston_commands_total", &[("command", "ping"), ("outcome", "answered")]), 1);
        is(now.value("houston_messages_total", &[("addressed", "command")]), 5);
        is(now.value("houston_messages_total", &[("addressed", "others")]), 1);
        is(now.value("houston_command_duration_seconds_count", &[]), 5);
        is(now.value("houston_runs_finished_total", &[("command", "deploy"), ("outcome", "succeeded")]), 1);
        is(now.value("houston_runs_finished_total", &[("command", "scale"), ("outcome", "denied")]), 1);
        is(now.value("houston_runs_open", &[("state", "deciding")]), 0);
        let service = [("kind", "swarm_service"), ("outcome", "succeeded")];
        is(now.value("houston_steps_total", &service), 1);
        is(now.value("houston_step_duration_seconds_count", &[("kind", "swarm_service")]), 1);
        is(now.value("houston_approvals_total", &[("decision", "approved")]), 1);
        is(now.value("houston_approvals_total", &[("decision", "denied")]), 1);
        is(now.value("houston_approval_wait_seconds_count", &[]), 2);
        is(now.value("houston_votes_total", &[("choice", "approve")]), 1);
        for grows in ["houston_frames_received_total", "houston_store_sync_duration_seconds_count"] {
            assert!(now.value(grows, &[]) > before.value(grows, &[]), "{grows}");
        }
        assert!(now.value("houston_server_silence_seconds", &[]) < 60.0);
        is(now.value("houston_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
        assert!(now.value("process_resident_memory_bytes", &[]) > 1e6);
        assert!(now.value("process_start_time_seconds", &[]) > 1.7e9);
        let said = until(&t, "houston_outbox_entries", &[], |entries| entries < 0.5).await;
        is(said.value("houston_outbox_oldest_age_seconds", &[]), 0);

        t.control("drop", json!({})).await;
        until(&t, "houston_connections_total", &[], |times| times > 1.5).await;
        until(&t, "houston_caught_up", &[], |yes| yes > 0.5).await;
        t.silence_but("ops", &[""]).await;
        t.end().await;
    }
}

#[tokio::test]
async fn what_is_exposed_is_what_the_table_says_and_names_nobody() {
    // What a schedule is counted by is there when there is one.
    let houston = "access:\n  roles:\n    operator: {users: [alice, bob, \"schedule:yearly\"]}\n    lead: {users: [carol]}\n\
                   schedules: {yearly: {run: deploy staging, cron: \"0 0 29 2 *\", room: ops}}\n";
    let t = House::with(Setup { houston: houston.to_owned(), ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["deployed in"]).await;
    let (kind, text) = get(&t).await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let found = Exposition::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let names: BTreeSet<&str> = found.0.keys().map(String::as_str).collect();
    assert_eq!(names, table::ALL.iter().map(|metric| metric.name).collect());
    for metric in table::ALL {
        let family = &found.0[metric.name];
        assert_eq!(family.kind, metric.kind.word(), "{}", metric.name);
        assert_eq!(family.help, format!("{}.", metric.help), "{}", metric.name);
        let allowed: BTreeSet<&str> = metric.labels.iter().copied().chain(["le"]).collect();
        for (_, labels, _) in &family.samples {
            assert!(labels.keys().all(|label| allowed.contains(label.as_str())), "{labels:?}");
            for value in labels.values() {
                assert!(!["alice", "ops", "prod", "houston"].contains(&value.as_str()), "{labels:?}");
            }
        }
    }
    t.silence_but("ops", &[""]).await;
    t.end().await;
}
