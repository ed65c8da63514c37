//! The sample company's services on a real Swarm: images made of this program's own file, services with a
//! label, all of it taken away again at the end, or at the next start when there was no end.
//!
//! Must not: touch a service or an image that does not carry the label.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{FIRST, SERVICES as COMPANY, VERSIONS, first_services};
use crate::cli::{Failure, asked_to_stop, out};
use crate::config::env;
use crate::digest::Digest;
use crate::providers::swarm::{Swarm, SwarmError};
use crate::sandbox::engine::{Behaviour, TASK_SUBCOMMAND, service_spec};

/// On every service and image of the demo.
pub(super) const LABEL: &str = "houston.demo";

/// Before the names of the images: nothing answers on this port of this machine, so the engine cannot pull
/// from somewhere else what was made here.
pub(super) const REGISTRY: &str = "127.0.0.1:9/";

/// Before the names of the services, which are their owner's.
pub(super) const SERVICES: &str = "houston-demo-";

const SOCKET: &str = "/var/run/docker.sock";

/// For all tasks to be healthy.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// For the tasks of removed services to go: an image in use cannot be removed.
const GONE_WITHIN: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a task listens in its container.
const PORT: u16 = 8080;

/// The part of a Swarm that the demo has for a while.
pub(super) struct Borrowed {
    socket: PathBuf,
    swarm: Swarm,
    /// The images are on this node and nowhere else.
    node: Option<String>,
}

