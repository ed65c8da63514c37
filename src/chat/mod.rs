//! The conversation: what people type, and what they are told.
pub mod cards;
pub mod reply;
pub mod bind;
pub mod dialogue;
pub mod help;
pub mod parse;
pub mod spec;
pub mod status;
pub mod spec_parse;
