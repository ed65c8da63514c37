//! Loading and checking a configuration folder.

use std::path::{Path, PathBuf};

use houston::config::Config;
use houston::config::load::{check, source_text};
use houston::diagnostic::render::{Terminal, for_chat};
use houston::diagnostic::{Diagnostics, Severity};
use houston::ids::EnvName;
use proptest::prelude::*;

use crate::config_support::kinds;

const SMALLEST: &str = "rocketchat: {url: 'http://127.0.0.1:3000', username: houston, password: {env: P}}\n\
    access: {roles: {operator: {users: [alice, bob]}, lead: {users: [carol]}}}\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(name)
}

fn lines(found: &Diagnostics) -> Vec<String> {
    found.sorted().iter().map(ToString::to_string).collect()
}

/// The smallest `houston.yaml` and these files.
fn with(files: &[(&str, &str)]) -> (Option<Config>, Vec<String>) {
    let files: Vec<_> = [("houston.yaml", SMALLEST)].into_iter().chain(files.iter().copied()).collect();
    let (config, found) = Config::from_files(&files, &kinds());
    (config, lines(&found))
}

#[test]
fn what_is_kept_how_long_is_read_and_what_is_wrong_is_named_with_its_place() {
    let read = |retention: &str| {
        let text = format!("{SMALLEST}{retention}");
        let (config, found) = Config::from_files(&[("houston.yaml", &text)], &kinds());
        (config, lines(&found))
    };
    let (config, found) = read(
        "retention:\n  runs: {for: 90d, megabytes: 200}\n  transcripts: {for: 12h}\n  audit: {for: 730d}\n  marks: {for: 7d}\n\
         exports: {megabytes: 500}\n",
    );
    assert_eq!(found, Vec::<String>::new());
    let config = config.expect("a configuration");
    let days = |days: u64| std::time::Duration::from_secs(days * 86_400);
    assert_eq!((config.retention.runs.age, config.retention.runs.megabytes), (Some(days(90)), Some(200)));
    assert_eq!(config.retention.transcripts.megabytes, Some(4096), "the default of what is not written");
    assert_eq!((config.retention.audit.age, config.retention.marks), (Some(days(730)), days(7)));
    assert_eq!(config.exports.megabytes, Some(500));
    let (config, found) = read("retention: {runs: {for: forever, megabytes: unlimited}}\n");
    assert_eq!(found, Vec::<String>::new());
    let runs = config.expect("a configuration").retention.runs;
    assert_eq!((runs.age, runs.megabytes), (None, None));
    let (_, found) = read(
        "retention:\n  runs: {for: 5m}\n  transcripts: {megabytes: 0}\n  audits: {for: 1d}\n  marks: {for: 1h}\n",
    );
    assert_eq!(
        found,
        [
            "error: houston.yaml:4:15: `for` takes a duration from 1 h to 36500 d, or `forever`, not `5m`\n  hint: write it as 90d",
            "error: houston.yaml:5:28: `megabytes` takes a whole number from 1 to 1000000000, not the number 0",
            "error: houston.yaml:6:3: unknown key `audits` in `retention`\n  hint: did you mean `audit`?",
            "error: houston.yaml:7:16: `for` takes a duration from 1 d to 3650 d, not `1h`",
        ]
    );
}

#[test]
fn the_defaults_and_the_sample_load_without_a_word() {
    let (config, found) = Config::sample(&kinds());
    assert_eq!(lines(&found), Vec::<String>::new());
    let config = config.expect("a configuration");
    assert_eq!(config.environments.len(), 2);
    assert_eq!(config.playbooks.len(), 7);
    let names: Vec<&str> = config.commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "abandon",
            "approve",
            "audit",
            "backup",
            "backup init",
            "backup list",
            "backup verify",
            "can",
            "cancel",
            "deny",
            "deploy",
            "freeze",
            "help",
            "lock",
            "locks",
            "logs",
            "maintenance",
            "maintenance cancel",
            "ping",
            "reload",
            "resolve",
            "restore",
            "retry",
            "review",
            "rollback",
            "runs",
            "scale",
            "schedules",
            "schedules allow",
            "schedules pause",
            "schedules resume",
            "schedules revoke",
            "schedules run",
            "show",
            "status",
            "unfreeze",
            "unlock",
            "whoami",
            "withdraw"
        ]
    );
    let (again, _) = Config::sample(&kinds());
    assert_eq!(config.revision, again.expect("a configuration").revision);
}

