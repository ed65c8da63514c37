//! The command line: one file per command. Parses, calls, prints, and turns the outcome into an exit code.
//!
//! Must not: hold logic that chat or a test would need too.

mod audit;
mod check;
mod demo;
mod docs;
mod doctor;
mod log;
mod out;
mod plan;
mod reload;
mod runs;
mod sandbox;
mod serve;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::secret::Redactor;
use crate::store::home;
use log::LogFormat;

/// Threads of the runtime: Houston waits most of the time, and on a large machine each one costs memory.
const MOST_WORKERS: usize = 4;

/// ChatOps for Rocket.Chat: operate your platform from the room where the conversation is.
#[derive(Parser, Debug)]
#[command(name = "houston", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "To see it work: houston demo")]
pub struct Cli {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Logging {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Log more: -v, -vv
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A chat server with a web page, Houston in it, people, services: everything in one process
    Demo(demo::Demo),
    /// Only a Rocket.Chat-compatible chat server, for trying and for tests
    Sandbox(sandbox::SandboxArgs),
    /// The bot
    Serve(serve::Serve),
    /// Check the configuration folder; prints every problem with its place and a hint
    Check(check::Check),
    /// Look at everything that Houston depends on, and say how to mend what is wrong
    Doctor(doctor::Doctor),
    /// Print the plan that chat would show; nothing is changed
    Plan(plan::PlanArgs),
    /// Runs: list, show, logs
    Runs(runs::Runs),
    /// The audit log: list, export, verify
    Audit(audit::AuditArgs),
    /// The state folder: size, export, import
    Store(store::StoreArgs),
    /// Reference, generated from the code
    Docs(docs::Docs),
    /// Have a running Houston read its configuration folder again
    Reload(reload::Reload),
    /// Ask whether the process is alive, whatever Rocket.Chat does (for container health checks)
    Healthcheck(serve::Healthcheck),
}

/// Where the configuration is.
#[derive(Args, Debug)]
struct ConfigArg {
    /// The configuration folder
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
}

/// Where the state is.
#[derive(Args, Debug)]
struct StateArg {
    /// The state folder
    #[arg(long, value_name = "DIR", default_value = "./state", global = true)]
    state: PathBuf,
}

/// `EX_CONFIG` of sysexits.h: the configuration is wrong, a restart will not help.
const EX_CONFIG: u8 = 78;

/// What a command says about how it went.
#[derive(Debug)]
struct Failure {
    message: String,
    hints: Vec<String>,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), code: 1 }
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
    fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl From<crate::app::StartError> for Failure {
    fn from(error: crate::app::StartError) -> Self {
        let code = if error.wrong_configuration { EX_CONFIG } else { 1 };
        Self { message: error.message, hints: error.hints, code }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // One TLS provider for everything, before anything can ask for another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A task of the sandbox's engine: its arguments are its own, `--version` among them.
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(crate::sandbox::engine::TASK_SUBCOMMAND) {
        return crate::sandbox::engine::task::main(args.collect());
    }
    let cli = Cli::parse();
    let redactor = Redactor::new();
    // Through the log, and so through the redactor.
    std::panic::set_hook(Box::new(|panic| tracing::error!("this is a bug in Houston: {panic}")));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            out::error(format!("the runtime cannot be started: {error}"), &[]);
            return ExitCode::FAILURE;
        }
    };
    let working = matches!(cli.command, Command::Demo(_) | Command::Serve(_));
    let logging = cli.logging;
    let log = log::start(logging.log_format, logging.verbose, redactor.clone(), runtime.handle(), working);
    let result = runtime.block_on(async move {
        match cli.command {
            Command::Demo(args) => args.run(redactor).await,
            Command::Sandbox(args) => args.run().await,
            Command::Serve(args) => args.run(redactor).await,
            Command::Check(args) => args.run(),
            Command::Doctor(args) => args.run(redactor).await,
            Command::Plan(args) => args.run(redactor).await,
            Command::Runs(args) => args.run().await,
            Command::Audit(args) => args.run(),
            Command::Store(args) => args.run().await,
            Command::Docs(args) => args.run(),
            Command::Reload(args) => args.run().await,
            Command::Healthcheck(args) => args.run().await,
        }
    });
    log.end();
    // Blocking threads (a sled flush, a resolver) must not keep a finished program alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out::error(&failure.message, &failure.hints);
            ExitCode::from(failure.code)
        }
    }
}

