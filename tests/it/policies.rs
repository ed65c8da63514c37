//! `policies.yaml`: what is expected of rights and approvals, held against the folder before it is in force.

use std::path::Path;

use houston::chat::policies::load;
use houston::diagnostic::Severity;

const HOUSTON: &str = "rocketchat: {url: 'http://127.0.0.1:3000', username: houston, password: {env: P}}\n\
    access:\n  roles:\n    operator: {users: [alice, bob]}\n    lead: {users: [carol]}\n";
const PROD: &str = "services: {web: {image: demo/web, version: '1.7', replicas: {count: 1, min: 1, max: 5}}}\n\
    swarm: {socket: /run/d.sock}\n";

/// The findings of a folder with these files, as `houston check` lists them.
fn found(houston: &str, policies: &str) -> Vec<String> {
    found_with(houston, policies, &[])
}

fn found_with(houston: &str, policies: &str, more: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("houston.yaml", houston);
    write("environments/prod.yaml", PROD);
    write("environments/dev.yaml", &PROD.replace("d.sock", "e.sock"));
    write("policies.yaml", policies);
    for (path, text) in more {
        write(path, text);
    }
    let kinds = houston::app::kinds();
    let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
    let report = load(dir.path(), &kinds);
    let errors: Vec<String> = report
        .diagnostics
        .sorted()
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{finding} | {}", finding.hints.join(" | ")))
        .collect();
    assert_eq!(report.config.is_none(), !errors.is_empty(), "a folder with an error is not in force");
    errors
}

#[test]
fn what_holds_is_not_mentioned() {
    let policies = "\
- {who: bob, command: deploy prod web 1.8, may: true, approval: needed}
- {who: bob, command: deploy dev web 1.8, approval: none}
- {who: mallory, command: deploy prod web 1.8, may: false}
- {who: mallory, command: status prod, may: true}
- {who: dave, rocketchat_roles: [admin], command: scale prod web 3, may: false}
- {who: bob, command: '!deploy prod web 1.8', approved_by: bob, enough: false}
- {who: bob, command: deploy prod web 1.8, approved_by: ['@carol']}
- {who: alice, command: rollback prod web, approved_by: [mallory, alice], enough: false}
";
    assert_eq!(found(HOUSTON, policies), Vec::<String>::new());
}

#[test]
fn what_does_not_hold_is_found_at_its_line_with_the_rule_that_decided() {
    let policies = "\
- {who: mallory, command: deploy prod web 1.8, may: true}
- {who: bob, command: deploy prod web 1.8, may: false, approval: none}
- {who: bob, command: deploy prod web 1.8, approved_by: [bob]}
- {who: bob, command: deploy prod web 1.8, approved_by: [carol], enough: false}
- {who: bob, command: deploy dev web 1.8, approved_by: [carol]}
- {who: bob, command: deploy prdo web 1.8, may: true}
";
    let found = found(HOUSTON, policies);
    let wanted = [
        ("policies.yaml:1:", "`mallory` may not `deploy prod web 1.8`"),
        ("policies.yaml:2:", "`bob` may `deploy prod web 1.8`"),
        ("policies.yaml:2:", "needs 1 operator or lead"),
        ("policies.yaml:3:", "the consent of `bob` to `deploy prod web 1.8` of bob is not enough"),
        ("policies.yaml:4:", "is enough, which is not expected"),
        ("policies.yaml:5:", "nobody has to approve"),
        ("policies.yaml:6:", "not a command of this folder"),
    ];
    for (place, text) in wanted {
        let hit = found.iter().any(|line| line.contains(place) && line.contains(text));
        assert!(hit, "{place} {text} in {found:#?}");
    }
    assert!(found.iter().any(|line| line.contains("prod") && line.contains("prdo")), "{found:#?}");
}

#[test]
fn a_line_that_expects_nothing_is_a_mistake() {
    let policies = "- {who: bob, command: ping}\n- {who: bob, command: ping, mya: true}\n- {who: bob, command: ping, may: true, enough: true}\n";
    let found = found(HOUSTON, policies).join("\n");
    for part in
        ["policies.yaml:1:3: nothing is expected here", "policies.yaml:2:", "`mya`", "`enough` of whom?"]
    {
        assert!(found.contains(part), "{part} in {found}");
    }
}

