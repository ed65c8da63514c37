//! One task of a service: the child process that stands in for a container.
//!
//! Must not: outlive the engine. It ends on SIGTERM, and when its standard input ends, which happens
//! when the engine's process dies in whatever way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// The first line of a task's standard output is this and its port; it is not part of the log.
pub const PORT_LINE: &str = "houston-sandbox-port ";

/// What a task was told on its command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Args {
    version: String,
    service: String,
    task: String,
    /// 0: a free one.
    port: u16,
    /// In a container of a real engine: where it listens. It belongs to nobody's standard input there.
    listen: Option<SocketAddr>,
    /// Only ask whether the task on this port is healthy.
    probe: Option<u16>,
    fail: Option<Fail>,
    slow: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fail {
    Crash,
    Health,
}

fn parse(args: Vec<String>) -> Result<Args, String> {
    let mut parsed = Args::default();
    let mut args = args.into_iter();
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
        let bad = || format!("`{value}` is no value of `{flag}`");
        match flag.as_str() {
            "--version" => parsed.version = value,
            "--service" => parsed.service = value,
            "--task" => parsed.task = value,
            "--port" => parsed.port = value.parse().map_err(|_| bad())?,
            "--listen" => parsed.listen = Some(value.parse().map_err(|_| bad())?),
            "--probe" => parsed.probe = Some(value.parse().map_err(|_| bad())?),
            "--slow-ms" => parsed.slow = Duration::from_millis(value.parse().map_err(|_| bad())?),
            "--fail" => {
                parsed.fail = Some(match value.as_str() {
                    "crash" => Fail::Crash,
                    "health" => Fail::Health,
                    _ => return Err(bad()),
                });
            }
            _ => return Err(format!("`{flag}` is not an option of a sandbox task")),
        }
    }
    Ok(parsed)
}

/// Runs a task on a runtime of its own: for `main`, before anything else is set up.
pub fn main(args: Vec<String>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(task_main(args)),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs a task until it is told to end. `args`: `--version V [--port P | --listen ADDRESS] [--service S]
/// [--task ID] [--fail crash|health] [--slow-ms N]`; or `--probe PORT`, the health check of a container.
pub async fn task_main(args: Vec<String>) -> ExitCode {
    match parse(args) {
        Ok(Args { probe: Some(port), .. }) => match probe(port).await {
            Ok(answer) => {
                say(&mut io::stdout(), answer.trim());
                ExitCode::SUCCESS
            }
            Err(problem) => {
                say(&mut io::stderr(), &problem);
                ExitCode::FAILURE
            }
        },
        Ok(args) => match serve(args).await {
            Ok(code) => code,
            Err(error) => {
                say(&mut io::stderr(), &format!("fatal: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(problem) => {
            say(&mut io::stderr(), &format!("error: {problem}"));
            ExitCode::from(2)
        }
    }
}

/// Asks a task of this machine for its health: what it says, or what is wrong with it.
async fn probe(port: u16) -> Result<String, String> {
    let asked = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = asked.await.map_err(|error| format!("the health check is not answered: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no status");
    if status == "200" { Ok(body.to_owned()) } else { Err(format!("{status}: {body}")) }
}

struct Page {
    args: Args,
    started: Instant,
    requests: AtomicU64,
}

async fn serve(args: Args) -> io::Result<ExitCode> {
    let address = args.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)));
    let listener = TcpListener::bind(address).await?;
    let port = listener.local_addr()?.port();
    let mut terminate = signal(SignalKind::terminate())?;
    let is_child = args.listen.is_none();
    if is_child {
        say(&mut io::stdout(), &format!("{PORT_LINE}{port}"));
    }
    say(&mut io::stdout(), &format!("starting {} {}", args.service, args.version));
    if args.fail == Some(Fail::Crash) {
        say(&mut io::stdout(), "config: loaded /etc/app/config.toml");
        say(&mut io::stderr(), "fatal: cannot connect to the database: connection refused (10.0.3.7:5432)");
        say(&mut io::stderr(), "fatal: migration 0042_add_index has not been applied, giving up");
        return Ok(ExitCode::FAILURE);
    }
    say(&mut io::stdout(), "listening on 0.0.0.0:8080");
    let page = Arc::new(Page { args, started: Instant::now(), requests: AtomicU64::new(0) });
    let app = Router::new().route("/", get(root)).route("/health", get(health)).with_state(page.clone());
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        tokio::select! {
            _ = terminate.recv() => say(&mut io::stdout(), "received SIGTERM, finishing open requests"),
            () = end_of_input(), if is_child => {}
        }
    });
    server.await?;
    say(&mut io::stdout(), &format!("stopped after {} requests", page.requests.load(Ordering::Relaxed)));
    Ok(ExitCode::SUCCESS)
}

/// Returns when the engine's end of standard input is closed. A thread of its own does the blocking
/// read; it ends with the process.
async fn end_of_input() {
    let (ended, wait) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(ended);
    });
    let _ = wait.await;
}

/// `/`: who answers, as JSON, or as a small page for a browser. One request a connection, so that a
/// connection kept open never outlives its task.
async fn root(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    page.requests.fetch_add(1, Ordering::Relaxed);
    let Args { version, service, task, .. } = &page.args;
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let close = [(header::CONNECTION, "close"), (header::CACHE_CONTROL, "no-store")];
    if wants_page {
        return (close, Html(html(service, version, task))).into_response();
    }
    (close, Json(json!({"version": version, "service": service, "task": task}))).into_response()
}

async fn health(State(page): State<Arc<Page>>) -> Response {
    let close = [(header::CONNECTION, "close")];
    if page.args.fail == Some(Fail::Health) {
        say(&mut io::stderr(), "health: 503, the connection pool is exhausted (0 of 10 free)");
        return (StatusCode::SERVICE_UNAVAILABLE, close, "connection pool exhausted").into_response();
    }
    if page.started.elapsed() < page.args.slow {
        return (StatusCode::SERVICE_UNAVAILABLE, close, "warming up").into_response();
    }
    (close, "ok").into_response()
}

fn html(service: &str, version: &str, task: &str) -> String {
    let (service, version, task) = (escape(service), escape(version), escape(task));
    let hue = version.bytes().fold(17u32, |hue, byte| (hue * 31 + u32::from(byte)) % 360);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{service} {version}</title><style>body{{margin:0;min-height:100vh;display:grid;place-content:center;\
         text-align:center;font:18px system-ui,sans-serif;background:hsl({hue} 60% 94%);color:hsl({hue} 60% 18%)}}\
         h1{{font-size:14vmin;margin:0}}p{{margin:.4em;opacity:.75}}code{{font-size:.8em}}</style>\
         <p>{service}</p><h1>{version}</h1><p><code>task {task}</code></p>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line of the log. A log that nobody reads any more is no reason to fail.
fn say(to: &mut dyn io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
    let _ = to.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_are_refused() {
        let read = |line: &str| parse(line.split(' ').map(str::to_owned).collect());
        let args =
            read("--version 1.8 --port 8080 --service web --fail health --slow-ms 5").expect("arguments");
        assert_eq!((args.version.as_str(), args.port, args.fail), ("1.8", 8080, Some(Fail::Health)));
        assert_eq!(args.slow, Duration::from_millis(5));
        for line in ["--version", "--port many", "--fail sometimes", "--colour red"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn names_are_escaped_in_the_page() {
        assert!(!html("<b>", "1", "t").contains("<b>"));
    }
}
