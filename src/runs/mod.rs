//! Runs: one execution of one plan each, journaled so that nothing is lost, repeated or forgotten.
//!
//! Must not: know Rocket.Chat or how things are said in chat.

mod alive;
pub mod ballot;
pub mod counted;
pub mod engine;
pub mod event;
mod followed;
pub mod freezes;
pub mod journal;
pub mod locks;
pub mod maintenance;
pub mod next;
pub mod outbox;
mod owed;
pub mod queue;
pub mod releases;
pub mod restored;
pub mod retention;
pub mod saved;
pub mod schedules;
pub mod standing;
pub mod state;
pub mod steal;
pub mod transcripts;
mod usual;
mod zoned;

pub use engine::{
    About, ActError, Asked, Consent, Engine, Fired, Footing, Gone, LiveStatus, NewRun, Objection, PLAN,
    Parts, Retried, RunMessage, SameAsked, Voted,
};
