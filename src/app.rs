//! The composition root: the only module that knows all others. Builds one Houston from a checked
//! configuration and a state folder, and takes it down again.
//!
//! Must not: decide anything that is not about building.

#[cfg(debug_assertions)]
mod kill_point;
mod lease;
mod nightly;
mod refused;
mod retention;
pub mod serving;
mod watch;
mod world;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::approvals;
use crate::audit::Audit;
use crate::chat::credentials;
use crate::chat::dispatch::{Dispatcher, DispatcherParts, Worlds};
use crate::chat::herald;
use crate::chat::reload::Reloaded;
use crate::chat::rented;
use crate::chat::reply::Voice;
use crate::chat::taken_over;
use crate::clock::Clock;
use crate::config::{Config, Current};
use crate::exec::secret::SecretError;
use crate::exec::ssh::{SshOptions, SshPool};
use crate::gateway::{self, Chat, Gateway, GatewayConfig, Ledger};
use crate::holder::Holder;
use crate::lease::Lease;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::playbook::plan::Planner;
use crate::playbook::steps::{Kinds, World, registry};
use crate::runs::freezes::by_file;
use crate::runs::maintenance;
use crate::runs::transcripts::Transcripts;
use crate::runs::{Consent, Engine, Footing, Parts};
use crate::schedule;
use crate::secret::{Redactor, SecretRef};
use crate::store::home;
use crate::store::{Store, SyncPoint};

pub use world::{AppWorld, Outside};

/// For answers that are being given when Houston stops, and for what runs have to say last.
const LAST_ANSWERS: Duration = Duration::from_millis(2500);

/// Runs that a lease tells of.
const MOST_TOLD: usize = 20;

/// For connections to close.
const PARTING: Duration = Duration::from_millis(500);

/// What one Houston is built from.
pub struct Options {
    pub config: Config,
    pub state: PathBuf,
    pub clock: Clock,
    pub redactor: Redactor,
    /// Tests shorten these.
    pub timings: gateway::Timings,
    /// How often the configuration folder is looked at; never, if absent.
    pub watch: Option<Duration>,
    /// Of the state folder; absent: it is taken at the start.
    pub holder: Option<Arc<Holder>>,
    pub lease: Lease,
}

impl Options {
    pub fn new(config: Config, state: impl Into<PathBuf>, redactor: Redactor) -> Self {
        Self {
            config,
            state: state.into(),
            clock: Clock::system(),
            redactor,
            timings: gateway::Timings::default(),
            watch: Some(watch::EVERY),
            holder: None,
            lease: Lease::unused(),
        }
    }
}

/// Why Houston did not start. Nothing was said or changed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
    pub hints: Vec<String>,
    /// Another start changes nothing: somebody has to put the configuration right.
    pub wrong_configuration: bool,
}

impl StartError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), wrong_configuration: false }
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl From<SecretError> for StartError {
    fn from(error: SecretError) -> Self {
        let mut started = Self::new(error.to_string());
        started.hints.extend(error.hint);
        // What a command fetches from may be away for a while only.
        started.wrong_configuration = !matches!(error.reference, SecretRef::Command(_));
        started
    }
}

/// A Houston that runs.
pub struct Houston {
    pub chat: Chat,
    pub engine: Engine,
    pub audit: Audit,
    /// Where it listens for browsers and for Prometheus, if it does.
    pub http: Option<SocketAddr>,
    /// Takes commands until this.
    intake: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    ssh: SshPool,
    store: Store,
    reloader: Dispatcher,
    /// Looked at by the engine, which does not keep it.
    _consent: Arc<dyn Consent>,
    /// The last to go.
    _holder: Arc<Holder>,
}

/// Step kinds by their word.
pub fn kinds() -> Kinds {
    Arc::new(registry())
}

/// A planner without a chat server or a store: `houston plan`.
pub fn planner(config: Arc<Config>, runtime: &Path, redactor: Redactor) -> Result<Planner, StartError> {
    let ssh = ssh_pool(runtime, redactor.clone())?;
    let world: Arc<dyn World> =
        Arc::new(AppWorld::new(config, Arc::new(Outside::new(ssh, runtime, redactor.clone()))));
    Ok(Planner { kinds: kinds(), world, clock: Clock::system(), redactor })
}

