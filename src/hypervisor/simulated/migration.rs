//! How long a live migration takes: memory is sent while the guest runs, what it dirtied meanwhile is sent again, round by
//! round, until the rest fits into the permitted pause.
//!
//! ```text
//! Round(0) --sent--> Round(1) --sent--> .. --rest fits the pause--> Switch --sent--> arrived
//!    |                  |                                              |
//!    +------------------+------- fails at x %, timeout, cancel --------+--> over, the guest stays
//! ```
//! Pure arithmetic over instants in milliseconds. The rate may change at any time, since migrations share the hosts' links.

use super::super::MigrationLimits;
use crate::model::{Progress, Span, Timestamp};

/// Stopping, handing over and going on takes so long beside the last data.
pub(super) const SWITCH: Span = Span(50);

/// The pause at the end, where nobody says how long it may be. As in QEMU.
pub(super) const MAX_DOWNTIME: Span = Span(300);

/// A round is no shorter, however little is to be sent.
const SHORTEST_ROUND_MS: f64 = 10.0;

/// A guest's memory on its way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Migration {
    /// Memory to be sent in the first round, in MiB (with disks, where they are copied).
    first_mib: f64,
    /// The most a round can dirty, in MiB.
    memory_mib: f64,
    /// What the guest dirties, in MiB a second.
    dirty_mib_per_s: f64,
    max_downtime: Span,
    auto_converge: bool,
    /// How much the guest is slowed, 0 to 0.99.
    throttle: f64,
    /// At most this rate, in MiB a second, whatever the links could carry.
    pub(super) limit_mib_per_s: Option<f64>,
    /// The present rate, in MiB a second.
    rate: f64,
    /// Up to when `left_mib` is right.
    at: Timestamp,
    round_began: Timestamp,
    round_mib: f64,
    left_mib: f64,
    sent_mib: f64,
    switching: bool,
    /// The planned end of the present round.
    ends_at: Timestamp,
    /// It breaks when so much of the first round was sent (a fault).
    breaks_at_mib: Option<f64>,
    /// It is given up then.
    gives_up_at: Option<Timestamp>,
}

/// What a migration came to at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    Goes,
    /// The guest is stopped at the source now; the rest is being sent.
    Switches,
    /// All is there.
    Arrived,
    /// The fault that was to happen happened.
    Broke,
    /// It took longer than was permitted.
    TimedOut,
}

impl Migration {
    /// A migration that begins now; it does not move until it has a rate.
    pub(super) fn new(
        now: Timestamp,
        memory_mib: u64,
        disk_mib: u64,
        dirty_mib_per_s: f64,
        limits: &MigrationLimits,
    ) -> Migration {
        let first_mib = memory_mib as f64 + if limits.copy_storage { disk_mib as f64 } else { 0.0 };
        Migration {
            first_mib,
            memory_mib: memory_mib as f64,
            dirty_mib_per_s,
            max_downtime: limits.max_downtime.unwrap_or(MAX_DOWNTIME),
            auto_converge: limits.auto_converge,
            throttle: 0.0,
            limit_mib_per_s: limits.bandwidth_mib_per_s.map(|rate| rate.max(1) as f64),
            rate: 0.0,
            at: now,
            round_began: now,
            round_mib: first_mib,
            left_mib: first_mib,
            sent_mib: 0.0,
            switching: false,
            ends_at: Timestamp(i64::MAX),
            breaks_at_mib: None,
            gives_up_at: limits.timeout.map(|timeout| now + timeout),
        }
    }

    /// Lets it break when this share (0 to 1) of the first round was sent.
    pub(super) fn break_at(&mut self, share: f64) {
        self.breaks_at_mib = Some(self.first_mib * share.clamp(0.0, 1.0));
    }

    /// From now on it is sent at this rate, in MiB a second.
    pub(super) fn set_rate(&mut self, now: Timestamp, rate: f64) {
        self.send_until(now);
        self.rate = rate.max(0.001);
        // Where nothing is left to be sent, the end does not depend on the rate.
        if self.left_mib > 0.0 {
            self.plan_end();
        }
    }

    /// When to call [`Migration::turn`] again.
    pub(super) fn next_at(&self) -> Timestamp {
        let breaks = self.breaks_at_mib.filter(|_| !self.switching).map(|mib| {
            let to_go = (mib - self.sent_mib).max(0.0);
            self.at + millis(to_go / self.rate.max(0.001) * 1_000.0)
        });
        let gives_up = self.gives_up_at.filter(|_| !self.switching);
        [breaks, gives_up].into_iter().flatten().fold(self.ends_at, Timestamp::min).max(self.at)
    }

    /// What it comes to now.
    pub(super) fn turn(&mut self, now: Timestamp) -> Turn {
        self.send_until(now);
        // Whole milliseconds: what is less than one's worth away has been reached.
        let reached = |mib: f64| self.sent_mib + self.rate / 1_000.0 >= mib;
        if !self.switching && self.breaks_at_mib.is_some_and(reached) {
            return Turn::Broke;
        }
        if !self.switching && self.gives_up_at.is_some_and(|at| now >= at) {
            return Turn::TimedOut;
        }
        if now < self.ends_at {
            return Turn::Goes;
        }
        if self.switching {
            return Turn::Arrived;
        }
        let seconds = now.since(self.round_began).as_seconds();
        let dirtied = (self.dirty_mib_per_s * (1.0 - self.throttle) * seconds).min(self.memory_mib);
        if self.auto_converge && dirtied > self.round_mib * 0.5 {
            self.throttle = if self.throttle == 0.0 { 0.2 } else { (self.throttle + 0.1).min(0.99) };
        }
        self.switching = dirtied / self.rate <= self.max_downtime.as_seconds();
        (self.round_began, self.round_mib, self.left_mib) = (now, dirtied, dirtied);
        self.plan_end();
        if self.switching { Turn::Switches } else { Turn::Goes }
    }

