//! Servers that are rented for a run: from the command in the room to a machine that really is there, a command on it,
//! and nothing left. The API is a fake (`support/hetzner.rs`), the machines are real sshds.

use std::time::Duration;

use axum::http::Method;
use houston::clock::Clock;

use crate::step_kinds::tour;
use crate::support::hetzner::{Fault, Hetzner, TOKEN};
use crate::support::house::{House, Setup};
use crate::support::parts;

const RENT: &str = "  - id: rent\n    hetzner_server: {action: create, host: backup}\n";
const REMOVE: &str = "  - id: remove\n    hetzner_server: {action: delete, host: backup}\n";

/// A house in whose prod `backup` is rented when `!tour prod red` needs it. `None`: there is no sshd.
async fn house(steps: &str, hetzner: &Hetzner) -> House {
    house_of(steps, hetzner, "network: private", Clock::system()).await
}

async fn house_of(steps: &str, hetzner: &Hetzner, more: &str, clock: Clock) -> House {
    let base = parts::sshd().expect("it was there before");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("readable").expect("somebody").name;
    let prod = format!(
        "approvals: {{default: none}}\nhosts:\n  backup:\n    server: {{image: {{label: purpose=backup}}, type: cx22, \
         location: nbg1, ssh_keys: [houston], firewall: closed, labels: {{purpose: backup}}, {more}}}\n    \
         user: {user}\n    port: {}\n    identity: {}\n",
        hetzner.port,
        base.join("id").display()
    );
    let mut files = tour(steps);
    files.push(("hetzner-token", TOKEN.to_owned()));
    let houston =
        format!("providers:\n  hetzner: {{token: {{file: hetzner-token}}, url: {}}}\n", hetzner.url);
    House::with(Setup { prod, houston, files, clock, services: Vec::new(), ..Setup::default() }).await
}

async fn hetzner() -> Option<Hetzner> {
    let base = parts::sshd()?;
    Some(Hetzner::start(&std::fs::read_to_string(base.join("id.pub")).expect("a key")).await)
}

/// A command that notes that it ran, in the fake's folder.
fn on_it(hetzner: &Hetzner, script: &str) -> String {
    let dir = hetzner.folder();
    format!(
        "  - id: work\n    ssh: {{host: backup, command: [sh, -c, \"cd {} && {script}\"]}}\n",
        dir.display()
    )
}

