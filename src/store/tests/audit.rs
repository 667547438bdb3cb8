//! The audit's chain: whatever is done to it is found and named, and what is old goes without breaking it.

use super::samples;
use crate::model::{Batch, Change, Span, Timestamp};
use crate::store::{AuditFault, AuditFilter, AuditHead, AuditLine, Chain, Retention, Store, Verified, tables};
use proptest::prelude::*;

/// A store with so many entries, a second apart.
fn audited(count: u64, retention: Retention) -> Store {
    let mut store = Store::in_memory().unwrap().keeping(retention);
    add(&mut store, 1, count);
    store
}

fn add(store: &mut Store, first: u64, count: u64) {
    for seq in first..first + count {
        let now = Timestamp(1_000 * seq as i64);
        let mut entry = samples::audit_entry(if seq % 2 == 0 { "ada" } else { "bob" }, "arm", None);
        entry.at = now;
        let changes = vec![Change::Audit(Box::new(entry))];
        store.commit(&[Batch { seq, now, changes, durable: true, ..Batch::default() }]).unwrap();
    }
}

fn lines(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    store
        .audit()
        .lines(&mut |line| {
            all.push(line.to_owned());
            true
        })
        .unwrap();
    all
}

fn verify(lines: &[String], kept: Option<AuditHead>) -> Result<Verified, AuditFault> {
    let mut chain = Chain::with_head(kept);
    lines.iter().try_for_each(|line| chain.take(line))?;
    chain.finish()
}

/// Gives a line a hash that fits what it says.
fn hashed(line: &str) -> String {
    let (said, _) = line.split_once(",\"hash\"").unwrap();
    let hash = crate::model::ContentHash::of(format!("{said}}}").as_bytes());
    format!("{said},\"hash\":\"{hash}\"}}")
}

#[test]
fn an_entry_that_is_missing_is_told_as_such_wherever_reading_is_interrupted() {
    let store = audited(2_100, Retention::default());
    // Lines are read in lots; the first and the last of a lot are like all others.
    for missing in [1_024, 1_025, 2_047, 2_048, 2_049] {
        let write = store.database.begin_write().unwrap();
        let row = write.open_table(tables::AUDIT).unwrap().remove(missing).unwrap().unwrap().value().to_vec();
        write.commit().unwrap();
        assert_eq!(verify(&lines(&store), None), Err(AuditFault::Missing { after: missing - 1, found: missing + 1 }));
        let write = store.database.begin_write().unwrap();
        write.open_table(tables::AUDIT).unwrap().insert(missing, &*row).unwrap();
        write.commit().unwrap();
    }
    assert_eq!(verify(&lines(&store), None).unwrap().head.number, 2_100);
}

#[test]
fn a_whole_audit_is_whole_and_a_line_is_hashed_as_it_stands() {
    let store = audited(5, Retention::default());
    let all = lines(&store);
    let verified = verify(&all, None).unwrap();
    assert_eq!((verified.first, verified.head), (1, store.audit().head().unwrap()));
    assert_eq!(verify(&[], None).unwrap().head.number, 0);
    assert_eq!(verify(&all, Some(verified.head)).unwrap(), verified);
    assert_eq!(hashed(&all[2]), all[2]);
    insta::assert_snapshot!(all[..2].join("\n"));
    let mut export = Vec::new();
    store.audit().export(&mut export).unwrap();
    assert_eq!(String::from_utf8(export).unwrap().lines().collect::<Vec<_>>(), all);
}

#[test]
fn what_is_done_to_an_audit_is_found_and_named() {
    let store = audited(7, Retention::default());
    let all = lines(&store);
    let head = |number: u64| {
        let line = AuditLine::read(&all[number as usize - 1]).unwrap();
        Some(AuditHead { number, hash: line.hash.unwrap() })
    };
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = all.clone();
        change(&mut lines);
        lines
    };
    let forged = with(&|lines| lines[3] = hashed(&lines[3].replace("ada", "eve")));
    let rewritten = with(&|lines| {
        for at in 3..7 {
            let before = AuditLine::read(&lines[at - 1]).unwrap().hash.unwrap();
            let old = AuditLine::read(&lines[at]).unwrap().previous;
            lines[at] = hashed(&lines[at].replace(&old.to_string(), &before.to_string()).replace("ada", "eve"));
        }
    });
    let cases = [
        verify(&with(&|lines| lines[3] = lines[3].replace("ada", "eve")), None),
        verify(&forged, None),
        verify(&with(&|lines| drop(lines.remove(3))), None),
        verify(&with(&|lines| drop(lines.drain(2..5))), None),
        verify(&with(&|lines| lines.insert(3, lines[2].clone())), None),
        verify(&with(&|lines| lines.swap(2, 3)), None),
        verify(&with(&|lines| drop(lines.drain(..2))), None),
        verify(&with(&|lines| lines.truncate(5)), head(7)),
        verify(&[], head(7)),
        verify(&rewritten, head(7)),
        verify(&with(&|lines| lines[1] = "{\"number\":2}".to_owned()), None),
        verify(&with(&|lines| lines[1] = lines[1].replace("\"version\":1", "\"version\":2")), None),
        verify(&with(&|lines| lines[1] = lines[1].replace("\"hash\"", " \"hash\"")), None),
    ];
    let said: Vec<String> = cases.into_iter().map(|case| case.unwrap_err().to_string()).collect();
    insta::assert_snapshot!(said.join("\n"));
    // Only a head kept elsewhere tells that the end is missing, or that all was written anew.
    assert_eq!(verify(&with(&|lines| lines.truncate(5)), None).unwrap().head.number, 5);
    assert_eq!(verify(&with(&|lines| lines.truncate(5)), head(4)).unwrap().head.number, 5);
    assert!(verify(&rewritten, None).is_ok() && verify(&rewritten, head(3)).is_ok());
}

