//! The conversation: what people type, and what they are told.
pub mod spec;
pub mod spec_parse;
