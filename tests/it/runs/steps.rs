//! One run's steps: attempts, pauses, waits, timeouts, unknown outcomes, undo, cancel.

use std::time::Duration;

use houston::ids::RunId;
use houston::playbook::model::{AfterRetries, OnFailure, PlannedUndo};
use houston::playbook::steps::{Effects, Probed, StepError};
use houston::runs::event::{Event, Outcome, Resolution};
use houston::runs::state::{Phase, RunState, StepState};

use super::bench::*;

fn transient() -> StepError {
    StepError::new("not now").transient()
}

fn count(bench: &Bench, run: RunId, what: impl Fn(&Event) -> bool) -> usize {
    bench.engine.events(run).unwrap().iter().filter(|record| what(&record.event)).count()
}

#[tokio::test]
async fn steps_run_in_order_and_once() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(plan(vec![step("idem", "a"), step("keyed", "b"), step("once", "c")])).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
    assert_eq!(*bench.site.log.lock().unwrap(), ["run a", "run b", "run c"]);
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_after_its_backoff_also_after_a_restart() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::Fail(transient()), Act::Fail(transient())]);
    let mut a = step("idem", "a");
    a.retry = retry(3, AfterRetries::Fail);
    let run = bench.create(plan(vec![a])).await;
    let waits = |state: &RunState| matches!(state.steps[0].state, StepState::RetryAt { .. });
    bench.until(run, "waiting for its second attempt", waits).await;
    let (_dir, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bench.site.count("run a"), 1, "not before the backoff is over");
    bench.clock.advance(Duration::from_secs(2));
    bench.seen("run a", 2).await;
    bench.until(run, "waiting for its third attempt", waits).await;
    bench.clock.advance(Duration::from_secs(3));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bench.site.count("run a"), 2, "the backoff doubles");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
    assert_eq!(bench.site.count("run a"), 3);
}

#[tokio::test]
async fn a_terminal_failure_is_not_tried_again() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::Fail(StepError::new("no"))]);
    let mut a = step("idem", "a");
    a.retry = retry(3, AfterRetries::Pause);
    let run = bench.create(plan(vec![a])).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Failed));
    assert_eq!(bench.site.count("run a"), 1);
}

#[tokio::test]
async fn no_attempt_begins_after_max_elapsed() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run a", vec![Act::Fail(transient()); 9]);
    let mut a = step("idem", "a");
    a.retry = retry(9, AfterRetries::Fail);
    a.retry.max_elapsed = Some(Duration::from_secs(5));
    let run = bench.create(plan(vec![a])).await;
    // At 0 s and after 2 s; after 6 s it would be too late.
    let waits = |state: &RunState| matches!(state.steps[0].state, StepState::RetryAt { .. });
    bench.until(run, "waiting for its second attempt", waits).await;
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Failed));
    assert_eq!(bench.site.count("run a"), 2);
}

#[tokio::test]
async fn used_up_attempts_pause_until_somebody_retries() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::Fail(transient()), Act::Fail(transient())]);
    let mut a = step("idem", "a");
    a.retry = retry(1, AfterRetries::Pause);
    let run = bench.create(plan(vec![a])).await;
    let paused = |state: &RunState| matches!(state.phase, Phase::Paused { .. });
    bench.until(run, "paused", paused).await;
    let (_dir, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    bench.engine.retry(run, &actor("bob"), Vec::new()).await.unwrap();
    bench.seen("run a", 2).await;
    bench.until(run, "paused again", paused).await;
    assert!(bench.engine.resolve(run, &actor("bob"), Resolution::Happened).await.is_err());
    bench.engine.retry(run, &actor("bob"), Vec::new()).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_paused_run_can_be_cancelled_and_undoes() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::Fail(transient())]);
    let mut b = step("idem", "b");
    b.retry = retry(1, AfterRetries::Pause);
    let run = bench.create(plan(vec![step("idem", "a"), b])).await;
    bench.until(run, "paused", |state| matches!(state.phase, Phase::Paused { .. })).await;
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
    assert!(bench.site.facts().stands.is_empty());
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_run_that_waits_for_another_attempt_can_be_cancelled_and_undoes_what_the_first_left() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::FailAfter(transient().with_effects())]);
    let mut a = step("idem", "a");
    a.retry = retry(2, AfterRetries::Fail);
    let run = bench.create(plan(vec![a])).await;
    bench.until(run, "waiting", |state| matches!(state.steps[0].state, StepState::RetryAt { .. })).await;
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
    assert!(bench.site.facts().stands.is_empty());
}

