//! Reads `commands/*.yaml`: a mapping from command names to what they are.
//!
//! Must not: know whether environments or playbooks exist; `config::whole` compares.

use std::time::Duration;

use crate::command::{Action, Argument, ArgumentKind, CommandSpec};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::text;
use crate::yaml::{Key, Map, Node, Value};

/// The names that `builtin:` takes: the code in `chat/builtin/`.
pub const BUILTINS: &[&str] = &[
    "help",
    "ping",
    "whoami",
    "can",
    "status",
    "runs",
    "show",
    "logs",
    "audit",
    "locks",
    "approve",
    "deny",
    "withdraw",
    "cancel",
    "retry",
    "resolve",
    "abandon",
    "backup_list",
    "lock",
    "unlock",
    "freeze",
    "unfreeze",
    "maintenance",
    "call_off",
    "review",
    "reload",
    "schedules",
    "schedule_run",
    "schedule_pause",
    "schedule_resume",
    "schedule_allow",
    "schedule_revoke",
];

/// Slash words that Rocket.Chat 8 answers itself or that its own apps commonly take: it never sends them on.
pub const SLASH_WORDS: &[&str] = &[
    "archive",
    "create",
    "gimme",
    "help",
    "hide",
    "invite",
    "invite-all-from",
    "invite-all-to",
    "join",
    "kick",
    "leave",
    "lennyface",
    "me",
    "msg",
    "mute",
    "part",
    "shrug",
    "status",
    "tableflip",
    "topic",
    "unarchive",
    "unflip",
    "unmute",
];

/// Types of arguments as files name them; `[a, b]` is one of these words.
pub const TYPES: &[&str] = &[
    "environment",
    "service",
    "target",
    "version",
    "integer",
    "duration",
    "run",
    "user",
    "text",
    "rest",
    "switch",
];

/// Flags that every command that changes something has: `bind` takes them, no file declares them.
pub const AUTOMATIC_FLAGS: &[&str] = &["dry-run", "reason", "break-glass"];

/// All commands of a file, those with mistakes left out.
pub fn read(root: &Node, found: &mut Diagnostics) -> Vec<CommandSpec> {
    let entries = root.entries(found).unwrap_or_default();
    entries.iter().filter_map(|(key, node)| command(key, node, found)).collect()
}

