//! The outside as steps may reach it: the configuration's environments, and the providers made from them.
//!
//! Must not: hold state of runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::environment::{Backups, Environment, Service, Temporary};
use crate::config::{Config, providers};
use crate::exec::secret::resolve;
use crate::exec::ssh::SshPool;
use crate::gateway::events::{Post, SendError};
use crate::gateway::{Chat, Priority};
use crate::ids::{EffectToken, EnvName, ServiceName, derived_id};
use crate::playbook::steps::{StepError, World};
use crate::providers::hetzner::host_key::Pins;
use crate::providers::hetzner::{Hetzner, TemporaryHost};
use crate::providers::swarm::Swarm;
use crate::secret::{Redactor, Secret, SecretRef};

/// How long the chat server may be away for a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between attempts to speak; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The world under one configuration; what is connected to the outside is shared with the next one.
pub struct AppWorld {
    config: Arc<Config>,
    outside: Arc<Outside>,
}

/// Connections, and what makes them.
pub struct Outside {
    ssh: SshPool,
    /// Made when a step asks for it first: it reads this machine's root certificates, which most starts
    /// do not need.
    http: OnceLock<reqwest::Client>,
    /// By environment and how it is reached: that may change with the configuration.
    swarms: Mutex<HashMap<(EnvName, String), Arc<Swarm>>>,
    /// With what it was made from.
    hetzner: Mutex<Option<(providers::Hetzner, Arc<Hetzner>)>>,
    /// Below it, host keys of rented servers.
    dir: PathBuf,
    redactor: Redactor,
    /// Absent without a chat server: `houston plan` needs none.
    chat: OnceLock<Chat>,
}

impl Outside {
    pub fn new(ssh: SshPool, dir: impl Into<PathBuf>, redactor: Redactor) -> Self {
        Self {
            ssh,
            http: OnceLock::new(),
            swarms: Mutex::default(),
            hetzner: Mutex::default(),
            dir: dir.into(),
            redactor,
            chat: OnceLock::new(),
        }
    }

    pub fn http(&self) -> reqwest::Client {
        self.http.get_or_init(http_client).clone()
    }

    /// The project that a configuration names; the same client for the same words. `None`: it names none.
    pub fn hetzner(&self, config: &Config) -> Option<Arc<Hetzner>> {
        let access = config.providers.hetzner.clone()?;
        let mut known = self.hetzner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, hetzner)) = &*known
            && *of == access
        {
            return Some(Arc::clone(hetzner));
        }
        let pins = Pins::new(self.dir.join("rented"));
        let base = config.dir.clone();
        let hetzner = Hetzner::new(access.clone(), base, self.http(), self.redactor.clone(), pins);
        let hetzner = Arc::new(hetzner);
        *known = Some((access, Arc::clone(&hetzner)));
        Some(hetzner)
    }

    /// From now on steps can speak.
    pub fn set_chat(&self, chat: Chat) {
        let _ = self.chat.set(chat);
    }
}

impl AppWorld {
    pub fn new(config: Arc<Config>, outside: Arc<Outside>) -> Self {
        Self { config, outside }
    }

    fn environment(&self, name: &EnvName) -> Result<&Environment, StepError> {
        self.config.environments.get(name).ok_or_else(|| {
            StepError::new(format!("there is no environment `{name}`"))
                .hint("it was there when this was planned: put its file back")
        })
    }
}

impl World for AppWorld {
    fn swarm(&self, environment: &EnvName) -> Result<Arc<Swarm>, StepError> {
        let declared = self.environment(environment)?;
        let key = (environment.clone(), declared.reached());
        let mut swarms = self.outside.swarms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(swarm) = swarms.get(&key) {
            return Ok(Arc::clone(swarm));
        }
        let swarm = Swarm::of(declared, &self.outside.ssh).ok_or_else(|| {
            StepError::new(format!("`{environment}` has no Swarm"))
                .hint(format!("say how to reach it under `swarm` in {}", declared.at.file.display()))
        })?;
        let swarm = Arc::new(swarm);
        // Those of earlier configurations go with the runs that use them.
        swarms.retain(|(name, _), swarm| name != environment || Arc::strong_count(swarm) > 1);
        swarms.insert(key, Arc::clone(&swarm));
        Ok(swarm)
    }

    fn service(&self, environment: &EnvName, service: &ServiceName) -> Result<Service, StepError> {
        let declared = self.environment(environment)?;
        declared.service(service).cloned().ok_or_else(|| {
            StepError::new(format!("`{environment}` has no service `{service}`"))
                .hint(format!("it would stand in {}", declared.at.file.display()))
        })
    }

