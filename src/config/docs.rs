//! `houston docs config|steps|commands`: the reference as Markdown, from the same tables and defaults that
//! the code works with.
//!
//! Must not: print or read files.

use std::fmt::Write as _;

use super::Limits;
use super::approvals::EXPIRES;
use super::environment::{Keep, READ_ALL_IN_DAYS, UpdatePolicy};
use super::exports::Exports;
use super::maintenance::ANNOUNCED;
use super::retention::{self, Retention};
use crate::command::{Action, Argument, ArgumentKind, CommandSpec};
use crate::playbook::steps::{ParamKind, StepKind, UndoMode};
use crate::text;

/// A key, what it takes, and what it means with its default.
type Row = (&'static str, &'static str, String);

fn kept(keys: &'static str, keep: retention::Keep, doc: &str) -> Row {
    let age = keep.age.map_or_else(|| "forever".to_owned(), text::written_duration);
    let most = keep.megabytes.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let takes = "duration or `forever`, number or `unlimited`";
    (keys, takes, format!("{doc} Default {age}, {most}."))
}

/// All keys of `houston.yaml` and of the environment files.
pub fn config() -> String {
    let limits = Limits::default();
    let retention = Retention::default();
    let update = UpdatePolicy::default();
    let keep = Keep::default();
    let mut out = String::from(
        "# Configuration\n\nA folder with `houston.yaml` and `environments/NAME.yaml`. Files in `commands/` and \
         `playbooks/` are added to the built-in ones; a file of the same name replaces the built-in one. Unknown \
         keys are errors. Durations are written `30s`, `10m`, `2h`, `1d`. A secret is `{file: PATH}`, `{env: NAME}` \
         or `{command: [PROGRAM, ARGUMENT]}`, never a value. `houston check` reports everything that is wrong.\n",
    );
    let row = |key, takes, doc: &str| -> Row { (key, takes, doc.to_owned()) };
    table(
        &mut out,
        "`houston.yaml`",
        &[
            row("rocketchat.url", "address", "The workspace, with its sub-path if it has one. Required."),
            row(
                "rocketchat.user_id, token",
                "text, secret",
                "A personal access token of the bot's account; or",
            ),
            row("rocketchat.username, password", "text, secret", "its name and password."),
            row("http.listen", "IP:PORT", "Health, metrics and pages. Off when absent."),
            row(
                "http.public_url",
                "address",
                "Under which people's browsers reach the pages, for links in messages. No links when absent.",
            ),
            (
                "http.link_expires",
                "duration",
                format!(
                    "How long a link to a run's page is good for. Default {}.",
                    text::written_duration(super::http::LINK_EXPIRES)
                ),
            ),
            row(
                "lease.enabled",
                "yes or no",
                "Whether Houstons of this account with state folders of their own agree on which of them acts. Default: \
                 where an environment has a Swarm, and as long as that is one. With `yes` nothing is begun without it.",
            ),
            row(
                "lease.environment",
                "environment",
                "Whose Swarm keeps the lease. Default `prod`, or else the first that has a Swarm.",
            ),
            (
                "lease.duration",
                "duration",
                format!(
                    "After so long without a renewal another takes over. Default {}.",
                    text::written_duration(super::lease::DURATION)
                ),
            ),
            row("access.roles.NAME.users", "list", "User names or ids."),
            row(
                "access.roles.NAME.rocketchat_roles",
                "list",
                "Everybody who has one of these in Rocket.Chat.",
            ),
            row(
                "access.rules",
                "list",
                "`- allow: {…}` or `- deny: {…}` with `roles`, `users`, `rooms`, `commands` (names, `changing`, \
                 `reading`) and `arguments`. The first that matches decides; after them everybody may read, and \
                 operators and leads may change.",
            ),
            (
                "limits.stale_after",
                "duration",
                format!(
                    "Older commands found after an absence are asked about. Default {}.",
                    text::written_duration(limits.stale_after)
                ),
            ),
            (
                "limits.step_timeout",
                "duration",
                format!(
                    "For steps that say nothing else. Default {}.",
                    text::written_duration(limits.step_timeout)
                ),
            ),
            (
                "limits.commands_per_minute",
                "number",
                format!("Of one person. Default {}.", limits.commands_per_minute),
            ),
            row(
                "time_zone",
                "name",
                "In which times are meant where an environment says nothing else, such as Europe/Lisbon. Default UTC.",
            ),
            row(
                "exports.at",
                "HH:MM or `never`",
                "When the store is exported every night, into `exports` of the state folder. Default 03:15.",
            ),
            (
                "exports.keep",
                "number",
                format!("How many exports are kept. Default {}.", Exports::default().keep),
            ),
            row(
                "exports.megabytes",
                "number or `unlimited`",
                "How large all of them together may be; the newest stays in any case. Default unlimited.",
            ),
            kept(
                "retention.runs.for, megabytes",
                retention.runs,
                "How long the journal of a run is kept after its end, and how large all of them may be; the oldest go. \
                 What is not over, has to be reviewed, has still to be said, or is what `rollback` goes back to, stays.",
            ),
            kept(
                "retention.transcripts.for, megabytes",
                retention.transcripts,
                "Likewise what the steps of runs wrote.",
            ),
            kept(
                "retention.audit.for, megabytes",
                retention.audit,
                "Likewise the audit log, by whole files of it, of which the last stays.",
            ),
            (
                "retention.marks.for",
                "duration",
                format!(
                    "How long is remembered which messages were obeyed; older ones are not obeyed in any case. Default {}.",
                    text::written_duration(retention.marks)
                ),
            ),
            row(
                "maintenance.rooms",
                "list",
                "In which maintenance is announced, by name or id. Without them in the room where it was declared.",
            ),
            (
                "maintenance.announce",
                "list of durations",
                format!(
                    "How long before it begins; when it begins and when it is over in any case. Default {}.",
                    ANNOUNCED.map(text::written_duration).join(" and ")
                ),
            ),
            row(
                "schedules.NAME.run",
                "command",
                "Given at each of its times, as one would type it; one that a playbook carries out. It is given in the name \
                 of `schedule:NAME`, which needs the right to it as a person does: put that name into a role or a rule. \
                 Required.",
            ),
            (
                "schedules.NAME.cron",
                "text",
                format!("Five fields: minute, hour, day of the month, month, day of the week. {} Required.", super::cron::RULE),
            ),
            row("schedules.NAME.time_zone", "name", "In which `cron` is meant. Default: `time_zone`."),
            row("schedules.NAME.room", "room", "In which its runs show themselves, and what did not begin is said. Required."),
            row(
                "schedules.NAME.jitter",
                "duration",
                "It begins up to so much later, by lot, but always the same for the same time. Default none.",
            ),
            (
                "schedules.NAME.catch_up",
                "duration or `never`",
                format!(
                    "How late a missed time is still made up for: one run for all that were missed. Default {}.",
                    text::written_duration(super::schedules::CATCH_UP)
                ),
            ),
            row("schedules.NAME.paused", "text", "Why it does not begin. Default: it does."),
            row("schedules.NAME.tell", "list", "User names that are mentioned when it did not go well, or did not begin."),
            row(
                "schedules.NAME.ping",
                "{url, method}",
                "A dead man's switch such as healthchecks.io: the address, a secret, is asked for with `/start` at its end when \
                 a run begins, as it is when one went well, and with `/fail` when it did not. `method` is `post` (default) or `get`.",
            ),
            (
                "limits.free_megabytes",
                "number",
                format!(
                    "With less free space for the state folder no run begins. Default {}.",
                    limits.free_megabytes
                ),
            ),
            row(
                "providers.hetzner.token",
                "secret",
                "Of the Hetzner Cloud project in which temporary hosts are rented; it has to be allowed to write.",
            ),
            (
                "providers.hetzner.url",
                "address",
                format!("Default {}.", super::providers::HETZNER),
            ),
            (
                "approvals.expires",
                "duration",
                format!(
                    "How long requests wait where no rule says otherwise. Default {}.",
                    text::written_duration(EXPIRES)
                ),
            ),
            (
                "approvals.buttons",
                "yes or no",
                "Whether a message with buttons follows each approval card. A click sends `!approve` or `!deny` in \
                 the name of who clicks. Rocket.Chat shows them in browsers; its mobile apps do not. Default no."
                    .to_owned(),
            ),
            (
                "approvals.break_glass",
                "`none` or {from: [ROLE…]}",
                "Whose people may start without consent, with `--break-glass \"why\"`; it is said to the room and to \
                 the leads, and has to be reviewed. Default `none`."
                    .to_owned(),
            ),
        ],
    );
    table(
        &mut out,
        "`environments/NAME.yaml`",
        &[
            row(
                "hosts.NAME.ssh",
                "[user@]address[:port]",
                "A machine. `hosts.NAME: user@address` is the short form.",
            ),
            row("hosts.NAME.identity", "path", "Private key. Default: what ssh uses by itself."),
            row(
                "hosts.NAME.known_hosts",
                "path",
                "Default: the user's. Unknown and changed keys are refused.",
            ),
            row("hosts.NAME.jump", "list", "Hosts to go through, first hop first."),
            row(
                "hosts.NAME.server",
                "{image, type, location, network, ssh_keys, firewall, placement_group, volumes, labels}",
                "A temporary host: a Hetzner server that is there only while a run has it (step kind `hetzner_server`). \
                 `image` is a name, an id, or {label: purpose=backup} for the newest snapshot with that label; \
                 `type` such as cx22, `location` such as nbg1; the others by their names in the project. `ssh_keys` \
                 holds the key whose private half is `identity`.",
            ),
            row(
                "hosts.NAME.user, port, identity, jump, address",
                "text, number, path, list, private or public",
                "Of a temporary host. Default root, 22, what ssh uses by itself, none, private. Its host key is made by \
                 Houston, so that it is known before the server is there.",
            ),
            row("swarm.managers", "list of hosts", "Tried in order; or"),
            row("swarm.socket", "path", "the Docker socket of this machine (with `managers`: of theirs)."),
            row("services.NAME", "mapping", "See below."),
            row(
                "backups.repository, password",
                "text, secret",
                "Where backups go, as restic takes it (`s3:https://…/bucket/prod`, a path, `sftp:…`), and its password.",
            ),
            row(
                "backups.credentials.NAME",
                "secret",
                "Of restic's environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for R2 and other S3 services.",
            ),
            row(
                "backups.host",
                "host",
                "Where restic checks and prunes, and saves sources that name no other. Default: that of the first source.",
            ),
            (
                "backups.keep",
                "{daily, weekly, monthly}",
                format!(
                    "How many snapshots of each source are kept; what is not named is 0. Default {} daily, {} weekly, {} \
                     monthly.",
                    keep.daily, keep.weekly, keep.monthly
                ),
            ),
            (
                "backups.read_all_in_days",
                "number",
                format!(
                    "Each check reads a part of the data, another one each day: one check a day has read all of it after \
                     so many. Default {READ_ALL_IN_DAYS}."
                ),
            ),
            row(
                "backups.sources.NAME",
                "mapping",
                "`paths: […]` (absolute) with `exclude: […]`, or `dump: [PROGRAM, ARGUMENT…]`, whose standard output is \
                 saved if it ends well, with `restore: [PROGRAM, ARGUMENT…]`, which takes it back; and `host`.",
            ),
            row(
                "time_zone",
                "name",
                "In which times are meant here, such as Europe/Lisbon. Default: `time_zone` of houston.yaml, and \
                 UTC without it.",
            ),
            row(
                "freezes",
                "list of {days, from, to, time_zone, reason}",
                "Times in which nothing that changes the environment begins. `from: \"16:00\", to: \"08:00\"` on each \
                 of `days` (on all without it), to the next day when it ends earlier than it begins; \
                 `from: \"fri 16:00\", to: \"mon 08:00\"` every week; `from: \"2026-12-24 12:00\"` with a date in `to` \
                 once. Where a clock is set forth or back, a freeze is never shorter than it reads.",
            ),
            row(
                "maintenance.windows",
                "list of {days, from, to, time_zone, reason}",
                "Times in which the environment is worked on, written as `freezes` are, and announced.",
            ),
            row(
                "maintenance.required_for",
                "list of commands",
                "They begin only in maintenance, of the file or declared with `maintenance`.",
            ),
            row(
                "maintenance.rooms, announce",
                "list, list of durations",
                "Here instead of what `houston.yaml` says.",
            ),
            row("variables.NAME", "text", "`{{ variables.NAME }}` in playbooks."),
            row(
                "approvals.COMMAND",
                "`none` or policy",
                "`{count, from}`, `{all_of: […]}` or `{any_of: […]}`, with `not_requester` (default true), \
                 `expires`, `reason: required` and `escalate: {after, to}`, where `to` is a group, or a list of which all \
                 are needed. `default` stands for all commands that have no line. The line of `unlock` is about stealing \
                 a lock (`--steal`).",
            ),
            row(
                "approvals.break_glass",
                "`none` or {from: [ROLE…]}",
                "Here instead of what `houston.yaml` says.",
            ),
        ],
    );
    table(
        &mut out,
        "A service",
        &[
            row("image", "text", "Without its tag. Required."),
            row("version", "text", "Tag or digest, in quotes: YAML reads 1.10 as 1.1. Required."),
            row("replicas", "number or {count, min, max}", "Default 1, from 0 to 20."),
            row("depends_on", "list of services", "Updated before this one."),
            row(
                "health",
                "{url, expect_status, expect_body, within}",
                "Asked after an update. Default status 200 within 30s. `{version}` is the one deployed.",
            ),
            (
                "update",
                "{order, parallelism, delay, monitor, failure_action, max_failure_ratio}",
                format!(
                    "Default start-first, {} at a time, monitored for {}, rolled back when more than {} of the tasks fail.",
                    update.parallelism,
                    text::written_duration(update.monitor),
                    update.max_failure_ratio
                ),
            ),
            row("placement", "list", "Swarm constraints: `node.labels.zone==a`."),
            row("environment", "mapping", "Environment variables. No secrets: they are visible in Swarm."),
            row("ports", "list", "`\"8080:80\"`, or `{published, target, mode: ingress or host}`."),
            row("networks", "list", "Names of overlay networks."),
            row("command", "list", "In place of the image's own."),
            row("endpoint_mode", "vip or dnsrr", "Default vip."),
            row("swarm_name", "text", "Default: the service's name."),
        ],
    );
    out
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    let _ = write!(out, "\n## {title}\n\n| key | takes | |\n|---|---|---|\n");
    for (key, takes, doc) in rows {
        let _ = writeln!(out, "| `{key}` | {} | {} |", cell(takes), cell(doc));
    }
}

