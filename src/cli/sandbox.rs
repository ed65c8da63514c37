//! `houston sandbox`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, asked_to_stop, out};
use crate::sandbox::{self, Dialect, Version};

#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// Port on the loopback interface
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Which of Rocket.Chat's two realtime servers to be: `monolith` or `streamer`
    #[arg(long, default_value = "monolith")]
    dialect: Dialect,
    /// Which release to be: `8` or `6.5`
    #[arg(long, default_value = "8")]
    server: Version,
    /// People, rooms and settings, as JSON
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
}

impl SandboxArgs {
    pub async fn run(self) -> Result<(), Failure> {
        let seed = match &self.seed {
            None => sandbox::Seed::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Failure::new(format!("cannot read the seed `{}`: {e}", path.display())))?;
                sandbox::Seed::from_json(&text)
                    .map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?
            }
        };
        let people: Vec<&str> = seed
            .people
            .iter()
            .filter(|person| person.password.is_none())
            .map(|person| person.username.as_str())
            .collect();
        let people = people.join(", ");
        let listen = SocketAddr::from(([127, 0, 0, 1], self.port));
        let sandbox = sandbox::start(sandbox::Options {
            listen,
            dialect: self.dialect,
            server: self.server,
            seed,
            ..Default::default()
        })
        .await
        .map_err(|e| {
            Failure::new(format!("cannot listen on {listen}: {e}")).hint("choose another port with `--port`")
        })?;
        let stop = asked_to_stop();
        out::line(format!("sandbox: {}", sandbox.url()));
        if !people.is_empty() {
            out::line(format!("people, whose password is their name: {people}"));
        }
        stop.await;
        sandbox.stop().await;
        Ok(())
    }
}
