//! Where a story is played: a chat server, an engine behind a door that counts, and a Houston that is killed.
//!
//! Must not: know what a story is about.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use houston::clock::Clock;
use houston::providers::swarm::Swarm;
use houston::sandbox::engine::{self, Behaviour};
use houston::sandbox::{self, Sandbox};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::door::Door;
use super::lives::{Keeper, Kill};
use super::old;
use crate::support::parts;

/// How long anything expected may take, on a machine that is busy with other trials.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a story is played, and where somebody looks at it from aside.
const OPS: &str = "ops";
const LOOKS: &str = "backups";

/// What is declared in `prod` and runs at the beginning.
pub struct Service {
    pub name: &'static str,
    pub tasks: u32,
    /// As it is in the environment's file, beyond what all have.
    pub more: &'static str,
}

/// What Houston is given.
pub struct Scene {
    pub services: &'static [Service],
    /// Lines of `houston.yaml`, in which `SOON` is a cron expression of a time that comes once, within a minute or so.
    pub houston: &'static str,
    /// Lines of `prod.yaml`, in which `SSHD` is the folder of a real sshd and `PORT` its port.
    pub prod: &'static str,
    /// Further files of the configuration folder, in which `SANDBOX` is the chat server's address and `MARKS` a folder
    /// on the host.
    pub files: &'static [(&'static str, &'static str)],
    /// There are runs of years ago.
    pub old_runs: bool,
}

pub struct Stage {
    pub sandbox: Sandbox,
    pub door: Door,
    dir: tempfile::TempDir,
    engine: Option<engine::Engine>,
    /// Where to look at the engine, past the door.
    docker: PathBuf,
    /// On a real engine: this stage's part of it.
    share: Option<Share>,
    services: &'static [Service],
    keeper: Option<Keeper>,
}

impl Stage {
    /// With a Houston that is ready, or has been killed on the way there and is ready now.
    pub async fn set(scene: &Scene, kills: Vec<Kill>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = fake(dir.path(), scene.services).await;
        let docker = engine.socket().to_owned();
        Self::build(scene, kills, dir, docker, Some(engine), None).await
    }

    /// The same on a real engine, whose services have names of their own.
    pub async fn on(docker: &Path, scene: &Scene, kills: Vec<Kill>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let share = Share::of(docker, scene.services).await;
        Self::build(scene, kills, dir, docker.to_owned(), None, Some(share)).await
    }

    async fn build(
        scene: &Scene,
        kills: Vec<Kill>,
        dir: tempfile::TempDir,
        docker: PathBuf,
        engine: Option<engine::Engine>,
        share: Option<Share>,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = sandbox::start(sandbox::Options { rate_limits: false, ..Default::default() }).await;
        let sandbox = sandbox.expect("the sandbox starts");
        let door = Door::open(dir.path().join("door.sock"), &docker);
        std::fs::create_dir(dir.path().join("marks")).expect("a folder");
        let services = scene.services;
        let mut stage = Self { sandbox, door, dir, engine, docker, share, services, keeper: None };
        stage.write_config(scene);
        if scene.old_runs {
            old::runs(&stage.state(), Clock::system().now());
        }
        stage.settled().await;
        let keeper = Keeper::start(stage.dir.path(), kills);
        stage.keeper = Some(keeper);
        stage.until("Houston is ready", async || stage.keeper().failed() || stage.ready().await).await;
        stage
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("it was started")
    }

    // ----- what people do -------------------------------------------------------------------------

    pub async fn say(&self, who: &str, text: &str) -> String {
        self.sandbox.say(who, OPS, text).await.expect("said")
    }

    pub async fn reply(&self, who: &str, to: &Json, text: &str) {
        // A thread has one level.
        let thread = if to["tmid"].is_string() { &to["tmid"] } else { &to["_id"] };
        let body = json!({"user": who, "room": OPS, "msg": text, "tmid": thread});
        self.sandbox.control("say", body).await.expect("said");
    }

    pub async fn react(&self, who: &str, to: &Json, emoji: &str) {
        let body = json!({"user": who, "message": to["_id"], "emoji": emoji, "should": true});
        self.sandbox.control("react", body).await.expect("reacted");
    }

