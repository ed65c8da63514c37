//! The way to a manager: a local socket, or several managers tried in order. The one that answered is
//! asked first the next time.
//!
//! A request that changes something is safe to send again to another manager: it carries the service's
//! `Version.Index` (or a name that is taken once), so that the second one is refused.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value as Json;
use tokio::sync::Mutex;

use super::error::{Problem, SwarmError, Tried, message_of};
use crate::config::environment::{Environment, SwarmAccess};
use crate::exec::ExecError;
use crate::exec::ssh::{SshHost, SshPool};

/// A reply larger than this is refused: an inspect of thousands of tasks is a tenth of it.
const MOST_BYTES: usize = 64 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(15);

/// The managers of one Swarm.
pub struct Swarm {
    managers: Vec<Manager>,
    /// Index of the manager that answered last.
    answered: AtomicUsize,
}

impl Swarm {
    /// A Swarm whose manager listens on a socket of this machine.
    pub fn local(socket: impl Into<PathBuf>) -> Self {
        Self::over(vec![Manager::socket(socket)])
    }

    /// The Swarm of an environment; `None` when its file names none. Does not connect.
    pub fn of(environment: &Environment, pool: &SshPool) -> Option<Self> {
        Some(match environment.swarm.as_ref()? {
            SwarmAccess::Socket(path) => Self::local(path),
            SwarmAccess::Managers { hosts, socket } => {
                let known = hosts.iter().filter_map(|name| environment.hosts.get(name));
                Self::over(known.map(|h| Manager::ssh(pool.host(&environment.name, h), socket)).collect())
            }
        })
    }

    /// Several managers of the same Swarm, tried in this order.
    pub fn over(managers: Vec<Manager>) -> Self {
        Self { managers, answered: AtomicUsize::new(0) }
    }

    /// The manager that answered last, for messages.
    pub fn manager(&self) -> &str {
        self.managers.get(self.answered.load(Ordering::Relaxed)).map_or("no manager", |m| m.name.as_str())
    }

    /// What a person types for `docker` to do this on the manager that answered last.
    pub fn typed(&self, arguments: &[&str]) -> String {
        let typed = |socket: &std::path::Path| {
            let mut command = crate::exec::Command {
                program: "docker".to_owned(),
                args: Vec::new(),
                stdin: None,
                timeout: None,
            };
            if socket != std::path::Path::new("/var/run/docker.sock") {
                command.args = vec!["-H".to_owned(), format!("unix://{}", socket.display())];
            }
            command.args.extend(arguments.iter().map(|&argument| argument.to_owned()));
            command
        };
        match self.managers.get(self.answered.load(Ordering::Relaxed)).map(|manager| &manager.way) {
            Some(Way::Socket(path)) => crate::text::shell_words(&typed(path).words()),
            Some(Way::Ssh { host, socket }) => {
                use crate::exec::Runner as _;
                host.typed(&typed(socket))
            }
            None => crate::text::shell_words(arguments),
        }
    }

    /// Sends to the manager that answered last, then to the others in order.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<(StatusCode, Vec<u8>), SwarmError> {
        let first = self.answered.load(Ordering::Relaxed);
        let order = std::iter::once(first).chain((0..self.managers.len()).filter(|i| *i != first));
        let mut tried = Vec::new();
        for i in order {
            let Some(manager) = self.managers.get(i) else { continue };
            match manager.send(request).await {
                Ok(answer) => {
                    if self.answered.swap(i, Ordering::Relaxed) != i {
                        tracing::info!(manager = manager.name, "another Swarm manager answers");
                    }
                    return Ok(answer);
                }
                Err((problem, hint)) => {
                    tracing::debug!(manager = manager.name, %problem, "a Swarm manager is of no use");
                    tried.push(Tried { manager: manager.name.clone(), problem, hint });
                }
            }
        }
        Err(SwarmError::NoManager { tried })
    }
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.managers.iter().map(|m| &m.name)).finish()
    }
}

/// One manager and the way to its engine.
pub struct Manager {
    name: String,
    way: Way,
    /// Absent until it is needed, and after it failed.
    client: Mutex<Option<Client>>,
}

