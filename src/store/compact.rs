//! Gives space back: sled's file never shrinks, so what is in it is written into a new folder, which takes the
//! place of the old one.
//!
//! The caller holds the state folder, so that of the two folders nobody has either meanwhile. A process that
//! dies at any point leaves one of three pictures, which [`settle`] brings to an end at the next start: the new
//! folder beside the old is thrown away, the new one without the old in place takes the place, and an old one that
//! was replaced is removed.
//!
//! Must not: open both for use, or remove the old one before the new one stands in its place on the device.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::wait_until_free;
use super::home::DATABASE;
use super::{Batch, Store, StoreError, stat};

/// Records that are written at once.
const AT_ONCE: usize = 1000;

/// When it is worth the while.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Smaller databases stay as they are.
    least: u64,
    /// On disk for each byte in records; two is usual.
    ratio: u64,
    /// In records, that are written within seconds: a start does not take longer for it.
    at_a_start: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { least: 64 * 1024 * 1024, ratio: 4, at_a_start: 64 * 1024 * 1024 }
    }
}

impl Sizes {
    /// Whatever it comes to: somebody asks for it.
    pub(super) const ANY: Self = Self { least: 0, ratio: 0, at_a_start: u64::MAX };

    pub fn are_worth_it(self, on_disk: u64, live: u64) -> bool {
        on_disk > live.saturating_mul(self.ratio).max(self.least)
    }

    /// By itself, before anybody is served: as far as was measured while Houston ran.
    pub fn are_worth_a_start(self, on_disk: u64, live: Option<u64>) -> bool {
        live.is_some_and(|live| live <= self.at_a_start && self.are_worth_it(on_disk, live))
    }
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenBack {
    pub before: u64,
    pub now: u64,
}

/// What has just been done; a test stops after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begun,
    Half,
    Filled,
    OldAside,
    NewInPlace,
    OldRemoved,
}

struct Places {
    state: PathBuf,
    database: PathBuf,
    new: PathBuf,
    old: PathBuf,
}

impl Places {
    fn of(state: &Path) -> Self {
        let beside = |end: &str| state.join(format!("{DATABASE}.{end}"));
        Self {
            state: state.to_owned(),
            database: state.join(DATABASE),
            new: beside("new"),
            old: beside("old"),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        std::fs::rename(from, to).map_err(failed("rename", from))?;
        File::open(&self.state).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.state))
    }

    fn remove(&self, what: &Path) -> Result<(), StoreError> {
        std::fs::remove_dir_all(what).map_err(failed("remove", what))?;
        File::open(&self.state).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.state))
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

/// Brings to its end, or takes back, what a process that died had begun.
pub(super) fn settle(state: &Path) -> Result<(), StoreError> {
    let at = Places::of(state);
    if !at.database.exists() && at.old.exists() {
        let from = if at.new.exists() { &at.new } else { &at.old };
        at.rename(from, &at.database)?;
    }
    for left in [&at.new, &at.old] {
        if at.database.exists() && left.exists() {
            at.remove(left)?;
        }
    }
    Ok(())
}

/// Writes everything anew, if that is worth the while. An error before anything was replaced leaves the old database as
/// it was.
pub(super) fn give_back(
    state: &Path,
    sizes: Sizes,
    done: &mut dyn FnMut(Step) -> Result<(), StoreError>,
) -> Result<Option<GivenBack>, StoreError> {
    let at = Places::of(state);
    let old = Store::open(&at.database)?;
    let before = stat::on_disk(&at.database);
    if !sizes.are_worth_it(before, stat::live_bytes(&old)?) {
        drop(old);
        wait_until_free(&at.database)?;
        return Ok(None);
    }
    if let Err(error) = fill(&old, &at.new, done) {
        drop(old);
        if at.new.exists() {
            at.remove(&at.new)?;
        }
        wait_until_free(&at.database)?;
        return Err(error);
    }
    drop(old);
    wait_until_free(&at.new)?;
    wait_until_free(&at.database)?;
    done(Step::Filled)?;
    at.rename(&at.database, &at.old)?;
    done(Step::OldAside)?;
    at.rename(&at.new, &at.database)?;
    done(Step::NewInPlace)?;
    at.remove(&at.old)?;
    done(Step::OldRemoved)?;
    let now = stat::on_disk(&at.database);
    tracing::info!("the database was written anew: {} kB instead of {} kB", now / 1000, before / 1000);
    Ok(Some(GivenBack { before, now }))
}

