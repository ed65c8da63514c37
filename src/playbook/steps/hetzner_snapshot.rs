//! `hetzner_snapshot`: makes a snapshot of a server, and removes old ones.
//!
//! Must not: remove a snapshot that the plan did not name.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
};
use crate::change::Change;
use crate::playbook::model::Preview;
use crate::providers::hetzner::{Hetzner, HetznerError, Image, Server, labels};
use crate::text::{self, code, shell_words};

const ACTIONS: &[&str] = &["create", "prune"];

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "action",
        kind: ParamKind::Enum(ACTIONS),
        required: true,
        doc: "`create`: of a `server`'s disk. `prune`: removes all but the newest `keep` with these `labels`.",
    },
    ParamSpec {
        name: "server",
        kind: ParamKind::Text,
        required: false,
        doc: "Of which, by name; for `create`.",
    },
    ParamSpec {
        name: "labels",
        kind: ParamKind::Map,
        required: true,
        doc: "By which it is found: `{purpose: backup}` is what `image: {label: purpose=backup}` takes.",
    },
    ParamSpec {
        name: "description",
        kind: ParamKind::Text,
        required: false,
        doc: "For people. Default: the server's name.",
    },
    ParamSpec { name: "keep", kind: ParamKind::Integer, required: false, doc: "For `prune`: at least 1." },
];

/// Ids of what the plan would remove.
const REMOVE: &str = "remove";

pub(super) struct HetznerSnapshot;

struct Asked {
    hetzner: Arc<Hetzner>,
    labels: BTreeMap<String, String>,
}

impl Asked {
    fn of(context: &StepContext, given: &Json) -> Result<Self, StepError> {
        let mut labels = BTreeMap::new();
        for (label, value) in given.get("labels").and_then(Json::as_object).into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            labels.insert(label.clone(), value);
        }
        if labels.is_empty() {
            return Err(StepError::new("the step names no `labels`"));
        }
        Ok(Self { hetzner: context.world.hetzner()?, labels })
    }

    fn selector(&self) -> String {
        let pairs: Vec<String> =
            self.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
        pairs.join(",")
    }

    async fn server(&self, given: &Json) -> Result<Server, StepError> {
        let name = params::required(given, "server")?;
        self.hetzner.server(name).await?.ok_or_else(|| {
            StepError::new(format!("there is no server {}", code(name)))
                .hint("`hcloud server list` shows which there are")
        })
    }

    /// Those that are too many, oldest last.
    async fn surplus(&self, given: &Json) -> Result<Vec<Image>, StepError> {
        let keep = params::integer(given, "keep")?.filter(|keep| *keep > 0);
        let keep = keep.ok_or_else(|| StepError::new("`prune` needs `keep`, at least 1"))?;
        let mut all = self.hetzner.snapshots(&self.selector()).await?;
        Ok(all.split_off(all.len().min(usize::try_from(keep).unwrap_or(usize::MAX))))
    }

    async fn made(&self, context: &StepContext) -> Result<Option<Image>, HetznerError> {
        Ok(self.hetzner.snapshots(&labels::by_token(&context.token)).await?.into_iter().next())
    }
}

