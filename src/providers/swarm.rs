//! Docker Swarm through the Docker Engine API.
#[derive(Debug)]
pub struct Swarm {}
