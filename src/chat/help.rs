//! Help, made from the schema: what there is, how it is typed, and what it needs from whom.
//!
//! Must not: know rights or policies; whoever calls passes them in as a predicate and as lines.

use crate::command::{Argument, ArgumentKind, CommandSpec};
use crate::conversation::RoomKind;
use crate::text::{code, duration, or_list};

/// `deploy ENVIRONMENT [SERVICE] [VERSION]`, without the prefix.
pub fn usage(command: &CommandSpec) -> String {
    let mut out = command.name.clone();
    for argument in &command.arguments {
        let shown = match &argument.kind {
            ArgumentKind::Enum(choices) => choices.join("|"),
            ArgumentKind::Rest => format!("{}…", placeholder(argument)),
            _ => placeholder(argument),
        };
        out += &if is_optional(argument) { format!(" [{shown}]") } else { format!(" {shown}") };
    }
    for flag in &command.flags {
        let shown = match flag.kind {
            ArgumentKind::Switch => format!("--{}", flag.name),
            _ => format!("--{} {}", flag.name, value_placeholder(flag)),
        };
        out += &if is_optional(flag) { format!(" [{shown}]") } else { format!(" {shown}") };
    }
    out
}

/// What commands begin with where help is asked for: in a direct message nothing is needed.
pub fn prefix(room: RoomKind) -> &'static str {
    if room == RoomKind::Direct { "" } else { "!" }
}

/// The list: the commands that `may` says yes to, those that read and those that change, and how the
/// others can be asked about. `prefix`: see [`prefix`].
pub fn list(commands: &[CommandSpec], prefix: &str, may: &dyn Fn(&CommandSpec) -> bool) -> String {
    let (shown, hidden): (Vec<_>, Vec<_>) = commands.iter().partition(|c| may(c));
    let mut out = String::from("*What you can do here*\n");
    for (title, changes) in [("Look and decide", false), ("Change", true)] {
        let mut group: Vec<&CommandSpec> = shown.iter().copied().filter(|c| c.changes == changes).collect();
        if group.is_empty() {
            continue;
        }
        group.sort_by(|a, b| a.name.cmp(&b.name));
        let width = group.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        out += &format!("*{title}*\n```\n");
        for command in group {
            out += &format!("{prefix}{:width$}  {}\n", command.name, command.summary);
        }
        out += "```\n";
    }
    out += &format!("`{prefix}help COMMAND` says how a command is typed. ");
    out += if prefix.is_empty() {
        "In a room it begins with `!`; `/COMMAND` and `@` with my name work too."
    } else {
        "In a direct message the `!` is not needed; `/COMMAND` and `@` with my name work too."
    };
    if !hidden.is_empty() {
        out += &format!(
            "\n{} for others or in other rooms; `{prefix}whoami` says who you are here, `{prefix}can USER COMMAND` who may what.",
            if hidden.len() == 1 {
                "1 more command is".to_owned()
            } else {
                format!("{} more commands are", hidden.len())
            }
        );
    }
    out
}

/// All about one command. `facts`: who may, and which approval it needs where, one line each.
pub fn about(command: &CommandSpec, prefix: &str, facts: &[String]) -> String {
    let mut out = format!("`{prefix}{}`\n{}\n", usage(command), command.summary);
    if let Some(details) = &command.details {
        out += &format!("{}\n", details.trim());
    }
    let mut rows: Vec<(String, String)> =
        command.arguments.iter().map(|a| (placeholder(a), describe(a))).collect();
    for flag in &command.flags {
        let name = match flag.kind {
            ArgumentKind::Switch => format!("--{}", flag.name),
            _ => format!("--{} {}", flag.name, value_placeholder(flag)),
        };
        rows.push((name, describe(flag)));
    }
    if command.changes {
        rows.push(("--dry-run".into(), "show the plan, change nothing".into()));
        let declared = command.arguments.iter().chain(&command.flags).any(|a| a.name == super::bind::REASON);
        if !declared {
            rows.push(("--reason TEXT".into(), "why; stands on the card and in the audit log".into()));
        }
        if matches!(command.action, crate::command::Action::Playbook(_)) {
            let why = "start without consent, where that is allowed: loud, and reviewed afterwards";
            rows.push(("--break-glass WHY".into(), why.into()));
        }
    }
    if !rows.is_empty() {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        out += "```\n";
        for (name, text) in rows {
            out += &format!("{}\n", format!("{name:width$}  {text}").trim_end());
        }
        out += "```\n";
    }
    if !command.examples.is_empty() {
        let shown: Vec<String> = command.examples.iter().map(|e| code(&format!("{prefix}{e}"))).collect();
        out += &format!("For example: {}\n", shown.join(", "));
    }
    if !command.aliases.is_empty() {
        let names: Vec<String> = command.aliases.iter().map(|a| format!("{prefix}{a}")).collect();
        out += &format!("Also: {}\n", or_list(&names));
    }
    for fact in facts {
        out += &format!("- {fact}\n");
    }
    out.trim_end().to_owned()
}

