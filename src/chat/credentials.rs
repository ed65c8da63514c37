//! The token or password that Houston logs in with: fetched at the start, and again at each reload.
//!
//! Must not: show a value, or give up credentials that work for ones that do not.

use serde::{Deserialize, Serialize};

use super::dispatch::Dispatcher;
use crate::config::{self, Config};
use crate::exec::secret::{self, SecretError};
use crate::gateway::{self, Renewed};
use crate::secret::{Redactor, SecretRef};

/// What became of a secret that was looked at again, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    pub said: String,
    /// Else what was in use stays.
    pub taken: bool,
}

/// Fetches the secret that `config` names.
pub async fn fetch(config: &Config, redactor: &Redactor) -> Result<gateway::Auth, SecretError> {
    let resolve = async |reference| secret::resolve(reference, &config.dir, redactor).await;
    Ok(match &config.rocketchat.auth {
        config::Auth::Token { user_id, token } => {
            gateway::Auth::Token { user_id: user_id.clone(), token: resolve(token).await? }
        }
        config::Auth::Password { username, password } => {
            gateway::Auth::Password { username: username.clone(), password: resolve(password).await? }
        }
    })
}

impl Dispatcher {
    /// Takes what the configuration's secret is now. `None`: it is the one in use, or of another account, which is
    /// among what needs a restart.
    pub(super) async fn renew_credentials(&self, config: &Config) -> Option<Renewal> {
        let (what, from) = named(&config.rocketchat.auth);
        let stays = format!("the {what} in use stays");
        let (said, taken) = match fetch(config, &self.parts.redactor).await {
            Err(error) => (format!("{error}: {stays}"), false),
            Ok(auth) => match self.parts.chat.renew(&auth).await {
                Renewed::Same | Renewed::AnotherAccount => return None,
                Renewed::Taken if what == "token" => {
                    (format!("a new token, from {from}, for every call from now on and the next login"), true)
                }
                Renewed::Taken => (format!("a new {what}, from {from}, for the next login"), true),
                Renewed::Untried(why) => {
                    let untried = "Rocket.Chat could not be asked whether it accepts it";
                    (format!("a new {what}, from {from}, for the next login; {untried}: {why}"), true)
                }
                Renewed::Refused(why) => {
                    (format!("Rocket.Chat does not accept the {what} from {from} ({why}): {stays}"), false)
                }
            },
        };
        let said = self.parts.redactor.redact(&said).into_owned();
        if taken {
            tracing::info!("{said}");
        } else {
            tracing::error!("{said}");
        }
        Some(Renewal { said, taken })
    }
}

fn named(auth: &config::Auth) -> (&'static str, &SecretRef) {
    match auth {
        config::Auth::Token { token, .. } => ("token", token),
        config::Auth::Password { password, .. } => ("password", password),
    }
}
