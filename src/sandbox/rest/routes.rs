//! Which routes there are, on which server, and what each takes.

use axum::http::Method;

use super::{Answer, Call, account, chat, people, rooms, workspace};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::state::{Doc, World};

/// The releases that have a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Both,
    Old,
    New,
}

/// One verb of one route.
#[derive(Clone, Copy)]
pub struct Route {
    verb: &'static str,
    name: &'static str,
    on: On,
    pub login: bool,
    /// What 8.x takes; `*` for anything. 6.5 ignores what it does not know.
    keys: &'static str,
    pub run: fn(&mut World, &Call) -> Answer,
}

/// What a name and verb lead to.
pub enum Found {
    Route(&'static Route),
    OtherVerb,
    /// The route exists on the other release only.
    OtherVersion,
    Nothing,
}

pub fn find(verb: &Method, name: &str, is_old: bool) -> Found {
    let mut found = Found::Nothing;
    for route in ROUTES.iter().filter(|route| route.name == name) {
        let here = match route.on {
            On::Both => true,
            On::Old => is_old,
            On::New => !is_old,
        };
        if here && route.verb == verb.as_str() {
            return Found::Route(route);
        }
        if here {
            found = Found::OtherVerb;
        } else if matches!(found, Found::Nothing) && route.name.starts_with("rooms.") {
            // As observed: `rooms.media` on 6.5.3 answers 405; other unknown names get the web page.
            found = Found::OtherVersion;
        }
    }
    found
}

/// The closed schemas of 8.x.
pub fn check(route: &Route, params: &Doc, is_old: bool) -> Result<(), Refusal> {
    if is_old || route.keys == "*" {
        return Ok(());
    }
    const LISTS: &[&str] = &["count", "offset", "sort", "query", "fields"];
    for key in params.keys() {
        let listed = route.verb == "GET" && LISTS.contains(&key.as_str());
        if !listed && !route.keys.split(' ').any(|known| known == key) {
            return Err(Refusal::new("invalid-params", "must NOT have additional properties"));
        }
    }
    Ok(())
}

type Run = fn(&mut World, &Call) -> Answer;

const fn get(name: &'static str, keys: &'static str, run: Run) -> Route {
    Route { verb: "GET", name, on: On::Both, login: true, keys, run }
}

const fn post(name: &'static str, keys: &'static str, run: Run) -> Route {
    Route { verb: "POST", name, on: On::Both, login: true, keys, run }
}

const fn open(route: Route) -> Route {
    Route { login: false, ..route }
}

const fn only(on: On, route: Route) -> Route {
    Route { on, ..route }
}

const ROOM: &str = "roomId roomName";
const HISTORY: &str = "roomId roomName latest oldest inclusive unreads showThreadMessages";
const MESSAGE_PARTS: &str = "roomId channel text alias emoji avatar attachments customFields parseUrls tmid";

#[rustfmt::skip]
static ROUTES: &[Route] = &[
    open(post("login", "*", account::login)),
    post("logout", "*", account::logout),
    get("me", "", account::me),
    get("chat.getMessage", "msgId", chat::get_message),
    post("chat.postMessage", MESSAGE_PARTS, chat::post_message),
    post("chat.sendMessage", "message previewUrls", chat::send_message),
    post("chat.update", "roomId msgId text previewUrls customFields content e2eMentions", chat::update),
    post("chat.react", "messageId emoji reaction shouldReact", chat::react),
    post("chat.delete", "roomId msgId fileId asUser", chat::delete),
    post("chat.pinMessage", "messageId", chat::pin),
    post("chat.unPinMessage", "messageId", chat::unpin),
    get("chat.search", "roomId searchText", chat::search),
    get("chat.syncMessages", "roomId lastUpdate type next previous", chat::sync_messages),
    get("chat.getThreadMessages", "tmid", chat::thread),
    get("chat.syncThreadMessages", "tmid updatedSince", chat::sync_thread),
    get("chat.getThreadsList", "rid type text", chat::threads),
    get("chat.getDeletedMessages", "roomId since", chat::deleted),
    get("channels.history", HISTORY, rooms::channel_history),
    get("groups.history", HISTORY, rooms::group_history),
    get("im.history", HISTORY, rooms::direct_history),
    get("channels.messages", ROOM, rooms::channel_messages),
    get("channels.list", "", rooms::channels),
    get("channels.list.joined", "", rooms::joined_channels),
    get("groups.list", "", rooms::groups),
    get("im.list", "", rooms::directs),
    get("channels.members", "roomId roomName filter status", rooms::channel_members),
    get("groups.members", "roomId roomName filter status", rooms::group_members),
    get("im.members", "roomId username filter status", rooms::direct_members),
    get("channels.info", ROOM, rooms::channel_info),
    get("groups.info", ROOM, rooms::group_info),
    get("channels.roles", ROOM, rooms::roles),
    get("groups.roles", ROOM, rooms::roles),
    post("channels.create", "name members readOnly customFields extraData excludeSelf", rooms::create_channel),
    post("groups.create", "name members readOnly customFields extraData excludeSelf", rooms::create_group),
    post("channels.invite", "roomId roomName userId userIds username usernames", rooms::invite),
    post("groups.invite", "roomId roomName userId userIds username usernames", rooms::invite),
    post("channels.kick", "roomId roomName userId username", rooms::kick),
    post("groups.kick", "roomId roomName userId username", rooms::kick),
    post("channels.join", "roomId roomName joinCode", rooms::join),
    post("channels.leave", ROOM, rooms::leave),
    post("groups.leave", ROOM, rooms::leave),
    post("channels.rename", "roomId roomName name", rooms::rename),
    post("groups.rename", "roomId roomName name", rooms::rename),
    post("channels.delete", ROOM, rooms::delete),
    post("groups.delete", ROOM, rooms::delete),
    post("channels.archive", ROOM, rooms::archive),
    post("channels.unarchive", ROOM, rooms::unarchive),
    post("groups.archive", ROOM, rooms::archive),
    post("groups.unarchive", ROOM, rooms::unarchive),
    post("channels.setReadOnly", "roomId roomName readOnly", rooms::set_read_only),
    post("groups.setReadOnly", "roomId roomName readOnly", rooms::set_read_only),
    post("channels.setTopic", "roomId roomName topic", rooms::set_topic),
    post("groups.setTopic", "roomId roomName topic", rooms::set_topic),
    get("rooms.get", "updatedSince", rooms::get),
    get("rooms.info", ROOM, rooms::info),
    only(On::New, get("rooms.isMember", "roomId userId username", rooms::is_member)),
    only(On::New, post("rooms.muteUser", "roomId userId username", rooms::mute)),
    only(On::New, post("rooms.unmuteUser", "roomId userId username", rooms::unmute)),
    post("rooms.cleanHistory", "roomId latest oldest inclusive excludePinned filesOnly users limit ignoreDiscussion ignoreThreads", rooms::clean_history),
    post("rooms.createDiscussion", "prid pmid t_name reply users encrypted topic", rooms::create_discussion),
    only(On::New, post("rooms.media", "*", chat::no_file)),
    only(On::New, post("rooms.mediaConfirm", "msg description tmid fileName alias avatar emoji groupable customFields content", chat::confirm_media)),
    only(On::Old, post("rooms.upload", "*", chat::no_file)),
    get("subscriptions.get", "updatedSince", rooms::subscriptions),
    get("subscriptions.getOne", "roomId", rooms::subscription),
    post("subscriptions.read", "rid readThreads", rooms::read),
    post("im.create", "username usernames excludeSelf", rooms::create_direct),
    post("dm.create", "username usernames excludeSelf", rooms::create_direct),
    get("users.info", "userId username importId includeUserRooms", people::info),
    get("users.list", "", people::list),
    get("users.presence", "from ids ids[]", people::presence),
    get("users.getStatus", "userId username user", people::status),
    post("users.setStatus", "status message userId username", people::set_status),
    post("users.create", "name email username password verified joinDefaultChannels roles active requirePasswordChange sendWelcomeEmail bio nickname statusText customFields", people::create),
    post("users.update", "userId data confirmRelinquish", people::update),
    post("users.setActiveStatus", "userId activeStatus confirmRelinquish", people::set_active),
    post("users.generatePersonalAccessToken", "tokenName bypassTwoFactor", account::generate_token),
    get("users.getPersonalAccessTokens", "", account::tokens),
    post("users.removePersonalAccessToken", "tokenName", account::remove_token),
    post("users.logoutOtherClients", "", account::logout_others),
    get("roles.list", "", workspace::roles),
    get("roles.getUsersInRole", "role roomId", workspace::users_in_role),
    only(On::New, get("roles.getUsersInPublicRoles", "", workspace::users_in_public_roles)),
    get("permissions.listAll", "updatedSince", workspace::permissions),
    post("permissions.update", "permissions", workspace::update_permissions),
    open(get("settings.public", "_id", workspace::public_settings)),
    post("settings", "value", workspace::set_setting),
    get("settings", "", workspace::setting),
    get("commands.list", "", workspace::commands),
    get("commands.get", "command", workspace::command),
    post("commands.run", "command params roomId tmid triggerId", workspace::run_command),
    post("method.call", "message", workspace::method_call),
    open(post("method.callAnon", "message", workspace::method_call)),
];
