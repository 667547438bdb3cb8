//! The list of open actions, and one thread that loses patience with them.
//!
//! The thread also reports what the manager's own calls bring about (a cancelled action, a host that is not there): the
//! manager is the one who receives updates, and must not wait for itself. While nothing is open, the thread sleeps.

use super::Sink;
use super::job::{Job, lock};
use crate::clock::Clock;
use crate::model::{ActionId, ActionUpdate, Span};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What all jobs share.
pub struct Board {
    pub clock: Arc<dyn Clock>,
    pub sink: Sink,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: BTreeMap<ActionId, Open>,
    verdicts: Vec<(Arc<Job>, ActionUpdate)>,
    /// Rises with each job and verdict, so that none comes unseen between a look and the sleep after it.
    news: u64,
    stopped: bool,
}

#[derive(Clone)]
struct Open {
    job: Arc<Job>,
    place: Arc<str>,
}

/// Watches over open actions.
pub struct Watchdog(Arc<Board>);

impl Watchdog {
    /// Starts the thread.
    pub fn start(clock: Arc<dyn Clock>, sink: Sink) -> io::Result<Watchdog> {
        let board = Arc::new(Board { clock, sink, state: Mutex::default(), changed: Condvar::new() });
        let watched = board.clone();
        std::thread::Builder::new().name("effectors".to_owned()).spawn(move || watched.run())?;
        Ok(Watchdog(board))
    }

    /// What jobs need to know.
    pub fn board(&self) -> &Arc<Board> {
        &self.0
    }

    /// Takes a job on; `place` is where it is done. `false`: one for that action is open already.
    pub fn watch(&self, job: &Arc<Job>, place: &str) -> bool {
        let mut state = lock(&self.0.state);
        if state.open.contains_key(&job.id()) {
            return false;
        }
        state.open.insert(job.id(), Open { job: job.clone(), place: place.into() });
        state.news += 1;
        self.0.changed.notify_all();
        true
    }

    /// Has the end of a withdrawn job reported.
    pub fn verdict(&self, job: &Arc<Job>, update: ActionUpdate) {
        let mut state = lock(&self.0.state);
        state.verdicts.push((job.clone(), update));
        state.news += 1;
        self.0.changed.notify_all();
    }

    /// The open job of an action.
    pub fn job(&self, id: ActionId) -> Option<Arc<Job>> {
        lock(&self.0.state).open.get(&id).map(|open| open.job.clone())
    }

    /// The actions that are open.
    pub fn open(&self) -> Vec<ActionId> {
        lock(&self.0.state).open.keys().copied().collect()
    }

    /// Waits until nothing is open, but no longer than `grace`; abandons the rest and returns it.
    pub fn stop(&self, grace: Span) -> Vec<ActionId> {
        let state = lock(&self.0.state);
        let waited = self.0.changed.wait_timeout_while(state, grace.as_duration(), |state| !state.open.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let left = std::mem::take(&mut state.open);
        state.stopped = true;
        self.0.changed.notify_all();
        drop(state);
        left.values().for_each(|open| open.job.abandon());
        left.into_keys().collect()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        lock(&self.0.state).stopped = true;
        self.0.changed.notify_all();
    }
}

impl Board {
    /// An action has had its final update.
    pub fn forget(&self, id: ActionId) {
        lock(&self.state).open.remove(&id);
        self.changed.notify_all();
    }

    fn run(&self) {
        loop {
            let (open, verdicts, news) = {
                let mut state = lock(&self.state);
                if state.stopped {
                    return;
                }
                (state.open.values().cloned().collect::<Vec<_>>(), std::mem::take(&mut state.verdicts), state.news)
            };
            // Reports go out without the lock: whoever receives them may be waiting for it.
            for (job, update) in verdicts {
                job.tell_end(update);
            }
            let now = self.clock.now();
            let next = open.iter().filter_map(|open| open.job.check(now, &open.place)).min();
            drop(open);
            let state = lock(&self.state);
            if state.stopped || state.news != news {
                continue;
            }
            match next {
                Some(span) => drop(self.changed.wait_timeout(state, span.as_duration())),
                None => drop(self.changed.wait(state)),
            }
        }
    }
}
