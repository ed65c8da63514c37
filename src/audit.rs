//! temporary
use crate::gateway::events::Actor;
use crate::runs::state::RunState;
pub struct Audit;
pub struct Entry;
impl Entry {
    pub fn of_run(_: &RunState, _: &str, _: Option<&Actor>) -> Self {
        Self
    }
}
impl Audit {
    pub async fn append(&self, _: Entry) -> std::io::Result<()> {
        Ok(())
    }
}
