//! A chat server that speaks Rocket.Chat's realtime and REST protocols, for the demo and for tests.
//!
//! Written from the protocol, not from our client: it must not import `rocketchat` or any other part of the
//! bot, so that a field misread in one is not misread in both. Everything is kept in memory.

mod control;
mod ddp;
mod emit;
pub mod engine;
mod faults;
mod limits;
pub mod page;
mod refusal;
mod rest;
mod seed;
mod server;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

pub use seed::{Seed, SeedError, SeedPerson, SeedRoom};
pub use server::{Sandbox, start};

use crate::clock::Clock;

/// Which of Rocket.Chat's two realtime servers to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Meteor's `ddp-server`, inside the one process of most workspaces.
    #[default]
    Monolith,
    /// `ddp-streamer` of a workspace of microservices.
    Streamer,
}

/// Which release to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 8.x: closed schemas, swallowed errors, uploads in two steps.
    #[default]
    V8,
    /// 6.5.3: open schemas, `rooms.upload`, DDP `deleteMessage`.
    V6_5,
}

/// A word that names no dialect or version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not known: {choices}")]
pub struct UnknownChoice {
    given: String,
    choices: &'static str,
}

impl FromStr for Dialect {
    type Err = UnknownChoice;
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "monolith" => Ok(Self::Monolith),
            "streamer" => Ok(Self::Streamer),
            _ => Err(UnknownChoice { given: text.to_owned(), choices: "choose `monolith` or `streamer`" }),
        }
    }
}

impl FromStr for Version {
    type Err = UnknownChoice;
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "8" => Ok(Self::V8),
            "6.5" => Ok(Self::V6_5),
            _ => Err(UnknownChoice { given: text.to_owned(), choices: "choose `8` or `6.5`" }),
        }
    }
}

/// How to start a sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0: any free one. Anything but loopback lets others in: passwords are the user names.
    pub listen: SocketAddr,
    pub dialect: Dialect,
    pub server: Version,
    pub seed: Seed,
    /// Dates of documents, ends of tokens and windows of limits. Heartbeats run on tokio's time.
    pub clock: Clock,
    /// How long a socket may be silent before it is pinged, and again before it is closed. Default: 15 s,
    /// or 30 s as a streamer.
    pub heartbeat: Option<Duration>,
    /// Rocket.Chat's own rate limits, on by default.
    pub rate_limits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dialect: Dialect::default(),
            server: Version::default(),
            seed: Seed::default(),
            clock: Clock::system(),
            heartbeat: None,
            rate_limits: true,
        }
    }
}
