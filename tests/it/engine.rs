//! The sandbox's Docker engine, seen by a plain HTTP client over its socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use houston::sandbox::engine::{self, Behaviour, Engine, Options, service_spec};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PROGRAM: &str = env!("CARGO_BIN_EXE_houston");

/// An engine with the images `web:1` to `web:4`, and a client of its socket.
struct Bench {
    engine: Engine,
    client: reqwest::Client,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start(services: Vec<Value>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path().join("engine.sock"), PROGRAM)
            .image("web:1", Behaviour::Healthy)
            .image("web:2", Behaviour::Slow(150))
            .image("web:3", Behaviour::Crash)
            .image("web:4", Behaviour::Unhealthy);
        options.services = services;
        let engine = engine::start(options).await.unwrap();
        let client = reqwest::Client::builder().unix_socket(engine.socket()).build().unwrap();
        Self { engine, client, _dir: dir }
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("http://engine{path}")).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.client.post(format!("http://engine{path}")).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    async fn service(&self, name: &str) -> Value {
        self.get(&format!("/v1.41/services/{name}")).await
    }

    /// Reads the spec, lets it be changed and puts it back, as a client does.
    async fn update(&self, name: &str, edit: impl Fn(&mut Value)) {
        let service = self.service(name).await;
        let mut spec = service["Spec"].clone();
        edit(&mut spec);
        let path = format!("/v1.41/services/{name}/update?version={}", service["Version"]["Index"]);
        let (status, answer) = self.post(&path, &spec).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn tasks(&self, name: &str, desired: &str) -> Vec<Value> {
        let filters = json!({"service": [name], "desired-state": [desired]}).to_string();
        let url =
            reqwest::Url::parse_with_params("http://engine/v1.41/tasks", [("filters", filters)]).unwrap();
        let response = self.client.get(url).send().await.unwrap();
        response.json::<Vec<Value>>().await.unwrap()
    }

    async fn running(&self, name: &str, image: &str, count: usize) {
        until(&format!("{count} tasks of {image} run"), async || {
            let tasks = self.tasks(name, "running").await;
            let fits = |task: &&Value| {
                task["Status"]["State"] == "running" && task["Spec"]["ContainerSpec"]["Image"] == image
            };
            tasks.len() == count && tasks.iter().filter(fits).count() == count
        })
        .await;
    }

    async fn update_state(&self, name: &str, state: &str) -> Value {
        until(&format!("the update of {name} is {state}"), async || {
            self.service(name).await["UpdateStatus"]["State"] == state
        })
        .await;
        self.service(name).await
    }
}

/// Looks again every 20 ms, for at most a minute.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A spec with timers for a test.
fn web(image: &str, replicas: u64) -> Value {
    let mut spec = service_spec("web", image, replicas);
    spec["UpdateConfig"]["Monitor"] = json!(300_000_000u64);
    spec["RollbackConfig"]["Monitor"] = json!(50_000_000u64);
    spec["TaskTemplate"]["RestartPolicy"]["Delay"] = json!(50_000_000u64);
    spec
}

fn set_image(image: &str) -> impl Fn(&mut Value) {
    move |spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image)
}

/// Asks the front again and again until it is told to stop: answers, failures, versions seen.
struct Visitor {
    stop: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    work: tokio::task::JoinHandle<(u64, BTreeSet<String>)>,
}

