//! What is kept no longer than it has to be, what stays whatever its age, and what people are told of the rest.

use std::time::Duration;

use houston::clock::Clock;
use houston::runs::retention::{What, of};
use houston::store::Store;

use crate::cli::run;
use crate::restore::{destroy, typed};
use crate::support::house::{House, Setup};

const DAY: Duration = Duration::from_secs(86_400);

const ROLES: &str = "access:\n  roles:\n    operator: {users: [alice]}\n    lead: {users: [bob, carol]}\n\
    approvals:\n  break_glass: {from: [lead]}\n";

async fn house(retention: &str) -> (House, Clock) {
    let clock = Clock::manual(Clock::system().now());
    let houston = format!("{ROLES}retention: {retention}\n");
    (House::with(Setup { houston, clock: clock.clone(), ..Setup::default() }).await, clock)
}

async fn deploy(t: &House, clock: &Clock, version: &str) {
    t.say("alice", "ops", &format!("!deploy prod web {version}")).await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.tick_until(clock, "the end", &["@alice", "deployed in"]).await;
}

async fn denied(t: &House, run: &str) {
    t.say("alice", "ops", "!scale prod web 3").await;
    let card = t.card().await;
    t.react("bob", &card, ":-1:").await;
    t.until(&card, &["*denied* by bob"]).await;
    t.expect("ops", &["@bob why?"]).await;
    t.denied(run, "bob").await;
}

/// What the audit log says was removed, once it says so.
async fn removed(t: &House, target: &str, result: &str) {
    t.wait("the removal to be audited", || {
        let entries = t.audited().into_iter().map(|entry| entry.event);
        let mut found = entries.filter(|event| event.action == "removed");
        let is_it = |found: &str, wanted: &str| found == wanted;
        found
            .any(|event| {
                is_it(event.target.as_deref().unwrap_or_default(), target)
                    && is_it(event.result.as_deref().unwrap_or_default(), result)
            })
            .then_some(())
    })
    .await;
}

