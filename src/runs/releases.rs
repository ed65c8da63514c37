//! What was released, with what verdict: where `rollback` finds the last healthy release.
//!
//! Must not: look at the world. A verdict is what a run of Houston saw.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::event::Outcome;
use super::state::{RunState, StepState};
use crate::gateway::events::Actor;
use crate::ids::{EnvName, RunId, ServiceName};
use crate::store::{Batch, Store, StoreError, Tree};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub environment: EnvName,
    pub service: ServiceName,
    /// The tag or digest.
    pub version: String,
    /// The whole reference, with the digest where the engine resolved one.
    pub image: Option<String>,
    pub healthy: bool,
    pub at: Timestamp,
    pub run: RunId,
    pub by: Actor,
    /// Found running when a run replaced it, not released by one.
    #[serde(default)]
    pub found: bool,
}

/// Adds what a run released, or failed to, to the batch that ends it.
pub fn record(state: &RunState, _outcome: Outcome, now: Timestamp, batch: &mut Batch) {
    let Some(environment) = &state.plan.environment else { return };
    let release = |version: &str, service: &ServiceName, healthy, image: Option<String>, found, at| Release {
        environment: environment.clone(),
        service: service.clone(),
        version: version.to_owned(),
        image,
        healthy,
        at,
        run: state.id,
        by: state.by.clone(),
        found,
    };
    for (step, record) in state.plan.steps.iter().zip(&state.steps) {
        let Some(service) = &step.service else { continue };
        let releases =
            matches!(step.params.get("action").and_then(Json::as_str), Some("update" | "rollback"));
        let Some(version) = step.params.get("version").and_then(Json::as_str).filter(|_| releases) else {
            continue;
        };
        let output = match &record.state {
            StepState::Succeeded { output } => Some(output),
            StepState::Failed { .. } => None,
            _ => continue,
        };
        // A health check of the same service that failed afterwards speaks against the release.
        let checked = state
            .plan
            .steps
            .iter()
            .zip(&state.steps)
            .filter(|(other, _)| other.service == step.service)
            .all(|(_, other)| matches!(other.state, StepState::Succeeded { .. }));
        let text = |key: &str| output.and_then(|o| o.get(key)).and_then(Json::as_str).map(str::to_owned);
        let before = output.and_then(|o| o.pointer("/before/image")).and_then(Json::as_str);
        let previous = before.map(crate::providers::swarm::spec::version);
        if let Some(previous) = previous.filter(|previous| *previous != version) {
            // Just before the release it was running: good to go back to, unless it was judged before.
            let at = state.created_at;
            put(batch, &release(previous, service, true, before.map(str::to_owned), true, at));
        }
        let healthy = output.is_some() && checked;
        put(batch, &release(version, service, healthy, text("image"), false, now));
    }
}

fn put(batch: &mut Batch, release: &Release) {
    let mut key = prefix(&release.environment, &release.service);
    key.extend_from_slice(&release.at.as_millisecond().to_be_bytes());
    key.extend_from_slice(&release.run.0.to_be_bytes());
    batch.put(Tree::Releases, &key, release);
}

fn prefix(environment: &EnvName, service: &ServiceName) -> Vec<u8> {
    let mut key = format!("{environment}/{service}").into_bytes();
    key.push(0);
    key
}

/// Newest first.
pub fn of_service(
    store: &Store,
    environment: &EnvName,
    service: &ServiceName,
) -> Result<Vec<Release>, StoreError> {
    store
        .scan::<Release>(Tree::Releases, &prefix(environment, service))
        .rev()
        .map(|entry| entry.map(|(_, release)| release))
        .collect()
}

/// The version to go back to from `running`: the newest healthy release of another version whose latest
/// verdict is still good.
pub fn last_healthy<'r>(newest_first: &'r [Release], running: Option<&str>) -> Option<&'r Release> {
    newest_first.iter().find(|release| {
        let latest = newest_first.iter().find(|other| other.version == release.version && !other.found);
        release.healthy
            && Some(release.version.as_str()) != running
            && latest.is_none_or(|latest| latest.healthy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str, healthy: bool, found: bool) -> Release {
        Release {
            environment: "prod".into(),
            service: "web".into(),
            version: version.into(),
            image: None,
            healthy,
            at: Timestamp::UNIX_EPOCH,
            run: RunId(1),
            by: Actor { id: "a".into(), username: "alice".into() },
            found,
        }
    }

    #[test]
    fn the_last_healthy_release_is_neither_the_running_nor_a_failed_one() {
        let ledger = [release("1.9", false, false), release("1.8", true, false), release("1.7", true, true)];
        let version = |running| last_healthy(&ledger, running).map(|r| r.version.as_str());
        assert_eq!(version(Some("1.8")), Some("1.7"));
        assert_eq!(version(Some("1.7")), Some("1.8"));
        assert_eq!(version(Some("1.9")), Some("1.8"));
    }

    #[test]
    fn a_version_that_failed_later_is_not_gone_back_to() {
        let ledger = [release("1.8", false, false), release("1.8", true, false), release("1.7", true, false)];
        assert_eq!(last_healthy(&ledger, Some("1.9")).map(|r| r.version.as_str()), Some("1.7"));
        assert_eq!(last_healthy(&[], Some("1.9")), None);
    }
}
