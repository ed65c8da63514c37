//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod gateway;
mod rocketchat;
mod sandbox;
mod support;
