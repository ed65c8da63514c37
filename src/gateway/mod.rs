//! Between Rocket.Chat and the rest: delivery semantics.
pub mod events;
