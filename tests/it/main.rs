//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod architecture;
mod cli;
mod config;
mod config_support;
mod engine;
mod gateway;
mod page;
mod rocketchat;
mod sandbox;
mod ssh;
mod support;
mod swarm;
mod swarm_story;
