//! `backups:` of an environment file: where backups go, what is saved, and what is kept.
//!
//! Must not: hold a secret, or look at the repository.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::secret::SecretRef;
use crate::text;
use crate::yaml::{Key, Node};

/// Variables of restic's environment that are not given as credentials.
const RESERVED_ENVIRONMENT: &[&str] = &["RESTIC_PASSWORD", "RESTIC_REPOSITORY", "PATH", "HOME", "IFS", "ENV"];

/// How often all data of the repository is read, where nothing else is said.
pub const READ_ALL_IN_DAYS: u32 = 30;

/// One repository, and what goes there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backups {
    /// As restic takes it: `s3:https://…/bucket/prod`, a path, `sftp:…`.
    pub repository: String,
    pub password: SecretRef,
    /// What restic finds in its environment: `AWS_ACCESS_KEY_ID`, …
    pub credentials: BTreeMap<String, SecretRef>,
    /// Where restic runs for what is no source's own: pruning, checking. A name of `hosts`.
    pub host: String,
    pub keep: Keep,
    /// A check reads so much that after this many days all data was read.
    pub read_all_in_days: u32,
    /// In the order of the file.
    pub sources: Vec<Source>,
    #[serde(skip)]
    pub at: Location,
}

/// What `restic forget` keeps, of each source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Keep {
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { daily: 7, weekly: 4, monthly: 12 }
    }
}

/// Something that is saved and restored as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    pub name: String,
    /// Where it is: restic runs there. A name of `hosts`.
    pub host: String,
    pub what: What,
    #[serde(skip)]
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum What {
    /// Files and folders of the host.
    Paths {
        /// Absolute.
        paths: Vec<String>,
        /// Patterns, as `restic backup --exclude` takes them.
        exclude: Vec<String>,
    },
    /// What a command on the host writes to its standard output.
    Dump {
        command: Vec<String>,
        /// Takes it back, from its standard input. Absent: it is restored as a file.
        restore: Option<Vec<String>>,
    },
}

impl Backups {
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }
    /// For messages.
    pub fn names(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.name.as_str()).collect()
    }
}

pub(super) fn read(node: &Node, hosts: &[&str], found: &mut Diagnostics) -> Option<Backups> {
    let mut map = node.map(found)?;
    let repository =
        map.need("repository", "where backups go, as restic takes it: s3:https://…/bucket/prod", found);
    let repository = repository.and_then(|node| repository_text(node, found));
    let password =
        map.need("password", "of the repository: {file: PATH}, {env: NAME} or {command: […]}", found);
    let password = password.and_then(|node| node.secret(found));
    let credentials = map.take("credentials").map(|node| credentials(node, found)).unwrap_or_default();
    let host = map.take("host").and_then(|node| host(node, hosts, found));
    let keep = map.take("keep").map(|node| keep(node, found)).unwrap_or_default();
    let days = map.take("read_all_in_days").and_then(|node| node.integer(1..=3650, found));
    let sources_at = map.key_at("sources");
    let sources = map.need("sources", "what is saved: NAME: {paths: […]} or NAME: {dump: […]}", found);
    let entries = sources.and_then(|node| node.entries(found)).unwrap_or_default();
    let sources: Vec<Source> =
        entries.iter().filter_map(|(key, node)| source(key, node, host.as_deref(), hosts, found)).collect();
    map.finish(found);
    if let (true, Some(at)) = (entries.is_empty(), sources_at) {
        found.push(Diagnostic::error(at, "`sources` is empty: nothing would be saved"));
    }
    let host = host.or_else(|| sources.first().map(|source| source.host.clone()));
    Some(Backups {
        repository: repository?,
        password: password?,
        credentials,
        host: host?,
        keep,
        read_all_in_days: days.and_then(|n| u32::try_from(n).ok()).unwrap_or(READ_ALL_IN_DAYS),
        sources,
        at: node.at.clone(),
    })
}

fn repository_text(node: &Node, found: &mut Diagnostics) -> Option<String> {
    let repository = node.text(found)?.trim();
    // `rest:https://user:password@host`: it would stand in process lists and messages.
    let address = repository.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    if address.is_some_and(|host| host.rsplit_once('@').is_some_and(|(who, _)| who.contains(':'))) {
        found.push(
            Diagnostic::error(node.at.clone(), "the repository's address has a password in it")
                .confidential()
                .hint("give it under `credentials`: RESTIC_REST_PASSWORD: {file: PATH}"),
        );
        return None;
    }
    if repository.is_empty() || repository.starts_with('-') || repository.contains(char::is_whitespace) {
        found.push(
            node.expected("a repository as restic takes it")
                .hint("for example s3:https://s3.example.com/bucket/prod"),
        );
        return None;
    }
    Some(repository.to_owned())
}

