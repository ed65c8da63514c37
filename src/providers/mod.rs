//! Clients of the systems that Houston operates. Must not: know what a run is.
pub mod hetzner;
pub mod restic;
pub mod swarm;
