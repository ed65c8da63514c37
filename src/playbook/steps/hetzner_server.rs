//! `hetzner_server`: rents a server for a run and gives it back; resizes a server, switches it on and off.
//!
//! Must not: remove a server that was not named, or that another run made.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::hetzner_create::{IMAGE, Renting, money};
use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
};
use crate::change::Change;
use crate::playbook::model::Preview;
use crate::providers::hetzner::{Action, Hetzner, HetznerError, Server, labels};
use crate::text::{self, code, shell_words};

const ACTIONS: &[&str] = &["create", "delete", "resize", "power_on", "power_off"];

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "action",
        kind: ParamKind::Enum(ACTIONS),
        required: true,
        doc: "`create`: rents the server of a temporary host, and waits until it takes commands. `delete`: removes it, \
              and looks that it is gone. `resize`: to another `type`, off meanwhile. `power_on`, `power_off`.",
    },
    ParamSpec {
        name: "host",
        kind: ParamKind::Text,
        required: false,
        doc: "A temporary host of the environment file: the server that this run has for it.",
    },
    ParamSpec {
        name: "server",
        kind: ParamKind::Text,
        required: false,
        doc: "Instead of `host`: a server of the project, by name.",
    },
    ParamSpec {
        name: "type",
        kind: ParamKind::Text,
        required: false,
        doc: "For `resize`: the server type to change to, such as cx32. The disk stays as it is.",
    },
];

/// How long a server may take to shut down before it is switched off.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// Of what the plan has seen: an undo returns to it.
const STATUS: &str = "status";
const TYPE: &str = "type";

const RUNNING: &str = "running";
const OFF: &str = "off";

pub(super) struct HetznerServer;

/// What a step works on.
enum Subject<'a> {
    Temporary(Box<Renting<'a>>),
    Named { name: String, hetzner: Arc<Hetzner> },
}

impl<'a> Subject<'a> {
    fn of(context: &'a StepContext, given: &Json) -> Result<Self, StepError> {
        match (params::text(given, "host"), params::text(given, "server")) {
            (Some(host), None) => {
                Renting::of(context, host).map(|renting| Self::Temporary(Box::new(renting)))
            }
            (None, Some(name)) => {
                Ok(Self::Named { name: name.to_owned(), hetzner: context.world.hetzner()? })
            }
            _ => Err(StepError::new("the step needs one of `host` and `server`")),
        }
    }

    fn hetzner(&self) -> &Hetzner {
        match self {
            Self::Temporary(renting) => &renting.hetzner,
            Self::Named { hetzner, .. } => hetzner,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Temporary(renting) => renting.server_name(),
            Self::Named { name, .. } => name.clone(),
        }
    }

    async fn found(&self) -> Result<Vec<Server>, HetznerError> {
        match self {
            Self::Temporary(renting) => renting.found().await,
            Self::Named { name, hetzner } => Ok(hetzner.server(name).await?.into_iter().collect()),
        }
    }

    async fn one(&self) -> Result<Server, StepError> {
        let found = self.found().await?.into_iter().max_by_key(|server| server.id);
        found.ok_or_else(|| {
            let error = StepError::new(format!("there is no server {}", code(&self.name())));
            match self {
                Self::Temporary(_) => error.hint("a step with `action: create` before this one makes it"),
                Self::Named { .. } => error.hint("`hcloud server list` shows which there are"),
            }
        })
    }
}

fn action(given: &Json) -> Result<&str, StepError> {
    let action = params::required(given, "action")?;
    if ACTIONS.contains(&action) {
        return Ok(action);
    }
    let error = StepError::new(format!("{} is no action of `hetzner_server`", code(action)));
    Err(error.hint(format!("one of {}", text::or_list(ACTIONS))))
}

