//! The server itself: its version, its public settings, who may do what.
//!
//! Must not: rely on any of it being readable; all of it is optional knowledge.

use serde_json::{Map, Value};

use super::super::error::RestError;
use super::super::model::{User, objects, strings, text};
use super::{Rest, missing};

/// `GET /api/info`, open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// `6.5`, or with the patch level for those who may see it.
    pub version: String,
}

impl ServerInfo {
    /// Major and minor version, for comparisons.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next().unwrap_or("0").parse().ok()?))
    }
}

/// A permission and the roles that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub id: String,
    pub roles: Vec<String>,
}

/// The public settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublicSettings(Map<String, Value>);

impl PublicSettings {
    /// Any setting by its id.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.0.get(id)
    }

    /// `Message_MaxAllowedSize` in UTF-16 units; default 5000.
    pub fn max_message_size(&self) -> usize {
        let size = self.get("Message_MaxAllowedSize").and_then(Value::as_u64);
        size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(5000)
    }

    /// `Message_AllowUnrecognizedSlashCommand`: whether the web client sends `/deploy` at all; default not.
    pub fn allows_unrecognized_slash_commands(&self) -> bool {
        self.get("Message_AllowUnrecognizedSlashCommand") == Some(&Value::Bool(true))
    }

    /// `Message_AllowEditing`: whether anybody may change what they said; default yes.
    pub fn allows_editing(&self) -> bool {
        self.get("Message_AllowEditing") != Some(&Value::Bool(false))
    }

    /// `FileUpload_Enabled`; default yes.
    pub fn allows_uploads(&self) -> bool {
        self.get("FileUpload_Enabled") != Some(&Value::Bool(false))
    }

    /// `Accounts_LoginExpiration`: days after which a login's token is good for nothing; default 90.
    pub fn login_days(&self) -> u64 {
        self.get("Accounts_LoginExpiration").and_then(Value::as_u64).unwrap_or(90)
    }

    /// `UI_Use_Real_Name`: whether typing is announced under the displayed name; default not.
    pub fn uses_real_names(&self) -> bool {
        self.get("UI_Use_Real_Name") == Some(&Value::Bool(true))
    }
}

impl Rest {
    /// The server's version.
    pub async fn info(&self) -> Result<ServerInfo, RestError> {
        let mut url = self.shared.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "info"]);
        }
        let mut answer = self.call(reqwest::Method::GET, "info", &url, |request| request).await?;
        // Servers before 4 put it into `info`.
        let version = text(&mut answer, "version").or_else(|| {
            match answer.get_mut("info")?.get_mut("version")?.take() {
                Value::String(version) => Some(version),
                _ => None,
            }
        });
        Ok(ServerInfo { version: version.ok_or_else(|| missing("info", "version"))? })
    }

    /// All public settings.
    pub async fn public_settings(&self) -> Result<PublicSettings, RestError> {
        let mut settings = Map::new();
        let mut seen = 0_u64;
        // `count=0` asks for all at once; a server that does not allow that answers with a page.
        loop {
            let offset = seen.to_string();
            let mut answer = self.get("settings.public", &[("count", "0"), ("offset", &offset)]).await?;
            let total = answer.get("total").and_then(Value::as_u64).unwrap_or_default();
            let before = seen;
            for mut setting in objects(answer.remove("settings")) {
                seen += 1;
                if let (Some(Value::String(id)), Some(value)) =
                    (setting.get_mut("_id").map(Value::take), setting.get_mut("value").map(Value::take))
                {
                    settings.insert(id, value);
                }
            }
            if seen >= total || seen == before {
                return Ok(PublicSettings(settings));
            }
        }
    }

    /// Which roles have which permissions.
    pub async fn permissions(&self) -> Result<Vec<Permission>, RestError> {
        let mut answer = self.get("permissions.listAll", &[]).await?;
        let permission = |value: Value| {
            let Value::Object(mut doc) = value else { return None };
            Some(Permission { id: text(&mut doc, "_id")?, roles: strings(doc.remove("roles")) })
        };
        Ok(objects(answer.remove("update")).filter_map(permission).collect())
    }

    /// The slash words that the server or one of its apps answers itself, without `/`.
    pub async fn slash_commands(&self) -> Result<Vec<String>, RestError> {
        let mut words = Vec::new();
        loop {
            let offset = words.len().to_string();
            let mut answer = self.get("commands.list", &[("count", "0"), ("offset", &offset)]).await?;
            let total = answer.get("total").and_then(Value::as_u64).unwrap_or_default();
            let before = words.len();
            words.extend(objects(answer.remove("commands")).filter_map(|command| match command {
                Value::Object(mut doc) => text(&mut doc, "command"),
                _ => None,
            }));
            if words.len() as u64 >= total || words.len() == before {
                return Ok(words);
            }
        }
    }

    /// Who has a role of the workspace; needs `access-permissions`.
    pub async fn users_in_role(&self, role: &str) -> Result<Vec<User>, RestError> {
        let mut answer = self.get("roles.getUsersInRole", &[("role", role), ("count", "100")]).await?;
        Ok(objects(answer.remove("users")).filter_map(User::from_value).collect())
    }

    /// Users of publicly displayed roles, with those roles. Unknown to 6.5 ([`RestError::Malformed`]).
    pub async fn users_in_public_roles(&self) -> Result<Vec<User>, RestError> {
        let mut answer = self.get("roles.getUsersInPublicRoles", &[]).await?;
        Ok(objects(answer.remove("users")).filter_map(User::from_value).collect())
    }
}
