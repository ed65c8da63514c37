//! Steps that wait for consent in the middle of their run: who may, what becomes of votes and of the world
//! meanwhile, and how the run goes on when nobody consents.

use std::time::Duration;

use houston::approvals::{Choice, Ineligible};
use houston::playbook::model::{AfterRetries, Plan};
use houston::playbook::steps::StepError;
use houston::runs::event::Outcome;
use houston::runs::state::{Decision, Phase, RunState};
use houston::runs::{About, Voted};

use super::bench::*;

fn asks(state: &RunState) -> bool {
    matches!(state.phase, Phase::Asking { .. })
}

/// `a`, then `b` with the consent of a lead, then `c`.
fn guarded() -> Plan {
    plan(vec![step("idem", "a"), asking(step("idem", "b")), step("idem", "c")])
}

fn otherwise_pause(mut plan: Plan) -> Plan {
    plan.steps[1].approval.as_mut().unwrap().otherwise = AfterRetries::Pause;
    plan
}

#[tokio::test]
async fn a_step_waits_with_its_lock_until_somebody_else_consents() {
    let (dir, bench) = Bench::new().await;
    let run = bench.create(guarded()).await;
    bench.until(run, "asking", asks).await;
    assert_eq!((bench.site.count("run a"), bench.site.count("run b")), (1, 0));
    assert!(!bench.engine.held().await.is_empty(), "it has changed things");
    // A row, not a task.
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while bench.engine.moving() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it comes to rest");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let own = bench.vote(run, "alice", Choice::Approve).await;
    assert_eq!(own, Voted::Ineligible { why: Ineligible::OwnRequest, first: true });
    assert_eq!(bench.vote(run, "bob", Choice::Approve).await, Voted::Decided);
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Succeeded));
    assert!(
        matches!(&state.asks[0].ballot.decision, Some(Decision::Approved { by, .. }) if by[0].username == "bob")
    );
    assert!(matches!(bench.vote(run, "carol", Choice::Deny).await, Voted::Closed(_)), "too late");
    assert_eq!((bench.site.count("run b"), bench.site.count("run c")), (1, 1));
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_denied_step_never_runs_and_what_was_done_is_undone() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(guarded()).await;
    bench.until(run, "asking", asks).await;
    assert_eq!(bench.vote(run, "bob", Choice::Deny).await, Voted::Decided);
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Failed));
    assert_eq!((bench.site.count("run b"), bench.site.count("undo b")), (0, 0));
    assert_eq!(bench.site.count("undo a"), 1);
    assert!(bench.site.facts().stands.is_empty());
    bench.engine.explain_denial(run, "not today".into()).await.unwrap();
    let state = bench.engine.state(run).await.unwrap();
    assert_eq!(state.steps[1].error.as_ref().unwrap().message, "bob denied it: not today");
    bench.nothing_left().await;
}

#[tokio::test]
async fn nobody_in_time_is_as_a_denial_also_while_nobody_runs() {
    let (dir, bench) = Bench::new().await;
    let run = bench.create(guarded()).await;
    bench.until(run, "asking", asks).await;
    bench.clock.advance(Duration::from_secs(900));
    bench.until(run, "reminded", |state| state.asks[0].ballot.reminded).await;
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.clock.advance(Duration::from_secs(900));
    bench.engine.start().await;
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Failed));
    assert!(matches!(state.asks[0].ballot.decision, Some(Decision::Expired { .. })));
    assert_eq!((bench.site.count("run b"), bench.site.count("undo a")), (0, 1));
}

#[tokio::test]
async fn a_playbook_may_pause_instead_and_a_retry_asks_again() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(otherwise_pause(guarded())).await;
    bench.until(run, "asking", asks).await;
    bench.vote(run, "bob", Choice::Deny).await;
    bench.until(run, "paused", |state| matches!(state.phase, Phase::Paused { step: 1 })).await;
    assert_eq!(bench.site.count("undo a"), 0);
    bench.engine.retry(run, &actor("alice"), Vec::new()).await.unwrap();
    let state = bench.until(run, "asking again", asks).await;
    assert_eq!(state.asks.len(), 2);
    assert!(state.asks[1].ballot.votes.is_empty(), "nothing of the first one counts");
    bench.vote(run, "bob", Choice::Approve).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_cancel_while_it_asks_undoes_what_was_done() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(guarded()).await;
    bench.until(run, "asking", asks).await;
    bench.engine.cancel(run, &actor("alice")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
    assert_eq!((bench.site.count("run b"), bench.site.count("undo a")), (0, 1));
    bench.nothing_left().await;
}

