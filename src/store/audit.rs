//! The audit: what admins did and what became of actions, each entry chained to the one before.
//!
//! An entry is a line of JSON with its fields always in the same order. The last of them, `hash`, is the SHA-256 of the line
//! without it (that is, of the line up to the comma before `"hash"`, and the closing brace); `previous` is the hash of the entry
//! before. So an entry cannot be altered, left out, doubled or moved without a hash that no longer fits; and who knows the hash
//! of the newest entry, the *head*, knows all before. Only he notices where entries are cut off at the end, or all are
//! written anew: heads are worth keeping elsewhere.
//!
//! Old entries go by age and size, a lot at a time. An entry of its own then says up to which number and hash they went:
//! the chain begins there, and vouches for its own beginning.

use super::Retention;
use super::error::{Doing, Fault, Name, StoreError};
use super::record;
use super::tables::{self, Tables};
use crate::model::{AuditAnswer, AuditEntry, ContentHash, Timestamp};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

/// The version of a line's form.
const VERSION: u32 = 1;
/// Entries that one commit drops at the most.
const LOT: usize = 4_096;
/// A lot is dropped when the limit is exceeded, and leaves this share of it free: lots stay rare.
const SLACK: u64 = 16;
/// Entries that are read in one transaction.
const CHUNK: usize = 1_024;
/// What [`AuditEntry::what`] says where entries were dropped.
const DROPPED: &str = "dropped";
/// What it says where the store was made from a backup.
pub(super) const RESTORED: &str = "restored";
/// The hash before the first entry.
const NONE: ContentHash = ContentHash([0; 32]);

/// An entry's number and hash: with the newest's, all before are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The entry's number; the first is 1, and 0 stands for no entry.
    pub number: u64,
    /// Its hash.
    pub hash: ContentHash,
}

/// Why a text is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no head of an audit: write NUMBER:HASH, as `embot audit verify` prints it")]
pub struct AuditHeadError(String);

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = AuditHeadError;

    fn from_str(text: &str) -> Result<AuditHead, AuditHeadError> {
        let read = || {
            let (number, hash) = text.split_once(':')?;
            Some(AuditHead { number: number.parse().ok()?, hash: hash.parse().ok()? })
        };
        read().ok_or_else(|| AuditHeadError(text.chars().take(90).collect()))
    }
}

/// A line, as an export has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLine<'a> {
    /// The version of its form.
    pub version: u32,
    /// The entry's number.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: Timestamp,
    /// Who.
    pub by: Cow<'a, str>,
    /// What, in one word.
    pub what: Cow<'a, str>,
    /// The action it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
    /// The elements it is about: `vm:UUID`, `host:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
    /// For people.
    pub text: Cow<'a, str>,
    /// What the plane answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AuditAnswer>,
    /// Where entries were dropped: the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<AuditHead>,
    /// The hash of the entry before.
    pub previous: ContentHash,
    /// The hash of this one; it is the last field of its line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<ContentHash>,
}

impl AuditLine<'_> {
    /// Reads a line as it stands, whether or not it is what was written.
    pub fn read(line: &str) -> Result<AuditLine<'static>, AuditFault> {
        let form = |why: String| AuditFault::Form { line: line.chars().take(60).collect(), why };
        let read: AuditLine<'static> = serde_json::from_str(line).map_err(|error| form(error.to_string()))?;
        if read.version != VERSION {
            return Err(form(format!("it has version {}; this program knows version {VERSION}", read.version)));
        }
        Ok(read)
    }

    /// Reads a line, and checks that its hash is that of what it says.
    fn check(line: &str) -> Result<(AuditLine<'static>, AuditHead), AuditFault> {
        let read = AuditLine::read(line)?;
        let form = |why: &str| AuditFault::Form { line: line.chars().take(60).collect(), why: why.to_owned() };
        let hash = read.hash.ok_or_else(|| form("it has no hash"))?;
        let told = format!(",\"hash\":\"{hash}\"}}");
        let rest = line.strip_suffix(&told).ok_or_else(|| form("its hash is not the last it says"))?;
        if ContentHash::of(format!("{rest}}}").as_bytes()) != hash {
            return Err(AuditFault::Altered { number: read.number, text: format!("{}: {}", read.by, read.text) });
        }
        let head = AuditHead { number: read.number, hash };
        Ok((read, head))
    }
}

