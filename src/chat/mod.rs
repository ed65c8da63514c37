//! The conversation: what people type, and what they are told.
pub mod cards;
pub mod reply;
pub mod spec;
pub mod status;
