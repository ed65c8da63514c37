//! `hetzner_firewall`: brings a firewall's rules to what the playbook declares, all of them at once.
//!
//! Must not: leave a rule that the playbook does not name.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value as Json, json};

use super::{
    ByHand, ParamKind, ParamSpec, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
};
use crate::change::Change;
use crate::playbook::model::Preview;
use crate::providers::hetzner::HetznerError;
use crate::providers::hetzner::firewall::{self, Firewall, Rule};
use crate::text::{self, code, shell_words};

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "firewall",
        kind: ParamKind::Text,
        required: true,
        doc: "Its name in the project; created where there is none.",
    },
    ParamSpec {
        name: "rules",
        kind: ParamKind::Map,
        required: true,
        doc: "All of its rules, by name: `ssh: {direction: in, protocol: tcp, port: 22, source_ips: [10.0.0.0/8]}`; \
              direction `out` takes `destination_ips`. What is not named here is removed.",
    },
];

/// What the plan has seen: an undo returns to it.
const RULES: &str = "rules";
const ABSENT: &str = "absent";

pub(super) struct HetznerFirewall;

fn declared(given: &Json) -> Result<Vec<Rule>, StepError> {
    let none = Map::new();
    let written = given.get("rules").and_then(Json::as_object).unwrap_or(&none);
    firewall::rules(written).map_err(StepError::new)
}

fn written(rules: &[Rule]) -> String {
    serde_json::to_string(rules).expect("plain data")
}

async fn set(context: &StepContext, firewall: &Firewall, rules: &[Rule]) -> Result<(), StepError> {
    let hetzner = context.world.hetzner()?;
    let lost = |error: HetznerError| {
        let maybe = error.maybe_done();
        let error = StepError::from(error);
        if maybe { error.with_effects() } else { error }
    };
    let actions = hetzner.set_rules(firewall, rules).await.map_err(lost)?;
    let what = format!("setting the rules of the firewall `{}`", firewall.name);
    let tell = |_: &_| context.progress.status(&what);
    hetzner.finish(&what, actions, &tell).await.map_err(|error| StepError::from(error).with_effects())
}

impl StepKind for HetznerFirewall {
    fn name(&self) -> &'static str {
        "hetzner_firewall"
    }
    fn doc(&self) -> &'static str {
        "Brings the rules of a Hetzner firewall to what is declared, all at once."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _: &Json) -> Repeat {
        Repeat::Idempotent
    }
    fn undo_mode(&self, _: &Json) -> UndoMode {
        UndoMode::ByKind
    }
    fn declarative(&self) -> bool {
        true
    }
    fn title(&self, given: &Json) -> String {
        format!("set the rules of the firewall {}", code(params::text(given, "firewall").unwrap_or_default()))
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let Some(rules) = given.get("rules").and_then(Json::as_object) else { return Vec::new() };
        // What a template will say is not known yet.
        if Json::Object(rules.clone()).to_string().contains("{{") {
            return Vec::new();
        }
        firewall::rules(rules).err().into_iter().collect()
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            let (name, rules) = (params::required(given, "firewall")?, declared(given)?);
            let found = context.world.hetzner()?.firewall(name).await?;
            let mut preview = Preview::default();
            let is = found.as_ref().map_or(&[][..], |firewall| &firewall.rules);
            if found.is_none() {
                let count = text::count(rules.len(), "rule");
                preview.changes.push(Change {
                    what: format!("firewall {name}"),
                    from: None,
                    to: Some(count),
                });
            }
            preview.changes.extend(firewall::changes(name, is, &rules));
            let was = found.as_ref().map_or_else(|| ABSENT.to_owned(), |found| written(&found.rules));
            preview.observed.insert(
                format!("rules of {name}"),
                crate::digest::Digest::of(was.as_bytes()).short().to_owned(),
            );
            preview.seen.insert(RULES.to_owned(), was);
            if preview.changes.is_empty() {
                return Ok(preview);
            }
            if let Some(found) = &found {
                preview.notes.push(match found.applied() {
                    0 => "it stands before no server".to_owned(),
                    n => {
                        format!("it stands before {}, at once", text::count(n, "server or group of servers"))
                    }
                });
            }
            if !rules.iter().any(|rule| rule.direction == "in") {
                preview.notes.push("nothing will come in any more".to_owned());
            }
            Ok(preview)
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let (name, rules) = (params::required(given, "firewall")?, declared(given)?);
            let hetzner = context.world.hetzner()?;
            match hetzner.firewall(name).await? {
                Some(found) if firewall::changes(name, &found.rules, &rules).is_empty() => {}
                Some(found) => set(context, &found, &rules).await?,
                None => match hetzner.create_firewall(name, &rules).await {
                    Ok(_) => {}
                    // A lost answer, or somebody else: by its name it is there once.
                    Err(error) if error.maybe_done() || error.is("uniqueness_error") => {
                        let lost = |error: HetznerError| StepError::from(error).with_effects();
                        match hetzner.firewall(name).await.map_err(lost)? {
                            Some(found) => set(context, &found, &rules).await?,
                            None => return Err(lost(error)),
                        }
                    }
                    Err(error) => return Err(error.into()),
                },
            }
            Ok(json!({ "firewall": name, "rules": rules.len() }))
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let (Ok(name), Ok(rules)) = (params::required(given, "firewall"), declared(given)) else {
            return ByHand::default();
        };
        let name = shell_words(&[name]);
        let replace = |rules: &str| {
            vec![format!("hcloud firewall replace-rules --rules-file - {name} <<< {}", shell_words(&[rules]))]
        };
        let undo = match context.planned.seen.get(RULES).map(String::as_str) {
            Some(ABSENT) => vec![format!("hcloud firewall delete {name}")],
            Some(was) => replace(was),
            None => Vec::new(),
        };
        ByHand {
            look: vec![format!("hcloud firewall describe {name}")],
            act: replace(&written(&rules)),
            undo,
        }
    }

    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        _: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let name = params::required(given, "firewall")?;
            let hetzner = context.world.hetzner()?;
            let (Some(found), Some(was)) = (hetzner.firewall(name).await?, context.planned.seen.get(RULES))
            else {
                return Ok(Undid::Nothing);
            };
            if was == ABSENT {
                hetzner.remove_firewall(&found).await?;
                return Ok(Undid::Something);
            }
            let was: Vec<Rule> = serde_json::from_str(was)
                .map_err(|error| StepError::new(format!("the rules before cannot be read: {error}")))?;
            if firewall::changes(name, &found.rules, &was).is_empty() {
                return Ok(Undid::Nothing);
            }
            set(context, &found, &was).await.map(|()| Undid::Something)
        })
    }
}
