//! `houston serve` and `houston healthcheck`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{ConfigArg, EX_CONFIG, Failure, StateArg, asked_to_stop, out};
use crate::app;
use crate::app::serving::Serving;
use crate::config::Config;
use crate::secret::Redactor;

#[derive(Args, Debug)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    state: StateArg,
}

impl Serve {
    pub async fn run(self, redactor: Redactor) -> Result<(), Failure> {
        let stop = asked_to_stop();
        let config = load(&self.config.config)?;
        // From now on it does not end the program.
        let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .map_err(|e| Failure::new(format!("SIGHUP cannot be listened for: {e}")))?;
        let dir = &self.config.config;
        let serving = Serving { state: &self.state.state, redactor, hangups };
        serving.serve(config, || load(dir), stop).await.map_err(|failure: Failure| {
            failure.hint(format!(
                "`houston doctor --config {} --state {}` looks at everything that Houston depends on",
                dir.display(),
                self.state.state.display()
            ))
        })
    }
}

/// A checked configuration, or every problem of it on standard error and exit code 78.
pub fn load(dir: &std::path::Path) -> Result<Config, Failure> {
    let kinds = app::kinds();
    let kinds: Vec<&dyn crate::playbook::steps::StepKind> = kinds.values().map(AsRef::as_ref).collect();
    let report = crate::chat::policies::load(dir, &kinds);
    for diagnostic in report.diagnostics.sorted() {
        out::note(diagnostic);
    }
    report.config.ok_or_else(|| {
        Failure::new(format!("the configuration in `{}` is wrong", dir.display()))
            .hint(format!("`houston check --config {}` shows each problem in its place", dir.display()))
            .code(EX_CONFIG)
    })
}

#[derive(Args, Debug)]
pub struct Healthcheck {
    #[command(flatten)]
    state: StateArg,
    /// Ask over HTTP, where `http.listen` listens; default is the admin socket in the state folder
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
}

impl Healthcheck {
    pub async fn run(self) -> Result<(), Failure> {
        let Some(address) = self.address else {
            let state = &self.state.state;
            return match super::admin(state, "/livez").await? {
                Some(_) => Ok(()),
                None => Err(Failure::new(format!("no Houston runs on the state in `{}`", state.display()))
                    .hint("`--state DIR` names the folder that `houston serve` uses")),
            };
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            // It speaks no TLS: the root certificates need not be read.
            .tls_certs_only([])
            .timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| Failure::new(format!("cannot set up HTTP: {e}")))?;
        let answer = client
            .get(format!("http://{address}/livez"))
            .send()
            .await
            .map_err(|e| Failure::new(format!("no answer from {address}: {e}")))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(Failure::new(answer.text().await.unwrap_or_default().trim().to_owned()))
        }
    }
}
