//! The run engine: what it does in every phase, beside others, and after it was killed anywhere.

mod acts;
mod asking;
mod bench;
mod damage;
mod fold;
mod kill;
pub mod playbooks;
mod side_by_side;
mod steps;
mod store;
