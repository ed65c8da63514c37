//! The whole of Houston in one process, as people in a room meet it: a chat server, an engine whose tasks are
//! real processes, and the bot between them. A test is a conversation; nothing in it sleeps for a fixed time.
//!
//! Must not: reach into Houston to make something happen. It is told what to do in chat, and looked at from
//! outside: in the room, at the engine, in the files it leaves behind.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::weather::Weather;
use houston::app::{Houston, Options};
use houston::audit;
use houston::clock::Clock;
use houston::gateway::Timings;
use houston::runs::outbox;
use houston::sandbox::engine::{self, Behaviour};
use houston::sandbox::{self, Dialect, Sandbox};
use houston::secret::Redactor;
use houston::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// How long anything expected may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long Houston may take over a graceful stop.
const GRACE: Duration = Duration::from_secs(10);

/// What differs from house to house.
pub struct Setup {
    pub dialect: Dialect,
    /// Services of the Swarm at the start, all at 1.7, and how many tasks each has.
    pub services: Vec<(&'static str, u64)>,
    /// Lines added to `environments/prod.yaml`.
    pub prod: String,
    /// Lines added to `houston.yaml`.
    pub houston: String,
    /// Further files of the configuration folder: path and text, in which `SANDBOX` stands for the chat
    /// server's address.
    pub files: Vec<(&'static str, String)>,
    /// Houston's; the chat server's too, unless that has one of its own.
    pub clock: Clock,
    pub server_clock: Option<Clock>,
    /// Houston logs in with this password; else with a token.
    pub password: Option<String>,
    /// How often Houston looks at its configuration folder by itself.
    pub watch: Option<Duration>,
    /// Silence of the chat server after which Houston is not healthy.
    pub silence: Option<Duration>,
    /// Rocket.Chat's own rate limits, with what differs from its defaults; `None`: there are none.
    pub rate_limits: Option<RateLimits>,
    /// Stands between Houston and the chat server.
    pub weather: Option<Weather>,
}

/// The limits that Houston meets.
#[derive(Clone, Copy)]
pub struct RateLimits {
    /// Its account has the role `bot`, which Rocket.Chat does not count REST calls of.
    pub bot: bool,
    /// Of each REST route; ten calls fit.
    pub window: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dialect: Dialect::Monolith,
            services: vec![("web", 1)],
            prod: String::new(),
            houston: String::new(),
            files: Vec::new(),
            clock: Clock::system(),
            server_clock: None,
            password: None,
            watch: None,
            silence: None,
            rate_limits: None,
            weather: None,
        }
    }
}

/// A message of Houston's, as it stands now.
#[derive(Clone, Debug)]
pub struct Said {
    pub id: String,
    pub room: String,
    pub thread: Option<String>,
    pub text: String,
    /// It carries a file.
    pub file: bool,
}

pub struct House {
    pub sandbox: Sandbox,
    pub clock: Clock,
    weather: Option<Weather>,
    watch: Option<Duration>,
    silence: Option<Duration>,
    docker: Option<engine::Engine>,
    houston: Option<Houston>,
    /// Of its own, so that a kill ends every task at whatever point it is.
    runtime: Option<Runtime>,
    dir: tempfile::TempDir,
    /// Ids of messages that the test has waited for.
    read: Mutex<BTreeSet<String>>,
}

/// Runs a conversation against both of Rocket.Chat's realtime servers.
pub async fn both<F: Future<Output = ()>>(conversation: impl Fn(House) -> F) {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let setup = Setup { dialect, services: vec![("staging-web", 1)], ..Setup::default() };
        conversation(House::with(setup).await).await;
    }
}

impl House {
    /// `web` runs in prod, and nothing else.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Without any service: for conversations that deploy nothing.
    pub async fn talk() -> Self {
        Self::with(Setup { services: Vec::new(), ..Setup::default() }).await
    }

    /// With lines added to prod's file.
    pub async fn prod(lines: &str) -> Self {
        Self::with(Setup { prod: lines.to_owned(), ..Setup::default() }).await
    }

