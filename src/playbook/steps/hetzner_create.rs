//! Renting a server for a run: asked for once, adopted where an earlier attempt got it, waited for until it takes
//! commands.
//!
//! Must not: leave behind what has failed in the middle without saying so; trust a host key that was not made here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{Probed, StepContext, StepError};
use crate::config::environment::Temporary;
use crate::exec::{Command, ExecError};
use crate::ids::EnvName;
use crate::providers::hetzner::host_key::{self, HostKey};
use crate::providers::hetzner::{Action, Hetzner, HetznerError, Offer, Server, Wanted, labels};
use crate::text::{self, code, defuse};

/// How often a server is asked for whose answer was lost. Its name keeps there from being two.
const ASKS: u32 = 4;

/// From its last action until it takes commands: it boots, and cloud-init puts its host key there.
const BOOT: Duration = Duration::from_secs(5 * 60);

/// Between two attempts to log in.
const KNOCK: Duration = Duration::from_secs(1);

/// Of what the plan has seen, which is what will be made.
pub(super) const IMAGE: &str = "image id";

/// A temporary host, and whose.
pub(super) struct Renting<'a> {
    pub(super) context: &'a StepContext,
    pub(super) environment: &'a EnvName,
    pub(super) declared: Temporary,
    pub(super) hetzner: Arc<Hetzner>,
}

impl From<HetznerError> for StepError {
    fn from(error: HetznerError) -> Self {
        let mut out = Self::new(defuse(&error.to_string()).into_owned());
        out.hint = error.hint();
        out.transient = error.is_transient();
        out
    }
}

impl<'a> Renting<'a> {
    pub(super) fn of(context: &'a StepContext, host: &str) -> Result<Self, StepError> {
        let environment = super::swarm_service::environment(context)?;
        let declared = context.world.temporary(environment, host)?;
        Ok(Self { context, environment, declared, hetzner: context.world.hetzner()? })
    }

    pub(super) fn server_name(&self) -> String {
        labels::server_name(self.context.token.run(), self.environment, &self.declared.name)
    }

    /// All that this run has for the host, whichever step made it.
    pub(super) async fn found(&self) -> Result<Vec<Server>, HetznerError> {
        let run = self.context.token.run();
        self.hetzner.servers(&labels::by_host(run, self.environment, &self.declared.name)).await
    }

    /// What this step made.
    async fn made(&self) -> Result<Option<Server>, HetznerError> {
        let made = self.hetzner.servers(&labels::by_token(&self.context.token)).await?;
        Ok(made.into_iter().max_by_key(|server| server.id))
    }

    pub(super) async fn probe(&self) -> Result<Probed, StepError> {
        Ok(match self.made().await? {
            None => Probed::DidNotHappen,
            Some(server) => {
                Probed::UnderWay(format!("the server {} that I asked for is there", code(&server.name)))
            }
        })
    }

    pub(super) async fn create(&self) -> Result<Json, StepError> {
        let (server, actions) = match self.made().await? {
            Some(server) => {
                self.say(&format!("the server {} is there already; going on with it", code(&server.name)));
                let actions = self.hetzner.under_way(&server).await?;
                (server, actions)
            }
            None => self.ask_for_one().await?,
        };
        self.pin(&server)?;
        let tell = |action: &Action| {
            self.say(&format!(
                "{}: {} ({} %)",
                code(&server.name),
                action.command.replace('_', " "),
                action.progress
            ));
        };
        let what = format!("creating the server `{}`", server.name);
        let done = tokio::select! {
            done = self.hetzner.finish(&what, actions, &tell) => done,
            () = self.context.cancel.cancelled() => return Err(self.cancelled(&server)),
        };
        if let Err(error) = done {
            return Err(self.given_up(&server, error).await);
        }
        self.log_in(&server).await?;
        // Addresses come with the actions.
        let server = self.made().await.ok().flatten().unwrap_or(server);
        self.say(&format!("{} takes commands", code(&server.name)));
        Ok(json!({
            "server": server.id,
            "name": server.name,
            "address": server.address(self.declared.address),
            "type": server.server_type.name,
            "location": server.location(),
        }))
    }

    fn say(&self, line: &str) {
        self.context.progress.status(line);
    }

