//! Hetzner: whether its API answers to the token, whether what temporary hosts are made of is to be had, and what is
//! rented now.
//!
//! Must not: rent or remove anything.

use std::sync::Arc;

use super::{Check, Look, Patient, within};
use crate::providers::hetzner::host_key::Pins;
use crate::providers::hetzner::{Hetzner, HetznerError, labels};
use crate::text;

const ABOUT: &str = "Hetzner";

pub(super) fn looks(patient: &Arc<Patient>) -> Vec<Look> {
    let Some(config) = &patient.config else { return Vec::new() };
    let Some(access) = config.providers.hetzner.clone() else { return Vec::new() };
    let http = match reqwest::Client::builder().build() {
        Ok(http) => http,
        Err(error) => {
            let check = Check::problem(ABOUT, format!("no `https` address can be asked from here: {error}"))
                .fix("install the root certificates of this system (`ca-certificates`)");
            return vec![Look::new(ABOUT, async { vec![check] })];
        }
    };
    let pins = Pins::new(patient.state.join("rented"));
    let hetzner = Arc::new(Hetzner::new(access, config.dir.clone(), http, patient.redactor.clone(), pins));
    let p = Arc::clone(patient);
    let rented = {
        let hetzner = Arc::clone(&hetzner);
        Look::new(ABOUT, async move { within(p.limit, ABOUT, rented(&hetzner, &p)).await })
    };
    let mut looks = vec![rented];
    for environment in config.environments.values() {
        for host in environment.temporary.values() {
            let about = format!("{} temporary host {}", environment.name, host.name);
            let (hetzner, host, limit) = (Arc::clone(&hetzner), host.clone(), patient.limit);
            looks.push(Look::new(about.clone(), async move {
                let look = async {
                    vec![match hetzner.offer(&host.server).await {
                        Ok(offer) => Check::ok(
                            &about,
                            format!(
                                "{} in {} from {} is to be had, for {:.4} {} an hour net",
                                host.server.kind,
                                host.server.location,
                                offer.image,
                                offer.hourly,
                                offer.currency
                            ),
                        ),
                        Err(error) => failed(&about, &error),
                    }]
                };
                within(limit, &about, look).await
            }));
        }
    }
    looks
}

async fn rented(hetzner: &Hetzner, patient: &Patient) -> Vec<Check> {
    let servers = match hetzner.servers(labels::RUN).await {
        Ok(servers) => servers,
        Err(error) => return vec![failed(ABOUT, &error)],
    };
    if servers.is_empty() {
        return vec![Check::ok(ABOUT, "its API answers to the token; nothing is rented by Houston")];
    }
    let now = patient.clock.now();
    let mut checks = Vec::new();
    for server in servers {
        let run = server.label(labels::RUN).and_then(labels::run_of);
        let run = run.map_or_else(|| "a run".to_owned(), |run| run.to_string());
        let since = server.created.map(|at| format!(" {}", text::ago(at, now))).unwrap_or_default();
        let cost = match hetzner.hourly(&server).await {
            Ok((hourly, currency)) => format!(", for {:.2} {currency} a day net", hourly * 24.0),
            Err(_) => String::new(),
        };
        let message = format!("the server `{}` was rented{since} by {run}{cost}", server.name);
        checks.push(Check::warning(ABOUT, message).fix(format!(
            "unless that run is still under way (`houston runs`): `hcloud server delete {}`",
            text::shell_words(&[&server.name])
        )));
    }
    checks
}

fn failed(about: &str, error: &HetznerError) -> Check {
    let hint = error.hint().unwrap_or_else(|| "https://status.hetzner.com says how it is".to_owned());
    Check::problem(about, error.to_string()).fix(hint)
}
