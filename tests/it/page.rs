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