fn fill(
    old: &Store,
    dir: &Path,
    done: &mut dyn FnMut(Step) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let new = Store::open(dir)?;
    done(Step::Begun)?;
    let (mut batch, mut waiting) = (Batch::new(), 0);
    for raw in old.snapshot()? {
        batch.put_raw(&raw?);
        waiting += 1;
        if waiting == AT_ONCE {
            new.apply(std::mem::take(&mut batch))?;
            waiting = 0;
            done(Step::Half)?;
        }
    }
    new.apply(batch)?;
    new.sync_now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Raw, Tree, home};

    /// A state folder whose database was much larger once.
    fn shrunk() -> (tempfile::TempDir, Vec<Raw>) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = home::open(dir.path(), |_| {}).expect("opens");
        for n in 0..3000_u32 {
            let mut batch = Batch::new();
            batch.put(Tree::Events, &n.to_be_bytes(), &format!("{n}{}", "x".repeat(1000)));
            store.apply(batch).expect("applies");
        }
        for n in 0..3000_u32 {
            let mut batch = Batch::new();
            if n % 2 == 1 {
                batch.delete(Tree::Events, &n.to_be_bytes());
            } else {
                batch.put(Tree::Events, &n.to_be_bytes(), &n);
            }
            store.apply(batch).expect("applies");
        }
        store.sync_now().expect("syncs");
        let all = everything(&store);
        drop(store);
        (dir, all)
    }

    fn everything(store: &Store) -> Vec<Raw> {
        store.snapshot().expect("begins").collect::<Result<_, _>>().expect("reads")
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("reads").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_database_that_was_larger_is_written_anew_and_gives_the_space_back() {
        let (dir, all) = shrunk();
        let before = stat::on_disk(&dir.path().join(DATABASE));
        let told = give_back(dir.path(), Sizes::ANY, &mut |_| Ok(())).expect("is written anew");
        let now = stat::on_disk(&dir.path().join(DATABASE));
        assert!(now * 2 < before, "{now} of {before}");
        assert!(told.is_some_and(|told| told.now == now && told.before > now * 2), "{told:?}");
        assert_eq!(names(dir.path()), [DATABASE]);
        assert_eq!(everything(&home::open(dir.path(), |_| {}).expect("opens")), all);
    }

    #[test]
    fn one_that_is_full_or_small_stays_as_it_is() {
        let (dir, _) = shrunk();
        let untouched = |sizes| {
            let told = give_back(dir.path(), sizes, &mut |step| panic!("{step:?}"));
            assert_eq!(told.expect("nothing to do"), None);
        };
        untouched(Sizes::default());
        untouched(Sizes { ratio: 1_000_000, ..Sizes::ANY });
    }

    #[test]
    fn a_start_gives_back_what_is_known_to_take_no_time() {
        const MB: u64 = 1024 * 1024;
        let sizes = Sizes::default();
        assert!(sizes.are_worth_a_start(300 * MB, Some(10 * MB)));
        assert!(!sizes.are_worth_a_start(300 * MB, None), "to know it takes as long as to do it");
        assert!(!sizes.are_worth_a_start(300 * MB, Some(80 * MB)), "it is full");
        assert!(!sizes.are_worth_a_start(30 * MB, Some(1)), "it is small");
        assert!(!sizes.are_worth_a_start(3000 * MB, Some(100 * MB)), "people would wait for it");
        assert!(sizes.are_worth_it(3000 * MB, 100 * MB));
    }

    #[test]
    fn a_start_does_it_by_what_was_measured_before() {
        let (dir, all) = shrunk();
        let small = Sizes { least: 1, ratio: 2, at_a_start: u64::MAX };
        let before = stat::on_disk(&dir.path().join(DATABASE));
        let open = || home::open_sized(dir.path(), small, |_| {}).expect("opens");
        let store = open();
        assert!(stat::on_disk(store.path()) * 2 > before, "nobody has measured it");
        let measured = stat::measure(&store).expect("reads");
        assert!(measured * 2 < before, "{measured} of {before}");
        drop(store);
        let store = open();
        assert!(stat::on_disk(store.path()) * 2 < before);
        assert_eq!(everything(&store), all);
    }

    #[test]
    fn whatever_a_death_leaves_the_next_start_goes_on_with_one_whole_database() {
        let (dir, all) = shrunk();
        let steps =
            [Step::Begun, Step::Half, Step::Filled, Step::OldAside, Step::NewInPlace, Step::OldRemoved];
        for last in steps {
            let state = tempfile::tempdir().expect("a folder");
            copy(dir.path(), state.path());
            // Dies there: nothing after it is done, not even tidying up.
            let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                give_back(state.path(), Sizes::ANY, &mut |step| {
                    assert!(step != last, "dies");
                    Ok(())
                })
            }));
            assert!(died.is_err(), "{last:?} comes");
            let store = home::open(state.path(), |_| {}).expect("opens");
            assert_eq!(names(state.path()), [DATABASE], "{last:?}");
            assert_eq!(everything(&store), all, "{last:?}");
        }
    }

    #[test]
    fn without_room_for_the_new_one_the_old_one_goes_on() {
        let (dir, all) = shrunk();
        let full = |step| match step {
            Step::Half => Err(StoreError::Write("no space left on device".to_owned())),
            _ => Ok(()),
        };
        give_back(dir.path(), Sizes::ANY, &mut { full }).expect_err("there is no room");
        assert_eq!(names(dir.path()), [DATABASE]);
        assert_eq!(everything(&home::open(dir.path(), |_| {}).expect("opens")), all);
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("reads").flatten() {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).expect("copies");
            }
        }
    }
}
