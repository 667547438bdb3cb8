//! All pollers of a plane, and the one thread that watches over them.
//!
//! Each host has a poller of its own, so that a host that hangs is a matter between it and its poller. The supervisor sees
//! to it that the plane hears of it: a poll that takes too long means that the host is lost, until it answers after all.

use super::poller::{self, Watched};
use crate::clock::Clock;
use crate::hypervisor::Hypervisor;
use crate::model::{HostId, Input, Span};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// A poller reads one report at a time: half of what a thread usually reserves is ample, and there are many pollers.
const STACK: usize = 1024 * 1024;

/// How hosts are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// The time from one poll to the next.
    pub interval: Span,
    /// A host is lost after so many failed polls in a row; at once where it cannot be reached.
    pub failures: u32,
    /// A host is lost when it has not answered a poll for so long.
    pub patience: Span,
    /// A host that is lost is polled less and less often, but still with this interval.
    pub lost_interval: Span,
}

impl Polling {
    /// Polls at this interval; a host is lost after three of them.
    pub fn every(interval: Span) -> Polling {
        let patience = Span(interval.0.saturating_mul(3));
        Polling { interval, failures: 3, patience, lost_interval: Span::minutes(1).max(interval) }
    }

    /// The pause to the next poll, by the last one: a host that is lost is asked less and less often.
    pub(super) fn pause_after(&self, last: Span, lost: bool) -> Span {
        let longer = Span(last.0.saturating_mul(2)).min(self.lost_interval);
        if lost { longer.max(self.interval) } else { self.interval }
    }
}

/// The pollers at work.
pub struct Sensors {
    pollers: Vec<(Arc<Watched>, JoinHandle<()>)>,
    stop: Sender<()>,
    /// Closed when the last thread has ended.
    ended: Receiver<()>,
}

impl Sensors {
    /// Starts a poller for each host. What they have to say goes to `send`, which may wait for room, or, from the
    /// hypervisors' own threads, to `try_send`, which must not. Both say whether it was taken.
    pub fn start(
        hosts: BTreeMap<HostId, Arc<dyn Hypervisor>>,
        polling: Polling,
        clock: Arc<dyn Clock>,
        send: impl Fn(Input) -> bool + Send + Sync + 'static,
        try_send: impl Fn(Input) -> bool + Send + Sync + 'static,
    ) -> io::Result<Sensors> {
        let (send, try_send): (poller::Send, poller::Send) = (Arc::new(send), Arc::new(try_send));
        let (stop, stopped) = bounded::<()>(0);
        let (alive, ended) = bounded::<()>(0);
        let count = hosts.len() as u64;
        let mut pollers = Vec::new();
        for (number, (host, hypervisor)) in (0..).zip(hosts) {
            let (watched, hurried) = Watched::new(host.clone(), clock.clone(), send.clone(), try_send.clone());
            // After the first poll each has a time of its own within the interval: load comes evenly.
            let delay = Span(polling.interval.0.saturating_mul(number) / count);
            let (own, stopped, alive) = (watched.clone(), stopped.clone(), alive.clone());
            let run = move || {
                poller::run(&own, &*hypervisor, &polling, delay, &hurried, &stopped);
                drop(alive);
            };
            pollers.push((watched, Builder::new().name(format!("poll {host}")).stack_size(STACK).spawn(run)?));
        }
        let watched: Vec<_> = pollers.iter().map(|(watched, _)| watched.clone()).collect();
        let look = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(polling.interval.as_duration()) {
                watched.iter().for_each(|watched| watched.check(polling.patience));
            }
            drop(alive);
        };
        Builder::new().name("sensors".to_owned()).spawn(look)?;
        Ok(Sensors { pollers, stop, ended })
    }

    /// Notices dropped so far because the manager was behind, over all hosts; each was made good by a poll.
    pub fn dropped(&self) -> u64 {
        self.pollers.iter().map(|(watched, _)| watched.dropped()).sum()
    }

    /// Stops polling. Waits so long for polls under way; returns the hosts that still have not answered then, whose threads
    /// are left behind.
    pub fn stop(self, grace: Span) -> Vec<HostId> {
        self.pollers.iter().for_each(|(watched, _)| watched.stop());
        drop(self.stop);
        // Nothing is ever sent: this waits for the end of all threads, or of the grace.
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(grace.as_duration()) {
            return Vec::new();
        }
        let left = self.pollers.into_iter().filter(|(_, thread)| !thread.is_finished());
        left.map(|(watched, _)| watched.host.clone()).collect()
    }
}
