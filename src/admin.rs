//! Ways in beside chat: a unix socket for the command line (sled locks its folder, so a second process
//! cannot look into it), and HTTP for health, metrics and pages of runs.
//!
//! Must not: change anything but by having the configuration folder read again. Whoever may read the state
//! folder may ask here; nobody else.

mod crowd;
mod scrape;
mod standby;
mod stored;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::chat::dispatch::Dispatcher;
use crate::chat::reload::Reloaded;
use crate::exec::transcript;
use crate::gateway::Chat;
use crate::ids::RunId;
use crate::lease::Lease;
use crate::page;
use crate::runs::event::Recorded;
use crate::runs::journal::Header;
use crate::runs::retention::{self, What};
use crate::runs::{ActError, Engine};
use crate::store::Store;

pub use standby::Standby;
pub use stored::{StoreStat, store_stat};

/// The socket, and its file, which goes with it.
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

struct SocketFile(PathBuf);

impl Socket {
    /// The store's lock is held when this is called: a file that is there belongs to a process that is gone.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("{}: {e} (a socket's path has at most 107 bytes)", path.display()),
            )
        })?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, file: SocketFile(path.to_owned()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Clone)]
struct Admin {
    engine: Engine,
    dispatcher: Dispatcher,
    store: Store,
}

/// A run with its log, for `houston runs show`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunLog {
    pub header: Option<Header>,
    pub events: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Most {
    limit: Option<usize>,
}

/// Until `stop`.
pub async fn serve_socket(socket: Socket, dispatcher: Dispatcher, stop: CancellationToken) {
    let parts = &dispatcher.parts;
    let (engine, store, health) = (parts.engine.clone(), parts.store.clone(), health(dispatcher.clone()));
    let router = Router::new()
        .route("/runs", get(list))
        .route("/runs/{run}", get(show))
        .route("/runs/{run}/logs", get(logs))
        .route("/store", get(stored::stat))
        .route("/store/export", get(stored::export))
        .route("/reload", post(reload))
        .with_state(Admin { engine, dispatcher, store })
        .merge(health)
        .layer(middleware::from_fn(with_id));
    let Socket { listener, file } = socket;
    let served =
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!("the admin socket ended: {error}");
    }
    drop(file);
}

/// Every line about a request has the request's id.
async fn with_id(request: Request, next: middleware::Next) -> Response {
    let span = crate::trace::request(request.method().as_str(), request.uri().path());
    next.run(request).instrument(span).await
}

async fn reload(State(admin): State<Admin>) -> Json<Reloaded> {
    Json(admin.dispatcher.reload(None).await)
}

fn failed(error: &ActError) -> (StatusCode, String) {
    let status = match error {
        ActError::NoSuchRun(_) | ActError::Removed { .. } => StatusCode::NOT_FOUND,
        ActError::NotNow { .. } | ActError::Refused { .. } | ActError::Meanwhile | ActError::Overlaps(_) => {
            StatusCode::CONFLICT
        }
        ActError::Journal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, for_terminal(error))
}

/// What the command line says, whose commands are not those of the chat.
pub fn for_terminal(error: &ActError) -> String {
    match error {
        ActError::NoSuchRun(run) => {
            format!("there is no run {run}; `houston runs` lists those that there are")
        }
        ActError::Removed { run, removed } => {
            format!("{run} was {}; `houston audit export` has what was told of it", removed.words())
        }
        other => other.to_string(),
    }
}

async fn list(
    State(admin): State<Admin>,
    Query(most): Query<Most>,
) -> Result<Json<Vec<Header>>, (StatusCode, String)> {
    admin.engine.list(most.limit.unwrap_or(50)).map(Json).map_err(|e| failed(&e))
}

fn run_id(text: &str) -> Result<RunId, (StatusCode, String)> {
    text.parse().map_err(|e: crate::ids::NotARunId| (StatusCode::BAD_REQUEST, e.to_string()))
}

