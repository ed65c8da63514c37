//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

#![expect(clippy::unwrap_used, reason = "a test may panic: that is how it fails")]

mod architecture;
mod config;
mod config_support;
mod engine;
mod gateway;
mod rocketchat;
mod runs;
mod sandbox;
mod ssh;
mod support;
mod swarm;
