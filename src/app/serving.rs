//! `houston serve` from its start to its end: stands by while another Houston holds the lease, serves while this one
//! may act, and stands by again when it is lost to another.
//!
//! Must not: know what serving is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lease::Keeping;
use super::{Houston, Options, StartError, listen};
use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::holder::Holder;
use crate::lease::{Lease, Word};
use crate::secret::Redactor;
use crate::store::home;

/// How long steps may take to reach a boundary after SIGTERM. Container platforms kill after 10 s.
const GRACE: Duration = Duration::from_secs(5);

/// How long the start waits to be told who holds the lease, before it goes on without knowing.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What a process serves with.
pub struct Serving<'a> {
    pub state: &'a Path,
    pub redactor: Redactor,
    /// SIGHUP: the configuration is read again.
    pub hangups: Signal,
}

/// What ends one round.
enum End {
    /// It was asked to.
    Stop,
    /// The lease is another's.
    Taken,
    /// The lease was taken over from another while this one was connected: what that one obeyed has to be left out.
    TakenOver,
}

impl Serving<'_> {
    /// Until `stop`. `again` reads the configuration once more, for each time that this one takes over.
    pub async fn serve<E: From<StartError>>(
        mut self,
        config: Config,
        again: impl Fn() -> Result<Config, E>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), E> {
        tokio::pin!(stop);
        let clock = Clock::system();
        home::is_free_or_ours(self.state).map_err(StartError::from)?;
        // Before anything is touched that another Houston may be using, and until the lease is given back.
        let holder = Holder::take(self.state, "houston serve", &clock).await.map_err(StartError::from)?;
        let holder = Arc::new(holder);
        let keeping = Keeping::begin(&config, &holder, self.state, &clock, &self.redactor)?;
        let served = self.rounds(config, again, stop.as_mut(), &keeping.lease, &holder, &clock).await;
        let since = served.as_ref().map_or_else(|_| clock.now(), |since| *since);
        keeping.end(since).await;
        served.map(drop)
    }

    /// Returns when the last command was taken.
    async fn rounds<E: From<StartError>>(
        &mut self,
        config: Config,
        again: impl Fn() -> Result<Config, E>,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
        lease: &Lease,
        holder: &Arc<Holder>,
        clock: &Clock,
    ) -> Result<Timestamp, E> {
        let mut first = Some(config);
        loop {
            let config = first.take().map_or_else(&again, Ok)?;
            let waited = tokio::select! {
                () = stop.as_mut() => false,
                waited = self.stand_by(lease, &config, clock) => { waited?; true }
            };
            if !waited {
                return Ok(clock.now());
            }
            let options = Options {
                holder: Some(Arc::clone(holder)),
                lease: lease.clone(),
                ..Options::new(config, self.state, self.redactor.clone())
            };
            let houston = Houston::start(options).await?;
            tracing::info!("Houston {} is up", env!("CARGO_PKG_VERSION"));
            let end = loop {
                tokio::select! {
                    () = stop.as_mut() => break End::Stop,
                    () = lease.taken() => break End::Taken,
                    () = lease.to_be_settled() => break End::TakenOver,
                    // What becomes of it is in the log.
                    Some(()) = self.hangups.recv() => drop(houston.reload().await),
                }
            };
            let since = clock.now();
            match end {
                End::Stop => tracing::info!("stopping"),
                End::Taken => tracing::warn!("another Houston acts: this one lets go of everything"),
                End::TakenOver => tracing::info!("taking over: connecting anew"),
            }
            houston.stop(GRACE).await;
            if matches!(end, End::Stop) {
                return Ok(since);
            }
        }
    }

    /// Until no other holds the lease. Nothing is heard and nothing said meanwhile; the store stays closed.
    async fn stand_by(&self, lease: &Lease, config: &Config, clock: &Clock) -> Result<(), StartError> {
        let _ = tokio::time::timeout(FIRST_ANSWER, lease.asked()).await;
        if lease.word() != Word::StandsBy {
            return Ok(());
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let started = clock.now().as_duration().as_secs_f64();
        let standby = admin::Standby::new(lease.clone(), started);
        let socket = admin::Socket::bind(&self.state.join("admin.sock"))
            .map_err(|e| StartError::new(format!("the admin socket cannot be made: {e}")))?;
        let http: Option<TcpListener> = listen(config).await?;
        tasks.spawn(standby.clone().serve_socket(socket, stop.clone()));
        if let Some(listener) = http {
            tasks.spawn(standby.serve_http(listener, stop.clone()));
        }
        // Also when this is dropped.
        let answering = stop.drop_guard();
        lease.free().await;
        drop(answering);
        tasks.close();
        // Both are needed by what comes next.
        tasks.wait().await;
        Ok(())
    }
}
