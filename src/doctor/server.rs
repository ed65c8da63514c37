//! Rocket.Chat itself and Houston's account there: version, realtime API, clock, token, roles.
//!
//! Must not: leave a login behind, or say anything in a room.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, Look, Patient, permissions, within, workspace};
use crate::config::{self, Config};
use crate::exec::secret;
use crate::rocketchat::model::User;
use crate::rocketchat::realtime::{Dialect, look};
use crate::rocketchat::rest::{PublicSettings, RestOptions, ServerInfo};
use crate::rocketchat::{Rest, RestError};
use crate::secret::{Secret, SecretRef};
use crate::text;

/// The oldest release that Houston is tested against, and the newest one that it knows.
const OLDEST: (u32, u32) = (6, 5);
const NEWEST: u32 = 8;

/// For one call.
const CALL: Duration = Duration::from_secs(10);

/// A clock that differs by more than this is not only imprecise: the server tells whole seconds.
const CLOCKS: Duration = Duration::from_secs(5);
const CLOCKS_AT_ODDS: Duration = Duration::from_secs(60);

pub(super) fn looks(patient: &Arc<Patient>) -> Vec<Look> {
    if patient.config.is_none() {
        return Vec::new();
    }
    let p = Arc::clone(patient);
    // It is a handful of calls in a row, each of which has its own time.
    vec![Look::new("Rocket.Chat", async move { within(p.limit * 3, "Rocket.Chat", chat(&p)).await })]
}

async fn chat(patient: &Patient) -> Vec<Check> {
    let config = patient.config.as_ref().expect("looked for before");
    let url = config.rocketchat.url.as_str().trim_end_matches('/');
    let call = patient.limit.min(CALL);
    let options = RestOptions { timeout: call, max_wait: CALL / 2, ..RestOptions::new(url) };
    let rest = match Rest::new(&options) {
        Ok(rest) => rest,
        Err(error) => return vec![Check::problem("server", error.to_string()).fix("mend `rocketchat.url`")],
    };
    let (secret, info, realtime) =
        tokio::join!(secret_of_the_account(config, patient), rest.info(), look(&rest, call));
    let (mut checks, secret) = secret;
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            checks.push(unreachable(url, &error));
            return checks;
        }
    };
    checks.push(version(url, &info));
    checks.push(realtime_api(realtime));
    checks.extend(clock(patient, &rest));
    let Some(secret) = secret else { return checks };
    let (account, me) = match log_in(&rest, config, &secret).await {
        Ok(me) => (Check::ok("account", format!("`{}` ({})", me.username, me.id)), me),
        Err(check) => {
            checks.push(check);
            return checks;
        }
    };
    checks.push(account);
    let (settings, granted) = tokio::join!(rest.public_settings(), rest.permissions());
    let settings = settings.unwrap_or_default();
    checks.extend(token(&rest, config, &secret, &settings).await);
    checks.extend(roles(&me));
    match granted {
        Ok(granted) => {
            let roles = me.roles.as_deref().unwrap_or_default();
            checks.extend(permissions::check(&me.username, roles, &granted));
        }
        Err(error) => checks.push(
            Check::warning("permissions", format!("they cannot be looked at: {error}"))
                .fix("ask again; `houston docs roles` lists what the account needs"),
        ),
    }
    checks.extend(workspace::checks(&rest, config, &settings).await);
    if matches!(config.rocketchat.auth, config::Auth::Password { .. }) {
        // Each login leaves a token behind, and the server drops the oldest ones.
        let _ = rest.logout().await;
    }
    checks
}

async fn secret_of_the_account(config: &Config, patient: &Patient) -> (Vec<Check>, Option<Secret>) {
    let (key, reference): (&str, &SecretRef) = match &config.rocketchat.auth {
        config::Auth::Token { token, .. } => ("token", token),
        config::Auth::Password { password, .. } => ("password", password),
    };
    let about = format!("secret rocketchat.{key}");
    match secret::resolve(reference, &config.dir, &patient.redactor).await {
        Ok(secret) => (vec![Check::ok(about, format!("it is told by {reference}"))], Some(secret)),
        Err(error) => {
            let fix = error.hint.clone().unwrap_or_else(|| format!("put the {key} there, and nothing else"));
            (vec![Check::problem(about, error.to_string()).fix(fix)], None)
        }
    }
}

