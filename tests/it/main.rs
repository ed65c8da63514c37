//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod architecture;
mod engine;
mod gateway;
mod sandbox;
mod ssh;
mod support;
mod swarm;
//! Integration tests, one binary; one file per topic.

mod rocketchat;
