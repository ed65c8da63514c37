//! What stands in a lease: who holds it, and what that one has under way; and the note in the state folder by which
//! a Houston knows its own lease again.
//!
//! Must not: hold a secret: whoever may look into the register reads it.

use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::holder::Process;
use crate::ids::{MessageId, RoomId, RunId};

/// Below the state folder: the terms that a process on this folder had.
pub const FILE: &str = "lease";

/// The present one and the one before: the note is made before the lease is.
const TERMS_KEPT: usize = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub holder: Process,
    /// Of the state folder that the holder has locked; a copy of the folder has another.
    pub folder: String,
    pub instance: String,
    /// The same as long as one process holds it without a gap.
    pub term: String,
    /// Another with each write.
    pub write: String,
    pub milliseconds: u64,
    /// Since when, by the holder's clock, it takes no more commands. It is free then.
    pub released: Option<Timestamp>,
    pub at_work: Vec<AtWork>,
    /// The messages that runs were begun for lately: whoever takes over need not ask about them.
    pub obeyed: Vec<MessageId>,
}

/// A run that is not done, for people: only its own Houston knows more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtWork {
    pub run: RunId,
    pub command: String,
    pub environment: Option<String>,
    /// The command's own message.
    pub cause: MessageId,
    /// Whether anything of it may have been done.
    pub begun: bool,
    pub room: RoomId,
    /// Where it is talked about.
    pub thread: MessageId,
}

/// The terms that the folder knows as its own.
pub fn remembered(file: &Path) -> Vec<String> {
    let read = std::fs::read_to_string(file).unwrap_or_default();
    read.lines().map(str::to_owned).collect()
}

/// Notes a term as the folder's own.
pub fn remember(file: &Path, term: &str) -> io::Result<()> {
    let mut terms = remembered(file);
    if terms.iter().any(|known| known == term) {
        return Ok(());
    }
    terms.push(term.to_owned());
    let old = terms.len().saturating_sub(TERMS_KEPT);
    let new = file.with_extension("new");
    let mut written = std::fs::File::create(&new)?;
    written.write_all(format!("{}\n", terms[old..].join("\n")).as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&new, file)
}
