//! Damage to the files of the store: either everything that was acknowledged is there and right, or it is refused
//! by name. What was lost is never passed over.

use std::collections::BTreeMap;
use std::path::Path;

use houston::store::home;
use houston::store::{Batch, Store, StoreError, Tree};

/// What was acknowledged.
type Truth = BTreeMap<Vec<u8>, String>;

/// A store as months of work leave it: records that were written over, taken out, and some of every size.
async fn worked(dir: &Path) -> Truth {
    let store = Store::open(dir).expect("opens");
    let mut truth = Truth::new();
    for round in 0..1200_u32 {
        let mut batch = Batch::new();
        for n in 0..4_u32 {
            let key = ((round * 7919 + n * 104_729) % 900).to_be_bytes();
            if (round + n) % 11 == 0 {
                batch.delete(Tree::Events, &key);
                truth.remove(key.as_slice());
            } else {
                let text = format!("{round}/{n} {}", "x".repeat(((round * 31 + n * 17) % 700) as usize));
                batch.put(Tree::Events, &key, &text);
                truth.insert(key.to_vec(), text);
            }
        }
        store.commit(batch).await.expect("commits");
    }
    truth
}

/// What is in it now; or why it is refused, at the opening or while it is read.
fn read(dir: &Path) -> Result<Truth, StoreError> {
    let store = Store::open(dir)?;
    store.scan::<String>(Tree::Events, &[]).collect()
}

fn copied(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    super::bench::copy_folder(from, copy.path());
    copy
}

/// A generator of places, the same in every run.
struct Places(u64);

impl Places {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .expect("reads")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::metadata(&path).expect("is there").len()))
        .filter(|(_, length)| *length > 0)
        .collect();
    found.sort();
    found
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures are shown")]
async fn flipped_bytes_lose_nothing_in_silence() {
    let dir = tempfile::tempdir().expect("a folder");
    let truth = worked(dir.path()).await;
    assert_eq!(read(dir.path()).expect("opens"), truth);
    let mut places = Places(41);
    let (mut right, mut refused, mut wrong) = (0, 0, Vec::new());
    for trial in 0..200 {
        let copy = copied(dir.path());
        let files = files(copy.path());
        // Every file gets its share, and the database the half.
        let (path, length) = if trial % 2 == 0 {
            files.iter().find(|(path, _)| path.ends_with("db")).expect("is there")
        } else {
            &files[usize::try_from(places.below(files.len() as u64)).expect("small")]
        };
        let mut bytes = std::fs::read(path).expect("reads");
        let used = bytes.iter().rposition(|b| *b != 0).map_or(*length, |at| at as u64 + 1);
        let at = usize::try_from(places.below(used)).expect("small");
        bytes[at] ^= 1 << places.below(8);
        std::fs::write(path, &bytes).expect("writes");
        let what = format!("{} at {at}", path.file_name().expect("named").display());
        match read(copy.path()) {
            Ok(found) if found == truth => right += 1,
            Ok(found) => wrong.push(format!("{what}: {} records of {}", found.len(), truth.len())),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("{right} right, {refused} refused, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{right} right, {refused} refused, wrong: {wrong:#?}");
    assert!(right > 0 && refused > 0);
}

#[tokio::test]
async fn truncated_and_missing_files_lose_nothing_in_silence() {
    let dir = tempfile::tempdir().expect("a folder");
    let truth = worked(dir.path()).await;
    let mut refused = 0;
    for (path, length) in files(dir.path()) {
        for part in [None, Some(0), Some(length / 3), Some(length.saturating_sub(1))] {
            let copy = copied(dir.path());
            let path = copy.path().join(path.file_name().expect("named"));
            match part {
                None => std::fs::remove_file(&path).expect("is removed"),
                Some(part) => std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(part))
                    .expect("is cut"),
            }
            match read(copy.path()) {
                Ok(found) => assert_eq!(found, truth, "{} cut to {part:?}", path.display()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused >= 3, "the database itself cannot be done without");
}

fn refusal(dir: &Path) -> StoreError {
    match home::open(dir, |_| {}) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_database_that_is_gone_or_somebody_elses_is_not_begun_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path();
    drop(home::open(state, |_| {}).expect("a new one"));
    drop(home::open(state, |_| {}).expect("again"));
    let database = state.join("journal");

    std::fs::remove_file(database.join("db")).expect("is removed");
    let error = refusal(state);
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().ends_with("its file `db` is missing"), "{error}");
    assert!(!database.join("db").exists(), "nothing was made in its place");

    std::fs::remove_dir_all(&database).expect("is removed");
    std::fs::write(state.join("audit.jsonl"), "{}\n").expect("writes");
    let error = refusal(state);
    assert!(matches!(error, StoreError::Gone(_)), "{error}");
    assert!(!database.exists());

    std::fs::create_dir(&database).expect("a folder");
    std::fs::write(database.join("PG_VERSION"), "17\n").expect("writes");
    std::fs::remove_file(state.join("audit.jsonl")).expect("is removed");
    let error = refusal(state);
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&database).expect("reads").count(), 1, "nothing was put into it");
}

/// Only root may give a file away; without it there is nothing to see.
#[tokio::test]
async fn a_store_of_another_user_is_left_alone() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    drop(home::open(dir.path(), |_| {}).expect("a new one"));
    std::os::unix::fs::chown(dir.path().join("journal/db"), Some(10_001), None).expect("is given away");
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Owner { owner: 10_001, me: 0, .. }), "{error}");
}
