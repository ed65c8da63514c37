//! Between Rocket.Chat and the rest: delivery semantics.
//!
//! [`Gateway::start`] keeps a connection up for ever and gives a [`Chat`] to speak through and a channel of
//! [`Event`]s to listen to. What goes in and what comes out are Houston's own words ([`events`]).
//!
//! A message is handed out as [`Event::Message`] at most once, whatever frames arrive: the ids that this
//! process handed out are kept in memory, and those that were dealt with in the durable [`Ledger`]. The
//! receiver marks every message that it was given ([`Ledger::batch_for`] in the batch of what it causes,
//! [`Ledger::mark_read_only`] for all others) or passes over it ([`Ledger::pass_over`], for talk that is nothing to
//! Houston); one with which it did neither is handed out again after a restart.
//!
//! Must not: know what a command is, or wait for REST on the way of a live message.

mod catchup;
mod chat;
mod cursor;
mod doc;
pub mod events;
mod held;
mod inbound;
mod ledger;
mod listen;
mod people;
mod reactions;
mod recent;
mod renew;
mod shared;
mod split;
mod watcher;

use std::time::Duration;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::ids::UserId;
use crate::rocketchat::realtime::{self, RealtimeOptions};
use crate::rocketchat::rest::RestOptions;
use crate::rocketchat::waits::Waited;
use crate::rocketchat::{Credentials, Realtime, Rest, RestError};
use crate::secret::{Redactor, Secret};
use crate::store::{Store, StoreError};

use cursor::Cursors;
use events::Event;
use listen::Listener;
use shared::{Fixed, Shared};

pub use chat::{Button, Chat};
pub use cursor::begin_at;
pub use ledger::Ledger;
pub use renew::Renewed;

/// How Houston logs in, with its secrets resolved.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A personal access token, or any login token.
    Token { user_id: String, token: Secret },
    /// REST login once, then by the token that it gave.
    Password { username: String, password: Secret },
}

impl From<&Auth> for Credentials {
    fn from(auth: &Auth) -> Self {
        match auth {
            Auth::Token { user_id, token } => {
                Self::Token { user_id: user_id.clone(), token: token.expose().to_owned() }
            }
            Auth::Password { username, password } => {
                Self::Password { username: username.clone(), password: password.expose().to_owned() }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `ROOT_URL` of the workspace, with its sub-path if it has one.
    pub url: url::Url,
    pub auth: Auth,
    pub timings: Timings,
    /// Whether a reaction with this emoji can mean anything. Of others nothing is kept, and nobody is looked up: a card
    /// may have thousands.
    pub meant: fn(&str) -> bool,
}

/// Tests shorten these.
#[derive(Clone, Debug)]
pub struct Timings {
    /// How often a watched message is read again, since a reaction on an old message moves nothing and a
    /// frame can be lost. Default 30 s.
    pub reread: Duration,
    /// How far behind its cursor a room is read again at catch-up: `_updatedAt` is not in the order in
    /// which frames arrive. Default 5 s.
    pub overlap: Duration,
    /// How long live messages wait for the gap before them in their room, for the sake of order. Default 5 s.
    pub longest_hold: Duration,
    /// Gaps longer than this are read in pages where the server can; else everything comes in one answer.
    /// Default 10 min.
    pub long_gap: Duration,
    /// How often cursors are written (lazily). Default 1 s.
    pub save: Duration,
    /// Silence of the server, over lost connections too, after which Houston does not call itself healthy.
    /// Default 75 s: a connection that is dead after 45 s has had time to be replaced.
    pub silence: Duration,
    /// Of the connection.
    pub realtime: realtime::Timings,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            reread: Duration::from_secs(30),
            overlap: Duration::from_secs(5),
            longest_hold: Duration::from_secs(5),
            long_gap: Duration::from_secs(600),
            save: Duration::from_secs(1),
            silence: Duration::from_secs(75),
            realtime: realtime::Timings::default(),
        }
    }
}

/// Whose call goes first when the rate budget is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Approvals, questions, answers to a person who waits.
    Urgent,
    Normal,
    /// Progress that the next edit replaces anyway.
    Progress,
}

/// By what a person is looked up.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    Id(&'a UserId),
    /// Without `@`.
    Name(&'a str),
}

/// Somebody, as the server describes them now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    pub id: UserId,
    pub username: String,
    /// Rocket.Chat's global roles; `None` when Houston's account may not see them.
    pub roles: Option<Vec<String>>,
    pub active: bool,
    /// How many minutes their clock is ahead of UTC, where the server says so.
    pub utc_offset: Option<i32>,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Logged in and subscribed.
    pub online: bool,
    /// The gap before the present connection was read.
    pub caught_up: bool,
    /// Of the present connection or an earlier one; `None` when the server was never heard.
    pub last_frame_age: Option<Duration>,
    /// The age at which it is too long ago.
    pub silence: Duration,
}

/// What came and went since the start, for whoever counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub traffic: realtime::Traffic,
    /// By priority.
    pub waits: [(Priority, Waited); 3],
    /// Calls that the server refused for their rate.
    pub rate_refusals: u64,
    /// Events that the receiver has not taken yet.
    pub waiting: usize,
}

/// How many events may wait for the receiver before the connection is read more slowly.
const EVENTS: usize = 1024;

/// How often the ledger is pruned.
const PRUNE: Duration = Duration::from_secs(24 * 3600);

/// Why the gateway does not start. A server that is not there is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Client(#[from] RestError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Gateway;

impl Gateway {
    /// Starts connecting, for ever and in the background; call it inside the runtime. Events wait in the
    /// channel until they are received: a slow receiver slows the connection and loses nothing. Dropping
    /// the receiver ends it, as [`Chat::shutdown`] does.
    pub fn start(
        config: GatewayConfig,
        store: Store,
        clock: Clock,
        redactor: Redactor,
        ledger: Ledger,
    ) -> Result<(Chat, mpsc::Receiver<Event>), StartError> {
        let rest = Rest::new(&RestOptions::new(config.url.as_str()))?;
        let cursors = Cursors::load(&store)?;
        let mut options = RealtimeOptions::new(Credentials::from(&config.auth));
        options.timings = config.timings.realtime.clone();
        let (realtime, frames) = Realtime::start(options, rest.clone());
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared::new(Fixed {
            rest,
            realtime,
            redactor,
            store,
            clock,
            ledger,
            timings: config.timings,
            meant: config.meant,
            events: events.downgrade(),
        }));
        tokio::spawn(watcher::run(Arc::clone(&shared), events.clone()));
        tokio::spawn(prune(Arc::clone(&shared)));
        tokio::spawn(Listener::new(Arc::clone(&shared), events, cursors).run(frames));
        Ok((Chat(shared), receiver))
    }
}

/// The ledger forgets what is older than its promise.
async fn prune(shared: Arc<Shared>) {
    let mut daily = tokio::time::interval(PRUNE);
    let work = async {
        loop {
            daily.tick().await;
            let ledger = shared.ledger.clone();
            match tokio::task::spawn_blocking(move || ledger.prune()).await {
                Ok(Ok(dropped)) => tracing::debug!(dropped, "old entries of the ledger"),
                Ok(Err(error)) => tracing::warn!(%error, "the ledger cannot be pruned"),
                Err(error) => tracing::warn!(%error, "the ledger cannot be pruned"),
            }
        }
    };
    shared.stop.run_until_cancelled(work).await;
}
