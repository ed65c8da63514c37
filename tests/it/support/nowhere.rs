//! A world with nothing in it, for steps that need none: whoever asks for something is told that it is not there.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use houston::config::environment::Service;
use houston::exec::Host;
use houston::ids::{EffectToken, EnvName, ServiceName};
use houston::playbook::steps::{StepError, World};
use houston::providers::swarm::Swarm;

pub struct Nowhere;

impl World for Nowhere {
    fn swarm(&self, _: &EnvName) -> Result<Arc<Swarm>, StepError> {
        Err(StepError::new("no Swarm"))
    }
    fn service(&self, _: &EnvName, _: &ServiceName) -> Result<Service, StepError> {
        Err(StepError::new("no service"))
    }
    fn host(&self, _: &EnvName, _: &str, _: &EffectToken) -> Result<Arc<dyn Host>, StepError> {
        Err(StepError::new("no host"))
    }
    fn notify<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a EffectToken,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn http(&self) -> reqwest::Client {
        reqwest::Client::new()
    }
}
