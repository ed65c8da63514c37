//! The store over the admin socket: how large it is, and an export while everything goes on.
//!
//! Must not: change anything.

use std::io;
use std::path::PathBuf;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Admin;
use crate::ids::RunId;
use crate::runs::journal::Header;
use crate::store::stat::TreeStat;
use crate::store::{Store, StoreError, Tree, exports, stat, transfer};

/// Bytes of an export that are handed on at once.
const PIECE: usize = 64 * 1024;

/// How large everything is that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreStat {
    pub path: PathBuf,
    /// Of the database on disk.
    pub bytes: u64,
    pub records: u64,
    pub trees: Vec<TreeStat>,
    pub oldest_run: Option<OldestRun>,
    pub transcripts_bytes: u64,
    pub exports: Vec<ExportStat>,
    /// That may still be written there.
    pub free_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OldestRun {
    pub run: RunId,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportStat {
    pub path: PathBuf,
    pub at: Timestamp,
    pub bytes: u64,
}

/// Blocking: it reads everything.
pub fn store_stat(store: &Store) -> Result<StoreStat, StoreError> {
    let trees = stat::trees(store)?;
    let oldest = store.scan::<Header>(Tree::Runs, &[]).next().transpose()?;
    let state = store.path().parent().unwrap_or(store.path());
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
    let exports = exports::list(&exports::dir(state)).unwrap_or_default();
    Ok(StoreStat {
        path: store.path().to_owned(),
        bytes: stat::on_disk(store.path()),
        records: trees.iter().map(|tree| tree.records).sum(),
        trees,
        oldest_run: oldest.map(|(_, header)| OldestRun { run: header.run, created_at: header.created_at }),
        transcripts_bytes: stat::on_disk(&state.join("transcripts")),
        exports: exports
            .into_iter()
            .map(|export| ExportStat { bytes: size(&export.path), path: export.path, at: export.at })
            .collect(),
        free_bytes: store.free_megabytes().map(|megabytes| megabytes * 1_000_000),
    })
}

pub(super) async fn stat(State(admin): State<Admin>) -> Result<Json<StoreStat>, (StatusCode, String)> {
    let stat = tokio::task::spawn_blocking(move || store_stat(&admin.store)).await;
    let failed = |why: String| (StatusCode::INTERNAL_SERVER_ERROR, why);
    stat.map_err(|e| failed(e.to_string()))?.map(Json).map_err(|e| failed(e.to_string()))
}

/// Piece by piece. One that breaks off has no last line, which whoever reads it sees.
pub(super) async fn export(State(admin): State<Admin>) -> Body {
    let (pieces, coming) = mpsc::channel::<Result<Bytes, io::Error>>(4);
    let now = admin.dispatcher.parts.clock.now();
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        let _inside = span.entered();
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
        if let Err(error) = transfer::export(&admin.store, now, &mut out) {
            tracing::warn!("an export was not finished: {error}");
            let _ = pieces.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    Body::from_stream(stream::unfold(coming, async |mut coming| Some((coming.recv().await?, coming))))
}

/// Waits for the reader, so that an export takes no memory.
struct Pieces(mpsc::Sender<Result<Bytes, io::Error>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