fn mark(hetzner: &Hetzner, name: &str) -> String {
    std::fs::read_to_string(hetzner.folder().join(name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_rented_worked_on_and_gone() {
    let Some(h) = hetzner().await else { return };
    let steps = format!("{RENT}{}{REMOVE}", on_it(&h, "echo $SSH_CONNECTION >>ran"));
    let t = house(&steps, &h).await;
    t.say("alice", "ops", "!tour prod red --dry-run").await;
    let card = t.expect("ops", &["rent the temporary host `backup`"]).await;
    let of_plan =
        ["cx22 in nbg1 from snapshot 302 (backup of June", "0.0068 EUR an hour net", "firewall `closed`"];
    assert!(of_plan.iter().all(|part| card.text.contains(part)), "{}", card.text);
    t.forget_what_was_said(&["ops"]);
    assert_eq!(h.ever_made(), 0, "a dry run rents nothing");

    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 1));
    let ran = mark(&h, "ran");
    assert!(ran.lines().count() == 1 && ran.contains(" 127."), "it ran there, once: {ran}");
    assert!(
        std::fs::read_dir(t.state().join("rented")).expect("a folder").next().is_none(),
        "no key is left"
    );
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_made_the_server_is_adopted_and_there_is_one_ever() {
    let Some(h) = hetzner().await else { return };
    let steps = format!("{RENT}{}{REMOVE}", on_it(&h, "echo x >>ran"));
    let mut t = house(&steps, &h).await;
    h.takes(Duration::from_secs(2));
    t.say("alice", "ops", "!tour prod red").await;
    t.wait("the server to be asked for", || (h.ever_made() == 1).then_some(())).await;
    t.kill().await;
    t.start_again().await;
    t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    assert_eq!((h.servers(), h.ever_made(), mark(&h, "ran").as_str()), (Vec::new(), 1, "x\n"));
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_makes_no_second_server() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{REMOVE}"), &h).await;
    h.fault(Fault::page(Method::POST, "/servers", 502).carried_out());
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 1));
    // Nothing came of it: it is asked for again.
    h.fault(Fault::page(Method::POST, "/servers", 502));
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-2", &[":white_check_mark: *R-2*", "done in"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 2));
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_gives_the_server_back() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{}{REMOVE}", on_it(&h, "exit 3")), &h).await;
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":x: *R-1*", "ended with status 3"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 1));
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_wherever_it_is_the_server_is_gone() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{}{REMOVE}", on_it(&h, "echo x >>ran; sleep 1000")), &h).await;
    // While something runs on it.
    t.say("alice", "ops", "!tour prod red").await;
    t.wait("the command to run", || mark(&h, "ran").contains('x').then_some(())).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.ended("R-1", &["*R-1*", "cancelled"]).await;
    assert_eq!(h.servers(), Vec::<String>::new());
    // While it is being made: Hetzner removes nothing before that is done.
    h.takes(Duration::from_secs(2));
    t.say("alice", "ops", "!tour prod red").await;
    t.wait("the server to be asked for", || (h.ever_made() == 2).then_some(())).await;
    t.say("alice", "ops", "!cancel R-2").await;
    t.ended("R-2", &["*R-2*", "cancelled"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 2));
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hetzner_answers_when_it_does_not_is_said_clearly_and_leaves_nothing() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{REMOVE}"), &h).await;
    let refused = |status, code, message| Fault::refused(Method::POST, "/servers", status, code, message);
    for (run, fault, said, hint) in [
        (
            "R-1",
            refused(412, "resource_unavailable", "error during placement"),
            "the location has none of this type to give at the moment",
            "another `location` or `type`",
        ),
        (
            "R-2",
            refused(403, "resource_limit_exceeded", "server limit exceeded"),
            "quota is used up",
            "higher limit",
        ),
        (
            "R-3",
            refused(403, "token_readonly", "token is readonly"),
            "the token may only read",
            "read and write",
        ),
        (
            "R-4",
            Fault::page(Method::POST, "/servers", 403),
            "no answer of Hetzner's API",
            "has to be the API itself",
        ),
    ] {
        h.fault(fault);
        t.say("alice", "ops", "!tour prod red").await;
        t.ended(run, &[&format!(":x: *{run}*"), said]).await;
        t.say("alice", "ops", &format!("!show {run}")).await;
        t.expect("ops", &[said, hint]).await;
    }
    // It was accepted, and comes to nothing: what is there of it is removed.
    h.fail("create_server", "action_failed", "no space left on the node");
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-5", &[":x: *R-5*", "no space left on the node", "removed"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 1));
    // Neither too many requests nor an API that stumbles is a failure.
    h.fault(refused(429, "rate_limit_exceeded", "limit of 3600 requests per hour reached").after(1));
    h.fault(Fault::page(Method::GET, "/actions", 502));
    h.fault(Fault::refused(Method::GET, "/servers", 503, "server_error", "try again"));
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-6", &[":white_check_mark: *R-6*", "done in"]).await;
    assert_eq!((h.servers(), h.ever_made()), (Vec::new(), 2));
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_said_and_a_new_one_is_taken_without_a_restart() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{REMOVE}"), &h).await;
    h.replace_token("another-token-that-is-valid-now");
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("ops", &["the token is not valid", "make a token in the console"]).await;
    std::fs::write(t.config_dir().join("hetzner-token"), "another-token-that-is-valid-now\n")
        .expect("written");
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    let everything = t.said("ops").into_iter().map(|said| said.text).collect::<String>();
    assert!(!everything.contains(TOKEN) && !everything.contains("another-token"), "{everything}");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_names_and_the_project_does_not_have_is_said_before_anything_is_rented() {
    let Some(h) = hetzner().await else { return };
    let t = house_of(&format!("{RENT}{REMOVE}"), &h, "network: privat", Clock::system()).await;
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("ops", &["Hetzner knows no network `privat`", "did you mean `private`?"]).await;
    t.rewrite("environments/prod.yaml", "privat}", "private, volumes: [cache], placement_group: apart}");
    t.bot().reload().await;
    t.say("alice", "ops", "!tour prod red --dry-run").await;
    t.expect("ops", &["placement group `apart`", "volume `cache`", "network `private`"]).await;
    t.rewrite("environments/prod.yaml", "type: cx22", "type: cx99");
    t.bot().reload().await;
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("ops", &["Hetzner knows no server type `cx99`"]).await;
    assert_eq!(h.ever_made(), 0);
    t.forget_what_was_said(&["ops", "general"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_host_key_is_never_obeyed() {
    let Some(h) = hetzner().await else { return };
    let t = house(&format!("{RENT}{}{REMOVE}", on_it(&h, "echo x >>ran")), &h).await;
    h.strangers();
    t.say("alice", "ops", "!tour prod red").await;
    let log = t.state().join("transcripts");
    let refused = || {
        let files = std::fs::read_dir(&log).ok()?.flatten();
        let mut texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.any(|text| text.contains("not yet: ") && text.contains("host key")).then_some(())
    };
    t.wait("the stranger to be refused", refused).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.ended("R-1", &["*R-1*", "cancelled"]).await;
    assert_eq!((h.servers(), mark(&h, "ran")), (Vec::new(), String::new()));
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_run_has_any_more_is_told_and_never_removed() {
    let Some(h) = hetzner().await else { return };
    // Not near the hour of day at which the server was made: each day it is told anew.
    let clock = Clock::manual("2026-11-25T10:00:00Z".parse().expect("a time"));
    let ours = serde_json::json!({"houston-run": "houston-R-9-abcdefgh", "houston-environment": "prod",
        "houston-host": "backup", "houston-token": "houston-R-9-abcdefgh-0"});
    h.leave_behind("prod-backup-r-9-abcdefgh", &ours);
    h.leave_behind("somebody-elses", &serde_json::json!({"purpose": "web"}));
    // This run rents one, and forgets it.
    let steps = format!("{RENT}  - id: pause\n    wait: {{for: 2h}}\n");
    let t = house_of(&steps, &h, "network: private", clock.clone()).await;
    let unknown =
        ["`prod-backup-r-9-abcdefgh` is still there", "R-9", "0.16 EUR a day", "hcloud server delete"];
    t.hears("carol", &unknown).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    clock.advance(Duration::from_secs(3601));
    // What a run has is left alone.
    t.say("bob", "ops", "!status prod").await;
    let status = t.expect("ops", &[":moneybag:", "prod-backup-r-9-abcdefgh"]).await;
    assert!(!status.text.contains("r-1-") && !status.text.contains("somebody"), "{}", status.text);
    clock.advance(Duration::from_secs(3601));
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    clock.advance(Duration::from_secs(3601));
    let told = t.expect("ops", &[":moneybag:", "rented by R-1, which was over", "0.16 EUR a day net"]).await;
    assert!(told.text.contains("hcloud server delete prod-backup-r-1-"), "{}", told.text);
    clock.advance(Duration::from_secs(3601));
    t.silence("ops").await;
    assert_eq!(h.servers().len(), 3, "people remove them");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_resized_and_put_back_when_a_later_step_fails() {
    let Some(h) = hetzner().await else { return };
    h.leave_behind("worker-1", &serde_json::json!({"purpose": "work"}));
    let steps = "  - id: grow\n    hetzner_server: {action: resize, server: worker-1, type: cx32}\n  \
         - id: check\n    http_check: {url: \"http://127.0.0.1:9/\", within: 1s}\n";
    let t = house(steps, &h).await;
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":x: *R-1*"]).await;
    let asked: Vec<String> = h.asked().into_iter().filter(|asked| asked.contains("/actions/")).collect();
    let acts: Vec<&str> = asked.iter().filter_map(|asked| asked.rsplit('/').next()).collect();
    let once = ["shutdown", "change_type", "poweron"];
    assert_eq!(acts, [once, once].concat());
    let server = h.server("worker-1").expect("it is there");
    assert_eq!((&server["server_type"]["name"], &server["status"]), (&"cx22".into(), &"running".into()));
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_a_list_is_read() {
    let Some(h) = hetzner().await else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    for n in 0..60 {
        h.leave_behind(&format!("worker-{n}"), &serde_json::json!({"purpose": "work"}));
    }
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("token"), TOKEN).expect("written");
    let access = houston::config::providers::Hetzner {
        url: h.url.parse().expect("an address"),
        token: houston::secret::SecretRef::File("token".into()),
    };
    let hetzner = houston::providers::hetzner::Hetzner::new(
        access,
        dir.path().to_owned(),
        reqwest::Client::new(),
        houston::secret::Redactor::new(),
        houston::providers::hetzner::host_key::Pins::new(dir.path().join("rented")),
    );
    assert_eq!(hetzner.servers("purpose=work").await.expect("a list").len(), 60);
    assert_eq!(hetzner.servers("purpose=play").await.expect("a list").len(), 0);
    assert_eq!(hetzner.server("worker-59").await.expect("an answer").expect("it is there").name, "worker-59");
}

#[test]
fn what_is_wrong_about_a_temporary_host_is_found_by_check() {
    const GOOD: &str = "image: debian-12, type: cx22, location: nbg1, network: private, ssh_keys: [houston]";
    const TOKEN_OF: &str = "providers: {hetzner: {token: {env: HCLOUD_TOKEN}}}\n";
    let kinds = houston::app::kinds();
    let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
    let found = |providers: &str, server: &str, more: &str| {
        let main = format!(
            "rocketchat: {{url: \"http://127.0.0.1:3000\", user_id: b0t, token: {{env: HOUSTON_TOKEN}}}}\n\
             access: {{roles: {{operator: {{users: [alice]}}, lead: {{users: [carol]}}}}}}\n{providers}"
        );
        let dev = format!("hosts:\n  backup:\n    server: {{{server}}}\n{more}");
        let files = [("houston.yaml", main.as_str()), ("environments/dev.yaml", dev.as_str())];
        let (_, found) = houston::config::Config::from_files(&files, &kinds);
        found.sorted().iter().map(ToString::to_string).collect::<String>()
    };
    assert_eq!(found(TOKEN_OF, GOOD, ""), "");
    let without = |part: &str| GOOD.replace(part, "");
    assert_eq!(found(TOKEN_OF, &without("network: private, "), "    address: public\n"), "");
    for (providers, server, more, said) in [
        ("", GOOD.to_owned(), "", "`backup` is rented from Hetzner, and nothing is known about Hetzner"),
        ("providers: {hetzner: {token: abc}}\n", GOOD.to_owned(), "", "must be a reference to a secret"),
        ("providers: {hetzer: {token: abc}}\n", GOOD.to_owned(), "", "did you mean `hetzner`?"),
        (
            TOKEN_OF,
            without("network: private, "),
            "",
            "is reached at its private address, and is in no network",
        ),
        (TOKEN_OF, without(", ssh_keys: [houston]"), "", "nobody could log in"),
        (TOKEN_OF, without("type: cx22, "), "", "`type` is missing in `server`"),
        (TOKEN_OF, format!("{GOOD}, labels: {{houston-run: x}}"), "", "is a label of Houston's own"),
        (TOKEN_OF, format!("{GOOD}, labels: {{a: \"b c\"}}"), "", "Hetzner takes no label `a=b c`"),
        (TOKEN_OF, GOOD.replace("cx22", "-rf"), "", "letters, digits"),
        (TOKEN_OF, GOOD.to_owned(), "    ssh: root@10.0.0.5\n", "unknown key `ssh`"),
        (TOKEN_OF, GOOD.to_owned(), "swarm: {managers: [backup]}\n", "`backup` is not a host"),
    ] {
        let found = found(providers, &server, more);
        assert!(found.contains(said), "{said}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_is_brought_to_its_declared_rules_and_back() {
    let Some(h) = hetzner().await else { return };
    let ssh = "ssh: {direction: in, protocol: tcp, port: 22, source_ips: [10.0.0.0/8]}";
    let steps = |rules: &str| {
        format!("  - id: wall\n    hetzner_firewall: {{firewall: closed, rules: {{{rules}}}}}\n")
    };
    let t = house(&steps(ssh), &h).await;
    t.say("alice", "ops", "!tour prod red --dry-run").await;
    t.expect("ops", &["rule ssh of closed: `in tcp 22 from 10.0.0.0/8`", "it stands before 1 server"]).await;
    assert_eq!(h.rules("closed"), Some(Vec::new()));
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
    assert_eq!(h.rules("closed"), Some(vec!["ssh in 22".to_owned()]));
    // It is as declared: nothing to do.
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("ops", &["othing to do"]).await;
    // Another rule instead, in a new firewall too; and back, since the last step fails.
    let web = "web: {direction: in, protocol: tcp, port: 443, source_ips: [0.0.0.0/0]}";
    let more = format!(
        "{}{}  - id: check\n    http_check: {{url: \"http://127.0.0.1:9/\", within: 1s}}\n",
        steps(web),
        steps(web).replace("id: wall", "id: wall-2").replace("closed", "open")
    );
    t.rewrite("playbooks/tour.yaml", &steps(ssh), &more);
    t.bot().reload().await;
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-2", &[":x: *R-2*"]).await;
    assert_eq!((h.rules("closed"), h.rules("open")), (Some(vec!["ssh in 22".to_owned()]), None));
    t.forget_what_was_said(&["ops", "general"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_made_once_and_old_ones_go() {
    let Some(h) = hetzner().await else { return };
    h.leave_behind("golden", &serde_json::json!({"purpose": "golden"}));
    let steps = "  - id: keep\n    hetzner_snapshot: {action: create, server: golden, labels: {purpose: backup}, description: new}\n  \
         - id: prune\n    hetzner_snapshot: {action: prune, labels: {purpose: backup}, keep: 2}\n    undo: none\n";
    let mut t = house(steps, &h).await;
    h.takes(Duration::from_secs(2));
    t.say("alice", "ops", "!tour prod red").await;
    t.wait("the snapshot to be asked for", || h.snapshots().contains(&"new".to_owned()).then_some(())).await;
    t.kill().await;
    t.start_again().await;
    t.ended("R-1", &[":white_check_mark: *R-1*", "done in"]).await;
    // What is removed was named in the plan, before there was a third one.
    assert_eq!(h.snapshots(), ["backup of May", "backup of June", "new"]);
    h.takes(Duration::from_millis(100));
    t.say("alice", "ops", "!tour prod red --dry-run").await;
    t.expect("ops", &["backup of May", "removed", "of golden, labelled purpose=backup"]).await;
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-2", &[":white_check_mark: *R-2*", "done in"]).await;
    assert_eq!(h.snapshots(), ["backup of June", "new", "new"]);
    t.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_the_token_at_what_is_to_be_rented_and_at_what_is() {
    let Some(h) = hetzner().await else { return };
    let t = house(RENT, &h).await;
    let runtime = tempfile::tempdir().expect("a folder");
    let look = async || {
        let options = houston::doctor::Options {
            config: t.config_dir(),
            state: t.state(),
            kinds: houston::app::kinds(),
            daemon: houston::doctor::Daemon::Runs,
            runtime: runtime.path().join("doctor"),
            clock: Clock::system(),
            redactor: houston::secret::Redactor::new(),
            limit: Duration::from_secs(20),
        };
        let found = houston::doctor::examine(options, |_| {}).await.into_iter();
        let about =
            found.filter(|check| check.check.contains("Hetzner") || check.check.contains("temporary host"));
        about
            .map(|c| format!("{} {}: {} {}", c.result.word(), c.check, c.message, c.fixes.join(" ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        look().await,
        [
            "ok Hetzner: its API answers to the token; nothing is rented by Houston ",
            "ok prod temporary host backup: cx22 in nbg1 from snapshot 302 (backup of June, of 1 Jun 2026) is to be had, \
             for 0.0068 EUR an hour net "
        ]
    );
    h.leave_behind("prod-backup-r-9", &serde_json::json!({"houston-run": "houston-R-9-abcdefgh"}));
    let found = look().await;
    assert!(found[0].starts_with("warning Hetzner: the server `prod-backup-r-9` was rented "), "{found:?}");
    assert!(
        found[0].contains("R-9, for 0.16 EUR a day net") && found[0].contains("hcloud server delete"),
        "{found:?}"
    );
    h.replace_token("another");
    let found = look().await;
    assert!(found.iter().all(|line| line.starts_with("problem ") && line.contains("not valid")), "{found:?}");
    t.end().await;
}
