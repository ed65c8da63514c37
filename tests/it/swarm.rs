//! The Swarm provider and its step kinds on a real Docker Swarm, made by `tests/parts/docker.sh` and
//! `tests/parts/images.sh`; its socket's path stands in `HOUSTON_TEST_DOCKER`.
//!
//! Every test has services of its own, so that all run side by side, and removes them whatever happens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::support::parts;
use houston::clock::Clock;
use houston::config::environment::{
    EndpointMode, Environment, Host, Port, PortMode, Replicas, Service as Declared, SwarmAccess, UpdatePolicy,
};
use houston::diagnostic::Location;
use houston::exec::ssh::{SshOptions, SshPool};
use houston::ids::{EffectToken, EnvName, RunId, ServiceName};
use houston::playbook::model::Preview;
use houston::playbook::steps::{
    Effects, Probed, Progress, StepContext, StepError, StepKind, World, registry,
};
use houston::providers::swarm::{Manager, Swarm, SwarmError, status};
use houston::secret::Redactor;

/// A world of one Swarm and the services that a test declares.
struct Outside {
    swarm: Arc<Swarm>,
    declared: Mutex<BTreeMap<ServiceName, Declared>>,
}

impl World for Outside {
    fn swarm(&self, _: &EnvName) -> Result<Arc<Swarm>, StepError> {
        Ok(self.swarm.clone())
    }
    fn service(&self, _: &EnvName, service: &ServiceName) -> Result<Declared, StepError> {
        let declared = self.declared.lock().unwrap();
        declared.get(service).cloned().ok_or_else(|| StepError::new(format!("no service `{service}`")))
    }
    fn host(
        &self,
        _: &EnvName,
        host: &str,
        _: &EffectToken,
    ) -> Result<Arc<dyn houston::exec::Host>, StepError> {
        Err(StepError::new(format!("no host `{host}`")))
    }
    fn notify<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a EffectToken,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn http(&self) -> reqwest::Client {
        reqwest::Client::new()
    }
}

#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

impl Progress for Lines {
    fn status(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn output(&self, _: &str) {}
}

/// How many tests load the engine at once: with more of them two cores are so busy that an engine notices
/// the end of a container only seconds later, after the time in which Swarm watches it.
pub static TURNS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(3);

/// One test's part of the Swarm.
pub struct Bench {
    outside: Arc<Outside>,
    pub swarm: Arc<Swarm>,
    pub lines: Arc<Lines>,
    redactor: Redactor,
    _turn: tokio::sync::SemaphorePermit<'static>,
    /// The next run's number; starts at random, so that two test processes do not share tokens.
    run: AtomicUsize,
}

impl Bench {
    async fn new(services: &[Declared]) -> Option<Self> {
        Some(Self::on(Arc::new(Swarm::local(parts::docker()?)), services).await)
    }

    /// On whatever Swarm there is.
    pub async fn on(swarm: Arc<Swarm>, services: &[Declared]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let turn = TURNS.acquire().await.expect("never closed");
        let declared = services.iter().map(|s| (s.name.clone(), s.clone())).collect();
        Self {
            outside: Arc::new(Outside { swarm: swarm.clone(), declared: Mutex::new(declared) }),
            swarm,
            lines: Arc::default(),
            redactor: Redactor::new(),
            _turn: turn,
            run: AtomicUsize::new(rand::random_range(1..1_000_000_000)),
        }
    }

    pub fn world_of_steps(&self) -> Arc<dyn World> {
        self.outside.clone()
    }

    /// A context as the executor makes it for the only step of a new run, its plan looked at now.
    pub async fn plan(&self, kind: &dyn StepKind, params: &Json) -> Result<StepContext, StepError> {
        let run = RunId(self.run.fetch_add(1, Ordering::Relaxed) as u64);
        let mut context = StepContext {
            world: self.outside.clone(),
            environment: Some(EnvName::from("prod")),
            service: params.get("service").and_then(Json::as_str).map(ServiceName::from),
            clock: Clock::system(),
            redactor: self.redactor.clone(),
            cancel: CancellationToken::new(),
            progress: self.lines.clone(),
            token: EffectToken::new(run, &"card".into(), 0),
            earlier: Default::default(),
            outputs: Arc::default(),
            planned: Preview::default(),
        };
        context.planned = kind.preview(&context, params).await?;
        Ok(context)
    }

