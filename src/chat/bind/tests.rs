//! Table tests and fuzzing of binding.

use proptest::prelude::*;

use super::fixture::{commands, known};
use super::*;
use crate::chat::parse::{Addressed, addressed, command_line};
use crate::gateway::events::RoomKind;

fn run(text: &str) -> Bound<'static> {
    match bind(&command_line(text), commands(), &known()) {
        Ok(Outcome::Run(bound)) => bound,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> BindError {
    match bind(&command_line(text), commands(), &known()) {
        Err(error) => *error,
        other => panic!("{text}: {other:?}"),
    }
}

fn is_help(text: &str) -> bool {
    matches!(bind(&command_line(text), commands(), &known()), Ok(Outcome::Help(_)))
}

#[test]
fn lines_are_bound_and_said_again_canonically() {
    for (typed, canonical) in [
        ("!deploy prod web 1.8", "deploy prod web 1.8"),
        ("/Deploy  prod\u{a0}web 1.8 ", "deploy prod web 1.8"),
        ("ship prod", "deploy prod"),
        ("deploy \u{201c}prod\u{201d} \u{2018}web\u{2019}", "deploy prod web"),
        ("deploy prod web —dry-run", "deploy prod web --dry-run"),
        (
            "deploy --dry-run --reason “new  logo” prod web",
            "deploy prod web --reason=\"new  logo\" --dry-run",
        ),
        (
            "deploy prod web --break-glass “shop  down” --dry-run",
            "deploy prod web --break-glass=\"shop  down\" --dry-run",
        ),
        ("deploy prod version=1.8", "deploy prod version=1.8"),
        ("deploy service=web prod 1.8", "deploy prod web 1.8"),
        ("deploy --service web --environment=prod", "deploy prod web"),
        ("backup list prod", "backup list prod"),
        ("Backup List prod", "backup list prod"),
        ("backup prod \"all of it\"", "backup prod \"all of it\""),
        ("resolve r7 Happened", "resolve R-7 happened"),
        ("lock prod/web don't touch, it's 5 o'clock", "lock prod/web don't touch, it's 5 o'clock"),
        ("lock prod --for 90m “just because”", "lock prod --for=1h30m just because"),
        ("lock prod web hotfix", "lock prod/web hotfix"),
        ("lock prod web --for 2h hotfix --dry-run", "lock prod/web --for=2h --dry-run hotfix"),
        ("lock prod web \"hot fix\"", "lock prod/web hot fix"),
        ("lock prod \"web hotfix\"", "lock prod \"web hotfix\""),
        ("lock prod reason=\"web hotfix\"", "lock prod \"web hotfix\""),
        ("lock prod/api web is slow", "lock prod/api web is slow"),
        ("lock dev api is slow", "lock dev api is slow"),
        ("lock prod we move", "lock prod we move"),
        ("unlock prod web", "unlock prod/web"),
        ("unlock prod web is well", "unlock prod/web is well"),
        ("unfreeze prod \"web is well\"", "unfreeze prod \"web is well\""),
        ("lock prod disk full --dry-run", "lock prod --dry-run disk full"),
        ("lock prod disk full --loud", "lock prod --loud disk full"),
        ("ask what does --dry-run do?", "ask what does --dry-run do?"),
        ("can @Bob deploy prod web", "can bob deploy prod web"),
        (r"backup prod a\\ --dry-run", r#"backup prod "a\\" --dry-run"#),
        ("runs --limit 5", "runs --limit=5"),
    ] {
        assert_eq!(run(typed).canonical, canonical, "{typed}");
    }
}

#[test]
fn values_have_types_and_defaults() {
    assert_eq!(run("runs").values.integer("limit"), Some(10));
    assert_eq!(run("scale prod web 5").values.integer("replicas"), Some(5));
    let lock = run("lock prod --for 1h30m --loud x");
    assert_eq!(lock.values.duration("for"), Some(std::time::Duration::from_secs(5400)));
    assert!(lock.values.switch("loud") && !run("lock prod x").values.switch("loud"));
    assert_eq!(lock.reason.as_deref(), Some("x"));
    assert!(run("deploy prod --dry-run").dry_run && !run("deploy prod --dry-run=false").dry_run);
}

#[test]
fn free_text_goes_over_lines_and_other_commands_say_what_they_left() {
    let ask = run("ask one\ntwo  three");
    assert_eq!((ask.values.text("question"), ask.further_lines), (Some("one\ntwo  three"), 0));
    let deploy = run("deploy prod\nplease\n\nnow");
    assert_eq!(deploy.further_lines, 2);
    assert!(deploy.note().expect("lines were left").contains("2 further lines were not read"));
}

#[test]
fn help_has_no_side_effects_wherever_it_stands() {
    for text in [
        "rollback --help",
        "rollback prod web -h",
        "deploy nowhere --help",
        "lock prod because --help",
        "lock -h",
        "rollback prod web 1.8 too many --nonsense --help",
    ] {
        assert!(is_help(text), "{text}");
    }
    assert!(!is_help("ask what does --help do"));
}

#[test]
fn errors_point_at_the_spot_and_never_correct() {
    for (typed, said) in [
        (
            "!deploy prdo web",
            "```\n!deploy prdo web\n        ^^^^\n```\nThere is no environment `prdo`; did you mean `prod`?",
        ),
        (
            "!deploy prod wbe",
            "```\n!deploy prod wbe\n             ^^^\n```\nThere is no service `wbe` in `prod`; did you mean `web`?",
        ),
        (
            "!deploy prod mail",
            "```\n!deploy prod mail\n             ^^^^\n```\nThere is no service `mail` in `prod`; there is one in `dev`.",
        ),
        (
            "deploy 日本 web",
            "```\ndeploy 日本 web\n       ^^^^\n```\nThere is no environment `日本`. Environments here: `dev` or `prod`.",
        ),
        (
            "deploy prod \"web",
            "```\ndeploy prod \"web\n            ^\n```\nThe quote that opens here is not closed",
        ),
        ("deploy", "```\ndeploy\n       ^\n```\n`environment` is missing: `dev` or `prod`."),
        ("deploy prod --dyr-run", "There is no flag `--dyr-run` here; did you mean `--dry-run`?"),
        ("status --dry-run", "There is no flag `--dry-run` here"),
        ("deploy prod --dry-run --dry-run", "`dry-run` is given twice"),
        ("deploy prod web service=api", "`service` is given twice"),
        ("deploy prod --reason", "`--reason` needs a value"),
        ("deploy prod web 1.8 now", "`now` is too much: this command takes at most 3 arguments"),
        ("deploy prod web one/two", "`one/two` is no version"),
        ("scale prod web 21", "from 0 to 20; `21` is not"),
        ("scale prod web many", "is a whole number from 0 to 20, not `many`"),
        ("lock prod --for 10 x", "is a duration such as"),
        ("lock prod --for 40d x", "at most 30 d; `40d` is not"),
        (
            "lock prod web",
            "```\nlock prod web\n     ^^^^^^^^\n```\n`web` may be the service, or begin what you say about all of `prod`. \
             For the service: `!lock prod/web WHY`. For all: `!lock prod \"web\"`.",
        ),
        (
            "lock prod web --dry-run",
            "For the service: `!lock prod/web --dry-run WHY`. For all: `!lock prod --dry-run \"web\"`.",
        ),
        (
            "lock prod Web is slow",
            "For the service: `!lock prod/web is slow`. For all: `!lock prod \"Web is slow\"`.",
        ),
        ("lock prod wbe is slow", "For the service: `!lock prod/web is slow`."),
        ("unlock prod Web", "For the service: `!unlock prod/web`. For all: `!unlock prod \"Web\"`."),
        (
            "unfreeze prod web is well",
            "`web` is a service, and this is about all of `prod`. If that is meant: `!unfreeze prod \"web is well\"`.",
        ),
        ("deploy prod/web", "There is no environment `prod/web`; did you mean `prod`?"),
        ("resolve 7 hapened", "did you mean `happened`?"),
        ("resolve web undo", "`web` is not a run"),
        ("can eve deploy", "There is nobody called `eve`"),
        ("deplyo prod", "There is no command `deplyo`; did you mean `deploy`?"),
        ("deploy \"\"", "`environment` is empty"),
    ] {
        let text = error(typed).to_string();
        assert!(text.contains(said), "{typed}:\n{text}\nshould have:\n{said}");
    }
    assert!(
        error("deploy prdo")
            .to_string()
            .ends_with("Usage: `!deploy ENVIRONMENT [SERVICE] [VERSION]`. `!help deploy` says more.")
    );
}

#[test]
fn a_long_line_is_cut_around_the_spot() {
    let text = error(&format!("deploy prod web 1.8 {} x", "y".repeat(500))).to_string();
    assert!(text.lines().all(|l| l.chars().count() < 200), "{text}");
}

/// Texts that come near to commands more often than chance would have it.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "!",
            "/",
            "@houston",
            "deploy",
            "lock",
            "unlock",
            "api is",
            "Web",
            "ask",
            "deny",
            "R-1",
            "prod",
            "web",
            "1.8",
            "--dry-run",
            "—loud",
            "reason=",
            "--reason=",
            "\"",
            "“",
            "”",
            "'",
            "’",
            "\\",
            "`",
            "```",
            "\n",
            "=",
            "--",
            "-h",
            "help",
            "can",
            "bob",
            "\u{200d}",
            "\u{feff}",
            "é",
            "👩\u{200d}🚀",
            "target=x",
            "question=",
            "for=1h",
            ">",
            "  ",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    (prop::collection::vec((word, any::<bool>()), 0..10)).prop_map(|words| {
        words.into_iter().map(|(w, blank)| if blank { format!("{w} ") } else { w }).collect()
    })
}

/// Found by the test below: the canonical form puts a backslash before the quote.
#[test]
fn a_joiner_before_a_quote_joins_nothing() {
    let asked = run("ask \\ລ\u{200d}“");
    assert_eq!(run(&asked.canonical).values, asked.values);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_the_canonical_form_binds_to_the_same(
        start in prop::sample::select(vec!["", "!", "ask ", "lock prod ", "deny R-1 ", "deploy prod ", "backup prod "]),
        tail in texts(),
    ) {
        let text = format!("{start}{tail}");
        for room in [RoomKind::Public, RoomKind::Direct] {
            let line = match addressed(&text, "houston", room, commands()) {
                Some(Addressed::Command(line)) => line,
                Some(Addressed::Unknown(unknown)) => { let _ = unknown.hint(); continue }
                _ => continue,
            };
            let _ = line.reads_like_question();
            match bind(&line, commands(), &known()) {
                Ok(Outcome::Run(bound)) => {
                    let again = run(&bound.canonical);
                    prop_assert_eq!(&again.values, &bound.values, "{:?} -> {:?}", text, bound.canonical);
                    prop_assert_eq!(again.dry_run, bound.dry_run);
                    prop_assert_eq!(&again.reason, &bound.reason);
                    prop_assert_eq!(&again.canonical, &bound.canonical);
                }
                Ok(Outcome::Help(_)) => {}
                Err(error) => { let _ = error.to_string(); }
            }
        }
    }
}

#[test]
fn commands_read_from_a_file_obey_dry_run_and_reason() {
    let mut found = crate::diagnostic::Diagnostics::new();
    let text = b"deploy:\n  summary: Deploys.\n  playbook: deploy\n  arguments:\n    environment: {type: environment}\n";
    let root = crate::yaml::parse("c.yaml".as_ref(), text, &mut found).expect("yaml");
    let commands = crate::command::read::read(&root, &mut found);
    for typed in ["!deploy prod --dry-run --reason why", "!deploy --dry-run prod --reason=why"] {
        match bind(&command_line(typed), &commands, &known()) {
            Ok(Outcome::Run(bound)) => {
                assert!(bound.dry_run, "{typed}");
                assert_eq!(bound.reason.as_deref(), Some("why"), "{typed}");
                assert_eq!(crate::chat::help::usage(bound.command), "deploy ENVIRONMENT");
            }
            other => panic!("{typed}: {other:?}"),
        }
    }
}
