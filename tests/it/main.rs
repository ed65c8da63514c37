//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod architecture;
mod config;
mod config_support;
mod engine;
mod gateway;
mod rocketchat;
mod sandbox;
mod ssh;
mod starting;
mod support;
mod swarm;
