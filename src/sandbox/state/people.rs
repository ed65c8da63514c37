//! Accounts and their tokens.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Doc, World, date};
use crate::ids::random_id;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::seed::SeedPerson;

/// An account.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: String,
    pub username: String,
    pub name: String,
    /// Kept through a change of the user name.
    pub email: String,
    pub roles: Vec<String>,
    pub password: String,
    pub active: bool,
    /// `online`, `away`, `busy` or `offline`.
    pub status: String,
    pub status_text: String,
    pub totp: Option<String>,
    pub tokens: Vec<Token>,
    /// Made by the server itself. The role `bot` makes nobody one.
    pub bot_account: bool,
    pub utc_offset: f64,
}

/// A way in.
#[derive(Debug, Clone)]
pub struct Token {
    pub value: String,
    /// Milliseconds since the epoch; never for a personal access token.
    pub expires: Option<i64>,
    /// The name of a personal access token.
    pub name: Option<String>,
    pub created: i64,
    /// Whether calls made with it need no second factor.
    pub bypasses_two_factor: bool,
}

/// Rocket.Chat keeps about this many sessions; the oldest go first.
const MOST_TOKENS: usize = 50;

/// As JavaScript writes a number: `1`, `5.5`.
fn whole_or_not(hours: f64) -> serde_json::Value {
    #[expect(clippy::cast_possible_truncation, reason = "hours of a day")]
    if hours.fract() == 0.0 { (hours as i64).into() } else { hours.into() }
}

/// The reason given for every token that does not work.
pub const LOGGED_OUT: &str = "You've been logged out by the server. Please log in again.";

impl Person {
    pub fn seeded(seed: &SeedPerson) -> Self {
        let username = seed.username.clone();
        let mut letters = username.chars();
        let capital: String =
            letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default();
        let roles = seed.roles.clone().unwrap_or_else(|| vec!["user".to_owned()]);
        Self {
            id: seed.id.clone().unwrap_or_else(|| format!("u-{username}")),
            email: format!("{username}@example.com"),
            name: seed.name.clone().unwrap_or(capital),
            bot_account: false,
            utc_offset: seed.utc_offset,
            roles,
            password: seed.password.clone().unwrap_or_else(|| username.clone()),
            active: true,
            status: "offline".into(),
            status_text: String::new(),
            totp: seed.totp.clone(),
            tokens: seed
                .token
                .iter()
                .map(|value| Token {
                    value: value.clone(),
                    expires: None,
                    name: Some("seed".into()),
                    created: 0,
                    bypasses_two_factor: true,
                })
                .collect(),
            username,
        }
    }

    /// The account in whose name the server itself speaks. It cannot log in: it has no password.
    pub fn rocket_cat() -> Self {
        Self {
            id: "rocket.cat".into(),
            username: "rocket.cat".into(),
            name: "Rocket.Cat".into(),
            email: "rocket.cat@example.com".into(),
            roles: vec!["bot".into()],
            password: String::new(),
            active: true,
            status: "online".into(),
            status_text: String::new(),
            totp: None,
            tokens: Vec::new(),
            bot_account: true,
            utc_offset: 0.0,
        }
    }

    /// `u` as messages carry it.
    pub fn stamp(&self) -> Value {
        json!({"_id": self.id, "username": self.username, "name": self.name})
    }

    /// 0 offline, 1 online, 2 away, 3 busy.
    pub fn status_number(&self) -> u8 {
        match self.status.as_str() {
            "online" => 1,
            "away" => 2,
            "busy" => 3,
            _ => 0,
        }
    }

    /// What somebody else may read.
    pub fn public_doc(&self, full: bool) -> Doc {
        let mut doc = Doc::new();
        doc.insert("_id".into(), self.id.as_str().into());
        doc.insert("username".into(), self.username.as_str().into());
        doc.insert("name".into(), self.name.as_str().into());
        doc.insert("status".into(), self.status.as_str().into());
        if !self.status_text.is_empty() {
            doc.insert("statusText".into(), self.status_text.as_str().into());
        }
        doc.insert("utcOffset".into(), whole_or_not(self.utc_offset));
        doc.insert("active".into(), self.active.into());
        doc.insert("type".into(), if self.bot_account { "bot" } else { "user" }.into());
        if full {
            doc.insert("createdAt".into(), date(0));
            doc.insert("emails".into(), self.emails());
            doc.insert("roles".into(), json!(self.roles));
            doc.insert("statusConnection".into(), self.status.as_str().into());
        }
        doc
    }

    /// What the account reads of itself: `me`.
    pub fn own_doc(&self, now: i64) -> Doc {
        let mut doc = self.public_doc(true);
        for of_others in ["createdAt", "type", "utcOffset"] {
            doc.shift_remove(of_others);
        }
        doc.insert("_updatedAt".into(), date(now));
        doc.insert("settings".into(), json!({"profile": {}, "preferences": {"language": "en"}}));
        doc.insert("services".into(), json!({"password": {"exists": true}}));
        doc.insert("email".into(), self.email.as_str().into());
        doc
    }

    /// Verified, except for who set the workspace up.
    pub fn emails(&self) -> Value {
        let verified = !self.roles.iter().any(|role| role == "admin");
        json!([{"address": self.email, "verified": verified}])
    }
}

impl World {
    /// The id of whoever has the user name now.
    pub fn id_of(&self, username: &str) -> Option<String> {
        let username = username.trim_start_matches('@');
        self.people.values().find(|person| person.username == username).map(|person| person.id.clone())
    }