    /// Plans and runs.
    async fn step(&self, params: &Json) -> Result<Json, StepError> {
        let kind = kind("swarm_service");
        let context = self.plan(&*kind, params).await?;
        kind.run(&context, params).await
    }

    pub async fn deploy(&self, version: &str) -> Result<Json, StepError> {
        self.step(&update(version)).await
    }

    pub fn name(&self) -> String {
        self.outside.declared.lock().unwrap().values().next().expect("a declared service").swarm_name.clone()
    }

    /// (image, wanted, running tasks of that image)
    pub async fn world(&self) -> (String, u64, usize) {
        let service = self.swarm.service(&self.name()).await.unwrap().expect("the service exists");
        let tasks = self.swarm.tasks(&self.name()).await.unwrap();
        // A Swarm on a busy machine may leave two tasks in one place.
        let running = tasks.iter().filter(|t| t.is_running() && t.image == service.image());
        let places: BTreeSet<_> = running.map(|task| task.place()).collect();
        (service.image().to_owned(), service.replicas().unwrap(), places.len())
    }

    /// As [`Bench::world`], once Swarm has ended what is one too many after a rollback.
    pub async fn settled(&self) -> (String, u64, usize) {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let world = self.world().await;
            if u64::try_from(world.2) == Ok(world.1) || tokio::time::Instant::now() > until {
                return world;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let names: Vec<String> =
            self.outside.declared.lock().unwrap().values().map(|d| d.swarm_name.clone()).collect();
        let swarm = self.swarm.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async move {
                for name in names {
                    let _ = swarm.remove_service(&name).await;
                }
            });
        });
    }
}

pub fn kind(name: &str) -> Arc<dyn StepKind> {
    registry().remove(name).expect("a step kind")
}

pub fn update(version: &str) -> Json {
    json!({ "action": "update", "service": "web", "version": version })
}

