//! Who may: Rocket.Chat's default grants, of which only those stand here that the sandbox asks about.

use std::collections::{BTreeMap, BTreeSet};

use super::World;

const DEFAULTS: &[(&str, &[&str])] = &[
    ("access-permissions", &["admin"]),
    ("add-user-to-any-c-room", &["admin"]),
    ("add-user-to-any-p-room", &[]),
    ("add-user-to-joined-room", &["admin", "owner", "moderator"]),
    ("api-bypass-rate-limit", &["admin", "bot", "app"]),
    ("archive-room", &["admin", "owner"]),
    ("bypass-time-limit-edit-and-delete", &["bot", "app"]),
    ("clean-channel-history", &["admin"]),
    ("create-c", &["admin", "user", "bot", "app"]),
    ("create-d", &["admin", "user", "bot", "app"]),
    ("create-p", &["admin", "user", "bot", "app"]),
    ("create-personal-access-tokens", &["admin", "user"]),
    ("create-user", &["admin"]),
    ("delete-c", &["admin", "owner"]),
    ("delete-message", &["admin", "owner", "moderator"]),
    ("delete-own-message", &["admin", "user"]),
    ("delete-p", &["admin", "owner"]),
    ("edit-message", &["admin", "owner", "moderator"]),
    ("edit-other-user-active-status", &["admin"]),
    ("edit-other-user-info", &["admin"]),
    ("edit-privileged-setting", &["admin"]),
    ("edit-room", &["admin", "owner", "moderator"]),
    ("force-delete-message", &["admin", "owner"]),
    ("get-server-info", &["admin"]),
    ("join-without-join-code", &["admin", "bot", "app"]),
    ("leave-c", &["admin", "user", "bot", "anonymous", "app"]),
    ("leave-p", &["admin", "user", "bot", "anonymous", "app"]),
    ("manage-apps", &["admin"]),
    ("mention-all", &["admin", "owner", "moderator", "user"]),
    ("mention-here", &["admin", "owner", "moderator", "user"]),
    ("message-impersonate", &["bot", "app"]),
    ("mobile-upload-file", &["user", "admin"]),
    ("mute-user", &["admin", "owner", "moderator"]),
    ("pin-message", &["owner", "moderator", "admin"]),
    ("post-readonly", &["admin", "owner", "moderator"]),
    ("preview-c-room", &["admin", "user", "anonymous"]),
    ("remove-user", &["admin", "owner", "moderator"]),
    ("send-many-messages", &["admin", "bot", "app"]),
    ("set-react-when-readonly", &["admin", "owner"]),
    ("set-readonly", &["admin", "owner"]),
    ("start-discussion", &["admin", "user", "guest", "app"]),
    ("view-c-room", &["admin", "user", "bot", "app", "anonymous"]),
    ("view-d-room", &["admin", "user", "bot", "app", "guest"]),
    ("view-full-other-user-info", &["admin"]),
    ("view-joined-room", &["guest", "bot", "app", "anonymous"]),
    ("view-other-user-channels", &["admin"]),
    ("view-outside-room", &["admin", "owner", "moderator", "user"]),
    ("view-p-room", &["admin", "user", "anonymous", "guest"]),
];

/// Global roles with their descriptions; the second kind lives on a room's subscription.
pub const ROLES: &[(&str, &str, &str)] = &[
    ("admin", "Users", "Admin"),
    ("moderator", "Subscriptions", "Moderator"),
    ("leader", "Subscriptions", "Leader"),
    ("owner", "Subscriptions", "Owner"),
    ("user", "Users", ""),
    ("bot", "Users", ""),
    ("app", "Users", ""),
    ("guest", "Users", ""),
    ("anonymous", "Users", ""),
    ("livechat-agent", "Users", "Livechat Agent"),
    ("livechat-manager", "Users", "Livechat Manager"),
];

/// The grants of a fresh workspace: permission → roles.
pub fn defaults() -> BTreeMap<String, BTreeSet<String>> {
    DEFAULTS
        .iter()
        .map(|(permission, roles)| {
            ((*permission).to_owned(), roles.iter().map(|role| (*role).to_owned()).collect())
        })
        .collect()
}

impl World {
    /// Whether a role of the user, global or in the room, has the permission.
    pub fn may(&self, uid: &str, permission: &str, rid: Option<&str>) -> bool {
        let Some(granted) = self.grants.get(permission) else { return false };
        let Some(person) = self.people.get(uid) else { return false };
        if person.roles.iter().any(|role| granted.contains(role)) {
            return true;
        }
        let Some(rid) = rid else { return false };
        let membership = self.members.get(&(rid.to_owned(), uid.to_owned()));
        membership.is_some_and(|membership| membership.roles.iter().any(|role| granted.contains(role)))
    }
}

/// Rocket.Chat's own slash words: command, parameters, permission. The sandbox carries out those about
/// rooms and texts; the others are known and do nothing.
pub const SLASH: &[(&str, &str, Option<&str>)] = &[
    ("archive", "#channel", Some("archive-room")),
    ("create", "#channel", Some("create-c")),
    ("gimme", "your_message", None),
    ("help", "", None),
    ("hide", "#room", None),
    ("invite", "@username", Some("add-user-to-joined-room")),
    ("invite-all-from", "#room", Some("add-user-to-joined-room")),
    ("invite-all-to", "#room", Some("add-user-to-joined-room")),
    ("join", "#channel", Some("view-c-room")),
    ("kick", "@username", Some("remove-user")),
    ("leave", "", None),
    ("lennyface", "your_message", None),
    ("me", "your_message", None),
    ("msg", "@username message", Some("create-d")),
    ("mute", "@username", Some("mute-user")),
    ("part", "", None),
    ("sendEmailAttachment", "msg_id", None),
    ("shrug", "your_message", None),
    ("slackbridge-import", "", None),
    ("status", "Status message", None),
    ("tableflip", "your_message", None),
    ("topic", "Room topic", Some("edit-room")),
    ("unarchive", "#channel", Some("archive-room")),
    ("unflip", "your_message", None),
    ("unmute", "@username", Some("mute-user")),
];

pub fn is_slash_command(command: &str) -> bool {
    SLASH.iter().any(|(name, ..)| *name == command)
}
