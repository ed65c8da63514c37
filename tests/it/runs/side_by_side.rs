//! Runs beside each other: locks, queues, many at once.

use std::time::Duration;

use houston::approvals::Choice;
use houston::ids::RunId;
use houston::playbook::model::Plan;
use houston::playbook::steps::StepError;
use houston::runs::Asked;
use houston::runs::event::{EVENT_VERSION, Event, Outcome};
use houston::runs::locks::ManualLock;
use houston::runs::state::{Phase, RunState};
use houston::store::{Batch, Tree};

use super::bench::*;

fn queued(state: &RunState) -> bool {
    matches!(state.phase, Phase::Queued { .. })
}

/// A plan over one service; its step hangs until it is cancelled where `script` says so.
fn on(service: &str) -> Plan {
    plan(vec![step("idem", service)])
}

#[tokio::test]
async fn services_run_side_by_side_and_one_service_queues_in_the_order_of_asking() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run web", [Act::Hang]);
    let first = bench.create(on("web")).await;
    bench.seen("run web", 1).await;
    let second = bench.create(on("web")).await;
    bench.until(second, "queued", queued).await;
    let third = bench.create(on("web")).await;
    bench.until(third, "queued", queued).await;
    let other = bench.create(on("api")).await;
    assert_eq!(bench.done(other).await.outcome(), Some(Outcome::Succeeded));
    let state = bench.engine.state(third).await.unwrap();
    let Phase::Queued { behind } = &state.phase else { panic!("{:?}", state.phase) };
    assert!(behind[0].starts_with("R-1 ") && behind[1].starts_with("R-2 "), "{behind:?}");
    // The queue is the same after a restart.
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.site.script("run web", [Act::Hang, Act::Hang, Act::Hang]);
    bench.engine.start().await;
    bench.seen("run web", 2).await;
    assert!(queued(&bench.engine.state(second).await.unwrap()));
    for (run, seen) in [(first, 3), (second, 4)] {
        bench.engine.cancel(run, &actor("bob")).await.unwrap();
        bench.done(run).await;
        bench.seen("run web", seen).await;
    }
    assert!(bench.engine.state(second).await.unwrap().started_at.is_some());
    bench.engine.cancel(third, &actor("bob")).await.unwrap();
    bench.done(third).await;
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_whole_environment_excludes_its_services_and_none_of_another() {
    let (_dir, bench) = Bench::new().await;
    bench.site.script("run all", [Act::Hang]);
    let mut all = on("all");
    all.locks = vec![lock("prod")];
    let all = bench.create(all).await;
    bench.seen("run all", 1).await;
    let web = bench.create(on("web")).await;
    bench.until(web, "queued", queued).await;
    let mut elsewhere = on("web2");
    elsewhere.locks = vec![lock("staging/web")];
    let elsewhere = bench.create(elsewhere).await;
    bench.done(elsewhere).await;
    bench.engine.cancel(all, &actor("bob")).await.unwrap();
    assert_eq!(bench.done(web).await.outcome(), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_lock_that_a_person_took_holds_runs_up_until_it_is_given_back() {
    let (dir, bench) = Bench::new().await;
    let manual =
        ManualLock { name: lock("prod"), by: actor("carol"), reason: "freeze".into(), at: bench.clock.now() };
    let carol = actor("carol");
    let asked = |command| Asked { by: &carol, command };
    bench.engine.lock(manual, asked("lock prod freeze")).await.unwrap();
    let run = bench.create(on("web")).await;
    bench.until(run, "queued", queued).await;
    let (_copy, bench) = bench.killed_here(dir.path()).await;
    bench.engine.start().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(queued(&bench.engine.state(run).await.unwrap()));
    assert!(bench.engine.unlock(&lock("prod"), asked("unlock prod")).await.unwrap().is_some());
    assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
}

/// Whoever leaves the queue lets the next one go, in whichever way it leaves.
#[tokio::test]
async fn a_queued_run_that_is_denied_withdrawn_voided_or_abandoned_holds_nobody_up() {
    for way in ["deny", "withdraw", "void", "abandon", "cancel"] {
        let (_dir, bench) = Bench::new().await;
        bench.site.script("run web", [Act::Hang]);
        let mut all = on("web");
        all.locks = vec![lock("prod/web"), lock("prod/api")];
        let holder = bench.create(on("web")).await;
        bench.seen("run web", 1).await;
        let leaver = bench.create(approved_by(1, all)).await;
        bench.vote(leaver, "bob", Choice::Approve).await;
        bench.until(leaver, "queued", queued).await;
        let next = bench.create(on("api")).await;
        bench.until(next, "queued behind it", queued).await;
        match way {
            "deny" => drop(bench.vote(leaver, "bob", Choice::Deny).await),
            "withdraw" => bench.engine.withdraw(leaver, &actor("bob"), false).await.unwrap(),
            "abandon" => bench.engine.abandon(leaver, &actor("bob"), "no".into()).await.unwrap(),
            "cancel" => drop(bench.engine.cancel(leaver, &actor("bob")).await.unwrap()),
            _ => {
                bench.site.previews.lock().unwrap().push_back(Act::Fail(StepError::new("gone")));
                bench.engine.cancel(holder, &actor("bob")).await.unwrap();
            }
        }
        assert_eq!(bench.done(next).await.outcome(), Some(Outcome::Succeeded), "{way}");
        if way == "withdraw" {
            let state = bench.engine.state(leaver).await.unwrap();
            assert!(matches!(state.phase, Phase::Deciding { .. }) && state.consent.decision.is_none());
            bench.clock.advance(Duration::from_secs(1800));
            assert_eq!(bench.done(leaver).await.outcome(), Some(Outcome::Expired));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_runs_at_once_end_and_their_sequences_have_no_gaps() {
    let (_dir, bench) = Bench::new().await;
    let mut runs = Vec::new();
    for index in 0..50 {
        let name = format!("s{}", index % 10);
        let once = step("once", &format!("once {name}"));
        runs.push(bench.create(plan(vec![step("idem", &name), once])).await);
    }
    let people: Vec<_> = runs
        .iter()
        .map(|run| {
            let (engine, run) = (bench.engine.clone(), *run);
            tokio::spawn(async move {
                // Acts from other tasks, most of which come at a bad time.
                for _ in 0..5 {
                    let _ = engine.withdraw(run, &actor("bob"), false).await;
                    let _ = engine.retry(run, &actor("bob"), Vec::new()).await;
                    let _ = engine.replace_card(run).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for person in people {
        person.await.unwrap();
    }
    for run in runs {
        assert_eq!(bench.done(run).await.outcome(), Some(Outcome::Succeeded));
    }
    let once = bench
        .site
        .facts()
        .stands
        .iter()
        .filter(|(name, _)| name.starts_with("once"))
        .map(|(_, n)| n)
        .sum::<u32>();
    assert_eq!(once, 50);
    bench.nothing_left().await;
}

/// Cancels that come at any moment, between any two appends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_at_any_moment_leaves_all_or_nothing() {
    let (_dir, bench) = Bench::new().await;
    for round in 0..60_u32 {
        let name = format!("s{round}");
        let run = bench.create(plan(vec![step("idem", &name), step("keyed", &name)])).await;
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 40)).await;
        let _ = bench.engine.cancel(run, &actor("bob")).await;
        let state = bench.done(run).await;
        let stands = bench.site.facts().stands.contains_key(&name);
        assert_eq!(stands, state.outcome() == Some(Outcome::Succeeded), "{:?}", state.steps);
    }
    bench.nothing_left().await;
}

#[tokio::test]
async fn a_run_that_cannot_be_read_keeps_others_out_of_its_environment_until_it_is_abandoned() {
    let (dir, bench) = Bench::new().await;
    bench.site.script("run web", [Act::HangDeaf]);
    let lost = bench.create(on("web")).await;
    bench.seen("run web", 1).await;
    // As a newer Houston would have written it.
    let mut record = bench.engine.events(lost).unwrap().pop().unwrap();
    record.seq += 1;
    record.v = EVENT_VERSION + 1;
    record.event = Event::Told { who: "bob".into() };
    let mut batch = Batch::new();
    let key: Vec<u8> = lost.0.to_be_bytes().into_iter().chain(record.seq.to_be_bytes()).collect();
    batch.put(Tree::Events, &key, &record);
    bench.store.apply(batch).unwrap();
    let (copy, bench) = bench.killed_here(dir.path()).await;
    assert_eq!(bench.engine.start().await, Vec::<RunId>::new());
    let error = bench.engine.state(lost).await.unwrap_err().to_string();
    assert!(error.contains("a newer Houston wrote it"), "{error}");
    let api = bench.create(on("api")).await;
    let state = bench.until(api, "queued", queued).await;
    let Phase::Queued { behind } = &state.phase else { panic!("{:?}", state.phase) };
    assert!(behind[0].contains("R-1") && behind[0].contains("cannot read"), "{behind:?}");
    bench.engine.abandon(lost, &actor("bob"), "looked: nothing happened".into()).await.unwrap();
    assert_eq!(bench.done(api).await.outcome(), Some(Outcome::Succeeded));
    let (_copy, bench) = bench.killed_here(copy.path()).await;
    assert_eq!(bench.engine.held().await, []);
}
