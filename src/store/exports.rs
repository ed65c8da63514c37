//! Exports as files of a folder: each whole or not there, named by its moment, the oldest removed.
//!
//! Must not: touch a file that it did not name.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::transfer::{self, ExportError};
use super::{Store, StoreError};

const BEGIN: &str = "houston-";
const END: &str = ".jsonl.gz";

/// What a file is called while it is written.
const PART: &str = "houston.part";

/// What gzip begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Of a state folder.
pub fn dir(state: &Path) -> PathBuf {
    state.join("exports")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub path: PathBuf,
    pub at: Timestamp,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub export: Export,
    pub records: u64,
    pub bytes: u64,
}

/// All of them, oldest first.
pub fn list(dir: &Path) -> io::Result<Vec<Export>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found: Vec<Export> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let written = name.to_str()?.strip_prefix(BEGIN)?.strip_suffix(END)?;
            Some(Export { path: entry.path(), at: moment(written)? })
        })
        .collect();
    found.sort_by_key(|export| export.at);
    Ok(found)
}

pub fn newest(dir: &Path) -> Option<Export> {
    list(dir).ok()?.pop()
}

/// `20261125T031500Z`
fn moment(written: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", written).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
}

/// How many are left when there is a new one.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub files: usize,
    /// Of all together; the newest one is left in any case.
    pub bytes: Option<u64>,
}

/// Writes one and leaves the newest, `most` of them. Blocking; live work goes on beside it.
pub fn write(store: &Store, dir: &Path, at: Timestamp, most: Most) -> Result<Written, ExportError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let part = dir.join(PART);
    let written = fill(store, &part, at).inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })?;
    let path = dir.join(format!("{BEGIN}{}{END}", at.strftime("%Y%m%dT%H%M%SZ")));
    std::fs::rename(&part, &path)?;
    File::open(dir)?.sync_all()?;
    let bytes = std::fs::metadata(&path)?.len();
    let mut together = 0;
    for (number, export) in list(dir)?.iter().rev().enumerate() {
        together += std::fs::metadata(&export.path)?.len();
        let too_many = number >= most.files || most.bytes.is_some_and(|bytes| together > bytes);
        if number > 0 && too_many {
            std::fs::remove_file(&export.path)?;
        }
    }
    Ok(Written { export: Export { path, at }, records: written, bytes })
}

fn fill(store: &Store, part: &Path, at: Timestamp) -> Result<u64, ExportError> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(part)?;
    let mut packed = BufWriter::new(GzEncoder::new(file, Compression::default()));
    let records = transfer::export(store, at, &mut packed)?;
    packed.flush()?;
    let packed = packed.into_inner().map_err(io::IntoInnerError::into_error)?;
    packed.finish()?.sync_all()?;
    Ok(records)
}

/// The lines of an export, packed or not.
pub fn lines(mut file: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    if file.fill_buf()?.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

/// What went wrong, for people: the store's own words, or what the disk said of the folder.
pub fn why(error: &ExportError, dir: &Path) -> String {
    match error {
        ExportError::Store(error @ StoreError::Read(_)) => error.to_string(),
        ExportError::Store(error) => error.to_string(),
        ExportError::Io(error) => format!("cannot write into `{}`: {error}", dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Tree};

    #[tokio::test]
    async fn each_is_whole_and_the_oldest_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("journal")).expect("opens");
        let exports = dir.path().join("exports");
        std::fs::create_dir(&exports).expect("a folder");
        std::fs::write(exports.join("notes.txt"), "mine").expect("writes");
        std::fs::write(exports.join("houston-yesterday.jsonl.gz"), "mine too").expect("writes");
        std::fs::write(exports.join(PART), "of a start that was killed").expect("writes");
        let at = |n: i64| Timestamp::from_second(1_764_040_500 + n * 86_400).expect("a time");
        for n in 0..5_u32 {
            let mut batch = Batch::new();
            batch.put(Tree::Runs, &n.to_be_bytes(), &n);
            store.commit(batch).await.expect("commits");
            let written =
                write(&store, &exports, at(n.into()), Most { files: 3, bytes: None }).expect("is written");
            assert_eq!(written.records, u64::from(n) + 2);
        }
        let left = list(&exports).expect("reads");
        assert_eq!(left.iter().map(|export| export.at).collect::<Vec<_>>(), [at(2), at(3), at(4)]);
        let mut names: Vec<_> =
            std::fs::read_dir(&exports).expect("reads").map(|e| e.expect("reads").file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 5, "what is not an export stays, and nothing half is left: {names:?}");
        let newest = File::open(&newest(&exports).expect("there is one").path).expect("opens");
        let lines = lines(BufReader::new(newest)).expect("unpacks");
        let copy = dir.path().join("copy");
        assert_eq!(transfer::import(&copy, lines, |_, _| Ok(())).await.expect("imports").records, 6);
    }

    #[test]
    fn together_they_are_not_larger_than_asked_for_and_the_newest_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("journal")).expect("opens");
        let exports = dir.path().join("exports");
        let at = |n: i64| Timestamp::from_second(1_764_040_500 + n * 86_400).expect("a time");
        let one = write(&store, &exports, at(0), Most { files: 9, bytes: None }).expect("is written").bytes;
        for n in 1..4 {
            write(&store, &exports, at(n), Most { files: 9, bytes: Some(one * 5 / 2) }).expect("is written");
        }
        assert_eq!(list(&exports).expect("reads").iter().map(|e| e.at).collect::<Vec<_>>(), [at(2), at(3)]);
        write(&store, &exports, at(4), Most { files: 9, bytes: Some(1) }).expect("is written");
        assert_eq!(list(&exports).expect("reads").iter().map(|e| e.at).collect::<Vec<_>>(), [at(4)]);
    }

    #[test]
    fn one_that_fails_leaves_nothing_and_removes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("journal")).expect("opens");
        let exports = dir.path().join("exports");
        let at = Timestamp::from_second(1_764_040_500).expect("a time");
        let one = Most { files: 1, bytes: None };
        write(&store, &exports, at, one).expect("is written");
        let reading = store.snapshot().expect("begins");
        let later = Timestamp::from_second(1_764_126_900).expect("a time");
        let error = write(&store, &exports, later, one).expect_err("one is under way");
        assert!(why(&error, &exports).contains("read as a whole already"), "{error}");
        drop(reading);
        assert_eq!(list(&exports).expect("reads").len(), 1);
        assert!(!exports.join(PART).exists());
    }
}
