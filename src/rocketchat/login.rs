//! Who we are to Rocket.Chat: a token that we were given, or a password that buys one.
//!
//! Must not: print a token or a password, or log in by password when a token still works: each password login
//! adds a token to the account, and the server evicts the oldest ones.

use std::fmt;

use tokio::sync::watch;

use super::budget::Priority;
use super::error::RestError;
use super::rest::Rest;

/// How the bot's account proves itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A personal access token (does not expire), or any login token.
    Token { user_id: String, token: String },
    /// REST login; the token that it gives is then used for both APIs until it expires.
    Password { username: String, password: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { user_id, .. } => write!(f, "Token({user_id:?}, …)"),
            Self::Password { username, .. } => write!(f, "Password({username:?}, …)"),
        }
    }
}

/// A token that the server took, and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub user_id: String,
    pub username: String,
    pub(super) token: String,
}

/// Why there is no [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Worth another attempt.
    Unavailable(String),
    /// Needs an operator.
    Rejected(String),
}

/// Keeps the one token of a connection, and buys another only when it has to.
#[derive(Debug)]
pub struct Authenticator {
    rest: Rest,
    credentials: Credentials,
    /// Those that are to be used from the next login on.
    offered: watch::Receiver<Credentials>,
    identity: Option<Identity>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?}, {:?}, …)", self.user_id, self.username)
    }
}

impl Authenticator {
    pub fn new(rest: Rest, offered: watch::Receiver<Credentials>) -> Self {
        let credentials = offered.borrow().clone();
        Self { rest, credentials, offered, identity: None }
    }

    /// Returns when there are other credentials; never, when there can be none any more.
    pub async fn offered(&mut self) {
        if self.offered.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn take_offered(&mut self) {
        let offered = self.offered.borrow_and_update().clone();
        if offered == self.credentials {
            return;
        }
        match (&offered, &mut self.identity) {
            (Credentials::Token { user_id, token }, Some(known)) if known.user_id == *user_id => {
                known.token.clone_from(token);
            }
            // What the old password bought is good until the server says otherwise.
            (Credentials::Password { .. }, Some(_)) => {}
            (_, known) => *known = None,
        }
        self.credentials = offered;
    }

    /// Who we are now: asks the server, and logs in by password when there is no token that it takes.
    pub async fn authenticate(&mut self) -> Result<Identity, LoginError> {
        self.take_offered();
        let known = match (&self.credentials, &self.identity) {
            (_, Some(identity)) => Some((identity.user_id.clone(), identity.token.clone())),
            (Credentials::Token { user_id, token }, None) => Some((user_id.clone(), token.clone())),
            (Credentials::Password { .. }, None) => None,
        };
        if let Some((user_id, token)) = known {
            self.rest.set_auth(&user_id, &token).map_err(|error| self.failed(error))?;
            match self.rest.with_priority(Priority::High).me().await {
                Ok(me) if me.id == user_id => return Ok(self.remember(user_id, me.username, token)),
                Ok(me) => {
                    let reason =
                        format!("the token belongs to user id `{}`, and `{user_id}` is configured", me.id);
                    return Err(LoginError::Rejected(reason));
                }
                Err(RestError::Unauthorized { .. })
                    if matches!(self.credentials, Credentials::Password { .. }) =>
                {
                    self.identity = None;
                }
                Err(error) => {
                    // The limit of `me` must not keep us from reconnecting with a token that worked.
                    return match (&self.identity, &error) {
                        (Some(identity), RestError::RateLimited { .. }) => Ok(identity.clone()),
                        _ => Err(self.failed(error)),
                    };
                }
            }
        }
        self.log_in().await
    }

    /// Whose token was used last.
    pub fn user_id(&self) -> Option<String> {
        self.identity.as_ref().map(|identity| identity.user_id.clone())
    }

    /// The realtime API refused the token. Whether another attempt makes sense: it is a password's token, so that
    /// the next [`Self::authenticate`] buys another.
    pub fn token_refused(&mut self) -> bool {
        let known = self.identity.take().is_some();
        known && matches!(self.credentials, Credentials::Password { .. })
    }

    async fn log_in(&mut self) -> Result<Identity, LoginError> {
        let Credentials::Password { username, password } = &self.credentials else {
            return Err(LoginError::Rejected("no token".to_owned()));
        };
        let login = self.rest.login(username, password).await.map_err(|error| self.failed(error))?;
        self.rest.set_auth(&login.user_id, &login.token).map_err(|error| self.failed(error))?;
        let username = login.username.unwrap_or_else(|| username.clone());
        Ok(self.remember(login.user_id, username, login.token))
    }

    fn remember(&mut self, user_id: String, username: String, token: String) -> Identity {
        let identity = Identity { user_id, username, token };
        self.identity = Some(identity.clone());
        identity
    }

    fn failed(&self, error: RestError) -> LoginError {
        match error {
            RestError::Unauthorized { reason, .. } => LoginError::Rejected(match &self.credentials {
                Credentials::Token { user_id, .. } => format!(
                    "Rocket.Chat does not accept the token of user id `{user_id}`: {}; create a personal access token for the bot's account and configure it",
                    reason.trim_end_matches('.')
                ),
                Credentials::Password { username, .. } => {
                    format!("Rocket.Chat does not accept the password of `{username}`: {reason}")
                }
            }),
            RestError::Refused { error_type: Some(code), .. } if code.starts_with("totp-") => LoginError::Rejected(
                "the account asks for a second factor, which a bot cannot give; use a personal access token (`user_id` and `token`) instead of the password"
                    .to_owned(),
            ),
            RestError::Refused { status: 400 | 403, error, error_type, .. } => {
                LoginError::Rejected(format!("Rocket.Chat refused the login: {error} {}", error_type.unwrap_or_default()))
            }
            error => LoginError::Unavailable(error.to_string()),
        }
    }
}
