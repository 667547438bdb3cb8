//! Batches into rows and journal entries, within one transaction.

use super::Retention;
use super::audit;
use super::error::Fault;
use super::record;
use super::tables::{self, Tables};
use crate::model::{Action, ActionId, Batch, Change};
use redb::ReadableTableMetadata;

/// Dropped per commit, for each journal entry added: keeps the cost of a commit bounded after the limit was lowered.
const DROP_PER_ENTRY: usize = 4;

/// Applies batches in order. Numbers must rise; a gap is allowed (a batch that failed leaves one).
pub fn apply(tables: &mut Tables<'_>, batches: &[Batch], retention: Retention) -> Result<(), Fault> {
    let mut last = tables.number(tables::META_BATCH)?;
    let mut journal_bytes = tables.number(tables::META_JOURNAL)?;
    for batch in batches {
        if batch.seq <= last {
            return Err(Fault::Order { last, found: batch.seq });
        }
        last = batch.seq;
        let entry = record::encode_entry(batch)?;
        journal_bytes += entry.len() as u64;
        tables.journal.insert(batch.seq, &*entry)?;
        for row in &batch.changes {
            change(tables, row)?;
        }
    }
    let Some(newest) = batches.last() else { return Ok(()) };
    if batches.iter().flat_map(|batch| &batch.changes).any(|change| matches!(change, Change::Audit(_))) {
        audit::prune(tables, retention, newest.now)?;
    }
    journal_bytes = prune_journal(tables, journal_bytes, retention.journal_bytes, batches.len())?;
    prune_actions(tables, retention.ended_actions)?;
    tables.meta.insert(tables::META_BATCH, last)?;
    tables.meta.insert(tables::META_NOW, newest.now.0.cast_unsigned())?;
    tables.meta.insert(tables::META_JOURNAL, journal_bytes)?;
    Ok(())
}

fn change(tables: &mut Tables<'_>, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Plane(row) => drop(tables.plane.insert((), &*record::encode(row)?)?),
        Change::Host(id, Some(row)) => drop(tables.hosts.insert(id.as_str(), &*record::encode(&**row)?)?),
        Change::Host(id, None) => drop(tables.hosts.remove(id.as_str())?),
        Change::Vm(id, Some(row)) => drop(tables.vms.insert(id.0.as_u128(), &*record::encode(&**row)?)?),
        Change::Vm(id, None) => drop(tables.vms.remove(id.0.as_u128())?),
        Change::Embot(id, Some(row)) => drop(tables.embots.insert(&*record::encode_key(id)?, &*record::encode(row)?)?),
        Change::Embot(id, None) => drop(tables.embots.remove(&*record::encode_key(id)?)?),
        Change::Timer(id, Some(row)) => drop(tables.timers.insert(id, &*record::encode(row)?)?),
        Change::Timer(id, None) => drop(tables.timers.remove(id)?),
        Change::Pending(id, Some(row)) => drop(tables.pending.insert(id, &*record::encode(&**row)?)?),
        Change::Pending(id, None) => drop(tables.pending.remove(id)?),
        Change::Action(id, row) => action(tables, *id, row.as_deref())?,
        Change::Module(name, Some(row)) => drop(tables.modules.insert(&**name, &*record::encode(row)?)?),
        Change::Module(name, None) => drop(tables.modules.remove(&**name)?),
        Change::Usage(id, Some(bytes)) => {
            drop(tables.usage.insert(&*record::encode_key(id)?, &*record::encode_opaque(bytes))?);
        }
        Change::Migration(id, Some(row)) => drop(tables.migrations.insert(&*id.to_string(), &*record::encode(&**row)?)?),
        Change::Migration(id, None) => drop(tables.migrations.remove(&*id.to_string())?),
        Change::Tombstone(id, Some(row)) => drop(tables.tombstones.insert(id.0.as_u128(), &*record::encode(row)?)?),
        Change::Tombstone(id, None) => drop(tables.tombstones.remove(id.0.as_u128())?),
        Change::Mobile(name, Some(row)) => drop(tables.mobile.insert(&**name, &*record::encode(row)?)?),
        Change::Mobile(name, None) => drop(tables.mobile.remove(&**name)?),
        Change::Content(hash, Some(bytes)) => {
            drop(tables.contents.insert(hash.0.as_slice(), &*record::encode_opaque(&bytes.0))?);
        }
        Change::Content(hash, None) => drop(tables.contents.remove(hash.0.as_slice())?),
        Change::Audit(entry) => audit::append(tables, entry)?,
        Change::Restored(row) => drop(tables.restored.insert((), &*record::encode(row)?)?),
        Change::Unconfirmed(id, Some(row)) => drop(tables.unconfirmed.insert(id.0.as_u128(), &*record::encode(row)?)?),
        Change::Unconfirmed(id, None) => drop(tables.unconfirmed.remove(id.0.as_u128())?),
        Change::Usage(id, None) => drop(tables.usage.remove(&*record::encode_key(id)?)?),
    }
    Ok(())
}

fn action(tables: &mut Tables<'_>, id: ActionId, row: Option<&Action>) -> Result<(), Fault> {
    match row {
        Some(row) => drop(tables.actions.insert(id.0, &*record::encode(row)?)?),
        None => drop(tables.actions.remove(id.0)?),
    }
    if row.is_some_and(|row| row.state.is_final()) {
        tables.ended.insert(id.0, ())?;
    } else {
        tables.ended.remove(id.0)?;
    }
    Ok(())
}

/// Drops the oldest entries until the rest fits, but never what this commit added. Returns what the rest takes.
fn prune_journal(tables: &mut Tables<'_>, mut bytes: u64, limit: u64, added: usize) -> Result<u64, Fault> {
    let old = tables.journal.len()?.saturating_sub(added as u64);
    let most = added.saturating_mul(DROP_PER_ENTRY).min(usize::try_from(old).unwrap_or(usize::MAX));
    for _ in 0..most {
        if bytes <= limit {
            break;
        }
        let Some((_, entry)) = tables.journal.pop_first()? else { break };
        bytes = bytes.saturating_sub(entry.value().len() as u64);
    }
    Ok(bytes)
}

/// Drops the ended actions with the lowest numbers until `keep` are left.
fn prune_actions(tables: &mut Tables<'_>, keep: u64) -> Result<(), Fault> {
    while tables.ended.len()? > keep {
        let Some((id, _)) = tables.ended.pop_first()? else { break };
        tables.actions.remove(id.value())?;
    }
    Ok(())
}