#[tokio::test]
async fn what_an_earlier_attempt_left_is_undone_though_the_last_one_left_nothing() {
    let (_dir, bench) = Bench::new().await;
    bench
        .site
        .script("run a", [Act::FailAfter(transient().with_effects()), Act::Fail(StepError::new("refused"))]);
    let mut a = step("idem", "a");
    a.retry = retry(2, AfterRetries::Fail);
    let run = bench.create(plan(vec![a])).await;
    assert_eq!(bench.done_in_time(run).await.outcome(), Some(Outcome::Failed));
    assert!(bench.site.facts().stands.is_empty());
}

#[tokio::test]
async fn a_wait_goes_on_where_it_was_after_a_restart() {
    let (dir, bench) = Bench::new().await;
    let run = bench.create(plan(vec![wait_step(60), step("idem", "a")])).await;
    let waiting = |state: &RunState| matches!(state.phase, Phase::Waiting { .. });
    bench.until(run, "waiting", waiting).await;
    bench.clock.advance(Duration::from_secs(59));
    let (_dir, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(waiting(&bench.engine.state(run).await.unwrap()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_a_wait_and_does_not_lose_it() {
    let (_dir, bench) = Bench::new().await;
    let run = bench.create(plan(vec![wait_step(60)])).await;
    bench.until(run, "waiting", |state| matches!(state.phase, Phase::Waiting { .. })).await;
    let start = bench.clock.now();
    for _ in 0..50 {
        bench.clock.set(start + Duration::from_secs(60));
        bench.clock.set(start);
        tokio::task::yield_now().await;
    }
    bench.clock.set(start + Duration::from_secs(61));
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_question_waits_for_its_answer_over_a_restart() {
    let (dir, bench) = Bench::new().await;
    let mut ask = step("ask", "sure");
    ask.params = serde_json::json!({ "question": "sure?" });
    ask.undo = PlannedUndo::NotNeeded;
    let run = bench.create(plan(vec![ask, step("idem", "a")])).await;
    bench.until(run, "waiting", |state| matches!(state.phase, Phase::Waiting { .. })).await;
    bench.say().await;
    let (_dir, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    bench.engine.answer(run, &actor("bob"), "yes".into()).await.unwrap();
    let state = bench.done(run).await;
    assert_eq!(state.outputs()["sure"], serde_json::json!({ "answer": "yes", "by": "bob" }));
    assert!(bench.engine.answer(run, &actor("bob"), "no".into()).await.is_err());
    bench.say().await;
    let said = bench.site.facts().said.clone();
    assert_eq!(said.keys().filter(|(kind, _)| kind == "question").count(), 1);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_asked_to_end_and_undone() {
    for act in [Act::Hang, Act::HangDeaf] {
        let (_dir, bench) = Bench::new().await;
        bench.site.script("run a", [act]);
        let mut a = step("idem", "a");
        a.timeout = Some(Duration::from_secs(30));
        let run = bench.create(plan(vec![a])).await;
        bench.seen("run a", 1).await;
        let state = bench.done_in_time(run).await;
        assert_eq!(state.outcome(), Some(Outcome::Failed));
        let error = state.steps[0].error.as_ref().unwrap();
        assert!(error.message.starts_with("it took longer than 30 s"), "{error}");
        assert_eq!(error.effects, Effects::Possible);
        assert_eq!(bench.site.count("undo a"), 1);
    }
}

#[tokio::test]
async fn a_step_that_panics_is_a_bug_and_no_end_of_the_engine() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::Panic]);
    let run = bench.create(plan(vec![step("idem", "a")])).await;
    let state = bench.done(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Failed));
    assert!(state.steps[0].error.as_ref().unwrap().message.contains("bug in Houston"));
    let next = bench.create(plan(vec![step("idem", "a")])).await;
    assert_eq!(bench.done(next).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn undo_goes_in_reverse_and_takes_the_failed_step_with_it() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run c", [Act::FailAfter(StepError::new("broke").with_effects())]);
    let mut b = step("idem", "b");
    b.undo = PlannedUndo::Step { kind: "once".into(), params: serde_json::json!({ "name": "b-undone" }) };
    let run = bench.create(plan(vec![step("idem", "a"), b, step("keyed", "c")])).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Failed));
    assert_eq!(
        *bench.site.log.lock().unwrap(),
        ["run a", "run b", "run c", "undo c", "run b-undone", "undo a"]
    );
    let facts = bench.site.facts().clone();
    assert_eq!(facts.stands.keys().collect::<Vec<_>>(), ["b", "b-undone"]);
    assert_ne!(facts.tokens["b-undone"], format!("houston-{run}-1"), "not the token of what it undoes");
}

#[tokio::test]
async fn a_playbook_that_stops_leaves_what_was_done() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::Fail(StepError::new("no"))]);
    let mut plan = plan(vec![step("idem", "a"), step("idem", "b")]);
    plan.on_failure = OnFailure::Stop;
    let run = bench.create(plan).await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Failed));
    assert_eq!(bench.site.facts().stands.len(), 1);
}

