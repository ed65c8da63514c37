//! Takes a new token or password of the same account while Houston runs.
//!
//! Must not: give up credentials that work for ones that the server does not accept, or become another account.

use super::{Auth, Chat};
use crate::rocketchat::{Credentials, RestError};

/// What became of credentials that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// They are those in use.
    Same,
    /// From the next login on; a token for every call from now on.
    Taken,
    /// As [`Self::Taken`], but Rocket.Chat could not be asked whether it accepts them.
    Untried(String),
    /// Rocket.Chat does not accept them: those in use stay.
    Refused(String),
    /// Of another account, or of another kind: those in use stay until Houston is started again.
    AnotherAccount,
}

impl Chat {
    pub async fn renew(&self, auth: &Auth) -> Renewed {
        let (old, new) = (self.0.realtime.credentials(), Credentials::from(auth));
        if old == new {
            return Renewed::Same;
        }
        match (&old, &new) {
            (Credentials::Token { user_id: was, .. }, Credentials::Token { user_id, token })
                if was == user_id =>
            {
                self.renew_token(user_id, token, &new).await
            }
            (Credentials::Password { username: was, .. }, Credentials::Password { username, .. })
                if was == username =>
            {
                // Trying it would add a token to the account.
                self.0.realtime.renew(new);
                Renewed::Taken
            }
            _ => Renewed::AnotherAccount,
        }
    }

    async fn renew_token(&self, user_id: &str, token: &str, new: &Credentials) -> Renewed {
        let asked = match self.0.rest.beside(user_id, token) {
            Ok(beside) => beside.me().await,
            Err(error) => Err(error),
        };
        let taken = match asked {
            Ok(me) if me.id == user_id => Renewed::Taken,
            Ok(me) => {
                return Renewed::Refused(format!("it belongs to user id `{}`, not to `{user_id}`", me.id));
            }
            Err(RestError::Unauthorized { reason, .. }) => {
                return Renewed::Refused(reason.trim_end_matches('.').to_owned());
            }
            Err(error) => Renewed::Untried(error.to_string()),
        };
        // A login under way uses the old one, and the next one this.
        self.0.realtime.renew(new.clone());
        if let Err(error) = self.0.rest.set_auth(user_id, token) {
            return Renewed::Refused(error.to_string());
        }
        taken
    }
}
