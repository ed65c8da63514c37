//! What people do while Houston is killed: one story for each playbook that comes with it, and for what else can
//! become of a request. Whatever a person says or shows is said and shown once; again only where Houston asks.
//!
//! Must not: look at anything but the rooms and the world, as a person could.

use futures_util::future::LocalBoxFuture;
use serde_json::Value as Json;

use super::ending::INTERRUPTED;
use super::stage::{Scene, Service, Stage, sshd};

pub struct Story {
    pub name: &'static str,
    /// Which of the repository's playbooks it is about.
    pub playbook: Option<&'static str>,
    pub scene: Scene,
    /// It takes a real sshd.
    pub ssh: bool,
    pub play: for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>,
}

impl Story {
    /// Whether what it takes is here.
    pub fn playable(&self) -> bool {
        !self.ssh || sshd().is_some()
    }
}

const WEB: &[Service] = &[Service { name: "web", tasks: 1, more: "" }];
const PLAIN: Scene = Scene { services: WEB, houston: "", prod: "", files: &[], old_runs: false };

pub const STORIES: &[Story] = &[
    Story {
        name: "scale",
        playbook: Some("scale"),
        scene: PLAIN,
        ssh: false,
        play: |stage| Box::pin(scale(stage)),
    },
    Story {
        name: "deploy",
        playbook: Some("deploy"),
        scene: Scene {
            services: &[
                Service {
                    name: "web",
                    tasks: 1,
                    more: "    depends_on: [api]\n    health: {url: \"http://FRONT/health\"}\n",
                },
                Service {
                    name: "api",
                    tasks: 1,
                    more: "    health: {url: \"http://FRONT/health\", expect_body: ok}\n",
                },
            ],
            ..PLAIN
        },
        ssh: false,
        play: |stage| Box::pin(deploy(stage)),
    },
    Story {
        name: "rollback",
        playbook: Some("rollback"),
        scene: PLAIN,
        ssh: false,
        play: |stage| Box::pin(rollback(stage)),
    },
    Story { name: "crash", playbook: None, scene: PLAIN, ssh: false, play: |stage| Box::pin(crash(stage)) },
    Story {
        name: "undo",
        playbook: None,
        scene: Scene {
            services: &[Service {
                name: "web",
                tasks: 1,
                more: "    health: {url: \"http://FRONT/health\", expect_body: never, within: 1s}\n",
            }],
            ..PLAIN
        },
        ssh: false,
        play: |stage| Box::pin(undo(stage)),
    },
    Story { name: "cancel", playbook: None, scene: PLAIN, ssh: false, play: |stage| Box::pin(cancel(stage)) },
    Story { name: "deny", playbook: None, scene: PLAIN, ssh: false, play: |stage| Box::pin(deny(stage)) },
    Story { name: "words", playbook: None, scene: PLAIN, ssh: false, play: |stage| Box::pin(words(stage)) },
    Story { name: "steal", playbook: None, scene: PLAIN, ssh: false, play: |stage| Box::pin(steal(stage)) },
    Story {
        name: "maintenance",
        playbook: None,
        scene: Scene { houston: "maintenance: {rooms: [general]}\n", ..PLAIN },
        ssh: false,
        play: |stage| Box::pin(maintenance(stage)),
    },
    Story {
        name: "questions",
        playbook: None,
        scene: Scene {
            services: WEB,
            houston: "",
            prod: "approvals: {default: none}\n",
            files: &[("commands/tour.yaml", TOUR), ("playbooks/tour.yaml", QUESTIONS)],
            old_runs: false,
        },
        ssh: false,
        play: |stage| Box::pin(questions(stage)),
    },
    Story {
        name: SCHEDULE,
        playbook: None,
        scene: Scene {
            houston: "schedules: {once: {run: scale prod web 2, cron: \"SOON\", room: ops}}\n",
            prod: "approvals: {default: none}\n",
            ..PLAIN
        },
        ssh: false,
        play: |stage| Box::pin(schedule(stage)),
    },
    Story {
        name: "hosts",
        playbook: None,
        scene: Scene {
            services: WEB,
            houston: "",
            prod: "hosts:\n  node1: {ssh: \"127.0.0.1:PORT\", identity: SSHD/id, known_hosts: SSHD/known_hosts}\n",
            files: &[("commands/tour.yaml", TOUR), ("playbooks/tour.yaml", HOSTS)],
            old_runs: false,
        },
        ssh: true,
        play: |stage| Box::pin(hosts(stage)),
    },
    Story {
        name: "old",
        playbook: None,
        scene: Scene { old_runs: true, ..PLAIN },
        ssh: false,
        play: |stage| Box::pin(old(stage)),
    },
];

