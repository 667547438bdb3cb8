//! One host's poller: asks for everything at an interval, and passes on what the host says between polls.
//!
//! Reports wait where the manager is behind, since a description is told once and must not be lost; that holds up this
//! host's poller alone. Notices come on the hypervisor's own threads and must not wait: one that finds no room is dropped
//! and counted, and the next poll, which then comes at once, states what it said.

use super::Polling;
use crate::clock::Clock;
use crate::hypervisor::{ErrorKind, Hypervisor, HypervisorError};
use crate::model::{Abilities, HostId, Input, Notice, Span, Timestamp};
use crossbeam_channel::{Receiver, Sender, after, select};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What guests can have on a host is asked for again after so long: networks come and go.
const ABILITIES: Span = Span::minutes(1);

/// How inputs reach the manager; `false`: not.
pub type Send = Arc<dyn Fn(Input) -> bool + std::marker::Send + Sync>;

/// What a poller, its notices and the supervisor share.
pub struct Watched {
    pub host: HostId,
    pub clock: Arc<dyn Clock>,
    /// Waits for room.
    pub send: Send,
    /// Does not.
    pub try_send: Send,
    pulse: Mutex<Pulse>,
    /// Asks for a poll at once.
    hurry: Sender<()>,
    stopped: AtomicBool,
    dropped: AtomicU64,
}

/// What is known of a host's answering. Whoever states that it is lost does so under this lock, or after `asked_at` was
/// taken back under it, so that a host is stated lost once, and never after the answer that shows it is not.
#[derive(Debug, Default)]
struct Pulse {
    /// Since when a report has been waited for.
    asked_at: Option<Timestamp>,
    /// Was it stated that it is lost?
    lost: bool,
}

/// What was last passed on of what guests can have there.
#[derive(Debug, Default)]
struct Told {
    abilities: Abilities,
    again_at: Timestamp,
}

impl Watched {
    /// A host that was not asked yet, and where its poller hears that it should hurry.
    pub fn new(host: HostId, clock: Arc<dyn Clock>, send: Send, try_send: Send) -> (Arc<Watched>, Receiver<()>) {
        let (hurry, hurried) = crossbeam_channel::bounded(1);
        let (stopped, dropped) = (AtomicBool::new(false), AtomicU64::new(0));
        let watched = Watched { host, clock, send, try_send, pulse: Mutex::default(), hurry, stopped, dropped };
        (Arc::new(watched), hurried)
    }

    /// Notices dropped so far, because the manager was behind.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// From now on nothing is passed on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// States the host lost if it has been asked for longer than `patience` and has not answered.
    pub fn check(&self, patience: Span) {
        let mut pulse = self.pulse();
        let Some(asked_at) = pulse.asked_at.filter(|_| !pulse.lost) else { return };
        let silent = self.clock.now().since(asked_at);
        if silent > patience {
            let why = format!("has not answered for {}", Span(silent.0 / 1_000 * 1_000).max(patience));
            // Where there is no room, the next check tries again.
            pulse.lost = (self.try_send)(Input::HostLost(self.host.clone(), why.into()));
        }
    }

    fn notice(&self, notice: Notice) {
        if self.stopped.load(Ordering::SeqCst) || (self.try_send)(Input::Notice(self.host.clone(), notice)) {
            return;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        // One request waits already where this finds no room.
        let _ = self.hurry.try_send(());
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what guests can have there, where it is time, and passes on what has changed. `false`: the manager is gone.
    fn ask_abilities(&self, hypervisor: &dyn Hypervisor, told: &mut Told) -> bool {
        let now = self.clock.now();
        if now < told.again_at {
            return true;
        }
        told.again_at = now + ABILITIES;
        match guarded(|| hypervisor.abilities()) {
            Ok(abilities) if abilities != told.abilities => {
                told.abilities = abilities.clone();
                (self.send)(Input::Abilities(self.host.clone(), abilities))
            }
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(host = %self.host, error = error.what, "what guests can have there is not known");
                true
            }
        }
    }

    /// Polls once. Says whether the host is lost, or `None` where the manager is gone.
    fn poll(&self, hypervisor: &dyn Hypervisor, failures: &mut u32, polling: &Polling) -> Option<bool> {
        let asked_at = self.clock.now();
        self.pulse().asked_at = Some(asked_at);
        let report = guarded(|| hypervisor.report(asked_at));
        let mut pulse = self.pulse();
        pulse.asked_at = None;
        let input = match report {
            Ok(report) => {
                *failures = 0;
                pulse.lost = false;
                Some(Input::Report(self.host.clone(), report))
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                let lost = error.kind == ErrorKind::Unreachable || *failures >= polling.failures;
                tracing::debug!(host = %self.host, failures, error = error.what, "a poll failed");
                let first = lost && !pulse.lost;
                pulse.lost |= lost;
                first.then(|| Input::HostLost(self.host.clone(), error.what.into()))
            }
        };
        let lost = pulse.lost;
        drop(pulse);
        match input {
            Some(_) if self.stopped.load(Ordering::SeqCst) => None,
            Some(input) => (self.send)(input).then_some(lost),
            None => Some(lost),
        }
    }
}

/// A poller's life. Ends when `stop` is closed, or the manager is gone.
pub fn run(
    watched: &Arc<Watched>,
    hypervisor: &dyn Hypervisor,
    polling: &Polling,
    delay: Span,
    hurried: &Receiver<()>,
    stop: &Receiver<()>,
) {
    let noticed = watched.clone();
    let subscribed = guarded(|| {
        hypervisor.subscribe(Arc::new(move |notice| noticed.notice(notice)));
        Ok(())
    });
    if let Err(error) = subscribed {
        tracing::error!(host = %watched.host, error = error.what, "no notices from this host; its state comes by polls alone");
    }
    let (mut failures, mut pause, mut delay) = (0, polling.interval, delay);
    let mut told = Told::default();
    loop {
        let asked_at = watched.clock.now();
        let Some(lost) = watched.poll(hypervisor, &mut failures, polling) else { return };
        if failures > 0 {
            told.again_at = Timestamp::default();
        } else if !watched.ask_abilities(hypervisor, &mut told) {
            return;
        }
        pause = polling.pause_after(pause, lost);
        let next = asked_at + pause + std::mem::take(&mut delay);
        select! {
            recv(stop) -> _ => return,
            recv(hurried) -> _ => {}
            recv(after(next.since(watched.clock.now()).as_duration())) -> _ => {}
        }
    }
}

/// A hypervisor that panics has failed, like one that says so.
fn guarded<T>(call: impl FnOnce() -> Result<T, HypervisorError>) -> Result<T, HypervisorError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words");
        let what = format!("embot itself failed while reading this host ({text}): please report this");
        Err(HypervisorError::new(ErrorKind::Failed, what))
    })
}
