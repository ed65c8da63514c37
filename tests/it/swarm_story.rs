//! The whole of Houston on a real Docker Swarm, from what a person types to what runs: chat is the sandbox,
//! all else is real. One environment is reached by the engine's socket, one over a real SSH.
//!
//! The parts are made by `tests/parts/`; `HOUSTON_TEST_DOCKER` and `HOUSTON_TEST_SSHD` name them. Every
//! story has services of its own and removes them whatever happens.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use houston::app::{self, Houston, Options};
use houston::config::Config;
use houston::ids::{EnvName, ServiceName};
use houston::providers::swarm::{Swarm, Task, UpdateState, spec};
use houston::sandbox::{self, Sandbox};
use houston::secret::Redactor;

use crate::support::parts;
use crate::swarm::TURNS;

/// How long anything expected may take; an update takes ten seconds where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(90);

/// `prod` is reached by the engine's socket and needs a second person, `far` over SSH and needs nobody.
const ENVIRONMENTS: [&str; 2] = ["prod", "far"];

/// A service that a story declares.
struct Declared {
    name: &'static str,
    version: &'static str,
    tasks: u32,
    depends_on: &'static [&'static str],
}

const WEB: Declared = Declared { name: "web", version: "v2", tasks: 2, depends_on: &[] };

/// A chat server with people, a configuration folder, and a part of the Swarm.
struct Story {
    sandbox: Sandbox,
    /// Straight to the engine: what is true, whatever Houston says.
    swarm: Arc<Swarm>,
    /// Its files lie in `dir`, so it goes first.
    sshd: Option<Sshd>,
    dir: tempfile::TempDir,
    /// Before the Swarm's names of this story's services.
    prefix: String,
    services: &'static [Declared],
    houston: Option<Houston>,
    _turn: tokio::sync::SemaphorePermit<'static>,
}

impl Story {
    /// Everything but Houston. `None` where there is no Swarm.
    async fn prepare(services: &'static [Declared]) -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let docker = parts::docker()?;
        let turn = TURNS.acquire().await.expect("never closed");
        let sandbox = sandbox::start(sandbox::Options::default()).await.expect("the sandbox starts");
        let dir = tempfile::tempdir().expect("a folder");
        let story = Self {
            sandbox,
            swarm: Arc::new(Swarm::local(&docker)),
            sshd: None,
            dir,
            prefix: format!("houston-story-{}", rand::random::<u32>()),
            services,
            houston: None,
            _turn: turn,
        };
        story.write_config(&docker);
        Some(story)
    }

    /// With a Houston in this process, and the services at v1 in `prod`.
    async fn begin(services: &'static [Declared]) -> Option<Self> {
        let mut story = Self::prepare(services).await?;
        for service in services {
            story.create("prod", service.name).await;
        }
        story.start().await;
        Some(story)
    }

    fn write_config(&self, docker: &Path) {
        let (user_id, token) = self.sandbox.personal_token("houston").expect("the bot's account");
        self.write("token", &token);
        let houston = format!(
            "rocketchat: {{url: {}, user_id: {user_id}, token: {{file: token}}}}\n\
             access: {{roles: {{operator: {{users: [alice, bob]}}, lead: {{users: [carol]}}}}}}\n\
             # Every test's account has the same id, and all share one Swarm.\n\
             lease: {{enabled: false}}\n",
            self.sandbox.url()
        );
        self.write("houston.yaml", &houston);
        let local = format!("swarm: {{socket: {}}}\n", docker.display());
        self.write("environments/prod.yaml", &format!("{local}{}", self.declarations("prod")));
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.config_dir().join(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    fn declarations(&self, environment: &str) -> String {
        let mut out = "services:\n".to_owned();
        for Declared { name, version, tasks, depends_on } in self.services {
            let swarm_name = self.swarm_name(environment, name);
            out.push_str(&format!(
                "  {name}:\n    image: app\n    version: {version}\n    swarm_name: {swarm_name}\n    \
                 replicas: {{count: {tasks}, min: 1, max: 4}}\n    depends_on: [{}]\n    \
                 endpoint_mode: dnsrr\n    ports: [{{target: 8080, mode: host}}]\n    \
                 update: {{order: start-first, monitor: 2s}}\n",
                depends_on.join(", ")
            ));
        }
        out
    }

    fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }
    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }
    fn swarm_name(&self, environment: &str, service: &str) -> String {
        format!("{}-{environment}-{service}", self.prefix)
    }

