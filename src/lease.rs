//! The right to act for the bot's account. Of several Houstons with folders of their own one has it; it lasts a
//! while, and is renewed. The others stand by.
//!
//! The holder acts for two thirds of the lease's duration after the moment at which it *sent* what renewed it last;
//! another takes it only after it has seen it unchanged for the whole duration. Both are measured by each one's own
//! clock of time that passed, so that no two clocks are compared.
//!
//! Must not: know where the lease is kept ([`Register`]), or what acting is.

mod keeper;
mod record;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::ids::MessageId;

pub use keeper::{Keeper, KeeperParts};
pub use record::{AtWork, Record};

/// The time is looked at this often: of what was suspended meanwhile no timer knows.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Messages that a lease tells of as obeyed.
const OBEYED_KEPT: usize = 40;

/// Where a lease is kept: one record with a version, that is replaced only by whoever names that version.
pub trait Register: Send + Sync {
    /// For people: `the Swarm of prod`.
    fn place(&self) -> &str;
    fn read(&self) -> BoxFuture<'_, Result<Option<Entry>, RegisterError>>;
    /// `over`: the version that it takes the place of; `None`: there must be none yet.
    fn write<'a>(&'a self, over: Option<u64>, record: &'a Record)
    -> BoxFuture<'a, Result<(), RegisterError>>;
}

/// What stands in the register.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Never 0.
    pub version: u64,
    /// `None`: it cannot be read, and is somebody's all the same.
    pub record: Option<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another version stands there, or none.
    #[error("somebody else was quicker")]
    Stale,
    /// There is no such register: nobody can hold a lease there.
    #[error("{0}")]
    NoPlace(String),
    /// Whether it was written is not known.
    #[error("{0}")]
    Unreachable(String),
}

/// How it stands between this process and the lease.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// None is in use.
    Unused,
    /// Nobody was asked yet.
    Looking,
    /// This process may act until then, by [`clock::uptime`].
    Mine { until: Duration, trouble: Option<String> },
    /// There is nowhere to keep it, so that nobody holds it.
    NoPlace { why: String },
    /// It cannot be told who holds it.
    Unknown { why: String },
    /// Another holds it, who describes itself so.
    Others { holder: String },
}

/// In a word, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It acts: it holds the lease, or none is in use.
    Acts,
    /// It is connected, answers what only reads, and begins nothing, since it cannot tell who holds the lease.
    CutOff,
    /// Another one acts.
    StandsBy,
}

/// Who had the lease before, with a state folder that is not this one's.
#[derive(Clone, Debug, PartialEq)]
pub struct Predecessor {
    pub record: Record,
    /// When its last renewal was seen first, by this machine's clock.
    pub last_seen: Timestamp,
}

/// Why nothing may be begun now; a sentence without its full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MayNotAct(String);

/// Clones share one lease.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    place: String,
    standing: watch::Sender<Standing>,
    /// Absent: nothing is to be kept of the terms.
    memory: Option<PathBuf>,
    terms: Mutex<Terms>,
    at_work: Mutex<Vec<AtWork>>,
    /// Messages that runs were begun for, the newest last.
    obeyed: Mutex<VecDeque<MessageId>>,
    /// What is to be written into the lease has changed.
    moved: Notify,
    /// What the log was told last.
    told: Mutex<Option<Word>>,
    uptime: fn() -> Duration,
}

/// Periods over which one process held the lease without a gap.
#[derive(Default)]
struct Terms {
    now: Option<String>,
    /// Whom this one took over from; nothing is begun before [`Lease::settled`].
    predecessor: Option<Predecessor>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&*self.0.standing.borrow()).finish()
    }
}

impl Lease {
    /// For a Houston that knows of no other: it may always act.
    pub fn unused() -> Self {
        Self::new(String::new(), None, Standing::Unused, clock::uptime)
    }

    fn new(place: String, memory: Option<PathBuf>, standing: Standing, uptime: fn() -> Duration) -> Self {
        Self(Arc::new(Inner {
            place,
            standing: watch::Sender::new(standing),
            memory,
            terms: Mutex::default(),
            at_work: Mutex::default(),
            obeyed: Mutex::default(),
            moved: Notify::new(),
            told: Mutex::default(),
            uptime,
        }))
    }

    /// To be asked before everything that is begun, and before everything that is said of one's own accord.
    pub fn may_act(&self) -> Result<(), MayNotAct> {
        self.left().map(drop)
    }

    /// How long that is so if nothing else happens.
    fn left(&self) -> Result<Duration, MayNotAct> {
        let place = &self.0.place;
        let why = match &*self.0.standing.borrow() {
            Standing::Unused | Standing::NoPlace { .. } => return Ok(Duration::MAX),
            Standing::Mine { .. } if self.terms().predecessor.is_some() => {
                "I am taking over from another Houston".to_owned()
            }
            Standing::Mine { until, trouble } => match until.checked_sub((self.0.uptime)()) {
                Some(left) if !left.is_zero() => return Ok(left),
                _ => format!(
                    "I could not renew my lease in {place}, and another Houston may have it by now{}",
                    trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default()
                ),
            },
            Standing::Looking => format!("I have not yet asked for the lease in {place}"),
            Standing::Unknown { why } => {
                format!("I cannot tell whether another Houston holds the lease in {place}: {why}")
            }
            Standing::Others { holder } => {
                format!("another Houston holds the lease in {place}: {holder}")
            }
        };
        Err(MayNotAct(why))
    }

