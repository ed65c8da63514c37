//! The machines of the environments: SSH, the programs that playbooks start there, Docker and its Swarm.
//!
//! Must not: start anything there but a look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::{Check, Look, Patient, within};
use crate::config::Config;
use crate::config::environment::{Environment, Host, SwarmAccess};
use crate::diagnostic::Location;
use crate::exec::ssh::{SshHost, SshPool};
use crate::exec::{Command, ExecError, Runner as _};
use crate::playbook::model::{StepTemplate, UndoTemplate};
use crate::providers::swarm::{Manager, Swarm, SwarmError};
use crate::text;

/// The oldest Docker that the way to Swarm was tried with speaks this: 20.10.
const OLDEST_API: (u32, u32) = (1, 41);

/// Programs and where a playbook starts them.
type Programs = BTreeMap<String, Location>;

pub(super) fn looks(patient: &Arc<Patient>, ssh: &SshPool) -> Vec<Look> {
    let Some(config) = &patient.config else { return Vec::new() };
    let mut looks = Vec::new();
    for environment in config.environments.values() {
        let name = &environment.name;
        for host in environment.hosts.values() {
            let about = format!("{name} host {}", host.name);
            let look = HostLook {
                about: about.clone(),
                host: host.clone(),
                ssh: ssh.host(name, host),
                programs: programs(config, host),
                manager: manager(environment, host)
                    .map(|socket| (format!("{name} Docker on {}", host.name), socket)),
                limit: patient.limit,
            };
            looks.push(Look::new(about.clone(), async move { within(look.limit, &about, look.all()).await }));
        }
        if let Some(SwarmAccess::Socket(path)) = &environment.swarm {
            let (about, swarm) = (format!("{name} Docker"), Swarm::local(path));
            let limit = patient.limit;
            looks.push(Look::new(about.clone(), async move {
                within(limit, &about, docker(&about, &swarm)).await
            }));
        }
    }
    looks
}

/// The socket of its engine, if the environment's Swarm is reached through this host.
fn manager(environment: &Environment, host: &Host) -> Option<std::path::PathBuf> {
    match &environment.swarm {
        Some(SwarmAccess::Managers { hosts, socket }) if hosts.contains(&host.name) => Some(socket.clone()),
        _ => None,
    }
}

/// What playbooks start on a host of this name, as far as that is written out.
fn programs(config: &Config, host: &Host) -> Programs {
    let mut programs = Programs::new();
    let mut take = |kind: &str, params: &Json, step: &StepTemplate| {
        let named = params.get("host").and_then(Json::as_str);
        if kind != "ssh" || named != Some(host.name.as_str()) {
            return;
        }
        let program = params.pointer("/command/0").and_then(Json::as_str).filter(|word| !word.contains("{{"));
        if let Some(program) = program {
            programs.entry(program.to_owned()).or_insert_with(|| step.at.clone());
        }
    };
    for step in config.playbooks.values().flat_map(|playbook| &playbook.steps) {
        take(&step.kind, &step.params, step);
        if let Some(UndoTemplate::Step { kind, params }) = &step.undo {
            take(kind, params, step);
        }
    }
    programs
}

struct HostLook {
    about: String,
    host: Host,
    ssh: SshHost,
    programs: Programs,
    /// What its engine is called, and its socket.
    manager: Option<(String, std::path::PathBuf)>,
    limit: Duration,
}

impl HostLook {
    async fn all(&self) -> Vec<Check> {
        if let Err(error) = self.ssh.connect().await {
            return vec![unreached(&self.about, &error)];
        }
        let through = match self.host.jump.as_slice() {
            [] => String::new(),
            jump => format!(" through {}", text::and_list(jump)),
        };
        let reached = format!("{} is reached{through}; its host key is the known one", self.ssh.name());
        let mut checks = vec![Check::ok(&self.about, reached)];
        checks.extend(self.started_there().await);
        if let Some((about, socket)) = &self.manager {
            let swarm = Swarm::over(vec![Manager::ssh(self.ssh.clone(), socket)]);
            checks.extend(docker(about, &swarm).await);
        }
        checks
    }