#[tokio::test]
async fn an_undo_that_keeps_failing_is_stuck_until_it_is_retried_or_abandoned() {
    let (dir, bench) = Bench::new().await;
    let no = || Act::Fail(StepError::new("cannot"));
    bench.site.script("run b", [no()]);
    bench.site.script("undo a", [no(), no(), no(), no(), no(), no()]);
    let run = bench.create(plan(vec![step("idem", "a"), step("idem", "b")])).await;
    let state = bench.done_in_time(run).await;
    assert_eq!((state.phase, bench.site.count("undo a")), (Phase::Stuck, 3));
    assert_eq!(bench.engine.held().await.len(), 2, "a stuck run keeps its locks");
    assert!(bench.engine.cancel(run, &actor("bob")).await.is_err());
    bench.engine.retry(run, &actor("bob"), Vec::new()).await.unwrap();
    bench.seen("undo a", 4).await;
    let state = bench.done_in_time(run).await;
    assert_eq!((state.phase, bench.site.count("undo a")), (Phase::Stuck, 6));
    let (_dir, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    bench.engine.abandon(run, &actor("bob"), "done by hand".into()).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Abandoned));
    bench.nothing_left().await;
}

/// A run whose step was started by an engine that is gone.
async fn interrupted(kind: &str) -> (tempfile::TempDir, tempfile::TempDir, Bench, RunId) {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a"), step(kind, "b")])).await;
    bench.seen("run b", 1).await;
    let (copy, next) = bench.killed_here(dir.path()).await;
    (dir, copy, next, run)
}

#[tokio::test]
async fn an_interrupted_step_that_may_not_be_repeated_is_a_persons_matter() {
    let unknown = |state: &RunState| matches!(state.phase, Phase::Unknown { step: 1, .. });
    for (resolution, outcome, runs, stands) in [
        (Resolution::Happened, Outcome::Succeeded, 1, vec!["a"]),
        (Resolution::DidNotHappen, Outcome::Succeeded, 2, vec!["a", "b"]),
        (Resolution::Undo, Outcome::Failed, 1, vec![]),
    ] {
        let (_dir, _copy, bench, run) = interrupted("once").await;
        bench.engine.start().await;
        bench.until(run, "unknown", unknown).await;
        assert_eq!(bench.site.count("run b"), 1, "never again by itself");
        bench.engine.resolve(run, &actor("bob"), resolution).await.unwrap();
        assert_eq!(bench.done(run).await.outcome(), Some(outcome), "{resolution:?}");
        assert_eq!(bench.site.count("run b"), runs);
        assert_eq!(bench.site.facts().stands.keys().collect::<Vec<_>>(), stands);
        bench.nothing_left().await;
    }
}

#[tokio::test]
async fn an_interrupted_step_is_probed_and_what_is_found_decides() {
    let json = serde_json::json!({ "found": true });
    for (answer, runs) in [
        (Probed::Happened(json.clone()), 1),
        (Probed::DidNotHappen, 2),
        (Probed::UnderWay("it runs".to_owned()), 2),
    ] {
        let (_dir, _copy, bench, run) = interrupted("keyed").await;
        bench.site.probes.lock().unwrap().push_back(Ok(answer.clone()));
        bench.engine.start().await;
        assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded), "{answer:?}");
        assert_eq!((bench.site.count("probe b"), bench.site.count("run b")), (1, runs), "{answer:?}");
    }
    let (_dir, _copy, bench, run) = interrupted("keyed").await;
    bench.site.probes.lock().unwrap().push_back(Ok(Probed::Unknown("gone".into())));
    bench.engine.start().await;
    bench.until(run, "unknown", |state| matches!(state.phase, Phase::Unknown { .. })).await;
}