/// A bar would end the cell, a line break the row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Every step kind with its parameters.
pub fn steps(kinds: &[&dyn StepKind]) -> String {
    let mut out = String::from(
        "# Steps\n\nA step of a playbook has an `id`, one step kind with its parameters, and as needed `when` (an \
         expression), `undo` (`none`, or another step), `retry` (`attempts`, `backoff`, `max_elapsed`, `then: fail` \
         or `pause`), `timeout` and `approval`. Parameters are templates over the playbook's inputs, `variables`, \
         `environment`, `command`, `requester` and `reason`; with `each: services` also `service`, `version` and \
         `declared`, the service as its file declares it. A parameter that is one `{{ … }}` keeps the type of its \
         value, and is left out when that is none.\n\n\
         `approval` makes the run wait before the step until people consent to what it would do then: a policy as in \
         `approvals` of an environment's file (`{count: 1, from: [lead]}` and so on), with `not_approver: true` where those \
         who approved the plan do not count, and `otherwise`: after a denial, or when nobody decides in time, the step has \
         failed and `on_failure` decides (`fail`, the default), or the run pauses until somebody says `!retry`, which asks \
         again, or `!cancel` (`pause`). The run keeps its locks meanwhile. A step that is tried again after it began asks \
         no second time.\n",
    );
    for kind in kinds {
        let undo = match kind.undo_mode(&serde_json::json!({})) {
            UndoMode::ByKind => "it undoes itself",
            UndoMode::NotNeeded => "nothing to undo",
            UndoMode::Impossible => "cannot be undone; name an `undo`",
        };
        let _ = write!(out, "\n## `{}`\n\n{} Undo: {undo}.\n", kind.name(), kind.doc());
        if kind.params().is_empty() {
            continue;
        }
        out.push_str("\n| parameter | takes | |\n|---|---|---|\n");
        for param in kind.params() {
            let takes = match param.kind {
                ParamKind::Text => "text".to_owned(),
                ParamKind::Integer => "whole number".to_owned(),
                ParamKind::Boolean => "`true` or `false`".to_owned(),
                ParamKind::Duration => "duration".to_owned(),
                ParamKind::Argv => "list of arguments".to_owned(),
                ParamKind::Enum(words) => text::or_list(words),
                ParamKind::Map => "mapping".to_owned(),
            };
            let need = if param.required { " Required." } else { "" };
            let _ = writeln!(out, "| `{}` | {} | {}{need} |", param.name, cell(&takes), cell(param.doc));
        }
    }
    out
}