fn unreachable(url: &str, error: &RestError) -> Check {
    Check::problem("server", error.to_string()).fix(match error {
        RestError::Malformed { .. } => format!(
            "`rocketchat.url` has to be the address of the workspace as browsers open it, with its sub-path: \
             `curl {url}/api/info` answers with its version"
        ),
        _ => format!("is it up, and may this machine reach it? `curl -v {url}/api/info` shows where it ends"),
    })
}

fn version(url: &str, info: &ServerInfo) -> Check {
    const ABOUT: &str = "server";
    let said = format!("Rocket.Chat {} at {url}", info.version);
    match info.release() {
        None => Check::warning(ABOUT, format!("{said}: a version that Houston cannot read"))
            .fix("if this is a build of your own, say so when you report something"),
        Some(release) if release < OLDEST => Check::problem(
            ABOUT,
            format!("{said} is older than {}.{}, the oldest that Houston speaks with", OLDEST.0, OLDEST.1),
        )
        .fix("upgrade Rocket.Chat"),
        Some((major, _)) if major > NEWEST => Check::warning(
            ABOUT,
            format!("{said} is newer than {NEWEST}, the newest that this Houston knows"),
        )
        .fix("look for a newer Houston; until then, try what matters to you in a room of its own"),
        Some(_) => Check::ok(ABOUT, said),
    }
}

