//! Puts the configuration folder as it is now into force, all of it or nothing; says what became of it in the
//! log, in the audit log, in `status`, and to the leads when it is wrong.
//!
//! Must not: touch a run: each keeps what it stands on.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::credentials::Renewal;
use super::dispatch::{Dispatcher, audit_entry};
use crate::config::approvals::LEAD;
use crate::config::changes::Changes;
use crate::config::load::Report;
use crate::diagnostic::render::for_chat;
use crate::digest::Digest;
use crate::gateway::events::Actor;
use crate::ids::{RoleName, UserId};
use crate::text::{self, defuse, fence};

/// Findings that a room is shown; `houston check` shows all.
const MOST_FINDINGS: usize = 10;

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Reloaded {
    /// The folder says what is in force already.
    Unchanged {
        revision: String,
        /// Absent: the secret that it names is the one in use.
        renewal: Option<Renewal>,
    },
    /// In force from now on.
    InForce {
        from: String,
        to: String,
        files: Vec<String>,
        changes: Vec<String>,
        /// Stays as it was until Houston is started again.
        needs_restart: Vec<String>,
        warnings: Vec<String>,
        renewal: Option<Renewal>,
    },
    /// Nothing was changed.
    Refused { in_force: String, revision: String, findings: Vec<String>, for_chat: String },
}

/// Reloads of one Houston: one after another, and what was refused last.
#[derive(Default)]
pub struct Reloads {
    one_at_a_time: tokio::sync::Mutex<()>,
    refused: Mutex<Option<Refused>>,
}

struct Refused {
    /// Of the files and what is wrong with them.
    digest: Digest,
    at: Timestamp,
    for_chat: String,
}

impl Dispatcher {
    /// `by`: who asked for it; nobody when the folder changed by itself.
    pub async fn reload(&self, by: Option<&Actor>) -> Reloaded {
        let _turn = self.reloads.one_at_a_time.lock().await;
        let old = self.config();
        let (dir, kinds) = (old.dir.clone(), Arc::clone(&self.parts.kinds));
        let checked = tokio::task::spawn_blocking(move || {
            let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
            crate::chat::policies::load(&dir, &kinds)
        });
        let Ok(Report { config, revision, diagnostics }) = checked.await else {
            let why = "error: the folder could not be checked: this is a bug in Houston".to_owned();
            return Reloaded::Refused {
                in_force: old.revision.short().to_owned(),
                revision: String::new(),
                findings: vec![why.clone()],
                for_chat: why,
            };
        };
        let findings: Vec<String> = diagnostics.sorted().iter().map(ToString::to_string).collect();
        let Some(new) = config else {
            let for_chat = for_chat(&diagnostics, MOST_FINDINGS);
            self.refuse(&revision, &findings, &for_chat).await;
            return Reloaded::Refused {
                in_force: old.revision.short().to_owned(),
                revision: revision.short().to_owned(),
                findings,
                for_chat,
            };
        };
        self.forget_refused();
        if new.revision == old.revision {
            let renewal = self.renew_credentials(&new).await;
            self.tell_audit_of(renewal.as_ref(), by).await;
            return Reloaded::Unchanged { revision: revision.short().to_owned(), renewal };
        }
        let changes = Changes::between(&old, &new);
        self.people.configure(new.access.clone(), new.names_revision());
        if new.limits.commands_per_minute != old.limits.commands_per_minute {
            self.limit(new.limits.commands_per_minute);
        }
        self.parts.config.replace(new);
        self.parts.engine.configuration_changed().await;
        // Else it happens as soon as Houston is online.
        if self.parts.chat.health().online {
            let dispatcher = self.clone();
            self.spawn(async move { dispatcher.people.pin().await });
        }
        let renewal = self.renew_credentials(&self.config()).await;
        self.tell_audit(&old.revision, &revision, &changes, by).await;
        self.tell_audit_of(renewal.as_ref(), by).await;
        for finding in &findings {
            tracing::warn!("{finding}");
        }
        tracing::info!(
            "configuration {} is in force, after {}: {}",
            revision.short(),
            old.revision.short(),
            text::plain_and_list(if changes.words.is_empty() { &changes.files } else { &changes.words })
        );
        if !changes.restart.is_empty() {
            tracing::warn!("{} changed and needs a restart", text::plain_and_list(&changes.restart));
        }
        Reloaded::InForce {
            from: old.revision.short().to_owned(),
            to: revision.short().to_owned(),
            files: changes.files,
            changes: changes.words,
            needs_restart: changes.restart.iter().map(ToString::to_string).collect(),
            warnings: findings,
            renewal,
        }
    }

