//! What people do to runs before and while they move: votes, withdrawals, cancels, callers that go away.

use std::sync::Arc;
use std::time::Duration;

use houston::approvals::{Choice, Ineligible};
use houston::playbook::steps::StepError;
use houston::runs::event::Outcome;
use houston::runs::outbox::{self, Notice};
use houston::runs::state::{Decision, Phase, RunState};
use houston::runs::{About, Voted};

use super::bench::*;

fn deciding(state: &RunState) -> bool {
    matches!(state.phase, Phase::Deciding { .. })
}

#[tokio::test]
async fn two_different_people_other_than_the_requester_let_a_run_start() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(2, plan(vec![step("idem", "a")]))).await;
    let own = bench.vote(run, "alice", Choice::Approve).await;
    assert_eq!(own, Voted::Ineligible { why: Ineligible::OwnRequest, first: true });
    let again = bench.vote(run, "alice", Choice::Approve).await;
    assert_eq!(again, Voted::Ineligible { why: Ineligible::OwnRequest, first: false });
    assert!(matches!(bench.vote(run, "eve", Choice::Approve).await, Voted::Ineligible { .. }));
    assert!(matches!(bench.vote(run, "bob", Choice::Approve).await, Voted::Counted(_)));
    assert!(
        matches!(bench.vote(run, "bob", Choice::Approve).await, Voted::Counted(tally) if tally.missing() == 1)
    );
    assert_eq!(bench.vote(run, "carol", Choice::Approve).await, Voted::Decided);
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Succeeded));
    assert!(matches!(state.consent.decision, Some(Decision::Approved { by, .. }) if by.len() == 2));
    assert!(matches!(bench.vote(run, "dave", Choice::Deny).await, Voted::Closed(_)), "too late");
}

#[tokio::test]
async fn a_denial_ends_it_and_asks_why_once() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, plan(vec![step("idem", "a")]))).await;
    assert_eq!(bench.vote(run, "bob", Choice::Deny).await, Voted::Decided);
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Denied));
    bench.engine.explain_denial(run, "freeze".into()).await.unwrap();
    assert!(bench.engine.withdraw(run, &actor("bob"), false).await.is_err(), "a denial stands");
    let state = bench.engine.state(run).await.unwrap();
    assert!(
        matches!(state.consent.decision, Some(Decision::Denied { reason: Some(why), .. }) if why == "freeze")
    );
    let whys = outbox::waiting(&bench.store).unwrap();
    assert_eq!(whys.iter().filter(|entry| matches!(entry.notice, Notice::AskWhyDenied { .. })).count(), 1);
    assert_eq!(bench.site.count("run a"), 0);
}

#[tokio::test]
async fn a_vote_that_is_withdrawn_or_vanishes_counts_no_more_and_may_come_back() {
    let (dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(2, plan(vec![step("idem", "a")]))).await;
    bench.vote(run, "bob", Choice::Approve).await;
    bench.engine.withdraw(run, &actor("bob"), true).await.unwrap();
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    assert_eq!(bench.engine.state(run).await.unwrap().consent.vanished.len(), 1);
    assert!(matches!(bench.vote(run, "carol", Choice::Approve).await, Voted::Counted(_)));
    assert_eq!(bench.vote(run, "bob", Choice::Approve).await, Voted::Decided);
    let state = bench.done(run).await;
    assert_eq!(state.consent.vanished.len(), 0);
}

#[tokio::test]
async fn an_approval_expires_also_while_nobody_runs() {
    let (dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, plan(vec![step("idem", "a")]))).await;
    bench.clock.advance(Duration::from_secs(1799));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(deciding(&bench.engine.state(run).await.unwrap()));
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.clock.advance(Duration::from_secs(1));
    bench.engine.start().await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Expired));
    assert!(matches!(bench.vote(run, "bob", Choice::Approve).await, Voted::Closed(_)));
}