/// What a run that begins now stands on.
fn footing(current: &Current, worlds: &Worlds) -> Box<dyn Fn() -> Footing + Send + Sync> {
    let (current, worlds) = (current.clone(), Arc::clone(worlds));
    Box::new(move || {
        let config = current.get();
        Footing {
            world: worlds(Arc::clone(&config)),
            step_timeout: config.limits.step_timeout,
            freezes: {
                let config = Arc::clone(&config);
                Arc::new(move |environment, at| {
                    config.environments.get(environment).map_or_else(Vec::new, |found| by_file(found, at))
                })
            },
            maintenance: {
                let config = Arc::clone(&config);
                Arc::new(move |environment, at| {
                    config.environments.get(environment).map_or_else(Vec::new, |found| {
                        maintenance::by_file(found, at, Timestamp::MAX, |_| at)
                    })
                })
            },
            needs_maintenance: {
                let config = Arc::clone(&config);
                Arc::new(move |environment, command| config.needs_maintenance(environment, command))
            },
            consent: {
                let config = Arc::clone(&config);
                Arc::new(move |plan| config.approval_of(plan))
            },
            basis: Arc::new(move |plan| config.basis(plan)),
        }
    })
}

fn ssh_pool(dir: &Path, redactor: Redactor) -> Result<SshPool, StartError> {
    SshPool::new(&dir.join("ssh"), SshOptions::default(), redactor)
        .map_err(|e| StartError::new(format!("cannot make a folder for SSH below `{}`: {e}", dir.display())))
}

impl Houston {
    /// Opens the state, resolves secrets, resumes what was interrupted, and begins to connect. It does not
    /// wait for Rocket.Chat.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { config, state, clock, redactor, timings, watch, holder, lease } = options;
        let holder = match holder {
            Some(holder) => holder,
            None => {
                home::is_free_or_ours(&state)?;
                // Before anything is touched that another Houston may be using.
                Arc::new(Holder::take(&state, "houston serve", &clock).await?)
            }
        };
        let current = Current::new(config);
        let config = current.get();
        private_folder(&state)?;
        let metrics = Metrics::new(clock.now().as_duration().as_secs_f64());
        let store = {
            let (state, watch) = (state.clone(), watch_syncs(metrics.clone()));
            #[cfg(debug_assertions)]
            let watch = kill_point::with(watch)?;
            tokio::task::spawn_blocking(move || home::open(&state, watch))
                .await
                .map_err(|_| StartError::new("opening the state folder failed unexpectedly"))??
        };
        let audit = Audit::open(&state, &clock, redactor.clone()).map_err(|e| {
            StartError::new(format!("the audit log in `{}` cannot be opened: {e}", state.display()))
                .hint("`houston audit verify` says what is wrong with it")
        })?;
        let links = Links::open(&state).map_err(|e| {
            StartError::new(format!("the key of links in `{}` cannot be used: {e}", state.display()))
        })?;
        let auth = credentials::fetch(&config, &redactor).await?;
        let ssh = ssh_pool(&state, redactor.clone())?;
        let outside = Arc::new(Outside::new(ssh.clone(), &state, redactor.clone()));
        let worlds: Worlds = {
            let outside = Arc::clone(&outside);
            Arc::new(move |config| Arc::new(AppWorld::new(config, Arc::clone(&outside))))
        };
        let transcripts = Transcripts::new(state.join("transcripts"), redactor.clone());
        let engine = Engine::open(Parts {
            store: store.clone(),
            clock: clock.clone(),
            redactor: redactor.clone(),
            metrics: metrics.clone(),
            kinds: kinds(),
            audit: audit.clone(),
            transcripts,
            lease: lease.clone(),
            footing: footing(&current, &worlds),
        })?;
        let ledger = Ledger::new(store.clone(), clock.clone());
        ledger.keep_for(config.retention.marks);
        if let Some(before) = lease.predecessor() {
            let settled = taken_over::settle(&before, &store, &ledger, &engine, &audit, &clock).await;
            settled.map_err(|e| StartError::new(format!("the state folder cannot be written: {e}")))?;
            lease.settled();
        }
        let admin = admin::Socket::bind(&state.join("admin.sock"))
            .map_err(|e| StartError::new(format!("the admin socket cannot be made: {e}")))?;
        let http = listen(&config).await?;

        let listening = http.as_ref().and_then(|http| http.local_addr().ok());
        let meant = |emoji: &str| approvals::reading(emoji).is_some() || approvals::asks_to_cancel(emoji);
        let gateway = GatewayConfig { url: config.rocketchat.url.clone(), auth, timings, meant };
        let (chat, events) =
            Gateway::start(gateway, store.clone(), clock.clone(), redactor.clone(), ledger.clone())
                .map_err(|e| StartError::new(e.to_string()))?;
        outside.set_chat(chat.clone());

