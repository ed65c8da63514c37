//! What whoever uses Houston would expect without reading about it: to be told of what concerns them, once, and to be
//! understood where there is only one meaning.

use houston::chat::dispatch::MOST_WAITING;
use serde_json::json;

use crate::cli;
use crate::support::house::{House, Setup};

async fn answered(t: &House, who: &str, text: &str, parts: &[&str]) -> String {
    t.say(who, "ops", text).await;
    t.expect("ops", parts).await.text
}

#[tokio::test]
async fn whoever_asked_is_told_of_a_denial_but_not_of_their_own() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    answered(&t, "bob", "!deny R-1 not on a Friday", &["R-1 is denied."]).await;
    let told = t.denied("R-1", "bob").await;
    assert_eq!(
        told.text,
        "@alice *R-1* `deploy prod web 1.8` was denied by bob: not on a Friday\nNothing was changed."
    );
    assert_eq!(told.thread.as_ref(), Some(&card.id), "beside the card");
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("alice", &card, ":-1:").await;
    t.until(&card, &["*denied* by alice"]).await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn requests_for_the_same_name_each_other_as_long_as_both_wait() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let first = t.card().await;
    t.say("carol", "ops", "!deploy prod web 1.8 --reason hurry").await;
    let second = t.expect("ops", &[":clipboard:", "*R-2*", ":eyes: *R-1* by alice asks for the same."]).await;
    t.until(&first, &[":eyes: *R-2* by carol asks for the same."]).await;
    answered(&t, "bob", "!show R-1", &["*R-1*", ":eyes: *R-2* by carol", "_asked "]).await;
    // Another version is not the same.
    t.say("alice", "ops", "!deploy prod web 1.6").await;
    let third = t.card().await;
    assert!(!third.text.contains("the same"), "{}", third.text);
    answered(&t, "carol", "!cancel R-2", &["R-2 is cancelled."]).await;
    t.until(&second, &["*cancelled* by carol"]).await;
    let alone = t
        .wait("the first to stand alone", || {
            t.said("ops").into_iter().find(|said| said.id == first.id && !said.text.contains("the same"))
        })
        .await;
    assert!(alone.text.contains("*has* nobody yet"), "{}", alone.text);
    for run in ["R-1", "R-3"] {
        answered(&t, "alice", &format!("!cancel {run}"), &[&format!("{run} is cancelled.")]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn a_run_an_environment_or_a_person_is_enough_to_look_for() {
    let t = House::with(Setup { services: vec![("web", 1), ("staging-web", 1)], ..Setup::default() }).await;
    t.say("alice", "ops", "!scale staging web 2").await;
    t.ended("R-1", &["scaled in"]).await;
    t.say("bob", "ops", "!scale prod web 2").await;
    t.card().await;
    answered(&t, "bob", "!cancel R-2", &["R-2 is cancelled."]).await;
    for (line, shown, not) in [
        ("!runs prod", "scale prod web 2", "staging"),
        ("!runs --environment prod", "scale prod web 2", "staging"),
        ("!audit R-1", "scale staging web 2", "R-2"),
        ("!audit staging", "scale staging web 2", "prod"),
        ("!audit prod/web", "scale prod web 2", "staging"),
        ("!audit bob", "(bob)", "(alice)"),
        ("!audit @alice", "(alice)", "(bob)"),
    ] {
        let said = answered(&t, "carol", line, &[shown]).await;
        assert!(!said.contains(not), "{line}: {said}");
    }
    answered(&t, "carol", "!audit 1.8", &["Nothing about `1.8` in the audit log.", "a run (`R-1`)"]).await;
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reads_as_text_in_chat_and_at_a_terminal() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.9").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["*failed*"]).await;
    let logs = answered(&t, "alice", "!logs R-1", &["*R-1*", "── failed"]).await;
    let inside = logs.split("```").nth(1).expect("a block");
    assert!(inside.contains("── update web to 1.9 (") && !inside.contains('`'), "{inside}");

    let state = t.state().display().to_string();
    let show = |more: &[&str]| {
        let args: Vec<&str> =
            ["runs", "--state", &state, "show", "R-1"].iter().chain(more).copied().collect();
        tokio::task::block_in_place(|| cli::run(&args))
    };
    let (code, said, error) = show(&[]);
    assert_eq!((code, error.as_str()), (0, ""));
    for part in [
        "R-1 deploy prod web 1.9 (failed, asked for by alice)\n",
        "Z  asked for by alice in #ops, to be approved until ",
        "\n    1. update web to 1.9\n       image: demo/web:1.7 → demo/web:1.9\n",
        "Z  bob approves, by :+1:\n",
        "Z  step 1 (update web to 1.9) begins\n",
        "Z  step 1 (update web to 1.9) failed: ",
        "Z  ended: failed\n",
    ] {
        assert!(said.contains(part), "`{part}` in {said}");
    }
    assert!(!said.contains(['{', '`']), "{said}");
    let (code, said, _) = show(&["--json"]);
    let log: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(code == 0 && log["events"][0]["event"]["type"] == "created", "{said}");
    t.end().await;
}

#[tokio::test]
async fn a_lock_that_is_locked_again_says_what_becomes_of_its_reason() {
    let t = House::talk().await;
    answered(&t, "alice", "!lock prod/web hotfix", &[":lock: `prod/web` is locked"]).await;
    answered(
        &t,
        "alice",
        "!lock prod/web hotfix",
        &["`prod/web` is locked by alice", "your lock, and it stays"],
    )
    .await;
    answered(
        &t,
        "alice",
        "!lock prod/web the disk is full",
        &[":lock: `prod/web` stays locked, as it is since ", "replaces the earlier one: _hotfix_"],
    )
    .await;
    answered(&t, "bob", "!locks", &["`prod/web` is locked by alice", "the disk is full"]).await;
    answered(&t, "alice", "!unlock prod/web", &[":unlock: "]).await;
    t.end().await;
}

#[tokio::test]
async fn what_a_run_refuses_is_a_sentence() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.card().await;
    answered(&t, "carol", "!cancel R-1", &["R-1 is cancelled."]).await;
    for (line, said) in [
        ("!review R-1 all is well", "R-1 has no open review."),
        ("!resolve R-1 happened", "R-1 has no step whose outcome is unknown."),
        ("!cancel R-1", "R-1 has already ended: cancelled."),
    ] {
        assert_eq!(answered(&t, "bob", line, &["R-1"]).await, said);
    }
    t.end().await;
}

/// Whoever gives a command that would be carried out minutes later is told so; consent is kept.
#[tokio::test]
async fn more_acts_than_are_done_in_good_time_are_refused_aloud_and_no_reaction_is_lost() {
    let limits = "limits: {commands_per_minute: 10000}\n".to_owned();
    let t = House::with(Setup { houston: limits, ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    // Each act waits until its answer is said, and none can be.
    t.control("refuse", json!({"requests": 1_000_000})).await;
    let more = 20;
    for _ in 0..MOST_WAITING + more {
        t.say("carol", "ops", "!withdraw R-99").await;
    }
    t.react("bob", &card, ":+1:").await;
    t.control("clear", json!({})).await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    let (mut done, mut refused) = (0, 0);
    t.wait("every answer", || {
        let said = t.said("ops");
        let with = |part: &str| said.iter().filter(|said| said.text.contains(part)).count();
        done = with("There is no run R-99");
        refused = with(&format!("I did nothing with `withdraw R-99`: {MOST_WAITING} others wait"));
        (done + refused == MOST_WAITING + more).then_some(())
    })
    .await;
    assert!(refused > 0 && done >= MOST_WAITING, "{done} done, {refused} refused");
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}
