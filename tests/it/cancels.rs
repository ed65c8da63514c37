//! A cancel wherever a run may be: the answer comes at once and says what is still under way, the end is looked at
//! and told. Before the consent and inside an update: `deploy`; in the queue: `locks`; in a freeze: `freezes`; while
//! a step asks for consent: `step_approvals`; inside a command on a host: `detached`; before another attempt, and when
//! a run is paused: `runs::steps`.

use houston::clock::Clock;

use crate::step_kinds::{house, house_of};
use crate::support::house::House;

const STACK: &str = "  - id: stack\n    swarm_stack: {name: shop, services: [web, api]}\n";
const NEVER: &str = "  - id: tell\n    notify: {room: general, text: never}\n";

/// What the room reads when everything is as it was.
async fn put_back(t: &House, progress: &crate::support::house::Said) {
    t.until(
        progress,
        &[":no_entry_sign: *R-1*", "*cancelled* by bob", "bring stack `shop` to its declaration: undone"],
    )
    .await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    assert!(t.said("general").is_empty());
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["Nothing is locked."]).await;
}

#[tokio::test]
async fn while_a_question_is_open_what_was_done_is_undone() {
    let ask = "  - id: sure\n    ask: {question: \"Keep {{ colour }}?\"}\n";
    let t = house(&format!("{STACK}{ask}{NEVER}"), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Keep red?"]).await;
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1; no step is under way. What was done is undone now."]).await;
    put_back(&t, &progress).await;
    // The question is over.
    t.reply("alice", "ops", &progress.id, "yes").await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn while_a_run_waits_for_time_what_was_done_is_undone_and_nobody_waits_for_the_rest() {
    let wait = "  - id: pause\n    wait: {for: 6h}\n";
    let mut t = house(&format!("{STACK}{wait}{NEVER}"), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    t.kill().await;
    t.start_again().await;
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1; no step is under way. What was done is undone now."]).await;
    put_back(&t, &progress).await;
    t.end().await;
}

/// An undo is what a cancel asks for: it goes on to its end, and the answer says so.
#[tokio::test]
async fn while_it_undoes_the_undo_goes_on() {
    let steps = "  - id: web\n    swarm_service: {action: update, service: web, version: \"1.8\"}\n  \
                 - id: check\n    http_check: {url: \"SANDBOX/api/info\", expect_body: nowhere, within: 1s}\n";
    let t = house_of(steps, Clock::system(), "", &[("web", 1)]).await;
    // What it goes back to takes its time.
    t.change_image("web", "demo/web:1.8-slow").await;
    t.wait_for_update("web", "completed").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["undoing: update `web` to `1.8`"]).await;
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect(
        "ops",
        &["R-1 undoes what was done already, and goes on with that. Still under way: update `web` to `1.8`"],
    )
    .await;
    t.until(&progress, &["*R-1*", "*cancelled* by bob", "undone"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8-slow");
    t.end().await;
}

#[tokio::test]
async fn where_the_playbook_keeps_what_was_done_the_answer_and_the_end_say_so() {
    let ask = "  - id: sure\n    ask: {question: \"Keep {{ colour }}?\"}\n";
    let mut files = crate::step_kinds::tour(&format!("{STACK}{ask}"));
    for (_, text) in &mut files {
        *text = text.replace("on_failure: undo", "on_failure: stop");
    }
    let prod = "approvals: {default: none}\n".to_owned();
    let t = House::with(crate::support::house::Setup { prod, files, ..Default::default() }).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Keep red?"]).await;
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1; no step is under way. What was done stays."]).await;
    t.until(&progress, &["*cancelled* by bob", "Done and kept: bring stack `shop` to its declaration."])
        .await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}
