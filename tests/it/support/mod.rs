//! What several topics of the integration tests share.

pub mod rc;
