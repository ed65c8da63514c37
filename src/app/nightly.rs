//! What is done by itself from time to time: every night the store is exported, so that there is a way back when it is
//! damaged; transcripts are packed when their runs have ended; and what is older than it has to be kept goes.
//!
//! Must not: keep anything only in memory: what was done last is known from the files that it left.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::retention;
use crate::chat::dispatch::Dispatcher;
use crate::config::Config;
use crate::ids::RunId;
use crate::runs::journal::Header;
use crate::store::exports::{self, Most, Written};
use crate::store::{Store, Tree};

/// Between two attempts where one has failed.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Between two looks for transcripts to pack, and how long a run has to be over by then.
const PACK_EVERY: SignedDuration = SignedDuration::from_hours(1);
const PACK_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Between two looks at how much there is, for which everything is read.
const SIZES_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// What the configuration says, and what the clock, is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Until `stop`. A night in which Houston was away is made up for at the start.
pub async fn run(dispatcher: Dispatcher, stop: CancellationToken) {
    let (clock, store) = (dispatcher.parts.clock.clone(), dispatcher.parts.store.clone());
    let dir = exports::dir(store.path().parent().unwrap_or(store.path()));
    let newest = exports::newest(&dir).map(|export| export.at);
    if let Some(newest) = newest {
        dispatcher.parts.metrics.exported(newest.as_duration().as_secs_f64());
    }
    let mut since = newest.unwrap_or_else(|| clock.now());
    let mut failed: Option<Timestamp> = None;
    let mut packed: Option<Timestamp> = None;
    // Not at once: a start has enough to read.
    let mut sized = clock.now() - (SIZES_EVERY - PACK_EVERY);
    loop {
        let (config, now) = (dispatcher.config(), clock.now());
        dispatcher.parts.ledger.keep_for(config.retention.marks);
        let due = config.exports.due(since, &config.time_zone).filter(|due| *due <= now);
        // A clock that was set back holds nothing up.
        let waits = failed.is_some_and(|at| at <= now && now.duration_since(at) < AGAIN);
        if let (Some(due), false) = (due, waits) {
            match export(&store, &dir, &config, now).await {
                Ok(written) => {
                    dispatcher.parts.metrics.exported(now.as_duration().as_secs_f64());
                    let (records, bytes) = (written.records, written.bytes);
                    let path = written.export.path.display();
                    tracing::info!("the store was exported: {records} records, {bytes} bytes, `{path}`");
                    (since, failed) = (now, None);
                }
                Err(why) => {
                    failed = Some(now);
                    dispatcher.parts.metrics.export_failed();
                    tracing::error!("the store was not exported: {why}");
                    // One message for one night, however often it is tried.
                    dispatcher.tell_leads_that(&format!("export/{due}"), not_exported(&dir, &why)).await;
                }
            }
        }
        if packed.is_none_or(|at| at > now || now.duration_since(at) >= PACK_EVERY) {
            packed = Some(now);
            pack(&dispatcher, now).await;
            let by_size = sized > now || now.duration_since(sized) >= SIZES_EVERY;
            if by_size {
                sized = now;
            }
            retention::keep_to(&dispatcher, &config.retention, by_size).await;
        }
        tokio::select! {
            // By the clock, which may have been set on since it was read; and by time that passed, should it be set back.
            () = clock.sleep_until(now.saturating_add(LOOK_EVERY).unwrap_or(now)) => {}
            () = clock.sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn export(store: &Store, dir: &Path, config: &Config, now: Timestamp) -> Result<Written, String> {
    if let Some(why) = no_room(store, dir, config) {
        return Err(why);
    }
    let (store, at) = (store.clone(), dir.to_owned());
    let most = Most {
        files: config.exports.keep,
        bytes: config.exports.megabytes.map(|most| most.saturating_mul(1_000_000)),
    };
    let written = tokio::task::spawn_blocking(move || {
        exports::write(&store, &at, now, most).map_err(|error| exports::why(&error, &at))
    });
    written.await.map_err(|error| format!("it ended unexpectedly: {error}"))?
}

/// What runs already has to be able to write its journal to the end: an export is not to take that room.
fn no_room(store: &Store, dir: &Path, config: &Config) -> Option<String> {
    let free = store.free_megabytes()?;
    let newest = exports::newest(dir).and_then(|export| std::fs::metadata(export.path).ok());
    let takes = newest.map_or(0, |file| file.len() / 1_000_000);
    let floor = u64::from(config.limits.free_megabytes);
    (free < floor + takes).then(|| {
        format!(
            "the disk with the state folder has {free} MB left, of which `limits.free_megabytes` keeps {floor} MB \
             for what runs, and an export takes about {takes} MB"
        )
    })
}

/// Transcripts of runs that ended a while ago: those of today are read as they are, with any tool.
async fn pack(dispatcher: &Dispatcher, now: Timestamp) {
    let (store, transcripts) =
        (dispatcher.parts.store.clone(), dispatcher.parts.engine.transcripts().clone());
    let ended = move |run: RunId| {
        let header = store.get::<Header>(Tree::Runs, &run.0.to_be_bytes()).ok().flatten();
        let ended = header.filter(|header| header.done).and_then(|header| header.ended_at);
        ended.is_some_and(|at| now.duration_since(at) >= PACK_AFTER)
    };
    match tokio::task::spawn_blocking(move || transcripts.pack(ended)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::debug!("{count} transcripts were packed"),
        Ok(Err(error)) => tracing::warn!("transcripts stay as large as they are: {error}"),
        Err(error) => tracing::error!("packing transcripts ended unexpectedly: {error}"),
    }
}

/// To the leads.
fn not_exported(dir: &Path, why: &str) -> String {
    let newest = match exports::newest(dir) {
        Some(newest) => format!("the newest export is of {}", newest.at.strftime("%-d %b %H:%M UTC")),
        None => "there is no export at all".to_owned(),
    };
    format!(
        ":floppy_disk: My store was not exported this night: {}. Should the store be damaged, {newest}. I try again every \
         hour; `houston store stat` lists what there is.",
        crate::text::defuse(why)
    )
}
