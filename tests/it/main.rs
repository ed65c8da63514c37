//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod architecture;
mod gateway;
mod ssh;
//! Integration tests, one binary: a module per topic.

mod swarm;
mod sandbox;
mod support;
mod engine;
