//! Commands and environments that tests of this folder share.

use std::sync::OnceLock;

use super::Known;
use crate::command::{Action, Argument, ArgumentKind, CommandSpec};
use crate::diagnostic::Location;

fn at() -> Location {
    Location::new("commands/test.yaml", 1, 1)
}

fn argument(name: &str, kind: ArgumentKind, required: bool) -> Argument {
    Argument { name: name.into(), kind, required, default: None, doc: String::new(), at: at() }
}

fn command(name: &str, changes: bool, arguments: Vec<Argument>, flags: Vec<Argument>) -> CommandSpec {
    CommandSpec {
        name: name.into(),
        aliases: Vec::new(),
        summary: format!("Does {name}."),
        details: None,
        examples: Vec::new(),
        changes,
        action: if name == "deploy" { Action::Playbook(name.into()) } else { Action::Builtin(name.into()) },
        arguments,
        flags,
        at: at(),
    }
}

pub(crate) fn commands() -> &'static [CommandSpec] {
    static COMMANDS: OnceLock<Vec<CommandSpec>> = OnceLock::new();
    COMMANDS.get_or_init(|| {
        use ArgumentKind as K;
        let environment = |required| argument("environment", K::Environment, required);
        let service = |required| argument("service", K::Service, required);
        let version = || argument("version", K::Version, false);
        let run = || argument("run", K::Run, true);
        let integer = |name: &str| argument(name, K::Integer { min: 0, max: 20 }, true);
        let limit = Argument {
            default: Some("10".into()),
            ..argument("limit", K::Integer { min: 1, max: 50 }, false)
        };
        let any = K::Duration { min: None, max: Some(std::time::Duration::from_secs(86_400 * 30)) };
        let outcome = K::Enum(vec!["happened".into(), "did-not-happen".into(), "undo".into()]);
        let mut deploy =
            command("deploy", true, vec![environment(true), service(false), version()], Vec::new());
        deploy.aliases.push("ship".into());
        vec![
            command("help", false, vec![argument("command", K::Rest, false)], Vec::new()),
            command("status", false, vec![environment(false), service(false)], Vec::new()),
            command("runs", false, Vec::new(), vec![argument("environment", K::Environment, false), limit]),
            deploy,
            command("rollback", true, vec![environment(true), service(true), version()], Vec::new()),
            command("scale", true, vec![environment(true), service(true), integer("replicas")], Vec::new()),
            command("backup", true, vec![environment(true), argument("name", K::Text, false)], Vec::new()),
            command("backup list", false, vec![environment(true)], Vec::new()),
            command(
                "lock",
                true,
                vec![argument("target", K::Target, true), argument("reason", K::Rest, true)],
                vec![argument("for", any, false), argument("loud", K::Switch, false)],
            ),
            command(
                "unlock",
                true,
                vec![argument("target", K::Target, true), argument("reason", K::Rest, false)],
                Vec::new(),
            ),
            command(
                "unfreeze",
                true,
                vec![environment(true), argument("reason", K::Rest, false)],
                Vec::new(),
            ),
            command("resolve", true, vec![run(), argument("outcome", outcome, true)], Vec::new()),
            command("deny", false, vec![run(), argument("reason", K::Rest, false)], Vec::new()),
            command("ask", false, vec![argument("question", K::Rest, true)], Vec::new()),
            command(
                "can",
                false,
                vec![argument("user", K::User, true), argument("command", K::Rest, true)],
                Vec::new(),
            ),
        ]
    })
}

pub(crate) fn known() -> Known {
    let services = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    Known {
        environments: [
            ("dev".to_owned(), services(&["web", "mail"])),
            ("prod".to_owned(), services(&["api", "web"])),
        ]
        .into(),
        people: Some(vec!["ann".into(), "bob".into()]),
    }
}
