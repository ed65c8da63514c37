//! What several topics of the integration tests share.

pub mod exposition;
pub mod hetzner;
pub mod hetzner_json;
pub mod house;
pub mod line;
pub mod nowhere;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod pair;
pub mod parts;
pub mod rc;
pub mod rented;
pub mod weather;
