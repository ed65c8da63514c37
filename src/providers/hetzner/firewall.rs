//! Firewalls: what they let through, read, compared and set as a whole.
//!
//! Must not: change one rule at a time: the API takes all of them at once, so that there is no moment in between.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::client::Call;
use super::{Action, Hetzner, HetznerError};
use crate::change::Change;

#[derive(Clone, Debug, Deserialize)]
pub struct Firewall {
    pub id: i64,
    pub name: String,
    #[serde(default)]
    pub rules: Vec<Rule>,
    #[serde(default)]
    applied_to: Vec<Json>,
}

/// What may pass. Words stay as the API has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What a playbook calls it.
    #[serde(default)]
    pub description: Option<String>,
    pub direction: String,
    pub protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination_ips: Vec<String>,
}

impl Rule {
    /// As the API gives it back, so that what is the same compares the same.
    fn canonical(mut self) -> Self {
        for list in [&mut self.source_ips, &mut self.destination_ips] {
            for ip in list.iter_mut() {
                *ip = canonical(ip);
            }
            list.sort();
        }
        self
    }

    fn name(&self) -> &str {
        self.description.as_deref().filter(|name| !name.is_empty()).unwrap_or("without a name")
    }
}

impl std::fmt::Display for Rule {
    /// `in tcp 22 from 10.0.0.0/8`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.direction, self.protocol)?;
        if let Some(port) = &self.port {
            write!(f, " {port}")?;
        }
        for (word, ips) in [("from", &self.source_ips), ("to", &self.destination_ips)] {
            if !ips.is_empty() {
                write!(f, " {word} {}", ips.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Firewall {
    /// To how many servers and groups of servers it is applied.
    pub fn applied(&self) -> usize {
        self.applied_to.len()
    }
}

/// Rules by their names, as a playbook writes them; or what is wrong with them.
pub fn rules(written: &Map<String, Json>) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (name, rule) in written {
        rules.push(rule_of(name, rule).map_err(|why| format!("rule `{name}`: {why}"))?);
    }
    rules.sort();
    Ok(rules)
}

const KEYS: [&str; 5] = ["direction", "protocol", "port", "source_ips", "destination_ips"];

fn rule_of(name: &str, written: &Json) -> Result<Rule, String> {
    let Json::Object(mut fields) = written.clone() else {
        return Err("it takes direction, protocol, port, source_ips and destination_ips".to_owned());
    };
    if let Some(unknown) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{unknown}` is none of {}", crate::text::and_list(&KEYS)));
    }
    if let Some(Json::Number(port)) = fields.get("port") {
        fields.insert("port".to_owned(), port.to_string().into());
    }
    fields.insert("description".to_owned(), name.into());
    let written = Json::Object(fields);
    // The API's own description knows which words there are.
    serde_json::from_value::<hcloud::models::Rule>(written.clone()).map_err(|error| error.to_string())?;
    let rule: Rule = serde_json::from_value(written).map_err(|error| error.to_string())?;
    let (own, other) = match rule.direction.as_str() {
        "in" => (("source_ips", &rule.source_ips), ("destination_ips", &rule.destination_ips)),
        _ => (("destination_ips", &rule.destination_ips), ("source_ips", &rule.source_ips)),
    };
    if own.1.is_empty() || !other.1.is_empty() {
        return Err(format!("direction `{}` takes `{}` and not `{}`", rule.direction, own.0, other.0));
    }
    if let Some(ip) = own.1.iter().find(|ip| !ip.contains('/')) {
        return Err(format!("`{ip}` is no network: write {ip}/32, or /128 for an IPv6 address"));
    }
    let ports = matches!(rule.protocol.as_str(), "tcp" | "udp");
    match (&rule.port, ports) {
        (None, true) => Err(format!("`{}` needs a `port`: 443, or 8000-8080", rule.protocol)),
        (Some(_), false) => Err(format!("`{}` has no ports", rule.protocol)),
        _ => Ok(rule.canonical()),
    }
}

fn canonical(cidr: &str) -> String {
    match cidr.split_once('/').map(|(ip, bits)| (ip.parse::<Ipv6Addr>(), bits)) {
        Some((Ok(ip), bits)) => format!("{ip}/{bits}"),
        _ => cidr.to_owned(),
    }
}

/// What differs, rule by rule.
pub fn changes(firewall: &str, from: &[Rule], to: &[Rule]) -> Vec<Change> {
    let from: Vec<Rule> = from.iter().cloned().map(Rule::canonical).collect();
    let what = |rule: &Rule| format!("rule {} of {firewall}", rule.name());
    let mut changes = Vec::new();
    for rule in to.iter().filter(|rule| !from.contains(rule)) {
        let was = from.iter().find(|was| was.description == rule.description && !to.contains(was));
        changes.push(Change {
            what: what(rule),
            from: was.map(ToString::to_string),
            to: Some(rule.to_string()),
        });
    }
    for rule in from.iter().filter(|rule| !to.contains(rule)) {
        if !to.iter().any(|is| is.description == rule.description) {
            changes.push(Change { what: what(rule), from: Some(rule.to_string()), to: None });
        }
    }
    changes
}

impl Hetzner {
    pub async fn firewall(&self, name: &str) -> Result<Option<Firewall>, HetznerError> {
        let call = Call::get(format!("looking for the firewall `{name}`"), "/firewalls").query("name", name);
        let found: Vec<Firewall> = self.client.list(call, "firewalls").await?;
        Ok(found.into_iter().find(|firewall| firewall.name == name))
    }

    /// All of its rules at once.
    pub async fn set_rules(&self, firewall: &Firewall, rules: &[Rule]) -> Result<Vec<Action>, HetznerError> {
        let what = format!("setting the rules of the firewall `{}`", firewall.name);
        let path = format!("/firewalls/{}/actions/set_rules", firewall.id);
        self.client.one(&Call::post(what, path, json!({ "rules": rules })), "actions").await
    }

    pub async fn create_firewall(&self, name: &str, rules: &[Rule]) -> Result<Firewall, HetznerError> {
        let what = format!("creating the firewall `{name}`");
        let call = Call::post(what, "/firewalls", json!({ "name": name, "rules": rules }));
        self.client.one(&call, "firewall").await
    }

    pub async fn remove_firewall(&self, firewall: &Firewall) -> Result<(), HetznerError> {
        let what = format!("removing the firewall `{}`", firewall.name);
        let call = Call::delete(what, format!("/firewalls/{}", firewall.id));
        super::unless_gone(self.client.send(&call).await).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &Json) -> Result<Vec<Rule>, String> {
        rules(written.as_object().expect("a mapping"))
    }

    #[test]
    fn rules_are_read_as_they_are_written_and_compared_as_the_api_gives_them_back() {
        let written = json!({
            "ssh": {"direction": "in", "protocol": "tcp", "port": 22, "source_ips": ["10.0.0.0/8", "2001:DB8:0::/32"]},
            "ping": {"direction": "in", "protocol": "icmp", "source_ips": ["0.0.0.0/0"]},
        });
        let to = read(&written).expect("rules");
        // As the API tells them: another order, canonical addresses, fields that are null.
        let from: Vec<Rule> = serde_json::from_value(json!([
            {"description": "ssh", "direction": "in", "protocol": "tcp", "port": "22",
                "source_ips": ["2001:db8::/32", "10.0.0.0/8"], "destination_ips": []},
            {"description": null, "direction": "out", "protocol": "gre", "port": null, "source_ips": [],
                "destination_ips": ["0.0.0.0/0"]},
        ]))
        .expect("rules");
        let told: Vec<String> = changes("closed", &from, &to).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "rule ping of closed: in icmp from 0.0.0.0/0",
                "rule without a name of closed: out gre to 0.0.0.0/0 → removed"
            ]
        );
        let narrower = read(
            &json!({"ssh": {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["10.0.0.5/32"]}}),
        );
        let told = changes("closed", &to, &narrower.expect("rules"));
        assert_eq!(
            told[0].to_string(),
            "rule ssh of closed: in tcp 22 from 10.0.0.0/8, 2001:db8::/32 → in tcp 22 from 10.0.0.5/32"
        );
    }

    #[test]
    fn a_rule_that_the_api_would_not_take_is_said_before() {
        let rule = |fields: Json| read(&json!({ "ssh": fields })).expect_err("it is wrong");
        for (fields, said) in [
            (json!("tcp"), "takes direction"),
            (json!({"direction": "in", "protocol": "tpc", "port": 22, "source_ips": ["0.0.0.0/0"]}), "tpc"),
            (json!({"direction": "in", "protocol": "tcp", "source_ips": ["0.0.0.0/0"]}), "needs a `port`"),
            (
                json!({"direction": "in", "protocol": "icmp", "port": 22, "source_ips": ["0.0.0.0/0"]}),
                "no ports",
            ),
            (
                json!({"direction": "in", "protocol": "icmp", "destination_ips": ["0.0.0.0/0"]}),
                "takes `source_ips`",
            ),
            (json!({"direction": "in", "protocol": "icmp", "source_ips": ["10.0.0.5"]}), "write 10.0.0.5/32"),
            (
                json!({"direction": "in", "protocol": "icmp", "source": ["10.0.0.5/32"]}),
                "`source` is none of",
            ),
        ] {
            let told = rule(fields);
            assert!(told.starts_with("rule `ssh`: ") && told.contains(said), "{told}");
        }
    }
}
