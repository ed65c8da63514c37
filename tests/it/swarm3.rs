//! A Swarm of three managers that loses some of them in the middle of a change, made by `tests/parts/swarm3.sh`; its
//! folder stands in `HOUSTON_TEST_SWARM3`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

    async fn leader(&self) -> usize {
        let nodes = self.nodes(1).await.unwrap();
        let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true).unwrap();
        for n in 1..=3 {
            let info = self.get(n, "info").await.unwrap();
            if info["Swarm"]["NodeID"] == leader["ID"] {
                return n;
            }
        }
        panic!("nobody is the leader: {nodes:?}");
    }
}

fn reachable(node: &Value) -> bool {
    node["ManagerStatus"]["Reachability"] == "reachable"
}

/// What is so in the end: two tasks of v2, and v1 is what a rollback would return to.
async fn updated_once(bench: &Bench, through: &Swarm) {
    assert_eq!(bench.settled().await, ("app:v2".into(), 2, 2));
    let service = through.service(&bench.name()).await.unwrap().unwrap();
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
    updated_once(&bench, &three.client(leader % 3 + 1)).await;
    drop(bench);
    three.whole().await;
}
