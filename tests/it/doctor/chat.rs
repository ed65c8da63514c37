//! Rocket.Chat and the account, in both dialects.

use houston::clock::Clock;
use houston::doctor::permissions::NEEDS;
use houston::doctor::{Check, Level};
use houston::sandbox::{Dialect, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Clinic, find, is};
use crate::support::rc;

const BOTH: [Dialect; 2] = [Dialect::Monolith, Dialect::Streamer];

#[tokio::test]
async fn a_healthy_workspace_has_no_finding() {
    for (dialect, server, word) in [
        (Dialect::Monolith, Version::V8, "(monolith)"),
        (Dialect::Streamer, Version::V8, "(ddp-streamer)"),
        (Dialect::Monolith, Version::V6_5, "(monolith)"),
    ] {
        let clinic = Clinic::with(dialect, server, |_| ()).await;
        let checks = clinic.examine().await;
        let findings: Vec<&Check> = checks.iter().filter(|check| check.result != Level::Ok).collect();
        assert!(findings.is_empty(), "{findings:#?}");
        assert!(find(&checks, "realtime API").message.contains(word), "{checks:#?}");
        assert!(find(&checks, "token").message.contains("does not expire"), "{checks:#?}");
        assert!(find(&checks, "people").message.contains("`alice`, `bob` and `carol`"), "{checks:#?}");
        assert!(find(&checks, "slash words").message.contains("`/status`"), "{checks:#?}");
        let permissions = checks.iter().filter(|check| check.check.starts_with("permission ")).count();
        assert_eq!(permissions, NEEDS.len());
    }
}

#[tokio::test]
async fn each_permission_that_is_taken_away_is_told_with_what_does_not_work_then() {
    for dialect in BOTH {
        for need in NEEDS {
            let clinic = Clinic::with(dialect, Version::V8, |_| ()).await;
            // What another need could rest on as well stays with whoever else has it.
            for permission in need.any_of {
                clinic
                    .sandbox
                    .control("grant", json!({"permission": permission, "roles": ["admin"]}))
                    .await
                    .unwrap();
            }
            let checks = clinic.examine().await;
            let name = format!("permission {}", need.any_of.join(" or "));
            let found = find(&checks, &name);
            assert_eq!(found.result, need.level, "{found:?}");
            assert!(found.message.contains(need.without), "{found:?}");
            if need.level == Level::Ok {
                continue;
            }
            let grant = format!("grant `{}` to a role of `houston` (user and bot)", need.any_of[0]);
            is(found, need.level, &name, "missing: ", &grant);
            let others: Vec<&Check> =
                checks.iter().filter(|check| check.result != Level::Ok && check.check != name).collect();
            let other = |check: &&&Check| !check.check.starts_with("permission ");
            assert!(others.iter().find(other).is_none(), "{others:#?}");
        }
    }
}

#[tokio::test]
async fn a_role_that_is_missing_or_too_much_is_told() {
    let roles = async |roles: &[&str]| {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let clinic = Clinic::with(Dialect::Monolith, Version::V8, |seed| {
            let bot = seed.people.iter_mut().find(|person| person.username == "houston");
            bot.unwrap().roles = Some(roles);
        })
        .await;
        clinic.findings().await
    };
    let found = roles(&["user"]).await;
    is(find(&found, "role bot"), Level::Warning, "role bot", "does not have", "Edit*: add the role `bot`");
    let limits = "permission api-bypass-rate-limit";
    is(find(&found, limits), Level::Warning, limits, "come late", "*: add the role `bot`; or *Admin");
    let found = roles(&["bot"]).await;
    is(find(&found, "role user"), Level::Warning, "role user", "does not have", "add the role `user`");
    let upload = "permission mobile-upload-file";
    is(find(&found, upload), Level::Warning, upload, "long output is cut", "add the role `user`; or");
    let found = roles(&["user", "bot", "admin"]).await;
    Clinic::only(&found, Level::Warning, "role admin", "is an administrator", "take the role `admin` away");
}