enum Way {
    Socket(PathBuf),
    Ssh { host: SshHost, socket: PathBuf },
}

/// Why a manager was of no use, and what to do about it where that is known.
type Useless = (Problem, Option<String>);

impl Manager {
    /// A manager on this machine.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), way: Way::Socket(path), client: Mutex::new(None) }
    }

    /// A manager on another machine: its socket is forwarded here.
    pub fn ssh(host: SshHost, socket: impl Into<PathBuf>) -> Self {
        use crate::exec::Runner as _;
        Self { name: host.name(), way: Way::Ssh { host, socket: socket.into() }, client: Mutex::new(None) }
    }

    async fn client(&self) -> Result<Client, Useless> {
        let socket = match &self.way {
            Way::Socket(path) => path.clone(),
            // Before each use: this is what notices a lost connection and makes a new one.
            Way::Ssh { host, socket } => match host.forward_socket(socket).await {
                Ok(forwarded) => forwarded.local,
                Err(ExecError::NotStarted { reason, hint, .. }) => {
                    return Err((Problem::Unreachable(reason), hint));
                }
                Err(error) => return Err((Problem::Unreachable(error.to_string()), None)),
            },
        };
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = Client::builder()
            .unix_socket(socket)
            .no_proxy()
            // No TLS over a socket: the root certificates need not be read.
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| (Problem::Unreachable(e.to_string()), None))?;
        Ok(client.insert(made).clone())
    }

    async fn send(&self, request: &Request<'_>) -> Result<(StatusCode, Vec<u8>), Useless> {
        let client = self.client().await?;
        let sent = tokio::time::timeout(request.timeout, perform(&client, request)).await;
        let problem = match sent {
            Ok(Ok((status, body))) => match refusal_of_the_manager(status, &body) {
                None => return Ok((status, body)),
                // The connection is good, only the engine behind it is of no use.
                Some(problem) => return Err((problem, None)),
            },
            Ok(Err(error)) => self.unanswered(crate::text::root_cause(&error)).await,
            Err(_) => Problem::TimedOut,
        };
        *self.client.lock().await = None;
        Err((problem, None))
    }

    /// Who is missing where a request got no answer.
    async fn unanswered(&self, reason: String) -> Problem {
        match &self.way {
            Way::Ssh { host, .. } if !host.is_connected().await => {
                Problem::Unreachable(format!("the connection was lost ({reason})"))
            }
            _ => Problem::NoDaemon(reason),
        }
    }
}

async fn perform(client: &Client, request: &Request<'_>) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
    let mut builder = client.request(request.method.clone(), format!("http://docker{}", request.path));
    if !request.query.is_empty() {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(request.query.iter().map(|(k, v)| (*k, v.as_str())));
        builder = client
            .request(request.method.clone(), format!("http://docker{}?{}", request.path, query.finish()));
    }
    builder = match &request.body {
        Body::None => builder,
        Body::Json(body) => builder.json(body),
        Body::Archive(archive) => {
            builder.header(reqwest::header::CONTENT_TYPE, "application/x-tar").body(archive.clone())
        }
    };
    let response = builder.send().await?;
    let status = response.status();
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let room = request.at_most - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == request.at_most {
            break;
        }
    }
    Ok((status, body))
}

/// Engines say with 503 (older ones also 406 and 500) that they are no manager, or that theirs has no
/// leader; another manager may know better.
fn refusal_of_the_manager(status: StatusCode, body: &[u8]) -> Option<Problem> {
    if !status.is_server_error() && status != StatusCode::NOT_ACCEPTABLE {
        return None;
    }
    let message = message_of(body);
    if message.contains("not a swarm manager") || message.contains("not part of a swarm") {
        Some(Problem::NotManager)
    } else if ["does not have a leader", "too few managers", "lost leader status"]
        .iter()
        .any(|reason| message.contains(reason))
    {
        Some(Problem::NoQuorum)
    } else {
        None
    }
}

enum Body<'a> {
    None,
    Json(&'a Json),
    Archive(Bytes),
}

/// One request to an engine.
pub(super) struct Request<'a> {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Body<'a>,
    timeout: Duration,
    at_most: usize,
}