impl StepKind for HetznerServer {
    fn name(&self) -> &'static str {
        "hetzner_server"
    }
    fn doc(&self) -> &'static str {
        "Rents a Hetzner server for a run and gives it back; resizes a server, switches it on and off."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, given: &Json) -> Repeat {
        match params::text(given, "action") {
            Some("create") | None => Repeat::Keyed,
            Some(_) => Repeat::Idempotent,
        }
    }
    fn undo_mode(&self, given: &Json) -> UndoMode {
        match (params::text(given, "action"), params::text(given, "host")) {
            // What was rented for the run alone is no loss.
            (Some("delete"), Some(_)) => UndoMode::NotNeeded,
            (Some("delete"), None) => UndoMode::Impossible,
            _ => UndoMode::ByKind,
        }
    }

    fn title(&self, given: &Json) -> String {
        let which = match (params::text(given, "host"), params::text(given, "server")) {
            (Some(host), _) => format!("the temporary host {}", code(host)),
            (None, Some(server)) => format!("the server {}", code(server)),
            (None, None) => "a server".to_owned(),
        };
        match params::text(given, "action") {
            Some("create") => format!("rent {which}"),
            Some("delete") => format!("remove {which}"),
            Some("resize") => {
                let kind = params::text(given, "type").map_or_else(|| "another type".to_owned(), code);
                format!("resize {which} to {kind}")
            }
            Some("power_on") => format!("switch {which} on"),
            Some("power_off") => format!("switch {which} off"),
            _ => format!("change {which}"),
        }
    }

    fn check(&self, given: &Json) -> Vec<String> {
        let has = |name: &str| given.get(name).is_some();
        let action = given.get("action").and_then(Json::as_str);
        let mut wrong = Vec::new();
        if has("host") == has("server") {
            wrong.push("it takes one of `host` and `server`".to_owned());
        }
        if action == Some("create") && has("server") {
            wrong.push("`create` takes a temporary `host`, which says what to rent".to_owned());
        }
        if action == Some("resize") && !has("type") {
            wrong.push("`resize` needs `type`".to_owned());
        }
        if action.is_some_and(|action| action != "resize") && has("type") {
            wrong.push("`type` means something to `resize` only".to_owned());
        }
        wrong
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            let (action, subject) = (action(given)?, Subject::of(context, given)?);
            match &subject {
                Subject::Temporary(renting) if action == "create" => to_rent(renting).await,
                // It is not there before the run.
                Subject::Temporary(renting) => {
                    let rented = &renting.declared.server.kind;
                    let mut preview = Preview::default();
                    if action == "resize" {
                        preview.seen.insert(TYPE.to_owned(), rented.clone());
                    }
                    preview.notes.push("the server that this run has rented by then".to_owned());
                    Ok(preview)
                }
                Subject::Named { .. } => to_change(&subject, action, given).await,
            }
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let (action, subject) = (action(given)?, Subject::of(context, given)?);
            match (action, &subject) {
                ("create", Subject::Temporary(renting)) => renting.create().await,
                ("create", Subject::Named { .. }) => {
                    Err(StepError::new("`create` takes a temporary `host`, which says what to rent"))
                }
                ("delete", _) => {
                    let gone = remove_all(context, &subject).await?;
                    Ok(json!({ "removed": gone }))
                }
                ("resize", _) => resize(context, &subject, params::required(given, "type")?).await,
                ("power_off", _) => {
                    let server = subject.one().await?;
                    switch_off(context, subject.hetzner(), &server).await?;
                    Ok(json!({ "server": server.id, "name": server.name }))
                }
                _ => {
                    let server = subject.one().await?;
                    switch_on(context, subject.hetzner(), &server).await?;
                    Ok(json!({ "server": server.id, "name": server.name }))
                }
            }
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            match Subject::of(context, given)? {
                Subject::Temporary(renting) => renting.probe().await,
                Subject::Named { .. } => Ok(Probed::DidNotHappen),
            }
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let (Ok(action), Ok(subject)) = (action(given), Subject::of(context, given)) else {
            return ByHand::default();
        };
        let name = shell_words(&[subject.name()]);
        let look = match &subject {
            Subject::Temporary(_) => {
                vec![format!(
                    "hcloud server list -l {}={} -o columns=id,name,status,age",
                    labels::RUN,
                    context.token.run()
                )]
            }
            Subject::Named { .. } => vec![format!("hcloud server describe {name}")],
        };
        let line = |what: &str| vec![format!("hcloud server {what} {name}")];
        let seen = |fact: &str| context.planned.seen.get(fact).map(String::as_str);
        let resized = |kind: &str| {
            vec![
                format!("hcloud server shutdown {name}"),
                format!("hcloud server change-type --keep-disk {name} {}", shell_words(&[kind])),
                format!("hcloud server poweron {name}"),
            ]
        };
        let (act, undo) = match (action, &subject) {
            ("create", Subject::Temporary(renting)) => (renting.typed(), line("delete")),
            ("delete", _) => (line("delete"), Vec::new()),
            ("resize", _) => (
                params::text(given, "type").map(resized).unwrap_or_default(),
                seen(TYPE).map(resized).unwrap_or_default(),
            ),
            ("power_on", _) => (line("poweron"), line("shutdown")),
            ("power_off", _) => (line("shutdown"), line("poweron")),
            _ => (Vec::new(), Vec::new()),
        };
        ByHand { look, act, undo }
    }

    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let (action, subject) = (action(given)?, Subject::of(context, given)?);
            if action == "create" {
                let mut gone = remove_all(context, &subject).await?;
                if gone.is_empty() && output.is_none() {
                    // It was asked for and no answer came: it may only now be listed.
                    context.clock.sleep(Duration::from_secs(2)).await;
                    gone = remove_all(context, &subject).await?;
                }
                return Ok(if gone.is_empty() { Undid::Nothing } else { Undid::Something });
            }
            let was = |fact: &str| context.planned.seen.get(fact).map(String::as_str);
            // A later step has given it back: there is nothing to put back.
            let Some(server) = subject.found().await?.into_iter().max_by_key(|server| server.id) else {
                return Ok(Undid::Nothing);
            };
            match (action, was(STATUS), was(TYPE)) {
                ("resize", _, Some(kind)) if kind != server.server_type.name => {
                    resize(context, &subject, kind).await.map(|_| Undid::Something)
                }
                ("power_on", Some(OFF), _) if server.status != OFF => {
                    switch_off(context, subject.hetzner(), &server).await.map(|()| Undid::Something)
                }
                ("power_off", Some(RUNNING), _) if server.status != RUNNING => {
                    switch_on(context, subject.hetzner(), &server).await.map(|()| Undid::Something)
                }
                _ => Ok(Undid::Nothing),
            }
        })
    }
}

