//! Maintenance: announced before, at its beginning and at its end, each once, whatever becomes of Houston meanwhile;
//! what begins only then, and how it is called off.

use std::time::Duration;

use houston::clock::Clock;
use jiff::Timestamp;
use serde_json::json;

use crate::support::house::{House, Setup};

/// A Wednesday; in Lisbon it is the same time.
const NOON: &str = "2026-11-25T12:00:00Z";

const ROOMS: &str = "maintenance: {rooms: [general]}\n";

fn time(at: &str) -> Timestamp {
    at.parse().expect("a time")
}

async fn house(start: &str, prod: &str, houston: &str) -> House {
    let clock = Clock::manual(time(start));
    let prod = format!("time_zone: Europe/Lisbon\n{prod}");
    House::with(Setup { clock, prod, houston: houston.to_owned(), ..Setup::default() }).await
}

fn actions(t: &House) -> Vec<String> {
    t.audited().into_iter().map(|entry| entry.event.action).collect()
}

async fn answered(t: &House, who: &str, text: &str, parts: &[&str]) {
    t.say(who, "ops", text).await;
    t.expect("ops", parts).await;
}

#[tokio::test]
async fn what_is_declared_is_announced_before_at_its_beginning_and_at_its_end_once_each() {
    let mut t = house(NOON, "", ROOMS).await;
    let span = "Fri 27 Nov 2026 22:00 to 23:30 (Europe/Lisbon)";
    let line = "!maintenance prod from fri 22:00 to 23:30 \"database upgrade\"";
    let declared = format!("There will be maintenance of `prod`, {span}: database upgrade.");
    let parts = [
        ":construction: ",
        &declared,
        "announced in #general 1 d before, 1 h before, when it begins and when it is over",
        "`!maintenance cancel prod 2026-11-27 22:00` calls it off",
    ];
    answered(&t, "carol", line, &parts).await;
    answered(&t, "bob", line, &["There is maintenance of `prod`", "already", "declared by carol"]).await;
    t.silence("general").await;
    let planned = format!("maintenance planned, {span}: database upgrade, declared by carol");
    answered(&t, "bob", "!status prod", &[":construction: ", &planned]).await;
    answered(&t, "bob", "!can bob deploy prod web", &["`bob` may", &format!("Maintenance: {span}")]).await;
    for (at, said) in [
        ("2026-11-26T22:00:00Z", "Maintenance of `prod` begins in 1 d: database upgrade, declared by carol"),
        ("2026-11-27T21:00:00Z", "Maintenance of `prod` begins in 1 h: database upgrade"),
        ("2026-11-27T22:00:00Z", "Maintenance of `prod` begins now, "),
        ("2026-11-27T23:30:00Z", ":white_check_mark: Maintenance of `prod` is over, "),
    ] {
        t.clock.set(time(at));
        let said = t.expect("general", &[said, span]).await;
        assert!(!said.text.contains("could not"), "{}", said.text);
        // Neither a restart nor a death says it again.
        t.restart().await;
        t.kill().await;
        t.start_again().await;
        t.silence("general").await;
    }
    answered(&t, "bob", "!status prod", &["*prod*"]).await;
    assert!(actions(&t).contains(&"maintenance declared".to_owned()));
    t.end().await;
}

#[tokio::test]
async fn what_could_not_be_said_in_time_is_said_late_and_says_so() {
    let mut t = house(NOON, "", ROOMS).await;
    answered(&t, "carol", "!maintenance prod from fri 22:00 to 23:30 disks", &["There will be"]).await;
    answered(&t, "carol", "!maintenance prod from sat 01:00 for 1h cables", &["There will be"]).await;
    // What was missed before is not news any more: one message each time.
    for (at, said) in [
        (
            "2026-11-27T21:40:00Z",
            vec![
                vec!["begins in 20 min: disks", "I could not say so at Fri 21:00"],
                vec!["begins in 3 h 20 min: cables", "I could not say so at Fri 01:00"],
            ],
        ),
        ("2026-11-27T22:30:00Z", vec![vec!["has begun", "disks", "I could not say so at Fri 22:00"]]),
        (
            "2026-11-28T07:00:00Z",
            vec![
                vec!["is over", "disks", "I could not say so at Fri 23:30"],
                vec![
                    "There was maintenance of `prod`",
                    "cables",
                    "announced neither its beginning nor its end",
                ],
            ],
        ),
    ] {
        t.kill().await;
        t.clock.set(time(at));
        t.start_again().await;
        for parts in said {
            t.expect("general", &parts).await;
        }
        t.silence("general").await;
    }
    t.end().await;
}

