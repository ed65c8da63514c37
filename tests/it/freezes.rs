//! Freezes: what may not begin, who says so and until when, what becomes of a run that was approved before.

use std::time::Duration;

use houston::clock::Clock;
use houston::store::{Batch, Store, Tree};
use jiff::Timestamp;
use serde_json::Value;

use crate::support::house::{House, Setup};

/// A Wednesday; in Lisbon it is the same time.
const NOON: &str = "2026-11-25T12:00:00Z";

fn time(at: &str) -> Timestamp {
    at.parse().expect("a time")
}

async fn house(prod: &str, houston: &str) -> House {
    let clock = Clock::manual(time(NOON));
    House::with(Setup { clock, prod: prod.to_owned(), houston: houston.to_owned(), ..Setup::default() }).await
}

fn actions(t: &House) -> Vec<String> {
    t.audited().into_iter().map(|entry| entry.event.action).collect()
}

#[tokio::test]
async fn a_frozen_environment_refuses_with_why_until_when_who_and_what_can_be_done() {
    let mut t = house("approvals: {default: none}\n", "time_zone: America/New_York\n").await;
    t.say("carol", "ops", "!freeze prod until fri 17:00 black friday").await;
    let frozen = "`prod` is frozen until Fri 27 Nov 2026 17:00 (America/New_York)";
    t.expect("ops", &[":snowflake: ", &format!("{frozen}: black friday."), "`!unfreeze prod` ends it"]).await;
    // It is a row: a restart does not thaw it.
    t.restart().await;
    let frozen = format!("{frozen} by carol: black friday");
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let refused = [":snowflake: `deploy prod web 1.8` was not started", &frozen, "`!unfreeze prod` ends it."];
    t.expect("ops", &refused).await;
    assert!(t.runs().is_empty());
    for (asks, parts) in [
        ("!status prod", vec![":snowflake: ", &frozen]),
        ("!locks", vec!["- :snowflake: ", &frozen]),
        ("!can bob deploy prod web", vec!["`bob` may", "Approval: ", "Freeze: not now", &frozen]),
        ("!deploy prod web 1.8 --dry-run", vec!["1.7", "1.8"]),
        ("!freeze prod until 3h mine", vec![&frozen, "`!unfreeze prod` first"]),
        ("!can bob deploy staging web", vec!["Freeze: none now"]),
    ] {
        t.say("bob", "ops", asks).await;
        t.expect("ops", &parts).await;
    }
    t.say("bob", "ops", "!can bob lock prod by hand").await;
    let lock = t.expect("ops", &["`bob` may `lock`"]).await;
    assert!(!lock.text.contains("Freeze"), "it is not held up: {}", lock.text);
    t.say("bob", "ops", "!unfreeze prod").await;
    t.expect("ops", &[":sunny: `prod` is not frozen any more. @carol, it was yours."]).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    let audited = actions(&t);
    for action in ["frozen", "refused", "unfrozen"] {
        assert!(audited.iter().any(|a| a == action), "{action} in {audited:?}");
    }
    t.end().await;
}