impl<'a> Request<'a> {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: Body::None,
            timeout: TIMEOUT,
            at_most: MOST_BYTES,
        }
    }
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }
    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }
    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }
    pub(super) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }
    pub(super) fn body(mut self, body: &'a Json) -> Self {
        self.body = Body::Json(body);
        self
    }
    /// A tar archive.
    pub(super) fn archive(mut self, archive: Bytes) -> Self {
        self.body = Body::Archive(archive);
        self
    }
    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
    /// What comes after so many bytes is left unread.
    pub(super) fn at_most(mut self, bytes: usize) -> Self {
        self.at_most = bytes;
        self
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// An engine that answers every request with this.
    fn engine(dir: &std::path::Path, name: &str, status: u16, body: &'static str) -> Manager {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = dir.join(name);
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close", body.len());
                let _ = socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
            }
        });
        Manager::socket(path)
    }

    /// An engine whose answers never end.
    fn endless(dir: &std::path::Path) -> Manager {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = dir.join("endless");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n[").await;
                while socket.write_all(&[b' '; 64 * 1024]).await.is_ok() {}
            }
        });
        Manager::socket(path)
    }

    const NO_MANAGER: &str = r#"{"message":"This node is not a swarm manager. Use \"docker swarm init\"."}"#;
    const NO_LEADER: &str =
        r#"{"message":"rpc error: code = Unknown desc = The swarm does not have a leader."}"#;
    const LOST: &str = r#"{"message":"raft: failed to process the request: node lost leader status"}"#;

    #[tokio::test]
    async fn the_first_manager_that_is_of_use_is_asked_and_remembered() {
        let dir = tempfile::tempdir().expect("a folder");
        let swarm = Swarm::over(vec![
            Manager::socket(dir.path().join("nobody")),
            engine(dir.path(), "worker", 503, NO_MANAGER),
            engine(dir.path(), "manager", 200, "[]"),
        ]);
        assert_eq!(swarm.nodes().await, Ok(Vec::new()));
        assert!(swarm.manager().ends_with("/manager"), "{}", swarm.manager());
    }

    #[tokio::test]
    async fn when_none_is_of_use_each_is_told_with_its_own_reason() {
        let dir = tempfile::tempdir().expect("a folder");
        let swarm = Swarm::over(vec![
            engine(dir.path(), "worker", 503, NO_MANAGER),
            engine(dir.path(), "alone", 500, NO_LEADER),
            engine(dir.path(), "deposed", 500, LOST),
            Manager::socket(dir.path().join("nobody")),
        ]);
        let Err(SwarmError::NoManager { tried }) = swarm.services().await else { panic!("none is of use") };
        let problems: Vec<_> = tried.iter().map(|t| t.problem.clone()).collect();
        assert_eq!(problems[..3], [Problem::NotManager, Problem::NoQuorum, Problem::NoQuorum]);
        assert!(matches!(&problems[3], Problem::NoDaemon(why) if why.contains("No such file")));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_and_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let swarm = Swarm::over(vec![endless(dir.path())]);
        let read = swarm.services().await;
        assert!(matches!(read, Err(SwarmError::Unreadable { .. })), "{read:?}");
    }

    #[tokio::test]
    async fn an_answer_about_another_service_than_asked_for_is_none_about_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let other = r#"[{"ID":"web","Version":{"Index":7},"Spec":{"Name":"web-database"}}]"#;
        let swarm = Swarm::over(vec![engine(dir.path(), "other", 200, other)]);
        assert_eq!(swarm.service("web").await, Ok(None));
        assert_eq!(swarm.remove_service("web").await, Ok(()), "nothing of it is touched");
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_sense_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, body) in [("html", "<html>"), ("object", "{}"), ("cut", "[{"), ("odd", r#"[{"ID":7}]"#)] {
            let swarm = Swarm::over(vec![engine(dir.path(), name, 200, body)]);
            let read = swarm.services().await;
            assert!(matches!(read, Err(SwarmError::Unreadable { .. })) || read == Ok(Vec::new()), "{name}");
        }
    }
}
