//! Killed before and after every sync of a run's life: another engine on what is then on disk ends in the
//! world of the undisturbed run.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use houston::approvals::Choice;
use houston::clock::Clock;
use houston::playbook::model::{AfterRetries, Plan};
use houston::playbook::steps::StepError;
use houston::runs::event::{Found, Outcome, Resolution};
use houston::runs::outbox;
use houston::runs::state::{Phase, RunState};
use houston::store::{Batch, SyncPoint, Tree};
use jiff::Timestamp;

use super::bench::*;

/// For the engine to write what is under way, before it is looked at.
const GRACE: Duration = Duration::from_secs(60);

/// The disk and the world at one moment.
struct Plug {
    point: SyncPoint,
    disk: tempfile::TempDir,
    facts: Facts,
    now: Timestamp,
}

/// Lives through the run as people would: approves, lets time pass, says what is to be said, resolves what
/// is unknown from what the world shows. What was done before is not asked for again.
async fn live(bench: &Bench, plan: &Plan) -> Vec<RunState> {
    let open = bench.engine.list(1).unwrap();
    let run = match open.first() {
        Some(header) => header.run,
        None => bench.create(plan.clone()).await,
    };
    let mut asked = 0;
    loop {
        bench.say().await;
        let state = bench.done_in_time(run).await;
        match &state.phase {
            Phase::Deciding { .. } | Phase::Asking { .. } => {
                drop(bench.vote(run, "bob", Choice::Approve).await);
            }
            Phase::Unknown { step, .. } => {
                asked += 1;
                assert_eq!(asked, 1, "one question for one interruption");
                let planned = &state.plan.steps[*step];
                assert_eq!(planned.kind, "once", "only what may not be repeated is asked about");
                let happened = bench.site.facts().stands.contains_key(planned.id.as_str());
                let resolution = if happened { Resolution::Happened } else { Resolution::DidNotHappen };
                bench.engine.resolve(run, &actor("bob"), resolution).await.unwrap();
            }
            Phase::Done { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        bench.say().await;
        if outbox::waiting(&bench.store).unwrap().is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the outbox empties");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.nothing_left().await;
    vec![bench.engine.state(run).await.unwrap()]
}

fn scripted(site: &Site, failing: bool) {
    if failing {
        site.script("run last", [Act::FailAfter(StepError::new("broke").with_effects())]);
    }
}

/// What the audit log tells, once each. A start is told before it happens, so after an interruption perhaps
/// once more; and only an interruption asks a person to resolve something.
fn audited(dir: &Path) -> Vec<String> {
    let entries = houston::audit::tail(&dir.join("audit.jsonl"), 1000).unwrap();
    let mut actions: Vec<String> = entries.into_iter().map(|entry| entry.event.action).collect();
    actions.retain(|action| !matches!(action.as_str(), "started" | "resolved" | "torn"));
    actions.sort_unstable();
    actions
}

/// Returns at how many places the plug was pulled.
pub async fn killed_everywhere(plan: Plan, failing: bool) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let site: Arc<Site> = Arc::default();
    scripted(&site, failing);
    let plugs: Arc<Mutex<Vec<Plug>>> = Arc::default();
    let hook: Hook = Arc::new({
        let (plugs, site, clock, journal) =
            (plugs.clone(), site.clone(), clock.clone(), dir.path().to_owned());
        move |point| {
            let disk = tempfile::tempdir().unwrap();
            copy_folder(&journal, disk.path());
            plugs.lock().unwrap().push(Plug { point, disk, facts: site.facts().clone(), now: clock.now() });
        }
    });
    let bench = Bench::open_hooked(dir.path(), &clock, &site, hook);
    bench.engine.start().await;
    let undisturbed = live(&bench, &plan).await;
    let world = site.facts().clone();
    bench.engine.shutdown(GRACE).await;
    let story = audited(dir.path());
    let plugs = std::mem::take(&mut *plugs.lock().unwrap());
    for (index, plug) in plugs.iter().enumerate() {
        let place = format!("plug {index} of {} ({:?})", plugs.len(), plug.point);
        let site = Site::of(plug.facts.clone());
        scripted(&site, failing);
        let bench = Bench::open(plug.disk.path(), &Clock::manual(plug.now), &site);
        bench.engine.start().await;
        let ended = live(&bench, &plan).await;
        let outcome = |states: &[RunState]| states.iter().map(RunState::outcome).collect::<Vec<_>>();
        assert_eq!(outcome(&ended), outcome(&undisturbed), "{place}");
        let facts = site.facts().clone();
        assert_eq!(facts.stands, world.stands, "{place}: {:?}", site.log.lock().unwrap());
        // Said at least once, and always as the same message; only a question more where one was asked.
        let kinds = |facts: &Facts| {
            let mut kinds: Vec<String> = facts.said.keys().map(|(kind, _)| kind.clone()).collect();
            kinds.retain(|kind| kind != "question");
            kinds
        };
        assert_eq!(kinds(&facts), kinds(&world), "{place}");
        bench.engine.shutdown(GRACE).await;
        assert_eq!(audited(plug.disk.path()), story, "{place}");
    }
    plugs.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_every_repeat_class_is_the_same_wherever_it_is_killed() {
    let mut tried = step("idem", "retried");
    tried.retry = retry(3, AfterRetries::Fail);
    let steps =
        vec![step("safe", "look"), tried, step("keyed", "keyed"), wait_step(30), step("once", "once")];
    let places = killed_everywhere(approved_by(1, plan(steps)), false).await;
    assert!(places >= 24, "only {places} places: the hook does not see every sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_and_is_undone_is_the_same_wherever_it_is_killed() {
    let steps = vec![step("idem", "first"), step("keyed", "second"), step("idem", "last")];
    let places = killed_everywhere(plan(steps), true).await;
    assert!(places >= 20, "only {places} places");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_steps_wait_for_consent_is_the_same_wherever_it_is_killed() {
    let steps = vec![step("idem", "first"), asking(step("once", "second")), asking(step("idem", "last"))];
    let places = killed_everywhere(approved_by(1, plan(steps)), false).await;
    assert!(places >= 24, "only {places} places");
}

/// The outcome is as good as recorded once the step has happened: what was killed is never done twice.
#[tokio::test]
async fn a_cancelled_run_that_is_killed_while_it_undoes_goes_on_undoing() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run b", [Act::Hang]);
    bench.site.script("undo b", [Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a"), step("idem", "b")])).await;
    bench.seen("run b", 1).await;
    bench.engine.cancel(run, &actor("bob")).await.unwrap();
    bench.seen("undo b", 1).await;
    let (_copy, next) = bench.killed_here(dir.path()).await;
    next.engine.start().await;
    let state = next.done_in_time(run).await;
    assert_eq!(state.outcome(), Some(Outcome::Cancelled));
    assert_eq!((next.site.count("undo b"), next.site.count("undo a")), (2, 1));
    next.nothing_left().await;
}

/// A step of many minutes writes nothing, and yet an absence is told as what it was.
#[tokio::test]
async fn how_long_nobody_moved_a_run_is_known_to_about_a_second() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run a", [Act::HangDeaf]);
    let run = bench.create(plan(vec![step("idem", "a")])).await;
    bench.seen("run a", 1).await;
    let asked: Timestamp = bench.clock.now();
    bench.clock.advance(Duration::from_secs(500));
    let marked = || bench.store.get::<Timestamp>(Tree::Meta, b"alive").unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while marked() != Some(bench.clock.now()) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", marked());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.clock.advance(Duration::from_millis(700));
    let (copy, next) = bench.killed_here(dir.path()).await;
    next.clock.advance(Duration::from_secs(12));
    next.site.script("run a", [Act::HangDeaf]);
    next.engine.start().await;
    next.seen("run a", 2).await;
    let away = next.engine.state(run).await.unwrap().away.unwrap();
    assert_eq!((away.times, away.step), (1, Some(0)));
    assert_eq!(away.found, Some(Found::Harmless { only_reads: false }));
    let told = away.until.duration_since(away.since);
    assert!((12..=13).contains(&told.as_secs()), "{told} since {asked}");
    // A clock that was set back makes no absence of less than nothing.
    let (_copy, last) = next.killed_here(copy.path()).await;
    last.clock.set(asked);
    last.engine.start().await;
    let away = last.engine.state(run).await.unwrap().away.unwrap();
    assert_eq!((away.times, away.since), (2, away.until));
    assert_eq!(last.done(run).await.outcome(), Some(Outcome::Succeeded));
}

/// What an act of this process owes the audit log is told by that act; the start tells what earlier ones left.
#[tokio::test]
async fn the_start_does_not_tell_the_audit_log_what_an_act_of_its_own_is_about_to_tell() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), &Clock::manual(Timestamp::UNIX_EPOCH), &Arc::default());
    let run = bench.create(plan(vec![step("idem", "a")])).await;
    // As it is between an act's event and its line in the audit log.
    let mut batch = Batch::new();
    let key = [&run.0.to_be_bytes()[..], &1u32.to_be_bytes()].concat();
    batch.put(Tree::Owed, &key, &serde_json::json!({"run": run, "seq": 1, "what": "approved", "by": null}));
    bench.store.commit(batch).await.unwrap();
    bench.engine.start().await;
    bench.done(run).await;
    let told = |dir: &Path| houston::audit::tail(&dir.join("audit.jsonl"), 1000).unwrap();
    let reference = Some("R-1/1".to_owned());
    assert!(told(dir.path()).iter().all(|entry| entry.event.event != reference));
    let (copy, next) = bench.killed_here(dir.path()).await;
    next.engine.start().await;
    assert_eq!(told(copy.path()).iter().filter(|entry| entry.event.event == reference).count(), 1);
}
