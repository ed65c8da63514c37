//! The demo's page in a real browser: the stories of `tests/page`, each against a demo of its own.

use std::path::Path;
use std::process::Command;

use crate::cli::demo;
use crate::support::parts;

/// `HOUSTON_TEST_PICTURES` names a folder for pictures of the page; none are taken without it.
#[expect(clippy::disallowed_methods, reason = "the browser is another program")]
#[expect(clippy::print_stdout, reason = "figures are shown")]
fn story(name: &str) {
    let Some((browser, playwright)) = parts::browser() else { return };
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    shop(&dir.path().join("config"));
    let (_demo, url) = demo(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/run.mjs");
    let mut node = Command::new("node");
    node.arg(script).args([name, &url]).arg(browser).arg(playwright);
    node.args(parts::given("HOUSTON_TEST_PICTURES"));
    let output = node.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// A command whose run gets stuck: it fails, and cannot be undone.
fn shop(config: &Path) {
    let there = |file: &str, text: &str| {
        let file = config.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    there(
        "commands/open-shop.yaml",
        "open-shop:\n  summary: Opens the shop.\n  playbook: open-shop\n  arguments:\n    environment: {type: environment, doc: which}\n",
    );
    let nowhere = |what: &str| format!("{{http_check: {{url: 'http://127.0.0.1:1/{what}', within: 1s}}}}");
    there(
        "playbooks/open-shop.yaml",
        &format!(
            "description: Open the shop\ninputs: {{environment: {{type: environment}}}}\nsteps:\n  - id: grow\n    \
             swarm_service: {{service: web, action: scale, replicas: 2}}\n    undo: {}\n  - id: answers\n    http_check: \
             {{url: 'http://127.0.0.1:1/open', within: 1s}}\non_failure: undo\n",
            nowhere("closed")
        ),
    );
}

#[test]
fn three_people_deploy_approve_deny_fail_and_roll_back() {
    story("deployment");
}

#[test]
fn the_page_of_a_run_is_live_reads_well_and_needs_no_script() {
    story("run-page");
}

#[test]
fn a_deployment_needs_no_mouse() {
    story("keyboard");
}

#[test]
fn hostile_long_and_many_messages_files_and_lost_connections_do_no_harm() {
    story("messages");
}