/// What is wrong with an audit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// No entry at all.
    #[error("`{line}` is no entry of an audit: {why}")]
    Form {
        /// Its beginning.
        line: String,
        /// How that shows.
        why: String,
    },
    /// It says something else than it did.
    #[error("entry {number} was altered: its hash is not that of what it says now ({text})")]
    Altered {
        /// Its number.
        number: u64,
        /// What it says now.
        text: String,
    },
    /// Entries were taken out.
    #[error("{} missing: entry {after} is followed by entry {found}", absent(*.after, *.found))]
    Missing {
        /// The last before the gap.
        after: u64,
        /// The first after it.
        found: u64,
    },
    /// An entry is there twice, or at another place.
    #[error("entry {found} stands after entry {after}: it was doubled, or moved there")]
    Misplaced {
        /// The one before.
        after: u64,
        /// The one that stands there.
        found: u64,
    },
    /// Two entries that were not one after the other.
    #[error("entry {number} does not follow the entry {} that stands before it: one of the two was replaced", number - 1)]
    Replaced {
        /// The second of them.
        number: u64,
    },
    /// The beginning was cut off.
    #[error(
        "{} missing: the audit begins with entry {first}, and none of its entries says that those before were dropped",
        absent(0, *.first)
    )]
    BeginningCut {
        /// The first that is there.
        first: u64,
    },
    /// The end was cut off.
    #[error("{} missing: the audit ends with {}, and entry {head} was its head once", absent(*.last, head + 1), if *.last == 0 { "nothing".to_owned() } else { format!("entry {last}") })]
    EndCut {
        /// The last that is there.
        last: u64,
        /// The head that was kept.
        head: u64,
    },
    /// Everything was written anew.
    #[error("entry {head} is not the one that was the head once: it, or one before it, was written anew{}", .restored.map_or(String::new(), |number| format!(". (Entry {number} says that the plane was restored from a backup: what came after the backup is not in this audit)")))]
    Rewritten {
        /// The head that was kept.
        head: u64,
        /// The entry that says that the plane was restored from a backup, where there is one at or before the head.
        restored: Option<u64>,
    },
    /// The head that was kept is too old.
    #[error("entry {head}, the head that was kept, was dropped since for its age: the audit begins with entry {first}")]
    TooOld {
        /// The head that was kept.
        head: u64,
        /// The first that is there.
        first: u64,
    },
}

/// The entries between two that are there.
fn absent(after: u64, found: u64) -> String {
    match found.saturating_sub(after) {
        0..=2 => format!("entry {} is", after + 1),
        _ => format!("entries {} to {} are", after + 1, found - 1),
    }
}

/// An audit that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The number of its first entry; 0: it has none.
    pub first: u64,
    /// Its newest entry.
    pub head: AuditHead,
}

/// Checks an audit, one entry after the other.
#[derive(Debug, Default)]
pub struct Chain {
    /// The first entry's number, and the hash of the entry before.
    first: Option<AuditHead>,
    last: Option<AuditHead>,
    /// The last that were dropped, as the newest entry about that says.
    dropped: Option<AuditHead>,
    restored: Option<u64>,
    kept: Option<AuditHead>,
    /// Was the kept head found?
    found: bool,
}

impl Chain {
    /// A check that also looks for a head that was kept.
    pub fn with_head(kept: Option<AuditHead>) -> Chain {
        Chain { kept, ..Chain::default() }
    }

    /// The next line.
    pub fn take(&mut self, line: &str) -> Result<(), AuditFault> {
        let (line, head) = AuditLine::check(line)?;
        let number = line.number;
        match self.last {
            None => self.first = Some(AuditHead { number, hash: line.previous }),
            Some(last) if number <= last.number => {
                return Err(AuditFault::Misplaced { after: last.number, found: number });
            }
            Some(last) if number > last.number + 1 => {
                return Err(AuditFault::Missing { after: last.number, found: number });
            }
            Some(last) if line.previous != last.hash => return Err(AuditFault::Replaced { number }),
            Some(_) => {}
        }
        if line.what == DROPPED {
            self.dropped = line.dropped;
        }
        if line.what == RESTORED && self.kept.is_some_and(|kept| number <= kept.number) {
            self.restored = Some(number);
        }
        if let Some(kept) = self.kept.filter(|kept| kept.number == number) {
            if kept != head {
                return Err(AuditFault::Rewritten { head: number, restored: self.restored });
            }
            self.found = true;
        }
        self.last = Some(head);
        Ok(())
    }