    /// Asks for something that changes nothing, in a room of its own: the answer.
    pub async fn look(&self, words: &str) -> String {
        let said = self.sandbox.say("carol", LOOKS, words).await.expect("said");
        self.answer(&said).await
    }

    // ----- what they see --------------------------------------------------------------------------

    /// The one answer to what somebody said, once it is there.
    pub async fn answer(&self, said: &str) -> String {
        let id = answer_to(said);
        let find = || {
            let messages = [OPS, LOOKS].into_iter().flat_map(|room| self.sandbox.messages(room));
            messages.into_iter().find(|message| message["_id"] == id.as_str())
        };
        self.until("there is an answer", async || find().is_some()).await;
        find().expect("just seen")["msg"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether what somebody said in `#ops` has its answer.
    pub fn is_answered(&self, said: &str) -> bool {
        let id = answer_to(said);
        self.sandbox.messages(OPS).iter().any(|message| message["_id"] == id.as_str())
    }

    /// Whether it answers what somebody said in `#ops`.
    pub fn is_answer(&self, message: &Json) -> bool {
        let said = self.sandbox.messages(OPS).into_iter();
        said.filter_map(|said| said["_id"].as_str().map(answer_to)).any(|id| message["_id"] == id.as_str())
    }

    /// Houston's messages in all rooms, those to Bob alone too, as they read now: the room and the message.
    pub fn said(&self) -> Vec<(&'static str, Json)> {
        let mut direct = ["bob", "houston"].map(|name| self.sandbox.user_id(name).expect("somebody"));
        direct.sort();
        let (direct, bob) = (direct.concat(), "@bob");
        let rooms = [(OPS, OPS), ("general", "general"), (bob, direct.as_str())].into_iter();
        rooms
            .flat_map(|(name, room)| {
                self.sandbox.messages(room).into_iter().map(move |message| (name, message))
            })
            .filter(|(_, message)| message["u"]["username"] == "houston")
            .filter(|(_, message)| message.get("t").is_none_or(Json::is_null))
            .collect()
    }

    /// The first message of Houston's that holds all of `parts`, once there is one.
    pub async fn see(&self, parts: &[&str]) -> Json {
        let find = || {
            self.said().into_iter().map(|(_, message)| message).find(|message| {
                let text = message["msg"].as_str().unwrap_or_default();
                parts.iter().all(|part| text.contains(part))
            })
        };
        self.until(&format!("somebody sees {parts:?}"), async || find().is_some()).await;
        find().expect("just seen")
    }

    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited in vain until {what}\n{}", self.told());
            if let Some(keeper) = &self.keeper {
                assert!(!keeper.failed(), "Houston does not run: {}\n{}", keeper.problem(), self.told());
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// For a trial that fails: the rooms, and the log.
    pub fn told(&self) -> String {
        let mut out = String::new();
        for room in [OPS, "general", LOOKS] {
            for message in self.sandbox.messages(room) {
                let who = message["u"]["username"].as_str().unwrap_or_default();
                let thread = if message["tmid"].is_string() { "  > " } else { "" };
                out.push_str(&format!(
                    "#{room} {thread}{who}: {}\n",
                    message["msg"].as_str().unwrap_or_default()
                ));
            }
        }
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        out.push_str("---- the audit log\n");
        out.push_str(&read("state/audit.jsonl"));
        let log = read("log");
        let from = log.len().saturating_sub(6000);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
        out + "---- the log\n" + &log[from..]
    }

    // ----- what is true ---------------------------------------------------------------------------

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where steps leave marks on the host.
    pub fn marks(&self) -> PathBuf {
        self.dir.path().join("marks")
    }

    /// What there is of what runs wrote.
    pub fn transcripts(&self) -> Vec<String> {
        old::left(&self.state())
    }

    pub fn audit(&self) -> String {
        std::fs::read_to_string(self.state().join("audit.jsonl")).unwrap_or_default()
    }

    /// `1.7 ×2` for each service.
    pub async fn world(&self) -> Vec<String> {
        let mut world = Vec::new();
        for service in self.services {
            let found = self.service(service.name).await;
            let image = found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or("none");
            let tasks = &found["Spec"]["Mode"]["Replicated"]["Replicas"];
            world.push(format!("{}: {image} ×{tasks}", service.name));
        }
        world
    }

    pub async fn image(&self, service: &str) -> String {
        let found = self.service(service).await;
        let image = found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str();
        image.unwrap_or_default().to_owned()
    }

    /// How many tasks serve, by image.
    async fn running(&self, service: &str) -> Vec<String> {
        let filters = json!({"service": [self.swarm_name(service)], "desired-state": ["running"]});
        let filters: String = url::form_urlencoded::byte_serialize(filters.to_string().as_bytes()).collect();
        let tasks = ask(&self.docker, "GET", &format!("/tasks?filters={filters}"), None).await;
        let tasks = tasks.map(|tasks| tasks.as_array().cloned().unwrap_or_default()).unwrap_or_default();
        let running = tasks.iter().filter(|task| task["Status"]["State"] == "running");
        running
            .map(|task| task["Spec"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Every service runs as many tasks as it wants, all of the image that it wants.
    pub async fn settled(&self) {
        for service in self.services {
            self.until(&format!("`{}` has settled", service.name), async || {
                let found = self.service(service.name).await;
                let image = &found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"];
                let wanted = found["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or_default();
                let running = self.running(service.name).await;
                running.len() as u64 == wanted && running.iter().all(|one| image == one.as_str())
            })
            .await;
        }
    }

    fn swarm_name(&self, name: &str) -> String {
        self.share.as_ref().map_or_else(|| name.to_owned(), |share| share.swarm_name(name))
    }

    async fn service(&self, name: &str) -> Json {
        let path = format!("/services/{}", self.swarm_name(name));
        ask(&self.docker, "GET", &path, None).await.unwrap_or(Json::Null)
    }

    // ----- Houston's lives ------------------------------------------------------------------------

    /// `houston serve` on this stage.
    pub fn serve(&self) -> tokio::process::Command {
        super::lives::serve(self.dir.path())
    }

    async fn ready(&self) -> bool {
        let answer = ask(&self.state().join("admin.sock"), "GET", "/readyz", None).await;
        answer.is_some()
    }

    /// How often this life has synced the store.
    pub async fn syncs(&self) -> u64 {
        let metrics =
            text(&self.state().join("admin.sock"), "GET", "/metrics", None).await.unwrap_or_default();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("houston_store_sync_duration_seconds_count "));
        line.and_then(|count| count.parse().ok()).expect("it tells how often it synced")
    }

    /// SIGTERM, until a Houston has gone by itself. How often one was killed.
    pub async fn stop(&mut self) -> usize {
        let mut keeper = self.keeper.take().expect("it was started");
        keeper.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut keeper.task).await;
        ended.unwrap_or_else(|_| panic!("it does not stop\n{}", self.told())).expect("no panic");
        assert!(!keeper.failed(), "{}\n{}", keeper.problem(), self.told());
        keeper.deaths.load(Ordering::SeqCst)
    }

    /// What is left of it on the machine.
    pub async fn strike(mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }

    // ----- what it is made of ---------------------------------------------------------------------

    fn write_config(&self, scene: &Scene) {
        let mut prod = format!("swarm: {{socket: {}}}\n", self.door.socket.display());
        prod.push_str(&self.fill(scene.prod));
        prod.push_str("services:\n");
        for Service { name, tasks, more } in scene.services {
            let more = match self.engine.as_ref().and_then(|engine| engine.service_addr(name)) {
                Some(front) => more.replace("FRONT", &front.to_string()),
                None => (*more).to_owned(),
            };
            let image = match &self.share {
                None => format!("demo/{name}\n    version: \"1.8\""),
                Some(_) => format!("app\n    version: v2\n    swarm_name: {}", self.swarm_name(name)),
            };
            prod.push_str(&format!(
                "  {name}:\n    image: {image}\n    \
                 replicas: {{count: {tasks}, min: 1, max: 4}}\n    endpoint_mode: dnsrr\n    \
                 ports: [{{target: 8080, mode: host}}]\n    update: {{order: start-first, monitor: 100ms}}\n{more}"
            ));
        }
        // All stages share the one real Swarm, and the bots' account has the same id in all of them.
        let lease = if self.share.is_some() { "lease: {enabled: false}\n" } else { "" };
        let (user_id, token) = self.sandbox.personal_token("houston").expect("the bot's account");
        let scheduled = scene.houston.contains("schedules:");
        let operators = if scheduled { "alice, bob, \"schedule:once\"" } else { "alice, bob" };
        let houston = format!(
            "rocketchat: {{url: {}, user_id: {user_id}, token: {{file: token}}}}\n\
             access: {{roles: {{operator: {{users: [{operators}]}}, lead: {{users: [carol]}}}}}}\n{lease}{}",
            self.sandbox.url(),
            scene.houston.replace("SOON", &soon())
        );
        self.write("houston.yaml", &houston);
        self.write("token", &token);
        self.write("environments/prod.yaml", &prod);
        for (path, text) in scene.files {
            self.write(path, &self.fill(text));
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join("config").join(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    fn fill(&self, text: &str) -> String {
        let filled = text.replace("SANDBOX", &self.sandbox.url());
        let filled = filled.replace("MARKS", &self.marks().display().to_string());
        match sshd() {
            Some((base, port)) => filled.replace("SSHD", &base.display().to_string()).replace("PORT", &port),
            None => filled,
        }
    }
}

/// What a stage has of a real engine; removed with it.
struct Share {
    swarm: Arc<Swarm>,
    prefix: String,
    services: &'static [Service],
}

impl Share {
    /// The services at v1.
    async fn of(docker: &Path, services: &'static [Service]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let prefix = format!("houston-kills-{}", rand::random::<u32>());
        let share = Self { swarm: Arc::new(Swarm::local(docker)), prefix, services };
        for Service { name, tasks, .. } in services {
            let spec = engine::service_spec(&share.swarm_name(name), "app:v1", u64::from(*tasks));
            share.swarm.create_service(&spec).await.expect("created");
        }
        share
    }

    fn swarm_name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let names: Vec<String> = self.services.iter().map(|service| self.swarm_name(service.name)).collect();
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

/// The next minute that is not about to begin.
fn soon() -> String {
    let at = houston::clock::Clock::system().now() + jiff::SignedDuration::from_secs(70);
    at.strftime("%-M %-H %-d %-m *").to_string()
}

fn answer_to(said: &str) -> String {
    houston::ids::derived_id(&format!("reply/{said}"))
}

/// The folder of a real sshd and its port, if there is one.
pub fn sshd() -> Option<(PathBuf, String)> {
    let base = parts::given("HOUSTON_TEST_SSHD")?;
    let port = std::fs::read_to_string(base.join("port")).ok()?;
    Some((base, port.trim().to_owned()))
}

/// An engine with images that do well and images that do not, and with timers for a test.
async fn fake(dir: &Path, services: &[Service]) -> engine::Engine {
    let mut options = engine::Options::new(dir.join("docker.sock"), env!("CARGO_BIN_EXE_houston"));
    for Service { name, tasks, .. } in services {
        for (version, behaviour) in [
            ("1.6", Behaviour::Healthy),
            ("1.7", Behaviour::Healthy),
            ("1.8", Behaviour::Healthy),
            ("1.9", Behaviour::Crash),
            ("2.0", Behaviour::Slow(600_000)),
        ] {
            options = options.image(&format!("demo/{name}:{version}"), behaviour);
        }
        let mut spec = engine::service_spec(name, &format!("demo/{name}:1.7"), u64::from(*tasks));
        for update in ["UpdateConfig", "RollbackConfig"] {
            spec[update]["Monitor"] = 100_000_000u64.into();
        }
        options = options.service(spec);
    }
    engine::start(options).await.expect("the engine starts")
}

/// One request over a socket, its answer as JSON or as a text; `None` where nobody answers well.
pub async fn ask(socket: &Path, method: &str, path: &str, body: Option<&Json>) -> Option<Json> {
    let text = text(socket, method, path, body).await?;
    Some(serde_json::from_str(&text).unwrap_or(Json::String(text)))
}

async fn text(socket: &Path, method: &str, path: &str, body: Option<&Json>) -> Option<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let body = body.map(Json::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1)?.starts_with('2').then(|| body.to_owned())
}
