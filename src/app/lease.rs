//! The lease that a configuration asks for, kept by a task of its own from before Houston starts until it has stopped.
//!
//! Must not: decide who may take it.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::exec::ssh::{SshOptions, SshPool};
use crate::holder::{Holder, Process};
use crate::lease::{Keeper, KeeperParts, Lease};
use crate::providers::swarm::SwarmLease;
use crate::secret::Redactor;

/// Parts of a lease's duration that one manager may take to answer: the next one can still be asked in time.
const PATIENCE: u32 = 6;

/// Where the connections to the managers lie, below the state folder: apart from those of steps, which come and go
/// with each Houston.
const SSH: &str = "ssh-lease";

/// A lease, and who keeps it.
pub struct Keeping {
    pub lease: Lease,
    keeper: Option<JoinHandle<Keeper>>,
    stop: CancellationToken,
}

impl Keeping {
    pub fn begin(
        config: &Config,
        holder: &Holder,
        state: &Path,
        clock: &Clock,
        redactor: &Redactor,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let config::lease::Lease::In { duration, required, .. } = config.lease else {
            return Ok(Self { lease: Lease::unused(), keeper: None, stop });
        };
        let ssh = state.join(SSH);
        let options = SshOptions { connect_timeout: duration / PATIENCE, ..SshOptions::default() };
        let pool = SshPool::new(&ssh, options, redactor.clone()).map_err(|error| {
            StartError::new(format!("cannot make a folder for SSH in `{}`: {error}", ssh.display()))
        })?;
        let Some(register) = SwarmLease::of(config, &pool, duration / PATIENCE) else {
            return Ok(Self { lease: Lease::unused(), keeper: None, stop });
        };
        let keeper = Keeper::new(KeeperParts {
            register: Arc::new(register),
            duration,
            required,
            process: Process::this("houston serve", clock),
            folder: holder.folder(),
            state: Some(state.to_owned()),
            clock: clock.clone(),
        });
        let lease = keeper.lease();
        let keeper = tokio::spawn(keeper.keep(stop.clone()));
        Ok(Self { lease, keeper: Some(keeper), stop })
    }

    /// Gives it back. `since`: when the last command was taken.
    pub async fn end(self, since: Timestamp) {
        self.stop.cancel();
        let Some(keeper) = self.keeper else { return };
        match keeper.await {
            Ok(keeper) => keeper.release(since).await,
            Err(error) => tracing::error!("the lease was not kept: {error}"),
        }
    }
}
