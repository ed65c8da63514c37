//! Why Houston does not start on a state folder, for people: each refusal with the way back.
//!
//! Must not: change anything.

use std::io::ErrorKind;

use super::StartError;
use crate::holder::NotHeld;
use crate::store::{StoreError, home};
use crate::text::with_causes;

/// To whoever comes second.
const IN_USE: &str = "stop the other Houston, or give this one a folder of its own with `--state DIR`";

impl From<NotHeld> for StartError {
    fn from(error: NotHeld) -> Self {
        let started = Self::new(with_causes(&error));
        match error {
            NotHeld::ByAnother { .. } => started.hint(IN_USE),
            NotHeld::Io { source, .. } => match source.kind() {
                ErrorKind::Unsupported => started.hint("it has to be on a file system that knows locks"),
                kind => started.of_the_disk(kind),
            },
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        let started = Self::new(with_causes(&error));
        match error {
            StoreError::InUse(_) => started.hint(IN_USE),
            StoreError::Damaged { path, .. } => {
                Self { hints: home::way_back(path.parent().unwrap_or(&path)), ..started }
            }
            StoreError::Gone(state) => Self { hints: home::way_back(&state), ..started },
            StoreError::Foreign { .. } => {
                started.hint("`--state DIR` names a folder of Houston's own, or an empty one")
            }
            StoreError::Owner { owner, .. } => started
                .hint(format!("run it as that user: `sudo -u '#{owner}' houston …`"))
                .hint("or give the whole state folder to this one: `chown -R`"),
            StoreError::Version { .. } => {
                started.hint("start the version that wrote it; nothing was changed")
            }
            StoreError::Record { .. } => {
                started.hint("start the version that wrote it, or bring back an export that this one wrote")
            }
            StoreError::Io { source, .. } => started.of_the_disk(source.kind()),
            StoreError::Write(_) | StoreError::Read(_) => started,
        }
    }
}

impl StartError {
    fn of_the_disk(self, kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                self.hint("make room on that disk, and start again: nothing of it is lost")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                self.hint("Houston writes there all the time: the folder has to be writable for its user")
            }
            _ => self,
        }
    }
}
