//! Machines over a real sshd, and engines: the stand-in, and a real Docker where there is one.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use houston::doctor::{Check, Level};
use tokio::time::Instant;

use super::{Clinic, find, is};
use crate::ssh;
use crate::support::house;

/// An environment with this host, as the part's sshd has it but for what is changed.
fn prod(clinic: &Clinic, part: &ssh::Part, change: impl FnOnce(&mut String)) {
    let host = &part.host;
    let identity = host.identity.as_ref().unwrap().display();
    let mut text = format!(
        "hosts:\n  node1:\n    ssh: 127.0.0.1:{}\n    identity: {identity}\n    known_hosts: {}\n",
        host.port,
        host.known_hosts.as_ref().unwrap().display()
    );
    change(&mut text);
    clinic.file("environments/prod.yaml", &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_reached_has_no_finding_also_through_another() {
    let Some(part) = ssh::part() else { return };
    let clinic = Clinic::open().await;
    prod(&clinic, &part, |_| ());
    let checks = clinic.examine().await;
    let host = find(&checks, "prod host node1");
    assert!(host.result == Level::Ok && host.message.contains("its host key is the known one"), "{host:?}");
    assert!(find(&checks, "ssh").message.contains("OpenSSH"), "{checks:#?}");
    assert!(checks.iter().all(|check| check.result == Level::Ok), "{checks:#?}");
    let hop = format!("    jump: [localhost:{}]\n", part.host.port);
    prod(&clinic, &part, |text| text.push_str(&hop));
    let checks = clinic.examine().await;
    let host = find(&checks, "prod host node1");
    assert!(host.result == Level::Ok && host.message.contains("is reached through `localhost:"), "{host:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_not_reaching_a_host_is_told_and_no_key_is_accepted() {
    let Some(part) = ssh::part() else { return };
    let clinic = Clinic::open().await;
    let known = part.host.known_hosts.as_ref().unwrap().display().to_string();
    let identity = part.host.identity.as_ref().unwrap().display().to_string();
    let (port, name) = (part.host.port, "prod host node1");

    let empty = clinic.dir.path().join("known");
    std::fs::write(&empty, "").unwrap();
    prod(&clinic, &part, |text| *text = text.replace(&known, &empty.display().to_string()));
    let scan = format!("`ssh-keyscan -p {port} 127.0.0.1 >> {}`", empty.display());
    Clinic::only(&clinic.findings().await, Level::Problem, name, "the host key is not known", &scan);
    assert_eq!(std::fs::read_to_string(&empty).unwrap(), "", "the key was not added");

    let other = std::fs::read_to_string(format!("{identity}.pub")).unwrap();
    std::fs::write(&empty, format!("[127.0.0.1]:{port} {other}")).unwrap();
    Clinic::only(&clinic.findings().await, Level::Problem, name, "NOT the one that is known", "own console");

    // The host's own key logs nobody in.
    let stranger = Path::new(&identity).with_file_name("host").display().to_string();
    prod(&clinic, &part, |text| *text = text.replace(&format!("{identity}\n"), &format!("{stranger}\n")));
    Clinic::only(
        &clinic.findings().await,
        Level::Problem,
        name,
        "the login was refused",
        "`authorized_keys`",
    );

    prod(&clinic, &part, |text| *text = text.replace(&format!(":{port}\n"), ":1\n"));
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, name, "Connection refused", "is sshd running there, on port 1?");
    // What is told to be typed can be typed afterwards.
    assert!(found[0].fixes[0].contains("ssh://127.0.0.1:1 true`"), "{found:?}");
    assert!(!found[0].fixes[0].contains(&clinic.dir.path().join("run").display().to_string()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_holds_nobody_up() {
    let Some(part) = ssh::part() else { return };
    let mut clinic = Clinic::open().await;
    clinic.limit = Duration::from_secs(3);
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let mut text = String::new();
    for n in 1..=4 {
        let _ = writeln!(text, "  dead{n}: {{ssh: '127.0.0.1:{port}', known_hosts: KNOWN}}");
    }
    let known = part.host.known_hosts.as_ref().unwrap().display().to_string();
    prod(&clinic, &part, |host| host.push_str(&text.replace("KNOWN", &known)));
    let began = Instant::now();
    let checks = clinic.examine().await;
    assert!(began.elapsed() < Duration::from_secs(9), "one after the other: {:?}", began.elapsed());
    for n in 1..=4 {
        let name = format!("prod host dead{n}");
        assert_eq!(find(&checks, &name).result, Level::Problem);
    }
    assert_eq!(find(&checks, "prod host node1").result, Level::Ok);
    let hosts: Vec<&str> = checks
        .iter()
        .map(|check| check.check.as_str())
        .filter(|name| name.starts_with("prod host"))
        .collect();
    let order = ["dead1", "dead2", "dead3", "dead4", "node1"].map(|name| format!("prod host {name}"));
    assert_eq!(hosts, order, "told in a fixed order");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_playbooks_start_there_are_looked_for() {
    let Some(part) = ssh::part() else { return };
    let clinic = Clinic::open().await;
    prod(&clinic, &part, |_| ());
    clinic.file("commands/tell.yaml", "save:\n  summary: Saves.\n  playbook: save\n");
    let restic = clinic.dir.path().join("restic");
    let playbook = |program: &str| {
        clinic.file(
            "playbooks/save.yaml",
            &format!(
                "description: Saves\nsteps:\n  - id: save\n    ssh: {{host: node1, command: ['{program}', backup]}}\n    undo: none\n"
            ),
        );
    };
    playbook("no-such-program");
    let found = clinic.findings().await;
    let name = "prod host node1 programs";
    Clinic::only(
        &found,
        Level::Problem,
        name,
        "`no-such-program` is not there, and playbooks/save.yaml:4:5",
        "install it on node1",
    );

    // What is written out by somebody else's program says which one it is.
    std::fs::write(&restic, "#!/bin/sh\n[ \"$1\" = version ] && echo 'restic 0.16.4 compiled with go1.22'\n")
        .unwrap();
    std::fs::set_permissions(&restic, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    playbook(&restic.display().to_string());
    let checks = clinic.examine().await;
    assert_eq!(find(&checks, "prod host node1 restic").message, "restic 0.16.4 compiled with go1.22");
    std::fs::write(&restic, "#!/bin/sh\nexit 3\n").unwrap();
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "prod host node1 restic", "does not tell a version", "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_of_an_environment_is_looked_at() {
    let t = house::House::start().await;
    let clinic = Clinic::open().await;
    let socket = t.state().with_file_name("docker.sock");
    clinic.file("environments/prod.yaml", &format!("swarm: {{socket: {}}}\n", socket.display()));
    let checks = clinic.examine().await;
    let docker = find(&checks, "prod Docker");
    assert!(docker.result == Level::Ok && docker.message.contains("manager of a Swarm of "), "{docker:?}");
    // Over SSH, where the host is a manager.
    if let Some(part) = ssh::part() {
        prod(&clinic, &part, |text| {
            let _ = writeln!(text, "swarm: {{managers: [node1], socket: {}}}", socket.display());
        });
        let checks = clinic.examine().await;
        let docker = find(&checks, "prod Docker on node1");
        assert!(
            docker.result == Level::Ok && docker.message.contains("manager of a Swarm of "),
            "{docker:?}"
        );
    }
    t.end().await;
    clinic.file("environments/prod.yaml", &format!("swarm: {{socket: {}}}\n", socket.display()));
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "prod Docker", "docker.sock: ", "the Docker socket may be opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_docker_is_a_manager_of_its_swarm() {
    let Some(socket) = crate::support::parts::docker() else { return };
    let clinic = Clinic::open().await;
    clinic.file("environments/prod.yaml", &format!("swarm: {{socket: {}}}\n", socket.display()));
    let checks = clinic.examine().await;
    let docker: &Check = find(&checks, "prod Docker");
    is(
        &Check { fixes: vec!["none".to_owned()], ..docker.clone() },
        Level::Ok,
        "prod Docker",
        "manager of a Swarm",
        "none",
    );
}
