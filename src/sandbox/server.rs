//! The running server: one port for the realtime API, REST, files, the page and the control endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::state::World;
use super::{Options, control, ddp, page, rest};

/// What every handler shares.
pub struct Shared {
    world: Mutex<World>,
    pub heartbeat: Option<Duration>,
    pub stop: CancellationToken,
    /// Rung when a client has sent something.
    pub heard: Notify,
    next_connection: AtomicU64,
}

impl Shared {
    /// The world, for the moment in which nothing is awaited.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

/// Starts a server. Fails when the address cannot be listened on.
pub async fn start(options: Options) -> io::Result<Sandbox> {
    let listener = TcpListener::bind(options.listen).await?;
    let addr = listener.local_addr()?;
    let shared = Arc::new(Shared {
        world: Mutex::new(World::new(&options)),
        heartbeat: options.heartbeat,
        stop: CancellationToken::new(),
        heard: Notify::new(),
        next_connection: AtomicU64::new(1),
    });
    let router = Router::new()
        .route("/websocket", get(ddp::upgrade))
        .route("/websocket/", get(ddp::upgrade))
        .route("/api/info", get(rest::info))
        .route("/api/v1/{*path}", any(rest::api))
        .route("/file-upload/{id}/{name}", get(rest::download))
        .route("/_sandbox/{act}", post(control::act))
        .route("/", get(index))
        .route("/page/{*path}", get(file_of_page))
        .fallback(rest::html)
        .layer(axum::middleware::map_response_with_state(shared.clone(), dated))
        .layer(axum::middleware::from_fn(control::only_local))
        .with_state(shared.clone());
    let listener = listener.tap_io(|socket| {
        // Without it small frames wait for the acknowledgement of the one before. It cannot fail on an
        // open socket, and a closed one is noticed by its reader.
        let _ = socket.set_nodelay(true);
    });
    let stop = shared.stop.clone();
    let task = tokio::spawn(async move {
        let service = router.into_make_service();
        let stopped = stop.clone();
        let served = async move {
            axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await
        };
        tokio::select! {
            result = served => {
                if let Err(error) = result {
                    tracing::error!(%error, "the sandbox stopped serving");
                }
            }
            () = async {
                stopped.cancelled().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            } => {}
        }
    });
    Ok(Sandbox { addr, shared, task: Some(task) })
}

/// One server has one clock: `Date` is what the documents say, also on a clock of a test.
async fn dated(State(shared): State<Arc<Shared>>, mut response: Response) -> Response {
    let now = shared.world().now();
    let now = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    if let Ok(date) = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().parse() {
        response.headers_mut().insert(axum::http::header::DATE, date);
    }
    response
}

impl Sandbox {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes every socket, as a server does that is shut down, and frees the port.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// One act of the control endpoint, as `POST /_sandbox/<act>` with this body does it: `drop`, `refuse`,
    /// `delay`, `duplicate`, `reorder`, `lose`, `rate_limit`, `revoke`, `kick`, `reemit`, `preview`, `raw`,
    /// `set`, `grant`, `send`, `say`, `room`, `person`, `clear`, `log`, `wait_frames`, `state`.
    pub async fn control(&self, act: &str, body: Value) -> Result<Value, String> {
        control::perform(&self.shared, act, &body).await
    }

    /// A person's message, as if typed just now. Gives its id.
    pub async fn say(&self, username: &str, room: &str, msg: &str) -> Result<String, String> {
        let done = self.control("say", json!({"user": username, "room": room, "msg": msg})).await?;
        Ok(done["message"]["_id"].as_str().unwrap_or_default().to_owned())
    }

    /// The messages of a room by name or id, oldest first, with dates as the realtime API writes them.
    pub fn messages(&self, room: &str) -> Vec<Value> {
        let world = self.shared.world();
        let Some(room) = world.find_room(room) else { return Vec::new() };
        world.messages_in(&room.id).cloned().map(Value::Object).collect()
    }

    /// A room's id by its name.
    pub fn room_id(&self, name: &str) -> Option<String> {
        self.shared.world().find_room(name).map(|room| room.id.clone())
    }

    /// An account's id by its user name.
    pub fn user_id(&self, username: &str) -> Option<String> {
        self.shared.world().id_of(username)
    }

    /// A fresh personal access token of the account, for `user_id` and `token` in a configuration.
    pub fn personal_token(&self, username: &str) -> Option<(String, String)> {
        let mut world = self.shared.world();
        let uid = world.id_of(username)?;
        let token = world.new_token(&uid, Some("sandbox"));
        Some((uid, token.value))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn index(State(shared): State<Arc<Shared>>) -> Response {
    if shared.world().is_down() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    asset("index.html")
}

async fn file_of_page(Path(path): Path<String>) -> Response {
    asset(&path)
}

fn asset(path: &str) -> Response {
    match page::asset(path) {
        Some((kind, bytes)) => {
            let headers = [
                (header::CONTENT_TYPE, kind),
                (header::CACHE_CONTROL, "no-cache"),
                (header::CONTENT_SECURITY_POLICY, page::POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
            ];
            (headers, bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
