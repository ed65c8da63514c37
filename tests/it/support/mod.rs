//! What several topics of the integration tests share.

pub mod exposition;
pub mod house;
pub mod line;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod pair;
pub mod rc;
pub mod weather;
