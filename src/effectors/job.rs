//! One action under way, and the rule that it ends exactly once.
//!
//! ```text
//! Waiting --a worker begins--> Running --it returns--> Ended
//!    |                            +--silence--> Overdue (reported failed; the worker is still in there)
//!    +--withdrawn, or no worker in time--> Ended
//! ```
//! Whoever moves a job to `Ended` or `Overdue` reports its end; all others find it there and keep quiet.

use super::order::Patience;
use super::watchdog::Board;
use crate::hypervisor::{ErrorKind, Fate, Hypervisor, HypervisorError, Order, Watch};
use crate::model::{ActionId, ActionUpdate, EmbotId, Progress, Span, Timestamp};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a worker is to do about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Carry it out.
    Execute,
    /// Find out what became of it.
    Recover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting { since: Timestamp },
    Running { since: Timestamp, sign_at: Timestamp },
    Overdue,
    Ended,
}

/// Between two attempts to find out what became of an order, where its host does not answer.
const AGAIN: Span = Span::seconds(1);

/// An action under way.
pub struct Job {
    pub order: Order,
    pub embot: Option<EmbotId>,
    pub errand: Errand,
    patience: Patience,
    stage: Mutex<Stage>,
    cancelled: AtomicBool,
    /// Held while an update goes out, so that none comes after the last. (`stage` is not: whoever asks must not wait for a
    /// slow receiver.)
    telling: Mutex<()>,
    board: Arc<Board>,
}

