//! Takes the lease when it may, renews it while it holds it, and gives it back at the end.
//!
//! Must not: act, or decide anything by what two machines' clocks say.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::record::{self, Record};
use super::{Entry, Lease, Predecessor, Register, RegisterError, Standing};
use crate::clock::{self, Clock};
use crate::holder::Process;
use crate::ids::random_id;

/// The holder renews so often within one duration.
const TIMES: u32 = 5;

/// A standby looks at least so often: what was given back is to be taken soon.
const SOON: Duration = Duration::from_secs(1);

/// Writes of our own that may yet be found in the register.
const WRITES_KEPT: usize = 16;

/// Between two renewals, however often there is something new to write.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// What giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(2);

/// A holder that cannot be named.
const UNREADABLE: &str = "somebody whose lease this version cannot read";

/// What a keeper is made from.
pub struct KeeperParts {
    pub register: Arc<dyn Register>,
    pub duration: Duration,
    /// Nothing is begun without it, also where there is no place for one.
    pub required: bool,
    pub process: Process,
    /// Of the state folder, as [`crate::holder::Holder::folder`] tells it.
    pub folder: Option<String>,
    /// The state folder, where a term is noted; absent: nowhere.
    pub state: Option<PathBuf>,
    pub clock: Clock,
}

pub struct Keeper {
    parts: KeeperParts,
    lease: Lease,
    instance: String,
    folder: String,
    /// Terms that were this folder's own before this process began.
    own_terms: Vec<String>,
    holding: bool,
    /// Where the register stands, when this one wrote last and nothing was read since.
    version: Option<u64>,
    /// What was written, and when it was sent.
    writes: VecDeque<(String, Duration)>,
    seen: Option<Seen>,
    uptime: fn() -> Duration,
}

/// Another's lease, as it was seen last.
struct Seen {
    /// 0: there was none any more.
    version: u64,
    since: Duration,
    at: Timestamp,
    /// How long that one's lease lasts.
    lasts: Duration,
}

impl Keeper {
    pub fn new(parts: KeeperParts) -> Self {
        Self::by(clock::uptime, parts)
    }