pub fn declared(name: &str) -> Declared {
    Declared {
        name: ServiceName::from(name),
        swarm_name: format!("houston-test-{name}-{}", rand::random::<u32>()),
        image: "app".into(),
        version: "v1".into(),
        replicas: Replicas { count: 2, min: 1, max: 4 },
        depends_on: Vec::new(),
        health: None,
        update: UpdatePolicy { monitor: Duration::from_secs(3), ..UpdatePolicy::default() },
        placement: Vec::new(),
        environment: BTreeMap::new(),
        // No IPVS where the tests run: neither the routing mesh nor virtual addresses would work.
        ports: vec![Port { published: None, target: 8080, mode: PortMode::Host }],
        networks: Vec::new(),
        command: None,
        endpoint_mode: EndpointMode::Dnsrr,
        at: Location::new("environments/prod.yaml", 1, 1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_ends_with_the_new_version_and_no_request_fails_meanwhile() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    let created = bench.deploy("v1").await.expect("created");
    assert_eq!(created["before"]["image"], Json::Null);
    assert_eq!(bench.world().await, ("app:v1".into(), 2, 2));

    let stop = CancellationToken::new();
    let poller = tokio::spawn({
        let (swarm, name, stop) = (bench.swarm.clone(), bench.name(), stop.clone());
        async move {
            let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
            let (mut asked, mut failed) = (0, Vec::new());
            while !stop.is_cancelled() {
                let tasks = swarm.tasks(&name).await.unwrap();
                let serving: Vec<_> =
                    tasks.iter().filter(|t| t.is_running() && !t.ports.is_empty()).collect();
                let Some(task) = serving.get(asked % serving.len().max(1)) else {
                    failed.push("no task serves".to_owned());
                    continue;
                };
                let url = format!("http://127.0.0.1:{}/health", task.ports[0].0);
                asked += 1;
                if let Err(error) =
                    client.get(&url).send().await.and_then(reqwest::Response::error_for_status)
                {
                    // A balancer does not send to a task that is being stopped; neither do we.
                    let now = swarm.tasks(&name).await.unwrap();
                    if now.iter().any(|t| t.id == task.id && t.is_running()) {
                        failed.push(error.to_string());
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (asked, failed)
        }
    });
    let output = bench.deploy("v2").await.expect("updated");
    stop.cancel();
    let (asked, failed) = poller.await.unwrap();
    assert!(asked > 50, "only {asked} requests were made");
    assert_eq!(failed, Vec::<String>::new(), "of {asked} requests");
    assert_eq!(bench.world().await, ("app:v2".into(), 2, 2));
    assert_eq!(output["before"]["image"], "app:v1");
    assert_eq!((&output["image"], &output["version"]), (&json!("app:v2"), &json!("v2")));
    let lines = bench.lines.0.lock().unwrap();
    assert!(lines.iter().any(|l| l.contains("1 of 2 tasks run v2")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_is_rolled_back_and_says_why() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.redactor.learn("configuration is missing");
    bench.deploy("v1").await.expect("created");
    let error = bench.deploy("v3").await.expect_err("v3 cannot run");
    // Swarm may have begun with the second task before it sees the first one fail.
    assert!(error.message.starts_with("`web` was rolled back, it is back at `v1`: "), "{error:?}");
    assert!(error.message.ends_with(" of 2 tasks exited with 1"), "{error:?}");
    assert_eq!(error.tail.as_deref(), Some("fatal: [redacted]"), "its last words, without secrets");
    assert_eq!(error.effects, Effects::None);
    assert_eq!(bench.settled().await, ("app:v1".into(), 2, 2));
    // What is there already needs no update, whatever became of the last one.
    let again = bench.deploy("v1").await.expect("it is at v1");
    assert_eq!(again["changed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_healthy_is_rolled_back_and_says_why() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let error = bench.deploy("v4").await.expect_err("v4 is not healthy");
    assert!(error.message.starts_with("`web` was rolled back, it is back at `v1`: "), "{error:?}");
    assert!(error.message.ends_with(" health check"), "{error:?}");
    let tail = error.tail.expect("a tail");
    assert!(tail.contains("serving v4 on 8080") && tail.contains("health check: "), "{tail}");
    assert_eq!(bench.settled().await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_that_cannot_run_is_removed_again() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    let error = bench.deploy("v3").await.expect_err("v3 cannot run");
    assert!(error.message.contains("it is removed again: 2 of 2 tasks exited with 1"), "{}", error.message);
    assert!(bench.swarm.service(&bench.name()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nobody_has_is_explained() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let error = bench.deploy("v99").await.expect_err("there is no v99");
    assert!(error.message.contains("found no such image"), "{}", error.message);
    assert!(error.hint.expect("a hint").contains("spelling"));
    assert_eq!(bench.world().await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_finds_no_node_is_put_back_instead_of_hanging() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    for service in bench.outside.declared.lock().unwrap().values_mut() {
        service.placement = vec!["node.labels.moon == full".into()];
    }
    let error = bench.deploy("v2").await.expect_err("no such node");
    assert!(error.message.contains("back at `v1`: no suitable node"), "{}", error.message);
    assert!(error.hint.expect("a hint").contains("placement"));
    assert_eq!(bench.world().await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_stays_within_the_declared_limits() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let scale = |n: u64| json!({ "action": "scale", "service": "web", "replicas": n });
    let output = bench.step(&scale(4)).await.expect("4 is allowed");
    assert_eq!((&output["before"]["replicas"], &output["replicas"]), (&json!(2), &json!(4)));
    assert_eq!(bench.world().await, ("app:v1".into(), 4, 4));
    let error = bench.step(&scale(5)).await.expect_err("5 is too many");
    assert_eq!(error.message, "`web` may have 1 to 4 tasks, 5 is beyond that");
    assert!(bench.step(&scale(0)).await.is_err());
    // A deployment keeps the scale, and a scale the version.
    bench.deploy("v2").await.expect("updated");
    assert_eq!(bench.world().await, ("app:v2".into(), 4, 4));
    bench.step(&scale(1)).await.expect("down");
    assert_eq!(bench.world().await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_brings_the_release_before_back_with_its_settings() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    let set = |value: &str| {
        for service in bench.outside.declared.lock().unwrap().values_mut() {
            service.environment.insert("MODE".into(), value.into());
        }
    };
    set("old");
    bench.deploy("v1").await.expect("created");
    set("new");
    bench.deploy("v2").await.expect("updated");
    let rollback = json!({ "action": "rollback", "service": "web", "version": "" });
    let kind = kind("swarm_service");
    let context = bench.plan(&*kind, &rollback).await.unwrap();
    let shown: Vec<_> = context.planned.changes.iter().map(|c| (c.what.as_str(), c.to.as_deref())).collect();
    assert_eq!(shown, [("image", Some("app:v1")), ("environment variable MODE", Some("`old`"))]);
    kind.run(&context, &rollback).await.expect("rolled back");
    assert_eq!(bench.world().await, ("app:v1".into(), 2, 2));
    let named = json!({ "action": "rollback", "service": "web", "version": "v2" });
    bench.step(&named).await.expect("forward again, by name");
    assert_eq!(bench.world().await.0, "app:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_in_the_middle_puts_the_service_back() {
    let mut web = declared("web");
    web.replicas.count = 3;
    let Some(bench) = Bench::new(&[web]).await else { return };
    bench.deploy("v1").await.expect("created");
    let (kind, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*kind, &params).await.unwrap();
    let cancel = context.cancel.clone();
    let lines = bench.lines.clone();
    let canceller = tokio::spawn(async move {
        while !lines.0.lock().unwrap().iter().any(|l| l.contains("1 of 3 tasks run v2")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    });
    let error = kind.run(&context, &params).await.expect_err("cancelled");
    canceller.await.unwrap();
    assert!(error.cancelled);
    assert_eq!(error.message, "cancelled: `web` is back at `v1`");
    assert_eq!(bench.world().await, ("app:v1".into(), 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_step_is_adopted_and_not_made_again() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let (before, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*before, &params).await.unwrap();
    assert_eq!(before.probe(&context, &params).await.unwrap(), Probed::DidNotHappen);
    // The crash: the run is dropped as soon as its effect can be seen.
    tokio::select! {
        _ = before.run(&context, &params) => panic!("the update ended before it began"),
        () = async {
            while bench.world().await.0 != "app:v2" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } => {}
    }
    // A new process.
    let after = kind("swarm_service");
    assert!(matches!(after.probe(&context, &params).await.unwrap(), Probed::UnderWay(_)));
    let output = after.run(&context, &params).await.expect("attached");
    assert_eq!((&output["before"]["image"], &output["image"]), (&json!("app:v1"), &json!("app:v2")));
    let Probed::Happened(adopted) = after.probe(&context, &params).await.unwrap() else {
        panic!("it has happened")
    };
    assert_eq!((&adopted["before"], &adopted["image"]), (&output["before"], &output["image"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_an_automatic_rollback_is_found_and_not_tried_again() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let (before, params) = (kind("swarm_service"), update("v3"));
    let context = bench.plan(&*before, &params).await.unwrap();
    before.run(&context, &params).await.expect_err("v3 cannot run");
    let index = bench.swarm.service(&bench.name()).await.unwrap().unwrap().index;
    let after = kind("swarm_service");
    assert!(matches!(after.probe(&context, &params).await.unwrap(), Probed::UnderWay(_)));
    let error = after.run(&context, &params).await.expect_err("it failed, and that is reported");
    assert!(error.message.contains("was rolled back, it is back at `v1`: "), "{error:?}");
    assert_eq!(bench.swarm.service(&bench.name()).await.unwrap().unwrap().index, index, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_after_the_plan_is_not_overwritten() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let (kind, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*kind, &params).await.unwrap();
    let stale = bench.swarm.service(&bench.name()).await.unwrap().unwrap();
    bench.step(&json!({ "action": "scale", "service": "web", "replicas": 3 })).await.expect("by another run");
    let error = kind.run(&context, &params).await.expect_err("drift");
    assert!(
        error.message.contains("runs `app:v1`, 2 tasks in the plan, and runs `app:v1`, 3 tasks now"),
        "{error}"
    );
    assert_eq!(bench.world().await, ("app:v1".into(), 3, 3));
    let refused = bench.swarm.update_service(&stale, &stale.spec).await;
    assert!(matches!(refused, Err(SwarmError::Stale { .. })), "{refused:?}");
    // Undoing what never happened changes nothing of theirs either.
    assert!(kind.undo(&context, &params, None).await.is_err());
    assert_eq!(bench.world().await, ("app:v1".into(), 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_twice_and_its_undo_twice_give_the_same_world() {
    let Some(bench) = Bench::new(&[declared("web")]).await else { return };
    bench.deploy("v1").await.expect("created");
    let (kind, params) = (kind("swarm_service"), update("v2"));
    let context = bench.plan(&*kind, &params).await.unwrap();
    let first = kind.run(&context, &params).await.expect("once");
    let index = bench.swarm.service(&bench.name()).await.unwrap().unwrap().index;
    let second = kind.run(&context, &params).await.expect("twice");
    assert_eq!((&first["image"], &first["before"]), (&second["image"], &second["before"]));
    assert_eq!(bench.swarm.service(&bench.name()).await.unwrap().unwrap().index, index, "nothing was sent");
    // A later step of another run does not matter to the undo's way back, only to whether it may.
    kind.undo(&context, &params, Some(&first)).await.expect("undone");
    assert_eq!(bench.world().await, ("app:v1".into(), 2, 2));
    let index = bench.swarm.service(&bench.name()).await.unwrap().unwrap().index;
    kind.undo(&context, &params, Some(&first)).await.expect("undone twice");
    assert_eq!(bench.swarm.service(&bench.name()).await.unwrap().unwrap().index, index, "nothing was sent");
    assert_eq!(kind.probe(&context, &params).await.unwrap(), Probed::DidNotHappen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_in_order_and_undone_whole() {
    let (mut api, db) = (declared("api"), declared("db"));
    let network = format!("houston-test-{}", rand::random::<u32>());
    api.depends_on = vec![db.name.clone()];
    api.networks = vec![network.clone()];
    let (api_name, db_name) = (api.swarm_name.clone(), db.swarm_name.clone());
    let Some(bench) = Bench::new(&[api, db]).await else { return };
    let kind = kind("swarm_stack");
    let params = json!({ "name": "shop", "services": ["api", "db"] });
    let context = bench.plan(&*kind, &params).await.unwrap();
    assert!(context.planned.notes.iter().any(|n| n.contains(&network)), "{:?}", context.planned.notes);
    let output = kind.run(&context, &params).await.expect("made");
    let created = |s: &houston::providers::swarm::Service| s.created_at.unwrap();
    let (api, db) =
        (bench.swarm.service(&api_name).await.unwrap(), bench.swarm.service(&db_name).await.unwrap());
    let (api, db) = (api.expect("api runs"), db.expect("db runs"));
    assert!(created(&db) < created(&api), "what is depended on comes first");
    assert_eq!(api.label("com.docker.stack.namespace"), Some("shop"));
    let again = bench.plan(&*kind, &params).await.unwrap();
    assert_eq!(again.planned.changes, [], "what is as declared does not change");
    kind.undo(&context, &params, Some(&output)).await.expect("undone");
    kind.undo(&context, &params, Some(&output)).await.expect("undone twice");
    for name in [api_name, db_name] {
        assert!(bench.swarm.service(&name).await.unwrap().is_none());
    }
    remove_network(&bench.swarm, &network).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_an_environment_shows_drift_and_what_is_missing() {
    let (web, gone) = (declared("web"), declared("gone"));
    let Some(bench) = Bench::new(std::slice::from_ref(&web)).await else { return };
    bench.deploy("v2").await.expect("created");
    let environment = Environment {
        name: EnvName::from("prod"),
        at: Location::new("environments/prod.yaml", 1, 1),
        hosts: BTreeMap::new(),
        temporary: BTreeMap::new(),
        swarm: None,
        backups: None,
        services: vec![web, gone],
        variables: BTreeMap::new(),
        approvals: BTreeMap::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        freezes: Vec::new(),
        maintenance: houston::config::maintenance::Rules::default(),
        break_glass: None,
    };
    let status = status(&bench.swarm, &environment, &Clock::system()).await.unwrap();
    assert!(status.nodes.iter().any(|n| n.is_well() && n.node.leader && n.tasks >= 2), "{:?}", status.nodes);
    let [web, gone, ..] = status.services.as_slice() else { panic!("the declared ones come first") };
    assert_eq!((web.wanted, web.running, web.version.as_str(), web.drift), (2, 2, "v2", true));
    assert!(
        web.age.unwrap() < Duration::from_secs(60) && web.run.as_deref().unwrap().starts_with("houston-R-")
    );
    assert_eq!((gone.exists, gone.wanted, gone.running), (false, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_manager_is_asked_when_one_is_of_no_use() {
    let Some(socket) = parts::docker() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let swarm = Swarm::over(vec![Manager::socket("/nonexistent/docker.sock"), Manager::socket(&socket)]);
    assert!(!swarm.nodes().await.expect("the second answers").is_empty());
    assert_eq!(swarm.manager(), socket.display().to_string(), "it is remembered");
}

/// The environment's managers over SSH: a host that is down, then the test machine itself.
#[tokio::test(flavor = "multi_thread")]
async fn managers_are_reached_over_ssh_in_their_order() {
    let Some(socket) = parts::docker() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(base) = parts::sshd() else { return };
    let host = |name: &str, port: u16| Host {
        name: name.into(),
        address: "127.0.0.1".into(),
        user: None,
        port,
        identity: Some(base.join("id")),
        known_hosts: Some(base.join("known_hosts")),
        jump: vec![],
        at: Location::new("environments/prod.yaml", 1, 1),
    };
    let port = std::fs::read_to_string(base.join("port")).unwrap().trim().parse().unwrap();
    let hosts = [("down", 1), ("up", port)].map(|(name, port)| (name.to_owned(), host(name, port)));
    let mut environment = Environment {
        name: EnvName::from("prod"),
        at: Location::new("environments/prod.yaml", 1, 1),
        hosts: hosts.into(),
        backups: None,
        temporary: BTreeMap::new(),
        swarm: Some(SwarmAccess::Managers {
            hosts: vec!["down".into(), "up".into()],
            socket: socket.clone(),
        }),
        services: Vec::new(),
        variables: BTreeMap::new(),
        approvals: BTreeMap::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        freezes: Vec::new(),
        maintenance: houston::config::maintenance::Rules::default(),
        break_glass: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let pool = SshPool::new(dir.path(), SshOptions::default(), Redactor::new()).unwrap();
    let swarm = Swarm::of(&environment, &pool).expect("it names managers");
    assert!(!swarm.nodes().await.expect("the second answers").is_empty());
    assert!(swarm.manager().starts_with("up"), "{}", swarm.manager());
    // The connection is lost, and made again.
    pool.close().await;
    assert!(!swarm.nodes().await.expect("a new connection").is_empty());
    environment.swarm = Some(SwarmAccess::Managers { hosts: vec!["down".into()], socket });
    let alone = Swarm::of(&environment, &pool).expect("it names a manager");
    let error = alone.nodes().await.expect_err("it is down");
    assert!(error.to_string().contains("down") && error.is_transient() && error.hint().is_some(), "{error}");
    pool.close().await;
}

/// Networks are free only once the last task has left them.
async fn remove_network(swarm: &Swarm, name: &str) {
    for _ in 0..100 {
        if swarm.remove_network(name).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("network `{name}` is left behind");
}
