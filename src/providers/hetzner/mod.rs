//! Hetzner Cloud: servers that are rented for a run, and given back.
//!
//! Must not: know what a run, a playbook or a room is; remove what it was not told to.

mod client;
mod error;
pub mod firewall;
pub mod host_key;
pub mod labels;
mod model;
mod snapshot;
mod temporary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hcloud::models::{CreateServerRequest, CreateServerRequestFirewalls};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

pub use error::HetznerError;
pub use model::{Action, Image, Named, Pricing, Server, ServerType};
pub use temporary::TemporaryHost;

use crate::config::environment::{Image as WantedImage, Rented};
use crate::config::providers;
use crate::secret::Redactor;
use client::{Call, Client};
use host_key::Pins;

/// Between two looks at an action; doubles.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(3);

/// How long an action may take: a server from a large snapshot takes minutes.
const SLOWEST_ACTION: Duration = Duration::from_secs(15 * 60);

/// How long a server that was removed may still be listed.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A project of Hetzner Cloud.
pub struct Hetzner {
    client: Client,
    /// Host keys of the servers that were rented here.
    pub pins: Pins,
}

/// What a server would be made of, looked up by its names.
#[derive(Clone, Debug)]
pub struct Offer {
    pub image: Image,
    pub server_type: ServerType,
    /// For an hour, net, with the public IPv4 address that every server gets.
    pub hourly: f64,
    pub currency: String,
    network: Option<i64>,
    firewall: Option<i64>,
    placement_group: Option<i64>,
    volumes: Vec<i64>,
}

/// What of a new server is told to the API beside what it is made of.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub rented: &'a Rented,
    pub labels: BTreeMap<String, String>,
    pub user_data: String,
}

impl Hetzner {
    /// `base` is what a relative path of the token counts from.
    pub fn new(
        access: providers::Hetzner,
        base: PathBuf,
        http: reqwest::Client,
        redactor: Redactor,
        pins: Pins,
    ) -> Self {
        Self { client: Client::new(access, base, http, redactor), pins }
    }

    /// Those with these labels.
    pub async fn servers(&self, selector: &str) -> Result<Vec<Server>, HetznerError> {
        let call = Call::get("listing servers", "/servers").query("label_selector", selector);
        self.client.list(call, "servers").await
    }

    pub async fn server(&self, name: &str) -> Result<Option<Server>, HetznerError> {
        let call = Call::get(format!("looking for the server `{name}`"), "/servers").query("name", name);
        let found: Vec<Server> = self.client.list(call, "servers").await?;
        Ok(found.into_iter().find(|server| server.name == name))
    }

    async fn server_by_id(&self, id: i64) -> Result<Option<Server>, HetznerError> {
        let call = Call::get(format!("looking at server {id}"), format!("/servers/{id}"));
        unless_gone(self.client.one(&call, "server").await)
    }

    /// Looks up everything that a new server would be made of.
    pub async fn offer(&self, rented: &Rented) -> Result<Offer, HetznerError> {
        let server_type = self.server_type(&rented.kind).await?;
        let pricing = self.pricing().await?;
        let Some(hourly) = server_type.hourly(&rented.location) else {
            return Err(HetznerError::Missing {
                kind: "server type for this location,",
                name: format!("{} in {}", rented.kind, rented.location),
                known: server_type
                    .prices
                    .iter()
                    .map(|p| format!("{} in {}", rented.kind, p.location))
                    .collect(),
            });
        };
        let mut volumes = Vec::new();
        for volume in &rented.volumes {
            volumes.push(self.id_of("volume", "volumes", volume).await?);
        }
        for key in &rented.ssh_keys {
            self.id_of("SSH key", "ssh_keys", key).await?;
        }
        let one = async |kind, list, name: &Option<String>| match name {
            Some(name) => self.id_of(kind, list, name).await.map(Some),
            None => Ok(None),
        };
        Ok(Offer {
            image: self.image(&rented.image, &server_type.architecture).await?,
            hourly: hourly + ipv4_hourly(&pricing, &rented.location),
            currency: pricing.currency,
            network: one("network", "networks", &rented.network).await?,
            firewall: one("firewall", "firewalls", &rented.firewall).await?,
            placement_group: one("placement group", "placement_groups", &rented.placement_group).await?,
            volumes,
            server_type,
        })
    }

    pub async fn server_type(&self, name: &str) -> Result<ServerType, HetznerError> {
        let what = format!("looking for the server type `{name}`");
        let found: Vec<ServerType> =
            self.client.list(Call::get(what, "/server_types").query("name", name), "server_types").await?;
        match found.into_iter().find(|kind| kind.name == name) {
            Some(found) => Ok(found),
            None => Err(self.missing("server type", "server_types", name).await),
        }
    }

