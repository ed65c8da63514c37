//! Houston: ChatOps for Rocket.Chat. `ARCHITECTURE.md` says how the house is laid out.

pub mod access;
pub mod admin;
pub mod app;
pub mod approvals;
pub mod assets;
pub mod audit;
pub mod change;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conversation;
pub mod diagnostic;
pub mod digest;
pub mod exec;
pub mod gateway;
pub mod ids;
pub mod metrics;
pub mod playbook;
pub mod providers;
pub mod rocketchat;
pub mod runs;
pub mod sandbox;
pub mod secret;
pub mod store;
pub mod text;
