//! Playbooks, plans and step kinds.
pub mod check;
pub mod model;
pub mod parse;
pub mod plan;
pub mod steps;
pub mod template;