#[tokio::test]
async fn consent_is_to_one_card_and_to_what_was_asked_before_it_was_given() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, guarded())).await;
    let card_of_plan = bench.engine.state(run).await.unwrap().consent.card;
    bench.vote(run, "bob", Choice::Approve).await;
    let state = bench.until(run, "asking", asks).await;
    let approve = |about| bench.engine.vote(run, about, vote("carol", Choice::Approve), None);
    assert_eq!(approve(About::Card(&card_of_plan)).await.unwrap(), Voted::NotAsked);
    let before = state.asks[0].ballot.asked_at.checked_sub(Duration::from_millis(1)).unwrap();
    let early = About::Words { said_at: before, of: None };
    assert_eq!(approve(early).await.unwrap(), Voted::NotAsked, "it was meant for the plan");
    let now = bench.clock.now();
    let late_click = About::Words { said_at: now, of: Some("plan") };
    assert_eq!(approve(late_click).await.unwrap(), Voted::NotAsked);
    assert!(asks(&bench.engine.state(run).await.unwrap()));
    let meant = About::Words { said_at: now, of: Some("b") };
    assert_eq!(approve(meant).await.unwrap(), Voted::Decided);
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn who_approved_the_plan_counts_unless_the_step_says_otherwise() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, guarded())).await;
    bench.vote(run, "bob", Choice::Approve).await;
    bench.until(run, "asking", asks).await;
    assert_eq!(bench.vote(run, "bob", Choice::Approve).await, Voted::Decided);
    bench.done(run).await;
    let mut plan = approved_by(1, guarded());
    plan.steps[1].approval.as_mut().unwrap().not_approver = true;
    let run = bench.create(plan).await;
    bench.vote(run, "bob", Choice::Approve).await;
    bench.until(run, "asking", asks).await;
    let again = bench.vote(run, "bob", Choice::Approve).await;
    assert_eq!(again, Voted::Ineligible { why: Ineligible::ApprovedThePlan, first: true });
    assert_eq!(bench.vote(run, "carol", Choice::Approve).await, Voted::Decided);
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_world_that_moved_on_voids_the_consent_and_the_step_asks_anew() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(guarded()).await;
    bench.until(run, "asking", asks).await;
    bench.site.observed.lock().unwrap().insert("image".into(), "web:1.9".into());
    bench.vote(run, "bob", Choice::Approve).await;
    let state = bench.until(run, "asking anew", |state| state.asks.len() == 2 && asks(state)).await;
    assert!(matches!(&state.asks[0].ballot.decision, Some(Decision::Voided { differences, .. })
        if differences[0].what == "b: image"));
    assert_eq!(state.asks[1].preview.observed["image"], "web:1.9");
    assert_ne!(state.asks[0].ballot.digest, state.asks[1].ballot.digest);
    assert_eq!(bench.site.count("run b"), 0);
    bench.vote(run, "bob", Choice::Approve).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_step_that_cannot_be_looked_at_asks_all_the_same_and_says_so() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(otherwise_pause(guarded())).await;
    bench.until(run, "asking", asks).await;
    bench.vote(run, "bob", Choice::Deny).await;
    bench.until(run, "paused", |state| matches!(state.phase, Phase::Paused { .. })).await;
    bench.site.previews.lock().unwrap().push_back(Act::Fail(StepError::new("no such service")));
    bench.engine.retry(run, &actor("alice"), Vec::new()).await.unwrap();
    let state = bench.until(run, "asking again", asks).await;
    assert!(state.asks[1].preview.notes[0].contains("no such service"), "{:?}", state.asks[1].preview);
    bench.engine.cancel(run, &actor("alice")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
}

#[tokio::test]
async fn a_consent_that_is_taken_back_before_the_step_begins_keeps_it_from_beginning() {
    let (_dir, bench) = Bench::new().await;
    let mut plan = guarded();
    plan.steps[1].approval.as_mut().unwrap().policy = approved_by(2, guarded()).approval.unwrap();
    let run = bench.create(plan).await;
    bench.until(run, "asking", asks).await;
    assert!(matches!(bench.vote(run, "bob", Choice::Approve).await, Voted::Counted(_)));
    bench.engine.withdraw(run, &actor("bob"), false).await.unwrap();
    assert!(matches!(bench.vote(run, "carol", Choice::Approve).await, Voted::Counted(_)), "one is missing");
    // Between the second vote and the beginning there is a look at the world: it takes its time here.
    bench.site.previews.lock().unwrap().push_back(Act::HangDeaf);
    assert_eq!(bench.vote(run, "dave", Choice::Approve).await, Voted::Decided);
    bench.engine.withdraw(run, &actor("dave"), false).await.unwrap();
    bench.clock.advance(Duration::from_secs(61));
    let state = bench.until(run, "asking", asks).await;
    assert_eq!(state.asks.len(), 1, "the same request");
    assert_eq!(bench.site.count("run b"), 0);
    bench.vote(run, "erin", Choice::Approve).await;
    bench.clock.advance(Duration::from_secs(6));
    assert_eq!(bench.done_in_time(run).await.outcome(), Some(Outcome::Succeeded));
}
