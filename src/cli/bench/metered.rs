//! A meter between the plane and a host of the simulated fleet: what the simulation costs, and when it said what.
//!
//! The simulated hypervisor works in the threads of those who call it. A real one works elsewhere, so the time spent in it is
//! measured here, call by call, as processor time of the calling thread, and taken off what the plane is charged for.

use crate::hypervisor::{Definition, Fate, Handover, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::model::{Abilities, HostReport, Mark, NoticeBody, Reason, Sighting, Timestamp, VmId, VmState};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What all meters of a fleet have seen.
#[derive(Debug, Default)]
pub struct Meter {
    inside_ns: AtomicU64,
    crashed: Mutex<HashMap<VmId, Instant>>,
}

impl Meter {
    /// Processor time spent inside the simulation.
    pub fn inside(&self) -> Duration {
        Duration::from_nanos(self.inside_ns.load(Ordering::Relaxed))
    }

    /// When the manager was told that this guest has crashed; told once.
    pub fn take_crash(&self, vm: VmId) -> Option<Instant> {
        self.crashed.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm)
    }

    fn inside_of<T>(&self, call: impl FnOnce() -> T) -> T {
        let before = thread_time();
        let result = call();
        let spent = thread_time().saturating_sub(before);
        self.inside_ns.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(0), Ordering::Relaxed);
        result
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A host with a meter.
pub struct Metered {
    inner: Arc<dyn Hypervisor>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Puts a meter before a host.
    pub fn new(inner: Arc<dyn Hypervisor>, meter: Arc<Meter>) -> Metered {
        Metered { inner, meter }
    }
}

impl Hypervisor for Metered {
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        self.meter.inside_of(|| self.inner.report(asked_at))
    }

    fn abilities(&self) -> Result<Abilities, HypervisorError> {
        self.meter.inside_of(|| self.inner.abilities())
    }

    fn subscribe(&self, sink: NoticeSink) {
        let meter = self.meter.clone();
        self.inner.subscribe(Arc::new(move |notice| {
            if matches!(notice.body, NoticeBody::State(VmState::Off | VmState::Crashed, reason) if matches!(reason, Reason::Crashed | Reason::Failed)) {
                let mut crashed = meter.crashed.lock().unwrap_or_else(PoisonError::into_inner);
                crashed.insert(notice.vm, Instant::now());
            }
            sink(notice);
        }));
    }

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        self.meter.inside_of(|| self.inner.mark(vm))
    }

    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.meter.inside_of(|| self.inner.execute(order, watch))
    }

    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError> {
        self.meter.inside_of(|| self.inner.recover(order, watch))
    }

    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.meter.inside_of(|| self.inner.look(vm))
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        self.meter.inside_of(|| self.inner.definition(vm))
    }

    fn hand_over(&self, handover: &Handover, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.meter.inside_of(|| self.inner.hand_over(handover, watch))
    }
}