/// Resolves on Ctrl-C and on SIGTERM, from the call on: called before something starts, it also hears what comes
/// during the start. Without a handler the first process of a container would never hear SIGTERM at all.
fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    let listen = |kind: SignalKind| {
        signal(kind).inspect_err(|error| tracing::warn!("a signal cannot be listened for: {error}")).ok()
    };
    async fn heard(signal: Option<Signal>) {
        match signal {
            Some(mut signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
    let (term, interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    async move {
        tokio::select! {
            () = heard(term) => {}
            () = heard(interrupt) => {}
        }
    }
}

/// A request over the admin socket of a running Houston. `None`: none runs here.
async fn admin(state: &std::path::Path, path: &str) -> Result<Option<String>, Failure> {
    ask_admin(state, reqwest::Method::GET, path).await
}

/// As [`admin`], for what does something.
async fn admin_do(state: &std::path::Path, path: &str) -> Result<Option<String>, Failure> {
    ask_admin(state, reqwest::Method::POST, path).await
}

async fn ask_admin(
    state: &std::path::Path,
    method: reqwest::Method,
    path: &str,
) -> Result<Option<String>, Failure> {
    let Some(response) = request(state, method, path).await? else { return Ok(None) };
    answered(response).await.map(Some)
}

/// The answer, whose body may be long. `None`: no Houston runs here.
async fn request(
    state: &std::path::Path,
    method: reqwest::Method,
    path: &str,
) -> Result<Option<reqwest::Response>, Failure> {
    let socket = state.join("admin.sock");
    if !socket.exists() {
        return Ok(None);
    }
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .no_proxy()
        // Of each piece: an export may take longer as a whole.
        .read_timeout(std::time::Duration::from_secs(30))
        // No TLS over a socket: the root certificates need not be read.
        .tls_certs_only([])
        .build()
        .map_err(|e| Failure::new(format!("cannot set up HTTP: {e}")))?;
    match client.request(method, format!("http://houston{path}")).send().await {
        Ok(response) => Ok(Some(response)),
        // A socket that a killed Houston left behind.
        Err(error) if error.is_connect() => Ok(None),
        Err(error) => Err(Failure::new(format!("the running Houston did not answer: {error}"))),
    }
}

async fn answered(response: reqwest::Response) -> Result<String, Failure> {
    let ok = response.status().is_success();
    let body = response.text().await.map_err(|e| Failure::new(format!("its answer broke off: {e}")))?;
    if ok { Ok(body) } else { Err(Failure::new(body.trim().to_owned())) }
}

/// A store that no daemon holds, and none can take as long as this is there.
struct Closed {
    store: crate::store::Store,
    _holder: crate::holder::Holder,
}

impl std::ops::Deref for Closed {
    type Target = crate::store::Store;
    fn deref(&self) -> &crate::store::Store {
        &self.store
    }
}

/// The store, when no daemon holds it. `doing` is what a daemon that is started meanwhile tells.
async fn open_store(state: &std::path::Path, doing: &str) -> Result<Closed, Failure> {
    if !state.join(home::DATABASE).exists() && !state.join("audit.jsonl").exists() {
        return Err(Failure::new(format!("there is no state in `{}`", state.display()))
            .hint("`--state DIR` names the folder that `houston serve` uses"));
    }
    let holder = crate::holder::Holder::take(state, doing, &crate::clock::Clock::system())
        .await
        .map_err(crate::app::StartError::from)?;
    let state = state.to_owned();
    let store = tokio::task::spawn_blocking(move || home::open(&state, |_| {}))
        .await
        .map_err(|_| Failure::new("opening the state failed unexpectedly"))?
        .map_err(crate::app::StartError::from)?;
    Ok(Closed { store, _holder: holder })
}
