//! A client for Rocket.Chat: DDP over one supervised WebSocket for receiving, REST for acting.
//!
//! Must not: import anything of Houston's. Works with the monolith and with the microservice `ddp-streamer`,
//! 6.5 and later. For `https` addresses the process needs a default rustls provider.

pub mod budget;
pub mod ejson;
pub mod error;
pub mod event;
pub mod frame;
pub mod login;
pub mod model;
pub mod realtime;
pub mod rest;
pub mod session;
pub mod subscriptions;
pub mod waits;

pub use error::{DdpError, RestError};
pub use login::Credentials;
pub use realtime::{Realtime, RealtimeEvent};
pub use rest::Rest;
