//! The conversation: what people type, and what they are told.
pub mod spec;
