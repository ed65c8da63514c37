//! Everything that is tested from outside, in one binary.

mod gateway;
//! Integration tests, one binary; one file per topic.

mod rocketchat;
//! All integration tests in one binary, by topic. Real parts are named by `HOUSTON_TEST_*`; `./test` starts
//! them and sets these.

mod sandbox;
mod support;