#[tokio::test]
async fn a_probe_that_cannot_look_now_looks_again_and_can_be_given_up() {
    let (_dir, _copy, bench, run) = interrupted("keyed").await;
    bench.site.probes.lock().unwrap().extend(vec![Err(transient()); 3]);
    bench.engine.start().await;
    assert_eq!(bench.done_in_time(run).await.outcome(), Some(Outcome::Succeeded));
    assert_eq!(bench.site.count("probe b"), 4);

    let (_dir, _copy, bench, run) = interrupted("keyed").await;
    bench.site.probes.lock().unwrap().extend(vec![Err(transient()); 100]);
    bench.engine.start().await;
    bench.seen("probe b", 1).await;
    bench.engine.abandon(run, &actor("bob"), "the host is gone".into()).await.unwrap();
    bench.done(run).await;
    bench.nothing_left().await;
}

#[tokio::test]
async fn an_interrupted_step_that_then_fails_without_effects_is_undone_all_the_same() {
    let (_dir, _copy, bench, run) = interrupted("idem").await;
    bench.site.script("run b", [Act::Fail(StepError::new("refused"))]);
    bench.engine.start().await;
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Failed));
    assert_eq!(bench.site.count("undo b"), 1);
}

#[tokio::test]
async fn cancel_reaches_a_step_that_hangs_and_what_it_did_is_undone() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::Hang]);
    let run = bench.create(plan(vec![step("idem", "a"), step("idem", "b"), step("idem", "c")])).await;
    bench.seen("run b", 1).await;
    assert!(bench.engine.abandon(run, &actor("bob"), "now".into()).await.is_err(), "a step is under way");
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
    assert_eq!(
        (bench.site.count("undo b"), bench.site.count("undo a"), bench.site.count("run c")),
        (1, 1, 0)
    );
    bench.nothing_left().await;
}

#[tokio::test]
async fn cancel_ends_waits_and_unasked_answers() {
    for kind in ["wait", "ask"] {
        let (_dir, bench) = Bench::new().await;
        let mut second = wait_step(60);
        second.kind = kind.to_owned();
        second.params = serde_json::json!({ "for": "60s", "question": "sure?" });
        let run = bench.create(plan(vec![step("idem", "a"), second])).await;
        bench.until(run, "waiting", |state| matches!(state.phase, Phase::Waiting { .. })).await;
        bench.engine.cancel(run, &actor("bob")).await.unwrap();
        assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
        assert!(bench.site.facts().stands.is_empty());
    }
}

#[tokio::test]
async fn a_cancel_that_came_before_the_unknown_step_was_resolved_is_obeyed() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a"), step("once", "b")])).await;
    bench.seen("run b", 1).await;
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    let (_copy, next) = bench.killed_here(_dir.path()).await;
    next.engine.start().await;
    next.until(run, "unknown", |state| matches!(state.phase, Phase::Unknown { .. })).await;
    next.engine.resolve(run, &actor("bob"), Resolution::DidNotHappen).await.unwrap();
    assert_eq!(next.done(run).await.outcome(), Some(Outcome::Cancelled));
    assert_eq!(next.site.count("run b"), 1);
}

#[tokio::test]
async fn shutdown_starts_no_further_step_and_the_next_start_goes_on() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a"), step("idem", "b")])).await;
    bench.seen("run b", 1).await;
    bench.engine.shutdown(Duration::from_millis(10)).await;
    let (_copy, next) = bench.killed_here(dir.path()).await;
    assert_eq!(next.engine.start().await, [run]);
    assert_eq!(next.done(run).await.outcome(), Some(Outcome::Succeeded));
    assert_eq!(count(&next, run, |event| matches!(event, Event::StepStarted { step: 1, .. })), 2);
}

#[tokio::test]
async fn how_long_a_step_usually_takes_is_known_from_earlier_runs() {
    let (_dir, bench) = Bench::new().await;
    let mut a = step("idem", "a");
    a.retry = retry(2, AfterRetries::Fail);
    for earlier in 0..2 {
        bench.site.script("run a", [Act::Fail(transient())]);
        let run = bench.create(plan(vec![a.clone()])).await;
        let waits = |state: &RunState| matches!(state.steps[0].state, StepState::RetryAt { .. });
        bench.until(run, "waiting for its second attempt", waits).await;
        bench.clock.advance(Duration::from_secs(2));
        assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded), "{earlier}");
    }
    bench.site.script("run a", [Act::Hang]);
    let run = bench.create(plan(vec![a])).await;
    bench.seen("run a", 5).await;
    assert_eq!(bench.engine.live(run).await.usual, Some(Duration::from_secs(2)));
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Cancelled));
}
