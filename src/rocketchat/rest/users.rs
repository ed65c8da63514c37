//! Users: logging in, who we are, who they are.
//!
//! Must not: log in by password when a token still works (see [`super::super::login`]).

use serde_json::{Value, json};

use super::super::error::RestError;
use super::super::model::{User, objects, text};
use super::{Rest, missing};

/// What a login gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user_id: String,
    /// Good for both APIs.
    pub token: String,
    pub username: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, …)", self.user_id)
    }
}

/// How a user is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserQuery<'a> {
    Id(&'a str),
    /// Without `@`.
    Name(&'a str),
}

/// A personal access token of ours, as far as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalToken {
    pub name: String,
    /// Its last six characters.
    pub last_part: String,
    /// Whether calls made with it need no second factor.
    pub bypasses_two_factor: bool,
}

/// What is shown beside a user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Online,
    Away,
    Busy,
    Offline,
}

impl Rest {
    /// Logs in by password. Does not change as whom this client calls: see [`Rest::set_auth`].
    pub async fn login(&self, username: &str, password: &str) -> Result<Login, RestError> {
        let mut answer = self.post("login", &json!({ "user": username, "password": password })).await?;
        let mut data = answer.remove("data").unwrap_or_default();
        let mut take = |key: &str| match data.get_mut(key).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let user_id = take("userId").ok_or_else(|| missing("login", "userId"))?;
        let token = take("authToken").ok_or_else(|| missing("login", "authToken"))?;
        let username = data.pointer("/me/username").and_then(Value::as_str).map(str::to_owned);
        Ok(Login { user_id, token, username })
    }

    /// Ends the session of the token that calls are made with: that token is good for nothing afterwards.
    pub async fn logout(&self) -> Result<(), RestError> {
        self.post("logout", &json!({})).await.map(drop)
    }

    /// Our personal access tokens; needs `create-personal-access-tokens`.
    pub async fn personal_tokens(&self) -> Result<Vec<PersonalToken>, RestError> {
        let mut answer = self.get("users.getPersonalAccessTokens", &[]).await?;
        let token = |value: Value| {
            let Value::Object(mut doc) = value else { return None };
            Some(PersonalToken {
                name: text(&mut doc, "name").unwrap_or_default(),
                last_part: text(&mut doc, "lastTokenPart")?,
                bypasses_two_factor: doc.get("bypassTwoFactor") == Some(&Value::Bool(true)),
            })
        };
        Ok(objects(answer.remove("tokens")).filter_map(token).collect())
    }

    /// Our own account, with its roles.
    pub async fn me(&self) -> Result<User, RestError> {
        let answer = self.get("me", &[]).await?;
        User::from_value(Value::Object(answer)).ok_or_else(|| missing("me", "_id"))
    }

    /// A user; `None` when there is none.
    pub async fn user_info(&self, who: UserQuery<'_>) -> Result<Option<User>, RestError> {
        let query = match who {
            UserQuery::Id(id) => ("userId", id),
            UserQuery::Name(name) => ("username", name),
        };
        match self.get("users.info", &[query]).await {
            Ok(mut answer) => Ok(answer.remove("user").and_then(User::from_value)),
            // 6.5: 400 `User not found.` without a code; later 404.
            Err(RestError::Refused { status: 400 | 404, error, error_type, .. })
                if error.contains("not found") || error_type.as_deref() == Some("error-invalid-user") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets our presence and the line beside it (empty for none).
    pub async fn set_status(&self, presence: Presence, line: &str) -> Result<(), RestError> {
        let status = match presence {
            Presence::Online => "online",
            Presence::Away => "away",
            Presence::Busy => "busy",
            Presence::Offline => "offline",
        };
        self.post("users.setStatus", &json!({ "status": status, "message": line })).await.map(drop)
    }
}
