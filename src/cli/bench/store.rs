//! A store with a million journal entries: how long it takes to open after a crash, and what a backup costs those who decide.

use super::BenchError;
use super::delays::Delays;
use super::folder::Folder;
use crate::cli::progress::Progress;
use crate::model::{
    Batch, Change, ElementId, EmbotId, EmbotRow, Event, EventBody, Input, Notice, NoticeBody, Reason, Record, Timestamp, Value,
    VmId, VmState,
};
use crate::store::{Journal, Retention, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Entries of the journal.
const ENTRIES: u64 = 1_000_000;
/// Guests whose embots take turns.
const GUESTS: u64 = 10_000;
/// Batches in one transaction while the store is filled.
const GROUP: u64 = 1_000;
/// Between two decisions while delays are measured.
const PACE: Duration = Duration::from_millis(10);

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreFigures {
    /// Entries of the journal.
    pub entries: u64,
    /// What the file takes.
    pub file_mib: f64,
    /// How long it takes to open it after a crash.
    pub open_s: f64,
    /// How long it takes to make a backup, written to disk.
    pub backup_s: f64,
    /// What the backup takes.
    pub backup_mib: f64,
    /// From a decision until it is durable, with nothing else going on.
    pub alone: Delays,
    /// The same while backups are made.
    pub beside: Delays,
}

/// A fact, the state it led to, and the fact before taken away.
fn batch(seq: u64) -> Batch {
    let vm = VmId(uuid::Uuid::from_u128(u128::from(seq % GUESTS)));
    let at = Timestamp(1_772_366_584_005 + seq as i64 * 10);
    let element = ElementId::Vm(vm);
    let event = Event { seq, at, element: element.clone(), to: None, body: EventBody::Crashed(Reason::Crashed) };
    let memory = BTreeMap::from([
        ("restarts".to_owned(), Value::Int(3)),
        ("last".to_owned(), Value::Int(seq as i64)),
        ("mean".to_owned(), Value::Float(0.25)),
    ]);
    let state = BTreeMap::from([("restart-crashed-guest".into(), Value::Map(memory).into())]);
    let embot = EmbotId { module: "restart-crashed-guest".into(), element };
    let changes = vec![
        Change::Pending(seq, Some(Box::new(event.clone()))),
        Change::Pending(seq.saturating_sub(1), None),
        Change::Embot(embot, Some(EmbotRow { state, ..EmbotRow::default() })),
    ];
    let notice = Notice { vm, at, body: NoticeBody::State(VmState::Off, Reason::Crashed) };
    let (inputs, records) = (vec![Input::Notice("host-a".into(), notice)], vec![Record::Event { event }]);
    Batch { seq, now: at, inputs, records, changes, durable: true }
}

/// Decides and commits at a steady pace until it is told to stop; how long each commit took.
fn decide(store: &mut Store, seq: &mut u64, going: impl Fn() -> bool) -> Result<Delays, BenchError> {
    let mut delays = Vec::new();
    while going() {
        *seq += 1;
        let batch = batch(*seq);
        let started = Instant::now();
        store.commit(std::slice::from_ref(&batch))?;
        delays.push(started.elapsed());
        std::thread::sleep(PACE.saturating_sub(started.elapsed()));
    }
    Ok(Delays::of(delays))
}

fn backup(journal: &Journal, folder: &Folder) -> Result<(f64, u64), BenchError> {
    let started = Instant::now();
    let mut file = io::BufWriter::with_capacity(1 << 20, File::create(folder.path("bench.backup"))?);
    journal.backup("bench", Timestamp(0), &mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((started.elapsed().as_secs_f64(), file.metadata()?.len()))
}

/// Measures.
pub fn run(seconds: u64, progress: &Progress) -> Result<StoreFigures, BenchError> {
    let folder = Folder::new("store")?;
    let path = folder.path("bench.redb");
    let retention = Retention { journal_bytes: u64::MAX, ..Retention::default() };
    let (mut store, _) = Store::open(&path, retention)?;
    for group in 0..ENTRIES / GROUP {
        let batches: Vec<Batch> = (group * GROUP + 1..=(group + 1) * GROUP).map(batch).collect();
        store.commit(&batches)?;
        progress.say(&format!("store: {} of {ENTRIES} entries", (group + 1) * GROUP));
    }
    progress.say("store: opening it after a crash");
    // What is on the disk now is what a crash would leave.
    let crashed = folder.path("crashed.redb");
    std::fs::copy(&path, &crashed)?;
    let started = Instant::now();
    let opened = Store::open(&crashed, retention)?;
    let open_s = started.elapsed().as_secs_f64();
    drop(opened);
    std::fs::remove_file(&crashed)?;

    progress.say("store: decisions alone");
    let (mut seq, ends) = (ENTRIES, Instant::now() + Duration::from_secs(seconds));
    let alone = decide(&mut store, &mut seq, || Instant::now() < ends)?;
    progress.say("store: decisions beside backups");
    let (going, journal, ends) = (AtomicBool::new(true), store.journal(), Instant::now() + Duration::from_secs(seconds));
    let (made, beside) = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let mut made = Vec::new();
            while made.is_empty() || (Instant::now() < ends && made.iter().all(Result::is_ok)) {
                made.push(backup(&journal, &folder));
            }
            going.store(false, Ordering::Relaxed);
            made
        });
        let beside = decide(&mut store, &mut seq, || going.load(Ordering::Relaxed));
        (made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), beside)
    });
    let mut made: Vec<(f64, u64)> = made.into_iter().collect::<Result<_, _>>()?;
    made.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (backup_s, bytes) = made[made.len() / 2];
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let file_mib = mib(std::fs::metadata(&path)?.len());
    Ok(StoreFigures { entries: ENTRIES, file_mib, open_s, backup_s, backup_mib: mib(bytes), alone, beside: beside? })
}