    /// The programs that playbooks start there, and which restic it is.
    async fn started_there(&self) -> Vec<Check> {
        if self.programs.is_empty() {
            return Vec::new();
        }
        let about = format!("{} programs", self.about);
        let script = r#"for program; do command -v "$program" >/dev/null || echo "$program"; done"#;
        let mut args = vec!["-c".to_owned(), script.to_owned(), "sh".to_owned()];
        args.extend(self.programs.keys().cloned());
        let missing = match self.run("sh", args).await {
            Ok(said) => said,
            Err(error) => return vec![unreached(&about, &error)],
        };
        let mut checks = Vec::new();
        for (program, at) in self.programs.iter().filter(|(p, _)| missing.lines().any(|line| line == *p)) {
            let message = format!("`{program}` is not there, and {at} starts it");
            checks.push(Check::problem(&about, message).fix(format!(
                "install it on {}, in the PATH of a login without a terminal; or change the step",
                self.host.name
            )));
        }
        if checks.is_empty() {
            let names: Vec<&String> = self.programs.keys().collect();
            checks.push(Check::ok(&about, format!("{} are there", text::and_list(&names))));
        }
        let restic = self.programs.keys().find(|program| program.rsplit('/').next() == Some("restic"));
        if let Some(restic) = restic.filter(|restic| !missing.lines().any(|line| line == **restic)) {
            checks.push(self.restic(restic).await);
        }
        checks
    }

    async fn restic(&self, program: &str) -> Check {
        let about = format!("{} restic", self.about);
        let said = self.run(program, vec!["version".to_owned()]).await;
        match said.as_deref().map(|said| said.lines().find(|line| line.starts_with("restic "))) {
            Ok(Some(version)) => Check::ok(about, version),
            Ok(None) | Err(_) => {
                Check::problem(about, format!("`{program} version` does not tell a version"))
                    .fix(format!("`{program} version` on {} by hand; install restic anew", self.host.name))
            }
        }
    }

    async fn run(&self, program: &str, args: Vec<String>) -> Result<String, ExecError> {
        let command = Command { program: program.to_owned(), args, stdin: None, timeout: Some(self.limit) };
        let exit = self.ssh.run(&command, &|_, _| {}, &CancellationToken::new()).await?;
        Ok(exit.tail)
    }
}

fn unreached(about: &str, error: &ExecError) -> Check {
    match error {
        ExecError::NotStarted { what, reason, hint, .. } => {
            Check::problem(about, format!("{what}: {reason}")).fix(
                hint.clone().unwrap_or_else(|| "is the machine up, and may this one reach it?".to_owned()),
            )
        }
        error => Check::problem(about, error.to_string()).fix("is its connection stable? ask again"),
    }
}

async fn docker(about: &str, swarm: &Swarm) -> Vec<Check> {
    let engine = match swarm.engine().await {
        Ok(engine) => engine,
        Err(error) => return vec![useless(about, &error)],
    };
    let named = format!("Docker {}", engine.version);
    let mut checks = Vec::new();
    if !is_new_enough(&engine.api) {
        let message =
            format!("{named} speaks API {}; Houston needs 1.41 (Docker 20.10) or later", engine.api);
        checks.push(Check::problem(about, message).fix("upgrade Docker there"));
    }
    if !engine.manager {
        let state = if engine.swarm.is_empty() { "unknown" } else { &engine.swarm };
        let message = format!("{named} is not a manager of a Swarm (its Swarm is {state})");
        let check = Check::problem(about, message);
        checks.push(match engine.swarm.as_str() {
            "locked" => check.fix("`docker swarm unlock` there"),
            "active" => check.fix(
                "name managers under `swarm` in the environment file, or make it one: `docker node promote NODE` on a \
                 manager",
            ),
            _ => check.fix(
                "name managers under `swarm` in the environment file, or run `docker swarm init` there",
            ),
        });
        return checks;
    }
    match swarm.nodes().await {
        Err(error) => checks.push(useless(about, &error)),
        Ok(nodes) => {
            let managers: Vec<_> = nodes.iter().filter(|node| node.manager).collect();
            let away: Vec<&str> = managers
                .iter()
                .filter(|node| node.reachability.as_deref() == Some("unreachable"))
                .map(|node| node.hostname.as_str())
                .collect();
            let of = format!(
                "{named}, manager of a Swarm of {} with {}",
                text::count(nodes.len(), "node"),
                text::count(managers.len(), "manager")
            );
            if away.is_empty() && checks.is_empty() {
                checks.push(Check::ok(about, of));
            } else if !away.is_empty() {
                let left = spare(managers.len(), away.len());
                let message = format!(
                    "{of}, of which {} cannot be reached: {} more, and nothing can be changed",
                    text::and_list(&away),
                    left + 1
                );
                checks.push(
                    Check::warning(about, message)
                        .fix("start Docker there, or replace it: `docker node demote NODE` and `docker node promote OTHER`"),
                );
            }
        }
    }
    checks
}

/// How many managers may still go before the rest is no majority.
fn spare(managers: usize, away: usize) -> usize {
    (managers.saturating_sub(1) / 2).saturating_sub(away)
}