fn command(key: &Key, node: &Node, found: &mut Diagnostics) -> Option<CommandSpec> {
    check_name(&key.name, &key.at, found);
    let mut map = node.map(found)?;
    let summary = map.need("summary", "one sentence for the list of commands", found);
    let summary = summary.and_then(|node| node.text(found)).unwrap_or_default().trim().to_owned();
    let details = map.take("details").and_then(|node| Some(node.text(found)?.trim().to_owned()));
    let aliases = map.take("aliases").and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    for (alias, at) in &aliases {
        check_name(alias, at, found);
    }
    let examples = map.take("examples").and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    let names: Vec<&str> =
        std::iter::once(&*key.name).chain(aliases.iter().map(|(a, _)| a.as_str())).collect();
    for (example, at) in &examples {
        let shows = names.iter().any(|name| {
            example.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        if !shows {
            found.push(
                Diagnostic::error(
                    at.clone(),
                    format!("the example `{example}` does not begin with `{}`", key.name),
                )
                .hint("write it as one would type it, without `!` or `/`"),
            );
        }
    }
    let action = action(&mut map, key, found);
    let changes = map.take("changes").map(|node| (node.boolean(found), node));
    let by_playbook = matches!(action, Some(Action::Playbook(_)));
    if let (true, Some((Some(false), node))) = (by_playbook, &changes) {
        found.push(
            Diagnostic::error(
                node.at.clone(),
                "a command with a playbook always counts as changing something",
            )
            .hint("remove `changes`"),
        );
    }
    let arguments = arguments(map.take("arguments"), Place::Positional, found);
    let flags = arguments_of_flags(map.take("flags"), found);
    map.finish(found);
    check_order(&arguments, found);
    check_names(&arguments, &flags, by_playbook, found);
    check_services(&arguments, &flags, found);
    Some(CommandSpec {
        name: key.name.to_string(),
        aliases: aliases.into_iter().map(|(alias, _)| alias).collect(),
        summary,
        details,
        examples: examples.into_iter().map(|(example, _)| example).collect(),
        changes: by_playbook || matches!(changes, Some((Some(true), _))),
        action: action?,
        arguments,
        flags,
        at: key.at.clone(),
    })
}

fn check_name(name: &str, at: &Location, found: &mut Diagnostics) {
    let words: Vec<&str> = name.split(' ').collect();
    let good = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if words.len() > 2 || !words.iter().all(good) {
        found.push(
            Diagnostic::error(
                at.clone(),
                format!("`{}` is not a name for a command", text::ellipsis(name, 60)),
            )
            .hint("one or two words of lower-case letters, digits and `-`"),
        );
    }
}

fn action(map: &mut Map<'_>, key: &Key, found: &mut Diagnostics) -> Option<Action> {
    let (builtin, playbook) = (map.take("builtin"), map.take("playbook"));
    match (builtin, playbook) {
        (Some(node), None) => {
            let name = node.text(found)?;
            if !BUILTINS.contains(&name) {
                let finding = Diagnostic::error(node.at.clone(), format!("`{name}` is not built in"));
                found.push(match text::did_you_mean(name, BUILTINS.iter().copied()) {
                    Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                    None => finding.hint("name a playbook instead: playbook: NAME"),
                });
                return None;
            }
            Some(Action::Builtin(name.to_owned()))
        }
        (None, Some(node)) => Some(Action::Playbook(node.text(found)?.to_owned())),
        _ => {
            found.push(
                Diagnostic::error(
                    key.at.clone(),
                    format!("`{}` needs exactly one of `playbook` and `builtin`", key.name),
                )
                .hint("playbook: NAME names a file of playbooks/ without its .yaml"),
            );
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Positional,
    Flag,
}

fn arguments_of_flags(node: Option<&Node>, found: &mut Diagnostics) -> Vec<Argument> {
    arguments(node, Place::Flag, found)
}

fn arguments(node: Option<&Node>, place: Place, found: &mut Diagnostics) -> Vec<Argument> {
    let entries = node.and_then(|node| node.entries(found)).unwrap_or_default();
    entries.iter().filter_map(|(key, node)| argument(key, node, place, found)).collect()
}

fn argument(key: &Key, node: &Node, place: Place, found: &mut Diagnostics) -> Option<Argument> {
    check_name(&key.name, &key.at, found);
    let mut map = node.map(found)?;
    let hint = format!("type: one of {}, or a list of words", text::or_list(TYPES));
    let kind = map.need("type", &hint, found).and_then(|node| kind(node, &mut map, found));
    let doc = map.need("doc", "a few words for help and for the question when it is missing", found);
    let doc = doc.and_then(|node| node.text(found)).unwrap_or_default().trim().to_owned();
    let default_node = map.take("default");
    let default = default_node.and_then(|node| node.scalar(found));
    let required = map.take("required").map(|node| (node.boolean(found), node));
    map.finish(found);
    if let (Some((Some(true), node)), true) = (&required, default.is_some()) {
        found.push(
            Diagnostic::error(node.at.clone(), format!("`{}` is required and has a default", key.name))
                .hint("remove one of the two"),
        );
    }
    let kind = kind?;
    if let (Some(default), Some(node)) = (&default, default_node)
        && let Some(problem) = misfit(default, &kind)
    {
        found.push(Diagnostic::error(node.at.clone(), format!("the default `{default}` {problem}")));
    }
    if kind == ArgumentKind::Switch && (place == Place::Positional || default.is_some()) {
        found.push(
            Diagnostic::error(
                key.at.clone(),
                format!("`{}` is a switch: a flag without value or default", key.name),
            )
            .hint("switches stand under `flags`, and are off when not typed"),
        );
    }
    if kind == ArgumentKind::Rest && place == Place::Flag {
        found.push(
            Diagnostic::error(key.at.clone(), "a flag cannot take all that follows")
                .hint("use type: text; quotes group words"),
        );
    }
    let needed_by_nature = place == Place::Positional && default.is_none();
    let required = required.and_then(|(required, _)| required).unwrap_or(needed_by_nature);
    Some(Argument { name: key.name.to_string(), kind, required, default, doc, at: key.at.clone() })
}

fn kind(node: &Node, map: &mut Map<'_>, found: &mut Diagnostics) -> Option<ArgumentKind> {
    let (min, max) = (map.take("min"), map.take("max"));
    if let Value::List(_) = node.value {
        let words: Vec<String> = node.texts(found)?.into_iter().map(|(word, _)| word).collect();
        if words.is_empty() {
            found.push(Diagnostic::error(node.at.clone(), "a choice needs at least one word"));
        }
        refuse_limits(&[min, max], found);
        return Some(ArgumentKind::Enum(words));
    }
    let kinds: Vec<(&str, &str)> = TYPES.iter().map(|name| (*name, *name)).collect();
    let name = node.choice(&kinds, found)?;
    let limits_ordered = |ordered: bool, found: &mut Diagnostics| {
        if let (false, Some(min)) = (ordered, min) {
            found.push(Diagnostic::error(min.at.clone(), "`min` is more than `max`"));
        }
    };
    Some(match name {
        "integer" => {
            let limit = |node: Option<&Node>, none: i64, found: &mut Diagnostics| {
                node.and_then(|node| node.integer(i64::MIN..=i64::MAX, found)).unwrap_or(none)
            };
            let (min, max) = (limit(min, 0, found), limit(max, i64::MAX, found));
            limits_ordered(min <= max, found);
            ArgumentKind::Integer { min, max }
        }
        "duration" => {
            let any = Duration::ZERO..=Duration::from_secs(366 * 86_400);
            let min = min.and_then(|node| node.duration(any.clone(), found));
            let max = max.and_then(|node| node.duration(any, found));
            limits_ordered(min.zip(max).is_none_or(|(min, max)| min <= max), found);
            ArgumentKind::Duration { min, max }
        }
        other => {
            refuse_limits(&[min, max], found);
            match other {
                "environment" => ArgumentKind::Environment,
                "service" => ArgumentKind::Service,
                "target" => ArgumentKind::Target,
                "version" => ArgumentKind::Version,
                "run" => ArgumentKind::Run,
                "user" => ArgumentKind::User,
                "rest" => ArgumentKind::Rest,
                "switch" => ArgumentKind::Switch,
                _ => ArgumentKind::Text,
            }
        }
    })
}

fn refuse_limits(limits: &[Option<&Node>], found: &mut Diagnostics) {
    for node in limits.iter().flatten() {
        found.push(
            Diagnostic::error(
                node.at.clone(),
                format!("`{}` goes with `integer` and `duration` only", node.label),
            )
            .hint("remove it"),
        );
    }
}

/// Why a default cannot be typed for its argument.
fn misfit(default: &str, kind: &ArgumentKind) -> Option<String> {
    match kind {
        ArgumentKind::Integer { min, max } => match default.parse::<i64>() {
            Ok(n) if (*min..=*max).contains(&n) => None,
            Ok(_) => Some(format!("is not from {min} to {max}")),
            Err(_) => Some("is not a whole number".into()),
        },
        ArgumentKind::Duration { min, max } => match text::parse_duration(default) {
            Some(d) if min.is_none_or(|min| d >= min) && max.is_none_or(|max| d <= max) => None,
            Some(_) => Some("is out of its limits".into()),
            None => Some("is not a duration such as 30s or 10m".into()),
        },
        ArgumentKind::Enum(words) if !words.iter().any(|word| word == default) => {
            Some(format!("is not {}", text::or_list(words)))
        }
        ArgumentKind::Run => {
            default.parse::<crate::ids::RunId>().is_err().then(|| "is not a run such as R-41".into())
        }
        ArgumentKind::Version => {
            (!crate::command::is_version(default)).then(|| "is not a tag or digest".into())
        }
        _ => None,
    }
}

/// What may be left out stands last, and what takes everything stands at the very end.
fn check_order(arguments: &[Argument], found: &mut Diagnostics) {
    let mut optional: Option<&Argument> = None;
    for (index, argument) in arguments.iter().enumerate() {
        match optional {
            Some(before) if argument.required => found.push(
                Diagnostic::error(
                    argument.at.clone(),
                    format!("`{}` is required and follows `{}`, which is not", argument.name, before.name),
                )
                .hint("put it first, or set required: false"),
            ),
            None if !argument.required => optional = Some(argument),
            _ => {}
        }
        if argument.kind == ArgumentKind::Rest && index + 1 < arguments.len() {
            found.push(
                Diagnostic::error(
                    argument.at.clone(),
                    format!("nothing can follow `{}`, which takes all the rest", argument.name),
                )
                .hint("put it last, or use type: text"),
            );
        }
    }
}

fn check_names(arguments: &[Argument], flags: &[Argument], by_playbook: bool, found: &mut Diagnostics) {
    for flag in flags {
        if let Some(first) = arguments.iter().find(|argument| argument.name == flag.name) {
            found.push(
                Diagnostic::error(
                    flag.at.clone(),
                    format!("`{}` is already an argument, on line {}", flag.name, first.at.line),
                )
                .hint("every argument can also be given as --name; remove the flag"),
            );
        }
    }
    for argument in arguments.iter().chain(flags) {
        if by_playbook && AUTOMATIC_FLAGS.contains(&argument.name.as_str()) {
            found.push(
                Diagnostic::error(argument.at.clone(), format!("`{}` is there by itself", argument.name))
                    .hint(
                        "commands with a playbook take --dry-run, --reason and --break-glass; remove it here",
                    ),
            );
        }
    }
}

/// A service is one of an environment that another argument names.
fn check_services(arguments: &[Argument], flags: &[Argument], found: &mut Diagnostics) {
    let all = || arguments.iter().chain(flags);
    let has_environment = all().any(|argument| argument.kind == ArgumentKind::Environment);
    let service = all().find(|argument| argument.kind == ArgumentKind::Service);
    if let (Some(service), false) = (service, has_environment) {
        found.push(
            Diagnostic::error(
                service.at.clone(),
                format!("`{}` is a service, and no argument says of which environment", service.name),
            )
            .hint("add environment: {type: environment, doc: where} before it"),
        );
    }
    let before = |argument: &&Argument| argument.kind == ArgumentKind::Environment;
    if let (Some(service), Some(environment)) = (
        arguments.iter().position(|argument| argument.kind == ArgumentKind::Service),
        arguments.iter().position(|argument| before(&argument)),
    ) && service < environment
    {
        found.push(
            Diagnostic::error(arguments[service].at.clone(), "a service stands before its environment")
                .hint("put the environment first: people type `deploy prod web`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<CommandSpec>, Vec<String>) {
        let mut found = Diagnostics::new();
        let root = crate::yaml::parse("c.yaml".as_ref(), text.as_bytes(), &mut found).expect("yaml");
        let commands = read(&root, &mut found);
        let first_line = |f: &&Diagnostic| f.to_string().lines().next().unwrap_or("").to_owned();
        (commands, found.sorted().iter().map(first_line).collect())
    }

    #[test]
    fn arguments_are_read_with_their_types_and_limits() {
        let (commands, found) = parse(
            "x y:\n  summary: S.\n  builtin: ping\n  arguments:\n    n: {type: integer, min: 1, max: 5, default: 2, doc: d}\n    \
             w: {type: [a, b], required: false, doc: d}\n  flags:\n    t: {type: duration, min: 1s, doc: d}\n",
        );
        assert_eq!(found, Vec::<String>::new());
        let command = &commands[0];
        assert_eq!((command.name.as_str(), command.changes), ("x y", false));
        assert_eq!(command.arguments[0].kind, ArgumentKind::Integer { min: 1, max: 5 });
        assert_eq!(
            (command.arguments[0].required, command.arguments[0].default.as_deref()),
            (false, Some("2"))
        );
        assert_eq!(command.arguments[1].kind, ArgumentKind::Enum(vec!["a".into(), "b".into()]));
        let second = Duration::from_secs(1);
        assert_eq!(command.flags[0].kind, ArgumentKind::Duration { min: Some(second), max: None });
        assert!(!command.flags[0].required);
    }

    #[test]
    fn what_could_not_be_typed_is_refused() {
        let argument = |line: &str| {
            parse(&format!("x:\n  summary: S.\n  builtin: ping\n  arguments:\n    {line}\n")).1.join("\n")
        };
        for (line, message) in [
            ("a: {type: integer, min: 3, default: 2, doc: d}", "the default `2` is not from 3 to "),
            ("a: {type: integer, min: 3, max: 2, doc: d}", "`min` is more than `max`"),
            ("a: {type: text, min: 3, doc: d}", "`min` goes with `integer` and `duration` only"),
            ("a: {type: [x], default: y, doc: d}", "the default `y` is not `x`"),
            ("a: {type: text, required: true, default: y, doc: d}", "`a` is required and has a default"),
            ("a: {type: switch, doc: d}", "`a` is a switch"),
            ("a: {type: txet, doc: d}", "`type` takes "),
            ("a: {type: text}", "`doc` is missing in `a`"),
            ("A: {type: text, doc: d}", "`A` is not a name for a command"),
            ("{a: {type: rest, doc: d}, b: {type: text, doc: d}}", "nothing can follow `a`"),
            ("{s: {type: service, doc: d}, e: {type: environment, doc: d}}", "a service stands before its"),
        ] {
            assert!(argument(line).contains(message), "{line}: {}", argument(line));
        }
    }

    #[test]
    fn a_command_does_one_thing() {
        let (_, found) = parse(
            "x: {summary: S.}\ny: {summary: S., builtin: pnig}\nz: {summary: S., playbook: p, changes: false}\n",
        );
        assert_eq!(
            found,
            [
                "error: c.yaml:1:1: `x` needs exactly one of `playbook` and `builtin`",
                "error: c.yaml:2:27: `pnig` is not built in",
                "error: c.yaml:3:40: a command with a playbook always counts as changing something",
            ]
        );
    }

    #[test]
    fn automatic_flags_cannot_be_declared() {
        let (_, found) = parse("x: {summary: S., playbook: p, flags: {reason: {type: text, doc: d}}}");
        assert_eq!(found, ["error: c.yaml:1:39: `reason` is there by itself"]);
    }
}
