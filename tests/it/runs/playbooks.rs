//! What has to hold of every playbook that comes with Houston, with nothing behind its steps: it may be
//! killed anywhere, fails cleanly at every step, and its undos may run twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use houston::approvals::Choice;
use houston::clock::Clock;
use houston::config::Config;
use houston::config::environment::{Backups, HealthCheck, Keep, Source, What};
use houston::diagnostic::Location;
use houston::ids::RunId;
use houston::playbook::model::{AfterRetries, OnFailure, Plan, PlannedUndo};
use houston::playbook::plan::{Planner, Request};
use houston::playbook::steps::{Kinds, Repeat, StepError};
use houston::runs::event::Outcome;
use houston::runs::state::{Phase, RunState};
use houston::secret::{Redactor, SecretRef};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::bench::*;
use super::kill::killed_everywhere;
use crate::config::files_of_page;

/// The one list of all playbooks of the repository: where each stands, and its name. A new one has to be in it.
/// Those that come with Houston.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("playbooks/backup-init.yaml", "backup-init"),
    ("playbooks/backup-verify.yaml", "backup-verify"),
    ("playbooks/backup.yaml", "backup"),
    ("playbooks/deploy.yaml", "deploy"),
    ("playbooks/restore.yaml", "restore"),
    ("playbooks/rollback.yaml", "rollback"),
    ("playbooks/scale.yaml", "scale"),
];

/// Those that the documentation shows.
const SHOWN: &[(&str, &str)] = &[("docs/playbooks.md", "flush-cache"), ("docs/playbooks.md", "move-shop")];

/// Those whose step kind is not part of this build, and what runs them.
const ELSEWHERE: &[(&str, &str)] = &[("docs/step-kinds.md", "up")]; // `docs::step_kind` makes its kind and runs it.

/// For each input that a playbook has.
pub fn value_of(input: &str) -> Json {
    match input {
        "environment" => json!("prod"),
        "service" => json!("web"),
        // All of them.
        "source" | "snapshot" | "to" => Json::Null,
        "in_place" => json!(true),
        "version" => json!("1.8"),
        "replicas" => json!(4),
        "path" => json!("/shop"),
        other => panic!("a value for `{other}`"),
    }
}

/// Files and blocks of pages that hold a playbook.
fn found_in(folder: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("reads").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found_in(&path, found);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = path.strip_prefix(root).expect("is below").display().to_string();
        let is_one = |text: &str| text.starts_with("steps:") || text.contains("\nsteps:");
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml")) && is_one(&text) {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            found.insert((place, name));
        } else if extension == Some("md") {
            let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
            for block in blocks.filter(|block| is_one(block)) {
                let first = block.lines().next().unwrap_or_default();
                let name = first.trim_start_matches("# playbooks/").trim_end_matches(".yaml");
                found.insert((place.clone(), name.to_owned()));
            }
        }
    }
}

#[test]
fn every_playbook_of_the_repository_is_in_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in ["playbooks", "docs", "config", "commands", "src"] {
        found_in(&root.join(folder), &mut found);
    }
    let listed: BTreeSet<(String, String)> = [BUILT_IN, SHOWN, ELSEWHERE]
        .concat()
        .into_iter()
        .map(|(place, name)| (place.to_owned(), name.to_owned()))
        .collect();
    assert_eq!(found, listed, "found on the left, listed on the right");
}

/// Two sources, of both sorts.
fn backups() -> Backups {
    let at = Location::new("environments/prod.yaml", 1, 1);
    let source = |name: &str, what| Source { name: name.into(), host: "node1".into(), what, at: at.clone() };
    let paths = What::Paths { paths: vec!["/srv".into()], exclude: Vec::new() };
    let dump = What::Dump { command: vec!["dump".into()], restore: Some(vec!["undump".into()]) };
    Backups {
        repository: "/backups".into(),
        password: SecretRef::Env("P".into()),
        credentials: BTreeMap::new(),
        host: "node1".into(),
        keep: Keep::default(),
        read_all_in_days: 30,
        sources: vec![source("files", paths), source("ledger", dump)],
        at: at.clone(),
    }
}

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
    environment.backups = Some(backups());
    let mut plans = plans_of(&config, &kinds, BUILT_IN).await;
    let mut files = files_of_page(include_str!("../../../docs/playbooks.md"));
    let main = houston::assets::SAMPLE.iter().find(|asset| asset.path == "houston.yaml").expect("is there");
    files.push((main.path, main.text));
    let (config, found) = Config::from_files(&files, &all);
    let config = config.unwrap_or_else(|| panic!("{found:?}"));
    plans.extend(plans_of(&config, &kinds, SHOWN).await);
    plans
}

