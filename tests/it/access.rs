//! Who may do what, and how a refusal explains itself.

use serde_json::json;

use crate::support::house::{House, Setup};

#[tokio::test]
async fn who_may_not_is_told_why_and_who_may() {
    let t = House::talk().await;
    t.newcomer("dave").await;
    t.say("dave", "ops", "!deploy prod web 1.8").await;
    let told = t.expect("ops", &["You may not `deploy` here"]).await.text;
    for part in ["`operator` (`alice`, `bob`)", "`lead` (`carol`)", "`!can dave deploy`"] {
        assert!(told.contains(part), "`{part}` is missing: {told}");
    }
    assert!(t.runs().is_empty());
    let entry = t.audited().pop().expect("a refusal is audited");
    assert_eq!((entry.event.action.as_str(), entry.event.who.id.as_str()), ("refused", "u-dave"));
    t.end().await;
}

#[tokio::test]
async fn can_names_the_rule_that_decides_with_its_line() {
    let rules = "access:\n  roles:\n    operator: {users: [alice, bob]}\n    lead: {users: [carol]}\n  rules:\n    \
        - allow: {commands: [deploy], arguments: {environment: prod}, users: [carol]}\n    \
        - deny: {commands: [deploy], arguments: {environment: prod}}\n";
    let setup = Setup { houston: rules.to_owned(), services: Vec::new(), ..Setup::default() };
    let t = House::with(setup).await;
    t.say("alice", "ops", "!can bob deploy prod web").await;
    t.expect("ops", &["`bob` may not `deploy`", "houston.yaml:", "*decides*"]).await;
    t.say("alice", "ops", "!can carol deploy prod web 1.8").await;
    t.expect("ops", &["`carol` may `deploy`", "houston.yaml:", "Approval: it needs 1 operator or lead"])
        .await;
    t.say("bob", "ops", "!deploy prod web 1.8").await;
    t.expect("ops", &["You may not `deploy` here", "houston.yaml:"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_reused_user_name_has_no_rights() {
    let mut t = House::talk().await;
    t.newcomer("mallory").await;
    t.say("bob", "ops", "!whoami").await;
    t.expect("ops", &["`bob`", "`operator`"]).await;
    t.control("rename", json!({"user": "bob", "to": "bobby"})).await;
    t.control("rename", json!({"user": "mallory", "to": "bob"})).await;
    t.say("bob", "ops", "!deploy staging web 1.8").await;
    t.expect("ops", &["You may not `deploy` here"]).await;
    // Also for a Houston that looks the names up anew.
    t.restart().await;
    t.say("bob", "ops", "!deploy staging web 1.8").await;
    t.expect("ops", &["You may not `deploy` here"]).await;
    t.say("bobby", "ops", "!whoami").await;
    t.expect("ops", &["`bobby`", "`operator`"]).await;
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn help_shows_what_the_asker_may_do() {
    let t = House::talk().await;
    t.newcomer("dave").await;
    t.say("alice", "ops", "!help").await;
    let full = t.expect("ops", &["What you can do here"]).await.text;
    assert!(full.contains("!deploy") && full.contains("!status"), "{full}");
    t.say("dave", "ops", "!help").await;
    let less = t.expect("ops", &["What you can do here", "more commands are for others"]).await.text;
    assert!(!less.contains("!deploy") && less.contains("!status"), "{less}");
    t.end().await;
}

#[tokio::test]
async fn details_of_a_run_are_for_its_room_and_for_people_with_a_role() {
    let t = House::start().await;
    t.newcomer("dave").await;
    t.say("alice", "backups", "!deploy prod web 1.8").await;
    t.expect("backups", &["deploy prod web 1.8", "*needs*"]).await;
    for asked in ["!show R-1", "!logs R-1"] {
        t.say("dave", "ops", asked).await;
        t.expect("ops", &["R-1 was asked for in another room"]).await;
    }
    t.say("dave", "ops", "!audit").await;
    t.expect("ops", &["for operators and leads"]).await;
    t.say("bob", "ops", "!show R-1").await;
    t.expect("ops", &["deploy prod web 1.8", "*needs*"]).await;
    t.say("alice", "backups", "!cancel R-1").await;
    t.expect("backups", &["R-1 is cancelled"]).await;
    t.end().await;
}
