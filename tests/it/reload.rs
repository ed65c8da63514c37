//! The configuration folder changes while Houston runs: all of it is in force or nothing, everybody who has to
//! know is told, and what is under way keeps what it began with.

use std::os::unix::fs::symlink;
use std::time::Duration;

use houston::clock::Clock;

use crate::support::house::{House, Said, Setup};

/// The result of the newest reload that the audit log tells of.
fn audited(t: &House) -> String {
    let entries = t.audited();
    let reload = entries.into_iter().rev().find(|entry| entry.event.action == "reload");
    reload.expect("a reload").event.result.expect("what changed")
}

fn reloads(t: &House) -> usize {
    t.audited().into_iter().filter(|entry| entry.event.action == "reload").count()
}

async fn reload(t: &House, parts: &[&str]) -> Said {
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", parts).await
}

/// What Houston has written to carol alone.
async fn told_to_carol(t: &House) -> Vec<Said> {
    let state = t.control("state", serde_json::json!({})).await;
    let carol = t.sandbox.user_id("carol").expect("she is there");
    let rooms = state["rooms"].as_array().cloned().unwrap_or_default();
    let direct = rooms.iter().filter(|room| {
        room["t"] == "d"
            && room["uids"].as_array().is_some_and(|uids| uids.iter().any(|id| *id == carol.as_str()))
    });
    direct.filter_map(|room| room["_id"].as_str()).flat_map(|room| t.said(room)).collect()
}