    /// How much the guest is slowed on purpose, 0 to 0.99.
    pub(super) fn throttle(&self) -> f64 {
        self.throttle
    }

    /// How far it is at an instant not before the last one it was told of.
    pub(super) fn progress(&self, now: Timestamp) -> Progress {
        let sent = (self.rate * now.since(self.at).as_seconds()).min(self.left_mib);
        let done = self.sent_mib + sent;
        let bytes = |mib: f64| (mib * 1_048_576.0) as u64;
        Progress { done_bytes: bytes(done), total_bytes: bytes(done + self.left_mib - sent) }
    }

    fn send_until(&mut self, now: Timestamp) {
        let sent = if now >= self.ends_at { self.left_mib } else { self.rate * now.since(self.at).as_seconds() };
        let sent = sent.min(self.left_mib);
        self.left_mib -= sent;
        self.sent_mib += sent;
        self.at = self.at.max(now);
    }

    fn plan_end(&mut self) {
        let sending = self.left_mib / self.rate * 1_000.0;
        let least = if self.switching { 0.0 } else { SHORTEST_ROUND_MS };
        let pause = if self.switching { SWITCH } else { Span::ZERO };
        self.ends_at = self.at + millis(sending.max(least)) + pause;
    }
}

/// Whole milliseconds, rounded up; what is over by mere rounding of floating-point numbers does not count.
fn millis(ms: f64) -> Span {
    Span((ms - 1e-6).ceil().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(migration: &mut Migration) -> (Turn, Timestamp, Timestamp) {
        let mut switched = Timestamp::default();
        for _ in 0..10_000 {
            let now = migration.next_at();
            match migration.turn(now) {
                Turn::Goes => {}
                Turn::Switches => switched = now,
                end => return (end, switched, now),
            }
        }
        panic!("a migration without end");
    }

    #[test]
    fn an_idle_guest_takes_memory_by_bandwidth() {
        let mut migration = Migration::new(Timestamp(0), 2_048, 0, 0.0, &MigrationLimits::default());
        migration.set_rate(Timestamp(0), 100.0);
        assert_eq!(migration.progress(Timestamp(10_240)), Progress { done_bytes: 1 << 30, total_bytes: 2 << 30 });
        assert_eq!(run(&mut migration), (Turn::Arrived, Timestamp(20_480), Timestamp(20_530)));
    }

    #[test]
    fn what_is_dirtied_is_sent_again_until_the_rest_fits_the_pause() {
        // 2,048 MiB at 100 MiB/s, 20 MiB/s dirtied: 20.48 s, then 409.6 MiB 4.096 s, then 81.92 MiB 0.82 s, then 16.4 MiB
        // would take 0.164 s, which fits the 0.3 s.
        let mut migration = Migration::new(Timestamp(0), 2_048, 0, 20.0, &MigrationLimits::default());
        migration.set_rate(Timestamp(0), 100.0);
        let switched = 20_480 + 4_096 + 820;
        assert_eq!(run(&mut migration), (Turn::Arrived, Timestamp(switched), Timestamp(switched + 164 + 50)));
    }

    #[test]
    fn a_rate_that_changes_midway_counts_from_then_on() {
        let mut migration = Migration::new(Timestamp(0), 1_000, 0, 0.0, &MigrationLimits::default());
        migration.set_rate(Timestamp(0), 100.0);
        migration.set_rate(Timestamp(5_000), 50.0);
        assert_eq!(run(&mut migration).2, Timestamp(5_000 + 10_000 + 50));
    }

    #[test]
    fn a_guest_that_dirties_faster_than_it_is_sent_ends_only_by_timeout_or_slowing_down() {
        let limits = MigrationLimits { timeout: Some(Span::seconds(60)), ..MigrationLimits::default() };
        let mut migration = Migration::new(Timestamp(0), 1_000, 0, 150.0, &limits);
        migration.set_rate(Timestamp(0), 100.0);
        assert_eq!(run(&mut migration).0, Turn::TimedOut);
        let slowing = MigrationLimits { auto_converge: true, ..MigrationLimits::default() };
        let mut migration = Migration::new(Timestamp(0), 1_000, 0, 150.0, &slowing);
        migration.set_rate(Timestamp(0), 100.0);
        assert_eq!(run(&mut migration).0, Turn::Arrived);
    }

    #[test]
    fn it_breaks_where_it_is_told_to() {
        let mut migration = Migration::new(Timestamp(0), 1_000, 0, 0.0, &MigrationLimits::default());
        migration.break_at(0.4);
        migration.set_rate(Timestamp(0), 100.0);
        assert_eq!(run(&mut migration), (Turn::Broke, Timestamp(0), Timestamp(4_000)));
    }
}