/// The answer to `help NAME`: `facts` is called for the command that is meant. A first word that several
/// commands share (`help backup`) shows each of them.
pub fn answer(
    name: &str,
    commands: &[CommandSpec],
    prefix: &str,
    facts: &dyn Fn(&CommandSpec) -> Vec<String>,
) -> String {
    let typed = name.trim().trim_start_matches(['!', '/']).to_lowercase();
    let typed = typed.split_whitespace().collect::<Vec<_>>().join(" ");
    let called = |c: &&CommandSpec| {
        std::iter::once(&c.name).chain(&c.aliases).any(|n| {
            let n = n.to_lowercase();
            n == typed || n.split_once(' ').is_some_and(|(first, _)| first == typed)
        })
    };
    let found: Vec<&CommandSpec> = commands.iter().filter(called).collect();
    if found.is_empty() {
        let unknown = super::parse::UnknownCommand {
            suggestion: super::parse::nearest(typed.split(' ').next().unwrap_or_default(), commands)
                .map(|near| format!("help {near}")),
            typed: name.trim().to_owned(),
        };
        return unknown.hint();
    }
    found.iter().map(|c| about(c, prefix, &facts(c))).collect::<Vec<_>>().join("\n\n")
}

fn is_optional(argument: &Argument) -> bool {
    !argument.required || argument.default.is_some() || argument.kind == ArgumentKind::Switch
}

fn placeholder(argument: &Argument) -> String {
    argument.name.to_uppercase()
}

/// What stands for a flag's value.
fn value_placeholder(flag: &Argument) -> String {
    match &flag.kind {
        ArgumentKind::Environment => "ENVIRONMENT".into(),
        ArgumentKind::Service => "SERVICE".into(),
        ArgumentKind::Target => "ENVIRONMENT[/SERVICE]".into(),
        ArgumentKind::Version => "VERSION".into(),
        ArgumentKind::Integer { .. } => "N".into(),
        ArgumentKind::Duration { .. } => "DURATION".into(),
        ArgumentKind::Enum(choices) => choices.join("|"),
        ArgumentKind::Run => "RUN".into(),
        ArgumentKind::User => "USER".into(),
        ArgumentKind::Text | ArgumentKind::Rest | ArgumentKind::Switch => "TEXT".into(),
    }
}

/// The doc, what is accepted, the default.
fn describe(argument: &Argument) -> String {
    let accepted = match &argument.kind {
        ArgumentKind::Integer { min: i64::MIN, max: i64::MAX } => Some("whole number".into()),
        ArgumentKind::Integer { min, max } => Some(format!("whole number, {min} to {max}")),
        ArgumentKind::Duration { min, max } => {
            let least = min.map(|d| format!(", at least {}", duration(d))).unwrap_or_default();
            let most = max.map(|d| format!(", at most {}", duration(d))).unwrap_or_default();
            Some(format!("such as 30s, 10m, 2h{least}{most}"))
        }
        ArgumentKind::Enum(choices) => Some(choices.join(", ")),
        ArgumentKind::Run => Some("such as R-41".into()),
        _ => None,
    };
    let default = argument.default.as_ref().map(|d| format!("default {d}"));
    // In a fenced block backticks would show.
    let doc = argument.doc.replace('`', "");
    let more: Vec<String> = accepted.into_iter().chain(default).collect();
    match (doc.is_empty(), more.is_empty()) {
        (_, true) => doc,
        (true, false) => more.join("; "),
        (false, false) => format!("{doc} ({})", more.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bind::fixture::commands;
    use super::*;

    #[test]
    fn the_list_shows_what_this_person_may_and_says_that_there_is_more() {
        let all = list(commands(), "!", &|_| true);
        assert!(
            all.contains("*Change*") && all.contains("!deploy") && !all.contains("more command"),
            "{all}"
        );
        let few = list(commands(), "!", &|c| !c.changes);
        assert!(
            few.contains("*Look and decide*") && !few.contains("*Change*") && !few.contains("!deploy"),
            "{few}"
        );
        assert!(few.contains("8 more commands are for others"), "{few}");
        assert!(!all.contains('|'), "Rocket.Chat shows tables as text");
        let direct = list(commands(), prefix(RoomKind::Direct), &|_| true);
        assert!(direct.contains("\ndeploy") && direct.contains("`help COMMAND`"), "{direct}");
        assert!(direct.contains("In a room it begins with `!`"), "{direct}");
    }

    #[test]
    fn one_command_is_explained_from_its_schema() {
        let facts = |_: &CommandSpec| vec!["prod: needs one `operator`".to_owned()];
        let text = answer("!Lock", commands(), "!", &facts);
        assert!(text.starts_with("`!lock TARGET REASON… [--for DURATION] [--loud]`\nDoes lock."), "{text}");
        for part in ["--dry-run", "at most 30 d", "- prod: needs one `operator`"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("--reason TEXT"), "the command has a reason of its own");
        assert!(answer("deploy", commands(), "!", &facts).contains("Also: `!ship`"));
        let both = answer("backup", commands(), "!", &facts);
        assert!(both.contains("`!backup ENVIRONMENT [NAME]`") && both.contains("`!backup list ENVIRONMENT`"));
        assert!(answer("deplyo", commands(), "!", &facts).contains("did you mean `!help deploy`?"));
    }
}