#[tokio::test]
async fn what_changed_is_in_force_and_audited_in_words() {
    let t = House::talk().await;
    t.newcomer("dave").await;
    t.say("dave", "ops", "!lock staging for a look").await;
    t.expect("ops", &["dave"]).await;
    t.rewrite("houston.yaml", "users: [alice, bob]", "users: [alice, dave]");
    t.rewrite("environments/staging.yaml", "version: \"1.7\"", "version: \"1.8\"");
    std::fs::write(t.config_dir().join("environments/dev.yaml"), "variables: {colour: red}\n")
        .expect("written");
    let commands = t.config_dir().join("commands");
    std::fs::create_dir_all(&commands).expect("a folder");
    std::fs::write(commands.join("hi.yaml"), "hi:\n  summary: Says hi.\n  builtin: ping\n  examples: [hi]\n")
        .expect("written");
    let said = reload(&t, &["is in force, after"]).await;
    let audited = audited(&t);
    for part in [
        "changed role operator, with dave, without bob",
        "version of web in staging: 1.7 → 1.8",
        "added environment dev",
        "added command hi",
    ] {
        assert!(said.text.contains(part), "`{part}`: {}", said.text);
        assert!(audited.contains(part), "`{part}`: {audited}");
    }
    for part in ["added environments/dev.yaml", "changed houston.yaml", "added commands/hi.yaml"] {
        assert!(audited.contains(part), "`{part}`: {audited}");
    }
    t.say("carol", "ops", "!hi").await;
    t.expect("ops", &["pong"]).await;
    t.say("bob", "ops", "!lock staging no more").await;
    t.expect("ops", &["bob"]).await;
    t.say("dave", "ops", "!lock staging for a look").await;
    t.expect("ops", &[":lock:"]).await;
    t.say("dave", "ops", "!unlock staging").await;
    t.expect("ops", &["unlock"]).await;
    // A file that goes takes with it what it said.
    std::fs::remove_file(commands.join("hi.yaml")).expect("removed");
    reload(&t, &["removed command hi"]).await;
    t.say("carol", "ops", "!hi").await;
    t.expect("ops", &["There is no command `!hi`"]).await;
    reload(&t, &["Nothing has changed"]).await;
    assert_eq!(reloads(&t), 2, "what changed nothing is not audited");
    t.end().await;
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_said_everywhere_once() {
    let t = House::talk().await;
    t.rewrite("houston.yaml", "users: [alice, bob]", "users: [alice]");
    t.rewrite("environments/staging.yaml", "swarm:", "swarmm:");
    reload(&t, &[":x: The configuration folder is wrong", "`environments/staging.yaml:1:1`", "swarmm"]).await;
    reload(&t, &[":x: The configuration folder is wrong"]).await;
    let mut told = told_to_carol(&t).await;
    for _ in 0..500 {
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        told = told_to_carol(&t).await;
    }
    let direct = told.first().expect("carol is told").room.clone();
    t.expect(&direct, &["I keep what was in force", "`environments/staging.yaml:1:1`"]).await;
    t.say("alice", "ops", "!status staging").await;
    t.expect("ops", &["The configuration folder is wrong since", "stays in force", "swarmm"]).await;
    // All or nothing: bob keeps his role, whose file was right.
    t.say("bob", "ops", "!whoami").await;
    t.expect("ops", &["operator"]).await;
    assert_eq!(told_to_carol(&t).await.len(), 1, "once for one wrong state");
    assert_eq!(reloads(&t), 0);
    t.rewrite("environments/staging.yaml", "swarmm:", "swarm:");
    reload(&t, &["changed role operator, without bob"]).await;
    t.say("alice", "ops", "!status staging").await;
    let status = t.expect("ops", &["*staging*"]).await;
    assert!(!status.text.contains("wrong since"), "{}", status.text);
    t.end().await;
}

#[tokio::test]
async fn files_that_nobody_can_read_are_refused_by_name() {
    let t = House::talk().await;
    let playbooks = t.config_dir().join("playbooks");
    std::fs::create_dir_all(&playbooks).expect("a folder");
    let bad = playbooks.join("bad.yaml");
    let write = |bytes: &[u8]| std::fs::write(&bad, bytes).expect("written");
    write(b"description: \xff\xfe\n");
    reload(&t, &[":x:", "`playbooks/bad.yaml", "UTF-8"]).await;
    write(&vec![b'#'; 10 * 1024 * 1024]);
    reload(&t, &[":x:", "`playbooks/bad.yaml"]).await;
    write(b"description: half\nsteps:\n  - id: [");
    reload(&t, &[":x:", "`playbooks/bad.yaml"]).await;
    std::fs::remove_file(&bad).expect("removed");
    symlink("bad.yaml", &bad).expect("linked");
    reload(&t, &[":x:", "`playbooks/bad.yaml", "cannot read this file"]).await;
    std::fs::remove_file(&bad).expect("removed");
    symlink("..", playbooks.join("around")).expect("linked");
    reload(&t, &["Nothing has changed"]).await;
    std::fs::rename(t.config_dir().join("houston.yaml"), t.config_dir().join("gone")).expect("renamed");
    reload(&t, &[":x:", "there is no `houston.yaml`"]).await;
    std::fs::rename(t.config_dir().join("gone"), t.config_dir().join("houston.yaml")).expect("renamed");
    reload(&t, &["Nothing has changed"]).await;
    let told = told_to_carol(&t).await;
    for said in &told {
        t.expect(&said.room, &["I keep what was in force"]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn an_approval_outlives_changes_that_its_plan_does_not_rest_on() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web").await;
    let card = t.card().await;
    // Lines move, another service, another environment, people: nothing of it is this plan's.
    t.rewrite("environments/prod.yaml", "swarm:", "# moved\n\nswarm:");
    t.rewrite(
        "environments/prod.yaml",
        "image: demo/api\n    version: \"1.7\"",
        "image: demo/api\n    version: \"1.6\"",
    );
    t.rewrite("environments/staging.yaml", "version: \"1.7\"", "version: \"1.8\"");
    t.rewrite("houston.yaml", "users: [alice, bob]", "users: [alice, bob, dave]");
    reload(&t, &["version of api in prod: 1.7 → 1.6"]).await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["deployed in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.until(&card, &["approved"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_approval_is_void_when_what_its_plan_rests_on_changes_and_says_what() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web").await;
    let card = t.card().await;
    t.rewrite(
        "environments/prod.yaml",
        "image: demo/web\n    version: \"1.8\"",
        "image: demo/web\n    version: \"1.6\"",
    );
    reload(&t, &["version of web in prod: 1.8 → 1.6"]).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*void*", "configuration of service web: `1.8` → `1.6`"]).await;
    t.expect("ops", &["@alice @bob *R-1*", "configuration of service web"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.silence_but("ops", &["R-1"]).await;
    t.end().await;
}

const TOUR: &str = "tour:\n  summary: Waits and deploys.\n  playbook: tour\n  arguments:\n    \
                    environment: {type: environment, doc: an environment}\n  examples: [tour prod]\n";

#[tokio::test]
async fn a_run_that_is_under_way_keeps_what_it_began_with() {
    let playbook = "description: Waits\ninputs:\n  environment: {type: environment}\nsteps:\n  \
                    - id: pause\n    wait: {for: 1h}\n  - id: stack\n    swarm_stack: {name: shop, services: [web, api]}\n";
    let files = vec![("commands/tour.yaml", TOUR.to_owned()), ("playbooks/tour.yaml", playbook.to_owned())];
    let clock = Clock::manual(Clock::system().now());
    let prod = "approvals: {default: none}\n".to_owned();
    let t = House::with(Setup { prod, files, clock: clock.clone(), ..Setup::default() }).await;
    t.say("alice", "ops", "!tour prod").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    // The environment, its Swarm and the playbook are gone, and the run does not notice.
    for file in ["environments/prod.yaml", "commands/tour.yaml", "playbooks/tour.yaml"] {
        std::fs::remove_file(t.config_dir().join(file)).expect("removed");
    }
    reload(&t, &["removed environment prod", "removed command tour", "removed playbook tour"]).await;
    clock.advance(Duration::from_secs(3601));
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    assert_eq!((t.image("web").await, t.image("api").await), ("demo/web:1.8".into(), "demo/api:1.7".into()));
    t.say("alice", "ops", "!status prod").await;
    t.expect("ops", &["`prod`"]).await;
    t.end().await;
}

#[tokio::test]
async fn many_reloads_at_once_end_with_the_last_word() {
    let t = House::talk().await;
    for n in 0..20 {
        let from =
            if n == 0 { "users: [alice, bob]".to_owned() } else { format!("users: [alice, bob, p{n}]") };
        t.rewrite("houston.yaml", &from, &format!("users: [alice, bob, p{}]", n + 1));
        futures_util::future::join_all((0..5).map(|_| t.bot().reload())).await;
    }
    assert_eq!(reloads(&t), 20, "each change once, and no reload that changed nothing");
    assert!(audited(&t).contains("with p20, without p19"), "{}", audited(&t));
    t.say("bob", "ops", "!whoami").await;
    t.expect("ops", &["operator"]).await;
    t.end().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let t = House::talk().await;
    t.configure("houston.yaml", "http: {listen: \"127.0.0.1:0\"}\n");
    reload(&t, &["is in force", "http needs a restart"]).await;
    assert!(audited(&t).contains("needs a restart: http"), "{}", audited(&t));
    t.end().await;
}

/// As Kubernetes does it: files are links through one link, which is swapped.
#[tokio::test]
async fn a_folder_that_changes_is_noticed_also_by_a_swapped_link() {
    let watch = Some(Duration::from_millis(30));
    let t = House::with(Setup { services: Vec::new(), watch, ..Setup::default() }).await;
    let dir = t.config_dir();
    t.rewrite("houston.yaml", "users: [alice, bob]", "users: [alice, bob, dave]");
    t.wait("the change", || (reloads(&t) == 1).then_some(())).await;
    for version in ["one", "two"] {
        std::fs::create_dir(dir.join(format!("..{version}"))).expect("a folder");
        let staging = dir.join(format!("..{version}")).join("dev.yaml");
        std::fs::write(staging, format!("variables: {{colour: {version}}}\n")).expect("written");
    }
    symlink("..one", dir.join("..data")).expect("linked");
    symlink("../..data/dev.yaml", dir.join("environments/dev.yaml")).expect("linked");
    t.wait("the link", || (reloads(&t) == 2).then_some(())).await;
    assert!(audited(&t).contains("added environment dev"), "{}", audited(&t));
    symlink("..two", dir.join("..new")).expect("linked");
    std::fs::rename(dir.join("..new"), dir.join("..data")).expect("swapped");
    t.wait("the swap", || (reloads(&t) == 3).then_some(())).await;
    assert!(audited(&t).contains("changed variable colour of dev"), "{}", audited(&t));
    t.end().await;
}

/// `houston reload` on this house's state: exit code, output, errors.
async fn from_outside(t: &House) -> (i32, String, String) {
    let state = t.state().display().to_string();
    let run = move || crate::cli::run(&["reload", "--state", &state]);
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[tokio::test]
async fn the_command_line_reloads_and_prints_what_is_wrong() {
    let t = House::talk().await;
    let (code, said, _) = from_outside(&t).await;
    assert!(code == 0 && said.contains("nothing has changed"), "{said}");
    t.rewrite("environments/staging.yaml", "version: \"1.7\"", "version: \"1.8\"");
    let (code, said, _) = from_outside(&t).await;
    assert!(code == 0 && said.contains("version of web in staging: 1.7 → 1.8"), "{said}");
    t.rewrite("environments/staging.yaml", "swarm:", "swarmm:");
    let (code, _, error) = from_outside(&t).await;
    assert_eq!(code, 1);
    for part in ["environments/staging.yaml:1:1", "nothing was changed", "stays in force"] {
        assert!(error.contains(part), "`{part}`: {error}");
    }
    for said in told_to_carol(&t).await {
        t.expect(&said.room, &["I keep what was in force"]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn a_name_that_nobody_had_is_not_given_away_by_a_change_elsewhere() {
    let t = House::with(Setup {
        services: Vec::new(),
        houston: "access:\n  roles:\n    operator: {users: [alice, mallory]}\n    lead: {users: [carol]}\n"
            .to_owned(),
        ..Setup::default()
    })
    .await;
    t.say("alice", "ops", "!whoami").await;
    t.expect("ops", &["operator"]).await;
    t.newcomer("mallory").await;
    t.rewrite("environments/staging.yaml", "version: \"1.7\"", "version: \"1.8\"");
    reload(&t, &["version of web in staging"]).await;
    t.say("mallory", "ops", "!lock staging mine").await;
    t.expect("ops", &["You may not `lock` here"]).await;
    // Whoever writes the file that names people vouches for them.
    t.configure("houston.yaml", "# mallory has come\n");
    reload(&t, &["is in force"]).await;
    t.say("mallory", "ops", "!whoami").await;
    t.expect("ops", &["operator"]).await;
    t.end().await;
}

/// Another token of Houston's account, in its file.
fn rotate(t: &House) -> String {
    let (_, token) = t.sandbox.personal_token("houston").expect("the bot's account");
    std::fs::write(t.config_dir().join("token"), &token).expect("written");
    token
}

#[tokio::test]
async fn a_new_token_is_taken_without_a_restart_and_nothing_is_lost() {
    let t = House::talk().await;
    let old = std::fs::read_to_string(t.config_dir().join("token")).expect("there");
    let new = rotate(&t);
    let said =
        reload(&t, &[":key: Credentials: a new token, from file `token`", "Else nothing has changed"]).await;
    assert!(!said.text.contains(&new), "{}", said.text);
    assert!(audited(&t).contains("a new token, from file `token`"), "{}", audited(&t));
    reload(&t, &["Nothing has changed"]).await;
    // The old one is gone, and the connection with it.
    t.control("revoke", serde_json::json!({"token": old})).await;
    t.control("drop", serde_json::json!({"user": "houston"})).await;
    t.say("carol", "ops", "!ping afterwards").await;
    t.expect("ops", &["pong afterwards"]).await;
    t.end().await;
}

#[tokio::test]
async fn who_was_locked_out_is_back_as_soon_as_a_good_token_is_there() {
    let watch = Some(Duration::from_millis(30));
    let t = House::with(Setup { services: Vec::new(), watch, ..Setup::default() }).await;
    t.control("revoke", serde_json::json!({"user": "houston"})).await;
    t.control("drop", serde_json::json!({"user": "houston"})).await;
    t.wait("offline", || (!t.bot().chat.health().online).then_some(())).await;
    t.say("carol", "ops", "!ping meanwhile").await;
    rotate(&t);
    t.expect("ops", &["pong meanwhile"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_token_that_is_not_accepted_leaves_the_one_in_use() {
    let t = House::talk().await;
    let token = t.config_dir().join("token");
    std::fs::write(&token, "not-a-token-of-anybody").expect("written");
    reload(
        &t,
        &[
            ":x: Credentials: Rocket.Chat does not accept the token from file `token`",
            "the token in use stays",
        ],
    )
    .await;
    let (code, _, error) = from_outside(&t).await;
    assert!(code == 1 && error.contains("the token in use stays"), "{error}");
    std::fs::remove_file(&token).expect("removed");
    reload(&t, &["cannot be read", "the token in use stays"]).await;
    t.control("drop", serde_json::json!({"user": "houston"})).await;
    t.say("carol", "ops", "!ping still").await;
    t.expect("ops", &["pong still"]).await;
    rotate(&t);
    t.rewrite("houston.yaml", "user_id: ", "user_id: not");
    reload(&t, &["is in force", "rocketchat's account needs a restart"]).await;
    t.end().await;
}
