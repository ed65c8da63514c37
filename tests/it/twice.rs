//! What has to hold of every playbook that comes with Houston, with its real step kinds on an engine: each step done
//! twice and each undo done twice leave the same world as once.
//!
//! Must not: leave a playbook out. `runs::playbooks` has the one list of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use houston::clock::Clock;
use houston::config::Config;
use houston::playbook::model::PlannedUndo;
use houston::playbook::plan::{Planner, Request};
use houston::playbook::steps::StepKind;
use houston::providers::swarm::Swarm;
use houston::sandbox::engine::{self, Behaviour};
use houston::secret::Redactor;
use serde_json::Value as Json;

use crate::runs::playbooks::{BUILT_IN, value_of};
use crate::swarm::Bench;

const PROD: &str = "
services:
  web:
    image: app
    version: v3
    replicas: {count: 1, min: 1, max: 5}
    endpoint_mode: dnsrr
    ports: [{target: 8080, mode: host}]
    update: {order: start-first, monitor: 200ms}
";

/// The service without its version index: image, number of tasks, tasks that run.
async fn world(bench: &Bench) -> (String, u64, usize) {
    bench.settled().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_and_every_undo_of_every_playbook_twice_is_as_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("docker.sock");
    let mut options = engine::Options::new(&socket, env!("CARGO_BIN_EXE_houston"));
    for version in ["v1", "v2", "v3", "1.8"] {
        options = options.image(&format!("app:{version}"), Behaviour::Healthy);
    }
    let engine = engine::start(options).await.expect("the engine starts");
    let kinds = houston::app::kinds();
    let all: Vec<&dyn StepKind> = kinds.values().map(AsRef::as_ref).collect();
    let main = "rocketchat: {url: 'http://x', username: h, password: {env: P}}\naccess:\n  roles: \
                {operator: {users: [a, b]}, lead: {users: [c]}}\n";
    let prod = format!("swarm: {{socket: {}}}{PROD}", socket.display());
    let (config, found) =
        Config::from_files(&[("houston.yaml", main), ("environments/prod.yaml", &prod)], &all);
    let config = config.unwrap_or_else(|| panic!("{found:?}"));
    let environment = &config.environments["prod"];
    let bench = Bench::on(Arc::new(Swarm::local(socket)), &environment.services).await;
    for version in ["v1", "v2"] {
        bench.deploy(version).await.expect("there is something to change");
    }
    let planner = Planner {
        kinds: kinds.clone(),
        world: bench.world_of_steps(),
        clock: Clock::system(),
        redactor: Redactor::new(),
    };
    // What restic does is looked at in `backup`, with a real one.
    for (_, name) in BUILT_IN.iter().filter(|(_, name)| !name.starts_with("backup") && *name != "restore") {
        let playbook = &config.playbooks[*name];
        let inputs: BTreeMap<String, Json> = playbook
            .inputs
            .keys()
            .filter(|input| *name != "rollback" || *input != "version")
            .map(|input| (input.clone(), value_of(input)))
            .collect();
        let request = Request {
            playbook,
            command: (*name).to_owned(),
            command_name: (*name).to_owned(),
            environment: Some(environment),
            inputs,
            requester: "alice".into(),
            reason: None,
            approval: None,
        };
        let plan = planner.plan(request).await.unwrap_or_else(|error| panic!("{name}: {error}")).plan;
        assert!(!plan.steps.is_empty(), "{name} changes something");
        let mut done = Vec::new();
        for step in &plan.steps {
            let kind = &kinds[step.kind.as_str()];
            let before = world(&bench).await;
            let context = bench.plan(&**kind, &step.params).await.expect("it can be looked at");
            let output =
                kind.run(&context, &step.params).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let once = world(&bench).await;
            kind.run(&context, &step.params).await.unwrap_or_else(|error| panic!("{name} twice: {error}"));
            assert_eq!(world(&bench).await, once, "{name} {} twice", step.id);
            assert_ne!(before, once, "{name} {} does something", step.id);
            done.push((step, kind, context, output, before));
        }
        for (step, kind, context, output, before) in done.iter().rev() {
            if step.undo != PlannedUndo::ByKind {
                continue;
            }
            for times in ["once", "twice"] {
                let undone = kind.undo(context, &step.params, Some(output)).await;
                undone.unwrap_or_else(|error| panic!("{name} undone {times}: {error}"));
                assert_eq!(world(&bench).await, *before, "{name} {} undone {times}", step.id);
            }
        }
    }
    drop(bench);
    engine.stop().await;
}