#[tokio::test]
async fn a_freeze_that_begins_after_the_approval_was_asked_for_holds_the_start_up_until_it_is_over() {
    let mut t = house("", "").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("carol", "ops", "!freeze prod until 3h migration").await;
    t.expect("ops", &["`prod` is frozen until Wed 25 Nov 2026 15:00 (UTC)", "Held up until then: R-1"]).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    let progress = t.progress("R-1").await;
    let held =
        ["is about to start", "`prod` is frozen until Wed 25 Nov 2026 15:00 (UTC) by carol: migration"];
    t.until(&progress, &held).await;
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["R-1 `deploy prod web 1.8` waits: `prod` is frozen until"]).await;
    // Over a restart it is the row that waits, not a task.
    t.restart().await;
    t.say("bob", "ops", "!runs").await;
    t.expect("ops", &["R-1", "about to start, held up"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.clock.advance(Duration::from_secs(3 * 3600 - 1));
    t.say("bob", "ops", "!can bob deploy prod web").await;
    t.expect("ops", &["Freeze: not now"]).await;
    assert_eq!(t.bot().engine.moving(), 0, "nothing sleeps for it");
    t.clock.advance(Duration::from_secs(1));
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    assert!(actions(&t).contains(&"held up".to_owned()), "{:?}", actions(&t));
    t.end().await;
}

#[tokio::test]
async fn a_freeze_that_is_cancelled_lets_go_and_what_is_under_way_is_not_touched() {
    let t = house("approvals: {default: none}\n", "").await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("bob", "ops", "!scale prod web 2").await;
    let second = t.progress("R-2").await;
    t.until(&second, &["is 1st in the queue"]).await;
    t.say("carol", "ops", "!freeze prod until 2026-11-27 17:00 enough for today").await;
    t.expect("ops", &["Under way, not held up by it: R-1.", "Held up until then: R-2."]).await;
    t.until(&second, &["is about to start", "frozen until Fri 27 Nov 2026 17:00 (UTC) by carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    assert_eq!(t.tasks_wanted("web").await, 1);
    t.say("carol", "ops", "!unfreeze prod").await;
    t.expect("ops", &["is not frozen any more"]).await;
    t.until(&second, &["scaled in"]).await;
    t.expect("ops", &["@bob", "scaled in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_freeze_of_the_file_comes_again_in_its_time_zone_and_names_its_place() {
    let prod = "approvals: {default: none}\ntime_zone: Europe/Lisbon\nfreezes:\n  - {days: [wed, thu], from: \"13:00\", \
                to: \"08:00\", reason: nights are quiet}\n  - {from: \"2026-11-26 08:00\", to: \"2026-11-26 09:00\", \
                reason: the audit}\n";
    let t = house(prod, "").await;
    t.say("bob", "ops", "!can bob scale prod web 2").await;
    t.expect("ops", &["`bob` may", "Freeze: none now"]).await;
    t.clock.set(time("2026-11-25T13:00:00Z"));
    t.say("bob", "ops", "!deploy prod web 1.8").await;
    // The one that follows at once counts into it.
    let until = "`prod` is frozen until Thu 26 Nov 2026 09:00 (Europe/Lisbon) by `environments/prod.yaml:";
    t.expect("ops", &["was not started", until, ": nights are quiet", "It ends by itself"]).await;
    t.say("carol", "ops", "!unfreeze prod").await;
    t.expect("ops", &[until, "It ends by itself"]).await;
    t.clock.set(time("2026-11-26T09:00:00Z"));
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_reload_that_takes_a_freeze_out_of_the_file_starts_what_waits_for_it() {
    let prod = "freezes:\n  - {from: \"13:00\", to: \"12:00\", reason: nearly always}\n";
    let t = house(prod, "").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    // It expires after half an hour: approved in time, and in the freeze.
    t.say("carol", "ops", "!freeze prod until 1h until the file takes over").await;
    t.expect("ops", &["is frozen until"]).await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    // One follows on the other: it reads as one.
    t.until(&progress, &["frozen until Thu 26 Nov 2026 12:00 (UTC)"]).await;
    t.clock.advance(Duration::from_secs(3600));
    t.rewrite("environments/prod.yaml", "from: \"13:00\", to: \"12:00\"", "from: \"03:00\", to: \"04:00\"");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force", "changed freezes of prod"]).await;
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

/// What stands in these trees, as an earlier machine's zone data had it.
async fn rewrite_rows(t: &House, from: &str, to: &str) {
    let store = t.wait("the store to be free", || Store::open(&t.state().join("journal")).ok()).await;
    let mut batch = Batch::new();
    for tree in [Tree::Freezes, Tree::Maintenance] {
        for entry in store.scan::<Value>(tree, &[]) {
            let (key, row) = entry.expect("readable");
            let written = row.to_string();
            assert!(written.contains(from), "{written}");
            let rewritten: Value = serde_json::from_str(&written.replace(from, to)).expect("JSON");
            batch.put(tree, &key, &rewritten);
        }
    }
    store.commit(batch).await.expect("written");
}

#[tokio::test]
async fn zone_data_that_changes_meanwhile_moves_no_freeze_and_keeps_nobody_from_starting() {
    let prod = "time_zone: Europe/Lisbon\napprovals: {default: none}\n";
    let mut t = house(prod, "maintenance: {rooms: [general]}\n").await;
    t.say("carol", "ops", "!freeze prod until fri 17:00 black friday").await;
    t.expect("ops", &["`prod` is frozen until Fri 27 Nov 2026 17:00 (Europe/Lisbon)"]).await;
    t.say("carol", "ops", "!maintenance prod from 2026-11-30 22:00 to 23:30 new disks").await;
    t.expect("ops", &["There will be"]).await;
    // By rules that are no more, it was five hours later in Lisbon; and of this zone nobody knows any more.
    for (from, to, frozen, planned) in [
        (
            "+00:00[Europe/Lisbon]",
            "+05:00[Europe/Lisbon]",
            "Fri 27 Nov 2026 12:00 (Europe/Lisbon)",
            "17:00 to 18:30",
        ),
        (
            "+05:00[Europe/Lisbon]",
            "+05:00[Europe/Atlantis]",
            "Fri 27 Nov 2026 12:00 (UTC)",
            "17:00 to 18:30 (UTC)",
        ),
    ] {
        t.stop().await;
        rewrite_rows(&t, from, to).await;
        t.start_again().await;
        t.say("bob", "ops", "!status prod").await;
        t.expect("ops", &[&format!("frozen until {frozen} by carol: black friday"), planned, "new disks"])
            .await;
    }
    t.end().await;
}
