//! Backups from the room, with a real restic on a real sshd into a real S3 service: saved, thinned out, checked, and what
//! is said when something of that does not go well.
//!
//! Must not: leave a repository, or a job on the host, behind.

use std::path::{Path, PathBuf};

use houston::clock::Clock;

use crate::secrets::files;
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
    let report = [
        ":white_check_mark: *Backup of prod*",
        "`uploads`: 6 bytes in 2 files",
        "2 of 2 files restored and compared: the same",
        "`ledger`",
        "read back whole: the same",
        "all of its data read",
        "asked for by alice",
    ];
    let red = [
        ":red_circle: @all *Backup of prod*: failed",
        ":x: `uploads`",
        "does not exist; it was never saved before",
    ];
    t.expect("backups", &red).await;
    t.expect("backups", &report).await;
    t.say("alice", "ops", "!backup verify prod").await;
    t.ended("R-4", &[":white_check_mark: *R-4*", "check the repository"]).await;
    std::fs::write(bench.dir.path().join("uploads/two.txt"), "two and a half").expect("writes");
    t.say("alice", "ops", "!backup prod uploads").await;
    t.expect("backups", &["17 bytes in 2 files", "183 % larger than usual", "▃█", "the last 2 backups"])
        .await;
    t.ended("R-5", &[":white_check_mark: *R-5*"]).await;
    t.say("alice", "ops", "!backup prod uplaods").await;
    t.expect("ops", &["`prod` has no source `uplaods`", "did you mean `uploads`?"]).await;
    t.restart().await;
    // No secret is kept.
    let (key, secret) = (read(&bench.s3, "key"), read(&bench.s3, "secret"));
    for (file, bytes) in files(&t.state()) {
        for secret in ["correct-horse", &key, &secret] {
            assert!(!bytes.windows(secret.len()).any(|at| at == secret.as_bytes()), "{file} holds a secret");
        }
    }
    t.end().await;
}

