//! The supervised connection: connects for ever, logs in, subscribes, and tells what happens as events.
//!
//! Must not: drop an event (a slow reader slows the socket down), or catch up on what happened in between: that
//! is the reader's, over REST, at each [`RealtimeEvent::Online`].

use std::time::Duration;

use tokio::sync::mpsc;

use super::error::RestError;
use super::login::Credentials;
use super::model::{DeletedBulk, Message, Meta, Subscription};
use super::rest::Rest;

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

/// What changed about a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Inserted,
    Updated,
    Removed,
}

/// What happened. In the order in which the server told it.
#[derive(Clone, Debug, PartialEq)]
pub enum RealtimeEvent {
    /// Connected, logged in and subscribed. What happened since the last connection was not told: catch up now.
    /// Messages may come before it, never ones from before its subscription.
    Online { user_id: String, username: String },
    /// The connection is gone, or the first attempt failed. Told once per gap; attempts go on.
    Offline { reason: String },
    /// The server does not accept token or password. Attempts go on slowly, since an operator may repair it.
    AuthRejected { reason: String },
    /// A message document, new or changed in any way, our own ones too.
    Message {
        message: Box<Message>,
        /// Old servers do not send it: look the room up then.
        meta: Option<Meta>,
    },
    /// We joined a room, left it, or our membership changed (also on unread counters).
    Subscription { change: Change, subscription: Box<Subscription> },
    /// In a watched room, a message was deleted.
    Deleted { room: String, id: String },
    /// In a watched room, messages were pruned.
    DeletedBulk(DeletedBulk),
    /// Shown to us alone, never stored: why something we sent was not taken.
    Ephemeral { room: String, text: String },
    /// The server is about to end our session.
    ForceLogout,
    /// Names change hands: forget who had this one.
    NameChanged { user_id: String, username: String, name: Option<String> },
    /// Somebody's presence or roles changed.
    UserStatus {
        user_id: String,
        username: String,
        /// 0 offline, 1 online, 2 away, 3 busy.
        status: u8,
        /// Absent when the server does not tell.
        roles: Option<Vec<String>>,
    },
}

/// The connection's handle; clones share it. The connection ends when all handles or the receiver are gone.
#[derive(Clone, Debug)]
pub struct Realtime {
    commands: mpsc::UnboundedSender<Command>,
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
        tokio::spawn(run(options, rest, events, inbox));
        (Self { commands }, receiver)
    }

    /// Hear of deletions in this room from now on, over reconnects. Watching twice is watching once.
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

    /// How long the server has been silent; `None` when not connected.
    pub fn last_frame_age(&self) -> Option<Duration> {
        None
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

async fn run(
    options: RealtimeOptions,
    rest: Rest,
    events: mpsc::Sender<RealtimeEvent>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    if let Credentials::Token { user_id, token } = &options.credentials
        && let Err(error) = rest.set_auth(user_id, token)
    {
        let _ = events.send(rejected(&error)).await;
    }
    while let Some(command) = inbox.recv().await {
        tracing::trace!(?command, timings = ?options.timings, "not connected yet");
        if matches!(command, Command::Shutdown) {
            return;
        }
    }
}

fn rejected(error: &RestError) -> RealtimeEvent {
    RealtimeEvent::AuthRejected { reason: error.to_string() }
}
