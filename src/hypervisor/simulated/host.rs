//! One host of a simulated fleet as the rest of the house sees it: a [`Hypervisor`], whether the fleet is in this process or in
//! another one.

use super::fleet::{Begun, JobId, OrderState, Seen};
use super::wire::{Answer, Call};
use crate::hypervisor::{Definition, ErrorKind, Fate, Handover, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::model::{HostId, HostReport, Mark, Progress, Sighting, Span, Timestamp, VmId};
use std::sync::{Arc, Mutex, PoisonError};

/// A call to a host that hangs is given up after this, unless set otherwise.
pub(super) const PATIENCE: Span = Span::seconds(30);

/// The way to a fleet. Calls return at once.
pub(super) trait Door: Send + Sync {
    /// Asks the fleet.
    fn call(&self, call: Call) -> Result<Answer, HypervisorError>;

    /// From now on, tells `sink` what this host says.
    fn subscribe(&self, host: &HostId, sink: NoticeSink);

    /// Lets a moment pass, until something may have changed.
    fn pause(&self);

    /// The time of the plane.
    fn now(&self) -> Timestamp;
}

/// A connection to one host of a simulated fleet.
pub struct SimulatedHost {
    host: HostId,
    door: Arc<dyn Door>,
    patience: Span,
    seen: Mutex<Option<Seen>>,
}

impl SimulatedHost {
    pub(super) fn new(host: HostId, door: Arc<dyn Door>) -> SimulatedHost {
        SimulatedHost { host, door, patience: PATIENCE, seen: Mutex::new(None) }
    }

    /// The same, but a call to the host is given up when it has not answered for so long.
    pub fn with_patience(self, patience: Span) -> SimulatedHost {
        SimulatedHost { patience, ..self }
    }

    /// Asks until the host answers, or patience is at its end.
    fn ask(&self, call: &Call) -> Result<Answer, HypervisorError> {
        let asked_at = self.door.now();
        loop {
            match self.door.call(call.clone())? {
                Answer::Stalled => self.bear_since(asked_at)?,
                answer => return Ok(answer),
            }
            self.door.pause();
        }
    }

    fn bear_since(&self, since: Timestamp) -> Result<(), HypervisorError> {
        if self.door.now().since(since) < self.patience {
            return Ok(());
        }
        let what = format!("host {} has not answered for {}; is its hypervisor hung?", self.host, self.patience);
        Err(HypervisorError::new(ErrorKind::Unreachable, what))
    }

    fn misunderstood(&self) -> HypervisorError {
        HypervisorError::new(ErrorKind::Failed, format!("host {}: the simulated fleet answered something else", self.host))
    }

    /// Waits for an order's end. An error means that it cannot be known now.
    fn follow(&self, job: &JobId, watch: &dyn Watch) -> Result<Option<OrderState>, HypervisorError> {
        let mut stalled_since = None;
        let mut told = Progress::default();
        loop {
            let call = Call::Poll { host: self.host.clone(), job: job.clone() };
            let Answer::State { state, stalled } = self.door.call(call)? else { return Err(self.misunderstood()) };
            match &state {
                None if stalled => {}
                None => return Ok(None),
                Some(state) if state.is_final() => return Ok(Some(state.clone())),
                Some(OrderState::Running(progress)) if *progress != told => {
                    told = *progress;
                    watch.progress(told);
                }
                Some(_) => {}
            }
            let waiting = state == Some(OrderState::Waiting);
            if stalled {
                let since = *stalled_since.get_or_insert(self.door.now());
                if let Err(error) = self.bear_since(since) {
                    // What the host has not read yet goes with the connection; what it has begun goes on.
                    if !waiting {
                        return Err(error);
                    }
                    self.door.call(Call::Cancel { job: job.clone() })?;
                    // The host may have answered, and begun it, just before.
                    let call = Call::Poll { host: self.host.clone(), job: job.clone() };
                    match self.door.call(call)? {
                        Answer::State { state: Some(OrderState::Cancelled) | None, .. } => return Err(error),
                        _ => stalled_since = None,
                    }
                }
            } else {
                stalled_since = None;
            }
            if watch.is_cancelled() && (waiting || !stalled) {
                self.door.call(Call::Cancel { job: job.clone() })?;
            }
            self.door.pause();
        }
    }
}

impl SimulatedHost {
    /// What came of a job that was begun.
    fn end(&self, state: Option<OrderState>, job: &str) -> Result<(), HypervisorError> {
        match state {
            Some(OrderState::Done) => Ok(()),
            Some(OrderState::Failed(error)) => Err(error),
            Some(OrderState::Cancelled) => {
                let what = format!("{job} on host {} was cancelled", self.host);
                Err(HypervisorError::new(ErrorKind::Cancelled, what))
            }
            _ => Err(HypervisorError::new(ErrorKind::Failed, format!("host {} lost {job}", self.host))),
        }
    }
}

impl Hypervisor for SimulatedHost {
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.take();
        match self.ask(&Call::Report { host: self.host.clone(), asked_at, seen: before })? {
            Answer::Report(report, now_seen) => {
                *seen = Some(now_seen);
                Ok(*report)
            }
            _ => Err(self.misunderstood()),
        }
    }

    fn subscribe(&self, sink: NoticeSink) {
        self.door.subscribe(&self.host, sink);
    }

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        match self.ask(&Call::Mark { host: self.host.clone(), vm })? {
            Answer::Mark(mark) => Ok(mark),
            _ => Err(self.misunderstood()),
        }
    }

    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.door.call(Call::Begin { host: self.host.clone(), order: Box::new(order.clone()) })?;
        self.end(self.follow(&JobId::of(order), watch)?, &format!("action {}", order.action))
    }

    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError> {
        let job = JobId::of(order);
        self.door.call(Call::Fence { job: job.clone() })?;
        Ok(match self.follow(&job, watch)? {
            Some(OrderState::Done) => Fate::Done,
            Some(OrderState::Failed(error)) => Fate::NotDone(error.what),
            Some(OrderState::Cancelled) => Fate::NotDone("it was cancelled".to_owned()),
            _ => Fate::NotDone(format!("host {} never began it", self.host)),
        })
    }
    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        match self.ask(&Call::Look { host: self.host.clone(), vm })? {
            Answer::Sighting(sighting) => Ok(sighting),
            _ => Err(self.misunderstood()),
        }
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        match self.ask(&Call::Definition { host: self.host.clone(), vm })? {
            Answer::Definition(definition) => Ok(definition),
            _ => Err(self.misunderstood()),
        }
    }

    fn hand_over(&self, handover: &Handover, watch: &dyn Watch) -> Result<(), HypervisorError> {
        let call = Call::HandOver { host: self.host.clone(), handover: Box::new(handover.clone()) };
        match self.ask(&call)? {
            Answer::Begun(Begun::Done) => Ok(()),
            Answer::Begun(Begun::Job(job)) => {
                let name = format!("{} of handover {}", handover.step.name(), handover.id);
                self.end(self.follow(&job, watch)?, &name)
            }
            _ => Err(self.misunderstood()),
        }
    }
}