async fn show(
    State(admin): State<Admin>,
    UrlPath(run): UrlPath<String>,
) -> Result<Json<RunLog>, (StatusCode, String)> {
    let run = run_id(&run)?;
    run_log(&admin.store, run).map(Json).map_err(|e| failed(&e))
}

async fn logs(
    State(admin): State<Admin>,
    UrlPath(run): UrlPath<String>,
) -> Result<Body, (StatusCode, String)> {
    let run = run_id(&run)?;
    match admin.engine.transcripts().whole(run) {
        Ok(Some(whole)) => Ok(Body::from_stream(transcript::pieces(whole))),
        Ok(None) => {
            run_log(&admin.store, run).map_err(|e| failed(&e))?;
            Err((StatusCode::NOT_FOUND, nothing_written(&admin.store, run)))
        }
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// Of a run that there is.
pub fn nothing_written(store: &Store, run: RunId) -> String {
    match retention::of(store, What::Transcript, run) {
        Ok(Some(removed)) => format!("the output of {run} was {}", removed.words()),
        Ok(None) => format!("{run} has written nothing: none of its steps has begun"),
        Err(error) => error.to_string(),
    }
}

/// From the store, also when no daemon runs.
pub fn run_log(store: &Store, run: RunId) -> Result<RunLog, ActError> {
    let header = store.get(crate::store::Tree::Runs, &run.0.to_be_bytes())?;
    let events = crate::runs::journal::read_log(store, run)?;
    if events.is_empty() {
        return Err(crate::runs::journal::missing(store, run).into());
    }
    Ok(RunLog { header, events })
}

/// The same over HTTP and over the socket.
fn health(dispatcher: Dispatcher) -> Router {
    let (chat, lease) = (dispatcher.parts.chat.clone(), dispatcher.parts.lease.clone());
    let metrics = Router::new().route("/metrics", get(scrape::metrics)).with_state(dispatcher);
    Router::new()
        .route("/livez", get(livez))
        .route("/healthz", get(healthz))
        .with_state(chat.clone())
        .route("/readyz", get(readyz))
        .with_state((chat, lease))
        .merge(metrics)
}

/// `GET /livez`, `/healthz`, `/readyz`, `/metrics` and the pages of runs, until `stop`.
pub async fn serve_http(listener: TcpListener, dispatcher: Dispatcher, stop: CancellationToken) {
    let router = health(dispatcher.clone()).merge(page::router(&dispatcher, stop.clone()));
    let router = router.layer(middleware::from_fn(with_id));
    let served = axum::serve(crowd::Crowd::new(listener), router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!("HTTP ended: {error}");
    }
}

/// Whether a restart is due. It looks at this process alone: an outage of Rocket.Chat is not mended by killing the
/// runs that go on meanwhile.
async fn livez() -> &'static str {
    "alive\n"
}

/// Alive: the process answers, and the server has spoken recently if it ever did. A Houston that was started
/// while the server is away is healthy, so that nobody restarts it in a circle.
async fn healthz(State(chat): State<Chat>) -> impl IntoResponse {
    let health = chat.health();
    match health.last_frame_age {
        Some(age) if age > health.silence => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("Rocket.Chat was last heard {} ago\n", crate::text::duration(age)),
        ),
        _ => (StatusCode::OK, "ok\n".to_owned()),
    }
}

/// Ready: connected, subscribed, caught up, and the one that acts.
async fn readyz(State((chat, lease)): State<(Chat, Lease)>) -> impl IntoResponse {
    let health = chat.health();
    let why = match (health.online, health.caught_up, lease.may_act()) {
        (true, true, Ok(())) => return (StatusCode::OK, "ready\n".to_owned()),
        // What only reads is answered then.
        (true, true, Err(why)) => format!("nothing is begun: {why}\n"),
        (true, false, _) => "catching up\n".to_owned(),
        (false, _, _) => "not connected to Rocket.Chat\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why)
}