    /// By id or by user name.
    pub fn find_person(&self, who: &str) -> Option<&Person> {
        self.people.get(who).or_else(|| self.people.get(&self.id_of(who)?))
    }

    /// Checks a password, plain or as the lower-case hex digest of SHA-256.
    pub fn check_password(
        &self,
        user: &str,
        password: &str,
        is_digest: bool,
        code: Option<&str>,
    ) -> Result<String, Refusal> {
        let email_user = user.strip_suffix("@example.com").unwrap_or(user);
        let person = self.id_of(email_user).and_then(|id| self.people.get(&id));
        let Some(person) = person.filter(|person| !person.password.is_empty()) else {
            return Err(Refusal::number(403, "User not found"));
        };
        let fits = if is_digest {
            let digest = Sha256::digest(person.password.as_bytes());
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            hex == password
        } else {
            person.password == password
        };
        if !fits {
            return Err(Refusal::number(403, "Incorrect password"));
        }
        if !person.active {
            return Err(Refusal::new("error-user-is-not-activated", "User is not activated")
                .details(json!({"function": "Accounts.validateLoginAttempt"})));
        }
        if let Some(wanted) = &person.totp {
            match code {
                None => {
                    return Err(Refusal::new("totp-required", "TOTP Required").details(json!({
                        "method": "totp", "codeGenerated": false, "availableMethods": ["totp"]})));
                }
                Some(code) if code != wanted => {
                    return Err(
                        Refusal::new("totp-invalid", "TOTP Invalid").details(json!({"method": "totp"}))
                    );
                }
                Some(_) => {}
            }
        }
        Ok(person.id.clone())
    }

    /// Whose token it is, and when it ends (`None`: never).
    pub fn check_token(&self, token: &str) -> Option<(String, Option<i64>)> {
        let now = self.now();
        self.people.values().filter(|person| person.active).find_map(|person| {
            let token = person.tokens.iter().find(|have| have.value == token)?;
            let alive = token.expires.is_none_or(|expires| expires > now);
            alive.then(|| (person.id.clone(), token.expires))
        })
    }

    /// A fresh session.
    pub fn new_token(&mut self, uid: &str, name: Option<&str>) -> Token {
        let now = self.now();
        let days = self.number("Accounts_LoginExpiration").clamp(1, 36_500);
        let token = Token {
            value: format!("{}{}", random_id(), random_id()),
            expires: name.is_none().then_some(now + days * 86_400_000),
            name: name.map(str::to_owned),
            created: now,
            bypasses_two_factor: name.is_some(),
        };
        if let Some(person) = self.people.get_mut(uid) {
            if person.tokens.len() >= MOST_TOKENS
                && let Some(oldest) = person.tokens.iter().position(|token| token.name.is_none())
            {
                person.tokens.remove(oldest);
            }
            person.tokens.push(token.clone());
        }
        token
    }

    /// The token works no longer, and its sockets close with 1000, as if all were well.
    pub fn revoke(&mut self, token: &str) {
        for person in self.people.values_mut() {
            person.tokens.retain(|have| have.value != token);
        }
        self.close_where(1000, |connection| connection.token.as_deref() == Some(token));
    }

    /// Revokes every token of the user, except `keep`.
    pub fn revoke_all(&mut self, uid: &str, keep: Option<&str>) {
        let Some(person) = self.people.get(uid) else { return };
        let values: Vec<String> = person
            .tokens
            .iter()
            .filter(|token| Some(token.value.as_str()) != keep)
            .map(|token| token.value.clone())
            .collect();
        for value in values {
            self.revoke(&value);
        }
    }

    pub fn set_status(&mut self, uid: &str, status: &str, status_text: Option<&str>) {
        let Some(person) = self.people.get_mut(uid) else { return };
        person.status = status.to_owned();
        if let Some(status_text) = status_text {
            person.status_text = status_text.to_owned();
        }
        let (name, number) = (person.username.clone(), person.status_number());
        let args = json!([[uid, name, number, person.status_text, person.name, person.roles]]);
        let presence = json!([[name, number, person.status_text]]);
        self.emit("stream-notify-logged", "user-status", &args, None);
        self.emit("stream-user-presence", uid, &presence, None);
    }

    /// A new user name. Reactions keep the old one, as on the real server.
    pub fn rename_person(
        &mut self,
        uid: &str,
        username: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), Refusal> {
        if let Some(username) = username
            && self.id_of(username).is_some_and(|other| other != uid)
        {
            return Err(Refusal::new("error-field-unavailable", &format!("{username} is already in use :("))
                .details(json!({"method": "saveUser", "field": username})));
        }
        let Some(person) = self.people.get_mut(uid) else { return Err(Refusal::plain("User not found.")) };
        if let Some(username) = username {
            person.username = username.to_owned();
        }
        if let Some(name) = name {
            person.name = name.to_owned();
        }
        let (username, stamp) = (person.username.clone(), person.stamp());
        let (_, name) = (&username, person.name.clone());
        for message in self.messages.values_mut() {
            if message.get("u").and_then(|u| u.get("_id")).and_then(Value::as_str) == Some(uid) {
                message.insert("u".into(), stamp.clone());
            }
        }
        let args = json!([{"_id": uid, "name": name, "username": username}]);
        self.emit("stream-notify-logged", "Users:NameChanged", &args, None);
        Ok(())
    }
}
