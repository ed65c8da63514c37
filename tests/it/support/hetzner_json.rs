//! What the fake Hetzner answers with, field by field as it is published.
//!
//! Must not: keep anything; the fake does.

use serde_json::{Value, json};

/// How many are on a page where nobody asks for a number.
const PER_PAGE: usize = 25;

pub fn server_type(id: i64, name: &str, cores: u32, hourly: &str) -> Value {
    let price = |location: &str| {
        json!({"location": location, "price_hourly": {"net": hourly, "gross": "1.19"},
            "price_monthly": {"net": "3.79", "gross": "4.51"}, "included_traffic": 654_321,
            "price_per_tb_traffic": {"net": "1.0000", "gross": "1.1900"}})
    };
    json!({"id": id, "name": name, "description": name.to_uppercase(), "cores": cores, "memory": f64::from(cores) * 2.0,
        "disk": cores * 20, "deprecated": false, "prices": [price("fsn1"), price("nbg1")], "storage_type": "local",
        "cpu_type": "shared", "architecture": "x86", "deprecation": null})
}

/// As the API gives one back: every field of a rule is there.
pub fn firewall(id: i64, name: &str, rules: &Value) -> Value {
    let rule = |rule: &Value| {
        let or = |key: &str, empty: Value| rule.get(key).cloned().unwrap_or(empty);
        json!({"description": rule["description"], "direction": rule["direction"], "protocol": rule["protocol"],
            "port": rule["port"], "source_ips": or("source_ips", json!([])),
            "destination_ips": or("destination_ips", json!([]))})
    };
    let rules: Vec<Value> = rules.as_array().into_iter().flatten().map(rule).collect();
    json!({"id": id, "name": name, "labels": {}, "created": "2016-01-30T23:55:00+00:00", "rules": rules,
        "applied_to": [{"type": "server", "server": {"id": 42}}]})
}

/// Made one after the other, in July.
pub fn snapshot(id: i64, description: &str, number: usize, labels: &Value) -> Value {
    json!({"id": id, "type": "snapshot", "status": "available", "name": null, "description": description,
        "image_size": 2.3, "disk_size": 10, "created": format!("2026-07-{number:02}T06:00:00+00:00"),
        "labels": labels, "architecture": "x86"})
}

pub fn images() -> Vec<Value> {
    let image = |id: i64, kind: &str, name: Value, description: &str, created: &str, labels: Value| {
        json!({"id": id, "type": kind, "status": "available", "name": name, "description": description,
            "image_size": 2.3, "disk_size": 10, "created": created, "created_from": null, "bound_to": null,
            "os_flavor": "debian", "os_version": "12", "rapid_deploy": false, "protection": {"delete": false},
            "deprecated": null, "deleted": null, "labels": labels, "architecture": "x86"})
    };
    let backup = json!({"purpose": "backup"});
    vec![
        image(114, "system", "debian-12".into(), "Debian 12", "2023-06-13T06:00:00+00:00", json!({})),
        image(301, "snapshot", Value::Null, "backup of May", "2026-05-01T06:00:00+00:00", backup.clone()),
        image(302, "snapshot", Value::Null, "backup of June", "2026-06-01T06:00:00+00:00", backup),
    ]
}

pub fn parameters(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// `k=v,k2=v2`, `k`: what of the selector language is asked here.
pub fn selected(labels: &Value, selector: &str) -> bool {
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((key, value)) => labels.get(key).and_then(Value::as_str) == Some(value.trim_start_matches('=')),
        None => labels.get(part).is_some(),
    })
}

pub fn is_label(text: &str) -> bool {
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && end(text.chars().next()) && end(text.chars().last()) && text.chars().all(inner)
}

/// What of a list was asked for, with what the API says about pages.
pub fn page(key: &str, mut all: Vec<Value>, query: &str) -> Value {
    let (mut number, mut size) = (1usize, PER_PAGE);
    for (name, value) in parameters(query) {
        match name.as_str() {
            "page" => number = value.parse().unwrap_or(1),
            "per_page" => size = value.parse::<usize>().unwrap_or(PER_PAGE).min(50),
            "name" | "status" | "type" | "architecture" => all.retain(|thing| thing[&name] == value.as_str()),
            "label_selector" => all.retain(|thing| selected(&thing["labels"], &value)),
            _ => {}
        }
    }
    let total = all.len();
    let last = total.div_ceil(size).max(1);
    let items: Vec<Value> = all.into_iter().skip((number - 1) * size).take(size).collect();
    json!({key: items, "meta": {"pagination": {"page": number, "per_page": size,
        "previous_page": (number > 1).then(|| number - 1), "next_page": (number < last).then(|| number + 1),
        "last_page": last, "total_entries": total}}})
}

pub fn pricing() -> Value {
    let price = json!({"location": "nbg1", "price_hourly": {"net": "0.0008", "gross": "0.0010"},
        "price_monthly": {"net": "0.5000", "gross": "0.5950"}});
    json!({"pricing": {"currency": "EUR", "vat_rate": "19.000000", "image": {"price_per_gb_month":
        {"net": "0.0110", "gross": "0.0131"}}, "primary_ips": [{"type": "ipv4", "prices": [price]}],
        "server_types": [], "load_balancer_types": []}})
}
