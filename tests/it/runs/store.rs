//! The store: what it has acknowledged is there after a kill, and what it cannot read it refuses by name.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use houston::store::{Batch, Store, StoreError, SyncPoint, Tree};

/// The folder in which this test binary is to write until it is killed, or to verify.
const WRITE: &str = "HOUSTON_TEST_STORE_WRITE";
const VERIFY: &str = "HOUSTON_TEST_STORE_VERIFY";

#[expect(clippy::disallowed_methods, reason = "the tests' own switches are no configuration of Houston")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn write(store: &Store, number: u64) {
    let mut batch = Batch::new();
    // Two trees in one batch, and a record that is written over again and again.
    batch.put(Tree::Events, &number.to_be_bytes(), &format!("event {number}"));
    batch.put(Tree::Runs, &number.to_be_bytes(), &number);
    batch.put(Tree::Meta, b"last", &number);
    store.commit(batch).await.expect("commits");
}

/// Records 0 to `acked` are all there, whole, and so is the last.
fn verify(store: &Store, acked: u64) {
    let last = store.get::<u64>(Tree::Meta, b"last").expect("reads").map_or(0, |last| last + 1);
    assert!(last >= acked, "{acked} were acknowledged, {last} are there");
    for number in 0..last {
        let key = number.to_be_bytes();
        let event = store.get::<String>(Tree::Events, &key).expect("reads");
        assert_eq!(event, Some(format!("event {number}")));
        assert_eq!(store.get::<u64>(Tree::Runs, &key).expect("reads"), Some(number));
    }
}

/// Not a test: what [`acknowledged_records_survive_a_kill_at_any_moment`] and the power-loss script start.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "its reader counts the acknowledgements")]
async fn child_that_writes_until_it_is_killed() {
    if let Some(dir) = variable(VERIFY) {
        let (dir, acked) = dir.rsplit_once('=').expect("DIR=ACKED");
        verify(&Store::open(Path::new(dir)).expect("opens"), acked.parse().expect("a number"));
        return;
    }
    let Some(dir) = variable(WRITE) else { return };
    let store = Store::open(Path::new(&dir)).expect("opens");
    let next = store.get::<u64>(Tree::Meta, b"last").expect("reads").map_or(0, |last| last + 1);
    for number in next.. {
        write(&store, number).await;
        println!("ACK {number}");
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test kills a process of its own")]
async fn acknowledged_records_survive_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acked = 0;
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "runs::store::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(WRITE, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        // Some rounds are over soon after the opening, others in the middle of writing.
        let enough = acked + 1 + round * 7;
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.split("ACK ").nth(1).and_then(|n| n.trim().parse::<u64>().ok()) {
                acked = number + 1;
                if acked >= enough {
                    break;
                }
            }
        }
        child.kill().expect("is killed");
        child.wait().expect("ends");
        let store = Store::open(dir.path()).expect("opens after a kill");
        verify(&store, acked);
    }
    assert!(acked >= 20);
}

#[tokio::test]
async fn commits_that_wait_at_the_same_time_share_syncs() {
    let dir = tempfile::tempdir().expect("a folder");
    let syncs = Arc::new(AtomicUsize::new(0));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let store = Store::open_watched(dir.path(), {
        let syncs = syncs.clone();
        move |point| {
            if point == SyncPoint::Before && syncs.fetch_add(1, Ordering::SeqCst) == 0 {
                // A slow device: the first sync takes until all the others have queued up.
                let _ = released.recv();
            }
        }
    })
    .expect("opens");
    let mut commits: Vec<_> = (0..200_u64)
        .map(|number| {
            let store = store.clone();
            Box::pin(async move { write(&store, number).await })
        })
        .collect();
    for commit in &mut commits {
        assert!(futures_util::poll!(commit).is_pending());
    }
    release.send(()).expect("the sync waits");
    futures_util::future::join_all(commits).await;
    let syncs = syncs.load(Ordering::SeqCst);
    assert!(syncs <= 2, "the first, and one for all who came meanwhile; {syncs}");
}

