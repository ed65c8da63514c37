//! `houston demo`: a chat server with its page, an engine whose tasks are real processes, and the bot
//! between them, in one process. The configuration folder that it writes is one like any other.
//!
//! Must not: take a shortcut that `houston serve` does not take: the bot logs in, plans and deploys through
//! the same sockets.

mod swarm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Failure, asked_to_stop, out, serve};
use crate::app::{Houston, Options};
use crate::sandbox::engine::{self, Behaviour};
use crate::sandbox::{self, Sandbox};
use crate::secret::Redactor;

/// How long the bot may take to come online before the demo says that something is wrong.
const ONLINE_WITHIN: Duration = Duration::from_secs(20);

const HOUSTON_YAML: &str = include_str!("demo/files/houston.yaml");
const PROD_YAML: &str = include_str!("demo/files/prod.yaml");
const STAGING_YAML: &str = include_str!("demo/files/staging.yaml");

/// Services of the sample company: name, tasks in prod.
const SERVICES: [(&str, u64); 3] = [("api", 2), ("web", 3), ("worker", 1)];

/// What each version of every service does.
const VERSIONS: [(&str, Behaviour); 5] = [
    ("1.6", Behaviour::Healthy),
    ("1.7", Behaviour::Healthy),
    ("1.8", Behaviour::Slow(1500)),
    ("1.9", Behaviour::Crash),
    ("2.0", Behaviour::Unhealthy),
];

/// What runs at the beginning.
const FIRST: &str = "1.7";

/// Every service as it runs at the beginning: name in the environment, environment's beginning, tasks.
fn first_services() -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    SERVICES.into_iter().flat_map(|(name, tasks)| [(name, "", tasks), (name, "staging-", 1)])
}

#[derive(Args, Debug)]
pub struct Demo {
    /// Where the page is served
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep configuration and state here; default is a temporary folder that goes with the demo
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Do not open a browser
    #[arg(long)]
    no_browser: bool,
    /// Deploy onto the Docker Swarm of this machine (or of DOCKER_HOST) instead of the sandbox's engine
    ///
    /// The engine has to be a manager: `docker swarm init` makes it one. Images and services of the demo
    /// carry the label `houston.demo`, and are removed at its end.
    #[arg(long)]
    swarm: bool,
}

impl Demo {
    pub async fn run(self, redactor: Redactor) -> Result<(), Failure> {
        let temporary = Folder::new(self.dir.clone())?;
        let dir = temporary.path();
        let sandbox = start_sandbox(self.port).await?;
        let socket = dir.join("engine.sock");
        let platform = if self.swarm {
            match swarm::Borrowed::start().await? {
                Some(borrowed) => Platform::Borrowed(borrowed),
                // Asked to stop meanwhile.
                None => return Ok(()),
            }
        } else {
            Platform::Own(start_engine(&socket).await?)
        };
        let shown = self.show(dir, &sandbox, &platform, redactor).await;
        platform.stop().await;
        sandbox.stop().await;
        shown
    }

    async fn show(
        &self,
        dir: &Path,
        sandbox: &Sandbox,
        platform: &Platform,
        redactor: Redactor,
    ) -> Result<(), Failure> {
        let stop = asked_to_stop();
        write_config(dir, sandbox, platform)?;
        let config = serve::load(&dir.join("config"))?;
        let houston = Houston::start(Options::new(config, dir.join("state"), redactor)).await?;
        if tokio::time::timeout(ONLINE_WITHIN, online(&houston)).await.is_err() {
            out::note("Houston is not online yet; the log says why");
        }
        welcome(sandbox, platform).await;
        if !self.no_browser && out::at_terminal() {
            open_browser(&sandbox.url()).await;
        }
        stop.await;
        out::line("\nstopping");
        houston.stop(Duration::from_secs(3)).await;
        Ok(())
    }
}

/// What is deployed to.
enum Platform {
    /// The stand-in for a Docker engine that the demo brings.
    Own(engine::Engine),
    Borrowed(swarm::Borrowed),
}

impl Platform {
    fn socket(&self) -> &Path {
        match self {
            Self::Own(engine) => engine.socket(),
            Self::Borrowed(borrowed) => borrowed.socket(),
        }
    }

    /// Before the names of images and of services on the engine.
    fn prefixes(&self) -> (&'static str, &'static str) {
        match self {
            Self::Own(_) => ("", ""),
            Self::Borrowed(_) => (swarm::REGISTRY, swarm::SERVICES),
        }
    }

    fn placement(&self) -> String {
        match self {
            Self::Own(_) => String::new(),
            Self::Borrowed(borrowed) => borrowed.placement(),
        }
    }

    async fn stop(self) {
        match self {
            Self::Own(engine) => engine.stop().await,
            Self::Borrowed(borrowed) => borrowed.stop().await,
        }
    }
}

async fn start_sandbox(port: u16) -> Result<Sandbox, Failure> {
    let mut seed = sandbox::Seed::default();
    // Slash commands reach the bot in the demo; a workspace of one's own decides with this setting.
    seed.settings.insert("Message_AllowUnrecognizedSlashCommand".to_owned(), true.into());
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // Three people on one page share one address, and with it one budget of REST calls.
    sandbox::start(sandbox::Options { listen, seed, rate_limits: false, ..Default::default() }).await.map_err(
        |e| {
            Failure::new(format!("the sandbox cannot listen on {listen}: {e}"))
                .hint("choose another port: `houston demo --port 3001`")
        },
    )
}