    fn config(&self) -> Config {
        let kinds = app::kinds();
        let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
        let houston::config::load::Report { config, diagnostics: findings, .. } =
            houston::config::load::check(&self.config_dir(), &kinds);
        config.unwrap_or_else(|| panic!("{findings:?}"))
    }

    /// Makes a service at v1, as somebody did before Houston came.
    async fn create(&self, environment: &str, service: &str) {
        let config = self.config();
        let declared = config.environments[&EnvName::from(environment)]
            .service(&ServiceName::from(service))
            .expect("declared")
            .clone();
        self.swarm.create_service(&spec::create(&declared, "v1")).await.expect("created");
        let wanted = declared.replicas.count as usize;
        self.until(&format!("`{service}` runs v1"), async || {
            self.running(environment, service).await.iter().filter(|t| t.image == "app:v1").count() == wanted
        })
        .await;
    }

    async fn start(&mut self) {
        let options = Options::new(self.config(), self.state_dir(), Redactor::new());
        let houston = Houston::start(options).await.expect("Houston starts");
        let deadline = Instant::now() + PATIENCE;
        while !houston.chat.health().caught_up {
            assert!(Instant::now() < deadline, "Houston never came online");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.houston = Some(houston);
    }

    // ----- what people do -------------------------------------------------------------------------

    async fn say(&self, who: &str, text: &str) {
        self.sandbox.say(who, "ops", text).await.expect("said");
    }

    async fn react(&self, who: &str, message: &Json, emoji: &str) {
        let body = json!({"user": who, "message": message["_id"], "emoji": emoji});
        self.sandbox.control("react", body).await.expect("reacted");
    }

    /// Alice asks, Bob approves.
    async fn ask_and_approve(&self, command: &str, run: &str) {
        self.say("alice", command).await;
        let card = self.card(run).await;
        self.react("bob", &card, ":+1:").await;
    }

    // ----- what people see ------------------------------------------------------------------------

    /// Houston's messages, oldest first, as they read now.
    fn said(&self) -> Vec<Json> {
        let messages = self.sandbox.messages("ops");
        messages.into_iter().filter(|message| message["u"]["username"] == "houston").collect()
    }

    fn texts(&self) -> Vec<String> {
        self.said().iter().map(|m| m["msg"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn find(&self, fits: impl Fn(&str) -> bool) -> Option<Json> {
        self.said().into_iter().find(|message| message["msg"].as_str().is_some_and(&fits))
    }

    async fn see(&self, what: &str, fits: impl Fn(&str) -> bool) -> Json {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(message) = self.find(&fits) {
                return message;
            }
            assert!(Instant::now() < deadline, "never seen: {what}, but {:#?}", self.texts());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn card(&self, run: &str) -> Json {
        self.see(&format!("the card of {run}"), |text| {
            text.starts_with(&format!(":clipboard: *{run}*")) && text.contains(" asked by ")
        })
        .await
    }

    async fn card_says(&self, run: &str, part: &str) {
        let start = format!(":clipboard: *{run}*");
        self.see(&format!("{part} on the card of {run}"), |text| {
            text.starts_with(&start) && text.contains(part)
        })
        .await;
    }

    /// The progress message of a run when it has ended.
    async fn end(&self, run: &str) -> String {
        let ends = [":white_check_mark:", ":x:", ":no_entry_sign:"].map(|sign| format!("{sign} *{run}*"));
        let what = format!("the end of {run}");
        let end = self.see(&what, |text| ends.iter().any(|end| text.starts_with(end))).await;
        end["msg"].as_str().expect("text").to_owned()
    }

    /// One message each: the card (where there was one), the progress, and the line that notifies.
    async fn each_message_of_the_run_exists_once(&self, with_card: bool) {
        self.see("the line that notifies", |text| text.starts_with("@alice ")).await;
        let count = |part: &str| self.texts().iter().filter(|text| text.contains(part)).count();
        assert_eq!(count(" asked by "), usize::from(with_card), "{:#?}", self.texts());
        assert_eq!(count("*R-1*") - usize::from(with_card), 1, "{:#?}", self.texts());
        assert_eq!(count("@alice "), 1, "{:#?}", self.texts());
    }

    // ----- what is true ---------------------------------------------------------------------------

    async fn running(&self, environment: &str, service: &str) -> Vec<Task> {
        let tasks =
            self.swarm.tasks(&self.swarm_name(environment, service)).await.expect("the engine answers");
        tasks.into_iter().filter(Task::is_running).collect()
    }

    /// (the service's image, tasks wanted, tasks that run that image)
    async fn world(&self, environment: &str, service: &str) -> (String, u64, usize) {
        let name = self.swarm_name(environment, service);
        let found = self.swarm.service(&name).await.expect("the engine answers").expect("the service exists");
        let running = self.running(environment, service).await;
        let running = running.iter().filter(|task| task.image == found.image()).count();
        (found.image().to_owned(), found.replicas().expect("replicated"), running)
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "never happened: {what}; {:#?}", self.texts());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The update has begun and has far to go: no new task runs yet, or the first one only just.
    async fn in_the_middle(&self, environment: &str, service: &str) {
        let name = self.swarm_name(environment, service);
        self.until("the update is under way", async || {
            let service = self.swarm.service(&name).await.expect("the engine answers").expect("it exists");
            service.update.is_some_and(|update| update.state == UpdateState::Updating)
        })
        .await;
    }

    /// Tasks of an image that were ever made, by the history that Swarm keeps (5 per slot).
    async fn ever_made(&self, environment: &str, service: &str, image: &str) -> usize {
        let tasks =
            self.swarm.tasks(&self.swarm_name(environment, service)).await.expect("the engine answers");
        tasks.iter().filter(|task| task.image == image).count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let names: Vec<String> = ENVIRONMENTS
            .iter()
            .flat_map(|env| self.services.iter().map(|service| self.swarm_name(env, service.name)))
            .collect();
        let (swarm, houston) = (self.swarm.clone(), self.houston.take());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async move {
                if let Some(houston) = houston {
                    houston.stop(Duration::ZERO).await;
                }
                for name in names {
                    let _ = swarm.remove_service(&name).await;
                }
            });
        });
    }
}

/// Asks a service for its health without a pause, as a balancer does: each healthy task in turn.
struct Poller {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Poller {
    fn start(swarm: Arc<Swarm>, name: String) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2));
                let client = client.build().expect("a client");
                let (mut asked, mut failed) = (0, Vec::new());
                while !stop.is_cancelled() {
                    let tasks = swarm.tasks(&name).await.expect("the engine answers");
                    let serving: Vec<_> =
                        tasks.iter().filter(|t| t.is_running() && !t.ports.is_empty()).collect();
                    let Some(task) = serving.get(asked % serving.len().max(1)) else {
                        failed.push("no task serves".to_owned());
                        continue;
                    };
                    let url = format!("http://127.0.0.1:{}/health", task.ports[0].0);
                    asked += 1;
                    let answer = client.get(&url).send().await;
                    if let Err(error) = answer.and_then(reqwest::Response::error_for_status) {
                        // A balancer does not send to a task that is being stopped; neither do we.
                        let now = swarm.tasks(&name).await.expect("the engine answers");
                        if now.iter().any(|t| t.id == task.id && t.is_running()) {
                            failed.push(error.to_string());
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (asked, failed)
            }
        });
        Self { stop, task }
    }

    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.cancel();
        self.task.await.expect("it polled")
    }
}

