//! What Hetzner answers, as far as Houston reads it. Tolerant: words that are new in the API (a status, a kind of
//! image) stay words, and what is not read may be missing.
//!
//! Must not: be sent. Requests are made of the crate `hcloud`'s models, which follow the API's own description.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::config::environment::Reached;

/// A thing that has a name.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Named {
    #[serde(default)]
    pub id: i64,
    #[serde(default)]
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    pub id: i64,
    pub name: String,
    /// `running`, `off`, `initializing`, …
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub created: Option<Timestamp>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    public_net: PublicNet,
    #[serde(default)]
    private_net: Vec<PrivateNet>,
    #[serde(default)]
    pub server_type: Named,
    #[serde(default)]
    location: Option<Named>,
    #[serde(default)]
    datacenter: Option<Datacenter>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PublicNet {
    #[serde(default)]
    ipv4: Option<Address>,
    #[serde(default)]
    ipv6: Option<Address>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    ip: String,
}

#[derive(Clone, Debug, Deserialize)]
struct PrivateNet {
    ip: String,
}

/// Where older answers say the location.
#[derive(Clone, Debug, Deserialize)]
struct Datacenter {
    location: Named,
}

impl Server {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub fn location(&self) -> &str {
        let newer = self.location.as_ref();
        newer.or(self.datacenter.as_ref().map(|d| &d.location)).map_or("", |location| &location.name)
    }

    /// As Houston connects to it; absent while it has none yet.
    pub fn address(&self, which: Reached) -> Option<String> {
        let told = self.told_address(which)?;
        // It stands in ssh's files: nothing but an address gets there.
        told.parse::<std::net::IpAddr>().ok().map(|address| address.to_string())
    }