#[tokio::test]
async fn nobody_is_told_before_the_device_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let synced = Arc::new(AtomicUsize::new(0));
    let store = Store::open_watched(dir.path(), {
        let synced = synced.clone();
        move |point| {
            if point == SyncPoint::After {
                synced.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .expect("opens");
    for number in 0..20 {
        let before = synced.load(Ordering::SeqCst);
        write(&store, number).await;
        assert!(synced.load(Ordering::SeqCst) > before);
    }
}

fn refusal(dir: &Path) -> StoreError {
    match Store::open(dir) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_layout_of_another_version_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    let mut batch = Batch::new();
    batch.put(Tree::Meta, b"schema_version", &7);
    store.commit(batch).await.expect("commits");
    drop(store);
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Version { found: 7, .. }), "{error}");
    // Also where only the file beside it says so: then the database itself is not even opened.
    std::fs::write(dir.path().join("made"), "layout 7\n").expect("writes");
    std::fs::write(dir.path().join("db"), "another engine's").expect("writes");
    let before = files(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Version { found: 7, .. }), "{error}");
    assert_eq!(files(dir.path()), before, "nothing was touched");
    assert!(error.to_string().ends_with("has layout 7, this Houston knows layout 2"), "{error}");
}

/// Names and bytes of everything in a folder.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .expect("reads")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).expect("reads")))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_read_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    for number in 0..300 {
        let mut batch = Batch::new();
        batch.put(Tree::Events, &u64::to_be_bytes(number), &"x".repeat(500));
        store.apply(batch).expect("applies");
    }
    store.sync().await.expect("syncs");
    drop(store);
    let whole = std::fs::read(dir.path().join("db")).expect("reads");
    for (name, damage) in [
        ("noise from the beginning", (0, 4096)),
        ("noise in the middle", (whole.len() / 4, 64 * 1024)),
        ("noise everywhere", (0, whole.len())),
    ] {
        let copy = tempfile::tempdir().expect("a folder");
        super::bench::copy_folder(dir.path(), copy.path());
        let mut bytes = whole.clone();
        let end = (damage.0 + damage.1).min(bytes.len());
        for (index, byte) in bytes[damage.0..end].iter_mut().enumerate() {
            *byte ^= (index % 251) as u8 | 1;
        }
        std::fs::write(copy.path().join("db"), &bytes).expect("writes");
        match Store::open(copy.path()) {
            Ok(store) => {
                assert_ne!(name, "noise everywhere", "an empty database is no answer");
                let read = store.scan::<String>(Tree::Events, &[]).filter(Result::is_ok).count();
                assert!(read <= 300, "{name}");
            }
            Err(error @ (StoreError::Damaged { .. } | StoreError::Record { .. } | StoreError::Io { .. })) => {
                assert!(error.to_string().contains('`') || error.to_string().contains("record"), "{error}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_folder_that_is_none_is_refused_with_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("journal");
    std::fs::write(&file, b"not a folder").expect("writes");
    let error = refusal(&file);
    let text = error.to_string();
    assert!(text.contains("create the state folder") && text.contains("journal"), "{text}");
    let cause = std::error::Error::source(&error).expect("says why");
    assert!(cause.to_string().contains("exists"), "{cause}");
}

/// Needs root and e2fsprogs; simulates loss of power on a file system of its own.
#[test]
#[ignore = "needs root and takes minutes: `./test --long` runs it"]
#[expect(clippy::disallowed_methods, reason = "the test starts its own script")]
fn acknowledged_records_survive_loss_of_power() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let me = std::env::current_exe().expect("this binary");
    let output = Command::new(root.join("tests/parts/power-loss.sh"))
        .args(["20", "2", me.to_str().expect("is text")])
        .output()
        .expect("starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