impl Visitor {
    fn start(front: SocketAddr) -> Self {
        let (stop, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, failed) = (stop.clone(), failures.clone());
        let work = tokio::spawn(async move {
            let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
            let (mut answers, mut versions) = (0, BTreeSet::new());
            while !ended.load(Ordering::Relaxed) {
                match client.get(format!("http://{front}/")).send().await.and_then(|r| r.error_for_status()) {
                    Ok(response) => {
                        let page: Value = response.json().await.unwrap_or_default();
                        versions.insert(page["version"].as_str().unwrap_or("?").to_owned());
                        answers += 1;
                    }
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                sleep(Duration::from_millis(3)).await;
            }
            (answers, versions)
        });
        Self { stop, failures, work }
    }

    async fn stop(self) -> (u64, u64, BTreeSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (answers, versions) = self.work.await.unwrap();
        (answers, self.failures.load(Ordering::Relaxed), versions)
    }
}

#[tokio::test]
async fn the_engine_says_that_it_is_not_docker() {
    let bench = Bench::start(vec![]).await;
    assert_eq!(bench.get("/version").await["Platform"]["Name"], engine::NAME);
    let info = bench.get("/v1.41/info").await;
    assert_eq!(info["Name"], engine::NAME);
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    assert_eq!(info["Swarm"]["ControlAvailable"], true);
    let ping = bench.client.get("http://engine/_ping").send().await.unwrap();
    assert_eq!(ping.headers()["api-version"], "1.41");
    assert_eq!(ping.text().await.unwrap(), "OK");
    assert_eq!(bench.get("/nodes").await.as_array().unwrap().len(), 3);
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_created_service_runs_spread_over_the_nodes_and_answers_at_its_front() {
    let bench = Bench::start(vec![]).await;
    let (status, created) = bench.post("/v1.44/services/create", &web("web:1", 3)).await;
    assert_eq!(status, 201);
    bench.running("web", "web:1", 3).await;
    let tasks = bench.tasks("web", "running").await;
    let nodes: BTreeSet<_> = tasks.iter().map(|task| task["NodeID"].to_string()).collect();
    let ports: BTreeSet<_> = tasks
        .iter()
        .map(|task| task["Status"]["PortStatus"]["Ports"][0]["PublishedPort"].to_string())
        .collect();
    assert_eq!((nodes.len(), ports.len()), (3, 3));
    let front = bench.engine.service_addr("web").unwrap();
    let page: Value = reqwest::get(format!("http://{front}/")).await.unwrap().json().await.unwrap();
    assert_eq!((&page["service"], &page["version"]), (&json!("web"), &json!("1")));
    let container = tasks[0]["Status"]["ContainerStatus"]["ContainerID"].as_str().unwrap();
    let container = bench.get(&format!("/containers/{container}/json")).await;
    assert_eq!(container["State"]["Health"]["Status"], "healthy");
    // The same name again is refused, and an id is as good as a name.
    assert_eq!(bench.post("/services/create", &web("web:1", 1)).await.0, 409);
    assert_eq!(bench.service(created["ID"].as_str().unwrap()).await["Spec"]["Name"], "web");
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_start_first_update_fails_no_request() {
    let bench = Bench::start(vec![web("web:1", 3)]).await;
    bench.running("web", "web:1", 3).await;
    let visitor = Visitor::start(bench.engine.service_addr("web").unwrap());
    bench.update("web", set_image("web:2")).await;
    let service = bench.update_state("web", "completed").await;
    assert_eq!(service["UpdateStatus"]["Message"], "update completed");
    assert_eq!(service["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "web:1");
    bench.running("web", "web:2", 3).await;
    let (answers, failures, versions) = visitor.stop().await;
    assert_eq!(failures, 0, "of {answers} requests");
    assert_eq!(versions, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_version_that_crashes_is_rolled_back_with_its_labels_and_leaves_its_last_words() {
    let bench = Bench::start(vec![web("web:1", 2)]).await;
    bench.running("web", "web:1", 2).await;
    bench
        .update("web", |spec| {
            set_image("web:3")(spec);
            spec["Labels"]["run"] = json!("R-1");
        })
        .await;
    let service = bench.update_state("web", "rollback_completed").await;
    assert_eq!(service["UpdateStatus"]["Message"], "rollback completed");
    assert_eq!(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], "web:1");
    assert_eq!(service["Spec"]["Labels"], json!({}));
    assert_eq!(service["PreviousSpec"], Value::Null);
    bench.running("web", "web:1", 2).await;
    let ended = bench.tasks("web", "shutdown").await;
    let failed = ended.iter().find(|task| task["Status"]["State"] == "failed").expect("a failed task");
    assert_eq!(failed["Status"]["Err"], "task: non-zero exit (1)");
    assert_eq!(failed["Status"]["ContainerStatus"]["ExitCode"], 1);
    let path =
        format!("http://engine/tasks/{}/logs?stdout=1&stderr=1&tail=1", failed["ID"].as_str().unwrap());
    let log = bench.client.get(path).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(log[0], 2, "standard error");
    assert_eq!(u32::from_be_bytes(log[4..8].try_into().unwrap()) as usize, log.len() - 8);
    assert!(log[8..].starts_with(b"fatal: migration"), "{log:?}");
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_version_that_never_gets_healthy_is_rolled_back_and_the_service_never_stops() {
    let bench = Bench::start(vec![web("web:1", 2)]).await;
    bench.running("web", "web:1", 2).await;
    let visitor = Visitor::start(bench.engine.service_addr("web").unwrap());
    bench.update("web", set_image("web:4")).await;
    bench.update_state("web", "rollback_completed").await;
    let ended = bench.tasks("web", "shutdown").await;
    let error = |task: &Value| task["Status"]["Err"].as_str().unwrap_or("").to_owned();
    assert!(ended.iter().any(|task| error(task).contains("unhealthy container")), "{ended:?}");
    let (_, failures, versions) = visitor.stop().await;
    assert_eq!((failures, versions), (0, BTreeSet::from(["1".to_owned()])));
    bench.engine.stop().await;
}

#[tokio::test]
async fn an_unknown_image_is_rejected_and_pauses_the_update_where_the_spec_says_so() {
    let bench = Bench::start(vec![web("web:1", 2)]).await;
    bench.running("web", "web:1", 2).await;
    bench
        .update("web", |spec| {
            set_image("web:9")(spec);
            spec["UpdateConfig"]["FailureAction"] = json!("pause");
        })
        .await;
    let service = bench.update_state("web", "paused").await;
    let message = service["UpdateStatus"]["Message"].as_str().unwrap().to_owned();
    let task = message.strip_prefix("update paused due to failure or early termination of task ").unwrap();
    let task = bench.get(&format!("/tasks/{task}")).await;
    assert_eq!(task["Status"]["State"], "rejected");
    assert_eq!(task["Status"]["Err"], "No such image: web:9");
    assert_eq!(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], "web:9");
    bench.running("web", "web:1", 2).await;
    bench.engine.stop().await;
}

#[tokio::test]
async fn stop_first_ends_the_old_task_before_the_new_one_starts() {
    let bench = Bench::start(vec![web("web:1", 1)]).await;
    bench.running("web", "web:1", 1).await;
    let old = bench.tasks("web", "running").await[0]["ID"].as_str().unwrap().to_owned();
    bench
        .update("web", |spec| {
            set_image("web:2")(spec);
            spec["UpdateConfig"]["Order"] = json!("stop-first");
        })
        .await;
    bench.update_state("web", "completed").await;
    let old = bench.get(&format!("/tasks/{old}")).await;
    let new = &bench.tasks("web", "running").await[0];
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(old["Status"]["State"], "shutdown");
    assert!(time(&old["Status"]["Timestamp"]) <= time(&new["CreatedAt"]));
    bench.engine.stop().await;
}

#[tokio::test]
async fn scaling_is_no_update_and_removes_tasks_that_are_too_many() {
    let bench = Bench::start(vec![web("web:1", 1)]).await;
    bench.running("web", "web:1", 1).await;
    for replicas in [4, 2, 0] {
        bench.update("web", |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(replicas)).await;
        bench.running("web", "web:1", replicas).await;
        assert_eq!(bench.service("web").await["UpdateStatus"], Value::Null);
    }
    let front = bench.engine.service_addr("web").unwrap();
    assert_eq!(reqwest::get(format!("http://{front}/")).await.unwrap().status(), 503);
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_stale_version_is_refused_and_nothing_changes() {
    let bench = Bench::start(vec![web("web:1", 1)]).await;
    bench.running("web", "web:1", 1).await;
    let before = bench.service("web").await;
    bench.update("web", |spec| spec["Labels"]["a"] = json!("b")).await;
    let after = bench.service("web").await;
    assert!(after["Version"]["Index"].as_u64() > before["Version"]["Index"].as_u64());
    let path = format!("/services/web/update?version={}", before["Version"]["Index"]);
    let (status, answer) = bench.post(&path, &before["Spec"]).await;
    assert_eq!(status, 500);
    assert!(answer["message"].as_str().unwrap().ends_with("update out of sequence"), "{answer}");
    assert_eq!(bench.service("web").await["Spec"]["Labels"]["a"], "b");
    bench.engine.stop().await;
}

#[tokio::test]
async fn two_server_side_rollbacks_toggle() {
    let bench = Bench::start(vec![web("web:1", 1)]).await;
    bench.running("web", "web:1", 1).await;
    bench.update("web", set_image("web:2")).await;
    bench.update_state("web", "completed").await;
    for image in ["web:1", "web:2"] {
        let index = bench.service("web").await["Version"]["Index"].clone();
        let path = format!("/services/web/update?version={index}&rollback=previous");
        assert_eq!(bench.post(&path, &json!({})).await.0, 200);
        bench.update_state("web", "rollback_completed").await;
        bench.running("web", image, 1).await;
    }
    bench.engine.stop().await;
}

#[tokio::test]
async fn force_update_replaces_tasks_of_the_same_image() {
    let bench = Bench::start(vec![web("web:1", 1)]).await;
    bench.running("web", "web:1", 1).await;
    let old = bench.tasks("web", "running").await[0]["ID"].clone();
    bench.update("web", |spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1)).await;
    bench.update_state("web", "completed").await;
    assert_ne!(bench.tasks("web", "running").await[0]["ID"], old);
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_task_whose_process_dies_is_started_again_as_often_as_the_policy_says() {
    let mut spec = web("web:3", 1);
    spec["TaskTemplate"]["RestartPolicy"]["MaxAttempts"] = json!(2);
    let bench = Bench::start(vec![spec]).await;
    let failed = async || bench.tasks("web", "shutdown").await.len();
    until("first attempt and two more", async || failed().await == 3).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(failed().await, 3);
    assert!(bench.tasks("web", "running").await.is_empty());
    bench.engine.stop().await;
}

#[tokio::test]
async fn a_drained_node_is_left_by_its_tasks() {
    let bench = Bench::start(vec![web("web:1", 3)]).await;
    bench.running("web", "web:1", 3).await;
    let node = bench.get("/nodes/node2").await;
    let mut spec = node["Spec"].clone();
    spec["Availability"] = json!("drain");
    let path = format!("/nodes/node2/update?version={}", node["Version"]["Index"]);
    assert_eq!(bench.post(&path, &spec).await.0, 200);
    bench.running("web", "web:1", 3).await;
    until("no task is on node2", async || {
        let tasks = bench.tasks("web", "running").await;
        tasks.len() == 3 && tasks.iter().all(|task| task["NodeID"] != node["ID"])
    })
    .await;
    bench.engine.stop().await;
}

#[tokio::test]
async fn stopping_the_engine_ends_every_child() {
    let bench = Bench::start(vec![web("web:1", 3)]).await;
    bench.running("web", "web:1", 3).await;
    let tasks = bench.tasks("web", "running").await;
    let pids: Vec<_> =
        tasks.iter().map(|task| task["Status"]["ContainerStatus"]["PID"].as_u64().unwrap()).collect();
    let alive = |pid: &u64| std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(pids.iter().all(alive));
    let socket = bench.engine.socket().to_owned();
    bench.engine.stop().await;
    assert!(!pids.iter().any(alive));
    assert!(!socket.exists());
}