/// It takes more than a minute, since the times of schedules are minutes.
pub const SCHEDULE: &str = "schedule";

pub const TOUR: &str = "
tour:
  summary: Does one of everything.
  playbook: tour
  arguments:
    environment: {type: environment, doc: an environment by its name}
  examples: [tour prod]
";

const QUESTIONS: &str = "
description: One of everything that needs no host
inputs: {environment: {type: environment}}
on_failure: undo
steps:
  - id: stack
    swarm_stack: {name: shop, services: [web]}
  - id: look
    http_check: {url: \"SANDBOX/api/info\"}
  - id: pause
    wait: {for: 300ms}
  - id: sure
    ask: {question: \"Go on?\", choices: [\"yes\", \"no\"], from: [lead], stop: [\"no\"]}
  - id: tell
    notify: {room: general, text: it is done}
";

/// The second command would be a second line if it ran twice.
const HOSTS: &str = "
description: Commands on a host
inputs: {environment: {type: environment}}
on_failure: stop
steps:
  - id: look
    ssh: {host: node1, command: [\"true\"], repeat: safe}
  - id: once
    ssh: {host: node1, command: [sh, -c, \"echo begun >>MARKS/once; sleep 0.3; echo ended >>MARKS/once\"]}
  - id: count
    ssh: {host: node1, command: [sh, -c, \"echo counted >>MARKS/count\"], repeat: idempotent}
    undo: none
";

async fn card(stage: &Stage, run: &str) -> Json {
    stage.see(&[&format!(":clipboard: *{run}*"), " asked by "]).await
}

/// Alice asks, and Bob shows his thumb.
pub async fn asked_and_approved(stage: &Stage, command: &str) {
    stage.say("alice", command).await;
    let card = card(stage, "R-1").await;
    stage.react("bob", &card, ":+1:").await;
}

async fn scale(stage: &Stage) {
    asked_and_approved(stage, "!scale prod web 2").await;
    stage.see(&["@alice `scale prod web 2` scaled in"]).await;
}

/// Nobody says a word.
async fn schedule(stage: &Stage) {
    stage.see(&["*R-1*", "scaled in", "schedule *once*"]).await;
}

/// Alice's own thumb counts for nothing, and she is told so once.
async fn deploy(stage: &Stage) {
    stage.say("alice", "!deploy prod").await;
    let card = card(stage, "R-1").await;
    stage.react("alice", &card, ":+1:").await;
    stage.see(&["@alice you asked for R-1 yourself"]).await;
    stage.react("carol", &card, ":+1:").await;
    stage.see(&["@alice `deploy prod` deployed in"]).await;
}

async fn rollback(stage: &Stage) {
    stage.say("bob", "!rollback prod web 1.6 --reason \"slow since noon\"").await;
    let card = card(stage, "R-1").await;
    stage.react("alice", &card, ":thumbsup:").await;
    stage.see(&["@bob `rollback prod web 1.6", "rolled back in"]).await;
}

/// What is old goes by itself, while somebody asks for something.
async fn old(stage: &Stage) {
    stage.say("alice", "!scale prod web 2").await;
    let card = card(stage, "R-5").await;
    stage.react("bob", &card, ":-1:").await;
    stage.see(&["*denied* by bob"]).await;
    stage.until("what is old is gone", async || stage.transcripts() == ["R-4.log.gz"]).await;
    for (what, counted) in [("run", "2 runs"), ("transcript", "1 transcript")] {
        let audited =
            async || stage.audit().contains(&format!("\"result\":\"{counted} by `retention.{what}s.for"));
        stage.until("it is audited", audited).await;
    }
    let removed = stage.look("!show R-2").await;
    assert!(removed.contains("R-2 was removed on "), "{removed}");
    let stays = stage.look("!show R-3").await;
    assert!(stays.contains("deploy prod web 1.2"), "{stays}");
}

async fn crash(stage: &Stage) {
    asked_and_approved(stage, "!deploy prod web 1.9").await;
    stage.see(&["@alice `deploy prod web 1.9` failed"]).await;
}

async fn undo(stage: &Stage) {
    asked_and_approved(stage, "!deploy prod web 1.8").await;
    stage.see(&["@alice `deploy prod web 1.8` failed"]).await;
}

async fn cancel(stage: &Stage) {
    asked_and_approved(stage, "!deploy prod web 2.0").await;
    stage.until("the update is under way", async || stage.image("web").await == "demo/web:2.0").await;
    act(stage, "alice", "!cancel R-1", async || {
        let shown = stage.look("!show R-1").await;
        shown.contains(", cancelling for alice") || shown.contains("*cancelled* by alice")
    })
    .await;
    stage.see(&["@alice `deploy prod web 2.0` cancelled"]).await;
}

async fn deny(stage: &Stage) {
    stage.say("alice", "!deploy prod web 1.8").await;
    let card = card(stage, "R-1").await;
    stage.react("bob", &card, ":-1:").await;
    let why = stage.see(&["@bob why?"]).await;
    stage.reply("bob", &why, "not on a friday").await;
    stage.see(&["*denied* by bob", "not on a friday"]).await;
}

/// Nothing but words: a lock, consent, and the lock given back.
async fn words(stage: &Stage) {
    let locked = async || stage.look("!locks").await.contains("prod/api");
    act(stage, "bob", "!lock prod/api by hand", &locked).await;
    stage.say("alice", "!scale prod web 2").await;
    card(stage, "R-1").await;
    act(stage, "bob", "!approve R-1", async || stage.look("!show R-1").await.contains("*approved* by bob"))
        .await;
    stage.see(&["@alice `scale prod web 2` scaled in"]).await;
    act(stage, "bob", "!unlock prod/api", async || !locked().await).await;
}

/// Bob's lock goes to nobody by Carol's consent, and he is told before and after.
async fn steal(stage: &Stage) {
    let locked = async || stage.look("!locks").await.contains("prod/web");
    act(stage, "bob", "!lock prod/web hotfix by hand", &locked).await;
    // Where it was stopped in the middle, whoever asks looks whether there is a run.
    let asked = async || stage.look("!runs").await.contains("R-1");
    act_or(stage, "alice", "!unlock prod/web --steal \"bob is on a plane\"", "*R-1*", asked).await;
    let card = card(stage, "R-1").await;
    stage.see(&["alice asks to steal your lock of `prod/web`"]).await;
    stage.react("carol", &card, ":+1:").await;
    stage.see(&["@alice `unlock prod/web --steal=", "done in"]).await;
    stage.see(&["alice stole your lock of `prod/web`"]).await;
    stage.until("nothing is locked", async || !locked().await).await;
}

/// Declared, told where the configuration says, and called off.
async fn maintenance(stage: &Stage) {
    let planned = async || stage.look("!status prod").await.contains("maintenance");
    act(stage, "carol", "!maintenance prod from now for 1h new disks", &planned).await;
    stage.see(&["Maintenance of `prod` begins now", "new disks"]).await;
    act(stage, "carol", "!maintenance cancel prod not today", async || !planned().await).await;
    stage.see(&["Maintenance of `prod`", "not today"]).await;
}

async fn questions(stage: &Stage) {
    stage.say("alice", "!tour prod").await;
    let question = stage.see(&[":raising_hand: *R-1* Go on?"]).await;
    stage.reply("carol", &question, "yes").await;
    stage.see(&["@alice `tour prod` done in"]).await;
}

async fn hosts(stage: &Stage) {
    asked_and_approved(stage, "!tour prod").await;
    stage.see(&["@alice `tour prod` done in"]).await;
}

/// As [`act`], of what is answered by a message that has `sign`.
async fn act_or(stage: &Stage, who: &str, words: &str, sign: &str, done: impl AsyncFn() -> bool) {
    loop {
        let said = stage.say(who, words).await;
        let shown = || {
            stage
                .said()
                .iter()
                .any(|(_, message)| message["msg"].as_str().is_some_and(|msg| msg.contains(sign)))
        };
        stage
            .until(&format!("{sign} is shown, or an answer is there"), async || {
                shown() || stage.is_answered(&said)
            })
            .await;
        if shown() || done().await {
            return;
        }
    }
}

/// An act by words. Where Houston says that it was stopped in the middle of it, one looks whether it was done, and
/// says it again if it was not.
async fn act(stage: &Stage, who: &str, words: &str, done: impl AsyncFn() -> bool) {
    loop {
        let said = stage.say(who, words).await;
        let answer = stage.answer(&said).await;
        if !answer.contains(INTERRUPTED) || done().await {
            return;
        }
    }
}