    /// There are no more.
    pub fn finish(self) -> Result<Verified, AuditFault> {
        let head = self.last.unwrap_or(AuditHead { number: 0, hash: NONE });
        let Some(first) = self.first else {
            return match self.kept.filter(|kept| kept.number > 0) {
                Some(kept) => Err(AuditFault::EndCut { last: 0, head: kept.number }),
                None => Ok(Verified { first: 0, head }),
            };
        };
        let before = AuditHead { number: first.number.saturating_sub(1), hash: first.hash };
        let begins = if before.number == 0 { before.hash == NONE } else { self.dropped == Some(before) };
        if !begins {
            return Err(AuditFault::BeginningCut { first: first.number });
        }
        match self.kept {
            Some(kept) if kept.number > head.number => Err(AuditFault::EndCut { last: head.number, head: kept.number }),
            Some(kept) if kept == before || self.found => Ok(Verified { first: first.number, head }),
            Some(kept) if kept.number == before.number => Err(AuditFault::Rewritten { head: kept.number, restored: None }),
            Some(kept) => Err(AuditFault::TooOld { head: kept.number, first: first.number }),
            None => Ok(Verified { first: first.number, head }),
        }
    }
}

/// Appends an entry.
pub(super) fn append(tables: &mut Tables<'_>, entry: &AuditEntry) -> Result<(), Fault> {
    let elements = entry.elements.iter().map(ToString::to_string).collect();
    let line = AuditLine {
        version: VERSION,
        number: 0,
        at: entry.at,
        by: Cow::Borrowed(&entry.by),
        what: Cow::Borrowed(&entry.what),
        action: entry.action.map(|action| action.0),
        elements,
        text: Cow::Borrowed(&entry.text),
        answer: entry.answer.clone(),
        dropped: None,
        previous: NONE,
        hash: None,
    };
    chain(tables, line)
}

/// Numbers a line, chains it to the newest, and writes it.
fn chain(tables: &mut Tables<'_>, line: AuditLine<'_>) -> Result<(), Fault> {
    let last = match tables.audit.last()? {
        Some((number, row)) => head_of(number.value(), row.value()),
        None => AuditHead { number: 0, hash: NONE },
    };
    let number = last.number + 1;
    let unwritten = |error| Fault::Row(format!("entry {number} of the audit cannot be written: {error}"));
    let line = AuditLine { number, previous: last.hash, ..line };
    let mut text = serde_json::to_string(&line).map_err(unwritten)?;
    let hash = ContentHash::of(text.as_bytes());
    text.pop();
    text += &format!(",\"hash\":\"{hash}\"}}");
    let row = record::encode_opaque(text.as_bytes());
    let bytes = tables.number(tables::META_AUDIT)? + row.len() as u64;
    tables.audit.insert(number, &*row)?;
    tables.meta.insert(tables::META_AUDIT, bytes)?;
    Ok(())
}

/// Drops a lot of the oldest entries where they take too much or are too old, and says so in an entry.
pub(super) fn prune(tables: &mut Tables<'_>, retention: Retention, now: Timestamp) -> Result<(), Fault> {
    let mut bytes = tables.number(tables::META_AUDIT)?;
    let (limit, age) = (retention.audit_bytes, retention.audit_age.0);
    let oldest = match tables.audit.first()? {
        Some((number, row)) => made_at(number.value(), row.value(), now),
        None => return Ok(()),
    };
    if bytes <= limit && now.since(oldest).0 <= age.saturating_add(age / SLACK) {
        return Ok(());
    }
    let (mut dropped, mut count) = (None, 0);
    while count < LOT && tables.audit.len()? > 1 {
        let goes = match tables.audit.first()? {
            Some((number, row)) => {
                bytes > limit - limit / SLACK || now.since(made_at(number.value(), row.value(), now)).0 > age
            }
            None => false,
        };
        if !goes {
            break;
        }
        let Some((number, row)) = tables.audit.pop_first()? else { break };
        bytes = bytes.saturating_sub(row.value().len() as u64);
        dropped = Some(head_of(number.value(), row.value()));
        count += 1;
    }
    tables.meta.insert(tables::META_AUDIT, bytes)?;
    let Some(head) = dropped else { return Ok(()) };
    let text = format!("{count} entries, up to number {}, were dropped for their age or size", head.number);
    chain(
        tables,
        AuditLine {
            version: VERSION,
            number: 0,
            at: now,
            by: "plane".into(),
            what: DROPPED.into(),
            action: None,
            elements: Vec::new(),
            text: text.into(),
            answer: None,
            dropped: Some(head),
            previous: NONE,
            hash: None,
        },
    )
}

/// The newest entry's number and hash.
pub(super) fn head(read: &ReadTransaction) -> Result<AuditHead, Fault> {
    Ok(match read.open_table(tables::AUDIT)?.last()? {
        Some((number, row)) => head_of(number.value(), row.value()),
        None => AuditHead { number: 0, hash: NONE },
    })
}

