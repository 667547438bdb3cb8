//! A host as its configuration says it is: with another capacity than it reports, or with its guests' load in place of the
//! node's (where several hosts share one machine, the node's load is everybody's).

use super::{Definition, Fate, Handover, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::model::{Abilities, Capacity, HostReport, Mark, Sighting, Timestamp, VmId};
use std::sync::Arc;

/// A connection whose reports are adjusted before anybody sees them.
pub struct Adjusted {
    inner: Arc<dyn Hypervisor>,
    capacity: Option<Capacity>,
    load_of_guests: bool,
}

impl Adjusted {
    /// Adjusts a host. With `load_of_guests`, the host's load is the sum of its guests'.
    pub fn new(inner: Arc<dyn Hypervisor>, capacity: Option<Capacity>, load_of_guests: bool) -> Adjusted {
        Adjusted { inner, capacity, load_of_guests }
    }
}

impl Hypervisor for Adjusted {
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        let mut report = self.inner.report(asked_at)?;
        report.capacity = self.capacity.unwrap_or(report.capacity);
        report.load = report.load.filter(|_| !self.load_of_guests);
        Ok(report)
    }

    fn abilities(&self) -> Result<Abilities, HypervisorError> {
        self.inner.abilities()
    }

    fn subscribe(&self, sink: NoticeSink) {
        self.inner.subscribe(sink);
    }

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        self.inner.mark(vm)
    }

    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.inner.execute(order, watch)
    }

    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError> {
        self.inner.recover(order, watch)
    }

    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.inner.look(vm)
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        self.inner.definition(vm)
    }

    fn hand_over(&self, handover: &Handover, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.inner.hand_over(handover, watch)
    }
}
