//! What a look after a crash finds out where the labels of a service do not tell: they go back with a rollback, and stay
//! when somebody changes the service by hand. `Version.Index`, `PreviousSpec`, `UpdateStatus` and the tasks do.

use std::sync::Arc;
use std::time::Duration;

use houston::config::environment::{Replicas, Service as Declared, UpdateOrder, UpdatePolicy};
use houston::playbook::steps::Probed;
use houston::providers::swarm::Swarm;
use houston::sandbox::engine::{self, Behaviour};
use serde_json::{Value, json};

use crate::support::house::ask_engine;
use crate::swarm::{Bench, declared, kind, update};

/// An engine that keeps no ended task, and a service on it that stops the old task first.
async fn stage() -> (tempfile::TempDir, engine::Engine, Bench) {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("docker.sock");
    let mut options = engine::Options::new(&socket, env!("CARGO_BIN_EXE_houston"))
        .image("app:v3", Behaviour::Crash)
        .history(0);
    for version in ["v1", "v2", "v4"] {
        options = options.image(&format!("app:{version}"), Behaviour::Healthy);
    }
    let engine = engine::start(options).await.expect("the engine starts");
    let web = Declared {
        replicas: Replicas { count: 1, min: 1, max: 3 },
        update: UpdatePolicy {
            monitor: Duration::from_millis(200),
            order: UpdateOrder::StopFirst,
            ..UpdatePolicy::default()
        },
        ..declared("web")
    };
    let bench = Bench::on(Arc::new(Swarm::local(socket)), &[web]).await;
    bench.deploy("v1").await.expect("created");
    (dir, engine, bench)
}

async fn index(bench: &Bench) -> u64 {
    bench.swarm.service(&bench.name()).await.expect("answers").expect("is there").index
}

/// Nothing that this run made is left to be looked at.
async fn forgotten(bench: &Bench, token: &str) {
    for _ in 0..2000 {
        let tasks = bench.swarm.tasks(&bench.name()).await.expect("answers");
        if !tasks.iter().any(|task| task.spec.to_string().contains(token)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("its tasks are not forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_was_rolled_back_and_left_no_task_is_asked_about_and_not_made_again() {
    let (dir, engine, bench) = stage().await;
    let (before, params) = (kind("swarm_service"), update("v3"));
    let context = bench.plan(&*before, &params).await.unwrap();
    before.run(&context, &params).await.expect_err("v3 cannot run");
    forgotten(&bench, context.token.as_str()).await;
    let seen = index(&bench).await;
    let Probed::Unknown(why) = kind("swarm_service").probe(&context, &params).await.unwrap() else {
        panic!("nobody can tell whose update it was")
    };
    assert!(why.contains("an update of it was rolled back since this was planned"), "{why}");
    assert_eq!(index(&bench).await, seen);
    // What was rolled back before the plan was made is of no meaning: nobody has touched the service since.
    let later = bench.plan(&*before, &params).await.unwrap();
    assert_eq!(before.probe(&later, &params).await.unwrap(), Probed::DidNotHappen);
    drop(bench);
    engine.stop().await;
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_somebody_rolled_back_by_hand_is_known_by_the_spec_before() {
    let (dir, engine, bench) = stage().await;
    let (before, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*before, &params).await.unwrap();
    before.run(&context, &params).await.expect("v2 runs");
    let path = format!("/services/{}/update?version={}&rollback=previous", bench.name(), index(&bench).await);
    ask_engine(&dir.path().join("docker.sock"), "POST", &path, Some(&json!({}))).await;
    bench.settled().await;
    forgotten(&bench, context.token.as_str()).await;
    let found = kind("swarm_service").probe(&context, &params).await.unwrap();
    assert!(matches!(&found, Probed::UnderWay(what) if what.contains("roll")), "{found:?}");
    drop(bench);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_after_this_run_had_is_told_from_what_this_run_never_did() {
    let (dir, engine, bench) = stage().await;
    let (before, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*before, &params).await.unwrap();
    before.run(&context, &params).await.expect("v2 runs");
    // As `docker service update --image` does: every label stays as it is.
    let socket = dir.path().join("docker.sock");
    let service = ask_engine(&socket, "GET", &format!("/services/{}", bench.name()), None).await;
    let mut spec: Value = service["Spec"].clone();
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("app:v4");
    let path = format!("/services/{}/update?version={}", bench.name(), index(&bench).await);
    ask_engine(&socket, "POST", &path, Some(&spec)).await;
    let Probed::Unknown(why) = kind("swarm_service").probe(&context, &params).await.unwrap() else {
        panic!("a person has to look")
    };
    assert!(
        why.contains("this run changed `web`, and somebody else has since: it is set to `app:v4` now"),
        "{why}"
    );
    drop(bench);
    engine.stop().await;
}

/// As `docker service update --env-add` does: every label stays as it is.
async fn add_a_variable(dir: &tempfile::TempDir, bench: &Bench) {
    let socket = dir.path().join("docker.sock");
    let service = ask_engine(&socket, "GET", &format!("/services/{}", bench.name()), None).await;
    let mut spec: Value = service["Spec"].clone();
    spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["COLOUR=red"]);
    let path = format!("/services/{}/update?version={}", bench.name(), index(bench).await);
    ask_engine(&socket, "POST", &path, Some(&spec)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_added_to_this_runs_update_is_not_taken_for_this_runs() {
    let (dir, engine, bench) = stage().await;
    let (before, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*before, &params).await.unwrap();
    before.run(&context, &params).await.expect("v2 runs");
    add_a_variable(&dir, &bench).await;
    let Probed::Unknown(why) = kind("swarm_service").probe(&context, &params).await.unwrap() else {
        panic!("a person has to look")
    };
    let what = "it is set to `app:v2` and otherwise in environment variable COLOUR now";
    assert!(why.contains(&format!("this run changed `web`, and somebody else has since: {what}")), "{why}");
    // Nor is it put back with what is ours.
    let error = before.undo(&context, &params, None).await.expect_err("it is somebody's");
    assert!(error.message.contains("COLOUR now, which this run did not do: it was left alone"), "{error:?}");
    // Whoever plans now sees it, and changes it again.
    bench.deploy("v4").await.expect("v4 runs");
    drop(bench);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_somebody_changes_while_it_is_waited_for_is_not_called_done() {
    let (dir, engine, bench) = stage().await;
    let (deployed, ()) = tokio::join!(bench.deploy("v2"), async {
        while bench.world().await.0 != "app:v2" {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        add_a_variable(&dir, &bench).await;
    });
    let error = deployed.expect_err("it is not what was asked for");
    let message = "`web` was changed by somebody else meanwhile; it is set to `app:v2` and otherwise in environment \
                   variable COLOUR now, and was left so";
    assert_eq!(error.message, message);
    drop(bench);
    engine.stop().await;
}