    fn backups(&self, environment: &EnvName) -> Result<Backups, StepError> {
        let declared = self.environment(environment)?;
        declared.backups.clone().ok_or_else(|| {
            StepError::new(format!("`{environment}` declares no backups")).hint(format!(
                "say what is saved and where under `backups` in {}; `houston docs config` has its keys",
                declared.at.file.display()
            ))
        })
    }

    fn secret<'a>(&'a self, reference: &'a SecretRef) -> BoxFuture<'a, Result<Secret, StepError>> {
        Box::pin(async move {
            resolve(reference, &self.config.dir, &self.outside.redactor).await.map_err(|error| {
                let failed = StepError::new(error.to_string());
                match error.hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            })
        })
    }

    fn host(
        &self,
        environment: &EnvName,
        host: &str,
        token: &EffectToken,
    ) -> Result<Arc<dyn crate::exec::Host>, StepError> {
        let declared = self.environment(environment)?;
        if let Some(temporary) = declared.temporary.get(host) {
            return Ok(Arc::new(TemporaryHost {
                hetzner: self.hetzner()?,
                ssh: self.outside.ssh.clone(),
                environment: environment.clone(),
                declared: temporary.clone(),
                run: token.run().to_owned(),
            }));
        }
        let found = declared.hosts.get(host).ok_or_else(|| {
            StepError::new(format!("`{environment}` has no host `{host}`"))
                .hint(format!("its hosts stand in {}", declared.at.file.display()))
        })?;
        Ok(Arc::new(self.outside.ssh.host(environment, found)))
    }

    fn temporary(&self, environment: &EnvName, host: &str) -> Result<Temporary, StepError> {
        let declared = self.environment(environment)?;
        declared.temporary.get(host).cloned().ok_or_else(|| {
            let file = declared.at.file.display();
            StepError::new(format!("`{environment}` has no temporary host `{host}`")).hint(
                match declared.hosts.contains_key(host) {
                    true => format!("`{host}` in {file} is always there: one with `server` is rented"),
                    false => format!("it would stand under `hosts` in {file}, with `server`"),
                },
            )
        })
    }

    fn hetzner(&self) -> Result<Arc<Hetzner>, StepError> {
        self.outside.hetzner(&self.config).ok_or_else(|| {
            StepError::new("nothing is known about Hetzner")
                .hint("add to houston.yaml: providers: {hetzner: {token: {env: HCLOUD_TOKEN}}}")
        })
    }

    fn notify<'a>(
        &'a self,
        room: &'a str,
        text: &'a str,
        token: &'a EffectToken,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let chat = self
                .outside
                .chat
                .get()
                .ok_or_else(|| StepError::new("there is no chat server to speak to"))?;
            let unsaid = |error: SendError| {
                let failed = StepError::new(format!("nothing was posted into `{room}`: {error}"));
                if matches!(error, SendError::Unavailable { .. }) { failed.transient() } else { failed }
            };
            let id = in_time(|| chat.room(room)).await.map_err(unsaid)?.ok_or_else(|| {
                StepError::new(format!("there is no room `{room}` that Houston is in"))
                    .hint(format!("invite Houston: `/invite` in `#{room}`"))
            })?;
            let post =
                Post { id: derived_id(token.as_str()).into(), room: id, thread: None, text: text.to_owned() };
            in_time(|| chat.post(post.clone(), Priority::Normal)).await.map_err(unsaid)
        })
    }

    fn http(&self) -> reqwest::Client {
        self.outside.http()
    }
}

/// For health checks and the like.
fn http_client() -> reqwest::Client {
    let builder = || {
        reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::custom(|attempt| {
                let elsewhere =
                    attempt.previous().first().is_some_and(|first| first.origin() != attempt.url().origin());
                if elsewhere || attempt.previous().len() > 5 { attempt.stop() } else { attempt.follow() }
            }))
            .user_agent(concat!("houston/", env!("CARGO_PKG_VERSION")))
    };
    builder().build().unwrap_or_else(|error| {
        tracing::error!("no `https` address can be checked from here: {error}");
        builder().tls_certs_only([]).build().expect("a client without certificates has nothing to read")
    })
}

/// A server that is away for a moment is no reason to fail a run. Only for what may be asked again.
async fn in_time<T, F>(mut ask: impl FnMut() -> F) -> Result<T, SendError>
where
    F: Future<Output = Result<T, SendError>>,
{
    let begun = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match ask().await {
            Err(SendError::Unavailable { reason, retry_after }) => {
                let wait = retry_after.unwrap_or(pause);
                if begun.elapsed() + wait > PATIENCE {
                    return Err(SendError::Unavailable { reason, retry_after });
                }
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}
