//! The conversation: what people type, and what they are told.
//!
//! Must not: reach the outside but through `gateway` and `runs`.

pub mod away;
pub mod bind;
pub mod builtin;
pub mod cards;
pub mod credentials;
pub mod dialogue;
pub mod dispatch;
pub mod glass;
pub mod help;
pub mod herald;
pub mod hindrances;
mod maintenance;
pub mod offline;
pub mod operate;
pub mod parse;
pub mod people;
pub mod plan_text;
pub mod policies;
pub(crate) mod progress;
mod queue;
pub mod reload;
pub mod rented;
pub mod reply;
pub mod report;
pub mod scheduled;
pub mod schedules;
pub mod standing;
pub mod status;
mod steal;
pub mod step_cards;
pub mod taken_over;
pub mod trouble;
