//! A guest of the fleet.

use super::super::load::Signal;
use super::orders::JobId;
use crate::hypervisor::Seal;
use crate::model::{Description, HostId, Reason, Span, Timestamp, VmId, VmLoad, VmState};
use globset::GlobSet;

/// A simulated guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its identity.
    pub id: VmId,
    /// Where it is defined; during a live migration still the source.
    pub host: HostId,
    /// Its definition.
    pub description: Description,
    /// What it does.
    pub state: VmState,
    /// Why.
    pub reason: Reason,
    /// Memory it holds while it is active, in MiB.
    pub balloon_mib: u64,
    /// Is its memory saved on disk?
    pub saved: bool,
    /// The handover it is sealed for.
    pub seal: Option<Seal>,
    /// Its host starts it by itself once it is nobody's any more but its owner's; noted, for meanwhile it must not.
    pub(super) autostart_after: bool,
    /// What works on it.
    pub work: Option<JobId>,
    pub(super) definition: u64,
    /// It is being started: its memory is spoken for.
    pub(super) starting: bool,
    pub(super) booted_at: Timestamp,
    pub(super) disk_mib: u64,
    pub(super) has_agent: bool,
    /// Its agent is connected.
    pub(super) agent_up: bool,
    pub(super) ignores_shutdown: bool,
    /// It was asked to shut down and goes off then, whoever still waits for it: what was asked cannot be taken back.
    pub(super) goes_off_at: Option<Timestamp>,
    /// Who asked last, and waits for it to be off.
    pub(super) awaited_by: Option<JobId>,
    pub(super) dirty_mib_per_s: f64,
    /// Heated until then: it wants at least this share of its processors.
    pub(super) heated: Option<(Timestamp, f64)>,
    pub(super) signals: Signals,
}

#[derive(Debug, Clone)]
pub(super) struct Signals {
    pub(super) cpu: Signal,
    pub(super) memory: Signal,
    pub(super) disk_mib_per_s: Signal,
    pub(super) iops: Signal,
    pub(super) net_mib_per_s: Signal,
}

/// Guests of one of these hosts get busy.
#[derive(Debug, Clone)]
pub(super) struct Heat {
    pub(super) hosts: Vec<HostId>,
    pub(super) guests: GlobSet,
    pub(super) count: usize,
    pub(super) cpu: f64,
    pub(super) lasts: Span,
}

impl Guest {
    /// Does it take up room on its host?
    pub fn is_active(&self) -> bool {
        matches!(self.state, VmState::Running | VmState::Paused | VmState::Asleep)
    }

    /// Memory it takes from its host, in MiB; counted from the moment its start was begun.
    pub fn held_mib(&self) -> u64 {
        if self.is_active() || self.starting { self.balloon_mib } else { 0 }
    }

    /// Cores it wants to use now, as far as it can want anything.
    pub(super) fn demand(&mut self, now: Timestamp, since_start: Span) -> f64 {
        if self.state == VmState::Running { self.wants(now, since_start) } else { 0.0 }
    }

    /// Cores it wants to use now, or would, did it run.
    pub(super) fn wants(&mut self, now: Timestamp, since_start: Span) -> f64 {
        let mut share = self.signals.cpu.value(since_start).min(1.0);
        match self.heated {
            Some((until, cpu)) if now < until => share = share.max(cpu),
            Some(_) => self.heated = None,
            None => {}
        }
        let cores = share * f64::from(self.description.vcpus);
        // Booting keeps one processor busy.
        if now < self.booted_at { cores.max(1.0) } else { cores }
    }

    /// Its sample, where it gets so many cores of those it wants.
    pub(super) fn load(&mut self, since_start: Span, demand: f64, given: f64) -> VmLoad {
        if !self.is_active() {
            return VmLoad::default();
        }
        let runs = f64::from(u8::from(self.state == VmState::Running));
        let used = self.signals.memory.value(since_start) * self.description.memory_mib as f64;
        let bytes = |mib_per_s: f64| Some((mib_per_s * 1_048_576.0 * runs) as f32);
        VmLoad {
            cpu_cores: Some(given as f32),
            cpu_wait_cores: Some((demand - given) as f32),
            memory_used_mib: Some(used.min(self.balloon_mib as f64) as f32),
            disk_bytes_per_s: bytes(self.signals.disk_mib_per_s.value(since_start)),
            disk_iops: Some((self.signals.iops.value(since_start) * runs) as f32),
            net_bytes_per_s: bytes(self.signals.net_mib_per_s.value(since_start)),
        }
    }
}