// ----- in one process -----------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_a_second_person_approves_fails_no_request() {
    let Some(story) = Story::begin(&[WEB]).await else { return };
    story.say("alice", "!deploy prod web v2").await;
    let card = story.card("R-1").await;
    let text = card["msg"].as_str().expect("text");
    assert!(text.contains("`app:v1` → `app:v2`") && text.contains("*has* nobody yet"), "{text}");
    // One's own consent is none.
    story.react("alice", &card, ":+1:").await;
    story.see("a refusal", |text| text.contains("alice") && !text.contains("_plan ")).await;
    let poller = Poller::start(story.swarm.clone(), story.swarm_name("prod", "web"));
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2), "nothing is done yet");
    story.react("bob", &card, ":+1:").await;
    let end = story.end("R-1").await;
    let (asked, failed) = poller.stop().await;
    assert!(end.starts_with(":white_check_mark: *R-1* `deploy prod web v2` deployed in "), "{end}");
    assert_eq!(story.world("prod", "web").await, ("app:v2".into(), 2, 2));
    assert!(asked > 50, "only {asked} requests were made");
    assert_eq!(failed, Vec::<String>::new(), "of {asked} requests");
    let card = story.card("R-1").await;
    assert!(card["msg"].as_str().is_some_and(|t| t.contains("*approved* by bob")), "{card}");
    // What is so already is an answer, without a run.
    story.say("alice", "!deploy prod web v2").await;
    story.see("nothing to do", |text| text.contains("nothing to do")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_environment_is_deployed_in_order_with_one_approval() {
    const SERVICES: &[Declared] = &[
        Declared { name: "web", version: "v2", tasks: 2, depends_on: &["api"] },
        Declared { name: "api", version: "v2", tasks: 1, depends_on: &["db"] },
        Declared { name: "db", version: "v2", tasks: 1, depends_on: &[] },
    ];
    let Some(story) = Story::begin(SERVICES).await else { return };
    story.ask_and_approve("!deploy prod", "R-1").await;
    let end = story.end("R-1").await;
    assert!(end.starts_with(":white_check_mark: *R-1* `deploy prod` deployed in "), "{end}");
    let mut ended = None;
    for service in ["db", "api", "web"] {
        let (wanted, running) = if service == "web" { (2, 2) } else { (1, 1) };
        assert_eq!(story.world("prod", service).await, ("app:v2".into(), wanted, running));
        let found = story.swarm.service(&story.swarm_name("prod", service)).await;
        let found = found.expect("the engine answers").expect("it exists");
        let update = found.update.expect("an update");
        assert!(ended <= update.started_at, "{service} was begun before what it depends on had ended");
        ended = update.completed_at;
    }
    story.each_message_of_the_run_exists_once(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_is_rolled_back_and_the_last_edit_says_why() {
    let Some(story) = Story::begin(&[WEB]).await else { return };
    story.ask_and_approve("!deploy prod web v3", "R-1").await;
    let end = story.end("R-1").await;
    assert!(end.starts_with(":x: *R-1* `deploy prod web v3` *failed* after "), "{end}");
    assert!(end.contains("was rolled back, it is back at `v1`: ") && end.contains("exited with 1"), "{end}");
    assert!(end.contains("fatal: configuration is missing"), "its last words: {end}");
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_healthy_is_rolled_back_and_the_last_edit_says_why() {
    let Some(story) = Story::begin(&[WEB]).await else { return };
    story.ask_and_approve("!deploy prod web v4", "R-1").await;
    let end = story.end("R-1").await;
    assert!(end.starts_with(":x: *R-1* `deploy prod web v4` *failed* after "), "{end}");
    assert!(end.contains("was rolled back, it is back at `v1`: ") && end.contains("health check"), "{end}");
    assert!(end.contains("serving v4 on 8080"), "its last words: {end}");
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_finds_the_last_healthy_release_and_scaling_keeps_it() {
    const ONE: &[Declared] = &[Declared { tasks: 1, ..WEB }];
    let Some(mut story) = Story::prepare(ONE).await else { return };
    story.start().await;
    // Made by Houston, so that it knows the release.
    story.ask_and_approve("!deploy prod web v1", "R-1").await;
    let end = story.end("R-1").await;
    assert!(end.starts_with(":white_check_mark:"), "{end}");
    story.ask_and_approve("!deploy prod web", "R-2").await;
    assert!(story.end("R-2").await.starts_with(":white_check_mark:"));
    assert_eq!(story.world("prod", "web").await, ("app:v2".into(), 1, 1));
    story.ask_and_approve("!scale prod web 2", "R-3").await;
    let end = story.end("R-3").await;
    assert!(end.starts_with(":white_check_mark: *R-3* `scale prod web 2` scaled in "), "{end}");
    assert_eq!(story.world("prod", "web").await, ("app:v2".into(), 2, 2));
    story.say("alice", "!scale prod web 9").await;
    story.see("the limits", |text| text.contains("may have 1 to 4 tasks, 9 is beyond that")).await;
    story.say("alice", "!rollback prod web").await;
    let card = story.card("R-4").await;
    assert!(card["msg"].as_str().is_some_and(|t| t.contains("`app:v2` → `app:v1`")), "{card}");
    story.react("carol", &card, ":+1:").await;
    let end = story.end("R-4").await;
    assert!(end.starts_with(":white_check_mark: *R-4* `rollback prod web v1` rolled back in "), "{end}");
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_in_the_middle_of_an_update_puts_the_service_back() {
    let Some(story) = Story::begin(&[WEB]).await else { return };
    story.ask_and_approve("!deploy prod web v2", "R-1").await;
    story.in_the_middle("prod", "web").await;
    story.say("alice", "!cancel R-1").await;
    let end = story.end("R-1").await;
    assert!(
        end.starts_with(":no_entry_sign: *R-1* `deploy prod web v2` *cancelled* by alice after "),
        "{end}"
    );
    assert!(end.contains("`web` is back at `v1`"), "{end}");
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2));
    let old: Vec<_> =
        story.running("prod", "web").await.into_iter().filter(|t| t.image != "app:v1").collect();
    assert!(old.is_empty(), "{old:?}");
    story.say("alice", "!locks").await;
    story.see("no locks", |text| text.to_lowercase().contains("nothing is locked")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_decide_deny_withdraw_and_see_drift_with_a_restart_in_between() {
    const ONE: &[Declared] = &[Declared { tasks: 1, ..WEB }];
    let Some(mut story) = Story::prepare(ONE).await else { return };
    let docker = parts::docker().expect("it is there");
    let two = format!(
        "swarm: {{socket: {}}}\napprovals: {{deploy: {{count: 2, from: [operator, lead]}}}}\n{}",
        docker.display(),
        story.declarations("prod")
    );
    story.write("environments/prod.yaml", &two);
    story.create("prod", "web").await;
    story.start().await;
    let untouched = ("app:v1".to_owned(), 1, 1);

    story.say("alice", "!deploy prod web v2").await;
    let card = story.card("R-1").await;
    story.react("bob", &card, ":-1:").await;
    story.card_says("R-1", "*denied* by bob").await;
    story.see("the question why", |text| text.contains("@bob why?")).await;
    assert_eq!(story.world("prod", "web").await, untouched);

    // Somebody else changes the service between the plan and the consent.
    story.say("alice", "!deploy prod web v2").await;
    let card = story.card("R-2").await;
    let name = story.swarm_name("prod", "web");
    let service = story.swarm.service(&name).await.expect("the engine answers").expect("it exists");
    let mut other = service.spec.clone();
    spec::set_replicas(&mut other, 2);
    story.swarm.update_service(&service, &other).await.expect("updated");
    story.react("bob", &card, ":+1:").await;
    story.react("carol", &card, ":+1:").await;
    story.card_says("R-2", "*void*").await;
    let card = story.card("R-2").await;
    assert!(card["msg"].as_str().is_some_and(|t| t.contains("replicas: `1` → `2`")), "{card}");
    story.until("two tasks run", async || story.world("prod", "web").await == ("app:v1".into(), 2, 2)).await;

    story.say("alice", "!deploy prod web v2").await;
    let card = story.card("R-3").await;
    story.react("bob", &card, ":+1:").await;
    story.card_says("R-3", "*has* bob").await;
    story.say("bob", "!withdraw R-3").await;
    story.card_says("R-3", "*has* nobody yet").await;
    story.houston.take().expect("it runs").stop(Duration::from_secs(10)).await;
    story.react("carol", &card, ":+1:").await;
    story.start().await;
    story.card_says("R-3", "*has* carol").await;
    assert_eq!(story.world("prod", "web").await, ("app:v1".into(), 2, 2), "one is not two");
    story.say("bob", "!approve R-3").await;
    let end = story.end("R-3").await;
    assert!(end.starts_with(":white_check_mark: *R-3* `deploy prod web v2` deployed in "), "{end}");
    assert_eq!(story.world("prod", "web").await.0, "app:v2");

    // Cancelled before anybody has decided.
    story.say("alice", "!deploy prod web v1").await;
    story.card("R-4").await;
    story.say("alice", "!cancel R-4").await;
    story.card_says("R-4", "*cancelled* by alice before it was decided").await;
    assert_eq!(story.world("prod", "web").await.0, "app:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_are_updated_side_by_side_and_a_third_change_waits_for_its_service() {
    const SERVICES: &[Declared] = &[WEB, Declared { name: "api", version: "v2", tasks: 1, depends_on: &[] }];
    let Some(mut story) = Story::prepare(SERVICES).await else { return };
    let docker = parts::docker().expect("it is there");
    let nobody = format!(
        "swarm: {{socket: {}}}\napprovals: {{default: none}}\n{}",
        docker.display(),
        story.declarations("prod")
    );
    story.write("environments/prod.yaml", &nobody);
    tokio::join!(story.create("prod", "web"), story.create("prod", "api"));
    story.start().await;
    story.say("alice", "!deploy prod web").await;
    story.in_the_middle("prod", "web").await;
    story.say("bob", "!scale prod web 3").await;
    // Plans are made side by side: only what is seen has a number.
    story
        .see("the queue", |text| {
            text.contains("*R-2*") && text.contains("is 1st in the queue") && text.contains("behind R-1 (")
        })
        .await;
    story.say("carol", "!deploy prod api").await;
    for run in ["R-1", "R-2", "R-3"] {
        let end = story.end(run).await;
        assert!(end.starts_with(":white_check_mark:"), "{end}");
    }
    assert_eq!(story.world("prod", "web").await, ("app:v2".into(), 3, 3));
    assert_eq!(story.world("prod", "api").await, ("app:v2".into(), 1, 1));
    let engine = &story.houston.as_ref().expect("it runs").engine;
    let mut times = Vec::new();
    for run in 1..=3 {
        let state = engine.state(houston::ids::RunId(run)).await.expect("readable");
        times.push((state.started_at.expect("started"), state.ended_at.expect("ended")));
    }
    assert!(times[2].0 < times[0].1, "R-3 did not wait for R-1: {times:?}");
    assert!(times[1].0 >= times[0].1, "R-2 waited for R-1: {times:?}");
}

// ----- over SSH -----------------------------------------------------------------------------------

/// An sshd of this story's own, so that its connections can be killed without harm to others.
struct Sshd {
    base: PathBuf,
    parts: PathBuf,
}

impl Sshd {
    /// `None`, said loudly, where no sshd is installed.
    async fn start(parts: PathBuf) -> Option<Self> {
        parts::sshd()?;
        let base = parts.join("sshd");
        let sshd = Self { base, parts };
        let started = sshd.script("start").await;
        assert!(started.success(), "the sshd starts");
        Some(sshd)
    }

    async fn script(&self, act: &str) -> ExitStatus {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parts/sshd.sh");
        let mut command = program(script);
        command.arg(act).env("HOUSTON_PARTS_DIR", &self.parts);
        // Its daemon inherits these: a pipe would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        command.status().await.expect("the script runs")
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.base.join(name)).expect("the part says it").trim().to_owned()
    }

    /// The host as an environment file names it.
    fn host(&self) -> String {
        let (port, base) = (self.file("port"), self.base.display());
        format!("{{ssh: \"127.0.0.1:{port}\", identity: {base}/id, known_hosts: {base}/known_hosts}}")
    }

    /// Kills the processes that serve connections, as a crash or a cut would, and names them.
    fn kill_connections(&self) -> Vec<i32> {
        let master: i32 = self.file("pid").parse().expect("a process id");
        let mut serving = children(master);
        // One that is gone by itself is as good.
        serving.retain(|child| kill(Pid::from_raw(*child), Signal::SIGKILL).is_ok());
        serving
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill_connections();
        if let Ok(master) = self.file("pid").parse() {
            let _ = kill(Pid::from_raw(master), Signal::SIGTERM);
        }
    }
}

/// Processes whose parent this is, and theirs.
fn children(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; the parent is the second word after it.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        if after.split(' ').nth(1).and_then(|word| word.parse::<i32>().ok()) == Some(parent) {
            found.push(process);
            found.extend(children(process));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_over_ssh_survives_the_loss_of_its_connection() {
    let Some(mut story) = Story::prepare(&[WEB]).await else { return };
    let Some(sshd) = Sshd::start(story.dir.path().join("parts")).await else { return };
    let socket = parts::docker().expect("it is there");
    let far = format!(
        "hosts: {{node1: {}}}\nswarm: {{managers: [node1], socket: {}}}\n{}",
        sshd.host(),
        socket.display(),
        story.declarations("far")
    );
    story.write("environments/far.yaml", &far);
    story.sshd = Some(sshd);
    story.create("far", "web").await;
    story.start().await;
    story.say("alice", "!deploy far web v2").await;
    story.in_the_middle("far", "web").await;
    let sshd = story.sshd.as_ref().expect("it runs");
    let first = sshd.kill_connections();
    assert!(!first.is_empty(), "there is a connection");
    // A second time, when it has come back.
    let deadline = Instant::now() + PATIENCE;
    while sshd.kill_connections().iter().all(|process| first.contains(process)) {
        assert!(Instant::now() < deadline, "it never connected again; {:#?}", story.texts());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let end = story.end("R-1").await;
    assert!(end.starts_with(":white_check_mark: *R-1* `deploy far web v2` deployed in "), "{end}");
    assert_eq!(story.world("far", "web").await, ("app:v2".into(), 2, 2));
    assert_eq!(story.ever_made("far", "web", "app:v2").await, 2, "each task was made once");
    story.each_message_of_the_run_exists_once(false).await;
}

// ----- the real binary ----------------------------------------------------------------------------

fn program(path: &str) -> tokio::process::Command {
    #[expect(clippy::disallowed_methods, reason = "a test starts the program that it tests")]
    tokio::process::Command::new(path)
}

impl Story {
    /// `houston serve`, as an operator starts it. Its log goes to a file.
    fn serve(&self) -> tokio::process::Child {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("a log");
        let mut command = program(env!("CARGO_BIN_EXE_houston"));
        command.arg("serve").arg("--config").arg(self.config_dir()).arg("--state").arg(self.state_dir());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        command.kill_on_drop(true).spawn().expect("the program starts")
    }

    /// A Houston that starts for the first time obeys nothing that was said before.
    async fn serve_and_listen(&self) -> tokio::process::Child {
        let child = self.serve();
        self.until("it listens", async || {
            self.sandbox.say("alice", "general", "!ping").await.expect("said");
            self.sandbox.messages("general").iter().any(|message| message["u"]["username"] == "houston")
        })
        .await;
        child
    }

    async fn verify_audit(&self) {
        let mut command = program(env!("CARGO_BIN_EXE_houston"));
        let command = command.arg("audit").arg("--state").arg(self.state_dir()).arg("verify");
        let output = command.output().await.expect("the program runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// What holds for an update to v2 however often Houston was away.
    async fn it_ended_once(&self) {
        let tasks = self.services[0].tasks;
        let end = self.end("R-1").await;
        assert!(end.starts_with(":white_check_mark: *R-1* `deploy prod web v2` deployed in "), "{end}");
        assert_eq!(self.world("prod", "web").await, ("app:v2".into(), u64::from(tasks), tasks as usize));
        assert_eq!(self.ever_made("prod", "web", "app:v2").await, tasks as usize, "each task was made once");
        self.each_message_of_the_run_exists_once(true).await;
    }
}

fn signal(child: &tokio::process::Child, signal: Signal) {
    let process = child.id().expect("it runs").try_into().expect("a process id");
    kill(Pid::from_raw(process), signal).expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_houston_that_is_killed_in_the_middle_goes_on_in_the_same_message() {
    let Some(story) = Story::prepare(&[WEB]).await else { return };
    story.create("prod", "web").await;
    let mut first = story.serve_and_listen().await;
    story.ask_and_approve("!deploy prod web v2", "R-1").await;
    story.in_the_middle("prod", "web").await;
    let under_way = story.see("the progress", |text| text.starts_with(":arrow_forward: *R-1*")).await;
    signal(&first, Signal::SIGKILL);
    first.wait().await.expect("it is gone");
    let mut second = story.serve();
    story.it_ended_once().await;
    let ended = story.see("the end", |text| text.starts_with(":white_check_mark: *R-1*")).await;
    assert_eq!(ended["_id"], under_way["_id"], "it is the same message");
    let text = ended["msg"].as_str().expect("text");
    assert!(text.contains("taken up again after a restart"), "{text}");
    // It is free: nothing of the first life is locked.
    story.say("alice", "!locks").await;
    story.see("no locks", |text| text.to_lowercase().contains("nothing is locked")).await;
    signal(&second, Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(10), second.wait()).await.expect("within 10 s");
    assert!(status.expect("it ended").success(), "{}", story.log());
    story.verify_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_an_update_ends_within_ten_seconds_and_the_next_start_goes_on() {
    // Longer than Houston may wait for it.
    const LONG: &[Declared] = &[Declared { tasks: 4, ..WEB }];
    let Some(story) = Story::prepare(LONG).await else { return };
    story.create("prod", "web").await;
    let mut first = story.serve_and_listen().await;
    story.ask_and_approve("!deploy prod web v2", "R-1").await;
    story.in_the_middle("prod", "web").await;
    signal(&first, Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(10), first.wait()).await;
    let status = status.unwrap_or_else(|_| panic!("over 10 s: {}", story.log())).expect("it ended");
    assert_eq!(status.code(), Some(0), "{}", story.log());
    let (image, ..) = story.world("prod", "web").await;
    let done = story.running("prod", "web").await.iter().filter(|task| task.image == image).count();
    assert!(done < 4, "it ended before Houston did, so this shows nothing");
    story.verify_audit().await;
    let mut second = story.serve();
    story.it_ended_once().await;
    signal(&second, Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(10), second.wait()).await.expect("within 10 s");
    assert!(status.expect("it ended").success(), "{}", story.log());
    story.verify_audit().await;
}
