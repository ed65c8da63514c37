//! A bad line between Houston and the chat server: connections are refused, cut in the middle, held open with
//! nothing coming through, slowed down to single bytes, delayed.
//!
//! Bytes arrive as they are and in order, or not at all: it is TCP. Must not: know what the bytes mean, but for
//! the answer that makes a connection a WebSocket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A connection through which nothing comes any more is cut after this time.
const HALF_OPEN: Duration = Duration::from_millis(300);

/// Random numbers that a seed repeats, as far as the scheduler lets it.
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// From 0 to `below` − 1 (splitmix64).
    pub fn roll(&self, below: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// What happened to how many.
#[derive(Debug, Default)]
pub struct Harm {
    pub refused: AtomicU64,
    pub cut: AtomicU64,
    pub half_open: AtomicU64,
    pub slow: AtomicU64,
}

pub struct Weather {
    address: SocketAddr,
    sky: Arc<Sky>,
    task: tokio::task::JoinHandle<()>,
}

struct Sky {
    /// Behind it.
    server: OnceLock<String>,
    bad: AtomicBool,
    dice: Dice,
    harm: Harm,
    /// WebSockets up to this number have gone dead.
    dead: AtomicU64,
    sockets: watch::Sender<u64>,
}

impl Weather {
    /// Fair, until it is told otherwise.
    pub async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let sky = Arc::new(Sky {
            server: OnceLock::new(),
            bad: AtomicBool::new(false),
            dice: Dice::new(seed),
            harm: Harm::default(),
            dead: AtomicU64::new(0),
            sockets: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&sky)));
        Self { address, sky, task }
    }

    /// `http://127.0.0.1:port` of the server behind it; gives the address in front of it.
    pub fn before(&self, url: &str) -> String {
        let server = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        self.sky.server.set(server).expect("it stands before one server");
        format!("http://{}", self.address)
    }

    pub fn turns(&self, bad: bool) {
        self.sky.bad.store(bad, Ordering::Relaxed);
    }

    pub fn harm(&self) -> &Harm {
        &self.sky.harm
    }

    /// The WebSockets that there are stay, and nothing comes through them any more.
    pub fn goes_dead(&self) {
        self.sky.dead.store(*self.sky.sockets.borrow(), Ordering::Relaxed);
    }

    /// Returns when there is a WebSocket that has not gone dead.
    pub async fn another_socket(&self) {
        let mut sockets = self.sky.sockets.subscribe();
        let dead = self.sky.dead.load(Ordering::Relaxed);
        sockets.wait_for(|number| *number > dead).await.expect("the weather lasts");
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, sky: Arc<Sky>) {
    while let Ok((front, _)) = listener.accept().await {
        tokio::spawn(carry(front, Arc::clone(&sky)));
    }
}

async fn carry(front: TcpStream, sky: Arc<Sky>) {
    if sky.hits(8) {
        sky.harm.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let server = sky.server.get().expect("it stands before a server");
    let Ok(back) = TcpStream::connect(server.as_str()).await else { return };
    let _ = (front.set_nodelay(true), back.set_nodelay(true));
    let ((from_front, to_front), (from_back, to_back)) = (front.into_split(), back.into_split());
    let socket = OnceLock::new();
    // Whichever way ends first ends the other.
    tokio::select! {
        () = pass(from_front, to_back, &sky, &socket) => {}
        () = pass(from_back, to_front, &sky, &socket) => {}
    }
}

/// `socket` is the connection's number once it is a WebSocket.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    sky: &Sky,
    socket: &OnceLock<u64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..n];
        if bytes.starts_with(b"HTTP/1.1 101 ") {
            socket.get_or_init(|| {
                sky.sockets.send_modify(|number| *number += 1);
                *sky.sockets.borrow()
            });
        }
        if socket.get().is_some_and(|number| *number <= sky.dead.load(Ordering::Relaxed)) {
            continue;
        }
        let sent = if sky.hits(2) {
            // The first half arrives; nobody is told about the rest.
            let _ = to.write_all(&bytes[..n / 2]).await;
            sky.harm.cut.fetch_add(1, Ordering::Relaxed);
            return;
        } else if sky.hits(1) {
            sky.harm.half_open.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(HALF_OPEN).await;
            return;
        } else if sky.hits(3) {
            sky.harm.slow.fetch_add(1, Ordering::Relaxed);
            slowly(bytes, &mut to).await
        } else {
            if sky.hits(10) {
                tokio::time::sleep(Duration::from_millis(1 + sky.dice.roll(20))).await;
            }
            to.write_all(bytes).await
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn slowly(bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let (first, rest) = bytes.split_at(bytes.len().min(100));
    for byte in first {
        to.write_all(std::slice::from_ref(byte)).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    to.write_all(rest).await
}

impl Sky {
    /// In so many of a hundred cases, when the weather is bad.
    fn hits(&self, of_hundred: u64) -> bool {
        self.bad.load(Ordering::Relaxed) && self.dice.roll(100) < of_hundred
    }
}
