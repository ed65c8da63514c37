//! Schedules: what is due begins once, in the name of the schedule and as a person's command does; what did not begin
//! when it should have is said.

use std::time::Duration;

use houston::clock::Clock;
use jiff::Timestamp;

use crate::support::house::{House, Setup};

/// A Wednesday; in Lisbon it is the same time.
const NOON: &str = "2026-11-25T12:00:00Z";

const NIGHTLY: &str =
    "  nightly: {run: scale staging web 2, cron: \"30 1 * * *\", time_zone: Europe/Lisbon, room: ops";

fn time(at: &str) -> Timestamp {
    at.parse().expect("a time")
}

/// With these schedules, which may do what operators may.
async fn house(start: &str, schedules: &str) -> House {
    let names = schedules.lines().filter_map(|line| line.trim().split_once(':').map(|(name, _)| name));
    let names: String = names.map(|name| format!(", \"schedule:{name}\"")).collect();
    let houston = format!(
        "access:\n  roles:\n    operator: {{users: [alice, bob{names}]}}\n    lead: {{users: [carol]}}\nschedules:\n{schedules}"
    );
    let setup = Setup {
        clock: Clock::manual(time(start)),
        services: vec![("web", 1), ("staging-web", 1)],
        houston,
        ..Setup::default()
    };
    House::with(setup).await
}