/// Every command with its arguments.
pub fn commands(commands: &[CommandSpec]) -> String {
    let mut out = String::from("# Commands\n");
    for command in commands {
        let _ = write!(out, "\n## `{}`\n\n{}\n", usage(command), command.summary);
        if let Some(details) = &command.details {
            let _ = write!(out, "\n{details}\n");
        }
        let run = match &command.action {
            Action::Playbook(name) => format!(
                "Runs the playbook `{name}`; shows its plan first. Takes `--dry-run`, `--reason TEXT` and `--break-glass WHY`."
            ),
            Action::Builtin(_) if command.changes => "Changes something. Takes `--dry-run`.".to_owned(),
            Action::Builtin(_) => "Reads only, or is guarded by the approval policy.".to_owned(),
        };
        let _ = write!(out, "\n{run}");
        if !command.aliases.is_empty() {
            let _ = write!(out, " Also {}.", text::or_list(&command.aliases));
        }
        out.push('\n');
        let all: Vec<(&Argument, bool)> = (command.arguments.iter().map(|a| (a, false)))
            .chain(command.flags.iter().map(|f| (f, true)))
            .collect();
        if !all.is_empty() {
            out.push_str("\n| | takes | |\n|---|---|---|\n");
        }
        for (argument, flag) in all {
            let dashes = if flag { "--" } else { "" };
            let default = argument.default.as_ref().map(|d| format!(" Default `{d}`.")).unwrap_or_default();
            let takes = takes(&argument.kind);
            let _ = writeln!(
                out,
                "| `{dashes}{}` | {} | {}.{default} |",
                argument.name,
                cell(&takes),
                cell(&argument.doc)
            );
        }
        if !command.examples.is_empty() {
            let examples: Vec<String> = command.examples.iter().map(|e| format!("`!{e}`")).collect();
            let _ = write!(out, "\nFor example {}.\n", examples.join(", "));
        }
    }
    out
}

