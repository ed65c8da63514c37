//! The demo's page in a real browser: what a newcomer does in the first minute.

use std::path::Path;
use std::process::Command;

use crate::cli::demo;

/// `HOUSTON_TEST_BROWSER` names a Chromium, `HOUSTON_TEST_PLAYWRIGHT` the folder that holds
/// `node_modules/playwright-core` (`tests/parts/browser.sh start` prints both).
#[test]
#[expect(clippy::disallowed_methods, reason = "the browser is another program")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn alice_deploys_and_bob_approves_by_a_click() {
    let (Ok(browser), Ok(playwright)) =
        (std::env::var("HOUSTON_TEST_BROWSER"), std::env::var("HOUSTON_TEST_PLAYWRIGHT"))
    else {
        eprintln!("SKIPPED: needs a real browser (`./test --install` installs one)");
        return;
    };
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let (_demo, url) = demo(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts/browser.mjs");
    let output = Command::new("node").arg(script).args([&url, &browser, &playwright]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("deployed in"), "{said}");
}
