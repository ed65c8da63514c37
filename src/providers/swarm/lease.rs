//! A lease in a Swarm: the labels of a config object, which are replaced only under its `Version.Index`.
//!
//! Must not: decide who may take it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::connection::Request;
use super::{Problem, Swarm, SwarmError};
use crate::config::{Auth, Config, lease};
use crate::digest::Digest;
use crate::exec::ssh::SshPool;
use crate::lease::{Entry, Record, Register, RegisterError};

/// Begins the names of the config objects.
const PREFIX: &str = "houston-lease-";

/// The label that holds all of it.
const LABEL: &str = "houston.lease";

/// A config has data, and it cannot be changed. `A lease: see the label.`
const DATA: &str = "QSBsZWFzZTogc2VlIHRoZSBsYWJlbC4=";

/// The lease of one account in one Swarm.
pub struct SwarmLease {
    swarm: Swarm,
    place: String,
    name: String,
    /// Of a request to one manager.
    timeout: Duration,
}

impl SwarmLease {
    /// The one that a configuration asks for; `None`: it asks for none.
    pub fn of(config: &Config, pool: &SshPool, timeout: Duration) -> Option<Self> {
        let lease::Lease::In { environment, .. } = &config.lease else { return None };
        let swarm = Swarm::of(config.environments.get(environment)?, pool)?;
        let digest = Digest::of(account(config).as_bytes());
        let name = format!("{PREFIX}{}", digest.short());
        Some(Self { swarm, place: format!("the Swarm of `{environment}`"), name, timeout })
    }

    /// Of the config object.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn spec(&self, record: &Record) -> Json {
        let record = serde_json::to_string(record).expect("plain data");
        json!({ "Name": self.name, "Labels": { LABEL: record }, "Data": DATA })
    }

    async fn send(&self, request: Request<'_>) -> Result<Json, SwarmError> {
        self.swarm.json(&format!("config `{}`", self.name), request.timeout(self.timeout)).await
    }
}

/// Whom the lease is for. Houstons that share an account have to come to the same words from their own folders.
fn account(config: &Config) -> String {
    match &config.rocketchat.auth {
        // It is random, and so one of a kind.
        Auth::Token { user_id, .. } => user_id.clone(),
        Auth::Password { username, .. } => {
            let url = &config.rocketchat.url;
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{username}@{}{port}", url.host_str().unwrap_or_default())
        }
    }
}

impl Register for SwarmLease {
    fn place(&self) -> &str {
        &self.place
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Entry>, RegisterError>> {
        Box::pin(async move {
            match self.send(Request::get(format!("/configs/{}", self.name))).await {
                Ok(found) => entry(&found, &self.name).map(Some),
                Err(SwarmError::NotFound { .. }) => Ok(None),
                Err(error) => Err(not_reached(&error)),
            }
        })
    }

    fn write<'a>(
        &'a self,
        over: Option<u64>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), RegisterError>> {
        Box::pin(async move {
            let spec = self.spec(record);
            let request = match over {
                None => Request::post("/configs/create"),
                Some(version) => Request::post(format!("/configs/{}/update", self.name))
                    .query("version", version.to_string()),
            };
            match self.send(request.body(&spec)).await {
                Ok(_) => Ok(()),
                Err(SwarmError::Stale { .. } | SwarmError::Conflict { .. } | SwarmError::NotFound { .. }) => {
                    Err(RegisterError::Stale)
                }
                Err(error) => Err(not_reached(&error)),
            }
        })
    }
}

fn entry(found: &Json, name: &str) -> Result<Entry, RegisterError> {
    let version = found.pointer("/Version/Index").and_then(Json::as_u64).filter(|version| *version > 0);
    let named = found.pointer("/Spec/Name").and_then(Json::as_str) == Some(name);
    let Some(version) = version.filter(|_| named) else {
        return Err(RegisterError::Unreachable(format!("the engine's answer about `{name}` makes no sense")));
    };
    let labels = found.pointer("/Spec/Labels");
    let record = labels.and_then(|labels| labels.get(LABEL)).and_then(Json::as_str);
    Ok(Entry { version, record: record.and_then(|record| serde_json::from_str(record).ok()) })
}

fn not_reached(error: &SwarmError) -> RegisterError {
    match error {
        SwarmError::NoManager { tried }
            if !tried.is_empty() && tried.iter().all(|tried| tried.problem == Problem::NotManager) =>
        {
            RegisterError::NoPlace(error.to_string())
        }
        error => RegisterError::Unreachable(error.to_string()),
    }
}