#[test]
fn the_sample_in_the_repository_is_the_embedded_one_and_loads_from_the_disk() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let report = check(&dir, &kinds());
    assert_eq!(lines(&report.diagnostics), Vec::<String>::new());
    assert_eq!(report.summary(), "2 environments, 5 services, 39 commands and 7 playbooks: no problems");
    let (embedded, _) = Config::sample(&kinds());
    assert_eq!(report.config.expect("a configuration").revision, embedded.expect("one").revision);
}

#[test]
fn commands_that_change_something_take_a_dry_run_and_a_reason() {
    use houston::chat::bind::{Known, Outcome, bind};
    let (config, _) = Config::sample(&kinds());
    let config = config.expect("a configuration");
    let known = Known::of(&config.environments);
    for typed in ["deploy prod web", "rollback prod web", "scale prod web 2", "lock prod why not"] {
        let line = houston::chat::parse::command_line(&typed.replacen(' ', " --dry-run ", 1));
        let Ok(Outcome::Run(bound)) = bind(&line, &config.commands, &known) else { panic!("{typed}") };
        assert!(bound.dry_run, "{typed}");
        let names: Vec<&str> = bound.values.iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&"dry-run"), "{typed}: a flag is no input: {names:?}");
    }
    let line = houston::chat::parse::command_line("deploy prod web --reason 'a new logo'");
    let Ok(Outcome::Run(bound)) = bind(&line, &config.commands, &known) else { panic!("it binds") };
    assert_eq!(bound.reason.as_deref(), Some("a new logo"));
}

#[test]
fn twenty_mistakes_are_more_than_twenty_findings_in_one_go() {
    let report = check(&fixture("twenty-mistakes"), &kinds());
    let found = lines(&report.diagnostics).join("\n");
    let expected = include_str!("../fixtures/config/twenty-mistakes.expected");
    assert_eq!(found.trim_end(), expected.trim_end(), "found now:\n{found}");
    assert!(report.diagnostics.count(Severity::Error) >= 20);
    assert!(report.config.is_none());
    for finding in report.diagnostics.sorted() {
        assert!(finding.at.is_some() && !finding.hints.is_empty(), "{finding}");
    }
}