#[tokio::test]
async fn settings_that_are_in_the_way_are_told() {
    for (setting, check, message, fix) in [
        (
            "Message_AllowUnrecognizedSlashCommand",
            "slash commands",
            "do not send `/deploy`",
            "Allow Unrecognized",
        ),
        ("Message_AllowEditing", "edits", "does not follow it", "Allow Message Editing"),
        ("FileUpload_Enabled", "uploads", "long output is cut", "File Uploads Enabled"),
    ] {
        let clinic = Clinic::open().await;
        clinic.sandbox.control("set", json!({setting: false})).await.unwrap();
        Clinic::only(&clinic.findings().await, Level::Warning, check, message, fix);
    }
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_told_whatever_is_wrong_with_it() {
    for dialect in BOTH {
        let clinic = Clinic::with(dialect, Version::V8, |_| ()).await;
        clinic.sandbox.control("revoke", json!({"user": "houston"})).await.unwrap();
        let found = clinic.findings().await;
        Clinic::only(
            &found,
            Level::Problem,
            "account",
            "is not accepted",
            "My Account → Personal Access Tokens",
        );

        let clinic = Clinic::with(dialect, Version::V8, |_| ()).await;
        clinic.auth("user_id: u-alice, token: {file: token}");
        let found = clinic.findings().await;
        Clinic::only(&found, Level::Problem, "account", "`u-alice` is not accepted", "not the user name");
    }
}

#[tokio::test]
async fn a_token_that_will_end_or_needs_a_second_factor_is_told() {
    let clinic = Clinic::open().await;
    let person = rc::Person::login(&clinic.sandbox.url(), "houston").await;
    clinic.file("token", &person.token);
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Warning, "token", "ends 90 days after", "make a personal access token");
    let made = person.post("users.generatePersonalAccessToken", json!({"tokenName": "half"})).await.1;
    clinic.file("token", made["token"].as_str().unwrap());
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Warning, "token", "`half` does not ignore two-factor", "*Ignore Two Factor");
}

#[tokio::test]
async fn a_password_is_tried_and_its_login_taken_back() {
    let clinic = Clinic::open().await;
    clinic.file("password", "houston");
    clinic.auth("username: houston, password: {file: password}");
    assert_eq!(clinic.findings().await, []);
    for route in ["login", "logout"] {
        let done = clinic.sandbox.control("log", json!({"name": route})).await.unwrap();
        assert_eq!(done["lines"].as_array().unwrap().len(), 1, "{route}: {done}");
    }
    clinic.file("password", "not-the-password");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "account", "the password of `houston`", "the right password");

    let clinic = Clinic::with(Dialect::Monolith, Version::V8, |seed| {
        let bot = seed.people.iter_mut().find(|person| person.username == "houston");
        bot.unwrap().totp = Some("123456".to_owned());
    })
    .await;
    clinic.file("password", "houston");
    clinic.auth("username: houston, password: {file: password}");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "account", "a second factor", "use a token instead");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told_and_the_server_is_looked_at_all_the_same() {
    let clinic = Clinic::open().await;
    std::fs::remove_file(clinic.config().join("token")).unwrap();
    let checks = clinic.examine().await;
    let found: Vec<Check> = checks.iter().filter(|check| check.result != Level::Ok).cloned().collect();
    let path = format!("put it into `{}`", clinic.config().join("token").display());
    Clinic::only(&found, Level::Problem, "secret rocketchat.token", "cannot be read", &path);
    assert_eq!(find(&checks, "server").result, Level::Ok);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_once() {
    let clinic = Clinic::open().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    clinic.main(&url, "user_id: x, token: {file: token}", "");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Problem, "server", "cannot be reached", &format!("`curl -v {url}/api/info`"));
}

