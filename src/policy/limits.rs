//! How much a step may use, and the meter that stops it.
//!
//! Rhai counts operations, but a native function counts as one however long it runs, and some of them swallow the errors of
//! their callbacks. So the meter is our own: operations through `on_progress`, and *units* that functions with work
//! proportional to their input charge before they begin. Once it has stopped a step it stays stopped: whoever swallows the
//! error only meets it again at the next operation. Time is the last resort for what neither counts (copies of
//! large values); all else stops at the same place in every run.

use crate::clock::Deadline;
use rhai::{Dynamic, Position};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// The limits of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Rhai operations.
    pub operations: u64,
    /// Work inside native functions: about one unit for each element looked at, or 32 bytes of text.
    pub units: u64,
    /// Elements of a list, those of nested lists included.
    pub array: usize,
    /// Entries of a map, those of nested maps included.
    pub map: usize,
    /// Bytes of a text, and of all texts in a list or map together.
    pub string_bytes: usize,
    /// Calls within calls.
    pub depth: usize,
    /// Variables of one function.
    pub variables: usize,
    /// Time spent in a build for use, the last resort.
    pub deadline: Duration,
    /// Bytes of the state, as stored.
    pub state_bytes: usize,
    /// Proposals, notifications included.
    pub proposals: usize,
    /// Timers set or cancelled.
    pub timers: usize,
    /// Messages sent.
    pub messages: usize,
    /// Lines printed; what is printed beyond is dropped.
    pub logs: usize,
    /// Bytes of one printed line; what is longer is cut.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            operations: 100_000,
            units: 50_000,
            array: 1_000,
            map: 1_000,
            string_bytes: 64 * 1024,
            depth: 32,
            variables: 64,
            deadline: Duration::from_millis(6),
            state_bytes: 64 * 1024,
            proposals: 32,
            timers: 16,
            messages: 32,
            logs: 32,
            log_bytes: 1024,
        }
    }
}

/// A build for debugging runs scripts some ten times slower. All other limits count the same there, so what they let pass must
/// not end at this one.
const SLOWNESS: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

impl Limits {
    /// How long a step may take in this build.
    pub(super) fn patience(&self) -> Duration {
        self.deadline.saturating_mul(SLOWNESS)
    }
}

/// Why a step was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Operations,
    Units,
    Deadline,
    Proposals,
    Timers,
    Messages,
}

/// The wall clock is read once in so many operations; the first time also starts the deadline, so that the many small
/// handlers never read it.
const CLOCK_EVERY: u64 = 64;
/// It is read, too, once in so many units: a loop of few operations can work for long inside a native function.
const CLOCK_EVERY_UNITS: u64 = 500;

/// Counts what the present step uses.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    operations: Cell<u64>,
    units: Cell<u64>,
    /// Where the present run ends: at the limit, or earlier where only its way there is of interest.
    ceiling: Cell<u64>,
    stopped: Cell<Option<Stop>>,
    stopped_at: Cell<Position>,
    /// Units at which the clock is read next.
    clock_at: Cell<u64>,
    /// How long the present run may take.
    patience: Cell<Duration>,
    deadline: RefCell<Option<Deadline>>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Meter {
        let (ceiling, patience) = (Cell::new(limits.operations), Cell::new(limits.patience()));
        Meter {
            limits,
            ceiling,
            patience,
            stopped_at: Cell::new(Position::NONE),
            clock_at: Cell::new(CLOCK_EVERY_UNITS),
            operations: Cell::new(0),
            units: Cell::new(0),
            stopped: Cell::new(None),
            deadline: RefCell::new(None),
        }
    }

    /// Begins a step.
    pub(super) fn reset(&self) {
        self.operations.set(0);
        self.ceiling.set(self.limits.operations);
        self.patience.set(self.limits.patience());
        self.units.set(0);
        self.clock_at.set(CLOCK_EVERY_UNITS);
        self.stopped.set(None);
        self.stopped_at.set(Position::NONE);
        // Most steps never set a deadline; the borrow is cheaper than a needless write of it.
        if self.deadline.borrow().is_some() {
            *self.deadline.borrow_mut() = None;
        }
    }

    /// Counts one operation; a value ends the script. The value itself is of no interest: `stopped` says why.
    pub(super) fn operation(&self) -> Option<Dynamic> {
        let count = self.operations.get() + 1;
        self.operations.set(count);
        if self.stopped.get().is_none() {
            if count > self.ceiling.get() {
                self.stop(Stop::Operations);
            } else if count.is_multiple_of(CLOCK_EVERY) {
                self.check_clock(Position::NONE);
            }
        }
        self.stopped.get().map(|_| Dynamic::UNIT)
    }

    #[cold]
    fn check_clock(&self, at: Position) {
        let mut deadline = self.deadline.borrow_mut();
        match &mut *deadline {
            None => *deadline = Some(Deadline::after(self.patience.get())),
            Some(deadline) => {
                if deadline.is_over() {
                    self.stop_at(Stop::Deadline, at);
                }
            }
        }
    }

    /// Counts work of a native function, before it is done. `false`: it must not be done.
    pub(super) fn charge(&self, units: u64, at: Position) -> bool {
        let total = self.units.get().saturating_add(units);
        self.units.set(total);
        if total > self.limits.units {
            self.stop_at(Stop::Units, at);
        } else if total >= self.clock_at.get() && self.stopped.get().is_none() {
            self.clock_at.set(total + CLOCK_EVERY_UNITS);
            self.check_clock(at);
        }
        self.stopped.get().is_none()
    }

    /// Ends the step. The first reason counts.
    pub(super) fn stop(&self, why: Stop) {
        self.stop_at(why, Position::NONE);
    }

    /// The same, by who knows where the script is.
    pub(super) fn stop_at(&self, why: Stop, at: Position) {
        if self.stopped.get().is_none() {
            self.stopped.set(Some(why));
            self.stopped_at.set(at);
        }
    }

    /// Where it was stopped, if that is known.
    pub(super) fn stopped_at(&self) -> Position {
        self.stopped_at.get()
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// Lets the present run go no further than so many operations, or a part of the time that a step has.
    pub(super) fn end_after(&self, operations: u64) {
        self.ceiling.set(operations.min(self.limits.operations));
        self.patience.set(self.limits.patience() / 4);
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped.get()
    }
}