impl StepKind for HetznerSnapshot {
    fn name(&self) -> &'static str {
        "hetzner_snapshot"
    }
    fn doc(&self) -> &'static str {
        "Makes a snapshot of a Hetzner server, or removes old ones."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, given: &Json) -> Repeat {
        match params::text(given, "action") {
            Some("prune") => Repeat::Idempotent,
            _ => Repeat::Keyed,
        }
    }
    fn undo_mode(&self, given: &Json) -> UndoMode {
        match params::text(given, "action") {
            Some("prune") => UndoMode::Impossible,
            _ => UndoMode::ByKind,
        }
    }
    fn title(&self, given: &Json) -> String {
        match (params::text(given, "action"), params::text(given, "server")) {
            (Some("prune"), _) => "remove old snapshots".to_owned(),
            (_, server) => format!("make a snapshot of {}", code(server.unwrap_or("a server"))),
        }
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let has = |name: &str| given.get(name).is_some();
        let mut wrong = Vec::new();
        match given.get("action").and_then(Json::as_str) {
            Some("create") if !has("server") => wrong.push("`create` needs `server`".to_owned()),
            Some("create") if has("keep") => wrong.push("`keep` means something to `prune` only".to_owned()),
            Some("prune") if !has("keep") => wrong.push("`prune` needs `keep`".to_owned()),
            Some("prune") if has("server") => {
                wrong.push("`server` means something to `create` only".to_owned());
            }
            _ => {}
        }
        let own =
            |labels: &serde_json::Map<String, Json>| labels.keys().any(|label| label.starts_with("houston-"));
        if given.get("labels").and_then(Json::as_object).is_some_and(own) {
            wrong.push("labels that begin with `houston-` are Houston's own".to_owned());
        }
        wrong
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            let asked = Asked::of(context, given)?;
            let mut preview = Preview::default();
            if params::required(given, "action")? == "prune" {
                let surplus = asked.surplus(given).await?;
                let ids: Vec<String> = surplus.iter().map(|image| image.id.to_string()).collect();
                preview.seen.insert(REMOVE.to_owned(), ids.join(","));
                preview.observed.insert(REMOVE.to_owned(), ids.join(","));
                preview.changes = surplus
                    .iter()
                    .map(|image| Change {
                        what: "snapshot".to_owned(),
                        from: Some(image.to_string()),
                        to: None,
                    })
                    .collect();
                if surplus.is_empty() {
                    preview.notes.push("there are no more than are kept".to_owned());
                }
                return Ok(preview);
            }
            let server = asked.server(given).await?;
            preview.changes.push(Change {
                what: "snapshot".to_owned(),
                from: None,
                to: Some(format!("of {}, labelled {}", server.name, asked.selector())),
            });
            if server.status != "off" {
                preview.notes.push("it runs: what is not on its disk yet is not in the snapshot".to_owned());
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
            let asked = Asked::of(context, given)?;
            if params::required(given, "action")? == "prune" {
                return prune(context, given, &asked).await;
            }
            let lost = |error: HetznerError| StepError::from(error).with_effects();
            let (image, actions) = match asked.made(context).await? {
                Some(image) => {
                    let actions = asked.hetzner.under_way_at(&image).await?;
                    (image, actions)
                }
                None => {
                    let server = asked.server(given).await?;
                    let description = params::text(given, "description").unwrap_or(&server.name);
                    let mut labelled = asked.labels.clone();
                    labelled.insert(labels::TOKEN.to_owned(), context.token.to_string());
                    match asked.hetzner.snapshot(&server, description, &labelled).await {
                        Ok((image, action)) => (image, vec![action]),
                        // Two of them would both be paid for: it is looked for first, and then people are asked.
                        Err(error) if error.maybe_done() => match asked.made(context).await.map_err(lost)? {
                            Some(image) => {
                                let actions = asked.hetzner.under_way_at(&image).await.map_err(lost)?;
                                (image, actions)
                            }
                            None => return Err(lost(error)),
                        },
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            let what = format!("making the snapshot {}", image.id);
            let tell = |action: &crate::providers::hetzner::Action| {
                context.progress.status(&format!("{what}: {} %", action.progress));
            };
            tokio::select! {
                done = asked.hetzner.finish(&what, actions, &tell) => done.map_err(lost)?,
                () = context.cancel.cancelled() => {
                    return Err(StepError::new(format!("cancelled; the snapshot {} is being made", image.id)).cancelled().with_effects());
                }
            }
            Ok(json!({ "image": image.id }))
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let asked = Asked::of(context, given)?;
            Ok(match asked.made(context).await? {
                Some(image) => {
                    Probed::UnderWay(format!("the snapshot {} that I asked for is there", image.id))
                }
                None => Probed::DidNotHappen,
            })
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, output: Option<&Json>) -> ByHand {
        let Ok(asked) = Asked::of(context, given) else { return ByHand::default() };
        let list =
            format!("hcloud image list -t snapshot -l {} -s created:desc", shell_words(&[asked.selector()]));
        let removed = context.planned.seen.get(REMOVE).map(|ids| ids.replace(',', " "));
        let (act, undo) = match (params::text(given, "server"), removed) {
            (_, Some(ids)) if !ids.is_empty() => (vec![format!("hcloud image delete {ids}")], Vec::new()),
            (Some(server), _) => {
                let words = [server.to_owned()];
                let act = format!(
                    "hcloud server create-image --type snapshot --label {} {}",
                    shell_words(&[asked.selector()]).replace(',', " --label "),
                    shell_words(&words)
                );
                let undo = output.and_then(|output| output.get("image")?.as_i64());
                (vec![act], undo.map(|id| format!("hcloud image delete {id}")).into_iter().collect())
            }
            _ => (Vec::new(), Vec::new()),
        };
        ByHand { look: vec![list], act, undo }
    }

    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let asked = Asked::of(context, given)?;
            let known = output.and_then(|output| output.get("image")?.as_i64());
            let made = match known {
                Some(id) => Some(id),
                None => asked.made(context).await?.map(|image| image.id),
            };
            match made {
                Some(id) => {
                    asked.hetzner.remove_snapshot(id).await?;
                    Ok(Undid::Something)
                }
                None => Ok(Undid::Nothing),
            }
        })
    }
}

/// Those that the plan named, and no other.
async fn prune(context: &StepContext, given: &Json, asked: &Asked) -> Result<Json, StepError> {
    let pinned = context.planned.seen.get(REMOVE);
    let mut gone = Vec::new();
    for image in asked.surplus(given).await? {
        if pinned.is_some_and(|ids| !ids.split(',').any(|id| id == image.id.to_string())) {
            continue;
        }
        context.progress.status(&format!("removing {}", text::line(&image.to_string())));
        asked
            .hetzner
            .remove_snapshot(image.id)
            .await
            .map_err(|error| StepError::from(error).with_effects())?;
        gone.push(image.id);
    }
    Ok(json!({ "removed": gone }))
}
