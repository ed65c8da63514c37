//! The program as people and scripts meet it: exit codes, one line a check, JSON, a Houston that runs beside it.

use serde_json::Value;

use super::Clinic;
use crate::cli::{houston, run};
use crate::support::house::{House, Setup};

fn doctor(config: &std::path::Path, state: &std::path::Path, more: &[&str]) -> (i32, String, String) {
    let (config, state) = (config.display().to_string(), state.display().to_string());
    let args = ["doctor", "--config", &config, "--state", &state];
    tokio::task::block_in_place(|| run(&[&args, more].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_houston_all_is_well_and_nothing_is_disturbed() {
    for dialect in [houston::sandbox::Dialect::Monolith, houston::sandbox::Dialect::Streamer] {
        let t = House::with(Setup { dialect, ..Setup::default() }).await;
        let (code, said, error) = doctor(&t.config_dir(), &t.state(), &[]);
        assert_eq!((code, error.as_str()), (0, ""), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let (summary, checks) = lines.split_last().unwrap();
        assert!(checks.iter().all(|line| line.starts_with("ok       ")), "{said}");
        assert_eq!(*summary, format!("{} checks: nothing to mend", checks.len()));
        assert!(said.contains("ok       store: in use by a Houston that runs and answers"), "{said}");
        assert!(said.contains("ok       prod Docker: "), "{said}");
        // The same again: what goes on side by side is told in one order.
        let again = doctor(&t.config_dir(), &t.state(), &[]).1;
        let names = |said: &str| -> Vec<String> {
            said.lines().map(|line| line.split(": ").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names(&again), names(&said));
        t.say("alice", "ops", "!ping").await;
        t.expect("ops", &["pong"]).await;
        t.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_end_with_one_warnings_with_zero_and_each_has_its_fix_beside_it() {
    let clinic = Clinic::open().await;
    clinic.more("access: {roles: {operator: {users: [nobody-at-all]}}}\n");
    let (code, said, error) = doctor(&clinic.config(), &clinic.state(), &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    assert!(said.contains("\nwarning  person nobody-at-all: houston.yaml:2:"), "{said}");
    assert!(said.contains("\n         fix: mend the name in houston.yaml:2:"), "{said}");
    assert!(said.ends_with(" checks: 1 warning\n") && !said.contains('\u{1b}'), "{said}");

    std::fs::write(clinic.config().join("token"), "a-token-that-is-none").unwrap();
    let (code, said, error) = doctor(&clinic.config(), &clinic.state(), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("\nproblem  account: the token of user id"), "{said}");
    assert!(
        error.starts_with("error: ") && error.contains(" checks: 1 problem\nhint: each finding"),
        "{error}"
    );
    assert!(!said.contains("a-token-that-is-none"), "{said}");

    let (code, said, _) = doctor(&clinic.config(), &clinic.state(), &["--json"]);
    assert_eq!(code, 1);
    let all: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&all["problems"], &all["warnings"]), (&1.into(), &0.into()));
    let account = all["checks"].as_array().unwrap().iter().find(|check| check["check"] == "account").unwrap();
    assert_eq!(account["result"], "problem");
    assert!(account["fixes"][0].as_str().unwrap().contains("Personal Access Tokens"), "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_ssh_is_told_what_to_install() {
    let clinic = Clinic::open().await;
    clinic.file("environments/prod.yaml", "hosts: {node1: 'deploy@127.0.0.1:1'}\n");
    let (config, state) = (clinic.config().display().to_string(), clinic.state().display().to_string());
    let mut command = houston(&["doctor", "--config", &config, "--state", &state]);
    command.env("PATH", clinic.dir.path());
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("\nproblem  ssh: ") && said.contains("`apt-get install openssh-client`"), "{said}");
    assert!(said.contains("\nproblem  prod host node1: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_of_the_log_that_is_none_is_told() {
    let clinic = Clinic::open().await;
    let (config, state) = (clinic.config().display().to_string(), clinic.state().display().to_string());
    for (written, why) in
        [("houston=verbose", "error parsing level filter"), ("verbose", "neither a level nor a part")]
    {
        let mut command = houston(&["doctor", "--config", &config, "--state", &state]);
        command.env("HOUSTON_LOG", written);
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        let said = String::from_utf8_lossy(&output.stdout);
        let line = format!("warning  log: `HOUSTON_LOG` is `{written}`, which is no filter: ");
        assert!(said.starts_with(&line) && said.contains(why), "{said}");
        assert!(said.contains("fix: write a level (`error`, `warn`, `info`"), "{said}");
        assert_eq!(output.status.code(), Some(0));
    }
}
