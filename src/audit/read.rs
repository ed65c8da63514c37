//! Reading the audit log: verify, list, export. Line by line, in bounded memory, also while it is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{BEGINNING, Entry, cut};
use crate::digest::Digest;
use crate::ids::RunId;

/// Longer than any line that is written.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// A whole chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub entries: u64,
    pub files: usize,
    /// The number of the first entry; above 1 where older files were archived elsewhere.
    pub first: u64,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Of the last entry: kept elsewhere, it shows that the end was not cut off since.
    pub last_hash: Option<Digest>,
    /// Why it does not begin with entry 1, as an entry says; absent where older files were moved away by hand.
    pub cut: Option<Cut>,
}

/// What an entry says of those that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// That says so.
    pub entry: u64,
    pub at: Timestamp,
    /// As it stood in `houston.yaml`.
    pub rule: String,
}

/// The first place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`, line {line}: {why}", file.display())]
pub struct Broken {
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the audit log is broken: {0}")]
    Broken(#[from] Broken),
    #[error("cannot read the audit log: {0}")]
    Io(#[from] io::Error),
}

/// Which entries; all limits are included, absent ones are none.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        self.from.is_none_or(|from| entry.number >= from)
            && self.to.is_none_or(|to| entry.number <= to)
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object a line, as on disk.
    Json,
    Csv,
}

/// Checks every entry: numbers without gaps, each hash right, each naming the one before. `path` is the
/// present file; those rotated before it are found beside it.
pub fn verify(path: &Path) -> Result<Summary, VerifyError> {
    let mut summary =
        Summary { entries: 0, files: 0, first: 1, from: None, to: None, last_hash: None, cut: None };
    let mut before: Option<(u64, Digest)> = None;
    // The file of the first entry, and the hash that it names.
    let mut beginning: Option<(PathBuf, String)> = None;
    let mut cuts: Vec<Entry> = Vec::new();
    for file in files(path)? {
        summary.files += 1;
        let mut number = 0;
        each_line(&file, |line| {
            number += 1;
            let broken = |why: String| Broken { file: file.clone(), line: number, why };
            let entry = check(line).map_err(broken)?;
            match &before {
                Some((last, _)) if entry.number != last + 1 => {
                    return Err(broken(format!("entry {} comes after entry {last}", entry.number)).into());
                }
                Some((_, hash)) if entry.previous != hash.as_str() => {
                    return Err(broken("it does not name the hash of the entry before".into()).into());
                }
                None if entry.number == 1 && entry.previous != BEGINNING => {
                    return Err(broken("the first entry names an entry before it".into()).into());
                }
                _ => {}
            }
            if before.is_none() {
                summary.first = entry.number;
                summary.from = Some(entry.time);
                beginning = Some((file.clone(), entry.previous.clone()));
            }
            if cut::told(&entry.event).is_some() {
                cuts.push(entry.clone());
            }
            summary.entries += 1;
            summary.to = Some(entry.time);
            before = Some((entry.number, entry.hash));
            Ok::<(), VerifyError>(())
        })?;
    }
    summary.last_hash = before.map(|(_, hash)| hash);
    if let Some((file, previous)) = beginning.filter(|_| summary.first > 1) {
        let here = |entry: &&Entry| cut::told(&entry.event) == Some((summary.first - 1, previous.as_str()));
        summary.cut = cuts.iter().find(here).map(|entry| Cut {
            entry: entry.number,
            at: entry.time,
            rule: cut::rule_of(&entry.event).unwrap_or_default(),
        });
        // Older files may have been archived by hand, but only whole ones.
        if summary.cut.is_none() && !is_rotated(path) {
            let why = format!("the entries before {} are missing", summary.first);
            return Err(Broken { file, line: 1, why }.into());
        }
    }
    Ok(summary)
}

/// The first and the last entry of a file whose chain holds; `None` of an empty one.
pub(super) fn whole(file: &Path) -> Result<Option<(Entry, Entry)>, VerifyError> {
    let (mut first, mut last): (Option<Entry>, Option<Entry>) = (None, None);
    let mut line_number = 0;
    each_line(file, |line| {
        line_number += 1;
        let broken = |why: String| Broken { file: file.to_owned(), line: line_number, why };
        let entry = check(line).map_err(broken)?;
        if let Some(last) = &last
            && (entry.number != last.number + 1 || entry.previous != last.hash.as_str())
        {
            return Err(broken(format!("it does not follow entry {}", last.number)).into());
        }
        first.get_or_insert_with(|| entry.clone());
        last = Some(entry);
        Ok::<(), VerifyError>(())
    })?;
    Ok(first.zip(last))
}

/// The last `count` entries, oldest first.
pub fn tail(path: &Path, count: usize) -> io::Result<Vec<Entry>> {
    let mut found: VecDeque<Entry> = VecDeque::new();
    for file in files(path)?.into_iter().rev() {
        let mut here = VecDeque::new();
        let room = count - found.len();
        each_line(&file, |line| {
            // A broken line is `verify`'s to report.
            if let Ok(entry) = serde_json::from_slice(line) {
                here.push_back(entry);
                if here.len() > room {
                    here.pop_front();
                }
            }
            Ok::<(), io::Error>(())
        })?;
        here.extend(found);
        found = here;
        if found.len() >= count {
            break;
        }
    }
    Ok(found.into())
}

/// The newest `most` entries about a run, oldest first. Reads all of the log.
pub fn of_run(path: &Path, run: RunId, most: usize) -> io::Result<Vec<Entry>> {
    // Most lines are about others: those are not taken apart.
    let needle = format!("\"run\":{},", run.0);
    let mut found = VecDeque::new();
    for file in files(path)? {
        each_line(&file, |line| {
            let maybe = line.windows(needle.len()).any(|here| here == needle.as_bytes());
            if maybe
                && let Ok(entry) = serde_json::from_slice::<Entry>(line)
                && entry.event.run == Some(run)
            {
                found.push_back(entry);
                if found.len() > most {
                    found.pop_front();
                }
            }
            Ok::<(), io::Error>(())
        })?;
    }
    Ok(found.into())
}

/// Hands out every entry, oldest first; nothing, where there is no log.
pub fn each<E: From<io::Error>>(path: &Path, mut take: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
    if !is_there(path) {
        return Ok(());
    }
    for file in files(path)? {
        // A broken line is `verify`'s to report.
        each_line(&file, |line| serde_json::from_slice(line).map_or(Ok(()), &mut take))?;
    }
    Ok(())
}

/// Writes the entries of the range; how many there were.
pub fn export(path: &Path, filter: &Filter, format: Format, out: &mut dyn Write) -> io::Result<u64> {
    let mut count = 0;
    if format == Format::Csv {
        writeln!(
            out,
            "number,time,who_id,who,action,command,target,run,approved_by,plan,result,previous,hash"
        )?;
    }
    for file in files(path)? {
        each_line(&file, |line| {
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else { return Ok(()) };
            if !filter.takes(&entry) {
                return Ok(());
            }
            count += 1;
            match format {
                Format::Json => {
                    out.write_all(line)?;
                    out.write_all(b"\n")
                }
                Format::Csv => writeln!(out, "{}", csv(&entry)),
            }
        })?;
    }
    Ok(count)
}

fn csv(entry: &Entry) -> String {
    let event = &entry.event;
    let approved_by = event.approval.as_ref().map_or(String::new(), |approval| {
        approval.by.iter().map(|who| format!("{} ({})", who.name, who.id)).collect::<Vec<_>>().join(" ")
    });
    let fields = [
        entry.number.to_string(),
        entry.time.to_string(),
        event.who.id.to_string(),
        event.who.name.clone(),
        event.action.clone(),
        event.command.clone(),
        event.target.clone().unwrap_or_default(),
        event.run.map_or(String::new(), |run| run.to_string()),
        approved_by,
        event.approval.as_ref().map_or(String::new(), |a| a.digest.to_string()),
        event.result.clone().unwrap_or_default(),
        entry.previous.clone(),
        entry.hash.to_string(),
    ];
    fields.iter().map(|field| csv_field(field)).collect::<Vec<_>>().join(",")
}

/// Quoted where needed. A field that a spreadsheet would execute begins with an apostrophe.
fn csv_field(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let text = if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text };
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The line as an entry, if its own hash is right.
fn check(line: &[u8]) -> Result<Entry, String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|e| format!("it is no entry: {e}"))?;
    let end = format!(",\"hash\":\"{}\"}}", entry.hash);
    let body = line.strip_suffix(end.as_bytes()).ok_or("its hash is not its last field")?;
    let mut body = body.to_vec();
    body.push(b'}');
    if Digest::of(&body) == entry.hash {
        Ok(entry)
    } else {
        Err("its hash is not that of its content".into())
    }
}

