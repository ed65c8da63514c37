//! What has to hold of every playbook that comes with Houston, with nothing behind its steps: it may be
//! killed anywhere, fails cleanly at every step, and its undos may run twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use houston::clock::Clock;
use houston::config::Config;
use houston::config::environment::HealthCheck;
use houston::playbook::model::{OnFailure, Plan, PlannedUndo};
use houston::playbook::plan::{Planner, Request};
use houston::playbook::steps::StepError;
use houston::runs::event::Outcome;
use houston::secret::Redactor;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::bench::*;
use super::kill::killed_everywhere;

/// A plan of every playbook over all that it can do.
async fn plans() -> Vec<Plan> {
    let site: Arc<Site> = Arc::default();
    let kinds = kinds(&site);
    let all: Vec<_> = kinds.values().map(|kind| &**kind).collect();
    let (config, found) = Config::sample(&all);
    let mut config = config.unwrap_or_else(|| panic!("{found:?}"));
    let environment = config.environments.get_mut("prod").expect("the sample has prod");
    for service in &mut environment.services {
        // So that checks are part of the plan.
        service.health = Some(HealthCheck {
            url: "http://127.0.0.1:1/health".into(),
            expect_status: 200,
            expect_body: None,
            within: std::time::Duration::from_secs(1),
        });
    }
    let planner =
        Planner { kinds: kinds.clone(), world: world(), clock: Clock::system(), redactor: Redactor::new() };
    let mut plans = Vec::new();
    assert!(!config.playbooks.is_empty());
    for (name, playbook) in &config.playbooks {
        let values: BTreeMap<&str, Json> = [
            ("environment", json!("prod")),
            ("service", json!("web")),
            ("version", json!("1.8")),
            ("replicas", json!(4)),
        ]
        .into();
        let inputs = playbook.inputs.keys().map(|input| {
            let value =
                values.get(input.as_str()).unwrap_or_else(|| panic!("a value for `{input}` of {name}"));
            (input.clone(), value.clone())
        });
        let mut all_services = inputs.clone().collect::<BTreeMap<_, _>>();
        let each = playbook.each.is_some();
        if each {
            all_services.remove("service");
        }
        let planned = planner
            .plan(Request {
                playbook,
                command: name.clone(),
                command_name: name.clone(),
                environment: config.environments.get("prod"),
                inputs: all_services,
                requester: "alice".into(),
                reason: None,
                approval: None,
            })
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!planned.plan.steps.is_empty(), "{name} does something");
        plans.push(planned.plan);
    }
    plans
}

/// What the fake of a step puts into the world.
fn subject(plan: &Plan, step: usize) -> String {
    format!("{} {step}", plan.steps[step].kind)
}

fn can_be_undone(plan: &Plan, step: usize) -> bool {
    matches!(plan.steps[step].undo, PlannedUndo::ByKind | PlannedUndo::Step { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_playbook_is_the_same_wherever_it_is_killed() {
    for plan in plans().await {
        let steps = plan.steps.len();
        let places = killed_everywhere(plan, false).await;
        // Before and after the sync of: created, started, the first intent, each outcome (with the next intent).
        assert!(places >= 2 * (steps + 3), "{places} places for {steps} steps");
    }
}

#[tokio::test]
async fn every_playbook_unwinds_from_a_failure_at_every_step_also_when_each_undo_runs_twice() {
    for plan in plans().await {
        for (failing, twice) in (0..plan.steps.len()).flat_map(|step| [(step, false), (step, true)]) {
            let dir = tempfile::tempdir().unwrap();
            let site: Arc<Site> = Arc::default();
            let bench = Bench::open(dir.path(), &Clock::manual(Timestamp::UNIX_EPOCH), &site);
            bench.engine.start().await;
            let broke = || Act::FailAfter(StepError::new("broke").with_effects());
            site.script(&format!("run {}", subject(&plan, failing)), [broke()]);
            if twice {
                for step in 0..plan.steps.len() {
                    // It has done its work, says that it failed, and is done again.
                    site.script(&format!("undo {}", subject(&plan, step)), [broke()]);
                }
            }
            let run = bench.create(plan.clone()).await;
            let state = bench.done_in_time(run).await;
            assert_eq!(state.outcome(), Some(Outcome::Failed), "{} at {failing}", plan.playbook);
            let undone = plan.on_failure == OnFailure::Undo;
            for step in 0..=failing {
                let stands = site.facts().stands.contains_key(&subject(&plan, step));
                let acts = site.count(&format!("undo {}", subject(&plan, step)));
                let expected = usize::from(undone && can_be_undone(&plan, step)) * (1 + usize::from(twice));
                assert_eq!(acts, expected, "{} step {step} after {failing}", plan.playbook);
                assert!(!(stands && undone && can_be_undone(&plan, step)), "{} left {step}", plan.playbook);
            }
            for step in failing + 1..plan.steps.len() {
                assert_eq!(site.count(&format!("run {}", subject(&plan, step))), 0);
            }
            bench.nothing_left().await;
        }
    }
}
