//! A Swarm of three managers that loses some of them in the middle of a change, made by `tests/parts/swarm3.sh`; its
//! folder stands in `HOUSTON_TEST_SWARM3`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use houston::playbook::steps::{Effects, StepError};
use houston::providers::swarm::{Manager, Swarm};
use serde_json::Value;

use crate::support::parts;
use crate::swarm::{Bench, declared, kind, update};

/// One Swarm for all tests: one at a time has it.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Three {
    dir: PathBuf,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Three {
    /// `None`, said loudly, where there is none and that is allowed.
    async fn managers() -> Option<Self> {
        let dir = parts::swarm3()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let three = Self { dir, _turn: TURN.lock().await };
        three.whole().await;
        Some(three)
    }

    fn socket(&self, n: usize) -> PathBuf {
        self.dir.join(format!("{n}/docker.sock"))
    }

    /// A client that asks manager `first` before the others.
    fn client(&self, first: usize) -> Swarm {
        let order = [first, first % 3 + 1, (first + 1) % 3 + 1];
        Swarm::over(order.map(|n| Manager::socket(self.socket(n))).into())
    }

    async fn script(&self, verb: &str, n: usize) {
        #[expect(clippy::disallowed_methods, reason = "a test starts the script of its part")]
        let mut command = tokio::process::Command::new("tests/parts/swarm3.sh");
        command.arg(verb).arg(n.to_string());
        command.env("HOUSTON_PARTS_DIR", self.dir.parent().unwrap()).stdin(std::process::Stdio::null());
        let done = command.output().await.unwrap();
        assert!(done.status.success(), "{verb} {n}: {}", String::from_utf8_lossy(&done.stderr));
    }

    async fn kill(&self, n: usize) {
        self.script("kill", n).await;
    }

    /// All three run, and agree on a leader.
    async fn whole(&self) {
        for n in 1..=3 {
            self.script("mend", n).await;
            self.script("revive", n).await;
        }
        for _ in 0..600 {
            if let Some(nodes) = self.nodes(1).await
                && nodes.iter().filter(|node| reachable(node)).count() == 3
                && nodes.iter().all(|node| node["Status"]["State"] == "ready")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the three managers do not come together: {:?}", self.nodes(1).await);
    }

    /// As manager `n` sees them; `None`: it has no leader.
    async fn nodes(&self, n: usize) -> Option<Vec<Value>> {
        serde_json::from_value(self.get(n, "nodes").await?).ok()
    }

    async fn get(&self, n: usize, what: &str) -> Option<Value> {
        let client = reqwest::Client::builder().unix_socket(self.socket(n)).no_proxy().build().ok()?;
        client.get(format!("http://docker/{what}")).send().await.ok()?.json().await.ok()
    }

    /// Between two leaders there is none for some seconds.
    async fn leader(&self) -> usize {
        for _ in 0..600 {
            if let Some(leader) = self.leader_now().await {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nobody is the leader: {:?}", self.nodes(1).await);
    }

    async fn leader_now(&self) -> Option<usize> {
        let nodes = self.nodes(1).await?;
        let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true)?;
        for n in 1..=3 {
            if self.get(n, "info").await?["Swarm"]["NodeID"] == leader["ID"] {
                return Some(n);
            }
        }
        None
    }
}

fn reachable(node: &Value) -> bool {
    node["ManagerStatus"]["Reachability"] == "reachable"
}

/// Until the update that is being made has a task of the new version.
async fn half_way(bench: &Bench) {
    let begun = || bench.lines.0.lock().unwrap().iter().any(|line| line.contains("1 of 2 tasks run v2"));
    for _ in 0..6000 {
        if begun() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the update does not begin: {:?}", bench.lines.0.lock().unwrap());
}

/// Brings the service to v2, and does `harm` to manager `n` when half of that is done, or at once. A Swarm whose update
/// had just given a task to a node that is lost waits for that task until the node is back: once the step has said so,
/// `mend` brings it back.
async fn harmed(three: &Three, bench: &Bench, at_once: bool, n: usize, harm: &str, mend: &str) {
    if at_once {
        three.script(harm, n).await;
    }
    let deployed = bench.deploy("v2");
    tokio::pin!(deployed);
    let meanwhile = async {
        if !at_once {
            half_way(bench).await;
            three.script(harm, n).await;
        }
        said(bench, &format!("(10.77.0.1{n}) is down")).await;
        three.script(mend, n).await;
    };
    let outcome = tokio::select! {
        outcome = &mut deployed => outcome,
        () = meanwhile => deployed.await,
    };
    over(bench, outcome).await;
}

/// One update was made. Or the Swarm has rolled it back, since a task ended with its node: then that is said.
async fn over(bench: &Bench, outcome: Result<Value, StepError>) {
    match outcome {
        Ok(output) => {
            assert_eq!(output["before"]["image"], "app:v1");
            updated_once(bench).await;
        }
        Err(error) => {
            let lines = bench.lines.0.lock().unwrap().clone();
            let known = error.message.starts_with("`web` was rolled back, it is back at `v1`: ")
                && error.message.contains("was down meanwhile")
                && !error.unfit;
            assert!(known, "{error:?}\n{lines:#?}");
            assert_eq!(bench.settled().await.0, "app:v1");
        }
    }
}

/// Until the step says so.
async fn said(bench: &Bench, part: &str) {
    while !bench.lines.0.lock().unwrap().iter().any(|line| line.contains(part)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is so in the end: two places with v2, and v1 is what a rollback would return to.
async fn updated_once(bench: &Bench) {
    assert_eq!(bench.settled().await, ("app:v2".into(), 2, 2));
    let service = bench.swarm.service(&bench.name()).await.unwrap().unwrap();
    let previous =
        service.previous_spec.as_ref().and_then(|spec| spec.pointer("/TaskTemplate/ContainerSpec/Image"));
    assert_eq!(previous.and_then(Value::as_str), Some("app:v1"), "one update, not two");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for a minute: `./test --long` runs it"]
async fn a_step_that_begins_while_there_is_no_leader_waits_for_one() {
    let Some(three) = Three::managers().await else { return };
    let leader = three.leader().await;
    let bench = Bench::on(Arc::new(three.client(leader % 3 + 1)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    let kind = kind("swarm_service");
    let context = bench.plan(&*kind, &update("v2")).await.expect("planned");
    three.kill(leader).await;
    kind.run(&context, &update("v2")).await.expect("updated");
    updated_once(&bench).await;
    drop(bench);
    three.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for five minutes: `./test --long` runs it"]
async fn an_update_goes_on_when_the_manager_that_was_asked_is_lost_and_when_the_leader_is() {
    let Some(three) = Three::managers().await else { return };
    // The one that Houston talks to, which leads nobody; then one that leads, and that it does not talk to; then one
    // that is both.
    for (asks_the_leader, loses_the_leader) in [(false, false), (false, true), (true, true)] {
        let leader = three.leader().await;
        let other = leader % 3 + 1;
        let asked = if asks_the_leader { leader } else { other };
        let lost = if loses_the_leader { leader } else { other };
        let bench = Bench::on(Arc::new(three.client(asked)), &[declared("web")]).await;
        bench.deploy("v1").await.expect("created");
        harmed(&three, &bench, false, lost, "kill", "revive").await;
        drop(bench);
        three.whole().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for two minutes: `./test --long` runs it"]
async fn without_a_quorum_nothing_is_begun_and_the_reason_is_said() {
    let Some(three) = Three::managers().await else { return };
    let bench = Bench::on(Arc::new(three.client(1)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    let kind = kind("swarm_service");
    let context = bench.plan(&*kind, &update("v2")).await.expect("planned");
    three.kill(2).await;
    three.kill(3).await;
    while three.nodes(1).await.is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = kind.run(&context, &update("v2")).await.expect_err("nobody can decide");
    assert!(error.message.contains("its Swarm has no leader, too few managers are online"), "{error:?}");
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(
        hint.contains("more than half of the managers") && hint.contains("--force-new-cluster"),
        "{hint}"
    );
    assert_eq!(error.effects, Effects::None, "{error:?}");
    three.whole().await;
    let service = three.client(1).service(&bench.name()).await.unwrap().unwrap();
    assert_eq!(service.image(), "app:v1", "nothing was done");
    bench.deploy("v2").await.expect("with a quorum it goes");
    updated_once(&bench).await;
    drop(bench);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for two minutes: `./test --long` runs it"]
async fn an_update_that_loses_the_quorum_says_so_and_goes_on_once_there_is_one() {
    let Some(three) = Three::managers().await else { return };
    let bench = Bench::on(Arc::new(three.client(1)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    let (deployed, ()) = tokio::join!(bench.deploy("v2"), async {
        half_way(&bench).await;
        three.kill(2).await;
        three.kill(3).await;
        said(&bench, "the Swarm has no leader now; what was sent stands").await;
        three.script("revive", 2).await;
        three.script("revive", 3).await;
    });
    over(&bench, deployed).await;
    drop(bench);
    three.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for two minutes: `./test --long` runs it"]
async fn an_update_that_is_sent_while_the_quorum_goes_is_made_once() {
    let Some(three) = Three::managers().await else { return };
    let leader = three.leader().await;
    let bench = Bench::on(Arc::new(three.client(leader)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    let kind = kind("swarm_service");
    let context = bench.plan(&*kind, &update("v2")).await.expect("planned");
    // The leader answers what it is asked a moment longer, and can decide nothing.
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    for other in others {
        three.kill(other).await;
    }
    let params = update("v2");
    let (updated, ()) = tokio::join!(kind.run(&context, &params), async {
        said(&bench, "waiting for one").await;
        three.script("revive", others[0]).await;
    });
    updated.unwrap_or_else(|e| panic!("{e:?}\n{:#?}", bench.lines.0.lock().unwrap()));
    updated_once(&bench).await;
    drop(bench);
    three.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for a minute: `./test --long` runs it"]
async fn an_update_goes_on_when_the_manager_that_was_asked_is_cut_off() {
    let Some(three) = Three::managers().await else { return };
    let asked = three.leader().await % 3 + 1;
    let bench = Bench::on(Arc::new(three.client(asked)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    harmed(&three, &bench, false, asked, "cut", "mend").await;
    three.script("mend", asked).await;
    drop(bench);
    three.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three engines, for a minute: `./test --long` runs it"]
async fn an_update_that_meets_a_lost_node_is_made_once_or_says_that_the_node_was_down() {
    let Some(three) = Three::managers().await else { return };
    let leader = three.leader().await;
    let (asked, lost) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let bench = Bench::on(Arc::new(three.client(asked)), &[declared("web")]).await;
    bench.deploy("v1").await.expect("created");
    // The Swarm needs a while to notice, and gives it tasks until then.
    harmed(&three, &bench, true, lost, "kill", "revive").await;
    let lines = bench.lines.0.lock().unwrap().clone();
    let named = format!("(10.77.0.1{lost}) is down");
    let what_to_do = "start it again, or take it out of the Swarm";
    assert!(lines.iter().all(|line| !line.contains(&named) || line.contains(what_to_do)), "{lines:#?}");
    drop(bench);
    three.whole().await;
}
