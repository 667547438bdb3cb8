//! Where time comes from. The only place that reads the wall clock; everything else is told the time.

use crate::model::{Span, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now. Never earlier than it said before.
    fn now(&self) -> Timestamp;

    /// Lets this much time pass.
    fn sleep(&self, span: Span);
}

/// The machine's clock. It starts at the wall clock and then runs with the monotonic one, so that a jump of the wall clock
/// while the daemon runs neither fires nor delays a timer.
#[derive(Debug)]
pub struct SystemClock {
    wall: i64,
    started: Instant,
}

impl SystemClock {
    /// A clock that starts now, but not before `floor` (the last instant the journal knows), so that time never runs backwards
    /// across a restart.
    pub fn start(floor: Timestamp) -> Arc<SystemClock> {
        SystemClock::beginning(wall(), floor)
    }

    /// The same where the wall clock shows this.
    pub fn beginning(wall: Timestamp, floor: Timestamp) -> Arc<SystemClock> {
        Arc::new(SystemClock { wall: wall.max(floor).0, started: Instant::now() })
    }
}

impl SystemClock {
    /// How far the machine's clock is ahead of this one, in milliseconds; below zero: behind it. Both run at the same pace, so
    /// what changes here are jumps of the machine's clock.
    pub fn machine_ahead_ms(&self) -> i64 {
        wall().0.saturating_sub(self.now().0)
    }
}

/// The machine's clock.
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall) + Span(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, span: Span) {
        std::thread::sleep(span.as_duration());
    }
}

/// A clock that stands still until somebody moves it: for tests and simulations.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Arc<VirtualClock> {
        Arc::new(VirtualClock(AtomicI64::new(start.0)))
    }

    /// Moves to `now`; an earlier time is ignored.
    pub fn advance_to(&self, now: Timestamp) {
        self.0.fetch_max(now.0, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, span: Span) {
        self.advance_to(self.now() + span);
    }
}

/// Measures how long something takes, for figures that nothing decides by.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// So long, so far.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Ends a computation of this thread that takes too long. Only for limits of last resort: what it ends is not reproducible.
///
/// It looks at the wall clock, which is cheap to read. When half of the limit has passed there, the computation may have
/// worked, or its thread may not have run at all on a busy machine, which is not its fault. So for the other half the time
/// counts that the thread itself ran: on an idle machine the limit is kept, on a busy one nobody is ended innocently.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    half: Duration,
    started: Instant,
    ran_before: Option<Duration>,
}

impl Deadline {
    /// So much time from now.
    pub fn after(limit: Duration) -> Deadline {
        Deadline { half: limit / 2, started: Instant::now(), ran_before: None }
    }

    /// Has it passed?
    pub fn is_over(&mut self) -> bool {
        match self.ran_before {
            Some(before) => thread_time().saturating_sub(before) >= self.half,
            None => {
                if self.started.elapsed() >= self.half {
                    self.ran_before = Some(thread_time());
                }
                false
            }
        }
    }
}

/// How long this thread has run, in all.
fn thread_time() -> Duration {
    // It cannot fail on the systems this is built for; if it did, the time would stand still and the other limits remain.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
