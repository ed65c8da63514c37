//! restic on a host: the commands for it, and what it says. Its secrets go in over standard input.
//!
//! Must not: start anything (`exec` does), or rely on what only some versions of restic say without a second way:
//! Debian 12 has 0.14, and exit statuses 10 to 12 came with 0.17.

mod said;

pub use said::{Compared, Said, Shown, Snapshot, Summary};

use crate::exec::Command;
use crate::secret::Secret;
use crate::text::shquote;

macro_rules! script {
    ($name:literal) => {
        concat!(include_str!("restic/lib.sh"), include_str!($name))
    };
}
const RUN: &str = script!("restic/run.sh");
const LIST: &str = script!("restic/list.sh");
const SAVE_DUMP: &str = script!("restic/save-dump.sh");
const COMPARE: &str = script!("restic/compare.sh");
const COMPARE_DUMP: &str = script!("restic/compare-dump.sh");
const RESTORE: &str = script!("restic/restore.sh");
const RESTORE_DUMP: &str = script!("restic/restore-dump.sh");

/// Of a sample that is restored and compared.
const SAMPLE_FILES: u32 = 20;
const SAMPLE_BYTES: u64 = 256 * 1024 * 1024;

/// On every snapshot that Houston made.
const OURS: &str = "houston";

/// How a repository is reached.
pub struct Access {
    pub repository: String,
    pub password: Secret,
    /// Environment variables of restic.
    pub credentials: Vec<(String, Secret)>,
}

impl Access {
    /// Lines for a shell.
    fn input(&self) -> String {
        let mut lines = format!(
            "RESTIC_REPOSITORY={}\nRESTIC_PASSWORD={}\n",
            shquote(&self.repository),
            shquote(self.password.expose())
        );
        for (name, value) in &self.credentials {
            lines.push_str(&format!("{name}={}\n", shquote(value.expose())));
        }
        lines
    }

    fn script(&self, script: &str, words: impl IntoIterator<Item = String>) -> Command {
        let mut args = vec!["-c".to_owned(), script.to_owned(), "houston".to_owned()];
        args.extend(words);
        Command { program: "sh".to_owned(), args, stdin: Some(self.input()), timeout: None }
    }

    /// Runs restic with these words.
    pub fn run(&self, words: &[String]) -> Command {
        self.script(RUN, words.iter().cloned())
    }

    /// As [`Self::run`], for restic's lists of snapshots.
    pub fn list(&self, words: &[String]) -> Command {
        self.script(LIST, words.iter().cloned())
    }

    /// Runs a command and saves what it writes: restic with these words reads it.
    pub fn save_dump(&self, command: &[String], words: &[String]) -> Command {
        self.script(SAVE_DUMP, std::iter::once(shell(command)).chain(words.iter().cloned()))
    }

    /// Restores a sample of the newest snapshot's files, another one each `turn`, and compares it with what is there.
    pub fn compare(&self, of: &Of<'_>, turn: u64) -> Command {
        let numbers = [turn.to_string(), SAMPLE_FILES.to_string(), SAMPLE_BYTES.to_string()];
        self.script(COMPARE, std::iter::once(shell(&of.chosen())).chain(numbers))
    }

    /// Reads the newest snapshot of a dump back.
    pub fn compare_dump(&self, of: &Of<'_>) -> Command {
        self.script(COMPARE_DUMP, [shell(&of.chosen()), of.source.to_owned()])
    }

    /// Puts files of a snapshot in the place of others, or (not `forth`) puts those back. `word` is the same on each
    /// attempt. The pairs are paths in the snapshot and where they go.
    pub fn restore(&self, forth: bool, snapshot: &str, word: &str, pairs: &[(&String, &String)]) -> Command {
        let act = if forth { "do" } else { "undo" };
        let paths = pairs.iter().flat_map(|(from, to)| [(*from).clone(), (*to).clone()]);
        self.script(RESTORE, words([act, snapshot, word]).into_iter().chain(paths))
    }

    /// Feeds a dump to the command that takes it back.
    pub fn restore_dump(&self, snapshot: &str, name: &str, command: &[String]) -> Command {
        self.script(RESTORE_DUMP, [snapshot.to_owned(), name.to_owned(), shell(command)])
    }
}

/// Where [`Access::restore`] leaves what was there before.
pub fn before(path: &str, word: &str) -> String {
    format!("{path}.before-{word}")
}

/// Words as a shell reads them back.
fn shell(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| shquote(word)).collect();
    quoted.join(" ")
}

/// Whose snapshot it is: what is saved of one source of one environment belongs together, wherever it was saved.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    pub environment: &'a str,
    pub source: &'a str,
}

impl Of<'_> {
    fn tag(&self) -> String {
        format!("source={}", self.source)
    }
    /// Chooses its snapshots.
    fn chosen(&self) -> Vec<String> {
        vec!["--host".into(), self.environment.into(), "--tag".into(), format!("{OURS},{}", self.tag())]
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// `token` is found again among the tags.
fn backup(of: &Of<'_>, token: &str) -> Vec<String> {
    let mut all = words(["backup", "--json", "--host", of.environment]);
    for tag in [OURS, &of.tag(), &format!("by={token}")] {
        all.extend(words(["--tag", tag]));
    }
    all
}

/// Saves files and folders.
pub fn backup_paths(of: &Of<'_>, token: &str, paths: &[String], exclude: &[String]) -> Vec<String> {
    let mut all = backup(of, token);
    for pattern in exclude {
        all.extend(words(["--exclude", pattern]));
    }
    all.push("--".to_owned());
    all.extend_from_slice(paths);
    all
}

/// Saves what stands on standard input, as one file.
pub fn backup_input(of: &Of<'_>, token: &str) -> Vec<String> {
    let mut all = backup(of, token);
    all.extend(words(["--stdin", "--stdin-filename", of.source]));
    all
}

/// Snapshots of an environment, or of one of its sources.
pub fn snapshots(environment: &str, source: Option<&str>) -> Vec<String> {
    let mut all = words(["snapshots", "--json"]);
    match source {
        Some(source) => all.extend(Of { environment, source }.chosen()),
        None => all.extend(words(["--host", environment, "--tag", OURS])),
    }
    all
}

/// The snapshot that was made under this token.
pub fn snapshot_by(token: &str) -> Vec<String> {
    words(["snapshots", "--json", "--tag", &format!("by={token}")])
}

/// Forgets what is not to be kept; `dry` only says what that is.
pub fn forget(of: &Of<'_>, keep: crate::config::environment::Keep, dry: bool) -> Vec<String> {
    let mut all = words(["forget"]);
    all.extend(of.chosen());
    // One row of snapshots whatever paths it had: a source whose paths change is still one source.
    all.extend(words(["--group-by", ""]));
    for (flag, number) in
        [("--keep-daily", keep.daily), ("--keep-weekly", keep.weekly), ("--keep-monthly", keep.monthly)]
    {
        if number > 0 {
            all.extend([flag.to_owned(), number.to_string()]);
        }
    }
    if dry {
        all.push("--dry-run".to_owned());
    }
    all
}

pub fn prune() -> Vec<String> {
    words(["prune"])
}

/// Checks the repository, and reads this part of its data.
pub fn check(part: u32, of: u32) -> Vec<String> {
    words(["check", &format!("--read-data-subset={part}/{of}")])
}

pub fn init() -> Vec<String> {
    words(["init"])
}
