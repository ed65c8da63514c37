//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

#![expect(clippy::unwrap_used, reason = "a test may panic: that is how it fails")]

mod access;
mod approvals;
mod architecture;
mod backup;
mod break_glass;
mod cancels;
mod chaos;
mod cli;
mod clients;
mod clock_jumps;
mod commands;
mod config;
mod config_support;
mod courtesies;
mod crowd;
mod delivery;
mod demo;
mod deploy;
mod detached;
mod dialects;
mod docs;
mod doctor;
mod engine;
mod footing;
mod freezes;
mod fuzz;
mod gateway;
mod health;
mod hetzner;
mod host_chaos;
mod hostile;
mod image;
#[cfg(debug_assertions)] // A release build cannot be killed so.
mod kills;
mod lease;
mod locks;
mod logs;
mod maintenance;
mod metrics;
mod nightly;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod page;
mod pages;
mod policies;
mod rate_limits;
mod recovery;
mod reload;
mod replacing;
mod replay;
mod restore;
mod retention;
mod rocketchat;
mod runs;
mod sandbox;
mod schedules;
mod secrets;
mod ssh;
mod starting;
mod steals;
mod step_approvals;
mod step_kinds;
mod support;
mod swarm;
mod swarm3;
mod swarm_probe;
mod swarm_story;
mod twice;