fn useless(about: &str, error: &SwarmError) -> Check {
    let message = match error {
        // Each manager is looked at by itself.
        SwarmError::NoManager { tried } => match tried.as_slice() {
            [one] => format!("{}: {}", one.manager, one.problem),
            _ => error.to_string(),
        },
        error => error.to_string(),
    };
    let fix = error.hint().unwrap_or_else(|| "is it Docker that listens on this socket?".to_owned());
    Check::problem(about, message).fix(fix)
}

fn is_new_enough(api: &str) -> bool {
    let mut parts = api.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= OLDEST_API
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::Level;
    use super::*;

    /// An engine that answers these paths.
    fn engine(dir: &std::path::Path, answers: &[(&'static str, u16, &'static str)]) -> Swarm {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (path, answers) = (dir.join("docker.sock"), answers.to_vec());
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = socket.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let (_, status, body) =
                    answers.iter().find(|(of, ..)| *of == path).copied().unwrap_or(("", 404, "{}"));
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close", body.len());
                let _ = socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
            }
        });
        Swarm::local(path)
    }

    async fn only(answers: &[(&'static str, u16, &'static str)]) -> Check {
        let dir = tempfile::tempdir().expect("a folder");
        let checks = docker("prod Docker", &engine(dir.path(), answers)).await;
        assert_eq!(checks.len(), 1, "{checks:?}");
        checks.into_iter().next().expect("one")
    }

    const VERSION: (&str, u16, &str) = ("/version", 200, r#"{"Version":"28.5.2","ApiVersion":"1.51"}"#);
    const MANAGER: (&str, u16, &str) =
        ("/info", 200, r#"{"Swarm":{"LocalNodeState":"active","ControlAvailable":true}}"#);

    #[tokio::test]
    async fn an_engine_that_is_no_manager_is_told_how_to_become_one() {
        let check = only(&[VERSION, ("/info", 200, r#"{"Swarm":{"LocalNodeState":"inactive"}}"#)]).await;
        assert_eq!(check.result, Level::Problem);
        assert!(check.message.contains("is not a manager of a Swarm (its Swarm is inactive)"), "{check:?}");
        assert!(check.fixes[0].contains("`docker swarm init` there"), "{check:?}");
        let check = only(&[VERSION, ("/info", 200, r#"{"Swarm":{"LocalNodeState":"active"}}"#)]).await;
        assert!(check.fixes[0].contains("`docker node promote NODE`"), "{check:?}");
        let check = only(&[VERSION, ("/info", 200, r#"{"Swarm":{"LocalNodeState":"locked"}}"#)]).await;
        assert!(check.fixes[0].contains("`docker swarm unlock`"), "{check:?}");
    }

    #[tokio::test]
    async fn a_swarm_without_a_leader_is_told_and_how_to_get_one() {
        let lost = (
            "/nodes",
            503,
            r#"{"message":"rpc error: code = Unknown desc = The swarm does not have a leader."}"#,
        );
        let check = only(&[VERSION, MANAGER, lost]).await;
        assert_eq!(check.result, Level::Problem);
        assert!(check.message.contains("no leader"), "{check:?}");
        assert!(check.fixes[0].contains("--force-new-cluster"), "{check:?}");
    }

    #[tokio::test]
    async fn a_manager_that_cannot_be_reached_is_a_warning_while_there_is_a_majority() {
        let nodes = r#"[{"ID":"a","Spec":{"Role":"manager"},"Description":{"Hostname":"one"},"ManagerStatus":{"Reachability":"reachable"}},
            {"ID":"b","Spec":{"Role":"manager"},"Description":{"Hostname":"two"},"ManagerStatus":{"Reachability":"unreachable"}},
            {"ID":"c","Spec":{"Role":"manager"},"Description":{"Hostname":"three"},"ManagerStatus":{"Reachability":"reachable"}}]"#;
        let check = only(&[VERSION, MANAGER, ("/nodes", 200, nodes)]).await;
        assert_eq!(check.result, Level::Warning);
        assert!(
            check.message.ends_with("of which `two` cannot be reached: 1 more, and nothing can be changed"),
            "{check:?}"
        );
        assert!(check.fixes[0].contains("docker node demote"), "{check:?}");
        assert_eq!((spare(5, 1), spare(3, 0), spare(1, 0)), (1, 1, 0));
    }

    #[tokio::test]
    async fn an_engine_of_old_is_told_from_a_new_one() {
        let old = ("/version", 200, r#"{"Version":"19.03.15","ApiVersion":"1.40"}"#);
        let check = only(&[old, MANAGER, ("/nodes", 200, "[]")]).await;
        assert!(
            check.result == Level::Problem && check.message.contains("Docker 19.03.15 speaks API 1.40"),
            "{check:?}"
        );
        assert_eq!(check.fixes, ["upgrade Docker there"]);
        assert!(is_new_enough("1.41") && is_new_enough("2.0") && !is_new_enough("1.9") && !is_new_enough(""));
    }
}
