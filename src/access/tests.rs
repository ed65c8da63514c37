use super::*;
use crate::config::{Role, Rule};

fn at(line: u32) -> Location {
    Location::new("houston.yaml", line, 3)
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|&i| i.to_owned()).collect()
}

fn rule(line: u32, allow: bool) -> Rule {
    Rule {
        allow,
        roles: Vec::new(),
        users: Vec::new(),
        rooms: Vec::new(),
        commands: Vec::new(),
        arguments: BTreeMap::new(),
        at: at(line),
    }
}

fn person(id: &str, name: &str, roles: &[&str]) -> Person {
    Person { id: id.into(), username: name.into(), rocketchat_roles: strings(roles).into_iter().collect() }
}

fn access(rules: Vec<Rule>) -> Access {
    let role = |line, users: &[&str], groups: &[&str]| Role {
        users: strings(users),
        rocketchat_roles: strings(groups),
        at: at(line),
    };
    let roles = [
        ("operator".into(), role(10, &["alice", "bob", "idOfDan"], &[])),
        ("lead".into(), role(11, &["carol"], &["admin"])),
        ("intern".into(), role(12, &["eve"], &[])),
    ];
    let mut pins = Pins::default();
    for name in ["alice", "bob", "carol", "eve"] {
        let found = Found { as_id: false, as_name: Some(format!("id-{name}").into()) };
        assert!(matches!(pins.learn(name, &found), Learned::Pinned(_)));
    }
    Access::new(config::Access { roles: roles.into(), rules }, pins)
}

fn room(name: &str, kind: RoomKind) -> Room {
    Room { id: format!("rid-{name}").into(), kind, name: (kind != RoomKind::Direct).then(|| name.to_owned()) }
}

fn action(command: &str, changes: bool, arguments: &[(&str, &str)]) -> Action {
    Action {
        command: command.into(),
        changes,
        arguments: arguments.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        room: room("ops", RoomKind::Public),
    }
}

fn may(access: &Access, who: &Person, action: &Action) -> bool {
    let decided = access.authorize(who, action.clone()).is_ok();
    assert_eq!(access.explain(who, action, None).allowed, decided, "`can` says what happens");
    decided
}

#[test]
fn everybody_reads_and_only_operators_and_leads_change() {
    let access = access(Vec::new());
    let deploy = action("deploy", true, &[("environment", "prod")]);
    for (who, changes) in [
        (person("id-alice", "alice", &[]), true),
        (person("idOfDan", "whoever", &[]), true),
        (person("id-zoe", "zoe", &["admin"]), true),
        (person("id-eve", "eve", &[]), false),
        (person("id-zoe", "zoe", &["user"]), false),
    ] {
        assert_eq!(may(&access, &who, &deploy), changes, "{who:?}");
        assert!(may(&access, &who, &action("status", false, &[])));
    }
}

#[test]
fn a_name_that_changed_hands_gives_no_role_and_says_why() {
    let access = access(Vec::new());
    let impostor = person("id-mallory", "Alice", &[]);
    let denied = access.authorize(&impostor, action("deploy", true, &[])).expect_err("not the pinned id");
    let text = denied.to_string();
    assert!(text.contains("the name has changed hands") && text.contains("id-mallory"), "{text}");
    assert!(access.whoami(&impostor).contains("the name has changed hands"));
    let renamed = person("id-alice", "alice.new", &[]);
    assert!(may(&access, &renamed, &action("deploy", true, &[])), "the person keeps the role");
}

#[test]
fn a_name_that_was_never_looked_up_counts_for_nobody() {
    let mut config = access(Vec::new()).config;
    config.roles.get_mut("operator").expect("declared").users.push("frank".into());
    let access = Access::new(config, access(Vec::new()).pins);
    assert_eq!(access.unpinned(), ["frank", "idOfDan"]);
    let frank = person("id-frank", "frank", &[]);
    assert!(!may(&access, &frank, &action("deploy", true, &[])));
    assert!(access.whoami(&frank).contains("has not been looked up yet"));
}