async fn to_rent(renting: &Renting<'_>) -> Result<Preview, StepError> {
    let offer = renting.hetzner.offer(&renting.declared.server).await?;
    let (what, notes) = renting.describe(&offer);
    let mut preview = Preview { notes, ..Preview::default() };
    preview.changes.push(Change {
        what: format!("temporary host {}", renting.declared.name),
        from: None,
        to: Some(what),
    });
    let price = money(offer.hourly, &offer.currency);
    preview.observed.insert(format!("price of {} an hour", renting.declared.server.kind), price);
    preview.seen.insert(IMAGE.to_owned(), offer.image.id.to_string());
    Ok(preview)
}

async fn to_change(subject: &Subject<'_>, action: &str, given: &Json) -> Result<Preview, StepError> {
    let mut preview = Preview::default();
    let found = subject.found().await?.into_iter().next();
    let Some(server) = found else {
        if action != "delete" {
            return subject.one().await.map(|_| preview);
        }
        preview.notes.push(format!("there is no server {}", code(&subject.name())));
        return Ok(preview);
    };
    let (kind, status) = (server.server_type.name.clone(), server.status.clone());
    preview.observed.insert("server".to_owned(), server.id.to_string());
    preview.seen.insert(TYPE.to_owned(), kind.clone());
    preview.seen.insert(STATUS.to_owned(), status.clone());
    let what = format!("server {}", server.name);
    let change = |from: String, to: Option<String>| Change { what, from: Some(from), to };
    match action {
        "delete" => {
            let (hourly, currency) = subject.hetzner().hourly(&server).await?;
            preview.changes.push(change(format!("{kind} in {}, {status}", server.location()), None));
            preview.notes.push(format!("it costs {} an hour net", money(hourly, &currency)));
            preview.notes.push("what is on its disk goes with it".to_owned());
        }
        "resize" => {
            let to = params::required(given, "type")?;
            let wanted = subject.hetzner().server_type(to).await?;
            let Some(hourly) = wanted.hourly(server.location()) else {
                return Err(StepError::new(format!(
                    "{} is not to be had in {}",
                    code(to),
                    code(server.location())
                )));
            };
            if to != kind {
                preview.changes.push(change(kind, Some(to.to_owned())));
                let pricing = subject.hetzner().pricing().await?;
                preview.notes.push(format!(
                    "{} an hour net, without its address; it is off for some minutes",
                    money(hourly, &pricing.currency)
                ));
            }
        }
        "power_on" if status != RUNNING => preview.changes.push(change(status, Some(RUNNING.to_owned()))),
        "power_off" if status != OFF => preview.changes.push(change(status, Some(OFF.to_owned()))),
        _ => {}
    }
    Ok(preview)
}

