//! How long a deployment takes through Houston, from the message to the last edit, compared with the same
//! `docker service update` by hand: on the same service of the same Swarm, in turn.
//!
//!     HOUSTON_TEST_DOCKER=$(tests/parts/docker.sh start) && tests/parts/images.sh $HOUSTON_TEST_DOCKER
//!     HOUSTON_TEST_DOCKER=… cargo bench --bench deploy

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a figure is measured and printed")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use houston::app::{self, Houston, Options};
use houston::config::Config;
use houston::config::load::{Report, check};
use houston::providers::swarm::{Swarm, spec};
use houston::sandbox::{self, Sandbox};
use houston::secret::Redactor;

const ROUNDS: usize = 5;
const SERVICE: &str = "houston-bench-web";
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    let Some(docker) = std::env::var_os("HOUSTON_TEST_DOCKER") else {
        println!("SKIPPED: HOUSTON_TEST_DOCKER names no engine; see the head of benches/deploy.rs");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let docker = Path::new(&docker);
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox = sandbox::start(sandbox::Options::default()).await.expect("the sandbox starts");
    write_config(dir.path(), &sandbox, docker);
    let config = load(dir.path());
    let declared = config.environments.values().flat_map(|e| &e.services).next().expect("declared").clone();
    let swarm = Swarm::local(docker);
    let _ = swarm.remove_service(SERVICE).await;
    swarm.create_service(&spec::create(&declared, "v1")).await.expect("created");
    let houston = Houston::start(Options::new(config, dir.path().join("state"), Redactor::new())).await;
    let houston = houston.expect("Houston starts");
    until(|| houston.chat.health().caught_up).await;
    // The first one through Houston also brings the settings of the file.
    through_houston(&sandbox, "v2", 1).await;

    let (mut by_hand, mut by_houston) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        by_hand.push(update_by_hand(docker, "v1").await);
        by_houston.push(through_houston(&sandbox, "v2", round + 2).await);
    }
    houston.stop(Duration::ZERO).await;
    swarm.remove_service(SERVICE).await.expect("removed");

    let (hand, houston) = (median(&mut by_hand), median(&mut by_houston));
    println!("an update of {} tasks, each watched for 2 s, median of {ROUNDS}:", declared.replicas.count);
    println!("  docker service update   {:.2} s  {:.2?}", hand.as_secs_f64(), by_hand);
    println!("  through Houston         {:.2} s  {:.2?}", houston.as_secs_f64(), by_houston);
    println!("  ratio                   {:.2}", houston.as_secs_f64() / hand.as_secs_f64());
}

fn write_config(dir: &Path, sandbox: &Sandbox, docker: &Path) {
    let (user_id, token) = sandbox.personal_token("houston").expect("the bot's account");
    let houston = format!(
        "rocketchat: {{url: {}, user_id: {user_id}, token: {{file: token}}}}\n\
         access: {{roles: {{operator: {{users: [alice]}}}}}}\n",
        sandbox.url()
    );
    let environment = format!(
        "swarm: {{socket: {}}}\nservices:\n  web:\n    image: app\n    version: v1\n    \
         swarm_name: {SERVICE}\n    replicas: 3\n    endpoint_mode: dnsrr\n    \
         ports: [{{target: 8080, mode: host}}]\n    update: {{order: start-first, monitor: 2s}}\n",
        docker.display()
    );
    std::fs::create_dir(dir.join("environments")).expect("a folder");
    for (name, text) in
        [("token", &token), ("houston.yaml", &houston), ("environments/bench.yaml", &environment)]
    {
        std::fs::write(dir.join(name), text).expect("written");
    }
}

fn load(dir: &Path) -> Config {
    let kinds = app::kinds();
    let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
    let Report { config, diagnostics: findings, .. } = check(dir, &kinds);
    config.unwrap_or_else(|| panic!("{findings:?}"))
}

/// As a person does it: the client shows the progress and returns when the service has converged.
async fn update_by_hand(docker: &Path, version: &str) -> Duration {
    let begun = Instant::now();
    let status = tokio::process::Command::new("docker")
        .args(["-H", &format!("unix://{}", docker.display()), "service", "update", "--no-resolve-image"])
        .args(["--image", &format!("app:{version}"), SERVICE])
        .stdout(Stdio::null())
        .status()
        .await
        .expect("the docker client runs");
    assert!(status.success(), "docker service update: {status}");
    begun.elapsed()
}

/// From the message until the last edit.
async fn through_houston(sandbox: &Sandbox, version: &str, run: usize) -> Duration {
    let begun = Instant::now();
    sandbox.say("alice", "ops", &format!("!deploy bench web {version}")).await.expect("said");
    let end = format!(":white_check_mark: *R-{run}*");
    until(|| {
        let said = sandbox.messages("ops");
        let mut texts = said.iter().filter_map(|message| message["msg"].as_str());
        texts.any(|text| {
            assert!(!text.starts_with(":x:"), "{text}");
            text.starts_with(&end)
        })
    })
    .await;
    begun.elapsed()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
