//! What backups came to, run by run: what a report compares the last one with.
//!
//! Must not: look at a repository. What stands here is what a run of Houston saw.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::state::{RunState, StepState};
use crate::ids::{EnvName, RunId};
use crate::store::{Batch, Store, StoreError, Tree};

/// One source, saved by one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub environment: EnvName,
    pub source: String,
    pub at: Timestamp,
    pub run: RunId,
    /// What follows is not known of one that was found again after a crash.
    #[serde(default)]
    pub files: Option<u64>,
    #[serde(default)]
    pub bytes: Option<u64>,
    /// New in the repository, before compression.
    #[serde(default)]
    pub added: Option<u64>,
}

impl Saved {
    /// From the output of a step that saved something.
    fn of(environment: &EnvName, run: &RunState, output: &Json, at: Timestamp) -> Option<Self> {
        let number = |name: &str| output.get(name).and_then(Json::as_u64);
        output.get("snapshot")?;
        Some(Self {
            environment: environment.clone(),
            source: output.get("source")?.as_str()?.to_owned(),
            at,
            run: run.id,
            files: number("files"),
            bytes: number("bytes"),
            added: number("added"),
        })
    }
}

/// What a run saved, by source.
pub fn of_run(state: &RunState) -> BTreeMap<String, Saved> {
    let Some(environment) = &state.plan.environment else { return BTreeMap::new() };
    let each = state.plan.steps.iter().zip(&state.steps).filter(|(step, _)| step.kind == "restic");
    each.filter_map(|(_, record)| {
        let StepState::Succeeded { output } = &record.state else { return None };
        let saved = Saved::of(environment, state, output, record.ended_at.unwrap_or(state.last_at))?;
        Some((saved.source.clone(), saved))
    })
    .collect()
}

/// More than a year of nights.
const KEPT: usize = 400;

/// Adds what a run saved to the batch that ends it, in place of what is older than anybody compares with.
pub fn record(state: &RunState, store: &Store, batch: &mut Batch) {
    for saved in of_run(state).into_values() {
        let older =
            store.scan::<Saved>(Tree::Saved, &prefix(&saved.environment, &saved.source)).rev().skip(KEPT - 1);
        for (key, _) in older.flatten() {
            batch.delete(Tree::Saved, &key);
        }
        let mut key = prefix(&saved.environment, &saved.source);
        key.extend_from_slice(&saved.at.as_millisecond().to_be_bytes());
        key.extend_from_slice(&saved.run.0.to_be_bytes());
        batch.put(Tree::Saved, &key, &saved);
    }
}

fn prefix(environment: &EnvName, source: &str) -> Vec<u8> {
    let mut key = format!("{environment}/{source}").into_bytes();
    key.push(0);
    key
}

/// The last `most` times that a source was saved, newest first.
pub fn of_source(
    store: &Store,
    environment: &EnvName,
    source: &str,
    most: usize,
) -> Result<Vec<Saved>, StoreError> {
    let newest_first = store.scan::<Saved>(Tree::Saved, &prefix(environment, source)).rev().take(most);
    newest_first.map(|entry| entry.map(|(_, saved)| saved)).collect()
}
