//! The state folder around the database: what else has to be there, and that a database that is gone is not begun
//! anew. Whoever opens it holds the folder.
//!
//! Must not: bring anything back by itself. What an export lacks is for people to know before Houston goes on.

use std::io;
use std::path::{Path, PathBuf};

use super::compact::{self, GivenBack, Sizes};
use super::{Store, StoreError, SyncPoint};
use super::{exports, stat};

/// The name of the database's folder.
pub const DATABASE: &str = "journal";

/// Files of a state folder by the beginnings of their names.
const OURS: &[&str] =
    &[DATABASE, "audit", "transcripts", "exports", "ssh", "admin.sock", "page.key", "ballast", "holder"];

/// Refuses a folder that belongs to something else: it would be filled, and closed to everybody else.
pub fn is_free_or_ours(state: &Path) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::Io { what: "read", path: state.to_owned(), source }),
    };
    let mut foreign = None;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if OURS.iter().any(|ours| name.starts_with(ours)) {
            return Ok(());
        }
        if name != "lost+found" && !name.starts_with('.') {
            foreign = Some(name);
        }
    }
    match foreign {
        Some(found) => Err(StoreError::Foreign { path: state.to_owned(), found }),
        None => Ok(()),
    }
}

/// Opens the database of a state folder, or makes it where nothing was done yet. Blocking.
pub fn open(state: &Path, watch: impl Fn(SyncPoint) + Send + 'static) -> Result<Store, StoreError> {
    open_sized(state, Sizes::default(), watch)
}

pub(super) fn open_sized(
    state: &Path,
    sizes: Sizes,
    watch: impl Fn(SyncPoint) + Send + 'static,
) -> Result<Store, StoreError> {
    compact::settle(state)?;
    let dir = state.join(DATABASE);
    if !dir.join("db").exists() && !dir.join("made").exists() && was_used(state) {
        return Err(StoreError::Gone(state.to_owned()));
    }
    if dir.join("db").exists() && sizes.are_worth_a_start(stat::on_disk(&dir), stat::measured(&dir)) {
        match compact::give_back(state, sizes, &mut |_| Ok(())) {
            // Without room for a second one the first goes on as it is.
            Err(error @ (StoreError::Write(_) | StoreError::Io { .. } | StoreError::Read(_))) => {
                tracing::warn!("the database was not written anew, and stays as large as it is: {error}");
            }
            given_back => drop(given_back?),
        }
    }
    Store::open_watched(&dir, watch)
}

/// Gives back all the space that the database of a state folder takes beyond what is in it. Blocking; nobody may have it
/// open.
pub fn give_back(state: &Path) -> Result<Option<GivenBack>, StoreError> {
    compact::settle(state)?;
    if !state.join(DATABASE).join("db").exists() {
        return Ok(None);
    }
    compact::give_back(state, Sizes::ANY, &mut |_| Ok(()))
}

/// The audit log is begun after the database, and exports are made of it.
fn was_used(state: &Path) -> bool {
    let audited = std::fs::metadata(state.join("audit.jsonl")).is_ok_and(|found| found.len() > 0);
    audited || exports::newest(&exports::dir(state)).is_some()
}

/// What to type when the database of this folder cannot be used.
pub fn way_back(state: &Path) -> Vec<String> {
    let mut hints = Vec::new();
    let database = state.join(DATABASE);
    match exports::newest(&exports::dir(state)) {
        Some(export) => {
            if database.exists() {
                let aside = aside(&database);
                hints.push(format!("set it aside: `mv {} {}`", shell(&database), shell(&aside)));
            }
            hints.push(format!(
                "bring back the newest export, of {}: `houston store --state {} import {}`; it lists what the audit log knows beyond it",
                export.at.strftime("%F %H:%MZ"),
                shell(state),
                shell(&export.path)
            ));
        }
        None => {
            hints.push(format!(
                "there is no export in `{}`: unpack a backup of the whole folder, or `houston store import` an export that is kept elsewhere",
                exports::dir(state).display()
            ));
            hints.push(format!(
                "to begin with nothing: `mv {} {}`; the audit log in it is plain text",
                shell(state),
                shell(&aside(state))
            ));
        }
    }
    hints
}

/// A name beside it that is free.
fn aside(path: &Path) -> PathBuf {
    let name = |n: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push("-aside");
        if n > 1 {
            name.push(format!("-{n}"));
        }
        path.with_file_name(name)
    };
    (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1))
}

/// As it is typed.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_something_elses_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(is_free_or_ours(&dir.path().join("none")).is_ok());
        assert!(is_free_or_ours(dir.path()).is_ok(), "an empty one");
        std::fs::create_dir(dir.path().join("lost+found")).expect("a folder");
        assert!(is_free_or_ours(dir.path()).is_ok(), "a new file system");
        std::fs::write(dir.path().join("passwd"), "").expect("writes");
        let error = is_free_or_ours(dir.path()).expect_err("is refused");
        assert!(error.to_string().ends_with("it holds `passwd`"), "{error}");
        std::fs::write(dir.path().join("audit.jsonl"), "").expect("writes");
        assert!(is_free_or_ours(dir.path()).is_ok());
    }

    #[test]
    fn what_is_to_be_typed_can_be() {
        assert_eq!(shell(Path::new("/var/lib/houston")), "/var/lib/houston");
        assert_eq!(shell(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
