//! A host of the fleet, asked at one instant, as a plane's effectors would ask its hypervisor.

use crate::hypervisor::simulated::{Begun, Fleet};
use crate::hypervisor::{Definition, ErrorKind, Fate, Handover, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::model::{HostId, HostReport, Mark, Progress, Sighting, Timestamp, VmId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's page. The lock is for the trait only: there is one thread.
pub(super) struct AtHost<'a> {
    fleet: Mutex<&'a mut Fleet>,
    host: &'a HostId,
    now: Timestamp,
}

impl<'a> AtHost<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, host: &'a HostId, now: Timestamp) -> AtHost<'a> {
        AtHost { fleet: Mutex::new(fleet), host, now }
    }

    fn fleet(&self) -> MutexGuard<'_, &'a mut Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody watches: what takes time is polled.
pub(super) struct Nobody;

impl Watch for Nobody {
    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn not_here<T>() -> Result<T, HypervisorError> {
    Err(HypervisorError::new(ErrorKind::Unsupported, "planes in virtual time ask the fleet itself"))
}

impl Hypervisor for AtHost<'_> {
    fn report(&self, _: Timestamp) -> Result<HostReport, HypervisorError> {
        not_here()
    }

    fn subscribe(&self, _: NoticeSink) {}

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        self.fleet().mark(self.host, vm)
    }

    fn execute(&self, _: &Order, _: &dyn Watch) -> Result<(), HypervisorError> {
        not_here()
    }

    fn recover(&self, _: &Order, _: &dyn Watch) -> Result<Fate, HypervisorError> {
        not_here()
    }

    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.fleet().look(self.host, vm)
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        self.fleet().definition(self.host, vm)
    }

    fn hand_over(&self, handover: &Handover, _: &dyn Watch) -> Result<(), HypervisorError> {
        match self.fleet().hand_over(self.host, handover, self.now)? {
            Begun::Done => Ok(()),
            Begun::Job(_) => not_here(),
        }
    }
}