/// Names of those that were there and are gone.
async fn remove_all(context: &StepContext, subject: &Subject<'_>) -> Result<Vec<String>, StepError> {
    let mut gone = Vec::new();
    for server in subject.found().await? {
        context.progress.status(&format!("removing {}", code(&server.name)));
        let failed = |error: HetznerError| StepError::from(error).with_effects();
        subject.hetzner().remove(&server).await.map_err(failed)?;
        gone.push(server.name);
    }
    // Told by what is listed, not by what was answered.
    if let Some(left) = subject.found().await?.first() {
        let name = code(&left.name);
        return Err(StepError::new(format!("the server {name} was removed and is still there"))
            .with_effects()
            .transient());
    }
    Ok(gone)
}

async fn wait(
    context: &StepContext,
    hetzner: &Hetzner,
    server: &Server,
    action: Action,
) -> Result<(), StepError> {
    let what = format!("{} of `{}`", action.command.replace('_', " "), server.name);
    let tell = |action: &Action| context.progress.status(&format!("{what}: {} %", action.progress));
    hetzner.finish(&what, vec![action], &tell).await.map_err(|error| StepError::from(error).with_effects())
}

async fn switch_off(context: &StepContext, hetzner: &Hetzner, server: &Server) -> Result<(), StepError> {
    if server.status == OFF {
        return Ok(());
    }
    let asked = hetzner.act(server, "shutdown", json!({})).await?;
    wait(context, hetzner, server, asked).await?;
    context.progress.status(&format!("waiting until {} has shut down", code(&server.name)));
    if hetzner.until(server, OFF, SHUTDOWN).await? {
        return Ok(());
    }
    context.progress.status(&format!("{} does not shut down: switching it off", code(&server.name)));
    let asked = hetzner.act(server, "poweroff", json!({})).await?;
    wait(context, hetzner, server, asked).await
}

async fn switch_on(context: &StepContext, hetzner: &Hetzner, server: &Server) -> Result<(), StepError> {
    if server.status == RUNNING {
        return Ok(());
    }
    let asked = hetzner.act(server, "poweron", json!({})).await?;
    wait(context, hetzner, server, asked).await
}

/// Off, another type, and on again if it was on.
async fn resize(context: &StepContext, subject: &Subject<'_>, kind: &str) -> Result<Json, StepError> {
    let (server, hetzner) = (subject.one().await?, subject.hetzner());
    // A crash may have come between off and on.
    let was_on = context.planned.seen.get(STATUS).map_or(server.status == RUNNING, |was| was == RUNNING);
    if server.server_type.name != kind {
        switch_off(context, hetzner, &server).await?;
        let off = subject.one().await?;
        let changed = hetzner.change_type(&off, kind).await;
        let changed = match changed {
            Ok(action) => wait(context, hetzner, &off, action).await,
            Err(error) => Err(StepError::from(error).with_effects()),
        };
        if let Err(error) = changed {
            // Whatever it is now, nobody wanted it off.
            if was_on && let Ok(now) = subject.one().await {
                let _ = switch_on(context, hetzner, &now).await;
            }
            return Err(error);
        }
    }
    if was_on {
        switch_on(context, hetzner, &subject.one().await?).await?;
    }
    Ok(json!({ "server": server.id, "name": server.name, "type": kind }))
}