#[test]
fn old_entries_go_in_lots_and_the_chain_vouches_for_its_beginning() {
    let one = samples::audit_entry("ada", "arm", None);
    let row = 600;
    assert!(format!("{one:?}").len() < row);
    let mut store = audited(40, Retention { audit_bytes: 40 * row as u64 / 2, ..Retention::default() });
    add(&mut store, 41, 200);
    let all = lines(&store);
    let verified = verify(&all, None).unwrap();
    assert!(verified.first > 100, "{verified:?}");
    let bytes: usize = all.iter().map(|line| line.len() + 1).sum();
    assert!(bytes <= 40 * row / 2 + 2 * row, "{bytes}");
    assert_eq!(store.journal().sizes().unwrap().audit_bytes, bytes as u64);
    let lots = all.iter().filter(|line| line.contains("\"what\":\"dropped\"")).count();
    assert!((1..all.len() / 2).contains(&lots), "{lots} of {}", all.len());
    // Of what is left nothing can be cut off at the beginning either.
    assert!(matches!(verify(&all[1..], None), Err(AuditFault::BeginningCut { .. })));
    let kept = AuditHead { number: 5, hash: crate::model::ContentHash([7; 32]) };
    assert!(matches!(verify(&all, Some(kept)), Err(AuditFault::TooOld { head: 5, .. })));

    let mut store = audited(100, Retention { audit_age: Span::seconds(32), ..Retention::default() });
    verify(&lines(&store), None).unwrap();
    let oldest = AuditLine::read(&lines(&store)[0]).unwrap().at;
    assert!((66_000..=68_000).contains(&oldest.0), "{oldest:?}");
    // After a long time without entries, the first drops all but what says so.
    add(&mut store, 1_000, 1);
    assert_eq!(lines(&store).len(), 2);
    verify(&lines(&store), None).unwrap();
}

#[test]
fn entries_are_found_by_who_and_whom_and_when() {
    let store = audited(10, Retention::default());
    let find = |filter: AuditFilter| -> Vec<u64> {
        store
            .audit()
            .find(&AuditFilter { limit: if filter.limit == 0 { 100 } else { filter.limit }, ..filter })
            .unwrap()
            .iter()
            .map(|line| line.number)
            .collect()
    };
    assert_eq!(find(AuditFilter { limit: 2, ..AuditFilter::default() }), [9, 10]);
    assert_eq!(find(AuditFilter { by: Some("ad".into()), limit: 2, ..AuditFilter::default() }), [8, 10]);
    assert_eq!(find(AuditFilter { since: Some(Timestamp(8_000)), ..AuditFilter::default() }), [8, 9, 10]);
    assert_eq!(find(AuditFilter { element: Some("host:host-a".into()), ..AuditFilter::default() }).len(), 10);
    assert!(find(AuditFilter { element: Some("host:host-b".into()), ..AuditFilter::default() }).is_empty());
}

#[test]
fn an_entry_that_was_tampered_with_does_not_stop_the_plane() {
    let mut store = audited(3, Retention::default());
    let write = store.database.begin_write().unwrap();
    write.open_table(tables::AUDIT).unwrap().insert(3, &b"\x01nonsense"[..]).unwrap();
    write.commit().unwrap();
    add(&mut store, 4, 2);
    let all = lines(&store);
    assert_eq!(all.len(), 5);
    assert!(verify(&all, None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any one bit that is another, or any line that is somewhere else, is found.
    #[test]
    fn any_change_is_found(line in 0_usize..6, at in any::<prop::sample::Index>(), bit in 0_u8..7, to in 0_usize..6) {
        let all = lines(&audited(6, Retention::default()));
        let head = verify(&all, None).unwrap().head;
        let mut changed = all.clone();
        let mut bytes = changed[line].clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        changed[line] = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(verify(&changed, Some(head)).is_err());
        if line != to {
            let mut moved = all.clone();
            let one = moved.remove(line);
            moved.insert(to, one);
            prop_assert!(verify(&moved, Some(head)).is_err());
        }
    }
}
