//! Everything that is tested from outside, in one binary.

mod gateway;
//! Integration tests, one binary; one file per topic.

mod rocketchat;
