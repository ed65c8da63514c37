//! Which files are in force: the operator's folder over the built-in defaults, whole file by whole file.
//!
//! Must not: parse them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::assets::{BUILT_IN, DEFAULTS, Source};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::digest::Digest;
use crate::text;
use crate::yaml::MAX_BYTES;

/// Folders of YAML files that are read.
const FOLDERS: &[&str] = &["environments", "commands", "playbooks"];
/// Templates of reports.
const REPORTS: &str = "prompts/reports";
/// More files in one folder than anybody keeps.
const MOST_FILES: usize = 2000;

/// Everything that `dir` holds, over the defaults; sorted by path, so that two loads see one order.
pub(super) fn collect(dir: &Path, found: &mut Diagnostics) -> Vec<Source> {
    let mut sources = Vec::new();
    let main = dir.join("houston.yaml");
    if main.exists() {
        sources.extend(read_file(dir, Path::new("houston.yaml"), found));
    } else {
        let hint = dir.join("houston.yml").exists().then_some("rename houston.yml to houston.yaml");
        found.push(no_main(hint));
    }
    let policies = Path::new(super::expectations::FILE);
    if dir.join(policies).exists() {
        sources.extend(read_file(dir, policies, found));
    }
    for folder in FOLDERS {
        for name in files_of(dir, folder, ".yaml", found) {
            sources.extend(read_file(dir, &Path::new(folder).join(name), found));
        }
    }
    for name in files_of(dir, REPORTS, ".j2", found) {
        sources.extend(read_file(dir, &Path::new(REPORTS).join(name), found));
    }
    look_for_strays(dir, found);
    over_defaults(sources)
}

/// Without it nothing else matters.
pub(super) fn no_main(hint: Option<&str>) -> Diagnostic {
    Diagnostic::error(None, "there is no `houston.yaml` in the configuration folder").hint(
        hint.unwrap_or(
            "the smallest one has `rocketchat` with url, user_id and token, and `access` with roles",
        ),
    )
}

/// `sources` with the defaults that they do not replace.
pub(super) fn over_defaults(mut sources: Vec<Source>) -> Vec<Source> {
    for asset in DEFAULTS {
        match sources.iter_mut().find(|source| source.path == Path::new(asset.path)) {
            Some(source) => source.overlays = true,
            None => sources.push(Source {
                path: Path::new(BUILT_IN).join(asset.path),
                bytes: asset.text.as_bytes().to_vec(),
                overlays: false,
            }),
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Over every file's name and bytes.
pub(super) fn revision(sources: &[Source]) -> Digest {
    let mut all = Vec::new();
    for source in sources {
        all.extend_from_slice(source.path.to_string_lossy().as_bytes());
        all.push(0);
        all.extend_from_slice(&(source.bytes.len() as u64).to_be_bytes());
        all.extend_from_slice(&source.bytes);
    }
    Digest::of(&all)
}

/// Those that end so, and what is said of the others.
fn files_of(dir: &Path, folder: &str, ending: &str, found: &mut Diagnostics) -> Vec<String> {
    let entries = match std::fs::read_dir(dir.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            found.push(Diagnostic::error(None, format!("cannot read the folder `{folder}`: {error}")));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries.filter_map(Result::ok).take(MOST_FILES) {
        let at = || Location::new(Path::new(folder).join(entry.file_name()), 1, 1);
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            found.push(Diagnostic::warning(at(), "not read: its name is not UTF-8"));
            continue;
        };
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if name.ends_with(ending) {
            names.push(name);
        } else if let Some(stem) = name.strip_suffix(".yml").filter(|_| ending == ".yaml") {
            found.push(
                Diagnostic::error(at(), "files end in .yaml; this one would not be read")
                    .hint(format!("rename it to {stem}.yaml")),
            );
        } else {
            found.push(Diagnostic::warning(at(), format!("not read: it does not end in {ending}")));
        }
    }
    names.sort();
    names
}

fn read_file(dir: &Path, path: &Path, found: &mut Diagnostics) -> Option<Source> {
    let at = Location::new(path, 1, 1);
    let refuse = |what: String| Some(Diagnostic::error(at, format!("cannot read this file: {what}")));
    let full = dir.join(path);
    let problem = match std::fs::metadata(&full) {
        // A pipe or a device would be waited for.
        Ok(metadata) if !metadata.is_file() => refuse("it is not a regular file".into()),
        Ok(_) => {
            let mut bytes = Vec::new();
            // One byte more than is allowed, so that the parser sees that it is too many.
            let limit = MAX_BYTES as u64 + 1;
            match std::fs::File::open(&full).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
                Ok(_) => return Some(Source { path: path.to_path_buf(), bytes, overlays: false }),
                Err(error) => refuse(error.to_string()),
            }
        }
        Err(error) => refuse(error.to_string()),
    };
    found.extend(problem.into_iter().fold(Diagnostics::new(), |mut all, finding| {
        all.push(finding.hint("Houston needs the right to read it"));
        all
    }));
    None
}

/// Folders and files with nearly the right name are silently without effect otherwise.
fn look_for_strays(dir: &Path, found: &mut Diagnostics) {
    let known = ["environments", "commands", "playbooks", "prompts"];
    let mut names: Vec<(String, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .take(MOST_FILES)
        .filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), entry.path())))
        .collect();
    names.sort();
    for (name, path) in names {
        let at = Location::new(name.as_str(), 1, 1);
        if path.is_dir() {
            if !known.contains(&name.as_str())
                && let Some(meant) = text::did_you_mean(&name, known)
            {
                found.push(
                    Diagnostic::warning(at, format!("the folder `{name}` is not read"))
                        .hint(format!("did you mean `{meant}`?")),
                );
            }
        } else if name.ends_with(".yaml") && !["houston.yaml", super::expectations::FILE].contains(&&*name) {
            let text = "not read: only houston.yaml and policies.yaml are, at the top of the folder";
            let finding = Diagnostic::warning(at, text);
            found.push(finding.hint("environments, commands and playbooks stand in folders of these names"));
        }
    }
}
