//! The workers of one host: a few threads, started when there is work, ended when there has been none for a while.
//!
//! Each host has its own, so that a host whose calls never return keeps only its own workers. Those are not replaced: once
//! all of them are overdue, what comes next fails at once, with that reason, instead of waiting behind them.

use super::Workers;
use super::job::{Errand, Job, lock};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

type Run = Box<dyn Fn(&Job) + Send + Sync>;

/// One host's workers.
pub struct Pool {
    place: String,
    limits: Workers,
    run: Run,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Job>>,
    running: Vec<Arc<Job>>,
    threads: usize,
    closed: bool,
}

impl Pool {
    /// Workers at `place`, which do their jobs with `run`.
    pub fn new(place: String, limits: Workers, run: Run) -> Arc<Pool> {
        Arc::new(Pool { place, limits, run, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Whose they are.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Gives them a job, or says why they cannot take it. Does not wait.
    pub fn offer(self: &Arc<Self>, job: &Arc<Job>) -> Result<(), String> {
        let place = &self.place;
        let mut state = lock(&self.state);
        if state.closed {
            return Err("the manager is stopping".to_owned());
        }
        let overdue = state.running.iter().filter(|job| job.is_overdue()).count();
        if overdue >= self.limits.per_host {
            return Err(format!(
                "{place} does not answer: all {overdue} of its workers wait for actions that were given up. Look \
                 after that host; they are free again as soon as it answers"
            ));
        }
        // What is to be recovered may be under way there: to say that it failed would be to guess.
        if state.waiting.len() >= self.limits.waiting && job.errand == Errand::Execute {
            return Err(format!("{} actions wait for {place} already", state.waiting.len()));
        }
        if state.waiting.len() + state.running.len() >= state.threads && state.threads < self.limits.per_host {
            let pool = self.clone();
            let started = std::thread::Builder::new().name(format!("at {place}")).spawn(move || pool.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    return Err(format!("the system gives {place} no thread to work with: {error}"));
                }
                // Those that are there will get to it.
                Err(error) => tracing::warn!(place, %error, "cannot start another worker"),
            }
        }
        state.waiting.push_back(job.clone());
        self.changed.notify_one();
        Ok(())
    }

    /// Takes nothing more; workers end when they have nothing to do. Returns the jobs that no worker had taken.
    pub fn close(&self) -> VecDeque<Arc<Job>> {
        let mut state = lock(&self.state);
        state.closed = true;
        self.changed.notify_all();
        std::mem::take(&mut state.waiting)
    }

    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            let idle = self.limits.idle.as_duration();
            let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
            (state, _) = self.changed.wait_timeout_while(state, idle, nothing).unwrap_or_else(PoisonError::into_inner);
            let Some(job) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            state.running.push(job.clone());
            drop(state);
            (self.run)(&job);
            state = lock(&self.state);
            state.running.retain(|running| !Arc::ptr_eq(running, &job));
        }
    }
}
