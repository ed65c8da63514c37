//! The supervised connection: connects for ever, logs in, subscribes, and tells what happens as events.
//!
//! Must not: drop an event (a slow reader slows the socket down), or catch up on what happened in between: that
//! is the reader's, over REST, at each [`RealtimeEvent::Online`].

mod backoff;
mod connection;
mod look;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use super::event::{Change, RealtimeEvent};
use super::login::{Authenticator, Credentials};
use super::rest::Rest;
use super::session::Patience;
pub use look::{Dialect, look};

/// How patient the connection is. The defaults suit Rocket.Chat's own timers; tests shorten them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// To open the socket. Default 10 s.
    pub connect: Duration,
    /// From the open socket to the login, and for each method and subscription. Default 30 s.
    pub answer: Duration,
    /// Silence after which we ping. Default 20 s.
    pub ping_after: Duration,
    /// Silence after which the connection is dead. Default 45 s.
    pub dead_after: Duration,
    /// Before the first attempt after a connection that was up. Default 250 ms.
    pub first_retry: Duration,
    /// The least upper bound of the random wait between attempts; doubles. Default 1 s.
    pub retry_from: Duration,
    /// The greatest. Default 60 s.
    pub retry_to: Duration,
    /// Between attempts after the server said that our token is not good. Default 5 min.
    pub rejected_retry: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            ping_after: Duration::from_secs(20),
            dead_after: Duration::from_secs(45),
            first_retry: Duration::from_millis(250),
            retry_from: Duration::from_secs(1),
            retry_to: Duration::from_secs(60),
            rejected_retry: Duration::from_secs(300),
        }
    }
}

/// What to connect to, as whom.
#[derive(Clone, Debug)]
pub struct RealtimeOptions {
    pub credentials: Credentials,
    pub timings: Timings,
    /// A larger frame closes the connection. Default 16 MiB.
    pub max_frame: usize,
    /// Events that may wait for the reader. Default 1024.
    pub queue: usize,
}

impl RealtimeOptions {
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, timings: Timings::default(), max_frame: 16 * 1024 * 1024, queue: 1024 }
    }
}

/// The connection's handle; clones share it. The connection ends when all handles or the receiver are gone.
#[derive(Clone, Debug)]
pub struct Realtime {
    commands: mpsc::UnboundedSender<Command>,
    credentials: watch::Sender<Credentials>,
    pulse: Pulse,
}

#[derive(Debug)]
enum Command {
    Watch(String),
    Unwatch(String),
    Typing { rid: String, name: String, on: bool },
    Shutdown,
}

impl Realtime {
    /// Starts connecting, and goes on for ever: the server need not be up. `rest` is given the token that the
    /// connection uses, so that both APIs act as one user.
    pub fn start(options: RealtimeOptions, rest: Rest) -> (Self, mpsc::Receiver<RealtimeEvent>) {
        let (events, receiver) = mpsc::channel(options.queue.max(1));
        let (commands, inbox) = mpsc::unbounded_channel();
        let pulse = Pulse::default();
        let (credentials, offered) = watch::channel(options.credentials.clone());
        let login = Authenticator::new(rest.clone(), offered);
        tokio::spawn(connection::supervise(options, rest, login, events, inbox, pulse.clone()));
        (Self { commands, credentials, pulse }, receiver)
    }

    /// What the next login uses.
    pub fn credentials(&self) -> Credentials {
        self.credentials.borrow().clone()
    }

    /// From the next login on. A connection that stands goes on; where there is none, the next attempt is made at
    /// once.
    pub fn renew(&self, credentials: Credentials) {
        self.credentials.send_replace(credentials);
    }

    /// Hear of deletions in this room from now on, over reconnects. Watching twice is watching once. Forgotten
    /// when we are removed from the room.
    pub fn watch_room(&self, rid: &str) {
        self.send(Command::Watch(rid.to_owned()));
    }

    /// Stop hearing of deletions there.
    pub fn unwatch_room(&self, rid: &str) {
        self.send(Command::Unwatch(rid.to_owned()));
    }

    /// Shows or hides "… is typing". `name` is our user name, or our displayed name where `UI_Use_Real_Name` is
    /// on; another is ignored by the server. Best effort; repeat about every 5 s.
    pub fn typing(&self, rid: &str, name: &str, on: bool) {
        self.send(Command::Typing { rid: rid.to_owned(), name: name.to_owned(), on });
    }

    /// How long the server has been silent, over lost connections too; `None` when it was never heard,
    /// and after [`Realtime::shutdown`] of a connection that stood.
    pub fn last_frame_age(&self) -> Option<Duration> {
        self.pulse.age()
    }

    /// Since the start.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            frames: self.pulse.counts.frames.load(Ordering::Relaxed),
            connections: self.pulse.counts.connections.load(Ordering::Relaxed),
        }
    }

    /// Ends the connection and waits until it is closed.
    pub async fn shutdown(&self) {
        self.send(Command::Shutdown);
        self.commands.closed().await;
    }

    fn send(&self, command: Command) {
        // Fails only after the end, when there is nobody to tell.
        let _ = self.commands.send(command);
    }
}

/// What came over the socket, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub frames: u64,
    /// Those that came online.
    pub connections: u64,
}

#[derive(Debug, Default)]
struct Counts {
    frames: AtomicU64,
    connections: AtomicU64,
}

/// When the last frame arrived, and how many did.
#[derive(Clone, Debug)]
struct Pulse {
    start: Instant,
    /// Milliseconds since `start`, or [`Pulse::NONE`].
    at: Arc<AtomicU64>,
    counts: Arc<Counts>,
}

impl Pulse {
    const NONE: u64 = u64::MAX;

    /// Time since the connection was first started: the `now` of sessions and budgets.
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn heard(&self, now: Duration) {
        self.at.store(u64::try_from(now.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    fn frame(&self) {
        self.counts.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn online(&self) {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// We ended it ourselves: nothing is awaited. A lost connection is no reason to forget.
    fn ended(&self) {
        self.at.store(Self::NONE, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        match self.at.load(Ordering::Relaxed) {
            Self::NONE => None,
            ms => Some(self.now().saturating_sub(Duration::from_millis(ms))),
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self { start: Instant::now(), at: Arc::new(AtomicU64::new(Self::NONE)), counts: Arc::default() }
    }
}

impl From<&Timings> for Patience {
    fn from(timings: &Timings) -> Self {
        Self { ping_after: timings.ping_after, dead_after: timings.dead_after, answer: timings.answer }
    }
}
