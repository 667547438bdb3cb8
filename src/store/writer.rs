//! The store thread: commits what waits while the manager steps on.
//!
//! It takes all batches that wait and commits them in one transaction, so that the cost of a sync is shared by whatever
//! came meanwhile. Batches of samples alone are held back and go with the next batch that must be durable, or after a
//! while by themselves: an idle plane then writes once a second at most. While nothing comes it sleeps.

use super::{Store, StoreError};
use crate::clock::Stopwatch;
use crate::model::{Batch, Span};
use crossbeam_channel::{Receiver, Sender, after, never, select};
use prometheus_client::metrics::histogram::Histogram;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// At most so many batches in one transaction: bounds its memory, and the time until its first batch is answered.
const GROUP: usize = 1_024;
/// Limits of the classes that commits are sorted into, in seconds.
const COMMIT_SECONDS: [f64; 12] = [2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0, 5.0];

/// What became of batches.
#[derive(Debug, Clone)]
pub enum Committed {
    /// Every batch up to and with this one is durable.
    Through {
        /// Its number.
        seq: u64,
    },
    /// The commit failed: none of the batches from this one on may be taken to have happened, and no more are taken.
    Failed {
        /// The first batch that is not known to be durable.
        from: u64,
        /// Why.
        error: Arc<StoreError>,
    },
}

/// The store thread.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Result<Store, Arc<StoreError>>>,
    commits: Histogram,
}

impl Writer {
    /// Starts the thread. It ends when all senders of `commits` are gone and everything is written, or when a commit
    /// failed. Batches that are not durable wait for at most `hold`. `committed` should be unbounded: a full one would hold
    /// the commits up.
    pub fn spawn(store: Store, commits: Receiver<Batch>, committed: Sender<Committed>, hold: Span) -> io::Result<Writer> {
        let times = Histogram::new(COMMIT_SECONDS);
        let timed = times.clone();
        let run = move || run(store, &commits, &committed, hold, &timed);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(run)?;
        Ok(Writer { thread, commits: times })
    }

    /// How long its commits take, in seconds.
    pub fn commits(&self) -> &Histogram {
        &self.commits
    }

    /// Waits for its end; gives the store back, or why it stopped.
    pub fn join(self) -> Result<Store, Arc<StoreError>> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(
    mut store: Store,
    commits: &Receiver<Batch>,
    committed: &Sender<Committed>,
    hold: Span,
    times: &Histogram,
) -> Result<Store, Arc<StoreError>> {
    let mut waiting: Vec<Batch> = Vec::new();
    let nothing = never();
    let mut due = None;
    loop {
        let mut write = false;
        let mut end = false;
        select! {
            recv(commits) -> batch => match batch {
                Ok(batch) => waiting.push(batch),
                Err(_) => (write, end) = (true, true),
            },
            recv(due.as_ref().unwrap_or(&nothing)) -> _ => write = true,
        }
        while waiting.len() < GROUP
            && let Ok(batch) = commits.try_recv()
        {
            waiting.push(batch);
        }
        write |= waiting.len() >= GROUP || waiting.iter().any(|batch| batch.durable);
        if write {
            flush(&mut store, &mut waiting, committed, times)?;
            due = None;
        } else if !waiting.is_empty() && due.is_none() {
            due = Some(after(hold.as_duration()));
        }
        if end {
            return Ok(store);
        }
    }
}

fn flush(
    store: &mut Store,
    waiting: &mut Vec<Batch>,
    committed: &Sender<Committed>,
    times: &Histogram,
) -> Result<(), Arc<StoreError>> {
    let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else { return Ok(()) };
    let (from, seq) = (first.seq, last.seq);
    let watch = Stopwatch::start();
    let result = store.commit(waiting).map_err(Arc::new);
    times.observe(watch.elapsed().as_secs_f64());
    // Nobody listens any more where the manager has ended; what it decided is written nevertheless.
    let _ = committed.send(match &result {
        Ok(()) => Committed::Through { seq },
        Err(error) => Committed::Failed { from, error: error.clone() },
    });
    waiting.clear();
    result
}