#[tokio::test]
async fn what_rocket_chat_does_not_take_in_time_is_said_late_and_once() {
    let t = house(NOON, "", ROOMS).await;
    answered(&t, "carol", "!maintenance prod from 13:00 to 14:00 disks", &["There will be"]).await;
    t.expect("general", &["begins in 1 h: disks"]).await;
    t.control("refuse", json!({"ms": 86_400_000})).await;
    t.clock.set(time("2026-11-25T13:00:00Z"));
    t.clock.set(time("2026-11-25T13:20:00Z"));
    t.control("clear", json!({})).await;
    t.expect("general", &["has begun", "disks", "I could not say so at Wed 13:00"]).await;
    t.clock.set(time("2026-11-25T14:00:00Z"));
    let over = t.expect("general", &["is over", "disks"]).await;
    assert!(!over.text.contains("could not"), "{}", over.text);
    t.silence("general").await;
    t.end().await;
}

#[tokio::test]
async fn some_commands_begin_only_in_maintenance_and_others_go_on_as_usual() {
    let prod =
        "approvals: {default: none, break_glass: {from: [lead]}}\nmaintenance: {required_for: [deploy]}\n";
    let mut t = house(NOON, prod, "").await;
    let refused = "`deploy` begins in `prod` only in maintenance, and none is planned";
    let parts = [
        ":construction: `deploy prod web 1.8` was not started",
        refused,
        "`!maintenance prod from now for 1h why`",
    ];
    answered(&t, "alice", "!deploy prod web 1.8", &parts).await;
    let parts = [
        "`bob` may",
        &format!("Maintenance: not now, {refused}"),
        "Break-glass: `lead` (carol) may",
        "`bob` may not",
    ];
    answered(&t, "alice", "!can bob deploy prod web", &parts).await;
    answered(&t, "alice", "!can bob scale prod web 2", &["`bob` may", "Break-glass: nothing is in the way"])
        .await;
    t.say("alice", "ops", "!scale prod web 2").await;
    t.ended("R-1", &["scaled in"]).await;
    answered(
        &t,
        "bob",
        "!maintenance prod from 13:00 to 14:00 new web",
        &["There will be", "announced in this room"],
    )
    .await;
    // The answer stands where it would be announced, and it is time to: nobody needs that twice.
    t.silence("ops").await;
    let next = "the next is Wed 25 Nov 2026 13:00 to 14:00 (Europe/Lisbon): new web, declared by bob";
    answered(&t, "alice", "!deploy prod web 1.8", &["was not started", next]).await;
    t.clock.set(time("2026-11-25T13:00:00Z"));
    t.expect("ops", &["begins now", "new web"]).await;
    answered(&t, "alice", "!status prod", &[":construction: maintenance under way"]).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let second = t.progress("R-3").await;
    t.until(&second, &["in the queue"]).await;
    // It goes on over the end; what has not begun by then does not, over a restart either.
    t.clock.set(time("2026-11-25T14:00:00Z"));
    t.expect("ops", &["is over", "new web", "Still under way: R-2 `deploy prod web 1.8-slow`"]).await;
    t.ended("R-2", &["deployed in"]).await;
    t.until(&second, &["is about to start", refused]).await;
    let open = |state| crate::metrics::open_runs(&t, state);
    assert_eq!((open("maintenance").await, open("frozen").await), (1, 0));
    t.restart().await;
    answered(&t, "bob", "!runs", &["R-3", "about to start, held up"]).await;
    answered(
        &t,
        "bob",
        "!locks",
        &["R-3 `deploy prod web 1.8` waits: `deploy` begins in `prod` only in maintenance"],
    )
    .await;
    assert_eq!(t.bot().engine.moving(), 0, "nothing sleeps for it");
    answered(&t, "bob", "!maintenance prod from now for 1h the rest", &["There is from now on"]).await;
    t.until(&second, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    answered(
        &t,
        "carol",
        "!maintenance cancel prod done",
        &["The maintenance of `prod`", "is over before its time: done. No other room", "@bob, it was yours"],
    )
    .await;
    answered(&t, "alice", "!deploy prod web 1.7", &["was not started", refused]).await;
    t.say("carol", "ops", "!deploy prod web 1.7 --break-glass \"it is down\"").await;
    t.expect("ops", &["*BREAK-GLASS*", "outside of maintenance", "it is down", "stops it"]).await;
    t.ended("R-4", &["outside of maintenance", "deployed in"]).await;
    assert!(actions(&t).contains(&"maintenance called off".to_owned()));
    t.end().await;
}

#[tokio::test]
async fn a_changed_clock_makes_maintenance_of_the_file_no_shorter() {
    let prod = "maintenance:\n  rooms: [\"#general\"]\n  announce: [1h]\n  windows:\n    \
                - {days: [sun], from: \"01:30\", to: \"03:00\", reason: patches}\n";
    // The fold: 01:30 exists twice, and it begins at the first. Then the gap: it does not exist, and 00:30 stands for it.
    for (start, moments) in [
        (
            "2026-10-24T12:00:00Z",
            [
                ("2026-10-24T23:30:00Z", "begins in 1 h"),
                ("2026-10-25T00:30:00Z", "begins now, Sun 25 Oct 2026 01:30 to 03:00 (Europe/Lisbon)"),
                ("2026-10-25T03:00:00Z", "is over, Sun 25 Oct 2026 01:30 to 03:00"),
            ],
        ),
        (
            "2026-03-28T12:00:00Z",
            [
                ("2026-03-28T23:30:00Z", "begins in 1 h"),
                ("2026-03-29T00:30:00Z", "begins now, Sun 29 Mar 2026 00:30 to 03:00 (Europe/Lisbon)"),
                ("2026-03-29T02:00:00Z", "is over, Sun 29 Mar 2026 00:30 to 03:00"),
            ],
        ),
    ] {
        let t = house(start, prod, "").await;
        for (at, said) in moments {
            t.clock.set(time(at) - Duration::from_secs(1));
            t.silence("general").await;
            t.clock.set(time(at));
            t.expect("general", &[said, "patches"]).await;
        }
        t.end().await;
    }
}

#[tokio::test]
async fn what_people_were_told_of_is_not_called_off_in_silence() {
    let windows = "maintenance:\n  windows:\n    - {days: [thu, fri], from: \"11:00\", to: \"12:00\", reason: patches}\n";
    let t = house(NOON, windows, ROOMS).await;
    // Tomorrow's is announced at once: nobody was there to do so a day before.
    let said = t.expect("general", &["begins in 23 h: patches"]).await;
    assert!(!said.text.contains("could not"), "it is known only since: {}", said.text);
    answered(
        &t,
        "carol",
        "!maintenance cancel prod not this time",
        &["Thu 26 Nov 2026 11:00", "is called off", "1 room that knew"],
    )
    .await;
    t.expect(
        "general",
        &[":no_entry_sign:", "Thu 26 Nov 2026 11:00 to 12:00", "called off by carol: not this time"],
    )
    .await;
    t.clock.set(time("2026-11-26T11:00:00Z"));
    t.expect("general", &["begins in 1 d: patches", "Fri 27 Nov 2026 11:00"]).await;
    answered(&t, "carol", "!status prod", &["maintenance planned, Fri 27 Nov"]).await;
    // It moves: what was said is taken back, and the new time is announced.
    t.clock.set(time("2026-11-26T13:00:00Z"));
    t.rewrite("environments/prod.yaml", "from: \"11:00\"", "from: \"10:30\"");
    answered(&t, "carol", "!reload", &["is in force", "changed maintenance of prod"]).await;
    t.expect(
        "general",
        &["Fri 27 Nov 2026 11:00 to 12:00", "is called off: its file does not have it any more"],
    )
    .await;
    t.expect("general", &["begins in 21 h 30 min: patches", "Fri 27 Nov 2026 10:30 to 12:00"]).await;
    for (line, parts) in [
        ("!maintenance cancel prod 09:00", "There is none then; the next is "),
        ("!maintenance prod from soon to 23:30 x", "I cannot tell from when"),
        ("!maintenance prod from 22:00 to 23:30", "And why?"),
        ("!maintenance cancel staging", "No maintenance of `staging` is planned."),
    ] {
        answered(&t, "carol", line, &[parts]).await;
    }
    answered(&t, "carol", "!maintenance prod from 2026-11-30 08:00 to 09:00 x", &["There will be"]).await;
    answered(
        &t,
        "carol",
        "!maintenance cancel prod",
        &["Which one? Say `!maintenance cancel prod 2026-11-27 10:30` or `"],
    )
    .await;
    answered(
        &t,
        "carol",
        "!maintenance cancel prod 2026-11-30 08:00",
        &["is called off. No room was told of it yet."],
    )
    .await;
    // Two that begin together are told apart by their ends.
    for end in ["23:00", "23:30"] {
        let line = format!("!maintenance prod from 2026-11-30 22:00 to {end} disks until {end}");
        answered(&t, "carol", &line, &["There will be"]).await;
    }
    answered(
        &t,
        "carol",
        "!maintenance cancel prod 2026-11-30 22:00",
        &["Which one? Say `!maintenance cancel prod 2026-11-30 22:00 to 23:00` or `!maintenance cancel prod 2026-11-30 22:00 to 23:30`."],
    )
    .await;
    for end in ["23:30", "23:00"] {
        let line = format!("!maintenance cancel prod 2026-11-30 22:00 to {end} not needed");
        answered(
            &t,
            "carol",
            &line,
            &[&format!("22:00 to {end} (Europe/Lisbon) is called off: not needed.")],
        )
        .await;
    }
    t.silence("general").await;
    t.end().await;
}

#[tokio::test]
async fn what_is_no_time_that_can_be_read_calls_nothing_off() {
    let t = house(NOON, "", ROOMS).await;
    answered(&t, "carol", "!maintenance prod from 2026-12-04 22:00 to 23:30 disks", &["There will be"]).await;
    // The only one is not just any: whoever says when means another.
    for typed in ["tomorrow 22:00", "22.00", "thu", "Tue at 9", "2026-12-04", "at 22:00 not ready", "today"] {
        let parts =
            ["I cannot tell which", "`!maintenance cancel prod 2026-12-04 22:00`", "Nothing was called off."];
        answered(&t, "bob", &format!("!maintenance cancel prod {typed}"), &parts).await;
    }
    answered(&t, "bob", "!maintenance cancel prod Tue 22:00", &["There is none then; the next is Fri 4 Dec"])
        .await;
    answered(&t, "bob", "!status prod", &["maintenance planned, Fri 4 Dec 2026 22:00"]).await;
    answered(&t, "bob", "!maintenance cancel prod 2026-12-04T22:00 not ready", &["is called off"]).await;
    t.silence("general").await;
    t.end().await;
}

#[tokio::test]
async fn what_is_declared_again_after_it_was_called_off_is_announced_again() {
    let t = house(NOON, "", ROOMS).await;
    for (why, called_off) in [("disks", "wrong reason"), ("new disks", "no, really")] {
        answered(&t, "carol", &format!("!maintenance prod from now for 1h {why}"), &["There is from now on"])
            .await;
        t.expect("general", &["Maintenance of `prod` begins now", why]).await;
        let off = format!("!maintenance cancel prod {called_off}");
        answered(&t, "carol", &off, &["is over before its time"]).await;
        t.expect("general", &["is over before its time by carol", called_off]).await;
    }
    answered(&t, "carol", "!maintenance prod from now for 1h cables", &["There is from now on"]).await;
    t.expect("general", &["Maintenance of `prod` begins now", "cables"]).await;
    t.clock.advance(Duration::from_secs(3600));
    t.expect("general", &["is over", "cables"]).await;
    t.silence("general").await;
    t.end().await;
}

#[tokio::test]
async fn a_window_that_was_taken_out_of_the_file_by_a_slip_and_put_back_is_maintenance_again() {
    let windows = "approvals: {default: none}\nmaintenance:\n  required_for: [deploy]\n  announce: [1h]\n  windows:\n    \
                   - {days: [wed], from: \"11:00\", to: \"18:00\", reason: patches}\n";
    let t = house(NOON, windows, ROOMS).await;
    t.expect("general", &["begins now", "patches"]).await;
    for _ in 0..2 {
        t.rewrite("environments/prod.yaml", "days: [wed]", "days: [mon]");
        answered(&t, "carol", "!reload", &["is in force"]).await;
        t.expect("general", &["is over before its time: its file does not have it any more"]).await;
        answered(&t, "alice", "!deploy prod web 1.8", &["was not started", "only in maintenance"]).await;
        t.rewrite("environments/prod.yaml", "days: [mon]", "days: [wed]");
        answered(&t, "carol", "!reload", &["is in force"]).await;
        t.expect("general", &["begins now, Wed 25 Nov 2026 11:00 to 18:00", "patches"]).await;
    }
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    // What a person has called off stays so, whatever becomes of the file.
    answered(&t, "carol", "!maintenance cancel prod done", &["is over before its time"]).await;
    t.expect("general", &["is over before its time by carol: done"]).await;
    t.rewrite("environments/prod.yaml", "days: [wed]", "days: [mon]");
    answered(&t, "carol", "!reload", &["is in force"]).await;
    t.rewrite("environments/prod.yaml", "days: [mon]", "days: [wed]");
    answered(&t, "carol", "!reload", &["is in force"]).await;
    answered(&t, "alice", "!deploy prod web 1.7", &["was not started", "only in maintenance"]).await;
    t.silence("general").await;
    t.end().await;
}