async fn start_engine(socket: &Path) -> Result<engine::Engine, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot find this program's own file: {e}")))?;
    let mut options = engine::Options::new(socket, program);
    for (service, _) in SERVICES {
        for (version, behaviour) in VERSIONS {
            options = options.image(&format!("houston-demo/{service}:{version}"), behaviour);
        }
    }
    for (service, environment, tasks) in first_services() {
        let image = format!("houston-demo/{service}:{FIRST}");
        options = options.service(engine::service_spec(&format!("{environment}{service}"), &image, tasks));
    }
    engine::start(options).await.map_err(|e| {
        Failure::new(format!("the sandbox's engine cannot listen on `{}`: {e}", socket.display()))
    })
}

/// Which nobody listens on now. Houston takes what its configuration names, so it has to be known before.
fn free_address() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Writes the folder that `houston serve` would be given. Files that are there already are kept: in a
/// folder of one's own (`--dir`) they are one's own.
fn write_config(dir: &Path, sandbox: &Sandbox, platform: &Platform) -> Result<(), Failure> {
    let (images, services) = platform.prefixes();
    let placement = platform.placement();
    let (user_id, token) = sandbox
        .personal_token("houston")
        .ok_or_else(|| Failure::new("the sandbox has no account `houston`"))?;
    let pages =
        free_address().map_err(|e| Failure::new(format!("no port is free for the pages of runs: {e}")))?;
    let fill = |text: &str| {
        text.replace("@URL@", &sandbox.url())
            .replace("@HTTP@", &pages.to_string())
            .replace("@USER_ID@", &user_id)
            .replace("@DOCKER@", &platform.socket().display().to_string())
            .replace("@IMAGES@", images)
            .replace("@SERVICES@", services)
            .replace("@PLACEMENT@", &placement)
    };
    let config = dir.join("config");
    write(&config.join("environments/prod.yaml"), &fill(PROD_YAML), false)?;
    write(&config.join("environments/staging.yaml"), &fill(STAGING_YAML), false)?;
    // Address and token are new at each start.
    write(&config.join("houston.yaml"), &fill(HOUSTON_YAML), true)?;
    write(&config.join("token"), &token, true)
}

fn write(path: &Path, text: &str, replace: bool) -> Result<(), Failure> {
    if path.exists() && !replace {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|e| Failure::new(format!("cannot write `{}`: {e}", path.display())))
}

async fn online(houston: &Houston) {
    while !houston.chat.health().online {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn welcome(sandbox: &Sandbox, platform: &Platform) {
    let url = sandbox.url();
    out::line(format!("\nHouston is up: {url}\n"));
    out::line("Three things to try in #ops (switch between Alice, Bob and Carol on the page):\n");
    out::line("  1. as Alice:  !deploy prod web 1.8     then as Bob: react to the card with \u{1f44d}");
    out::line("  2. as Alice:  !deploy prod web 1.9     it crashes at start: see it rolled back, and why");
    out::line(
        "  3. as Alice:  !rollback prod web       back to the last healthy release; `!status prod` shows it\n",
    );
    if let Platform::Own(engine) = platform {
        if let Some(web) = engine.service_addr("web") {
            out::line(format!("The service `web` answers at http://{web}/"));
        }
        out::line(
            "What is deployed are real processes of this machine, run by a stand-in for a Docker engine.",
        );
    } else {
        out::line(format!(
            "What is deployed are services of your Swarm, labelled `{}`; they go when the demo ends.",
            swarm::LABEL
        ));
    }
    out::line("Ctrl-C ends everything.");
    let hello = "Welcome to the demo. Three things to try here:\n\
        1. as Alice: `!deploy prod web 1.8`, then as Bob react to the card with :+1:\n\
        2. as Alice: `!deploy prod web 1.9` crashes at start: see it rolled back, and why\n\
        3. as Alice: `!rollback prod web`, and `!status prod`\n\
        `!help` lists the rest.";
    if let Err(error) = sandbox.say("carol", "ops", hello).await {
        tracing::debug!("no welcome in the room: {error}");
    }
}

/// Best effort, quietly: on a server there is no browser.
async fn open_browser(url: &str) {
    use crate::exec::{Command, Runner as _, local::Local};
    let command = Command {
        program: "xdg-open".to_owned(),
        args: vec![url.to_owned()],
        stdin: None,
        timeout: Some(Duration::from_secs(3)),
    };
    let local = Local::new(Redactor::new());
    let _ = local.run(&command, &|_, _| {}, &tokio_util::sync::CancellationToken::new()).await;
}

/// The demo's folder; a temporary one goes with it.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        let (path, temporary) = match given {
            Some(path) => (path, false),
            None => (std::env::temp_dir().join(format!("houston-demo-{}", std::process::id())), true),
        };
        std::fs::create_dir_all(&path)
            .map_err(|e| Failure::new(format!("cannot make the folder `{}`: {e}", path.display())))?;
        let path = std::path::absolute(&path)
            .map_err(|e| Failure::new(format!("cannot resolve `{}`: {e}", path.display())))?;
        Ok(Self { path, temporary })
    }
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