    async fn ask_for_one(&self) -> Result<(Server, Vec<Action>), StepError> {
        let mut rented = self.declared.server.clone();
        if let Some(id) = self.context.planned.seen.get(IMAGE) {
            // What was looked at for the plan; a newer snapshot may be there by now.
            rented.image = crate::config::environment::Image::Name(id.clone());
        }
        let offer = self.hetzner.offer(&rented).await?;
        let name = self.server_name();
        self.say(&format!("asking Hetzner for {} in {}", code(&rented.kind), code(&rented.location)));
        let key = HostKey::make();
        let mut labelled =
            labels::of(&self.context.token, self.environment, &self.declared.name, &key.label());
        labelled.extend(rented.labels.clone());
        let wanted = Wanted { name: &name, rented: &rented, labels: labelled, user_data: key.user_data() };
        self.ask(&wanted, &offer).await
    }

    /// Until it is known whether there is one. Asking again is harmless: Hetzner gives a name once.
    async fn ask(&self, wanted: &Wanted<'_>, offer: &Offer) -> Result<(Server, Vec<Action>), StepError> {
        let mut asked = 1;
        loop {
            let error = match self.hetzner.create(wanted, offer).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            if !error.maybe_done() && !error.is("uniqueness_error") {
                return Err(error.into());
            }
            // The answer was lost, or an earlier one was: it may be there.
            if let Some(server) = self.made().await.map_err(|error| StepError::from(error).with_effects())? {
                let actions = self.hetzner.under_way(&server).await;
                return Ok((server, actions.map_err(|error| StepError::from(error).with_effects())?));
            }
            if error.is("uniqueness_error") || asked == ASKS || self.context.cancel.is_cancelled() {
                // Who has the name may be what an earlier request has made, which is not listed yet.
                let lost = error.maybe_done() || asked > 1 || error.is("uniqueness_error");
                let error = StepError::from(error);
                return Err(if lost { error.with_effects() } else { error });
            }
            self.say(&format!("{error}; asking again"));
            tokio::time::sleep(Duration::from_secs(u64::from(asked))).await;
            asked += 1;
        }
    }

    /// What its labels say was made by this run, whichever process of ours asked for it.
    fn pin(&self, server: &Server) -> Result<(), StepError> {
        let key = server.label(labels::KEY).and_then(host_key::from_label).ok_or_else(|| {
            StepError::new(format!("the server {} has lost the label `{}`", code(&server.name), labels::KEY))
                .hint("without it nobody knows its host key: remove the server, and run this again")
                .with_effects()
        })?;
        let address = server.address(self.declared.address).unwrap_or_else(|| "unknown".to_owned());
        let pinned = self.hetzner.pins.write(&server.name, &address, self.declared.port, &key);
        pinned.map(drop).map_err(|error| {
            let dir = self.hetzner.pins.dir().display();
            StepError::new(format!("its host key cannot be kept in `{dir}`: {error}")).with_effects()
        })
    }

    /// Until a command runs there. Before cloud-init is through, its sshd may show another key: that is refused as
    /// ever, and tried again.
    async fn log_in(&self, server: &Server) -> Result<(), StepError> {
        let host = self.context.world.host(self.environment, &self.declared.name, &self.context.token)?;
        let hello = Command {
            program: "true".to_owned(),
            args: Vec::new(),
            stdin: None,
            timeout: Some(Duration::from_secs(30)),
        };
        // Dropped with the attempt: nothing that runs there matters.
        let going_on = CancellationToken::new();
        let deadline = tokio::time::Instant::now() + BOOT;
        self.say(&format!("waiting until {} takes commands", code(&server.name)));
        loop {
            let ran = tokio::select! {
                ran = host.run(&hello, &|_, _| {}, &going_on) => ran,
                () = self.context.cancel.cancelled() => return Err(self.cancelled(server)),
            };
            let why = match ran {
                Ok(exit) if exit.code == Some(0) => return Ok(()),
                Ok(exit) => format!("a command ended with {:?}", exit.code),
                Err(error) => why(&error),
            };
            if tokio::time::Instant::now() > deadline {
                let message = format!(
                    "the server {} is there and took no command within {}: {why}",
                    code(&server.name),
                    text::duration(BOOT)
                );
                return Err(StepError::new(message).hint(self.to_look()).with_effects());
            }
            self.context.progress.output(&format!("not yet: {why}"));
            tokio::select! {
                () = tokio::time::sleep(KNOCK) => {}
                () = self.context.cancel.cancelled() => return Err(self.cancelled(server)),
            }
        }
    }