/// A lock whose holder panicked protects nothing that could be half changed here.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// A job that waits for a worker.
    pub fn new(order: Order, embot: Option<EmbotId>, errand: Errand, patience: Patience, board: Arc<Board>) -> Arc<Job> {
        let stage = Mutex::new(Stage::Waiting { since: board.clock.now() });
        let (cancelled, telling) = (AtomicBool::new(false), Mutex::new(()));
        Arc::new(Job { order, embot, errand, patience, stage, cancelled, telling, board })
    }

    /// The action's number.
    pub fn id(&self) -> ActionId {
        self.order.action
    }

    /// Does the errand at a hypervisor, unless the job ended while it waited.
    pub fn carry_out(&self, hypervisor: &dyn Hypervisor) {
        self.work(|| match self.errand {
            Errand::Execute => outcome(hypervisor.execute(&self.order, self)),
            Errand::Recover => match self.fate(hypervisor) {
                Ok(Fate::Done) => ActionUpdate::Done,
                Ok(Fate::NotDone(what)) if self.is_cancelled() => ActionUpdate::Cancelled(what.into()),
                Ok(Fate::NotDone(what)) => {
                    ActionUpdate::Failed(format!("interrupted by a restart of the manager: {what}").into())
                }
                Err(error) => ActionUpdate::Failed(
                    format!("interrupted by a restart of the manager, and its host cannot tell what became of it: {error}")
                        .into(),
                ),
            },
        });
    }

    /// What became of the order. A host that does not answer may still be at it, so it is asked again until it answers or
    /// patience is at its end, also where the action is to be cancelled: that is done when it answers.
    fn fate(&self, hypervisor: &dyn Hypervisor) -> Result<Fate, HypervisorError> {
        let clock = &self.board.clock;
        let until = clock.now() + self.patience.silence;
        loop {
            let fate = hypervisor.recover(&self.order, self);
            let silent = fate.as_ref().is_err_and(|error| error.kind == ErrorKind::Unreachable);
            if !silent || !matches!(*lock(&self.stage), Stage::Running { .. }) || clock.now() >= until {
                return fate;
            }
            clock.sleep(AGAIN);
        }
    }

    /// Runs `work` from `Started` to the end it comes to; a panic is an end, too.
    pub fn work(&self, work: impl FnOnce() -> ActionUpdate) {
        if !self.begin() {
            return;
        }
        let end = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let what = panic_text(&*panic);
            tracing::error!(action = %self.id(), panic = what, "carrying out an action panicked");
            ActionUpdate::Failed(format!("embot itself failed while carrying it out ({what}): please report this").into())
        });
        if !self.end(Stage::Ended, end.clone()) {
            tracing::warn!(action = %self.id(), ?end, "an answer came after the action had been reported failed; it is not used");
        }
    }

    fn begin(&self) -> bool {
        let now = self.board.clock.now();
        {
            let mut stage = lock(&self.stage);
            if !matches!(*stage, Stage::Waiting { .. }) {
                return false;
            }
            *stage = Stage::Running { since: now, sign_at: now };
        }
        self.tell_while_running(ActionUpdate::Started);
        true
    }

    fn tell_while_running(&self, update: ActionUpdate) {
        let _telling = lock(&self.telling);
        if matches!(*lock(&self.stage), Stage::Running { .. }) {
            (self.board.sink)(self.id(), update);
        }
    }

    /// Ends the job and reports it; `false` where it had ended before.
    fn end(&self, to: Stage, update: ActionUpdate) -> bool {
        {
            let mut stage = lock(&self.stage);
            if matches!(*stage, Stage::Overdue | Stage::Ended) {
                return false;
            }
            *stage = to;
        }
        self.tell_end(update);
        true
    }

    /// Reports the end of a job that [`Job::withdraw`] ended. For the watchdog's thread, which may wait for the receiver.
    pub fn tell_end(&self, update: ActionUpdate) {
        {
            let _telling = lock(&self.telling);
            (self.board.sink)(self.id(), update);
        }
        self.board.forget(self.id());
    }

    /// Asks for the job's end. Where nothing was begun, it is ended now: `true`, and the caller sees to the report. What is to
    /// be recovered may have been begun by an earlier manager: a worker finds out, and ends it at the hypervisor.
    pub fn withdraw(&self) -> bool {
        self.cancelled.store(true, Ordering::SeqCst);
        self.errand == Errand::Execute && self.give_up()
    }

    /// Ends a job that no worker will begin; `false` where one has.
    pub fn give_up(&self) -> bool {
        let mut stage = lock(&self.stage);
        let waits = matches!(*stage, Stage::Waiting { .. });
        if waits {
            *stage = Stage::Ended;
        }
        waits
    }

    /// Ends the job without a word.
    pub fn abandon(&self) {
        *lock(&self.stage) = Stage::Ended;
    }

    /// Reports it failed if patience has run out at `now`. Else says after what time to look again, at the latest.
    pub fn check(&self, now: Timestamp, place: &str) -> Option<Span> {
        let Patience { silence, total } = self.patience;
        let stage = *lock(&self.stage);
        let (due, to, why) = match stage {
            Stage::Waiting { since } => {
                let why = format!("{place} did not get to it within {silence}: its workers are still at other actions");
                (since + silence, Stage::Ended, why)
            }
            Stage::Running { since, sign_at } => {
                let (silent, late) = (sign_at + silence, total.map(|total| since + total));
                let why = match late.filter(|late| *late < silent) {
                    Some(_) => format!("not done after {}, longer than the plane's limits allow", now.since(since)),
                    None => format!("no answer from {place} for {}", now.since(sign_at)),
                };
                let why = format!("{why}; what came of it shows when {place} answers again, and nothing is repeated by itself");
                (late.map_or(silent, |late| late.min(silent)), Stage::Overdue, why)
            }
            Stage::Overdue | Stage::Ended => return None,
        };
        if now < due {
            // A job that waits may begin at any time, and is then watched more closely if its total is the shorter.
            let begins = total.filter(|_| matches!(stage, Stage::Waiting { .. }));
            return Some(begins.map_or(due.since(now), |total| total.min(due.since(now))));
        }
        self.cancelled.store(true, Ordering::SeqCst);
        self.end(to, ActionUpdate::Failed(why.into()));
        None
    }

    /// Has it been reported failed while a worker still waits for it?
    pub fn is_overdue(&self) -> bool {
        *lock(&self.stage) == Stage::Overdue
    }
}

impl Watch for Job {
    fn progress(&self, progress: Progress) {
        if let Stage::Running { sign_at, .. } = &mut *lock(&self.stage) {
            *sign_at = self.board.clock.now();
        }
        self.tell_while_running(ActionUpdate::Progress(progress));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

fn outcome(result: Result<(), HypervisorError>) -> ActionUpdate {
    match result {
        Ok(()) => ActionUpdate::Done,
        Err(error) if error.kind == ErrorKind::Cancelled => ActionUpdate::Cancelled(error.what.into()),
        Err(error) => ActionUpdate::Failed(error.what.into()),
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}