#[tokio::test]
async fn what_is_due_begins_once_and_as_a_persons_command_does() {
    let mut t = house(NOON, &format!("{NIGHTLY}}}\n")).await;
    t.silence("ops").await;
    for (at, run, tasks) in [("2026-11-26T01:30:00Z", "R-1", 2), ("2026-11-27T01:30:00Z", "R-2", 2)] {
        t.clock.set(time(at));
        let progress = t.progress(run).await;
        t.until(&progress, &["scaled in"]).await;
        assert!(progress.text.contains(":alarm_clock: schedule *nightly*"), "{}", progress.text);
        assert_eq!(t.tasks_wanted("staging-web").await, tasks);
        t.scale_by_hand("staging-web", 1).await;
        // Neither a restart nor a death begins it again.
        t.restart().await;
        t.kill().await;
        t.start_again().await;
        t.silence("ops").await;
    }
    assert_eq!(t.runs(), ["scale staging web 2", "scale staging web 2"]);
    let asked = t.audited().into_iter().find(|entry| entry.event.action == "requested").expect("audited");
    assert_eq!(asked.event.who.name, "schedule:nightly");
    t.end().await;
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once_and_said() {
    let mut t = house(NOON, &format!("{NIGHTLY}}}\n")).await;
    t.clock.set(time("2026-11-26T01:10:00Z"));
    t.silence("ops").await;
    t.stop().await;
    t.clock.set(time("2026-11-26T02:20:00Z"));
    t.start_again().await;
    let parts = [
        "*nightly*",
        "did not run at 01:30 (Europe/Lisbon): I was down 01:10–02:20. It ran at 02:20 as *R-1*.",
    ];
    t.expect("ops", &parts).await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    t.silence("ops").await;
    t.kill().await;
    t.start_again().await;
    t.silence("ops").await;
    t.clock.advance(Duration::from_secs(60));
    t.silence("ops").await;
    assert_eq!(t.runs().len(), 1);
    t.end().await;
}

/// 2027-03-28: 01:00 is followed by 02:00. 2026-10-25: 02:00 is followed by 01:00.
#[tokio::test]
async fn a_changed_clock_makes_it_run_once() {
    for (start, at, before) in [
        ("2027-03-27T12:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T00:59:59Z"),
        ("2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T00:29:59Z"),
    ] {
        let t = house(start, &format!("{NIGHTLY}}}\n")).await;
        t.clock.set(time(before));
        t.silence("ops").await;
        t.clock.set(time(at));
        let progress = t.progress("R-1").await;
        t.until(&progress, &["scaled in"]).await;
        // 01:30 comes once more, or would have come.
        for _ in 0..4 {
            t.clock.advance(Duration::from_secs(1200));
            t.silence("ops").await;
        }
        assert_eq!(t.runs().len(), 1);
        t.end().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_repeats_nothing_and_keeps_nothing_from_beginning() {
    let mut t = house(NOON, &format!("{NIGHTLY}}}\n")).await;
    // A day on: what it skipped is made up for once.
    t.clock.set(time("2026-11-26T12:00:00Z"));
    t.expect("ops", &["did not run at 01:30", "slept, or its clock was set on", "*R-1*"]).await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    // And back: that time is dealt with.
    t.clock.set(time(NOON));
    t.restart().await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    t.clock.set(time("2026-11-26T03:00:00Z"));
    t.silence("ops").await;
    assert_eq!(t.runs().len(), 1);
    t.scale_by_hand("staging-web", 1).await;
    t.clock.set(time("2026-11-27T01:30:00Z"));
    let progress = t.progress("R-2").await;
    t.until(&progress, &["scaled in"]).await;
    // Years on and back: the next night is the next night.
    t.scale_by_hand("staging-web", 1).await;
    t.clock.set(time("2030-01-01T00:00:00Z"));
    t.expect("ops", &["did not run at", "more than", "*R-3*"]).await;
    let progress = t.progress("R-3").await;
    t.until(&progress, &["scaled in"]).await;
    t.clock.set(time("2026-11-27T12:00:00Z"));
    t.restart().await;
    t.say("alice", "ops", "!schedules").await;
    t.expect("ops", &["• next: Sat 28 Nov 01:30, Sun 29 Nov 01:30, Mon 30 Nov 01:30"]).await;
    t.end().await;
}

#[tokio::test]
async fn of_two_that_would_overlap_one_runs_and_the_other_is_said() {
    let hourly =
        "  hourly: {run: deploy staging web 1.8-slower, cron: \"0 * * * *\", room: ops, tell: [carol]}\n";
    let t = house(NOON, hourly).await;
    t.clock.set(time("2026-11-25T13:00:00Z"));
    let progress = t.progress("R-1").await;
    t.wait_for_image("staging-web", "demo/web:1.8-slower").await;
    t.clock.set(time("2026-11-25T14:00:00Z"));
    let parts = [
        "@carol",
        "*hourly*",
        "did not run at 14:00 (UTC): *R-1*, its run before, is not done",
        "Next: 15:00.",
    ];
    t.expect("ops", &parts).await;
    t.say("alice", "ops", "!schedules run hourly").await;
    t.expect("ops", &["R-1 of the same schedule is not done"]).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1"]).await;
    t.until(&progress, &["*cancelled*"]).await;
    t.expect("ops", &["@carol `deploy staging web 1.8-slower` cancelled"]).await;
    t.end().await;
}

#[tokio::test]
async fn freezes_and_locks_hold_for_schedules_and_are_said_in_the_room() {
    let hourly = "  hourly: {run: scale staging web 2, cron: \"0 * * * *\", room: ops}\n";
    let t = house(NOON, hourly).await;
    t.say("alice", "ops", "!lock staging hands off").await;
    t.expect("ops", &[":lock:"]).await;
    t.clock.set(time("2026-11-25T13:00:00Z"));
    t.expect("ops", &["*hourly*", "due at 13:00 (UTC)", "was not started", "hands off", "Next: 14:00."])
        .await;
    t.say("alice", "ops", "!unlock staging").await;
    t.expect("ops", &[":unlock:"]).await;
    t.say("carol", "ops", "!freeze staging until 14:30 holidays").await;
    t.expect("ops", &[":snowflake:"]).await;
    t.clock.set(time("2026-11-25T14:00:00Z"));
    t.expect("ops", &["*hourly*", "due at 14:00 (UTC)", "frozen until", "holidays", "Next: 15:00."]).await;
    t.clock.set(time("2026-11-25T15:00:00Z"));
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    assert_eq!(t.runs().len(), 1);
    t.end().await;
}

#[tokio::test]
async fn without_a_standing_approval_it_asks_as_a_person_does() {
    let nightly = "  nightly: {run: scale prod web 2, cron: \"30 1 * * *\", room: ops}\n";
    let mut t = house(NOON, nightly).await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    let card = t.card().await;
    assert!(card.text.contains("schedule:nightly"), "{}", card.text);
    t.kill().await;
    t.clock.advance(Duration::from_secs(1));
    t.start_again().await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    t.end().await;
}

#[tokio::test]
async fn people_see_pause_resume_and_run_them() {
    let mut t = house(
        NOON,
        &format!("{NIGHTLY}}}\n  weekly: {{run: deploy staging, cron: \"0 9 * * mon\", room: general}}\n"),
    )
    .await;
    t.control("person", serde_json::json!({"username": "dana", "utc_offset": 5.5})).await;
    t.control("join", serde_json::json!({"user": "dana", "room": "ops"})).await;
    t.say("dana", "ops", "!schedules").await;
    let parts = [
        "*nightly* `scale staging web 2` in #ops, `30 1 * * *` (Europe/Lisbon)",
        "• last: it was never due",
        "• next: Thu 26 Nov 07:00, Fri 27 Nov 07:00, Sat 28 Nov 07:00",
        "*weekly* `deploy staging` in #general, `0 9 * * mon` (UTC)",
        "_Times are yours, UTC+05:30._",
    ];
    t.expect("ops", &parts).await;
    t.say("dana", "ops", "!schedules pause nightly").await;
    t.expect("ops", &["You may not `schedules pause` here"]).await;
    t.say("alice", "ops", "!schedules pause nigthly").await;
    t.expect("ops", &["There is no schedule `nigthly`. Did you mean `nightly`?"]).await;
    t.say("alice", "ops", "!schedules pause nightly moving house").await;
    t.expect("ops", &["*nightly* does not begin until `!schedules resume nightly`", "moving house"]).await;
    t.restart().await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    t.clock.set(time("2026-11-26T02:00:00Z"));
    t.silence("ops").await;
    t.say("bob", "ops", "!schedules nightly").await;
    t.expect(
        "ops",
        &[
            "paused by alice",
            "moving house",
            "Sun 28 Mar 2027 has no 01:30 (Europe/Lisbon): it is due at 02:00",
        ],
    )
    .await;
    t.say("bob", "ops", "!schedules resume nightly").await;
    t.expect("ops", &["*nightly* goes on; next: Fri 27 Nov 01:30 (your time, UTC+00)."]).await;
    t.silence("ops").await;
    t.say("bob", "ops", "!can bob schedules run nightly").await;
    t.expect("ops", &["`bob` may", "it needs no approval"]).await;
    t.say("bob", "ops", "!can schedule:weekly deploy staging").await;
    t.expect("ops", &["`schedule:weekly` may"]).await;
    t.say("bob", "ops", "!schedules run nightly --dry-run").await;
    t.expect("ops", &["scale staging web 2"]).await;
    t.say("bob", "ops", "!schedules run nightly").await;
    let progress = t.ended("R-1", &["scaled in"]).await;
    assert!(progress.text.contains("by hand for bob"), "{}", progress.text);
    t.say("bob", "ops", "!schedules nightly").await;
    t.expect("ops", &["• :white_check_mark: Thu 26 Nov 02:00: *R-1* by bob, succeeded"]).await;
    let actions: Vec<String> = t.audited().into_iter().map(|entry| entry.event.action).collect();
    for action in ["schedule paused", "schedule resumed"] {
        assert!(actions.contains(&action.to_owned()), "{action}: {actions:?}");
    }
    t.end().await;
}

#[tokio::test]
async fn the_numbers_say_when_it_is_due_and_what_was_missed() {
    let mut t = house(NOON, &format!("{NIGHTLY}}}\n")).await;
    t.silence("ops").await;
    t.stop().await;
    t.clock.set(time("2026-11-27T02:00:00Z"));
    t.start_again().await;
    t.expect(
        "ops",
        &["did not run at Thu 26 Nov 01:30 and 01:30 (Europe/Lisbon)", "*R-1*, once for all of them"],
    )
    .await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    t.silence("ops").await;
    let nightly = [("schedule", "nightly")];
    let seconds = |at: &str| time(at).as_duration().as_secs_f64();
    for (name, wanted) in [
        ("houston_schedule_next_timestamp_seconds", seconds("2026-11-28T01:30:00Z")),
        ("houston_schedule_last_success_timestamp_seconds", seconds("2026-11-27T02:00:00Z")),
        ("houston_schedule_misfires_total", 2.0),
    ] {
        let now = crate::metrics::until(&t, name, &nightly, |value| (value - wanted).abs() < 1.0).await;
        assert!(now.value(name, &nightly) > 0.0);
    }
    t.end().await;
}

const OF_PROD: &str = "  nightly: {run: scale prod web 2, cron: \"30 1 * * *\", room: ops}\n";

#[tokio::test]
async fn what_people_allowed_begins_without_asking_until_it_ends() {
    let mut t = house(NOON, OF_PROD).await;
    t.silence("ops").await;
    t.say("alice", "ops", "!schedules allow nightly 5d it ran well").await;
    let card = t.card().await;
    for part in [
        "let the schedule nightly give `scale prod web 2` without asking each time",
        "until Mon 30 Nov 2026 12:00",
        "*needs* 1 operator or lead, not the requester",
    ] {
        assert!(card.text.contains(part), "{part}: {}", card.text);
    }
    t.react("alice", &card, ":+1:").await;
    t.expect("ops", &["@alice you asked for R-1 yourself"]).await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["done in"]).await;
    t.say("alice", "ops", "!schedules").await;
    t.expect(
        "ops",
        &["it begins without asking, allowed by bob, until Mon 30 Nov 2026 12:00 (UTC), R-1: it ran well"],
    )
    .await;
    t.kill().await;
    t.start_again().await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    let progress = t.progress("R-2").await;
    t.until(
        &progress,
        &["scaled in", "schedule *nightly*, allowed by bob, until Mon 30 Nov 2026 12:00 (UTC), R-1"],
    )
    .await;
    // A person is asked as ever.
    t.scale_by_hand("web", 1).await;
    t.say("bob", "ops", "!schedules run nightly").await;
    let card = t.card().await;
    assert!(card.text.contains("asked by bob"), "{}", card.text);
    t.say("bob", "ops", "!cancel R-3").await;
    t.expect("ops", &["R-3"]).await;
    t.forget_what_was_said(&["ops"]);
    // Told before it ends, and asking again from then on.
    t.clock.set(time("2026-11-29T06:00:00Z"));
    t.expect("ops", &["did not run at", "*R-4*"]).await;
    let progress = t.progress("R-4").await;
    t.until(&progress, &["scaled in", "allowed by bob"]).await;
    t.expect(
        "ops",
        &[":hourglass: What lets *nightly* begin without asking ends Mon 30 Nov 2026 12:00 (UTC)"],
    )
    .await;
    t.silence("ops").await;
    t.scale_by_hand("web", 1).await;
    t.clock.set(time("2026-11-30T12:00:00Z"));
    t.expect("ops", &[":hourglass: What let *nightly* begin without asking has ended (R-1)"]).await;
    t.expect("ops", &["did not run at 01:30 (UTC)", "*R-5*"]).await;
    let card = t.card().await;
    assert!(card.text.contains("*R-5*"), "{}", card.text);
    t.say("bob", "ops", "!deny R-5 no more").await;
    t.until(&card, &["*denied* by bob"]).await;
    t.expect("ops", &["*R-5*", "was denied by bob"]).await;
    t.forget_what_was_said(&["ops"]);
    let actions: Vec<String> = t.audited().into_iter().map(|entry| entry.event.action).collect();
    for action in ["standing approval ends soon", "standing approval ended"] {
        assert!(actions.contains(&action.to_owned()), "{action}: {actions:?}");
    }
    t.end().await;
}

#[tokio::test]
async fn what_people_allowed_is_revoked_or_void_when_it_is_for_something_else() {
    let t = house(NOON, OF_PROD).await;
    t.silence("ops").await;
    for (run, change) in [(1, false), (2, true)] {
        t.say("alice", "ops", "!schedules allow nightly 30d it ran well").await;
        let card = t.card().await;
        t.react("bob", &card, ":+1:").await;
        t.ended(&format!("R-{run}"), &["done in"]).await;
        if change {
            t.rewrite("houston.yaml", "scale prod web 2", "scale prod web 3");
            t.say("carol", "ops", "!reload").await;
            t.expect("ops", &["changed schedule nightly"]).await;
            let parts = [
                ":warning: What let *nightly* begin without asking is void (R-2)",
                "scale prod web 2",
                "scale prod web 3",
            ];
            t.expect("ops", &parts).await;
        } else {
            t.say("carol", "ops", "!schedules revoke nightly not now").await;
            t.expect(
                "ops",
                &["*nightly* asks each time from now on (R-1 is revoked: not now)", "@alice @bob"],
            )
            .await;
        }
        t.say("alice", "ops", "!schedules").await;
        t.expect("ops", &["it asks for the approval of 1 operator or lead"]).await;
    }
    t.clock.set(time("2026-11-26T01:30:00Z"));
    let card = t.card().await;
    assert!(card.text.contains("`scale prod web 3`"), "{}", card.text);
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-3").await;
    t.until(&progress, &["scaled in"]).await;
    assert!(!progress.text.contains("allowed by"), "{}", progress.text);
    let revoked = t.audited().into_iter().find(|entry| entry.event.action == "standing approval revoked");
    assert_eq!(revoked.expect("audited").event.who.name, "carol");
    t.end().await;
}

/// What the service that watches was told: methods, paths and bodies.
async fn watcher() -> (std::net::SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use axum::body::Bytes;
    use axum::http::{Method, Uri};
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&told);
    let hear = move |method: Method, uri: Uri, body: Bytes| {
        let heard = std::sync::Arc::clone(&heard);
        async move {
            let line = format!("{method} {uri} {}", String::from_utf8_lossy(&body));
            heard.lock().expect("no panic").push(line);
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(hear)).await });
    (at, told)
}

