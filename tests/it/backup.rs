//! Backups from the room, with a real restic on a real sshd into a real S3 service: saved, thinned out, checked, and what
//! is said when something of that does not go well.
//!
//! Must not: leave a repository, or a job on the host, behind.

use std::path::Path;

use houston::clock::Clock;

use crate::step_kinds::hosts;
use crate::support::house::{House, Setup};
use crate::support::parts;

/// What is saved, and a repository of its own.
struct Bench {
    dir: tempfile::TempDir,
    hosts: String,
    s3: std::path::PathBuf,
    bucket: String,
}

fn read(path: &Path, name: &str) -> String {
    std::fs::read_to_string(path.join(name)).expect("the part says it").trim().to_owned()
}

impl Bench {
    fn new() -> Option<Self> {
        let (hosts, s3) = (hosts()?, parts::s3()?);
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("uploads/a")).expect("makes it");
        for (file, text) in
            [("uploads/a/one.txt", "one"), ("uploads/two.txt", "two"), ("uploads/skip.tmp", "no")]
        {
            std::fs::write(dir.path().join(file), text).expect("writes");
        }
        let bucket = format!("test-{}", houston::ids::random_id().to_lowercase());
        Some(Self { dir, hosts, s3, bucket })
    }

    /// `prod` with these sources beside `uploads`.
    fn prod(&self, sources: &str) -> String {
        let (url, dir) = (read(&self.s3, "url"), self.dir.path().display());
        format!(
            "approvals: {{default: none}}\n{hosts}backups:\n  repository: s3:{url}/{bucket}/prod\n  \
             password: {{command: [echo, correct-horse]}}\n  credentials:\n    \
             AWS_ACCESS_KEY_ID: {{file: {s3}/key}}\n    AWS_SECRET_ACCESS_KEY: {{file: {s3}/secret}}\n  \
             host: node1\n  keep: {{daily: 2}}\n  read_all_in_days: 1\n  sources:\n    \
             uploads: {{paths: [{dir}/uploads], exclude: [\"*.tmp\"]}}\n{sources}",
            hosts = self.hosts,
            bucket = self.bucket,
            s3 = self.s3.display(),
        )
    }

    async fn house(&self, sources: &str) -> House {
        House::with(Setup { prod: self.prod(sources), clock: Clock::system(), ..Setup::default() }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_environment_declares_is_saved_thinned_out_and_checked() {
    let Some(bench) = Bench::new() else { return };
    let dump = "    ledger: {dump: [sh, -c, \"seq 1 1000\"]}\n";
    let mut t = bench.house(dump).await;
    // A repository is made once, by somebody who says so: a wrong address makes none.
    t.say("alice", "ops", "!backup prod").await;
    t.ended("R-1", &[":x: *R-1*", "the bucket of", "does not exist", "!backup init prod"]).await;
    t.say("alice", "ops", "!backup init prod").await;
    t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
    t.say("alice", "ops", "!backup prod").await;
    let card = t.ended("R-3", &[":white_check_mark: *R-3*", "save `uploads`", "save `ledger`"]).await;
    assert!(!card.text.contains("correct-horse"));
    t.say("alice", "ops", "!backup verify prod").await;
    t.ended("R-4", &[":white_check_mark: *R-4*", "check the repository"]).await;
    t.say("alice", "ops", "!backup prod uplaods").await;
    t.expect("ops", &["`prod` has no source `uplaods`", "did you mean `uploads`?"]).await;
    t.restart().await;
    t.end().await;
}
