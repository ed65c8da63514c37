//! Between Rocket.Chat and the rest: delivery semantics.
//!
//! [`Gateway::start`] keeps a connection up for ever and gives a [`Chat`] to speak through and a channel of
//! [`Event`]s to listen to. What goes in and what comes out are Houston's own words ([`events`]).
//!
//! A message is handed out as [`Event::Message`] at most once, whatever frames arrive: the ids that this
//! process handed out are kept in memory, and those that were dealt with in the durable [`Ledger`]. The
//! receiver marks every message that it was given ([`Ledger::batch_for`] in the batch of what it causes,
//! [`Ledger::mark_read_only`] for all others); one that was not marked is handed out again after a restart.
//!
//! Must not: know what a command is, or wait for REST on the way of a live message.

mod chat;
mod doc;
pub mod events;
mod ledger;
mod recent;
mod split;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::ids::UserId;
use crate::secret::{Redactor, Secret};
use crate::store::Store;

use events::Event;

pub use chat::Chat;
pub use ledger::Ledger;

/// How Houston logs in, with its secrets resolved.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A personal access token, or any login token.
    Token { user_id: String, token: Secret },
    /// REST login once, then by the token that it gave.
    Password { username: String, password: Secret },
}

#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `ROOT_URL` of the workspace, with its sub-path if it has one.
    pub url: url::Url,
    pub auth: Auth,
    pub timings: Timings,
}

/// Tests shorten these.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// How often a watched message is read again, since a reaction on an old message moves nothing and a
    /// frame can be lost. Default 30 s.
    pub reread: Duration,
    /// How far behind its cursor a room is read again at catch-up: `_updatedAt` is not in the order in
    /// which frames arrive. Default 5 s.
    pub overlap: Duration,
    /// How long live messages wait for the gap before them, for the sake of order. Default 5 s.
    pub longest_hold: Duration,
    /// How often cursors are written (lazily). Default 1 s.
    pub save: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            reread: Duration::from_secs(30),
            overlap: Duration::from_secs(5),
            longest_hold: Duration::from_secs(5),
            save: Duration::from_secs(1),
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
}

/// How the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Logged in and subscribed.
    pub online: bool,
    /// The gap before the present connection was read.
    pub caught_up: bool,
    /// `None` before the first frame ever.
    pub last_frame_age: Option<Duration>,
}

/// How many events may wait for the receiver before the connection is read more slowly.
const EVENTS: usize = 1024;

pub struct Gateway;

impl Gateway {
    /// Starts connecting, for ever and in the background; call it inside the runtime. Events wait in the
    /// channel until they are received: a slow receiver slows the connection and loses nothing.
    pub fn start(
        config: GatewayConfig,
        store: Store,
        clock: Clock,
        redactor: Redactor,
        ledger: Ledger,
    ) -> (Chat, mpsc::Receiver<Event>) {
        let _ = (config, store, clock, redactor, ledger);
        let (_events, receiver) = mpsc::channel(EVENTS);
        (Chat::new(), receiver)
    }
}