    fn by(uptime: fn() -> Duration, parts: KeeperParts) -> Self {
        let memory = parts.state.as_ref().map(|state| state.join(record::FILE));
        let own_terms = memory.as_deref().map(record::remembered).unwrap_or_default();
        let place = parts.register.place().to_owned();
        let lease = Lease::new(place, memory, Standing::Looking, uptime);
        Self {
            lease,
            instance: random_id(),
            // A folder that cannot be told from others is nobody's own.
            folder: parts.folder.clone().unwrap_or_else(random_id),
            own_terms,
            holding: false,
            version: None,
            writes: VecDeque::new(),
            seen: None,
            uptime,
            parts,
        }
    }

    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) -> Self {
        loop {
            // A turn is not cut off: what it has written is to be given back.
            let pause = self.turn().await;
            let moved = async {
                tokio::time::sleep(SHORTEST_PAUSE).await;
                self.lease.0.moved.notified().await;
            };
            tokio::select! {
                () = stop.cancelled() => return self,
                () = tokio::time::sleep(pause) => {}
                () = moved, if self.holding => {}
            }
        }
    }

    /// So that the next one need not wait. `since`: when this one took its last command.
    pub async fn release(self, since: Timestamp) {
        if !self.holding {
            return;
        }
        let giving = async {
            let version = match self.version {
                Some(version) => version,
                None => match self.parts.register.read().await? {
                    Some(entry) if self.sent(&entry).is_some() => entry.version,
                    _ => return Ok(()),
                },
            };
            let record = Record { released: Some(since), ..self.record() };
            self.parts.register.write(Some(version), &record).await
        };
        match tokio::time::timeout(RELEASE, giving).await {
            Ok(Ok(())) => tracing::info!("the lease in {} is given back", self.parts.register.place()),
            Ok(Err(RegisterError::Stale)) => {}
            Ok(Err(error)) => tracing::warn!("the lease was not given back, it ends by itself: {error}"),
            Err(_) => tracing::warn!("the lease was not given back in time, it ends by itself"),
        }
        self.lease.given_back();
    }

    /// One look at the register, and what follows from it. Returns how long to wait before the next one.
    async fn turn(&mut self) -> Duration {
        let turned = if self.holding { self.renew().await } else { self.try_to_take().await };
        turned.unwrap_or_else(|error| {
            self.trouble(error);
            self.every() / 2
        })
    }

    fn every(&self) -> Duration {
        self.parts.duration / TIMES
    }

    async fn try_to_take(&mut self) -> Result<Duration, RegisterError> {
        let entry = self.parts.register.read().await?;
        if let Some(sent) = entry.as_ref().and_then(|entry| self.sent(entry)) {
            // The answer to that write was lost.
            self.holding = true;
            self.version = entry.map(|entry| entry.version);
            self.hold(sent);
            return Ok(Duration::ZERO);
        }
        let record = entry.as_ref().and_then(|entry| entry.record.as_ref());
        let never_was_one = entry.is_none() && self.seen.is_none();
        let free = never_was_one || record.is_some_and(|record| self.is_free(record));
        let now = (self.uptime)();
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let clock = &self.parts.clock;
        let fresh = Seen { version, since: now, at: clock.now(), lasts: self.parts.duration };
        let seen = match self.seen.take() {
            Some(seen) if seen.version == version => seen,
            Some(seen) => Seen { lasts: seen.lasts, ..fresh },
            None => fresh,
        };
        let lasts = record.map_or(seen.lasts, |record| Duration::from_millis(record.milliseconds));
        let seen = self.seen.insert(Seen { lasts: lasts.max(self.parts.duration), ..seen });
        let left = seen.lasts.saturating_sub(now.saturating_sub(seen.since));
        if !free && !left.is_zero() {
            let holder = match (record, version) {
                (Some(record), _) => record.holder.to_string(),
                (None, 0) => "whoever held the one that was removed a moment ago".to_owned(),
                (None, _) => UNREADABLE.to_owned(),
            };
            self.lease.publish(Standing::Others { holder });
            return Ok(left.min(self.every()).min(SOON));
        }
        self.take(entry.as_ref()).await
    }

    /// Whether there is nobody who could still act by it.
    fn is_free(&self, record: &Record) -> bool {
        // Whoever had this folder locked is gone, or this one could not have it. Only a copy of this very process, as
        // of a machine that was duplicated, has its number and goes on.
        let predecessor_here = record.folder == self.folder && record.instance != self.instance;
        record.released.is_some() || predecessor_here
    }

    async fn take(&mut self, over: Option<&Entry>) -> Result<Duration, RegisterError> {
        let last_seen = self.seen.as_ref().map_or_else(|| self.parts.clock.now(), |seen| seen.at);
        let stranger = over
            .and_then(|entry| entry.record.clone())
            .filter(|record| !self.own_terms.contains(&record.term))
            .map(|record| Predecessor { record, last_seen });
        let term = random_id();
        *self.lease.terms() = super::Terms { now: Some(term.clone()), predecessor: stranger.clone() };
        if stranger.is_none() {
            self.lease.settled();
        }
        // What is lost on the way may be found in the register later, and is this folder's own then.
        self.own_terms.push(term);
        match self.write(over.map(|entry| entry.version)).await {
            Ok(sent) => {
                self.holding = true;
                self.seen = None;
                self.hold(sent);
                Ok(self.every())
            }
            Err(RegisterError::Stale) => Ok(SHORTEST_PAUSE.min(self.every())),
            Err(error) => Err(error),
        }
    }

    async fn renew(&mut self) -> Result<Duration, RegisterError> {
        let version = match self.version {
            Some(version) => version,
            None => {
                let entry = self.parts.register.read().await?;
                let own = entry.as_ref().and_then(|entry| Some((entry.version, self.sent(entry)?)));
                let Some((version, sent)) = own else {
                    return Ok(self.lost_to(entry.as_ref()));
                };
                self.hold(sent);
                version
            }
        };
        match self.write(Some(version)).await {
            Ok(sent) => {
                self.hold(sent);
                Ok(self.every())
            }
            // Perhaps by a write of this one's whose answer was lost: reading tells.
            Err(RegisterError::Stale) => Ok(Duration::ZERO),
            Err(error) => Err(error),
        }
    }

    /// Returns how long to wait.
    fn lost_to(&mut self, entry: Option<&Entry>) -> Duration {
        self.holding = false;
        self.lease.publish(match entry {
            Some(Entry { record: Some(record), .. }) => {
                Standing::Others { holder: record.holder.to_string() }
            }
            Some(Entry { record: None, .. }) => Standing::Others { holder: UNREADABLE.to_owned() },
            // Nobody has it: it may be made anew.
            None => Standing::Unknown { why: "it was removed there".to_owned() },
        });
        Duration::ZERO
    }

    async fn write(&mut self, over: Option<u64>) -> Result<Duration, RegisterError> {
        self.version = None;
        let record = self.record();
        let sent = (self.uptime)();
        self.writes.push_back((record.write.clone(), sent));
        if self.writes.len() > WRITES_KEPT {
            self.writes.pop_front();
        }
        self.parts.register.write(over, &record).await?;
        Ok(sent)
    }

    fn record(&self) -> Record {
        Record {
            holder: self.parts.process.clone(),
            folder: self.folder.clone(),
            instance: self.instance.clone(),
            term: self.lease.terms().now.clone().unwrap_or_default(),
            write: random_id(),
            milliseconds: u64::try_from(self.parts.duration.as_millis()).unwrap_or(u64::MAX),
            released: None,
            at_work: self.lease.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            obeyed: self
                .lease
                .0
                .obeyed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect(),
        }
    }

    /// When this process sent what stands there; `None`: it did not.
    fn sent(&self, entry: &Entry) -> Option<Duration> {
        let record = entry.record.as_ref().filter(|record| record.released.is_none())?;
        self.writes.iter().find(|(write, _)| *write == record.write).map(|(_, sent)| *sent)
    }

    fn hold(&self, sent: Duration) {
        let until = sent + self.parts.duration * 2 / 3;
        self.lease.publish(Standing::Mine { until, trouble: None });
    }

    fn trouble(&mut self, error: RegisterError) {
        let standing = self.lease.0.standing.borrow().clone();
        let standing = match (standing, error) {
            (Standing::Mine { until, .. }, error) => {
                Standing::Mine { until, trouble: Some(error.to_string()) }
            }
            // As long as nobody's lease was ever seen there.
            (
                Standing::Looking | Standing::NoPlace { .. } | Standing::Unknown { .. },
                RegisterError::NoPlace(why),
            ) if self.seen.is_none() && self.writes.is_empty() && !self.parts.required => {
                Standing::NoPlace { why }
            }
            (held @ Standing::Others { .. }, _) => held,
            (_, error) => Standing::Unknown { why: error.to_string() },
        };
        self.lease.publish(standing);
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