    pub async fn pricing(&self) -> Result<Pricing, HetznerError> {
        self.client.one(&Call::get("asking for prices", "/pricing"), "pricing").await
    }

    /// What a server costs in an hour, with its address, and in what money.
    pub async fn hourly(&self, server: &Server) -> Result<(f64, String), HetznerError> {
        let (kind, pricing) = (self.server_type(&server.server_type.name).await?, self.pricing().await?);
        let location = server.location();
        let hourly = kind.hourly(location).unwrap_or_default() + ipv4_hourly(&pricing, location);
        Ok((hourly, pricing.currency))
    }

    async fn image(&self, wanted: &WantedImage, architecture: &str) -> Result<Image, HetznerError> {
        let images = async |key: &'static str, value: &str| {
            let call =
                Call::get("looking for the image", "/images").query(key, value).query("status", "available");
            self.client.list::<Image>(call, "images").await
        };
        match wanted {
            WantedImage::Name(id) if id.bytes().all(|b| b.is_ascii_digit()) => {
                let call = Call::get(format!("looking at image {id}"), format!("/images/{id}"));
                let found = unless_gone(self.client.one(&call, "image").await)?;
                found.ok_or_else(|| HetznerError::Missing {
                    kind: "image",
                    name: id.clone(),
                    known: Vec::new(),
                })
            }
            WantedImage::Name(name) => {
                let call = Call::get("looking for the image", "/images").query("name", name);
                let call =
                    if architecture.is_empty() { call } else { call.query("architecture", architecture) };
                let found: Vec<Image> = self.client.list(call, "images").await?;
                match found.into_iter().find(|image| image.name.as_ref() == Some(name)) {
                    Some(found) => Ok(found),
                    None => Err(self.missing("image", "images", name).await),
                }
            }
            WantedImage::Newest(label) => {
                let mut found = images("label_selector", label).await?;
                found.retain(|image| image.kind == "snapshot");
                found.into_iter().max_by_key(|image| (image.created, image.id)).ok_or_else(|| {
                    HetznerError::Missing {
                        kind: "snapshot with the label",
                        name: label.clone(),
                        known: Vec::new(),
                    }
                })
            }
        }
    }

    /// Networks, firewalls and so on; an id is taken as it is.
    async fn id_of(&self, kind: &'static str, list: &'static str, name: &str) -> Result<i64, HetznerError> {
        let call =
            Call::get(format!("looking for the {kind} `{name}`"), format!("/{list}")).query("name", name);
        let found: Vec<Named> = self.client.list(call, list).await?;
        if let Some(found) = found.into_iter().find(|thing| thing.name == name) {
            return Ok(found.id);
        }
        if let Ok(id) = name.parse::<i64>() {
            return Ok(id);
        }
        Err(self.missing(kind, list, name).await)
    }

    /// With what there is instead.
    async fn missing(&self, kind: &'static str, list: &'static str, name: &str) -> HetznerError {
        let call = Call::get(format!("listing each {kind}"), format!("/{list}"));
        match self.client.list::<Json>(call, list).await {
            Ok(all) => {
                let names = all.iter().filter_map(|thing| thing.get("name")?.as_str().map(str::to_owned));
                HetznerError::Missing { kind, name: name.to_owned(), known: names.collect() }
            }
            Err(error) => error,
        }
    }

    /// Asks for a server. It is there when this returns, and not ready before the actions are over.
    pub async fn create(
        &self,
        wanted: &Wanted<'_>,
        offer: &Offer,
    ) -> Result<(Server, Vec<Action>), HetznerError> {
        let request = CreateServerRequest {
            labels: Some(wanted.labels.clone().into_iter().collect()),
            location: Some(wanted.rented.location.clone()),
            networks: offer.network.map(|id| vec![id]),
            firewalls: offer.firewall.map(|id| vec![CreateServerRequestFirewalls { firewall: id }]),
            placement_group: offer.placement_group,
            volumes: Some(offer.volumes.clone()).filter(|volumes| !volumes.is_empty()),
            automount: (!offer.volumes.is_empty()).then_some(false),
            ssh_keys: Some(wanted.rented.ssh_keys.clone()),
            user_data: Some(wanted.user_data.clone()),
            start_after_create: Some(true),
            ..CreateServerRequest::new(
                offer.image.id.to_string(),
                wanted.name.to_owned(),
                wanted.rented.kind.clone(),
            )
        };
        let what = format!("creating the server `{}`", wanted.name);
        let call = Call::post(what.clone(), "/servers", serde_json::to_value(request).expect("plain data"));
        let answer = self.client.send(&call).await?;
        let unreadable = |error: serde_json::Error| HetznerError::Unreadable {
            what: what.clone(),
            status: 201,
            reason: error.to_string(),
            maybe_done: true,
        };
        let part = |key: &str| answer.get(key).cloned().unwrap_or(Json::Null);
        let server = serde_json::from_value(part("server")).map_err(unreadable)?;
        let mut actions: Vec<Action> = vec![serde_json::from_value(part("action")).map_err(unreadable)?];
        if let Ok(next) = serde_json::from_value::<Vec<Action>>(part("next_actions")) {
            actions.extend(next);
        }
        Ok((server, actions))
    }

    /// `poweron`, `shutdown`, `change_type`, …
    pub async fn act(&self, server: &Server, action: &str, body: Json) -> Result<Action, HetznerError> {
        let what = format!("{} of `{}`", action.replace('_', " "), server.name);
        let call = Call::post(what, format!("/servers/{}/actions/{action}", server.id), body);
        self.client.one(&call, "action").await
    }

    /// What is under way there.
    pub async fn under_way(&self, server: &Server) -> Result<Vec<Action>, HetznerError> {
        let what = format!("looking what is under way at `{}`", server.name);
        let call = Call::get(what, format!("/servers/{}/actions", server.id)).query("status", "running");
        self.client.list(call, "actions").await
    }

    /// Waits until all of them have succeeded; `tell` hears of the one that is under way.
    pub async fn finish(
        &self,
        what: &str,
        mut actions: Vec<Action>,
        tell: &(dyn Fn(&Action) + Sync),
    ) -> Result<(), HetznerError> {
        let deadline = Instant::now() + SLOWEST_ACTION;
        let mut pause = FIRST_LOOK;
        loop {
            if let Some(failed) = actions.iter().find(|action| action.status == "error") {
                let error = failed.error.clone().unwrap_or_default();
                return Err(HetznerError::Failed {
                    what: what.to_owned(),
                    code: error.code,
                    message: error.message,
                });
            }
            // A status that is new is neither of the ends.
            actions.retain(|action| action.status != "success");
            let Some(first) = actions.first() else { return Ok(()) };
            tell(first);
            if Instant::now() + pause > deadline {
                return Err(HetznerError::Slow { what: what.to_owned(), after: SLOWEST_ACTION });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
            let mut call = Call::get(format!("{what}: looking how far it is"), "/actions");
            for action in &actions {
                call = call.query("id", action.id.to_string());
            }
            actions = self.client.list(call, "actions").await?;
        }
    }

    /// Removes it, and looks until it is gone. One that is gone already is no error.
    pub async fn remove(&self, server: &Server) -> Result<(), HetznerError> {
        let what = format!("removing the server `{}`", server.name);
        let call = Call::delete(what.clone(), format!("/servers/{}", server.id));
        let action: Option<Action> = unless_gone(self.client.one(&call, "action").await)?;
        self.finish(&what, action.into_iter().collect(), &|_| {}).await?;
        let deadline = Instant::now() + GONE_WITHIN;
        let mut pause = FIRST_LOOK;
        while self.server_by_id(server.id).await?.is_some() {
            if Instant::now() + pause > deadline {
                return Err(HetznerError::Slow { what, after: GONE_WITHIN });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
        self.pins.remove(&server.name);
        Ok(())
    }

    /// Until it has this status.
    pub async fn until(&self, server: &Server, status: &str, within: Duration) -> Result<bool, HetznerError> {
        let deadline = Instant::now() + within;
        let mut pause = FIRST_LOOK;
        loop {
            if self.server_by_id(server.id).await?.is_some_and(|now| now.status == status) {
                return Ok(true);
            }
            if Instant::now() + pause > deadline {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Changes its type; it has to be off. Its disk stays as it is, so that there is a way back.
    pub async fn change_type(&self, server: &Server, kind: &str) -> Result<Action, HetznerError> {
        self.act(server, "change_type", json!({ "server_type": kind, "upgrade_disk": false })).await
    }
}

fn ipv4_hourly(pricing: &Pricing, location: &str) -> f64 {
    let prices = pricing.primary_ips.iter().filter(|ip| ip.kind == "ipv4").flat_map(|ip| &ip.prices);
    let price = prices.into_iter().find(|price| price.location == location);
    price.and_then(|price| price.price_hourly.net.parse().ok()).unwrap_or_default()
}

fn unless_gone<T>(result: Result<T, HetznerError>) -> Result<Option<T>, HetznerError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is("not_found") => Ok(None),
        Err(error) => Err(error),
    }
}