async fn answered(t: &House, who: &str, text: &str, parts: &[&str]) {
    t.say(who, "ops", text).await;
    t.expect("ops", parts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_runs_go_and_what_is_still_needed_stays() {
    let (mut t, clock) = house("{runs: {for: 30d}, transcripts: {for: 7d}}").await;
    t.newcomer("dave").await;
    deploy(&t, &clock, "1.8").await;
    deploy(&t, &clock, "1.6").await;
    deploy(&t, &clock, "1.8").await;
    denied(&t, "R-4").await;
    // Nobody has reviewed it.
    t.say("carol", "ops", "!scale prod web 2 --break-glass \"the shop is down\"").await;
    t.hears("bob", &["*BREAK-GLASS* *R-5*"]).await;
    t.tick_until(&clock, "the end", &["@carol", "scaled in"]).await;
    t.forget_what_was_said(&["ops"]);

    clock.advance(8 * DAY);
    removed(&t, "R-1…R-3 R-5", "4 transcripts by `retention.transcripts.for: 7d`").await;
    t.wait("the files to go", || {
        let left = std::fs::read_dir(t.state().join("transcripts")).ok()?.count();
        (left == 0).then_some(())
    })
    .await;
    answered(
        &t,
        "alice",
        "!logs R-1",
        &["The output of R-1 was removed on ", " by `retention.transcripts.for: 7d`"],
    )
    .await;
    answered(&t, "alice", "!logs R-4", &["R-4 has written nothing."]).await;
    answered(&t, "alice", "!show R-1", &["*R-1*", "deployed in"]).await;

    clock.advance(23 * DAY);
    removed(&t, "R-1…R-2 R-4", "3 runs by `retention.runs.for: 30d`").await;
    t.forget_what_was_said(&["ops"]);
    let gone = ["R-1 was removed on ", " by `retention.runs.for: 30d`."];
    t.say("alice", "ops", "!show R-1").await;
    let said = t.expect("ops", &gone).await;
    for part in
        ["The audit log still has:", "requested deploy prod web 1.8 (alice)", "approved", "(bob)", "started"]
    {
        assert!(said.text.contains(part), "`{part}` is missing: {}", said.text);
    }
    t.say("dave", "ops", "!show R-1").await;
    let said = t.expect("ops", &["What the audit log has of it is for operators and leads."]).await;
    assert!(!said.text.contains("deploy"), "{}", said.text);
    answered(&t, "alice", "!logs R-4", &["R-4 was removed on "]).await;
    answered(&t, "bob", "!cancel R-1", &gone).await;
    answered(&t, "alice", "!show R-9", &["There is no run R-9"]).await;
    answered(&t, "alice", "!show R-5", &["*BREAK-GLASS* by carol", "*review open*"]).await;
    // What it goes back to is what R-3 has put aside.
    answered(&t, "alice", "!rollback prod web --dry-run", &["1.6"]).await;
    answered(&t, "alice", "!show R-3", &["*R-3*", "deployed in"]).await;

    // A kill brings nothing back, and a number is not given twice.
    t.kill().await;
    t.start_again().await;
    answered(&t, "alice", "!show R-1", &gone).await;
    denied(&t, "R-6").await;
    assert_eq!(t.runs().last().map(String::as_str), Some("scale prod web 3"));
    answered(&t, "alice", "!show R-6", &["*R-6*", "*denied* by bob"]).await;
    let state = t.state().display().to_string();
    let cli = |args: &[&str]| tokio::task::block_in_place(|| run(args));
    let (code, _, error) = cli(&["runs", "--state", &state, "show", "R-1"]);
    assert!(code == 1 && error.contains("R-1 was removed on "), "{error}");
    let (code, verified, _) = cli(&["audit", "--state", &state, "verify"]);
    assert!(code == 0 && verified.contains("the chain holds"), "{verified}");

    // Once it is reviewed, it is as old as the others.
    answered(&t, "bob", "!review R-5 was needed", &["R-5"]).await;
    clock.advance(Duration::from_secs(3700));
    removed(&t, "R-5", "1 run by `retention.runs.for: 30d`").await;
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_not_taken_for_lost() {
    let (mut t, clock) = house("{runs: {for: 30d}}").await;
    let export = |name: &str| {
        let path = t.state().with_file_name(name).display().to_string();
        let state = t.state().display().to_string();
        let command = format!("{} store --state {state} export > {path}", env!("CARGO_BIN_EXE_houston"));
        tokio::task::block_in_place(|| typed(&command));
        path
    };
    let before = export("before.jsonl");
    denied(&t, "R-1").await;
    t.forget_what_was_said(&["ops"]);
    clock.advance(31 * DAY);
    removed(&t, "R-1", "1 run by `retention.runs.for: 30d`").await;
    let after = export("after.jsonl");
    for file in [before, after] {
        t.stop().await;
        let journal = t.state().join("journal");
        destroy(&journal);
        std::fs::remove_dir_all(&journal).unwrap();
        let state = t.state().display().to_string();
        let (code, said, error) =
            tokio::task::block_in_place(|| run(&["store", "--state", &state, "import", &file]));
        assert!(code == 0 && said.contains("The audit log knows of nothing beyond it."), "{said}{error}");
        t.start_again().await;
        answered(&t, "alice", "!show R-1", &["R-1 was removed on ", " by `retention.runs.for: 30d`."]).await;
    }
    denied(&t, "R-2").await;
    answered(&t, "alice", "!show R-2", &["*R-2*", "*denied* by bob"]).await;
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_time_is_in_force_without_a_restart() {
    let (mut t, clock) = house("{runs: {for: 300d}}").await;
    denied(&t, "R-1").await;
    t.forget_what_was_said(&["ops"]);
    clock.advance(40 * DAY);
    answered(&t, "alice", "!show R-1", &["*denied* by bob"]).await;
    t.rewrite("houston.yaml", "{runs: {for: 300d}}", "{runs: {for: 30d}}");
    answered(&t, "carol", "!reload", &["changed how long what is kept is kept"]).await;
    clock.advance(Duration::from_secs(3700));
    removed(&t, "R-1", "1 run by `retention.runs.for: 30d`").await;
    t.stop().await;
    let store = Store::open(&t.state().join("journal")).unwrap();
    let found = of(&store, What::Run, houston::ids::RunId(1)).unwrap().expect("is known");
    assert_eq!(found.rule, "retention.runs.for: 30d");
    drop(store);
    t.start_again().await;
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_free_is_given_back_by_hand_while_nobody_uses_the_store() {
    let (mut t, _) = house("{}").await;
    denied(&t, "R-1").await;
    t.forget_what_was_said(&["ops"]);
    let state = t.state().display().to_string();
    let compact = || tokio::task::block_in_place(|| run(&["store", "--state", &state, "compact"]));
    let (code, _, error) = compact();
    assert!(code == 1 && error.contains("is in use"), "{error}");
    t.stop().await;
    let (code, said, error) = compact();
    assert!(
        code == 0 && said.starts_with("the database takes ") && said.contains(", and took "),
        "{said}{error}"
    );
    t.start_again().await;
    answered(&t, "alice", "!show R-1", &["*denied* by bob"]).await;
    t.stop().await;
    let none = t.state().with_file_name("none").display().to_string();
    let (code, _, error) = tokio::task::block_in_place(|| run(&["store", "--state", &none, "compact"]));
    assert!(code == 1 && error.contains("there is no store in"), "{error}");
    t.start_again().await;
    t.end().await;
}