    fn told_address(&self, which: Reached) -> Option<String> {
        match which {
            Reached::Private => self.private_net.first().map(|net| net.ip.clone()),
            Reached::Public => match (&self.public_net.ipv4, &self.public_net.ipv6) {
                (Some(v4), _) => Some(v4.ip.clone()),
                // A whole network is given; the server is its first address.
                (None, Some(v6)) => Some(match v6.ip.split_once('/') {
                    Some((network, _)) => format!("{network}1"),
                    None => v6.ip.clone(),
                }),
                (None, None) => None,
            },
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    pub id: i64,
    #[serde(default)]
    pub command: String,
    /// `running`, `success`, `error`
    pub status: String,
    #[serde(default)]
    pub progress: u32,
    #[serde(default)]
    pub error: Option<ActionError>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct ActionError {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ServerType {
    pub name: String,
    #[serde(default)]
    pub cores: u32,
    #[serde(default)]
    pub memory: f64,
    #[serde(default)]
    pub disk: u32,
    #[serde(default)]
    pub architecture: String,
    /// One for each location that has it.
    #[serde(default)]
    pub prices: Vec<LocationPrice>,
}

impl ServerType {
    /// Net, for an hour; absent where the location does not have it.
    pub fn hourly(&self, location: &str) -> Option<f64> {
        self.prices.iter().find(|price| price.location == location)?.price_hourly.net.parse().ok()
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct LocationPrice {
    #[serde(default)]
    pub location: String,
    pub price_hourly: Price,
}

/// In text, as the API writes it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Price {
    #[serde(default)]
    pub net: String,
}

/// Of the whole project.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pricing {
    #[serde(default)]
    pub currency: String,
    #[serde(default)]
    pub primary_ips: Vec<PrimaryIpPrices>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct PrimaryIpPrices {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub prices: Vec<LocationPrice>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    pub id: i64,
    /// Snapshots have none.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub created: Option<Timestamp>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Display for Image {
    /// `debian-12`, `snapshot 4711 (nightly, of 3 Nov 2026)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = &self.name {
            return f.write_str(name);
        }
        write!(f, "{} {} ({}", self.kind, self.id, self.description)?;
        if let Some(at) = self.created {
            write!(f, ", of {}", at.strftime("%-d %b %Y"))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is published for `GET /servers/{id}`, shortened where Houston reads nothing.
    const SERVER: &str = r#"{
      "id": 42, "name": "my-resource", "status": "running", "created": "2016-01-30T23:55:00+00:00",
      "public_net": {
        "ipv4": {"id": 42, "ip": "1.2.3.4", "blocked": false, "dns_ptr": "server01.example.com"},
        "ipv6": {"id": 42, "ip": "2001:db8::/64", "blocked": false,
          "dns_ptr": [{"ip": "2001:db8::1", "dns_ptr": "server.example.com"}]},
        "floating_ips": [478], "firewalls": [{"id": 42, "status": "applied"}]},
      "private_net": [{"network": 4711, "ip": "10.0.0.2", "alias_ips": ["10.0.0.3"], "mac_address": "86:00:ff:2a:7d:e1"}],
      "server_type": {"id": 1, "name": "cpx11", "description": "CPX11", "cores": 2, "memory": 2, "disk": 40,
        "deprecated": false, "prices": [{"location": "fsn1", "price_hourly": {"net": "1.0000", "gross": "1.1900"},
          "price_monthly": {"net": "1.0000", "gross": "1.1900"}, "included_traffic": 654321}],
        "storage_type": "local", "cpu_type": "shared", "architecture": "x86"},
      "datacenter": {"id": 42, "name": "fsn1-dc8", "location": {"id": 42, "name": "fsn1", "country": "DE"}},
      "image": null, "locked": false, "labels": {"environment": "prod", "just-a-key": ""}, "placement_group": null
    }"#;

    fn read<T: for<'d> Deserialize<'d>>(text: &str) -> T {
        serde_json::from_str(text).expect("it is read")
    }

    #[test]
    fn what_the_api_documents_is_read_and_new_words_are_no_error() {
        let server: Server = read(SERVER);
        assert_eq!(server.address(Reached::Private).as_deref(), Some("10.0.0.2"));
        assert_eq!(server.address(Reached::Public).as_deref(), Some("1.2.3.4"));
        assert_eq!((server.location(), server.label("environment")), ("fsn1", Some("prod")));
        // A status that is not documented, and an answer that has moved on.
        let newer = SERVER.replace("\"running\"", "\"hibernating\"").replace("\"datacenter\"", "\"was\"");
        let newer = newer.replace("\"image\": null", "\"location\": {\"id\": 1, \"name\": \"nbg1\"}");
        let server: Server = read(&newer);
        assert_eq!((server.status.as_str(), server.location()), ("hibernating", "nbg1"));
        // Without an address of its own: only IPv6, or not yet any.
        let six: Server = read(&SERVER.replace("\"ipv4\": {\"id\"", "\"old\": {\"id\""));
        assert_eq!(six.address(Reached::Public).as_deref(), Some("2001:db8::1"));
        let odd: Server = read(&SERVER.replace("\"10.0.0.2\"", "\"10.0.0.2\\n* ssh-ed25519 AAAA\""));
        assert_eq!(odd.address(Reached::Private), None);
        let bare: Server = read(r#"{"id": 1, "name": "new", "status": "initializing"}"#);
        assert_eq!((bare.address(Reached::Public), bare.address(Reached::Private)), (None, None));
    }

    #[test]
    fn prices_actions_and_images_are_read_as_they_are_published() {
        let kind: ServerType = read(
            r#"{"id": 1, "name": "cpx11", "cores": 2, "memory": 1.5, "disk": 40, "prices": [{"location": "fsn1",
            "price_hourly": {"net": "0.0060", "gross": "0.0071"}}], "category": "new"}"#,
        );
        assert_eq!((kind.hourly("fsn1"), kind.hourly("hel1")), (Some(0.006), None));
        let action: Action = read(
            r#"{"id": 42, "command": "start_resource", "status": "error", "started": "2016-01-30T23:55:00+00:00",
            "finished": null, "progress": 100, "resources": [{"id": 42, "type": "server"}],
            "error": {"code": "action_failed", "message": "Action failed"}}"#,
        );
        assert_eq!(action.error.expect("an error").code, "action_failed");
        let image: Image = read(
            r#"{"id": 4711, "type": "snapshot", "status": "available", "name": null, "description": "nightly",
            "image_size": 2.3, "disk_size": 10, "created": "2026-11-03T23:55:00+00:00", "labels": {}}"#,
        );
        assert_eq!(image.to_string(), "snapshot 4711 (nightly, of 3 Nov 2026)");
    }
}
