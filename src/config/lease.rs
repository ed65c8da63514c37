//! `lease:` in `houston.yaml`: where Houstons of one account agree on which of them acts.
//!
//! Must not: ask anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use super::environment::Environment;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::EnvName;
use crate::text;
use crate::yaml::Node;

/// Where nothing else is said.
pub const DURATION: Duration = Duration::from_secs(30);

/// The environment that is chosen among several, if there is one of this name.
const FIRST_CHOICE: &str = "prod";

/// Whether one is in use, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// `enabled: false`.
    Off,
    /// No environment has a Swarm.
    NoPlace,
    In {
        environment: EnvName,
        duration: Duration,
        /// `enabled: true`: without it nothing is begun, also where there is no Swarm to keep it in.
        required: bool,
    },
}

/// The section as it is written.
#[derive(Debug, Default)]
pub(super) struct Written {
    enabled: Option<bool>,
    environment: Option<(EnvName, Location)>,
    duration: Option<Duration>,
    at: Option<Location>,
}

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Written {
    let Some(mut map) = node.map(found) else { return Written::default() };
    let seconds = Duration::from_secs;
    let enabled = map.take("enabled").and_then(|node| node.boolean(found));
    let environment = map.take("environment").and_then(|node| {
        let name = node.text(found)?;
        Some((EnvName::from(name), node.at.clone()))
    });
    let duration = map.take("duration").and_then(|node| node.duration(seconds(3)..=seconds(600), found));
    map.finish(found);
    Written { enabled, environment, duration, at: Some(node.at.clone()) }
}

pub(super) fn choose(
    written: Written,
    environments: &BTreeMap<EnvName, Environment>,
    found: &mut Diagnostics,
) -> Lease {
    let mut with_swarm = environments.values().filter(|environment| environment.swarm.is_some());
    if let Some((name, at)) = &written.environment {
        match environments.get(name) {
            Some(environment) if environment.swarm.is_some() => {}
            Some(environment) => found.push(
                Diagnostic::error(at.clone(), format!("`{name}` has no Swarm that could keep the lease"))
                    .hint(format!("say how to reach it under `swarm` in {}", environment.at.file.display())),
            ),
            None => {
                let finding = Diagnostic::error(at.clone(), format!("`{name}` is not an environment"));
                let known = environments.keys().map(EnvName::as_str);
                found.push(match text::did_you_mean(name.as_str(), known) {
                    Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                    None => finding,
                });
            }
        }
    }
    if written.enabled == Some(false) {
        return Lease::Off;
    }
    let duration = written.duration.unwrap_or(DURATION);
    let required = written.enabled == Some(true);
    let first_choice = environments.get(FIRST_CHOICE).filter(|environment| environment.swarm.is_some());
    let chosen = written.environment.map(|(name, _)| name);
    let chosen = chosen.or_else(|| Some(first_choice.or_else(|| with_swarm.next())?.name.clone()));
    match chosen {
        Some(environment) => Lease::In { environment, duration, required },
        None => {
            if let (true, Some(at)) = (required, written.at) {
                found.push(
                    Diagnostic::error(at, "no environment has a Swarm that could keep the lease").hint(
                        "say how to reach one under `swarm` in an environment's file, or remove `enabled`",
                    ),
                );
            }
            Lease::NoPlace
        }
    }
}
