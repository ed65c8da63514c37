//! What several topics of the integration tests share.

pub mod house;
pub mod rc;
