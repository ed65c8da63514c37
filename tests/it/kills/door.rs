//! The door to an engine: a socket that hands everything on to the engine's own, and counts the changes that the
//! engine was asked for and took. What is counted here was done, whoever died meanwhile.
//!
//! Must not: change a byte.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// How often each kind of change was made: `update`, `create`, `delete`.
pub type Effects = BTreeMap<String, u32>;

pub struct Door {
    pub socket: PathBuf,
    effects: Arc<Mutex<Effects>>,
    serving: JoinHandle<()>,
}

impl Door {
    pub fn open(socket: PathBuf, engine: &Path) -> Self {
        let listener = UnixListener::bind(&socket).expect("binds");
        let effects: Arc<Mutex<Effects>> = Arc::default();
        let serving = tokio::spawn({
            let (effects, engine) = (effects.clone(), engine.to_owned());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(through(client, engine.clone(), effects.clone()));
                }
            }
        });
        Self { socket, effects, serving }
    }

    pub fn effects(&self) -> Effects {
        self.effects.lock().expect("no panic").clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn through(client: UnixStream, engine: PathBuf, effects: Arc<Mutex<Effects>>) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let asked: Arc<Mutex<VecDeque<Option<&'static str>>>> = Arc::default();
    let asking = {
        let asked = asked.clone();
        async move {
            let mut heard = Heard::default();
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                asked.lock().expect("no panic").extend(heard.requests(&bytes[..read]));
                if to_engine.write_all(&bytes[..read]).await.is_err() {
                    break;
                }
            }
            // Whoever asked is gone; what was asked is answered all the same, and counted.
            to_engine
        }
    };
    let answering = async move {
        let mut heard = Heard::default();
        let mut bytes = vec![0; 64 * 1024];
        let mut listening = true;
        while let Ok(read @ 1..) = from_engine.read(&mut bytes).await {
            for took in heard.answers(&bytes[..read]) {
                let change = asked.lock().expect("no panic").pop_front().flatten();
                if let Some(change) = change.filter(|_| took) {
                    *effects.lock().expect("no panic").entry(change.to_owned()).or_default() += 1;
                }
            }
            listening = listening && to_client.write_all(&bytes[..read]).await.is_ok();
        }
    };
    tokio::pin!(answering);
    tokio::select! {
        to_engine = asking => {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), answering).await;
            drop(to_engine);
        }
        () = &mut answering => {}
    }
}

/// What has passed and may be the beginning of something.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Heard {
    /// The change that each request asks for, if it asks for one. A body ends without a line of its own, so the
    /// next request may stand behind it.
    fn requests(&mut self, bytes: &[u8]) -> Vec<Option<&'static str>> {
        const END: &[u8] = b" HTTP/1.1\r\n";
        self.0.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(at) = self.0.windows(END.len()).position(|window| window == END) {
            let passed: Vec<u8> = self.0.drain(..at + END.len()).collect();
            let line = String::from_utf8_lossy(&passed[..at]).into_owned();
            let request =
                ["GET /", "POST /", "DELETE /"].iter().filter_map(|m| Some((line.rfind(m)?, m))).max();
            found.push(request.and_then(|(at, method)| change(method, &line[at..])));
        }
        found
    }

    /// Whether each answer says that it was done.
    fn answers(&mut self, bytes: &[u8]) -> Vec<bool> {
        const START: &[u8] = b"HTTP/1.1 ";
        self.0.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(at) = self.0.windows(START.len() + 1).position(|window| window.starts_with(START)) {
            found.push(self.0[at + START.len()] == b'2');
            self.0.drain(..=at + START.len());
        }
        let keep = self.0.len().saturating_sub(START.len());
        self.0.drain(..keep);
        found
    }
}

fn change(method: &str, line: &str) -> Option<&'static str> {
    let path = line.split([' ', '?']).nth(1).unwrap_or_default();
    match method {
        // The lease, which each life renews as often as it lasts.
        "POST /" if path.contains("/configs/") => None,
        "POST /" if path.ends_with("/update") => Some("update"),
        "POST /" if path.ends_with("/create") => Some("create"),
        "DELETE /" => Some("delete"),
        _ => None,
    }
}

#[test]
fn changes_are_counted_however_the_bytes_are_cut() {
    let asked = b"GET /v1.41/services/web HTTP/1.1\r\nhost: x\r\n\r\n\
                  POST /v1.41/services/abc/update?version=7 HTTP/1.1\r\nhost: x\r\n\r\n{\"a\":1}\
                  POST /services/create HTTP/1.1\r\n\r\n{}GET /tasks HTTP/1.1\r\n\r\n";
    let answered = b"HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 500 No\r\n\r\n{}HTTP/1.1 201 Created\r\n\r\n{\"x\":2}HTTP/1.1 200 OK\r\n\r\n";
    for size in 1..asked.len() {
        let (mut heard, mut said) = (Heard::default(), Heard::default());
        let requests: Vec<_> = asked.chunks(size).flat_map(|bytes| heard.requests(bytes)).collect();
        assert_eq!(requests, [None, Some("update"), Some("create"), None], "in pieces of {size}");
        let answers: Vec<_> = answered.chunks(size).flat_map(|bytes| said.answers(bytes)).collect();
        assert_eq!(answers, [true, false, true, true], "in pieces of {size}");
    }
}