    fn to_look(&self) -> String {
        let name = self.server_name();
        format!(
            "look at its console: `hcloud server request-console {name}`; the firewall, the network and `ssh_keys` in \
             the environment file decide who gets there"
        )
    }

    fn cancelled(&self, server: &Server) -> StepError {
        StepError::new(format!("cancelled; the server {} is there", code(&server.name)))
            .cancelled()
            .with_effects()
    }

    /// It was accepted and did not come about: what is left of it is removed, and only if that fails is anything left.
    async fn given_up(&self, server: &Server, error: HetznerError) -> StepError {
        let accepted = matches!(error, HetznerError::Failed { .. });
        let failed = StepError::from(error);
        if !accepted {
            // It may still come about; another attempt takes it up.
            return failed.with_effects();
        }
        match self.hetzner.remove(server).await {
            Ok(()) => {
                let message = format!("{}; what was there of it is removed", failed.message);
                StepError { message, ..failed }
            }
            Err(left) => {
                let message = format!("{}; and it could not be removed: {left}", failed.message);
                StepError { message, ..failed }.with_effects()
            }
        }
    }

    /// What people read before they approve.
    pub(super) fn describe(&self, offer: &Offer) -> (String, Vec<String>) {
        let rented = &self.declared.server;
        let what = format!("{} in {} from {}", rented.kind, rented.location, offer.image);
        let kind = &offer.server_type;
        let mut notes = vec![format!(
            "{} cores, {} GB of memory, {} GB of disk, at {} an hour net with its IPv4 address, as long as the run has it",
            kind.cores,
            kind.memory,
            kind.disk,
            money(offer.hourly, &offer.currency),
        )];
        let mut with = Vec::new();
        for (kind, names) in [
            ("network", rented.network.iter().collect::<Vec<_>>()),
            ("firewall", rented.firewall.iter().collect()),
            ("placement group", rented.placement_group.iter().collect()),
            ("volume", rented.volumes.iter().collect()),
            ("SSH key", rented.ssh_keys.iter().collect()),
        ] {
            with.extend(names.iter().map(|name| format!("{kind} {}", code(name))));
        }
        notes.push(format!("with {}", text::plain_and_list(&with)));
        if rented.firewall.is_none() {
            notes.push("no firewall stands before its public address".to_owned());
        }
        (what, notes)
    }

    /// The same for a shell, with the labels by which Houston finds it again.
    pub(super) fn typed(&self) -> Vec<String> {
        let rented = &self.declared.server;
        let image = match &rented.image {
            crate::config::environment::Image::Name(name) => name.clone(),
            crate::config::environment::Image::Newest(label) => format!(
                "$(hcloud image list -t snapshot -l {label} -s created:desc -o noheader -o columns=id | head -n 1)"
            ),
        };
        let mut words = vec![
            "hcloud server create".to_owned(),
            format!("--name {}", self.server_name()),
            format!("--type {}", rented.kind),
            format!("--location {}", rented.location),
            format!("--image \"{image}\""),
        ];
        for (flag, names) in [
            ("network", rented.network.iter().collect::<Vec<_>>()),
            ("firewall", rented.firewall.iter().collect()),
            ("placement-group", rented.placement_group.iter().collect()),
            ("volume", rented.volumes.iter().collect()),
            ("ssh-key", rented.ssh_keys.iter().collect()),
        ] {
            words.extend(names.iter().map(|name| format!("--{flag} {}", text::shell_words(&[name]))));
        }
        let own: BTreeMap<String, String> =
            labels::of(&self.context.token, self.environment, &self.declared.name, "");
        let own = own.into_iter().filter(|(label, _)| label != labels::KEY);
        words.extend(own.map(|(label, value)| format!("--label {label}={value}")));
        vec![words.join(" ")]
    }
}

/// `0.0068 EUR`
pub(super) fn money(amount: f64, currency: &str) -> String {
    format!("{amount:.4} {currency}")
}

fn why(error: &ExecError) -> String {
    defuse(&error.to_string()).into_owned()
}