#[test]
fn a_terminal_shows_the_line_with_a_caret_but_never_a_line_with_a_secret() {
    let dir = fixture("twenty-mistakes");
    let report = check(&dir, &kinds());
    let source = |file: &Path| source_text(&dir, file);
    let shown =
        Terminal { colour: false, root: Path::new("cfg"), source: &source }.render(&report.diagnostics);
    let excerpt = "error: cfg/environments/prod.yaml:9:14: `version` takes text, not the number 1.10\n  \
                   9 |     version: 1.10\n    |              ^\n  hint: quote it: \"1.10\"\n";
    assert!(shown.contains(excerpt), "{shown}");
    assert!(!shown.contains("zzTopSecret") && !shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    let coloured =
        Terminal { colour: true, root: Path::new(""), source: &source }.render(&report.diagnostics);
    assert!(coloured.contains("\u{1b}[1;31merror\u{1b}[0m"));
    let chat = for_chat(&report.diagnostics, 3);
    assert_eq!(chat.lines().count(), 4, "{chat}");
    assert!(chat.lines().last().is_some_and(|line| line.contains("`houston check`")), "{chat}");
}

#[test]
fn a_file_in_the_folder_replaces_the_built_in_one_as_a_whole() {
    let deploy = "deploy:\n  summary: Ours.\n  playbook: deploy\n  arguments:\n    environment: {type: environment, doc: where}\n";
    let (config, found) = with(&[("commands/deploy.yaml", deploy)]);
    assert_eq!(found, Vec::<String>::new());
    let config = config.expect("a configuration");
    let command = config.commands.iter().find(|command| command.name == "deploy").expect("deploy");
    assert_eq!((command.summary.as_str(), command.arguments.len()), ("Ours.", 1));
    let (_, found) = with(&[("commands/ours.yaml", deploy)]);
    assert_eq!(
        found,
        [
            "error: commands/ours.yaml:1:1: `deploy` is already a command, in built-in/commands/deploy.yaml:2:1\n  \
          hint: to replace it, put a file commands/deploy.yaml into the folder"
        ]
    );
}

#[test]
fn approval_is_needed_in_prod_unless_the_file_says_otherwise() {
    let (config, found) = with(&[
        ("environments/prod.yaml", "approvals:\n  scale: none\n"),
        ("environments/staging.yaml", ""),
        (
            "environments/dev.yaml",
            "approvals:\n  deploy:\n    any_of:\n      - {count: 1, from: lead}\n      - all_of: [{count: 2, from: [operator, lead]}]\n    \
             not_requester: false\n    expires: 1h\n    reason: required\n",
        ),
    ]);
    assert_eq!(found, Vec::<String>::new());
    let config = config.expect("a configuration");
    let approval = |environment: &str, command| config.approval(&EnvName::from(environment), command);
    let deploy = approval("prod", "deploy").expect("prod needs approval");
    assert!(deploy.not_requester && !deploy.reason_required);
    assert_eq!((deploy.expires.as_secs(), deploy.rule.as_str()), (1800, "built-in"));
    assert_eq!(
        format!("{:?}", deploy.any_of),
        r#"[[ApprovalGroup { count: 1, from: ["operator", "lead"] }]]"#
    );
    let restore = approval("prod", "restore").expect("prod needs approval");
    assert_eq!(restore.any_of[0].iter().map(|group| group.count).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(restore.any_of, approval("prod", "nodes remove").expect("approval").any_of);
    assert_eq!(approval("prod", "scale"), None);
    assert_eq!(approval("prod", "status"), None);
    assert_eq!(approval("prod", "cancel"), None);
    assert_eq!(approval("staging", "deploy"), None);
    let dev = approval("dev", "deploy").expect("the file says so");
    assert_eq!((dev.any_of.len(), dev.not_requester, dev.reason_required), (2, false, true));
    assert_eq!((dev.expires.as_secs(), dev.rule.as_str()), (3600, "environments/dev.yaml:2"));
}

#[test]
fn a_policy_that_nobody_can_meet_is_refused() {
    let policy = |text: &str| with(&[("environments/dev.yaml", text)]).1;
    let never = policy("approvals: {deploy: {count: 4, from: [operator, lead]}}");
    assert!(
        never[0].starts_with("error: environments/dev.yaml:1:13: `deploy` in `dev` needs 4 of"),
        "{never:?}"
    );
    let tight = policy("approvals: {deploy: {count: 2, from: operator}}");
    assert!(tight[0].starts_with("warning:") && tight[0].contains("when one of them asks"), "{tight:?}");
    assert_eq!(
        policy("approvals: {deploy: {count: 2, from: operator, not_requester: false}}"),
        Vec::<String>::new()
    );
    let either = "approvals: {deploy: {any_of: [{count: 9, from: lead}, {count: 1, from: operator}]}}";
    assert_eq!(policy(either), Vec::<String>::new());
}

#[test]
fn an_environment_that_sounds_like_production_should_say_who_approves() {
    let (config, found) = with(&[("environments/production.yaml", "")]);
    assert!(config.is_some());
    assert!(found[0].contains("`deploy`, `rollback` and `scale` in `production`"), "{found:?}");
    let (_, found) = with(&[("environments/production.yaml", "approvals: {default: none}")]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn prod_without_the_roles_of_the_built_in_rule_is_refused() {
    let main = "rocketchat: {url: 'http://x', username: h, password: {env: P}}\naccess: {roles: {dba: {users: [a]}}}\n";
    let (_, found) = Config::from_files(&[("houston.yaml", main), ("environments/prod.yaml", "")], &kinds());
    assert!(lines(&found)[0].contains("there are no such roles"), "{:?}", lines(&found));
}

#[test]
fn circles_of_services_are_named_once() {
    let service = |on: &str| format!("{{image: x, version: 'a', depends_on: {on}}}");
    let text = format!(
        "swarm: {{socket: /s}}\nservices:\n  a: {}\n  b: {}\n  c: {}\n  d: {}\n",
        service("[b]"),
        service("[c]"),
        service("[b, a]"),
        service("d")
    );
    let (_, found) = with(&[("environments/dev.yaml", &text)]);
    let circles: Vec<_> = found.iter().map(|f| f.lines().next().unwrap_or("")).collect();
    assert_eq!(
        circles,
        [
            "error: environments/dev.yaml:3:3: services depend on each other in a circle: a → b → c → a",
            "error: environments/dev.yaml:4:3: services depend on each other in a circle: b → c → b",
            "error: environments/dev.yaml:6:3: services depend on each other in a circle: d → d",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_said_and_does_not_stop_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |path: &str, bytes: &[u8]| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    };
    put("houston.yaml", b"rocketchat: \xff\n");
    put("environments/prod.yaml", &b"a: [".repeat(3_000_000));
    put("environments/dev.yml", b"");
    put("environments/notes.txt", b"");
    put("playbooks/deep.yaml", "[".repeat(100_000).as_bytes());
    put("commands/block.yaml", "- ".repeat(100_000).as_bytes());
    std::fs::create_dir(dir.path().join("commands/folder.yaml")).expect("a folder");
    std::fs::create_dir(dir.path().join("enviroments")).expect("a folder");
    let report = check(dir.path(), &kinds());
    let found: Vec<String> =
        lines(&report.diagnostics).iter().map(|f| f.lines().next().unwrap_or("").to_owned()).collect();
    assert_eq!(
        found,
        [
            "error: commands/block.yaml:1:65: nested more than 32 levels deep",
            "error: commands/folder.yaml:1:1: cannot read this file: it is not a regular file",
            "warning: enviroments:1:1: the folder `enviroments` is not read",
            "error: environments/dev.yml:1:1: files end in .yaml; this one would not be read",
            "warning: environments/notes.txt:1:1: not read: it does not end in .yaml",
            "error: environments/prod.yaml:1:1: the file is larger than the 1048576 bytes that are read",
            "error: houston.yaml:1:13: the text is not UTF-8 from here on",
            "error: playbooks/deep.yaml:1:256: nested more than 32 levels deep",
        ]
    );
    let missing = check(&dir.path().join("nowhere"), &kinds());
    assert!(lines(&missing.diagnostics)[0].contains("is not there"));
}

/// Pieces that configuration files are made of, and what hostile ones hold.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("rocketchat:"),
        Just("services:"),
        Just("  web: "),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("- "),
        Just("\n"),
        Just("  "),
        Just("\t"),
        Just("&a "),
        Just("*a"),
        Just("<<: "),
        Just("!!int "),
        Just("? "),
        Just(": "),
        Just("'"),
        Just("\""),
        Just("|\n"),
        Just(">-\n"),
        Just("---\n"),
        Just("...\n"),
        Just("%YAML 1.2\n"),
        Just("# c\n"),
        Just("{{ x }}"),
        Just("{% for %}"),
        Just("1.10"),
        Just("\u{feff}"),
        Just("é🚀"),
        Just("\0"),
        Just("steps:\n  - id: a\n    "),
        Just("http_check: {url: \"{{ "),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_as_any_file_is_reported_and_never_panics(text in prop_oneof![soup(), any::<String>()]) {
        for path in ["houston.yaml", "environments/prod.yaml", "commands/x.yaml", "playbooks/deploy.yaml"] {
            let (_, found) = Config::from_files(&[(path, &text)], &kinds());
            let shown = Terminal { colour: false, root: Path::new(""), source: &|_| Some(text.clone()) }.render(&found);
            let escapes = shown.matches('\u{1b}').count();
            prop_assert_eq!(escapes, 0);
        }
    }

    #[test]
    fn real_files_with_a_change_in_them_never_panic(
        file in 0..11_usize, at in 0..4000_usize, cut in 0..40_usize, insert in soup()
    ) {
        let mut files: Vec<(&str, &str)> = houston::assets::SAMPLE
            .iter()
            .chain(houston::assets::DEFAULTS)
            .map(|asset| (asset.path, asset.text))
            .collect();
        let file = file % files.len();
        let chars: Vec<char> = files[file].1.chars().collect();
        let at = at % (chars.len() + 1);
        let rest = &chars[(at + cut).min(chars.len())..];
        let text: String = chars[..at].iter().copied().chain(insert.chars()).chain(rest.iter().copied()).collect();
        files[file].1 = &text;
        let (config, found) = Config::from_files(&files, &kinds());
        prop_assert_eq!(config.is_some(), !found.has_errors());
    }
}

/// A command and a playbook of the operator's, and what is found in the playbook.
fn playbook(text: &str) -> Vec<String> {
    let command =
        "p:\n  summary: S.\n  playbook: p\n  arguments:\n    environment: {type: environment, doc: d}\n";
    let files = [("commands/p.yaml", command), ("playbooks/p.yaml", text), ("environments/dev.yaml", "")];
    let found = with(&files).1;
    found.iter().map(|f| f.lines().next().unwrap_or("").to_owned()).collect()
}

#[test]
fn steps_are_checked_against_their_kinds_and_the_names_that_there_are() {
    let head = "description: D\ninputs: {environment: {type: environment}}\n";
    let one = |rest: &str| playbook(&format!("{head}{rest}")).join("\n");
    assert_eq!(one("steps: [{id: a, wait: {for: 5s}}]"), "");
    for (rest, message) in [
        ("steps: []", "`steps` is empty"),
        ("steps: [{id: a}]", "the step does not say what it does"),
        (
            "steps: [{id: a, wait: {for: 5s}, ssh: {}}]",
            "a step does one thing: `wait` and `ssh` are several step kinds",
        ),
        ("steps: [{id: a, wiat: {for: 5s}}]", "`wiat` is not a step kind"),
        ("steps: [{wait: {for: 5s}}]", "`id` is missing"),
        ("steps: [{id: a, wait: }]", "`wait` needs `for`"),
        ("steps: [{id: a, when: 'version', wait: {for: 5s}}]", "`version` is not defined in this playbook"),
        ("steps: [{id: a, when: 'a b', wait: {for: 5s}}]", "`a b` is not a template"),
        (
            "each: services\nsteps: [{id: a, when: declared.helth, wait: {for: 5s}}]",
            "a declared service has no `helth`",
        ),
        ("steps: [{id: a, wait: {for: '{{ x'}}]", "is not a template"),
        (
            "steps: [{id: a, retry: {attempts: 0}, wait: {for: 5s}}]",
            "`attempts` takes a whole number from 1 to 100",
        ),
        ("steps: [{id: a, timeout: 5, wait: {for: 5s}}]", "`timeout` takes a duration"),
        (
            "steps: [{id: a, swarm_service: {action: updaet, service: x}}]",
            "`action` takes `update`, `scale` or `rollback`",
        ),
        (
            "steps: [{id: a, undo: {shh: {host: h}}, swarm_service: {action: update, service: x}}]",
            "playbooks/p.yaml:3:24: `shh` is not a step kind",
        ),
        (
            "steps: [{id: a, undo: {ssh: {command: [x]}}, swarm_service: {action: update, service: x}}]",
            "playbooks/p.yaml:3:24: `ssh` needs `host`",
        ),
        (
            "steps: [{id: a, undo: {ssh: {host: h, command: [x]}}, swarm_service: {action: update, service: x}}]",
            "warning: playbooks/p.yaml:3:55: the undo of `a` is reached only by hand",
        ),
    ] {
        assert!(one(rest).contains(message), "{rest}: {}", one(rest));
    }
}

#[test]
fn the_reference_names_every_command_step_and_key() {
    let (config, _) = Config::sample(&kinds());
    let commands = houston::config::docs::commands(&config.expect("a configuration").commands);
    assert!(commands.contains("## `deploy ENVIRONMENT [SERVICE [VERSION]]`"), "{commands}");
    assert!(commands.contains("Takes `--dry-run`, `--reason TEXT` and `--break-glass WHY`."), "{commands}");
    assert!(
        commands.contains("| `outcome` | `happened`, `did-not-happen`, `undo` or `undone` |"),
        "{commands}"
    );
    let steps = houston::config::docs::steps(&kinds());
    assert!(
        steps.contains("| `action` | `update`, `scale` or `rollback` | as in the reference Required. |"),
        "{steps}"
    );
    let config = houston::config::docs::config();
    for key in [
        "rocketchat.url",
        "limits.stale_after",
        "approvals.break_glass",
        "maintenance.announce",
        "maintenance.required_for",
        "approvals.COMMAND",
        "depends_on",
        "endpoint_mode",
    ] {
        assert!(config.contains(&format!("| `{key}` |")), "{key}");
    }
    assert!(config.contains("Default 2m."), "{config}");
}

/// It would wait for nobody, fail three times, and leave the run stuck.
#[test]
fn an_undo_that_is_a_question_is_refused_before_anything_runs() {
    let real = houston::app::kinds();
    let real: Vec<&dyn houston::playbook::steps::StepKind> = real.values().map(AsRef::as_ref).collect();
    let playbook = "description: D\ninputs: {environment: {type: environment}}\non_failure: undo\nsteps:\n  - id: more\n    \
                    swarm_service: {action: scale, service: web, replicas: 2}\n    undo: {ask: {question: \"Undo it?\"}}\n";
    let command = "more:\n  summary: S.\n  playbook: more\n  arguments: {environment: {type: environment, doc: an environment}}\n";
    let files = [
        ("houston.yaml", SMALLEST),
        ("environments/dev.yaml", ""),
        ("playbooks/more.yaml", playbook),
        ("commands/more.yaml", command),
    ];
    let (_, found) = Config::from_files(&files, &real);
    let found = lines(&found);
    assert!(
        found.iter().any(|line| line.starts_with("error: playbooks/more.yaml:")
            && line.contains("the undo of `more` cannot be a question")),
        "{found:?}"
    );
}

#[test]
fn access_rules_are_compared_with_what_there_is() {
    let rules = |rules: &str| {
        let main = format!(
            "rocketchat: {{url: 'http://x', username: h, password: {{env: P}}}}\naccess:\n  roles: {{operator: {{users: [a, b, c]}}}}\n  rules:\n    {rules}\n"
        );
        let (config, found) =
            Config::from_files(&[("houston.yaml", &main), ("environments/dev.yaml", "")], &kinds());
        (config, lines(&found).iter().map(|f| f.lines().next().unwrap_or("").to_owned()).collect::<Vec<_>>())
    };
    let (config, found) = rules(
        "- allow: {users: ['@dora'], rooms: '#ops', commands: [deploy, reading], arguments: {environment: dev}}",
    );
    assert_eq!(found, Vec::<String>::new());
    let rule = &config.expect("a configuration").access.rules[0];
    assert!(rule.allow);
    assert_eq!(
        (rule.users.as_slice(), rule.rooms.as_slice()),
        (&["dora".to_owned()][..], &["ops".to_owned()][..])
    );
    assert_eq!(
        rules("- deny: {commands: [deplyo]}").1,
        ["error: houston.yaml:5:7: `deplyo` is not a command"]
    );
    assert_eq!(
        rules("- deny: {commands: [deploy], arguments: {environment: prd, enviroment: x}}").1,
        [
            "error: houston.yaml:5:7: none of these commands has an argument `enviroment`",
            "error: houston.yaml:5:7: `prd` is not an environment"
        ]
    );
}

/// Blocks of YAML in a page that begin with `# path`.
pub fn files_of_page(page: &str) -> Vec<(&str, &str)> {
    page.split("```yaml\n")
        .skip(1)
        .filter_map(|rest| {
            let (block, _) = rest.split_once("```")?;
            Some((block.lines().next()?.strip_prefix("# ")?.trim(), block))
        })
        .collect()
}

#[test]
fn the_examples_in_the_documentation_load() {
    // The step kinds that there are, not those of the fixtures.
    let real = houston::app::kinds();
    let real: Vec<&dyn houston::playbook::steps::StepKind> = real.values().map(AsRef::as_ref).collect();
    for (page, least) in [
        (include_str!("../../docs/playbooks.md"), 3),
        (include_str!("../../docs/getting-started.md"), 2),
        (include_str!("../../docs/backups.md"), 1),
    ] {
        let mut files = files_of_page(page);
        assert!(files.len() >= least, "{files:?}");
        if !files.iter().any(|(path, _)| *path == "houston.yaml") {
            files.push(("houston.yaml", SMALLEST));
        }
        let (config, found) = Config::from_files(&files, &real);
        assert_eq!(lines(&found), Vec::<String>::new());
        assert!(config.is_some());
    }
}

#[test]
fn maintenance_is_compared_with_the_commands_and_with_where_it_is_announced() {
    let found = |prod: &str| {
        let found = with(&[("environments/dev.yaml", prod)]).1;
        found.iter().map(|f| f.lines().next().unwrap_or("").to_owned()).collect::<Vec<_>>().join("\n")
    };
    let windows = "windows: [{days: [tue], from: '22:00', to: '23:30', reason: patches}]";
    assert_eq!(
        found(&format!(
            "maintenance: {{rooms: ['#ops'], announce: [2h, 1d], {windows}, required_for: [deploy]}}\n"
        )),
        ""
    );
    for (rules, message) in [
        (windows, "maintenance of `dev` is announced nowhere"),
        ("required_for: [deploi]", "there is no command `deploi`"),
        ("required_for: [status]", "`status` never waits for maintenance"),
        ("announce: [5s]", "`announce"),
        ("windows: [{from: '22:00', to: '23:30'}]", "`reason` is missing"),
        ("window: []", "`window`"),
    ] {
        let found = found(&format!("maintenance: {{{rules}}}\n"));
        assert!(found.contains(message), "{rules}: {found}");
    }
}
