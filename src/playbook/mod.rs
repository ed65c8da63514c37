//! Playbooks, plans and step kinds.
pub mod model;
pub mod steps;
pub mod template;