fn credentials(node: &Node, found: &mut Diagnostics) -> BTreeMap<String, SecretRef> {
    let mut credentials = BTreeMap::new();
    for (key, node) in node.entries(found).unwrap_or_default() {
        let good = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let named = key.name.starts_with(|c: char| c.is_ascii_uppercase()) && key.name.chars().all(good);
        if !named || RESERVED_ENVIRONMENT.contains(&&*key.name) || key.name.starts_with("LD_") {
            found.push(
                Diagnostic::error(key.at.clone(), format!("`{}` cannot be set for restic", text::ellipsis(&key.name, 60)))
                    .hint("an environment variable in capitals, such as AWS_ACCESS_KEY_ID; the password has a key of its own"),
            );
        }
        if let Some(secret) = node.secret(found) {
            credentials.insert(key.name.to_string(), secret);
        }
    }
    credentials
}

fn host(node: &Node, hosts: &[&str], found: &mut Diagnostics) -> Option<String> {
    let name = node.text(found)?;
    if !hosts.contains(&name) {
        let finding =
            Diagnostic::error(node.at.clone(), format!("`{}` is not a host", text::ellipsis(name, 60)));
        found.push(match text::did_you_mean(name, hosts.iter().copied()) {
            Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
            None if hosts.is_empty() => finding.hint("declare it under `hosts`"),
            None => finding.hint(format!("hosts are {}", text::and_list(hosts))),
        });
    }
    Some(name.to_owned())
}

fn keep(node: &Node, found: &mut Diagnostics) -> Keep {
    let mut keep = Keep { daily: 0, weekly: 0, monthly: 0 };
    let Some(mut map) = node.map(found) else { return Keep::default() };
    let mut number = |name: &'static str, found: &mut Diagnostics| {
        let number = map.take(name).and_then(|node| node.integer(0..=10_000, found));
        number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    };
    keep.daily = number("daily", found);
    keep.weekly = number("weekly", found);
    keep.monthly = number("monthly", found);
    map.finish(found);
    if keep == (Keep { daily: 0, weekly: 0, monthly: 0 }) {
        found.push(
            Diagnostic::error(node.at.clone(), "`keep` keeps nothing")
                .hint("write keep: {daily: 7, weekly: 4, monthly: 12}, which is the default"),
        );
        return Keep::default();
    }
    keep
}

fn source(
    key: &Key,
    node: &Node,
    default_host: Option<&str>,
    hosts: &[&str],
    found: &mut Diagnostics,
) -> Option<Source> {
    super::read::check_name("source", &key.name, &key.at, found);
    let mut map = node.map(found)?;
    let host = map.take("host").and_then(|node| host(node, hosts, found));
    let paths = map.take("paths").map(|node| absolute(node, found));
    let exclude = map.take("exclude").and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    let dump = map.take("dump").map(|node| node.argv(found));
    let restore = map.take("restore").map(|node| (node.argv(found), node));
    map.finish(found);
    if host.is_none() && default_host.is_none() {
        found.push(
            Diagnostic::error(key.at.clone(), format!("on which host `{}` is saved is missing", key.name))
                .hint("write host: NAME there, or under `backups` for all sources"),
        );
    }
    let what = match (paths, dump) {
        (Some(paths), None) => {
            if let Some((_, node)) = restore {
                found.push(
                    Diagnostic::error(node.at.clone(), "`restore` goes with `dump`")
                        .hint("files are put back by restic itself"),
                );
            }
            let exclude = exclude.into_iter().map(|(pattern, _)| pattern).collect();
            What::Paths { paths: paths?, exclude }
        }
        (None, Some(dump)) => {
            if let Some((_, at)) = exclude.first() {
                found.push(
                    Diagnostic::error(at.clone(), "`exclude` goes with `paths`")
                        .hint("leave it out of the dump's command"),
                );
            }
            What::Dump { command: dump?, restore: restore.and_then(|(argv, _)| argv) }
        }
        _ => {
            found.push(
                Diagnostic::error(
                    key.at.clone(),
                    format!("`{}` needs exactly one of `paths` and `dump`", key.name),
                )
                .hint("paths: [/srv/uploads], or dump: [mongodump, --archive]"),
            );
            return None;
        }
    };
    let host = host.or_else(|| default_host.map(str::to_owned))?;
    Some(Source { name: key.name.to_string(), host, what, at: key.at.clone() })
}

/// Paths that are the same wherever a command is run, and are restored by name.
fn absolute(node: &Node, found: &mut Diagnostics) -> Option<Vec<String>> {
    let listed = node.one_or_more_texts(found)?;
    if listed.is_empty() {
        found.push(Diagnostic::error(node.at.clone(), "`paths` is empty"));
    }
    let mut paths = Vec::new();
    for (path, at) in listed {
        let whole = path.trim_end_matches('/');
        let plain = whole.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        if !whole.starts_with('/') || !plain || path.contains('\n') {
            found.push(
                Diagnostic::error(at, format!("`{}` is not a path to save", text::ellipsis(&path, 80)))
                    .hint("an absolute path without `..`, and not `/` itself"),
            );
            continue;
        }
        paths.push(whole.to_owned());
    }
    Some(paths)
}