#[tokio::test]
async fn a_dead_mans_switch_hears_of_beginnings_and_ends_and_its_address_is_shown_nowhere() {
    let (at, told) = watcher().await;
    let schedules = "  nightly: {run: deploy staging web 1.8, cron: \"30 1 * * *\", room: ops, ping: {url: {file: ping-url}}}\n  \
                     crash: {run: deploy staging web 1.9, cron: \"30 2 * * *\", room: ops, tell: carol, ping: {url: {file: ping-url}}}\n";
    let names = ", \"schedule:nightly\", \"schedule:crash\"";
    let houston = format!(
        "access:\n  roles:\n    operator: {{users: [alice, bob{names}]}}\n    lead: {{users: [carol]}}\nschedules:\n{schedules}"
    );
    let t = House::with(Setup {
        clock: Clock::manual(time(NOON)),
        services: vec![("staging-web", 1)],
        houston,
        files: vec![("ping-url", format!("http://{at}/ping/s3cr3t-uuid\n"))],
        ..Setup::default()
    })
    .await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    let progress = t.progress("R-1").await;
    t.until(&progress, &["deployed in"]).await;
    let heard = |count: usize| {
        let told = told.lock().expect("no panic").clone();
        (told.len() >= count).then_some(told)
    };
    let lines = t.wait("two pings", || heard(2)).await;
    assert_eq!(lines, ["POST /ping/s3cr3t-uuid/start R-1 began", "POST /ping/s3cr3t-uuid R-1 succeeded"]);
    t.clock.set(time("2026-11-26T02:30:00Z"));
    let progress = t.progress("R-2").await;
    t.until(&progress, &["failed"]).await;
    t.expect("ops", &["@carol `deploy staging web 1.9` failed"]).await;
    let lines = t.wait("four pings", || heard(4)).await;
    assert_eq!(
        lines[2..],
        ["POST /ping/s3cr3t-uuid/start R-2 began", "POST /ping/s3cr3t-uuid/fail R-2 failed"]
    );
    t.say("alice", "ops", "!schedules nightly").await;
    let shown = t.expect("ops", &["*nightly*"]).await;
    assert!(!shown.text.contains("s3cr3t"), "{}", shown.text);
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test]
async fn an_account_that_is_called_as_a_schedule_is_gets_nothing_of_its_rights() {
    let t = house(NOON, OF_PROD).await;
    for (username, id) in [("mallory", "schedule:nightly"), ("schedule:nightly", "u-mallory")] {
        t.control("person", serde_json::json!({"username": username, "id": id})).await;
        t.control("join", serde_json::json!({"user": username, "room": "ops"})).await;
        t.say(username, "ops", "!scale staging web 3").await;
        t.silence_but("ops", &["You may not `scale` here"]).await;
    }
    assert!(t.runs().is_empty());
    t.end().await;
}