#[test]
fn rules_that_let_nobody_change_anything_are_refused() {
    let shut = format!("{HOUSTON}  rules:\n    - deny: {{arguments: {{environment: prod}}}}\n");
    let refused = found(&shut, "[]");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(
        refused[0].contains("houston.yaml:7:") && refused[0].contains("nobody change anything in `prod`")
    );
    let open = format!(
        "{HOUSTON}  rules:\n    - allow: {{users: [carol], rooms: [war-room], arguments: {{environment: prod}}}}\n    \
         - deny: {{arguments: {{environment: prod}}}}\n"
    );
    assert_eq!(found(&open, "[]"), Vec::<String>::new());
    assert_eq!(
        found(
            &open,
            "- {who: carol, room: war-room, command: scale prod web 2, may: true}\n- {who: carol, command: scale prod web 2, may: false}\n"
        ),
        Vec::<String>::new()
    );
}

#[test]
fn a_line_may_be_about_the_step_that_waits() {
    let tour =
        "tour: {summary: A tour., playbook: tour, arguments: {environment: {type: environment, doc: any}}}\n";
    let steps = "description: A tour\ninputs: {environment: {type: environment}}\nsteps:\n\
        - {id: look, wait: {for: 1s}}\n- {id: leap, approval: {from: [lead]}, wait: {for: 1s}}\n";
    let files = [("commands/tour.yaml", tour), ("playbooks/tour.yaml", steps)];
    let holds = "\
- {who: bob, command: tour prod, step: leap, approval: needed, approved_by: [carol]}
- {who: bob, command: tour prod, step: leap, approved_by: [alice], enough: false}
- {who: carol, command: tour dev, step: leap, approved_by: [carol], enough: false}
- {who: bob, command: tour prod, step: look, approval: none}
";
    assert_eq!(found_with(HOUSTON, holds, &files), Vec::<String>::new());
    let wrong = "\
- {who: bob, command: tour prod, step: leap, approval: none}
- {who: bob, command: tour prod, step: jump, approval: needed}
- {who: bob, command: ping, step: leap, approval: needed}
";
    let errors = found_with(HOUSTON, wrong, &files);
    for (error, part) in errors.iter().zip([
        "`tour prod` needs 1 lead, not the requester (playbooks/tour.yaml:5), which is not expected",
        "the playbook `tour` has no step `jump`",
        "`ping` has no steps",
    ]) {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn a_step_that_could_never_begin_is_found() {
    let tour =
        "tour: {summary: A tour., playbook: tour, arguments: {environment: {type: environment, doc: any}}}\n";
    let steps = |approval: &str| {
        format!(
            "description: A tour\ninputs: {{environment: {{type: environment}}}}\nsteps:\n\
             - {{id: leap, approval: {approval}, wait: {{for: 1s}}}}\n"
        )
    };
    for (approval, part) in [
        ("{from: [chief]}", "`chief` is not a role"),
        ("{count: 2, from: [lead]}", "step `leap` of `tour` needs 2 of `lead`, and the files name 1 person"),
        ("{from: [lead], otherwise: undo}", "otherwise"),
        ("{from: [lead], escalate: {after: 1h, to: {from: [operator]}}}", "before it escalates"),
        ("needed", "a policy"),
        ("{}", "exactly one of"),
    ] {
        let errors = found_with(
            HOUSTON,
            "[]",
            &[("commands/tour.yaml", tour), ("playbooks/tour.yaml", &steps(approval))],
        );
        assert!(errors.iter().any(|error| error.contains(part)), "{part} in {errors:?}");
    }
    let houston = format!("{HOUSTON}approvals: {{expires: 2h}}\n");
    let fits = steps("{from: [operator], escalate: {after: 1h, to: {from: [lead]}}, not_approver: true}");
    let files = [("commands/tour.yaml", tour), ("playbooks/tour.yaml", fits.as_str())];
    assert_eq!(
        found_with(&houston, "[]", &files),
        Vec::<String>::new(),
        "`approvals.expires` holds for steps"
    );
}
