//! The defaults that are part of the binary, and the operator's folder over them, whole file by whole file.
//!
//! Must not: parse what it hands out.

use std::path::{Path, PathBuf};

/// A file of the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// With its folder: `commands/deploy.yaml`.
    pub path: &'static str,
    pub text: &'static str,
}

macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        &[$(Asset { path: $path, text: include_str!(concat!("../", $path)) }),*]
    };
}

/// Commands, playbooks and templates of reports that every installation has.
pub const DEFAULTS: &[Asset] = assets![
    "commands/backup.yaml",
    "commands/deploy.yaml",
    "commands/locks.yaml",
    "commands/look.yaml",
    "commands/maintenance.yaml",
    "commands/reload.yaml",
    "commands/rollback.yaml",
    "commands/runs.yaml",
    "commands/scale.yaml",
    "commands/schedules.yaml",
    "commands/talk.yaml",
    "playbooks/backup-init.yaml",
    "playbooks/backup-verify.yaml",
    "playbooks/backup.yaml",
    "playbooks/deploy.yaml",
    "playbooks/restore.yaml",
    "playbooks/rollback.yaml",
    "playbooks/scale.yaml",
    "prompts/reports/backup.j2",
];

/// The sample configuration that `houston demo` starts from; paths are relative to the folder.
pub const SAMPLE: &[Asset] = &[
    Asset { path: "houston.yaml", text: include_str!("../config/houston.yaml") },
    Asset { path: "environments/prod.yaml", text: include_str!("../config/environments/prod.yaml") },
    Asset { path: "environments/staging.yaml", text: include_str!("../config/environments/staging.yaml") },
];

/// Before the path of a default in places and in provenance: `built-in/commands/deploy.yaml`.
pub const BUILT_IN: &str = "built-in";

/// A file as it is in force, and where it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// For places: relative to the configuration folder, or beginning with [`BUILT_IN`].
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Whether it stands in the operator's folder in place of a default.
    pub overlays: bool,
}

/// The text of a default by the path that places show; `None` for the operator's own files.
pub fn built_in_text(path: &Path) -> Option<&'static str> {
    let path = path.strip_prefix(BUILT_IN).ok()?;
    DEFAULTS.iter().find(|asset| Path::new(asset.path) == path).map(|asset| asset.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(folder: &str, out: &mut Vec<String>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder of the repository") {
            let entry = entry.expect("an entry");
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { files_of(&path, out) } else { out.push(path) }
        }
        out.sort();
    }

    #[test]
    fn every_file_of_the_folders_is_embedded() {
        let mut files = Vec::new();
        files_of("commands", &mut files);
        files_of("playbooks", &mut files);
        files_of("prompts", &mut files);
        assert_eq!(DEFAULTS.iter().map(|asset| asset.path).collect::<Vec<_>>(), files);
        let mut sample = Vec::new();
        files_of("config", &mut sample);
        let mut embedded: Vec<String> = SAMPLE.iter().map(|asset| format!("config/{}", asset.path)).collect();
        embedded.sort();
        assert_eq!(embedded, sample);
    }

    #[test]
    fn places_in_defaults_lead_to_their_text() {
        let path = Path::new(BUILT_IN).join("playbooks/scale.yaml");
        assert!(built_in_text(&path).is_some_and(|text| text.contains("swarm_service")));
        assert_eq!(built_in_text(Path::new("playbooks/scale.yaml")), None);
    }
}