/// Something that answers every request with this.
async fn fake(body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 8192]).await;
            let kind = if body.starts_with('{') { "application/json" } else { "text/html" };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
            let _ = socket.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn another_version_another_program_and_a_proxy_without_websockets_are_told() {
    let clinic = Clinic::open().await;
    let auth = "user_id: x, token: {file: token}";
    clinic.main(&fake("<html>hello").await, auth, "");
    let found = clinic.findings().await;
    Clinic::only(
        &found,
        Level::Problem,
        "server",
        "did not answer as Rocket.Chat does",
        "as browsers open it",
    );

    clinic.main(&fake(r#"{"version":"5.4","_id":"x","success":true}"#).await, auth, "");
    let found = clinic.findings().await;
    is(find(&found, "server"), Level::Problem, "server", "older than 6.5", "upgrade Rocket.Chat");
    let api = "realtime API";
    is(
        find(&found, api),
        Level::Problem,
        api,
        "HTTP 200 OK instead of a WebSocket",
        "proxy_set_header Upgrade",
    );

    clinic.main(&fake(r#"{"version":"9.0","_id":"x","success":true}"#).await, auth, "");
    let found = clinic.findings().await;
    is(find(&found, "server"), Level::Warning, "server", "newer than 8", "look for a newer Houston");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_with_the_direction() {
    for (seconds, level, side) in [
        (-30, Level::Warning, " s behind the server"),
        (30, Level::Warning, " s ahead of the server"),
        (600, Level::Problem, " min"),
    ] {
        let mut clinic = Clinic::open().await;
        clinic.clock = Clock::manual(Clock::system().now() + jiff::SignedDuration::from_secs(seconds));
        let found = clinic.findings().await;
        Clinic::only(&found, level, "clock", side, "timedatectl set-ntp true");
    }
}

#[tokio::test]
async fn rooms_that_the_configuration_names_are_looked_for() {
    let clinic = Clinic::open().await;
    let name = |room: &str| {
        clinic.more(&format!(
            "access:\n  roles: {{operator: {{users: [alice]}}}}\n  rules:\n    - allow: {{rooms: ['{room}', direct], commands: \
             [deploy]}}\n"
        ));
    };
    name("#ops");
    assert_eq!(clinic.findings().await, []);
    name("opps");
    let found = clinic.findings().await;
    Clinic::only(
        &found,
        Level::Problem,
        "room opps",
        "houston.yaml:5:7 names it, and there is no such",
        "mend the name",
    );
    // Private, and Houston is not in it.
    name("board");
    Clinic::only(
        &clinic.findings().await,
        Level::Problem,
        "room board",
        "or it is private",
        "invite the account",
    );
    clinic.sandbox.control("kick", json!({"user": "houston", "room": "ops"})).await.unwrap();
    name("ops");
    let found = clinic.findings().await;
    Clinic::only(
        &found,
        Level::Problem,
        "room ops",
        "Houston is not a member",
        "`/invite @houston` in `#ops`",
    );
}

/// Also where the files have no window: what people declare is announced there.
#[tokio::test]
async fn rooms_in_which_maintenance_is_announced_are_looked_for() {
    let clinic = Clinic::open().await;
    clinic.more("maintenance: {rooms: [ops, opps]}\n");
    Clinic::only(&clinic.findings().await, Level::Problem, "room opps", "there is no such", "mend the name");
}

#[tokio::test]
async fn a_room_that_houston_cannot_read_or_answer_in_is_told() {
    for (flag, level, message, fix) in [
        ("encrypted", Level::Problem, "cannot read a word", "turn *Encrypted* off"),
        ("read_only", Level::Warning, "may not answer there", "Read Only*: off"),
        ("archived", Level::Warning, "it is archived", "`/unarchive`"),
    ] {
        let clinic = Clinic::open().await;
        // A playbook names it.
        clinic.file(
            "playbooks/tell.yaml",
            "description: Tells\nsteps:\n  - id: tell\n    notify: {room: backups, text: done}\n",
        );
        clinic.file("commands/tell.yaml", "tell:\n  summary: Tells.\n  playbook: tell\n");
        assert_eq!(clinic.findings().await, []);
        clinic.sandbox.control("room", json!({"room": "backups", flag: true})).await.unwrap();
        let found = clinic.findings().await;
        Clinic::only(&found, level, "room backups", message, fix);
        assert!(found[0].message.contains("playbooks/tell.yaml:4:5 names it"), "{found:?}");
    }
    let clinic = Clinic::open().await;
    clinic.sandbox.control("room", json!({"room": "sales", "encrypted": true})).await.unwrap();
    let found = clinic.findings().await;
    Clinic::only(
        &found,
        Level::Warning,
        "room sales",
        "Houston is a member, and cannot read",
        "use another room",
    );
}

#[tokio::test]
async fn a_bot_in_no_room_is_told_to_be_invited() {
    let clinic = Clinic::open().await;
    for room in ["general", "ops", "backups", "sales"] {
        clinic.sandbox.control("kick", json!({"user": "houston", "room": room})).await.unwrap();
    }
    Clinic::only(&clinic.findings().await, Level::Warning, "rooms", "is in no room", "invite the account");
}

#[tokio::test]
async fn a_command_whose_slash_word_the_server_keeps_is_told() {
    let clinic = Clinic::open().await;
    // One of the server's words that not every server has.
    clinic.file(
        "playbooks/tell.yaml",
        "description: Tells\nsteps:\n  - id: tell\n    notify: {room: backups, text: done}\n",
    );
    clinic.file("commands/tell.yaml", "slackbridge-import:\n  summary: Tells.\n  playbook: tell\n");
    let found = clinic.findings().await;
    let message = "answers `/slackbridge-import` (commands/tell.yaml:1:1) itself";
    Clinic::only(&found, Level::Warning, "slash words", message, "type `!slackbridge-import`");
}

#[tokio::test]
async fn people_whom_nobody_knows_are_told_with_the_line_that_names_them() {
    let clinic = Clinic::open().await;
    clinic.more("access: {roles: {operator: {users: [alice, bbo]}}}\n");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Warning, "person bbo", "houston.yaml:2:", "mend the name in houston.yaml:2:");

    clinic.more("access: {roles: {operator: {users: [alice, bob]}}}\n");
    let carol = rc::Person::login(&clinic.sandbox.url(), "carol").await;
    let (status, said) =
        carol.post("users.setActiveStatus", json!({"userId": "u-bob", "activeStatus": false})).await;
    assert_eq!(status, 200, "{said}");
    let found = clinic.findings().await;
    Clinic::only(&found, Level::Warning, "person bob", "is deactivated", "activate the account");
}

#[tokio::test]
async fn a_role_of_rocket_chat_that_is_not_shown_is_told_and_seen_with_the_permission() {
    let clinic = Clinic::with(Dialect::Monolith, Version::V8, |seed| {
        let bob = seed.people.iter_mut().find(|person| person.username == "bob");
        bob.unwrap().roles = Some(vec!["user".to_owned(), "livechat-agent".to_owned()]);
    })
    .await;
    clinic.more("access: {roles: {operator: {rocketchat_roles: [livechat-agent, admin]}}}\n");
    let found = clinic.findings().await;
    let name = "role livechat-agent";
    Clinic::only(&found, Level::Warning, name, "sees nobody who has it", "grant `view-full-other-user-info`");
    let grant = json!({"permission": "view-full-other-user-info", "roles": ["admin", "bot"]});
    clinic.sandbox.control("grant", grant).await.unwrap();
    assert_eq!(clinic.findings().await, []);
}

#[tokio::test]
async fn leads_whom_nobody_can_find_are_told_of_until_they_can_be() {
    let clinic = Clinic::with(Dialect::Monolith, Version::V8, |seed| {
        let bob = seed.people.iter_mut().find(|person| person.username == "bob");
        bob.unwrap().roles = Some(vec!["user".to_owned(), "livechat-agent".to_owned()]);
    })
    .await;
    let grant = |permission: &str| json!({"permission": permission, "roles": ["admin", "bot"]});
    clinic.sandbox.control("grant", grant("view-full-other-user-info")).await.unwrap();
    clinic.more(
        "access: {roles: {operator: {users: [alice]}, lead: {rocketchat_roles: [livechat-agent, admin]}}}\n",
    );
    let found = clinic.findings().await;
    let (name, message) = ("leads by role livechat-agent", "they get no direct message");
    Clinic::only(&found, Level::Warning, name, message, "grant `access-permissions`");
    clinic.sandbox.control("grant", grant("access-permissions")).await.unwrap();
    assert_eq!(clinic.findings().await, []);
}

#[test]
fn the_page_for_administrators_has_the_table_of_the_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/administrator.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = houston::doctor::permissions::table();
    assert!(page.contains(&table), "docs/administrator.md has to hold:\n{table}");
}
