//! `prompts/reports/*.j2`: what the report of a run that ended is made with.
//!
//! Must not: know what a report is about.

use std::collections::BTreeMap;

use crate::assets::Source;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::playbook::model::Playbook;
use crate::playbook::template;
use crate::text;

/// A template by its name, if it is one.
pub(super) fn read(source: &Source, found: &mut Diagnostics) -> Option<(String, String)> {
    let at = Location::new(source.path.clone(), 1, 1);
    let name = source.path.file_stem().and_then(|stem| stem.to_str())?.to_owned();
    let Ok(text) = String::from_utf8(source.bytes.clone()) else {
        found.push(Diagnostic::error(at, "it is not UTF-8 text"));
        return None;
    };
    if let Err(error) = template::check_prompt(&text) {
        let finding = Diagnostic::error(at, error.what);
        found.push(match error.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
        return None;
    }
    Some((name, text))
}

pub(super) fn check(playbook: &Playbook, reports: &BTreeMap<String, String>, found: &mut Diagnostics) {
    let Some(report) = &playbook.report else { return };
    if reports.contains_key(&report.template) {
        return;
    }
    let finding = Diagnostic::error(
        playbook.at.clone(),
        format!(
            "the playbook `{}` reports with `{}`, which is not in prompts/reports",
            playbook.name, report.template
        ),
    );
    found.push(match text::did_you_mean(&report.template, reports.keys().map(String::as_str)) {
        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
        None => finding.hint(format!("make prompts/reports/{}.j2", report.template)),
    });
}