    pub async fn with(setup: Setup) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let mut seed = sandbox::Seed::default();
        seed.settings.insert("Message_AllowUnrecognizedSlashCommand".to_owned(), true.into());
        if let Some(password) = &setup.password {
            let bot = seed.people.iter_mut().find(|person| person.username == "houston");
            bot.expect("the bot's account").password = Some(password.clone());
        }
        if let Some(limits) = setup.rate_limits {
            let window = i64::try_from(limits.window.as_millis()).expect("short");
            seed.settings.insert("API_Enable_Rate_Limiter_Limit_Time_Default".to_owned(), window.into());
            let bot = seed.people.iter_mut().find(|person| person.username == "houston");
            let role = if limits.bot { "bot" } else { "user" };
            bot.expect("the bot's account").roles = Some(vec!["user".to_owned(), role.to_owned()]);
        }
        let options = sandbox::Options {
            dialect: setup.dialect,
            seed,
            clock: setup.server_clock.clone().unwrap_or_else(|| setup.clock.clone()),
            rate_limits: setup.rate_limits.is_some(),
            ..Default::default()
        };
        let sandbox = sandbox::start(options).await.expect("the sandbox starts");
        let docker = docker(dir.path(), &setup.services).await;
        write_config(dir.path(), &sandbox, &setup);
        let mut house = Self {
            sandbox,
            clock: setup.clock,
            weather: setup.weather,
            watch: setup.watch,
            silence: setup.silence,
            docker: Some(docker),
            houston: None,
            runtime: None,
            dir,
            read: Mutex::default(),
        };
        house.start_again().await;
        house
    }

    // ----- Houston's life -------------------------------------------------------------------------

    /// A Houston on the same folder; returns once it has caught up.
    pub async fn start_again(&mut self) {
        assert!(self.houston.is_none(), "it runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let config_dir = self.dir.path().join("config");
        let kinds = houston::app::kinds();
        let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
        let report = houston::config::load::check(&config_dir, &kinds);
        let config = report.config.unwrap_or_else(|| panic!("{:?}", report.diagnostics));
        let mut timings = Timings { save: Duration::from_millis(20), ..Timings::default() };
        timings.silence = self.silence.unwrap_or(timings.silence);
        timings.realtime.first_retry = Duration::from_millis(5);
        timings.realtime.retry_from = Duration::from_millis(20);
        timings.realtime.retry_to = Duration::from_millis(100);
        if self.weather.is_some() {
            timings.realtime.ping_after = Duration::from_millis(500);
            timings.realtime.dead_after = Duration::from_millis(1500);
        }
        let options = Options {
            clock: self.clock.clone(),
            timings,
            watch: self.watch,
            ..Options::new(config, self.state(), Redactor::new())
        };
        let started = runtime.spawn(Houston::start(options)).await.expect("no panic");
        self.houston = Some(started.unwrap_or_else(|e| panic!("Houston does not start: {e}")));
        self.runtime = Some(runtime);
        self.wait("Houston to catch up", || self.bot().chat.health().caught_up.then_some(())).await;
    }

    /// SIGTERM: it says what it has to say and goes.
    pub async fn stop(&mut self) {
        let (houston, runtime) = self.take();
        runtime.spawn(houston.stop(GRACE)).await.expect("no panic");
        end(runtime).await;
    }

    /// SIGKILL, as far as one process can play it: nothing of Houston gets another turn.
    pub async fn kill(&mut self) {
        let (houston, runtime) = self.take();
        end(runtime).await;
        drop(houston);
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    fn take(&mut self) -> (Houston, Runtime) {
        (self.houston.take().expect("it runs"), self.runtime.take().expect("it runs"))
    }

    pub fn bot(&self) -> &Houston {
        self.houston.as_ref().expect("it runs")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The configuration folder.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Replaces a text in a file of the configuration folder.
    pub fn rewrite(&self, file: &str, from: &str, to: &str) {
        let path = self.config_dir().join(file);
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(from), "`{from}` in {text}");
        std::fs::write(path, text.replace(from, to)).expect("written");
    }

    /// Adds to a file of the configuration folder.
    pub fn configure(&self, file: &str, more: &str) {
        let path = self.dir.path().join("config").join(file);
        let text = std::fs::read_to_string(&path).expect("it is there");
        std::fs::write(path, text + more).expect("written");
    }

    // ----- people ---------------------------------------------------------------------------------

    /// Types into a room; gives the message's id.
    pub async fn say(&self, who: &str, room: &str, text: &str) -> String {
        self.sandbox.say(who, room, text).await.unwrap_or_else(|e| panic!("{who} cannot say `{text}`: {e}"))
    }

    /// Answers in a thread.
    pub async fn reply(&self, who: &str, room: &str, thread: &str, text: &str) -> String {
        let body = json!({"user": who, "room": room, "msg": text, "tmid": thread});
        let done = self.control("say", body).await;
        done["message"]["_id"].as_str().expect("an id").to_owned()
    }

    pub async fn react(&self, who: &str, on: &Said, emoji: &str) {
        self.control("react", json!({"user": who, "message": on.id, "emoji": emoji, "should": true})).await;
    }

    pub async fn unreact(&self, who: &str, on: &Said, emoji: &str) {
        self.control("react", json!({"user": who, "message": on.id, "emoji": emoji, "should": false})).await;
    }

    pub async fn control(&self, act: &str, body: Value) -> Value {
        self.sandbox.control(act, body).await.unwrap_or_else(|e| panic!("{act}: {e}"))
    }

    /// What stands between.
    pub fn weather(&self) -> &Weather {
        self.weather.as_ref().expect("there is some")
    }

    /// Somebody without any role, in `#ops`.
    pub async fn newcomer(&self, username: &str) {
        self.control("person", json!({"username": username})).await;
        self.control("join", json!({"user": username, "room": "ops"})).await;
    }

    // ----- what Houston says ----------------------------------------------------------------------

    /// Everything that Houston said in a room and that still stands there, oldest first.
    pub fn said(&self, room: &str) -> Vec<Said> {
        let me = self.sandbox.user_id("houston").expect("the bot's account");
        let messages = self.sandbox.messages(room).into_iter();
        messages
            .filter(|m| m["u"]["_id"] == me.as_str() && m.get("t").is_none_or(Value::is_null))
            .map(|m| Said {
                id: m["_id"].as_str().unwrap_or_default().to_owned(),
                room: room.to_owned(),
                thread: m["tmid"].as_str().map(str::to_owned),
                text: m["msg"].as_str().unwrap_or_default().to_owned(),
                file: m.get("file").is_some_and(Value::is_object)
                    || m.get("files").and_then(Value::as_array).is_some_and(|files| !files.is_empty()),
            })
            .collect()
    }

    fn is_read(&self, said: &Said) -> bool {
        self.read.lock().expect("no panic").contains(&said.id)
    }

    fn mark(&self, said: Said) -> Said {
        self.read.lock().expect("no panic").insert(said.id.clone());
        said
    }

    fn unread(&self, room: &str) -> Vec<Said> {
        self.said(room).into_iter().filter(|said| !self.is_read(said)).collect()
    }

    /// The first message that nobody waited for yet and that holds all of `parts`, now or after edits.
    pub async fn expect(&self, room: &str, parts: &[&str]) -> Said {
        let found = self
            .wait(&format!("{parts:?} in #{room}"), || {
                self.unread(room).into_iter().find(|said| holds(&said.text, parts))
            })
            .await;
        self.mark(found)
    }

    /// As [`House::expect`] in `#ops`, while the clock goes on.
    pub async fn tick_until(&self, clock: &Clock, what: &str, parts: &[&str]) -> Said {
        let found = self
            .wait(&format!("{what}: {parts:?}"), || {
                clock.advance(Duration::from_millis(50));
                self.unread("ops").into_iter().find(|said| holds(&said.text, parts))
            })
            .await;
        self.mark(found)
    }

    /// Everything that Houston has written to somebody alone.
    pub async fn told(&self, who: &str) -> Vec<Said> {
        let state = self.control("state", json!({})).await;
        let id = self.sandbox.user_id(who).expect("somebody");
        let rooms = state["rooms"].as_array().cloned().unwrap_or_default();
        let direct = rooms.iter().filter(|room| {
            let uids = room["uids"].as_array();
            room["t"] == "d" && uids.is_some_and(|uids| uids.iter().any(|uid| *uid == id.as_str()))
        });
        direct.filter_map(|room| room["_id"].as_str()).flat_map(|room| self.said(room)).collect()
    }

    /// As [`House::expect`], in a direct message.
    pub async fn hears(&self, who: &str, parts: &[&str]) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told(who).await;
            if let Some(said) = told.iter().find(|said| !self.is_read(said) && holds(&said.text, parts)) {
                return self.mark(said.clone());
            }
            assert!(Instant::now() < deadline, "{who} was not told {parts:?}: {told:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The same message once it reads so.
    pub async fn until(&self, said: &Said, parts: &[&str]) -> Said {
        self.wait(&format!("{parts:?} in `{}`", said.text), || {
            self.said(&said.room).into_iter().find(|now| now.id == said.id && holds(&now.text, parts))
        })
        .await
    }

    /// The next approval message.
    pub async fn card(&self) -> Said {
        self.expect("ops", &[":clipboard:", "_plan "]).await
    }

    /// The next message that follows a run.
    pub async fn progress(&self, run: &str) -> Said {
        let start = format!("*{run}*");
        let found = self
            .wait(&format!("the progress of {run}"), || {
                self.unread("ops")
                    .into_iter()
                    .find(|said| said.thread.is_none() && said.text.contains(&start) && !is_card(&said.text))
            })
            .await;
        self.mark(found)
    }

    /// Waits until a run has ended so, and has told whoever asked.
    pub async fn ended(&self, run: &str, parts: &[&str]) -> Said {
        let progress = self.progress(run).await;
        let progress = self.until(&progress, parts).await;
        let mention = self
            .wait(&format!("the result of {run}"), || {
                let unread = self.unread("ops").into_iter();
                unread.into_iter().find(|said| {
                    said.text.starts_with('@') && said.thread.as_deref() == Some(progress.id.as_str())
                })
            })
            .await;
        self.mark(mention);
        progress
    }

    /// Until whoever asked for it in `#ops` is told that somebody else denied it.
    pub async fn denied(&self, run: &str, by: &str) -> Said {
        self.expect("ops", &["@", &format!("*{run}*"), &format!("was denied by {by}")]).await
    }

    /// Everything that Houston would say in the room by now is said; nothing of it is new.
    pub async fn silence(&self, room: &str) {
        let word = houston::ids::random_id();
        self.say("carol", room, &format!("!ping {word}")).await;
        self.expect(room, &[&format!("pong {word}")]).await;
        let unread = self.unread(room);
        assert!(unread.is_empty(), "nothing was to be said: {unread:#?}");
    }

    /// As [`House::silence`], but messages that hold all of `parts` may have been said.
    pub async fn silence_but(&self, room: &str, parts: &[&str]) {
        let word = houston::ids::random_id();
        self.say("carol", room, &format!("!ping {word}")).await;
        self.expect(room, &[&format!("pong {word}")]).await;
        for said in self.unread(room) {
            assert!(holds(&said.text, parts), "not expected: {said:#?}");
            self.mark(said);
        }
    }

    /// Waits until `look` sees something.
    pub async fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.transcript());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All rooms as they stand, for a test that fails.
    fn transcript(&self) -> String {
        let mut out = String::new();
        for room in ["ops", "general", "backups", "sales", "board"] {
            for message in self.sandbox.messages(room) {
                let thread = if message.get("tmid").is_some() { "  > " } else { "" };
                let (who, text) = (&message["u"]["username"], &message["msg"]);
                let (who, text) = (who.as_str().unwrap_or_default(), text.as_str().unwrap_or_default());
                let _ = writeln!(out, "#{room} {thread}{who}: {text}");
            }
        }
        out
    }

    // ----- the world ------------------------------------------------------------------------------

    pub fn docker_socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// `demo/web:1.8`, as the engine has it.
    pub async fn image(&self, service: &str) -> String {
        let service = self.docker("GET", &format!("/services/{service}"), None).await;
        let image = &service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"];
        image.as_str().unwrap_or_default().split('@').next().unwrap_or_default().to_owned()
    }

    /// Until the engine was told to run it.
    pub async fn wait_for_image(&self, service: &str, image: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.image(service).await != image {
            assert!(Instant::now() < deadline, "`{service}` never got {image}\n{}", self.transcript());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Until the engine's own state of the last update is this one.
    pub async fn wait_for_update(&self, service: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.docker("GET", &format!("/services/{service}"), None).await;
            if now["UpdateStatus"]["State"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "`{service}` is never {state}: {now}\n{}", self.transcript());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Moves on with everything that is done to a service.
    pub async fn version(&self, service: &str) -> u64 {
        let service = self.docker("GET", &format!("/services/{service}"), None).await;
        service["Version"]["Index"].as_u64().expect("an index")
    }

    pub async fn tasks_wanted(&self, service: &str) -> u64 {
        let service = self.docker("GET", &format!("/services/{service}"), None).await;
        service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().expect("replicas")
    }

    /// Somebody changes a service behind Houston's back.
    pub async fn change_image(&self, service: &str, image: &str) {
        let now = self.docker("GET", &format!("/services/{service}"), None).await;
        let mut spec = now["Spec"].clone();
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = image.into();
        let path = format!("/services/{service}/update?version={}", now["Version"]["Index"]);
        self.docker("POST", &path, Some(&spec)).await;
    }

    /// Somebody scales a service behind Houston's back.
    pub async fn scale_by_hand(&self, service: &str, tasks: u64) {
        let now = self.docker("GET", &format!("/services/{service}"), None).await;
        let mut spec = now["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] = tasks.into();
        let path = format!("/services/{service}/update?version={}", now["Version"]["Index"]);
        self.docker("POST", &path, Some(&spec)).await;
    }

    async fn docker(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        ask_engine(&self.dir.path().join("docker.sock"), method, path, body).await
    }

    /// Canonical commands of all runs, oldest first.
    pub fn runs(&self) -> Vec<String> {
        let mut runs = self.bot().engine.list(1000).expect("readable");
        runs.reverse();
        runs.into_iter().map(|run| run.command).collect()
    }

    /// The audit log's entries, oldest first, after its chain was checked.
    pub fn audited(&self) -> Vec<audit::Entry> {
        let path = self.state().join("audit.jsonl");
        audit::verify(&path).expect("the chain holds");
        audit::tail(&path, 10_000).expect("readable")
    }

    /// Everything that was said up to now was waited for in some other way.
    pub fn forget_what_was_said(&self, rooms: &[&str]) {
        for said in rooms.iter().flat_map(|room| self.unread(room)) {
            self.mark(said);
        }
    }

    // ----- the end --------------------------------------------------------------------------------

    /// Ends the conversation, and fails on whatever was left behind.
    pub async fn end(mut self) {
        self.wait_for_rest().await;
        let engine = &self.bot().engine;
        let open: Vec<String> =
            engine.open_runs().await.iter().map(|run| format!("{} {}", run.id, run.phase.word())).collect();
        assert!(open.is_empty(), "runs that have not ended: {open:?}");
        let held = engine.held().await;
        assert!(held.is_empty(), "locks that are held: {held:?}");
        let state = self.control("state", json!({})).await;
        let rooms = state["rooms"].as_array().into_iter().flatten();
        for room in rooms.filter_map(|room| room["_id"].as_str()) {
            let unread: Vec<Said> =
                self.unread(room).into_iter().filter(|said| !said.text.is_empty()).collect();
            assert!(unread.is_empty(), "messages that nobody expected: {unread:#?}");
        }
        self.stop().await;
        let store =
            self.wait("the store to be free", || Store::open(&self.state().join("journal")).ok()).await;
        let unsaid = outbox::waiting(&store).expect("readable");
        assert!(unsaid.is_empty(), "not said: {unsaid:?}");
        drop(store);
        if let Some(docker) = self.docker.take() {
            docker.stop().await;
        }
        let left = children(self.dir.path());
        assert!(left.is_empty(), "processes that are still there: {left:?}");
    }

    /// What is under way between the last word and the end of its run.
    async fn wait_for_rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let engine = &self.bot().engine;
        while Instant::now() < deadline && !engine.open_runs().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One request to an engine, which has to go well; its answer as JSON.
pub async fn ask_engine(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Value {
    let mut stream = tokio::net::UnixStream::connect(socket).await.expect("the engine listens");
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Value::Null)
}

fn holds(text: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| text.contains(part))
}

fn is_card(text: &str) -> bool {
    text.contains("\n_plan ")
}

async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(GRACE));
    ended.await.expect("no panic");
}

/// An engine with images that do well and images that do not. Its program is a link in the house's own
/// folder, so that its children can be told from those of other tests.
pub async fn docker(dir: &Path, services: &[(&str, u64)]) -> engine::Engine {
    let program = dir.join("task");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_houston"), &program).expect("linked");
    let mut options = engine::Options::new(dir.join("docker.sock"), program);
    for service in ["api", "web", "worker"] {
        let image = |version: &str| format!("demo/{service}:{version}");
        options = options
            .image(&image("1.6"), Behaviour::Healthy)
            .image(&image("1.7"), Behaviour::Healthy)
            .image(&image("1.8"), Behaviour::Healthy)
            .image(&image("1.8-slow"), Behaviour::Slow(2500))
            .image(&image("1.8-slower"), Behaviour::Slow(600_000))
            .image(&image("1.9"), Behaviour::Crash)
            .image(&image("2.0"), Behaviour::Unhealthy);
    }
    for (service, tasks) in services {
        let image = format!("demo/{}:1.7", service.trim_start_matches("staging-"));
        let mut spec = engine::service_spec(service, &image, *tasks);
        for update in ["UpdateConfig", "RollbackConfig"] {
            spec[update]["Monitor"] = 200_000_000u64.into();
        }
        options = options.service(spec);
    }
    engine::start(options).await.expect("the engine starts")
}

fn write_config(dir: &Path, sandbox: &Sandbox, setup: &Setup) {
    let environments = dir.join("config/environments");
    std::fs::create_dir_all(&environments).expect("a folder");
    let service = |name: &str, swarm_name: &str, version: &str, more: &str| {
        format!(
            "  {name}:\n    image: demo/{name}\n    version: \"{version}\"\n    swarm_name: {swarm_name}\n    \
             replicas: {{count: 1, min: 1, max: 3}}\n    endpoint_mode: dnsrr\n    \
             ports: [{{target: 8080, mode: host}}]\n    update: {{order: start-first, monitor: 200ms}}\n{more}"
        )
    };
    let socket = format!("swarm:\n  socket: {}\nservices:\n", dir.join("docker.sock").display());
    let after_api = "    depends_on: [api]\n";
    let prod = [
        socket.clone(),
        service("worker", "worker", "1.8", after_api),
        service("web", "web", "1.8", after_api),
        service("api", "api", "1.7", ""),
        setup.prod.clone(),
    ];
    let staging = [socket, service("web", "staging-web", "1.7", "")];
    std::fs::write(environments.join("prod.yaml"), prod.concat()).expect("written");
    std::fs::write(environments.join("staging.yaml"), staging.concat()).expect("written");
    for (path, text) in &setup.files {
        let path = dir.join("config").join(path);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text.replace("SANDBOX", &sandbox.url())).expect("written");
    }
    let auth = match &setup.password {
        Some(password) => {
            std::fs::write(dir.join("config/password"), password).expect("written");
            "username: houston\n  password: {file: password}".to_owned()
        }
        None => {
            let (user_id, token) = sandbox.personal_token("houston").expect("the bot's account");
            std::fs::write(dir.join("config/token"), token).expect("written");
            format!("user_id: {user_id}\n  token: {{file: token}}")
        }
    };
    let access = if setup.houston.contains("access:") {
        ""
    } else {
        "access:\n  roles:\n    operator: {users: [alice, bob]}\n    lead: {users: [carol]}\n"
    };
    let url = setup.weather.as_ref().map_or_else(|| sandbox.url(), |weather| weather.before(&sandbox.url()));
    let text = format!("rocketchat:\n  url: {url}\n  {auth}\n{access}{}", setup.houston);
    std::fs::write(dir.join("config/houston.yaml"), text).expect("written");
}

/// Processes whose program lies in `dir`.
fn children(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with(&dir.display().to_string()) {
            found.push(line);
        }
    }
    found
}