impl Borrowed {
    /// `None`: asked to stop meanwhile; nothing is left.
    pub(super) async fn start() -> Result<Option<Self>, Failure> {
        let socket = socket()?;
        let mut borrowed = Self { swarm: Swarm::local(&socket), socket, node: None };
        let started = tokio::select! {
            started = borrowed.set_up() => started,
            () = asked_to_stop() => {
                borrowed.stop().await;
                return Ok(None);
            }
        };
        match started {
            Ok(()) => Ok(Some(borrowed)),
            Err(failure) => {
                borrowed.stop().await;
                Err(failure)
            }
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// As `placement` in an environment file has it.
    pub(super) fn placement(&self) -> String {
        self.node.iter().map(|id| format!("\"{}\"", on_node(id))).collect()
    }

    async fn set_up(&mut self) -> Result<(), Failure> {
        let swarm = &self.swarm;
        for service in swarm.services().await.map_err(|e| failure(&e))? {
            let taken = first_services().any(|(name, env, _)| service.name == name_of(env, name));
            if taken && service.label(LABEL).is_none() {
                return Err(Failure::new(format!("this Swarm has a service `{}` already", service.name))
                    .hint("the demo does not touch it: use another engine, or the demo without `--swarm`"));
            }
        }
        self.clear().await.map_err(|e| failure(&e))?;
        out::line("Making the images …");
        let archive = tokio::task::spawn_blocking(archive)
            .await
            .map_err(|_| Failure::new("making the images failed unexpectedly"))?
            .map_err(|e| {
                Failure::new(format!("this program cannot be put into an image: {e}"))
                    .hint("use the demo without `--swarm`")
            })?;
        swarm.load_images(archive).await.map_err(|e| failure(&e))?;
        out::line("Starting the services …");
        self.node = swarm.node_id().await.map_err(|e| failure(&e))?;
        for (name, env, tasks) in first_services() {
            let image = format!("{REGISTRY}houston-demo/{name}:{FIRST}");
            let mut spec = service_spec(&name_of(env, name), &image, tasks);
            spec["Labels"] = json!({ LABEL: "true" });
            let constraints: Vec<String> = self.node.iter().map(|id| on_node(id)).collect();
            spec["TaskTemplate"]["Placement"] = json!({ "Constraints": constraints });
            swarm.create_service(&spec).await.map_err(|e| failure(&e))?;
        }
        match tokio::time::timeout(READY_WITHIN, self.ready()).await {
            Ok(ready) => ready.map_err(|e| failure(&e)),
            Err(_) => {
                let why = self.what_is_wrong().await;
                Err(Failure::new(format!(
                    "the services of the demo are not up after {}{why}",
                    crate::text::duration(READY_WITHIN)
                ))
                .hint(format!(
                    "`docker service ls --filter label={LABEL}` while `houston demo --swarm` starts"
                )))
            }
        }
    }

    async fn ready(&self) -> Result<(), SwarmError> {
        let wanted =
            usize::try_from(first_services().map(|(_, _, tasks)| tasks).sum::<u64>()).unwrap_or(usize::MAX);
        loop {
            let mut running = 0;
            for (name, env, _) in first_services() {
                running +=
                    self.swarm.tasks(&name_of(env, name)).await?.iter().filter(|t| t.is_running()).count();
            }
            if running >= wanted {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the first task that failed says.
    async fn what_is_wrong(&self) -> String {
        for (name, env, _) in first_services() {
            let tasks = self.swarm.tasks(&name_of(env, name)).await.unwrap_or_default();
            if let Some(error) = tasks.iter().find_map(|task| task.error.as_deref()) {
                return format!(": {error}");
            }
        }
        String::new()
    }

    /// Takes away what carries the label. What cannot be taken away is said.
    pub(super) async fn stop(self) {
        if let Err(error) = self.clear().await {
            out::note(format!("the demo's services or images are not all gone: {error}"));
            out::note("the next `houston demo --swarm` takes them away");
        }
    }

    async fn clear(&self) -> Result<(), SwarmError> {
        let ours = |service: &crate::providers::swarm::Service| service.label(LABEL).is_some();
        for service in self.swarm.services().await?.iter().filter(|service| ours(service)) {
            self.swarm.remove_service(&service.name).await?;
        }
        let deadline = tokio::time::Instant::now() + GONE_WITHIN;
        loop {
            let mut kept = None;
            for image in self.swarm.images(LABEL).await? {
                kept = self.swarm.remove_image(&image).await.err().or(kept);
            }
            match kept {
                None => return Ok(()),
                Some(error) if tokio::time::Instant::now() > deadline => return Err(error),
                Some(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

fn on_node(id: &str) -> String {
    format!("node.id=={id}")
}

fn name_of(environment: &str, service: &str) -> String {
    format!("{SERVICES}{environment}{service}")
}

fn failure(error: &SwarmError) -> Failure {
    let failure = Failure::new(error.to_string());
    let failure = match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    };
    failure.hint("without `--swarm` the demo brings an engine of its own")
}

/// As the `docker` command finds it.
fn socket() -> Result<PathBuf, Failure> {
    let host = env::get("DOCKER_HOST").filter(|host| !host.is_empty());
    let path = match host.as_deref() {
        None => SOCKET,
        Some(host) => host.strip_prefix("unix://").ok_or_else(|| {
            Failure::new(format!(
                "DOCKER_HOST is `{host}`, and the demo can use a socket of this machine only"
            ))
            .hint("DOCKER_HOST=unix:///var/run/docker.sock")
        })?,
    };
    if std::fs::exists(path).unwrap_or(false) {
        return Ok(path.into());
    }
    Err(Failure::new(format!("no Docker engine answers on `{path}`"))
        .hint("start Docker and make it a Swarm: `docker swarm init`")
        .hint("without `--swarm` the demo brings an engine of its own"))
}

/// All images in one archive: one layer, and a configuration for each service in each version.
fn archive() -> std::io::Result<Bytes> {
    let (layer, start) = layer()?;
    let diff = format!("sha256:{}", Digest::of(&layer));
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "layer.tar", &layer, 0o644)?;
    let mut manifest = Vec::new();
    for (service, _) in COMPANY {
        for (version, behaviour) in VERSIONS {
            let config = image(&start, service, version, behaviour, &diff);
            let bytes = serde_json::to_vec(&config)?;
            let name = format!("{}.json", Digest::of(&bytes));
            append(&mut tar, &name, &bytes, 0o644)?;
            let tag = format!("{REGISTRY}houston-demo/{service}:{version}");
            manifest.push(json!({ "Config": name, "RepoTags": [tag], "Layers": ["layer.tar"] }));
        }
    }
    append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?, 0o644)?;
    tar.into_inner().map(Bytes::from)
}

/// An image's configuration, by the OCI image specification with Docker's health check.
fn image(start: &[String], service: &str, version: &str, behaviour: Behaviour, layer: &str) -> Json {
    let call = |arguments: &[&str]| -> Vec<String> {
        let arguments = std::iter::once(TASK_SUBCOMMAND).chain(arguments.iter().copied());
        start.iter().cloned().chain(arguments.map(str::to_owned)).collect()
    };
    let listen = format!("0.0.0.0:{PORT}");
    let mut arguments = vec!["--service", service, "--version", version, "--listen", &listen];
    let slow;
    match behaviour {
        Behaviour::Healthy => {}
        Behaviour::Crash => arguments.extend(["--fail", "crash"]),
        Behaviour::Unhealthy => arguments.extend(["--fail", "health"]),
        Behaviour::Slow(milliseconds) => {
            slow = milliseconds.to_string();
            arguments.extend(["--slow-ms", &slow]);
        }
    }
    let probe: Vec<String> =
        std::iter::once("CMD".to_owned()).chain(call(&["--probe", &PORT.to_string()])).collect();
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "User": "65534:65534",
            "Entrypoint": call(&arguments),
            "ExposedPorts": { format!("{PORT}/tcp"): {} },
            "Labels": { LABEL: "true", "org.opencontainers.image.version": version },
            "StopSignal": "SIGTERM",
            "Healthcheck": {
                "Test": probe,
                "Interval": nanoseconds(Duration::from_secs(1)),
                "Timeout": nanoseconds(Duration::from_secs(5)),
                "Retries": 3,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
}

/// This program with the libraries that it is linked to, and how it is started there.
fn layer() -> std::io::Result<(Vec<u8>, Vec<String>)> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut program = Vec::new();
    std::fs::File::open("/proc/self/exe")?.read_to_end(&mut program)?;
    append(&mut tar, "houston", &program, 0o755)?;
    let mut loader = None;
    for library in libraries(&std::fs::read_to_string("/proc/self/maps")?) {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        append(&mut tar, &format!("lib/{name}"), &std::fs::read(&library)?, 0o755)?;
        if name.starts_with("ld-") {
            loader = Some(format!("/lib/{name}"));
        }
    }
    let start = match loader {
        // The loader is not where the program's file says, so it is started by name.
        Some(loader) => vec![loader, "--library-path".to_owned(), "/lib".to_owned(), "/houston".to_owned()],
        None => vec!["/houston".to_owned()],
    };
    Ok((tar.into_inner()?, start))
}

/// The shared libraries in a process's memory map, each once. A program that is linked statically has none.
fn libraries(maps: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so")))
        .map(Path::to_owned)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    tar.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_memory_map_once_each() {
        let maps = "\
55d0-55d1 r--p 00000000 fe:00 1 /usr/bin/houston
7f00-7f01 r--p 00000000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6
7f01-7f02 r-xp 00001000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6
7f03-7f04 r--p 00000000 fe:00 3 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffe-7fff rw-p 00000000 00:00 0 [stack]
7f05-7f06 rw-p 00000000 00:00 0
";
        let names: Vec<_> = libraries(maps).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            names,
            ["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libc.so.6"]
        );
    }
}