/// The rotated files and the present one, oldest first.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = rotated(path)?;
    if path.exists() || files.is_empty() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Whether there is a log, or a part of one that was archived.
pub fn is_there(path: &Path) -> bool {
    path.exists() || is_rotated(path)
}

fn is_rotated(path: &Path) -> bool {
    rotated(path).is_ok_and(|files| !files.is_empty())
}

/// `audit-<number>.jsonl` beside the present file, oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| {
            name.to_str()?.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse::<u64>().ok()
        });
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// Hands out every line, without its end; a last line that has none too. A longer one than any that is
/// written comes cut, which no check passes.
fn each_line<E: From<io::Error>>(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            take(&line)?;
        } else {
            // What has no line end was not written whole.
            line.extend_from_slice("…".as_bytes());
            take(&line)?;
        }
    }
}

/// What stands after the last line end.
pub(super) fn torn_end(path: &Path) -> io::Result<Vec<u8>> {
    let (mut end, _) = end_of(path)?;
    let start = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    Ok(end.split_off(start))
}

/// The last whole line; absent in a file without one.
pub(super) fn last_entry(path: &Path) -> io::Result<Option<Entry>> {
    let (mut end, whole) = end_of(path)?;
    let Some(stop) = end.iter().rposition(|b| *b == b'\n') else {
        return if whole {
            Ok(None)
        } else {
            Err(io::Error::other("its last line is too long to be an entry"))
        };
    };
    end.truncate(stop);
    let start = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    check(&end[start..])
        .map(Some)
        .map_err(|why| io::Error::other(format!("its last entry is not sound: {why}")))
}

/// The last bytes of a file, enough for two lines, and whether that is all of it.
fn end_of(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(2 * LONGEST_LINE);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(2 * LONGEST_LINE).read_to_end(&mut bytes)?;
    Ok((bytes, start == 0))
}