#[test]
fn pins_never_move_and_ids_are_never_taken_for_names() {
    let mut pins = Pins::default();
    let named = |id: &str| Found { as_id: false, as_name: Some(id.into()) };
    assert_eq!(pins.learn("alice", &named("a1")), Learned::Pinned("a1".into()));
    assert_eq!(pins.learn("@Alice", &named("a1")), Learned::Known);
    let moved = Learned::ChangedHands { pinned: "a1".into(), now: "m2".into() };
    assert_eq!(pins.learn("alice", &named("m2")), moved);
    assert_eq!(pins.get("alice"), Some(&"a1".into()));
    assert_eq!(pins.learn("alice", &Found::default()), Learned::Known, "renamed away");
    assert!(pins.forget("alice"));
    assert_eq!(pins.learn("alice", &named("m2")), Learned::Pinned("m2".into()));
    // Somebody takes the id of another, deleted one as a user name.
    assert_eq!(pins.learn("b3xYzKq8mWnT5aPdR", &named("m2")), Learned::Nobody);
    let both = Found { as_id: true, as_name: Some("m2".into()) };
    assert_eq!(pins.learn("rocket.cat", &both), Learned::Pinned("rocket.cat".into()));
}

#[test]
fn the_first_rule_that_fits_decides() {
    let interns = Rule {
        roles: vec!["intern".into()],
        commands: strings(&["deploy", "rollback"]),
        arguments: [("environment".to_owned(), strings(&["dev", "staging"]))].into(),
        ..rule(20, true)
    };
    let frozen = Rule {
        commands: strings(&["changing"]),
        arguments: [("environment".to_owned(), strings(&["prod"]))].into(),
        rooms: strings(&["#ops"]),
        ..rule(21, false)
    };
    let bob_alone = Rule { users: strings(&["bob"]), ..rule(22, false) };
    let access = access(vec![interns, frozen, bob_alone]);
    let (eve, alice, bob) =
        (person("id-eve", "eve", &[]), person("id-alice", "alice", &[]), person("id-bob", "bob", &[]));
    let on = |environment| action("deploy", true, &[("environment", environment)]);
    assert!(may(&access, &eve, &on("dev")));
    assert!(!may(&access, &eve, &on("prod")));
    assert!(!may(&access, &alice, &on("prod")));
    assert!(may(&access, &alice, &on("dev")));
    assert!(may(&access, &alice, &Action { room: room("x", RoomKind::Direct), ..on("prod") }));
    assert!(!may(&access, &bob, &action("status", false, &[])), "rules also bind readers");
    assert!(!may(&access, &eve, &action("scale", true, &[("environment", "dev")])));

    assert!(access.may_some(&eve, "deploy", true, &room("ops", RoomKind::Public)));
    assert!(!access.may_some(&eve, "scale", true, &room("ops", RoomKind::Public)));
    assert!(!access.may_some(&bob, "status", false, &room("ops", RoomKind::Public)));
}

#[test]
fn a_refusal_names_the_rule_its_place_and_who_may() {
    let leads_only = Rule {
        commands: strings(&["deploy"]),
        arguments: [("environment".to_owned(), strings(&["prod"]))].into(),
        roles: vec!["operator".into()],
        ..rule(20, false)
    };
    let access = access(vec![leads_only]);
    let alice = person("id-alice", "alice", &[]);
    let deploy = action("deploy", true, &[("environment", "prod")]);
    let denied = access.authorize(&alice, deploy.clone()).expect_err("operators may not");
    assert_eq!(
        denied.to_string(),
        "You may not `deploy` here: houston.yaml:20:3 says: deny `deploy` with environment `prod` for `operator`. \
         Who may: `lead` (`carol`, `Rocket.Chat's admin`).\n`!can alice deploy` shows how this was decided."
    );
    let can = access.explain(&alice, &deploy, Some("1 of operator".into())).to_string();
    assert!(can.contains("houston.yaml:20:3: deny") && can.contains("*decides*"), "{can}");
    assert!(can.contains("`operator` as `alice` (houston.yaml:10:3)") && !can.contains("Approval"), "{can}");
    let carol = person("id-carol", "carol", &[]);
    let can = access.explain(&carol, &deploy, Some("1 of operator".into())).to_string();
    assert!(can.contains("— is for other people") && can.contains("built-in: operators and leads"), "{can}");
    assert!(can.ends_with("Approval: 1 of operator"), "{can}");
}