    /// In the log, in `status` and to the leads: once for each wrong state of the folder.
    async fn refuse(&self, revision: &Digest, findings: &[String], for_chat: &str) {
        let digest = Digest::of(format!("{revision} {}", findings.join("\n")).as_bytes());
        {
            let mut refused = self.reloads.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.as_ref().is_some_and(|refused| refused.digest == digest) {
                return;
            }
            let (at, for_chat) = (self.parts.clock.now(), for_chat.to_owned());
            *refused = Some(Refused { digest, at, for_chat });
        }
        for finding in findings {
            tracing::error!("{finding}");
        }
        tracing::error!("the configuration folder is wrong: what was in force stays in force");
        // Rocket.Chat may be slow, or away: then they are told when it is back.
        let dispatcher = self.clone();
        self.spawn(async move { dispatcher.tell_leads().await });
    }

    /// That the folder is wrong, if it is; the message is one, however often it is sent.
    pub(super) async fn tell_leads(&self) {
        let refused = {
            let refused = self.reloads.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.as_ref().map(|refused| (refused.digest.clone(), refused.for_chat.clone()))
        };
        let Some((digest, for_chat)) = refused else { return };
        let text = format!(
            ":warning: The configuration folder has changed and is wrong, so I keep what was in force (revision {}).\n{for_chat}\n`houston check` shows each problem in its place.",
            self.config().revision.short()
        );
        self.tell_leads_that(&format!("reload/{digest}"), text).await;
    }

    /// Each in a direct message; the same `seed` again is the same message.
    pub async fn tell_leads_that(&self, seed: &str, text: String) {
        for lead in self.people.members(&RoleName::from(LEAD)).await {
            let actor = Actor { username: lead.to_string(), id: lead };
            let seed = format!("{seed}/{}", actor.id);
            self.tell(&actor, &seed, text.clone()).await;
        }
    }

    fn forget_refused(&self) {
        *self.reloads.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// For `status`, while the folder is not what is in force.
    pub fn refused_configuration(&self) -> Option<String> {
        let refused = self.reloads.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().map(|refused| {
            format!(
                ":warning: The configuration folder is wrong since {}; revision {} stays in force.\n{}",
                text::ago(refused.at, self.parts.clock.now()),
                self.config().revision.short(),
                refused.for_chat
            )
        })
    }

    async fn tell_audit(&self, from: &Digest, to: &Digest, changes: &Changes, by: Option<&Actor>) {
        let mut result = format!("{from} → {to}: {}", changes.files.join(", "));
        for (word, items) in [("", changes.words.clone()), ("needs a restart: ", names(&changes.restart))] {
            if !items.is_empty() {
                result.push_str(&format!("; {word}{}", items.join(", ")));
            }
        }
        self.tell_audit_that(by, result).await;
    }

    async fn tell_audit_of(&self, renewal: Option<&Renewal>, by: Option<&Actor>) {
        if let Some(Renewal { said, taken: true }) = renewal {
            self.tell_audit_that(by, said.clone()).await;
        }
    }

    async fn tell_audit_that(&self, by: Option<&Actor>, result: String) {
        let entry = audit_entry("reload", &whoever(by), "reload", None, None, Some(result));
        self.parts.engine.tell_audit(entry).await;
    }
}

/// Nobody asked for it: Houston has noticed.
fn whoever(by: Option<&Actor>) -> Actor {
    by.cloned().unwrap_or_else(|| Actor { id: UserId::from("houston"), username: "Houston".to_owned() })
}

fn names(items: &[&'static str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn renewed(renewal: &Renewal) -> String {
    let sign = if renewal.taken { ":key:" } else { ":x:" };
    format!("{sign} Credentials: {}", defuse(&renewal.said))
}

/// How it reads in a room.
pub fn text(reloaded: &Reloaded) -> String {
    match reloaded {
        Reloaded::Unchanged { revision, renewal: None } => {
            format!("Nothing has changed: revision {revision} stays in force.")
        }
        Reloaded::Unchanged { revision, renewal: Some(renewal) } => {
            format!("{}\nElse nothing has changed: revision {revision} stays in force.", renewed(renewal))
        }
        Reloaded::InForce { from, to, files, changes, needs_restart, warnings, renewal } => {
            let mut out = format!(":white_check_mark: Revision {to} is in force, after {from}.");
            for line in if changes.is_empty() { files } else { changes } {
                out.push_str(&format!("\n• {}", defuse(line)));
            }
            if let Some(renewal) = renewal {
                out.push_str(&format!("\n{}", renewed(renewal)));
            }
            if !needs_restart.is_empty() {
                out.push_str(&format!("\n• {} needs a restart", text::plain_and_list(needs_restart)));
            }
            if !warnings.is_empty() {
                out.push_str(&format!("\n{}", fence(&warnings.join("\n"))));
            }
            out
        }
        Reloaded::Refused { in_force, for_chat, .. } => {
            format!(":x: The configuration folder is wrong; revision {in_force} stays in force.\n{for_chat}")
        }
    }
}