        let (intake, stop) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let dispatcher = Dispatcher::new(DispatcherParts {
            chat: chat.clone(),
            engine: engine.clone(),
            ledger,
            config: current.clone(),
            kinds: kinds(),
            worlds,
            store: store.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
            redactor,
            metrics,
            links: links.clone(),
            lease: lease.clone(),
        })?;
        let consent: Arc<dyn Consent> = Arc::new(dispatcher.clone());
        engine.set_consent(&consent);
        let voice =
            Voice::new(chat.clone(), engine.clone(), store.clone(), clock, current, links, lease.clone())
                .await;
        tasks.spawn(voice.run(stop.clone()));
        tasks.spawn(tell_the_lease(engine.clone(), lease, stop.clone()));
        // A configuration that was made in memory has no folder.
        if let Some(every) = watch.filter(|_| !config.dir.as_os_str().is_empty()) {
            tasks.spawn(watch::watch(dispatcher.clone(), every, stop.clone()));
        }
        tasks.spawn(herald::run(dispatcher.clone(), stop.clone()));
        tasks.spawn(nightly::run(dispatcher.clone(), stop.clone()));
        tasks.spawn(rented::run(dispatcher.clone(), stop.clone()));
        tasks.spawn(schedule::run(dispatcher.clone(), stop.clone()));
        let reloader = dispatcher.clone();
        tasks.spawn(dispatcher.clone().run(events, intake.clone()));
        tasks.spawn(admin::serve_socket(admin, dispatcher.clone(), stop.clone()));
        if let Some(listener) = http {
            tasks.spawn(admin::serve_http(listener, dispatcher.clone(), stop.clone()));
        }
        let found = engine.start().await;
        if !found.is_empty() {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            tracing::info!("taking up what was interrupted: {}", found.join(", "));
        }
        Ok(Self {
            chat,
            engine,
            audit,
            http: listening,
            intake,
            stop,
            tasks,
            ssh,
            store,
            reloader,
            _consent: consent,
            _holder: holder,
        })
    }

    /// Has the configuration folder read again.
    pub async fn reload(&self) -> Reloaded {
        self.reloader.reload(None).await
    }

    /// Takes no more commands, lets steps reach a boundary for at most `grace`, says what is to be said, and
    /// goes: within `grace` and three seconds, whatever hangs. What is not done by then is taken up by the next
    /// start.
    pub async fn stop(self, grace: Duration) {
        self.intake.cancel();
        self.engine.shutdown(grace).await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST_ANSWERS, self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        let parting = async {
            self.chat.shutdown().await;
            self.ssh.close().await;
        };
        if tokio::time::timeout(PARTING, parting).await.is_err() {
            tracing::warn!("connections did not close in time; they end with the process");
        }
        if let Err(error) = self.store.sync().await {
            tracing::error!("the store cannot be synced: {error}");
        }
    }
}

/// Where health and metrics are asked for, if anywhere.
async fn listen(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(http) = &config.http else { return Ok(None) };
    let listener = TcpListener::bind(http.listen).await.map_err(|e| {
        StartError::new(format!("cannot listen on `{}`: {e}", http.listen))
            .hint("`http.listen` in houston.yaml names the address")
    })?;
    Ok(Some(listener))
}

/// Keeps in the lease what is under way here, for whoever would take over without knowing it.
async fn tell_the_lease(engine: Engine, lease: Lease, stop: CancellationToken) {
    let mut changes = engine.subscribe();
    loop {
        lease.note(engine.unfinished(MOST_TOLD).await);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.recv() => if let Err(RecvError::Closed) = changed { break },
        }
    }
    // What moved last, too: it is what the lease is given back with.
    lease.note(engine.unfinished(MOST_TOLD).await);
}

/// Takes the time of each sync, on the thread that makes it.
fn watch_syncs(metrics: Metrics) -> impl Fn(SyncPoint) + Send + 'static {
    let began = Cell::new(Instant::now());
    move |point| match point {
        SyncPoint::Before => began.set(Instant::now()),
        SyncPoint::After => metrics.synced(began.get().elapsed()),
    }
}

/// The state is for Houston's own user: it holds what was said and done in private rooms too.
fn private_folder(state: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |e: std::io::Error| {
        StartError::new(format!("the state folder `{}` cannot be used: {e}", state.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    let mode = std::fs::metadata(state).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(state, std::fs::Permissions::from_mode(mode & 0o7700)).map_err(failed)?;
    }
    Ok(())
}