#[tokio::test]
async fn another_world_than_the_approved_one_voids_the_approval() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, plan(vec![step("idem", "a")]))).await;
    bench.site.observed.lock().unwrap().insert("image".into(), "web:1.9".into());
    bench.vote(run, "bob", Choice::Approve).await;
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Void));
    assert!(matches!(state.consent.decision, Some(Decision::Voided { differences, .. })
        if differences[0].what == "a: image" && differences[0].to.as_deref() == Some("web:1.9")));
}

#[tokio::test]
async fn a_world_that_cannot_be_looked_at_for_a_moment_is_looked_at_again() {
    let (_dir, bench) = Bench::new().await;
    bench
        .site
        .previews
        .lock()
        .unwrap()
        .extend([Act::Fail(StepError::new("no route").transient()), Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a")])).await;
    assert_eq!(bench.done_in_time(run).await.outcome(), Some(Outcome::Succeeded));
    // One that says no, or breaks, is final.
    for act in [Act::Fail(StepError::new("no such service")), Act::Panic] {
        bench.site.previews.lock().unwrap().push_back(act);
        let run = bench.create(plan(vec![step("idem", "a")])).await;
        assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Void));
    }
    bench.site.previews.lock().unwrap().extend(vec![Act::Fail(StepError::new("no route").transient()); 30]);
    let run = bench.create(plan(vec![step("idem", "a")])).await;
    assert_eq!(bench.done_in_time(run).await.outcome(), Some(Outcome::Void), "not for ever");
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_run_that_was_never_started_is_cancelled_at_once() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, plan(vec![step("idem", "a")]))).await;
    let state = bench.engine.cancel(run, &actor("alice")).await.unwrap();
    assert_eq!(state.outcome(), Some(Outcome::Cancelled));
    assert!(bench.engine.cancel(run, &actor("alice")).await.is_err());
    assert_eq!(bench.site.count("run a"), 0);
}

/// The caller may be an HTTP request that is hung up.
#[tokio::test]
async fn an_act_takes_its_course_when_its_caller_goes_away() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(approved_by(1, plan(vec![step("idem", "a")]))).await;
    bench.say().await;
    let engine = bench.engine.clone();
    let about = About::Words { said_at: bench.clock.now(), of: None };
    {
        let mut act =
            Box::pin(async move { engine.vote(run, about, vote("bob", Choice::Approve), None).await });
        // Polled once: the vote is appended, and waits for the device.
        let polled = futures_util::poll!(&mut act);
        assert!(polled.is_pending());
    }
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
    // The approval's card is said as well.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let newest = outbox::waiting(&bench.store).unwrap().last().unwrap().id;
    while !bench.engine.may_say(newest) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn nothing_is_kept_of_runs_that_are_over() {
    let (_dir, bench) = Bench::new().await;
    for _ in 0..20 {
        let run = bench.create(plan(vec![step("idem", "a")])).await;
        bench.done(run).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while bench.engine.moving() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "{} runs are still kept", bench.engine.moving());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_stop_lets_the_step_under_way_end_and_begins_no_other() {
    let (dir, bench) = Bench::new().await;
    let told = Arc::new(tokio::sync::Notify::new());
    bench.site.script("run a", [Act::Until(Arc::clone(&told))]);
    let run = bench.create(plan(vec![step("idem", "a"), step("idem", "b")])).await;
    bench.seen("run a", 1).await;
    let stop = bench.engine.shutdown(Duration::from_secs(60));
    tokio::join!(stop, async { told.notify_one() });
    assert_eq!((bench.site.count("run a"), bench.site.count("run b")), (1, 0));
    let (_copy, next) = bench.killed_here(dir.path()).await;
    next.engine.start().await;
    assert_eq!(next.done(run).await.outcome(), Some(Outcome::Succeeded));
    assert_eq!((next.site.count("run a"), next.site.count("run b")), (1, 1));
}
