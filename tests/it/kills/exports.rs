//! The export of the night, with a Houston that is killed in the middle of it: a file is whole, or it is not there.

use std::path::Path;
use std::time::Duration;

use houston::store::{Batch, Store, Tree, exports};
use serde_json::json;

use super::stage::{Scene, Stage};
use crate::cli::run;

const NOTHING: Scene = Scene { services: &[], houston: "", prod: "", files: &[], old_runs: false };

/// So that an export takes its time.
const RECORDS: usize = 30_000;

/// Each life is longer than the last one by this.
const LONGER: Duration = Duration::from_millis(30);

fn fill(state: &Path) {
    let store = Store::open(&state.join("journal")).expect("the store opens");
    let now = houston::clock::Clock::system().now();
    for batch_of in 0..RECORDS / 1000 {
        let mut batch = Batch::new();
        for n in 0..1000 {
            batch.put(Tree::Ledger, format!("filler-{batch_of}-{n}").as_bytes(), &json!({"at": now}));
        }
        store.apply(batch).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_whole_or_not_there_wherever_houston_is_killed() {
    let mut stage = Stage::set(&NOTHING, Vec::new()).await;
    stage.stop().await;
    fill(&stage.state());
    let dir = exports::dir(&stage.state());
    std::fs::create_dir_all(&dir).expect("a folder");
    // Of long ago, so that one is due at once.
    std::fs::write(dir.join("houston-20200101T000000Z.jsonl.gz"), "").expect("written");
    let mut cut_off = 0;
    let mut life = Duration::ZERO;
    let written = loop {
        life += LONGER;
        assert!(life < Duration::from_secs(20), "no export was finished\n{}", stage.told());
        let mut houston = stage.serve().spawn().expect("the program starts");
        tokio::time::sleep(life).await;
        houston.kill().await.expect("killed");
        let found = exports::list(&dir).expect("readable");
        if found.len() > 1 {
            break found[1..].to_vec();
        }
        cut_off += u32::from(dir.join("houston.part").exists());
    };
    assert!(cut_off > 0, "it was never killed while it wrote");
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(!dir.join("houston.part").exists(), "what was cut off is gone");
    // Whole: a store can be made of it.
    let (fresh, file) = (stage.marks().join("fresh"), &written[0].path);
    let words = ["store", "--state", &fresh.display().to_string(), "import", &file.display().to_string()];
    let (code, said, error) = run(&words);
    assert_eq!(code, 0, "{said}{error}");
    let (_, stat, _) = run(&["store", "--state", &fresh.display().to_string(), "stat", "--json"]);
    let stat: serde_json::Value = serde_json::from_str(&stat).expect("JSON");
    assert!(stat["records"].as_u64() >= Some(RECORDS as u64), "{stat}");
    stage.strike().await;
}
