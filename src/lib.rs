//! Houston: ChatOps for Rocket.Chat. `ARCHITECTURE.md` says how the house is laid out.

pub mod access;
pub mod chat;
pub mod clock;
pub mod config;
pub mod diagnostic;
pub mod exec;
pub mod gateway;
pub mod ids;
pub mod playbook;
pub mod providers;
pub mod secret;
pub mod store;
pub mod text;
