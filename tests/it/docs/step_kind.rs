//! The step kind of `docs/step-kinds.md` is one that works, and the page shows it as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use houston::clock::Clock;
use houston::config::Config;
use houston::ids::{EffectToken, RunId};
use houston::playbook::model::Preview;
use houston::playbook::steps::{Progress, StepContext, StepKind, registry};
use houston::secret::Redactor;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::port_open::PortOpen;
use crate::support::nowhere::Nowhere;

/// Nobody listens.
struct Nothing;

impl Progress for Nothing {
    fn status(&self, _: &str) {}
    fn output(&self, _: &str) {}
}

fn context() -> StepContext {
    StepContext {
        world: Arc::new(Nowhere),
        environment: None,
        service: None,
        clock: Clock::system(),
        redactor: Redactor::new(),
        cancel: CancellationToken::new(),
        progress: Arc::new(Nothing),
        token: EffectToken::new(RunId(1), &"card".into(), 0),
        earlier: Default::default(),
        outputs: Arc::new(BTreeMap::new()),
        planned: Preview::default(),
    }
}

#[test]
fn the_page_shows_the_step_kind_that_is_tested_here() {
    let page = include_str!("../../../docs/step-kinds.md");
    let code = include_str!("port_open.rs");
    // In the tree it says `crate` where a test, which stands outside, says `houston`.
    assert!(page.contains(&code.replace("use houston::", "use crate::")), "copy the file into the page");
}

#[tokio::test]
async fn it_waits_for_the_port_and_says_what_is_wrong() {
    let at = |address: std::net::SocketAddr| json!({"address": address.to_string(), "attempts": 1});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let given = at(listener.local_addr().unwrap());
    assert_eq!(PortOpen.run(&context(), &given).await.unwrap(), json!({"attempts": 1}));
    // Held without listening: one that is let go is another test's in a moment.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let given = at(held.local_addr().unwrap());
    let error = PortOpen.run(&context(), &given).await.unwrap_err();
    assert!(error.transient && error.message.starts_with("nothing listens on `127.0.0.1:"), "{error:?}");
}

#[test]
fn playbooks_can_use_it_and_the_reference_names_it() {
    let mut kinds = registry();
    kinds.insert("port_open", Arc::new(PortOpen));
    let kinds: Vec<&dyn StepKind> = kinds.values().map(AsRef::as_ref).collect();
    let playbook = |attempts: &str| {
        format!(
            "description: D\nsteps:\n  - id: up\n    port_open: {{address: \"db:5432\", attempts: {attempts}}}\n"
        )
    };
    let found = |playbook: &str| {
        let command = "up:\n  summary: S.\n  playbook: up\n";
        let main = "rocketchat: {url: 'http://127.0.0.1:1', username: h, password: {env: P}}\n\
                    access: {roles: {operator: {users: [a]}}}\n";
        let files = [("houston.yaml", main), ("commands/up.yaml", command), ("playbooks/up.yaml", playbook)];
        let (_, found) = Config::from_files(&files, &kinds);
        found.sorted().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(found(&playbook("3")), Vec::<String>::new());
    assert!(found(&playbook("many"))[0].contains("`attempts`"), "{:?}", found(&playbook("many")));
    assert!(houston::config::docs::steps(&kinds).contains("## `port_open`"));
}