/// When an entry was made; `now` where it no longer says.
fn made_at(number: u64, row: &[u8], now: Timestamp) -> Timestamp {
    line_of(number, row).map_or(now, |line| line.at)
}

/// The text of an entry's row.
pub(super) fn text_of(number: u64, row: &[u8]) -> Result<String, Fault> {
    let bytes = record::decode_opaque(format_args!("entry {number} of the audit"), row)?;
    String::from_utf8(bytes).map_err(|error| Fault::Row(format!("entry {number} of the audit: {error}")))
}

fn line_of(number: u64, row: &[u8]) -> Result<AuditLine<'static>, Fault> {
    AuditLine::read(&text_of(number, row)?).map_err(|fault| Fault::Row(fault.to_string()))
}

/// The hash an entry says it has. One that was tampered with does not stop the plane: whoever verifies the audit finds it.
fn head_of(number: u64, row: &[u8]) -> AuditHead {
    let said = line_of(number, row).ok().and_then(|line| line.hash);
    AuditHead { number, hash: said.unwrap_or_else(|| ContentHash::of(row)) }
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// From then on.
    pub since: Option<Timestamp>,
    /// By one whose name contains this.
    pub by: Option<String>,
    /// About this element.
    pub element: Option<String>,
    /// At most so many, the newest.
    pub limit: usize,
}

/// Reads a store's audit, from any thread, while batches are committed. What is read is as it was at one moment.
#[derive(Debug, Clone)]
pub struct Audit {
    pub(super) database: Arc<Database>,
    pub(super) name: Name,
}

impl Audit {
    /// The newest entry's number and hash.
    pub fn head(&self) -> Result<AuditHead, StoreError> {
        let read = self.database.begin_read().map_err(Fault::from);
        read.and_then(|read| head(&read)).map_err(|fault| fault.on(&self.name, Doing::Read))
    }

    /// Entries, the oldest first.
    pub fn find(&self, filter: &AuditFilter) -> Result<Vec<AuditLine<'static>>, StoreError> {
        let find = || -> Result<Vec<AuditLine<'static>>, Fault> {
            let mut found = Vec::new();
            for entry in self.database.begin_read()?.open_table(tables::AUDIT)?.range::<u64>(..)?.rev() {
                let (number, row) = entry?;
                let line = line_of(number.value(), row.value())?;
                if found.len() >= filter.limit || filter.since.is_some_and(|since| line.at < since) {
                    break;
                }
                let by = filter.by.as_ref().is_none_or(|by| line.by.contains(by.as_str()));
                if by && filter.element.as_ref().is_none_or(|element| line.elements.contains(element)) {
                    found.push(line);
                }
            }
            found.reverse();
            Ok(found)
        };
        find().map_err(|fault| fault.on(&self.name, Doing::Read))
    }

    /// Gives all lines, the oldest first, to `take`, for as long as it wants more. They are read in short transactions: where
    /// entries are dropped for their age meanwhile, it is an error.
    pub fn lines(&self, take: &mut dyn FnMut(&str) -> bool) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            // The last one is read again: where it is still there, nothing after it was dropped for its age, and what is missing
            // there is for whoever takes the lines to find.
            let chunk = self.chunk(last.unwrap_or(0)).map_err(|fault| fault.on(&self.name, Doing::Read))?;
            let fresh = match (last, chunk.split_first()) {
                (None, _) => &chunk[..],
                (Some(last), Some(((number, _), rest))) if *number == last => rest,
                (Some(_), _) => {
                    return Err(StoreError::Export(std::io::Error::other("old entries were dropped meanwhile: try again")));
                }
            };
            let Some((newest, _)) = fresh.last() else { return Ok(()) };
            last = Some(*newest);
            if !fresh.iter().all(|(_, line)| take(line)) {
                return Ok(());
            }
        }
    }

    fn chunk(&self, from: u64) -> Result<Vec<(u64, String)>, Fault> {
        let read = self.database.begin_read()?;
        let mut chunk = Vec::new();
        for entry in read.open_table(tables::AUDIT)?.range(from..)?.take(CHUNK) {
            let (number, row) = entry?;
            chunk.push((number.value(), text_of(number.value(), row.value())?));
        }
        Ok(chunk)
    }

    /// Writes all lines, the oldest first.
    pub fn export(&self, out: &mut dyn Write) -> Result<(), StoreError> {
        let mut result = Ok(());
        self.lines(&mut |line| {
            result = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
            result.is_ok()
        })?;
        result.and_then(|()| out.flush()).map_err(StoreError::Export)
    }
}