impl Bench {
    fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.file(path)).unwrap_or_default()
    }
    /// With its repository made, and saved once.
    async fn saved(&self, sources: &str, setup: Setup) -> House {
        let t = House::with(Setup { prod: self.prod(sources), ..setup }).await;
        t.say("alice", "ops", "!backup init prod").await;
        t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
        t.say("alice", "ops", "!backup prod").await;
        t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
        t.expect("backups", &[":white_check_mark: *Backup of prod*"]).await;
        t
    }
    /// restic, as somebody who has the password.
    #[expect(clippy::disallowed_methods, reason = "it is another program that looks")]
    fn restic(&self, arguments: &[&str]) -> String {
        let out = std::process::Command::new("restic")
            .args(["-r", &format!("s3:{}/{}/prod", read(&self.s3, "url"), self.bucket)])
            .args(arguments)
            .env("RESTIC_PASSWORD", "correct-horse")
            .env("AWS_ACCESS_KEY_ID", read(&self.s3, "key"))
            .env("AWS_SECRET_ACCESS_KEY", read(&self.s3, "secret"))
            .output()
            .expect("restic is there");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_what_is_there_or_goes_elsewhere() {
    let Some(bench) = Bench::new() else { return };
    let ledger = format!(
        "    ledger:\n      dump: [sh, -c, \"seq 1 1000\"]\n      restore: [sh, -c, 'cat >{}/taken']\n",
        bench.dir.path().display()
    );
    // Staging has the same sources elsewhere.
    let prod = bench.prod(&ledger);
    let staging = prod.replace("/uploads]", "/copy]");
    let files = vec![("environments/staging.yaml", staging)];
    let t = bench.saved(&ledger, Setup { files, ..Setup::default() }).await;
    t.say("alice", "ops", "!backup list prod").await;
    let listed = t.expect("ops", &["*Backups of prod*", "`uploads`: 1 backup", "`ledger`: 1 backup"]).await;
    let short =
        listed.text.lines().find(|line| line.contains("UTC")).expect("a backup").split(' ').next().unwrap();
    // Where to is said, never guessed.
    t.say("alice", "ops", "!restore prod uploads").await;
    t.expect("ops", &["where `uploads` is restored to is not said", "--to ENV", "--in-place"]).await;
    t.say("alice", "ops", "!restore prod uploads ffffffff --in-place").await;
    t.expect("ops", &["there is no backup `ffffffff` of `uploads`", "the newest are", short]).await;
    std::fs::write(bench.file("uploads/two.txt"), "broken").expect("writes");
    t.say("alice", "ops", &format!("!restore prod uploads {short} --in-place")).await;
    t.ended("R-3", &[":white_check_mark: *R-3*", "restore `uploads` in place"]).await;
    assert_eq!(bench.text("uploads/two.txt"), "two");
    let before: Vec<String> = names(bench.dir.path(), "uploads.before-");
    assert_eq!(bench.text(&format!("{}/two.txt", before[0])), "broken", "{before:?}");
    t.say("alice", "ops", "!restore prod uploads --to staging").await;
    t.ended("R-4", &[":white_check_mark: *R-4*", "restore `uploads` to `staging`"]).await;
    assert_eq!((bench.text("copy/a/one.txt"), bench.text("uploads/two.txt")), ("one".into(), "two".into()));
    t.say("alice", "ops", "!restore prod ledger --in-place --dry-run").await;
    t.expect("ops", &["restore `ledger` in place", "cannot be undone"]).await;
    t.say("alice", "ops", "!restore prod ledger --in-place").await;
    t.ended("R-5", &[":white_check_mark: *R-5*"]).await;
    assert_eq!(bench.text("taken").lines().count(), 1000);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_elsewhere_takes_the_consent_of_there() {
    let Some(bench) = Bench::new() else { return };
    let staging = bench.prod("");
    let prod = staging.replace("approvals: {default: none}\n", "");
    let files = vec![("environments/staging.yaml", staging)];
    let t = House::with(Setup { prod, files, ..Setup::default() }).await;
    t.say("alice", "ops", "!backup init staging").await;
    t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
    t.say("alice", "ops", "!backup staging").await;
    t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
    t.expect("backups", &[":white_check_mark: *Backup of staging*"]).await;
    t.say("alice", "ops", "!restore staging uploads --to prod").await;
    let card = t.card().await;
    assert!(card.text.contains("lead"), "two of whom one lead, as prod says: {}", card.text);
    t.react("bob", &card, ":x:").await;
    t.until(&card, &["*denied* by bob"]).await;
    t.expect("ops", &["@bob why?"]).await;
    t.expect("ops", &["@alice", "denied"]).await;
    t.end().await;
}

/// What stands in a folder and begins so.
fn names(folder: &Path, begins: &str) -> Vec<String> {
    let found = std::fs::read_dir(folder).expect("reads").flatten();
    let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(begins) && !name.ends_with(".none")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_told_and_keeps_no_other_from_being_saved() {
    let Some(bench) = Bench::new() else { return };
    let t = House::with(Setup {
        prod: bench.prod(
            "    ledger: {dump: [sh, -c, \"seq 1 1000; exit 4\"]}\n    late: {paths: [/etc/hostname]}\n",
        ),
        ..Setup::default()
    })
    .await;
    t.say("alice", "ops", "!backup init prod").await;
    t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
    t.say("alice", "ops", "!backup prod").await;
    let words = ["*failed*", "the dump of `ledger`", "ended with status 4; nothing of it was saved"];
    t.ended("R-2", &words).await;
    t.expect(
        "backups",
        &[":red_circle: @all", ":white_check_mark: `uploads`", ":x: `ledger`", ":white_check_mark: `late`"],
    )
    .await;
    let listed = bench.restic(&["snapshots", "--json"]);
    assert!(listed.contains("source=late") && listed.contains("source=uploads"), "{listed}");
    assert!(!listed.contains("source=ledger"), "half a dump was saved: {listed}");
    assert_eq!(bench.restic(&["list", "locks", "-q", "--no-lock"]).trim(), "");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_repository_is_found_by_the_check() {
    let Some(bench) = Bench::new() else { return };
    let repository = bench.dir.path().join("repository");
    let prod = bench.prod("");
    let line = prod.lines().find(|line| line.contains("repository:")).expect("is there").to_owned();
    let prod = prod.replace(&line, &format!("  repository: {}", repository.display()));
    let t = House::with(Setup { prod, ..Setup::default() }).await;
    t.say("alice", "ops", "!backup init prod").await;
    t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
    t.say("alice", "ops", "!backup prod").await;
    t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
    t.expect("backups", &[":white_check_mark: *Backup of prod*"]).await;
    for folder in std::fs::read_dir(repository.join("data")).expect("reads").flatten() {
        for pack in std::fs::read_dir(folder.path()).expect("reads").flatten() {
            let mut bytes = std::fs::read(pack.path()).expect("reads");
            bytes[10] ^= 1;
            std::fs::remove_file(pack.path()).expect("removes it");
            std::fs::write(pack.path(), bytes).expect("writes");
        }
    }
    t.say("alice", "ops", "!backup verify prod").await;
    t.ended("R-3", &["*failed*", "is damaged", "Pack ID does not match"]).await;
    t.end().await;
}
