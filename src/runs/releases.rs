//! What was released, with what verdict: where `rollback` finds the last healthy release.
//!
//! Must not: look at the world. A verdict is what a run of Houston saw.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::state::{RunState, StepState};
use crate::conversation::Actor;
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
pub fn record(state: &RunState, now: Timestamp, batch: &mut Batch) {
    for release in of_run(state, now) {
        put(batch, &release);
    }
}

/// A version is healthy when its step and every other step of its service (health checks) succeeded; it is
/// not when it did not work where it was put, or a check of it failed, whatever was undone afterwards. What
/// failed for another reason (cancelled, somebody else's change, no way to the cluster) is no verdict.
fn of_run(state: &RunState, now: Timestamp) -> Vec<Release> {
    let Some(environment) = &state.plan.environment else { return Vec::new() };
    let mut releases = Vec::new();
    for (step, record) in state.plan.steps.iter().zip(&state.steps) {
        let Some(service) = &step.service else { continue };
        let action = step.params.get("action").and_then(Json::as_str);
        let version = step.params.get("version").and_then(Json::as_str);
        let Some(version) = version.filter(|_| matches!(action, Some("update" | "rollback"))) else {
            continue;
        };
        let of_service = || {
            let steps = state.plan.steps.iter().zip(&state.steps);
            steps.filter(|(other, _)| other.service == step.service)
        };
        let all_done = of_service().all(|(_, other)| matches!(other.state, StepState::Succeeded { .. }));
        let unfit = of_service().any(|(other, record)| {
            let error = record.error.as_ref().filter(|error| !error.cancelled);
            error.is_some_and(|error| error.unfit || other.id != step.id)
        });
        let output = match &record.state {
            StepState::Succeeded { output } | StepState::Undoing { output: Some(output), .. } => Some(output),
            _ => None,
        };
        let release = |version: &str, image: Option<&str>, healthy, found, at| Release {
            environment: environment.clone(),
            service: service.clone(),
            version: version.to_owned(),
            image: image.map(str::to_owned),
            healthy,
            at,
            run: state.id,
            by: state.by.clone(),
            found,
        };
        let before = output.and_then(|o| o.pointer("/before/image")).and_then(Json::as_str);
        if let Some(before) = before
            && let previous = crate::providers::swarm::spec::version(before)
            && previous != version
        {
            // Just before the release it was running: good to go back to, unless it was judged before.
            releases.push(release(previous, Some(before), true, true, state.created_at));
        }
        if all_done || unfit {
            let image = output.and_then(|o| o.get("image")).and_then(Json::as_str);
            releases.push(release(version, image, all_done, false, now));
        }
    }
    releases
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

/// What one may go back to, whatever runs, and all that came after it.
pub fn to_go_back(newest_first: &[Release]) -> impl Iterator<Item = &Release> {
    let good = last_healthy(newest_first, None);
    let before = good.and_then(|good| last_healthy(newest_first, Some(&good.version))).or(good);
    let last =
        newest_first.iter().position(|release| before.is_some_and(|before| std::ptr::eq(before, release)));
    newest_first.iter().take(last.map_or(0, |last| last + 1))
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
        assert_eq!(last_healthy(&[], Some("1.9")).map(|r| r.version.as_str()), None);
    }

    #[test]
    fn whatever_runs_there_is_something_to_go_back_to() {
        let versions = |ledger: &[Release]| -> Vec<String> {
            to_go_back(ledger).map(|release| release.version.clone()).collect()
        };
        let ledger = [
            release("1.9", false, false),
            release("1.8", true, false),
            release("1.8", true, false),
            release("1.7", true, false),
            release("1.6", true, false),
        ];
        assert_eq!(versions(&ledger), ["1.9", "1.8", "1.8", "1.7"]);
        assert_eq!(versions(&ledger[..3]), ["1.9", "1.8"], "there is one good version");
        assert!(versions(&ledger[..1]).is_empty());
    }
}
