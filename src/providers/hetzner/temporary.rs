//! A temporary host as commands see it: looked for by its labels when it is needed, reached over SSH, and known by the
//! host key that it was made with.
//!
//! Must not: take a key that a server shows for its own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Hetzner, HetznerError, Server, host_key, labels};
use crate::config::environment::{Host as Declared, Reached, Temporary};
use crate::exec::ssh::{SshHost, SshPool};
use crate::exec::{Command, Detached, ExecError, Exit, Follow, Host, Runner, Standing, Stream};
use crate::ids::EnvName;
use crate::text::shell_words;

/// One run's server for a host of an environment.
pub struct TemporaryHost {
    pub hetzner: Arc<Hetzner>,
    pub ssh: SshPool,
    pub environment: EnvName,
    pub declared: Temporary,
    /// What the tokens of the run have in common.
    pub run: String,
}

impl TemporaryHost {
    pub fn server_name(&self) -> String {
        labels::server_name(&self.run, &self.environment, &self.declared.name)
    }

    async fn find(&self) -> Result<SshHost, ExecError> {
        let selector = labels::by_host(&self.run, &self.environment, &self.declared.name);
        let found = self.hetzner.servers(&selector).await.map_err(|error| self.unfound(&error))?;
        let Some(server) = found.into_iter().max_by_key(|server| server.id) else {
            return Err(ExecError::NotStarted {
                what: self.name(),
                reason: "this run has no such server".to_owned(),
                hint: Some(
                    "a step `hetzner_server` with `action: create` before this one makes it".to_owned(),
                ),
                transient: false,
            });
        };
        self.reach(&server)
    }

    /// The server over SSH; its key is the one that was pinned when it was made, or that its labels name where this
    /// Houston did not make it.
    fn reach(&self, server: &Server) -> Result<SshHost, ExecError> {
        let refuse = |reason: String, transient: bool| ExecError::NotStarted {
            what: self.name(),
            reason,
            hint: None,
            transient,
        };
        let Some(address) = server.address(self.declared.address) else {
            return Err(refuse(format!("the server `{}` has no address yet", server.name), true));
        };
        let pins = &self.hetzner.pins;
        let labelled = || server.label(labels::KEY).and_then(host_key::from_label);
        let Some(key) = pins.read(&server.name).or_else(labelled) else {
            return Err(refuse(format!("the host key of `{}` is not known", server.name), false));
        };
        let known_hosts = pins
            .write(&server.name, &address, self.declared.port, &key)
            .map_err(|error| refuse(format!("its host key cannot be kept: {error}"), false))?;
        let host = Declared {
            name: self.declared.name.clone(),
            address,
            user: Some(self.declared.user.clone()),
            port: self.declared.port,
            identity: self.declared.identity.clone(),
            known_hosts: Some(known_hosts),
            jump: self.declared.jump.clone(),
            at: self.declared.at.clone(),
        };
        Ok(self.ssh.host(&self.environment, &host))
    }

    fn unfound(&self, error: &HetznerError) -> ExecError {
        ExecError::NotStarted {
            what: self.name(),
            reason: error.to_string(),
            hint: error.hint(),
            transient: error.is_transient(),
        }
    }
}

impl Runner for TemporaryHost {
    fn name(&self) -> String {
        format!("{} ({})", self.declared.name, self.server_name())
    }

    /// Where it is reached is for the shell to ask: a person types this when Houston cannot.
    fn typed(&self, command: &Command) -> String {
        let (name, Temporary { user, port, jump, address, .. }) = (self.server_name(), &self.declared);
        let mut ssh = vec!["ssh".to_owned()];
        if *port != 22 {
            ssh.extend(["-p".to_owned(), port.to_string()]);
        }
        if !jump.is_empty() {
            ssh.extend(["-J".to_owned(), jump.join(",")]);
        }
        ssh.extend(["-l".to_owned(), user.clone()]);
        let asked = match address {
            Reached::Public => format!("\"$(hcloud server ip {name})\""),
            Reached::Private => {
                format!("\"$(hcloud server describe {name} -o format='{{{{(index .PrivateNet 0).IP}}}}')\"")
            }
        };
        let line = shell_words(&command.words());
        let line = if line.contains('\'') { shell_words(&[line]) } else { line };
        format!("{} {asked} -- {line}", shell_words(&ssh))
    }

    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move { self.find().await?.run(command, on_line, cancel).await })
    }
}

impl Host for TemporaryHost {
    fn follow<'a>(
        &'a self,
        job: &'a Detached<'a>,
        follow: &'a dyn Follow,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move { self.find().await?.follow(job, follow, cancel).await })
    }

    fn standing<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Standing, ExecError>> {
        Box::pin(async move { self.find().await?.standing(name).await })
    }

    fn clear<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(host) = self.find().await {
                host.clear(name).await;
            }
        })
    }
}