async fn plans_of(config: &Config, kinds: &Kinds, list: &[(&str, &str)]) -> Vec<Plan> {
    let planner =
        Planner { kinds: kinds.clone(), world: world(), clock: Clock::system(), redactor: Redactor::new() };
    let mut plans = Vec::new();
    for (_, name) in list {
        let playbook = config.playbooks.get(*name).unwrap_or_else(|| panic!("the playbook {name}"));
        let mut inputs: BTreeMap<String, Json> =
            playbook.inputs.keys().map(|input| (input.clone(), value_of(input))).collect();
        if playbook.each.is_some() {
            inputs.remove("service");
        }
        let planned = planner
            .plan(Request {
                playbook,
                command: (*name).to_owned(),
                command_name: (*name).to_owned(),
                environment: config.environments.get("prod"),
                inputs,
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

/// What the log of the site says when that step is undone.
fn undo_of(plan: &Plan, step: usize) -> String {
    match &plan.steps[step].undo {
        PlannedUndo::Step { kind, .. } => format!("run {kind} undo{step}"),
        _ => format!("undo {}", subject(plan, step)),
    }
}

/// To its end, as people would who consent to every step.
async fn to_the_end(bench: &Bench, run: RunId) -> RunState {
    loop {
        let state = bench.done_in_time(run).await;
        let Phase::Asking { .. } = state.phase else { return state };
        drop(bench.vote(run, "bob", Choice::Approve).await);
    }
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
                    site.script(&undo_of(&plan, step), [broke()]);
                }
            }
            let run = bench.create(plan.clone()).await;
            let state = to_the_end(&bench, run).await;
            assert_eq!(state.outcome(), Some(Outcome::Failed), "{} at {failing}", plan.playbook);
            let undone = plan.on_failure == OnFailure::Undo;
            for step in 0..=failing {
                let stands = site.facts().stands.contains_key(&subject(&plan, step));
                let acts = site.count(&undo_of(&plan, step));
                let expected = usize::from(undone && can_be_undone(&plan, step)) * (1 + usize::from(twice));
                assert_eq!(acts, expected, "{} step {step} after {failing}", plan.playbook);
                // What another step undoes, that step's fake knows nothing of.
                let by_kind = plan.steps[step].undo == PlannedUndo::ByKind;
                assert!(!(stands && undone && by_kind), "{} left {step}", plan.playbook);
            }
            let goes_on = plan.steps[failing].retry.then == AfterRetries::GoOn;
            for step in failing + 1..plan.steps.len() {
                assert_eq!(site.count(&format!("run {}", subject(&plan, step))), usize::from(goes_on));
            }
            bench.nothing_left().await;
        }
    }
}

/// A step that may be repeated and says that it failed, after it has done its work, is done again.
#[tokio::test]
async fn every_step_that_may_be_repeated_twice_is_as_once() {
    for plan in plans().await {
        let mut once = None;
        for repeated in std::iter::once(None).chain((0..plan.steps.len()).map(Some)) {
            let mut plan = plan.clone();
            let dir = tempfile::tempdir().unwrap();
            let site: Arc<Site> = Arc::default();
            let bench = Bench::open(dir.path(), &Clock::manual(Timestamp::UNIX_EPOCH), &site);
            bench.engine.start().await;
            if let Some(step) = repeated {
                let planned = &mut plan.steps[step];
                let kind = &kinds(&site)[planned.kind.as_str()];
                if !matches!(kind.repeat(&planned.params), Repeat::Safe | Repeat::Idempotent) {
                    continue;
                }
                planned.retry.attempts = 2;
                let failed = StepError::new("said so").with_effects().transient();
                site.script(&format!("run {}", subject(&plan, step)), [Act::FailAfter(failed)]);
            }
            let run = bench.create(plan.clone()).await;
            let state = to_the_end(&bench, run).await;
            assert_eq!(state.outcome(), Some(Outcome::Succeeded), "{} {repeated:?}", plan.playbook);
            if let Some(step) = repeated {
                assert_eq!(
                    site.count(&format!("run {}", subject(&plan, step))),
                    2,
                    "{} {step}",
                    plan.playbook
                );
            }
            let facts = site.facts().stands.clone();
            assert_eq!(*once.get_or_insert_with(|| facts.clone()), facts, "{} {repeated:?}", plan.playbook);
            bench.nothing_left().await;
        }
    }
}
