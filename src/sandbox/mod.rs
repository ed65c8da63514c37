//! The sandbox: stand-ins for the systems around Houston, for `houston demo` and for tests. Another
//! program that happens to share the binary.
//!
//! Must not: import anything of ours but `clock` and `ids`, or a wrong field name would be wrong on
//! both sides of a test and the test green.

pub mod engine;
