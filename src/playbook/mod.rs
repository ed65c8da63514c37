//! Playbooks, plans and step kinds.
pub mod check;
pub mod model;
pub mod plan;
pub mod parse;
pub mod steps;
pub mod template;
