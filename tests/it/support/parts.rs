//! The real parts that some tests need: where they are, and what becomes of a test where there is none.
//!
//! Must not: skip in silence. `./test` counts the lines that are written here.

use std::path::PathBuf;

/// As `tests/parts/sshd.sh start` prints it: a folder with the sshd's port, the key that may log in and its known hosts.
pub fn sshd() -> Option<PathBuf> {
    needed("HOUSTON_TEST_SSHD", "a real sshd")
}

/// As `tests/parts/docker.sh start` prints it: the socket of an engine that is a Swarm's manager.
pub fn docker() -> Option<PathBuf> {
    needed("HOUSTON_TEST_DOCKER", "a real Docker engine")
}

/// As `tests/parts/swarm3.sh start` prints it: the folder of three managers of one Swarm.
pub fn swarm3() -> Option<PathBuf> {
    needed("HOUSTON_TEST_SWARM3", "three managers of a Swarm")
}

/// As `tests/parts/host.sh start` prints it: the folder of a machine of its own, which may be broken.
pub fn host() -> Option<PathBuf> {
    needed("HOUSTON_TEST_HOST", "a machine of its own")
}

/// As `tests/parts/image.sh start` prints it: the name of the image.
pub fn image() -> Option<PathBuf> {
    needed("HOUSTON_TEST_IMAGE", "the image")
}

/// As `tests/parts/browser.sh start` prints them: a Chromium, and the folder that holds `node_modules/playwright-core`.
pub fn browser() -> Option<(PathBuf, PathBuf)> {
    needed("HOUSTON_TEST_BROWSER", "a real browser").zip(given("HOUSTON_TEST_PLAYWRIGHT"))
}

/// As `tests/parts/s3.sh start` prints it: a folder with the `url` of an S3 service, and the `key` and `secret` of one who
/// may do everything there. restic is installed where there is one.
pub fn s3() -> Option<PathBuf> {
    needed("HOUSTON_TEST_S3", "a real S3 service, and restic")
}

/// As `tests/parts/clients.sh start` prints it: the folder of Rocket.Chat clients that nobody here wrote.
pub fn clients() -> Option<PathBuf> {
    needed("HOUSTON_TEST_CLIENTS", "the clients of others")
}

/// What a switch names, if anything.
pub fn given(switch: &str) -> Option<PathBuf> {
    std::env::var_os(switch).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `None`, said loudly, where there is none; with `CI=true`, where everything is installed, the test fails.
#[expect(clippy::print_stderr, reason = "a skip must be seen: `./test` looks for this line")]
fn needed(switch: &str, what: &str) -> Option<PathBuf> {
    let part = given(switch);
    if part.is_none() {
        let ci = given("CI").is_some_and(|ci| ci.as_os_str() == "true");
        assert!(!ci, "{switch} is not set: run `./test --install`");
        eprintln!("SKIPPED: needs {what} (`./test --install` brings one)");
    }
    part
}