/// The folder of the documentation with its own schedule, and with others that would not begin.
#[test]
fn what_would_not_begin_at_night_is_found_by_check() {
    use houston::chat::policies;
    use houston::config::Config;
    use houston::diagnostic::Diagnostics;
    let page = include_str!("../../docs/playbooks.md");
    let example = page.split("```yaml\n").find(|block| block.starts_with("time_zone: ")).expect("it has one");
    let example = example.split("```").next().expect("it ends");
    let kinds = houston::app::kinds();
    let kinds: Vec<&dyn houston::playbook::steps::StepKind> = kinds.values().map(AsRef::as_ref).collect();
    let found = |more: &str| -> Vec<String> {
        let main = format!(
            "rocketchat: {{url: \"http://127.0.0.1:3000\", user_id: b0t, token: {{env: T}}}}\n{}\n{more}",
            example.trim_end()
        );
        let mut files = crate::config::files_of_page(page);
        files.push(("houston.yaml", &main));
        let (config, mut found) = Config::from_files(&files, &kinds);
        match config {
            Some(config) => policies::check(&config, &mut found),
            None => assert!(found.has_errors()),
        }
        let mut all = Diagnostics::new();
        found.sorted().into_iter().for_each(|finding| all.push(finding.clone()));
        all.sorted().iter().map(|finding| finding.to_string().replace('\n', " ")).collect()
    };
    assert_eq!(found(""), [] as [String; 0]);
    let rest = "cron: \"0 9 * * *\", room: ops";
    for (schedule, says) in [
        (format!("a: {{run: flush-cache prud /x, {rest}}}"), "`flush-cache prud /x` cannot be given"),
        (format!("a: {{run: flush-cache prod /x, {rest}}}"), "`schedule:a` may not `flush-cache` in #ops"),
        (format!("a: {{run: status prod, {rest}}}"), "`status` is not carried out by a playbook"),
        (format!("a: {{run: flush-cache prod /x --dry-run, {rest}}}"), "a schedule cannot say `--dry-run`"),
        (
            "a: {run: flush-cache prod /x, cron: \"0 25 * * *\", room: ops}".to_owned(),
            "is no cron expression",
        ),
    ] {
        let found = found(&format!("  {schedule}\n"));
        let at = |finding: &&String| finding.starts_with("error: houston.yaml:") && finding.contains(says);
        assert!(found.iter().any(|finding| at(&finding)), "{schedule}: {found:#?}");
    }
}