    /// For the log and whoever watches: why it acts, or why not.
    pub fn describe(&self) -> String {
        match (&*self.0.standing.borrow(), self.may_act()) {
            (_, Err(why)) => why.to_string(),
            (Standing::Unused, Ok(())) => "no lease is in use".to_owned(),
            (Standing::NoPlace { why }, Ok(())) => format!("there is no place for a lease: {why}"),
            (_, Ok(())) => format!("it holds the lease in {}", self.0.place),
        }
    }

    pub fn word(&self) -> Word {
        let others = matches!(&*self.0.standing.borrow(), Standing::Others { .. });
        match (others, self.may_act()) {
            (true, _) => Word::StandsBy,
            (false, Ok(())) => Word::Acts,
            (false, Err(_)) => Word::CutOff,
        }
    }

    /// Returns when this process may not act (any more).
    pub async fn lost(&self) {
        let mut standing = self.0.standing.subscribe();
        while let Ok(left) = self.left() {
            tokio::select! {
                _ = standing.changed() => {}
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Returns when this process may act (again).
    pub async fn regained(&self) {
        let mut standing = self.0.standing.subscribe();
        while self.may_act().is_err() {
            // It ends with this, which is waited on.
            let _ = standing.changed().await;
        }
    }

    /// Returns when somebody was asked who holds it.
    pub async fn asked(&self) {
        self.until(|standing| *standing != Standing::Looking).await;
    }

    /// Returns when another holds it.
    pub async fn taken(&self) {
        self.until(|standing| matches!(standing, Standing::Others { .. })).await;
    }

    /// Returns when no other holds it.
    pub async fn free(&self) {
        self.until(|standing| !matches!(standing, Standing::Others { .. } | Standing::Looking)).await;
    }

    /// Returns when it was taken over from another, and nobody has dealt with that yet.
    pub async fn to_be_settled(&self) {
        self.until(|standing| {
            matches!(standing, Standing::Mine { .. }) && self.terms().predecessor.is_some()
        })
        .await;
    }

    async fn until(&self, is: impl FnMut(&Standing) -> bool) {
        // The sender lives as long as this.
        let _ = self.0.standing.subscribe().wait_for(is).await;
    }

    /// Whom it was taken over from, as long as that is not dealt with.
    pub fn predecessor(&self) -> Option<Predecessor> {
        let mine = matches!(&*self.0.standing.borrow(), Standing::Mine { .. });
        self.terms().predecessor.clone().filter(|_| mine)
    }

    /// What the one before may have done is dealt with, durably: from now on this one may act.
    pub fn settled(&self) {
        let term = self.terms().now.clone();
        if let (Some(memory), Some(term)) = (&self.0.memory, term)
            && let Err(error) = record::remember(memory, &term)
        {
            tracing::warn!(
                "the lease cannot be noted in `{}`: after a restart it looks like another Houston's: {error}",
                memory.display()
            );
        }
        self.terms().predecessor = None;
        // Whoever waits to act looks again.
        self.0.standing.send_modify(|_| {});
    }

    /// What is under way, for whoever would take over without knowing this one's runs.
    pub fn note(&self, at_work: Vec<AtWork>) {
        let mut known = self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == at_work {
            return;
        }
        let mut obeyed = self.0.obeyed.lock().unwrap_or_else(PoisonError::into_inner);
        for run in at_work.iter().rev() {
            if !obeyed.contains(&run.cause) {
                obeyed.push_back(run.cause.clone());
            }
        }
        let old = obeyed.len().saturating_sub(OBEYED_KEPT);
        obeyed.drain(..old);
        *known = at_work;
        self.0.moved.notify_one();
    }

    fn terms(&self) -> std::sync::MutexGuard<'_, Terms> {
        self.0.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At the end of a Houston that goes by itself: what became of the lease was said, and is no trouble.
    fn given_back(&self) {
        self.0.standing.send_replace(Standing::Unknown { why: "it was given back".to_owned() });
    }

    fn publish(&self, standing: Standing) {
        let trouble = match (&standing, &*self.0.standing.borrow()) {
            (Standing::Mine { trouble: Some(now), .. }, Standing::Mine { trouble: None, .. }) => {
                Some(now.clone())
            }
            _ => None,
        };
        self.0.standing.send_replace(standing);
        let word = self.word();
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner).replace(word);
        match word {
            _ if told == Some(word) => {}
            Word::Acts => tracing::info!("{}", self.describe()),
            Word::CutOff => tracing::warn!("nothing is begun: {}", self.describe()),
            Word::StandsBy => tracing::warn!("standing by: {}", self.describe()),
        }
        if let (Some(trouble), Word::Acts) = (trouble, word) {
            tracing::warn!("the lease in {} was not renewed, trying again: {trouble}", self.0.place);
        }
    }
}
