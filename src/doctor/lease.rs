//! The lease: whether there is a place for one, and who holds it.
//!
//! Must not: take it.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, Daemon, Look, Patient, within};
use crate::config::lease::Lease;
use crate::exec::ssh::SshPool;
use crate::lease::{Register as _, RegisterError};
use crate::providers::swarm::SwarmLease;
use crate::text;

const ABOUT: &str = "lease";

/// What one manager may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn looks(patient: &Arc<Patient>, ssh: &SshPool) -> Vec<Look> {
    let Some(config) = &patient.config else { return Vec::new() };
    let register = SwarmLease::of(config, ssh, TIMEOUT);
    let (lease, p) = (config.lease.clone(), Arc::clone(patient));
    vec![Look::new(ABOUT, async move {
        let look = async { vec![look(&lease, register, &p).await] };
        within(p.limit, ABOUT, look).await
    })]
}

async fn look(lease: &Lease, register: Option<SwarmLease>, patient: &Patient) -> Check {
    let (Lease::In { duration, required, .. }, Some(register)) = (lease, register) else {
        return without(lease);
    };
    let place = register.place().to_owned();
    match register.read().await {
        Ok(entry) => {
            let record = entry.and_then(|entry| entry.record).filter(|record| record.released.is_none());
            Check::ok(
                ABOUT,
                match (record, &patient.daemon) {
                    (None, _) => format!(
                        "{place} keeps it, as config `{}`, for {}; nobody holds it",
                        register.name(),
                        text::duration(*duration)
                    ),
                    (Some(record), Daemon::Absent) => format!(
                        "{place} keeps it; {} holds it: another that is started stands by until that one is gone",
                        record.holder
                    ),
                    (Some(record), _) => format!("{place} keeps it; {} holds it", record.holder),
                },
            )
        }
        Err(RegisterError::NoPlace(why)) if !required => {
            let message = format!(
                "there is no Swarm that could keep it, so that a second Houston would act too: {why}"
            );
            Check::warning(ABOUT, message).fix(ONLY_ONE)
        }
        Err(error) => {
            let message =
                format!("{place}, which keeps it, cannot be asked, so that Houston begins nothing: {error}");
            Check::problem(ABOUT, message)
                .fix("mend what is said of Docker above")
                .fix("`lease: {environment: NAME}` in houston.yaml names an environment whose Swarm can be reached")
                .fix("where it is certain that no other Houston runs, `lease: {enabled: false}` lets this one act")
        }
    }
}

/// What to do where nothing keeps two apart.
const ONLY_ONE: &str = "see to it that only one is ever started on this account; `lease: {enabled: false}` in houston.yaml says that you do";

fn without(lease: &Lease) -> Check {
    match lease {
        Lease::Off => {
            Check::ok(ABOUT, "none, as houston.yaml says: only you keep a second Houston from acting too")
        }
        _ => {
            let message = "no environment has a Swarm that could keep one: a second Houston on this account, with a state folder of its own, would act too";
            Check::warning(ABOUT, message).fix(ONLY_ONE)
        }
    }
}