fn realtime_api(found: Result<Dialect, String>) -> Check {
    const ABOUT: &str = "realtime API";
    match found {
        Ok(Dialect::Monolith) => Check::ok(ABOUT, "a WebSocket gets through, to the server's one process (monolith)"),
        Ok(Dialect::Streamer) => Check::ok(ABOUT, "a WebSocket gets through, to microservices (ddp-streamer)"),
        Err(why) => Check::problem(ABOUT, format!("no WebSocket gets through: {why}")).fix(
            "a proxy before Rocket.Chat has to pass `/websocket` on; nginx: `proxy_http_version 1.1; proxy_set_header \
             Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";`",
        ),
    }
}

fn clock(patient: &Patient, rest: &Rest) -> Option<Check> {
    const ABOUT: &str = "clock";
    let now = patient.clock.now();
    let server = rest.server_time()?;
    let off = now.duration_since(server).unsigned_abs();
    let side = if now > server { "ahead of" } else { "behind" };
    if off <= CLOCKS {
        return Some(Check::ok(ABOUT, "this machine and the server agree to a few seconds"));
    }
    let message = format!(
        "this machine is {} {side} the server: times in messages, and how old a command counts, are off by that",
        text::duration(off)
    );
    let check =
        if off <= CLOCKS_AT_ODDS { Check::warning(ABOUT, message) } else { Check::problem(ABOUT, message) };
    Some(check.fix(
        "compare `date -u` on both with a third clock, and let the wrong one be set by NTP: `timedatectl set-ntp true`",
    ))
}

async fn log_in(rest: &Rest, config: &Config, secret: &Secret) -> Result<User, Check> {
    const ABOUT: &str = "account";
    let make = "log in to Rocket.Chat as Houston's account, make one under *My Account → Personal Access Tokens* \
                (*Ignore Two Factor Authentication* checked), and put it where `rocketchat.token` points";
    match &config.rocketchat.auth {
        config::Auth::Token { user_id, .. } => {
            let refused = |error: RestError| match error {
                RestError::Unauthorized { reason, .. } => {
                    let reason = reason.trim_end_matches('.');
                    let message = format!("the token of user id `{user_id}` is not accepted: {reason}");
                    Check::problem(ABOUT, message).fix(make).fix(
                        "`rocketchat.user_id` is the id that is shown beside a new token, not the user name",
                    )
                }
                error => {
                    Check::problem(ABOUT, error.to_string()).fix("ask again; is the server being restarted?")
                }
            };
            rest.set_auth(user_id, secret.expose()).map_err(refused)?;
            let me = rest.me().await.map_err(refused)?;
            if me.id != *user_id {
                let message =
                    format!("the token is that of user id `{}`, and `{user_id}` is configured", me.id);
                return Err(Check::problem(ABOUT, message).fix("mend `rocketchat.user_id` in houston.yaml"));
            }
            Ok(me)
        }
        config::Auth::Password { username, .. } => {
            let refused = |error: RestError| match &error {
                RestError::Refused { error_type: Some(code), .. } if code.starts_with("totp-") => {
                    let message =
                        format!("`{username}` is asked for a second factor, which a bot cannot give");
                    Check::problem(ABOUT, message).fix(format!("use a token instead of the password: {make}"))
                }
                RestError::Unauthorized { reason, .. } => {
                    let message = format!("the password of `{username}` is not accepted: {reason}");
                    Check::problem(ABOUT, message).fix(
                        "mend `rocketchat.username`, or put the right password where `rocketchat.password` points",
                    )
                }
                _ => {
                    Check::problem(ABOUT, error.to_string()).fix("ask again; is the server being restarted?")
                }
            };
            let login = rest.login(username, secret.expose()).await.map_err(refused)?;
            rest.set_auth(&login.user_id, &login.token).map_err(refused)?;
            rest.me().await.map_err(refused)
        }
    }
}

/// What kind of token it is, and how long it is good for.
async fn token(rest: &Rest, config: &Config, secret: &Secret, settings: &PublicSettings) -> Option<Check> {
    const ABOUT: &str = "token";
    let config::Auth::Token { .. } = &config.rocketchat.auth else { return None };
    let make = "make a personal access token under *My Account → Personal Access Tokens* of the account, with *Ignore \
                Two Factor Authentication* checked";
    let Ok(known) = rest.personal_tokens().await else {
        let message =
            "accepted; of which kind it is the server tells only with `create-personal-access-tokens`";
        return Some(Check::ok(ABOUT, message));
    };
    let ours =
        known.iter().find(|token| !token.last_part.is_empty() && secret.expose().ends_with(&token.last_part));
    Some(match ours {
        Some(token) if !token.bypasses_two_factor => {
            let message = format!(
                "`{}` does not ignore two-factor authentication: some calls may be refused",
                token.name
            );
            Check::warning(ABOUT, message).fix(format!("{make}, and take this one away"))
        }
        Some(token) => {
            Check::ok(ABOUT, format!("the personal access token `{}`: it does not expire", token.name))
        }
        None => {
            let message = format!(
                "it is that of a login, which the server ends {} days after it was made",
                settings.login_days()
            );
            Check::warning(ABOUT, message).fix(make)
        }
    })
}

fn roles(me: &User) -> Vec<Check> {
    let has = me.roles.as_deref().unwrap_or_default();
    let edit = format!("*Administration → Users → {} → Edit*", me.username);
    let mut checks: Vec<Check> = ["user", "bot"]
        .into_iter()
        .filter(|role| !has.iter().any(|had| had == role))
        .map(|role| {
            let message = format!(
                "the account does not have the role `{role}`; the permissions below say what follows"
            );
            Check::warning(format!("role {role}"), message).fix(format!("{edit}: add the role `{role}`"))
        })
        .collect();
    if has.iter().any(|role| role == "admin") {
        let message =
            "the account is an administrator, which it need not be: whoever gets its token is one too";
        checks.push(Check::warning("role admin", message).fix(format!("{edit}: take the role `admin` away")));
    }
    if checks.is_empty() {
        checks.push(Check::ok("roles", text::plain_and_list(has)));
    }
    checks
}