/// `deploy ENVIRONMENT [SERVICE [VERSION]]`
fn usage(command: &CommandSpec) -> String {
    let mut out = command.name.clone();
    let mut open = 0;
    for argument in &command.arguments {
        let name = argument.name.to_uppercase();
        if argument.required {
            let _ = write!(out, " {name}");
        } else {
            let _ = write!(out, " [{name}");
            open += 1;
        }
    }
    out.push_str(&"]".repeat(open));
    out
}

fn takes(kind: &ArgumentKind) -> String {
    match kind {
        ArgumentKind::Environment => "environment".into(),
        ArgumentKind::Service => "service".into(),
        ArgumentKind::Target => "environment, or environment/service".into(),
        ArgumentKind::Version => "tag or digest".into(),
        ArgumentKind::Integer { min, max: i64::MAX } => format!("whole number from {min}"),
        ArgumentKind::Integer { min, max } => format!("whole number from {min} to {max}"),
        ArgumentKind::Duration { min, max } => {
            let limit = |word: &str, d: &Option<std::time::Duration>| {
                d.map(|d| format!(" {word} {}", text::duration(d))).unwrap_or_default()
            };
            format!("duration{}{}", limit("from", min), limit("to", max))
        }
        ArgumentKind::Enum(words) => text::or_list(words),
        ArgumentKind::Run => "run such as `R-41`".into(),
        ArgumentKind::User => "user name".into(),
        ArgumentKind::Text => "text; quotes group words".into(),
        ArgumentKind::Rest => "all that follows".into(),
        ArgumentKind::Switch => "nothing: a switch".into(),
    }
}
