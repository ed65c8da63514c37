//! The machine that Houston runs on.

use std::os::unix::fs::PermissionsExt as _;

use houston::doctor::{Daemon, Level};
use houston::store::Store;

use super::{Clinic, find, is};

#[tokio::test]
async fn a_folder_that_is_wrong_is_told_finding_by_finding() {
    let clinic = Clinic::open().await;
    clinic.file(
        "houston.yaml",
        "rocketchat: {url: 'http://127.0.0.1:1', user_id: x, token: {file: token}}\naccess: {roles: {operator: {users: [alice]}}}\nlimit: {}\n",
    );
    let found = clinic.findings().await;
    is(&found[0], Level::Problem, "configuration", "houston.yaml:3:1: ", "did you mean `limits`?");
    is(&found[1], Level::Problem, "configuration", "nothing that it names was looked at", "mend it first");
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[tokio::test]
async fn others_who_may_read_the_state_folder_are_told() {
    let clinic = Clinic::open().await;
    std::fs::set_permissions(clinic.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let fix = format!("`chmod 700 {}`", clinic.state().display());
    Clinic::only(&clinic.findings().await, Level::Warning, "state folder", "(mode 0755)", &fix);
}

#[tokio::test]
async fn a_state_folder_that_is_none_or_another_users_is_told() {
    let clinic = Clinic::open().await;
    std::fs::remove_dir(clinic.state()).unwrap();
    let checks = clinic.examine().await;
    assert!(find(&checks, "state folder").message.contains("the first start makes it"), "{checks:#?}");
    assert!(!clinic.state().exists(), "nothing is made");
    std::fs::write(clinic.state(), "").unwrap();
    Clinic::only(&clinic.findings().await, Level::Problem, "state folder", "is not a folder", "`--state`");

    if nix::unistd::geteuid().is_root() {
        let clinic = Clinic::open().await;
        drop(Store::open(&clinic.state().join("journal")).unwrap());
        nix::unistd::chown(&clinic.state(), Some(nix::unistd::Uid::from_raw(4711)), None).unwrap();
        let checks = clinic.examine().await;
        let folder = find(&checks, "state folder");
        is(
            folder,
            Level::Warning,
            "state folder",
            "belongs to `4711`, and this runs as `root`",
            "sudo -u 4711",
        );
        // As root it would leave files that their Houston could not open.
        assert!(find(&checks, "store").message.starts_with("not opened"), "{checks:#?}");
    }
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_and_a_full_disk_are_told() {
    let mut clinic = Clinic::open().await;
    clinic.more("limits: {free_megabytes: 4294967295}\n");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "free space", "no run begins", "free some space");
    clinic.more("");
    let deep = tempfile::Builder::new().prefix(&"x".repeat(120)).tempdir().unwrap();
    let clinic_dir = std::mem::replace(&mut clinic.dir, deep);
    std::fs::create_dir_all(clinic.config()).unwrap();
    for file in ["houston.yaml", "token"] {
        std::fs::copy(clinic_dir.path().join("config").join(file), clinic.config().join(file)).unwrap();
    }
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "state folder", "is too long for the socket", "at most 96 bytes");
}

#[tokio::test]
async fn a_store_that_does_not_open_is_told() {
    let clinic = Clinic::open().await;
    let dir = clinic.state().join("journal");
    let store = Store::open(&dir).unwrap();
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "store", "is in use by another Houston", "stop that Houston");
    drop(store);
    assert_eq!(clinic.findings().await, []);
    // What is open is not opened, whoever asks.
    let clinic = Clinic { daemon: Daemon::Silent("no answer within 5 s".to_owned()), ..clinic };
    Clinic::only(
        &clinic.findings().await,
        Level::Problem,
        "store",
        "does not answer: no answer",
        "a restart",
    );

    let clinic = Clinic { daemon: Daemon::Absent, ..clinic };
    for entry in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            std::fs::remove_dir_all(entry).unwrap();
        } else if entry.file_name().is_some_and(|name| name != "made") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "store", "its file `db` is missing", "`houston store import`");
}

#[tokio::test]
async fn an_audit_log_that_was_changed_is_told() {
    let clinic = Clinic::open().await;
    std::fs::write(clinic.state().join("audit.jsonl"), "{\"number\":1}\n").unwrap();
    let found = clinic.findings().await;
    Clinic::only(
        &found,
        Level::Problem,
        "audit log",
        "tampered with or damaged",
        "compare it with an export",
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_told() {
    let clinic = Clinic::open().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    clinic.more(&format!("http: {{listen: '127.0.0.1:{port}'}}\n"));
    let found = clinic.findings().await;
    let fix = format!("`ss -ltnp 'sport = :{port}'`");
    Clinic::only(&found, Level::Problem, "http.listen", "could not listen on", &fix);
    drop(taken);
    assert_eq!(clinic.findings().await, []);
    clinic.more("http: {listen: '203.0.113.9:8080'}\n");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "http.listen", "203.0.113.9:8080", "an address of this machine");
    let clinic = Clinic { daemon: Daemon::Runs, ..clinic };
    clinic.more(&format!("http: {{listen: '127.0.0.1:{port}'}}\n"));
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Warning, "http.listen", "nobody listens on", "restart it");
}