/// What was due before the store was brought back may have run: the one that knew it is gone.
#[tokio::test]
async fn what_another_may_have_begun_is_not_made_up_for() {
    use houston::runs::restored;
    use houston::store::{Batch, Store};
    let mut t = house(NOON, &format!("{NIGHTLY}, tell: carol}}\n")).await;
    t.silence("ops").await;
    t.stop().await;
    let store = t.wait("the store to be free", || Store::open(&t.state().join("journal")).ok()).await;
    let mut batch = Batch::new();
    restored::ask_about_what_was_said_before(time("2026-11-26T02:00:00Z"), &mut batch);
    store.commit(batch).await.expect("written");
    drop(store);
    t.clock.set(time("2026-11-26T02:20:00Z"));
    t.start_again().await;
    let parts = [
        "@carol",
        "*nightly*",
        "was due at 01:30",
        "whether it ran I do not know",
        "`!schedules run nightly`",
    ];
    t.expect("ops", &parts).await;
    t.restart().await;
    t.silence("ops").await;
    assert!(t.runs().is_empty());
    t.clock.set(time("2026-11-27T01:30:00Z"));
    let progress = t.progress("R-1").await;
    t.until(&progress, &["scaled in"]).await;
    t.end().await;
}

#[tokio::test]
async fn where_nobody_would_see_it_nothing_begins_and_the_leads_are_told() {
    let t = house(NOON, "  nightly: {run: scale staging web 2, cron: \"30 1 * * *\", room: nowhere}\n").await;
    t.clock.set(time("2026-11-26T01:30:00Z"));
    t.hears("carol", &["The schedule nightly did not begin: there is no room `nowhere` that I am in"]).await;
    assert!(t.runs().is_empty());
    t.say("alice", "ops", "!schedules").await;
    t.expect("ops", &["• last: :x: Thu 26 Nov 01:30: did not begin"]).await;
    t.end().await;
}
