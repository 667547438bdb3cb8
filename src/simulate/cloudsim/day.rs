//! The clock: ticks, and the instants at which moves finish.

use super::cluster::{Cluster, Guest, Host, Resident};
use super::host::{HostKind, LEAVING, Presence};
use super::metrics::{GuestRecord, HostRecord, figures};
use super::placement;
use super::{HOSTS, Power, SIZES, Setup};
use crate::plan::trial::MOVED_MB_PER_S;
use crate::simulate::figures::Figures;
use crate::simulate::traces::{Trace, Traces};
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;

/// The samples of a day.
pub const SAMPLES: usize = 288;
/// The time from one sample to the next.
pub const SAMPLE_S: f64 = 300.0;
/// Guests begin to work so long after the day has begun, and each tick comes so long after a sample.
const BEGIN_S: f64 = 0.1;
const WS_PER_KWH: f64 = 3.6e6;

/// A day that cannot begin.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Unfit {
    /// The samples are not five minutes apart.
    #[error("the samples of the trace are {step_s} s apart; here they must be {SAMPLE_S} s apart")]
    Step {
        /// How far they are apart.
        step_s: u32,
    },
    /// The samples are no day.
    #[error("guest `{guest}` has {samples} samples; a day here has {SAMPLES}: cut the trace into days")]
    Samples {
        /// The guest's name.
        guest: String,
        /// How many it has.
        samples: usize,
    },
    /// A guest has no place.
    #[error(
        "guest `{guest}` ({mips} MIPS, {memory_mb} MB) finds no host with room for it when the day begins: give fewer guests"
    )]
    Unplaced {
        /// The guest's name.
        guest: String,
        /// Its MIPS.
        mips: f64,
        /// Its memory.
        memory_mb: f64,
    },
}

/// Moves a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The guest's number.
    pub guest: usize,
    /// The host's number.
    pub to: usize,
}

/// A move that cannot be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Illegal {
    /// There is no such guest, or it is gone.
    #[error("guest {0} is not there to be moved")]
    NoGuest(usize),
    /// There is no such host.
    #[error("guest {0} cannot be moved to host {1}: there is no such host")]
    NoHost(usize, usize),
    /// It is there, or on its way.
    #[error("guest {0} is on host {1} already, or on its way")]
    Already(usize, usize),
}

#[derive(Debug)]
struct UnderWay {
    ends_s: f64,
    guest: usize,
    to: usize,
}

/// A day in the compatibility world.
#[derive(Debug)]
pub struct Day {
    traces: Arc<Traces>,
    power: Power,
    cluster: Arc<Cluster>,
    /// The time of the last update.
    now_s: f64,
    next_tick_s: f64,
    ticks: usize,
    under_way: VecDeque<UnderWay>,
    energy_ws: f64,
    migrations: u64,
    grants: Vec<f64>,
}

impl Day {
    /// The beginning of a day, with a guest for each trace: [`SAMPLES`] samples, each a share of its MIPS.
    pub fn new(traces: &Arc<Traces>, setup: &Setup) -> Result<Day, Unfit> {
        if f64::from(traces.step_s) != SAMPLE_S {
            return Err(Unfit::Step { step_s: traces.step_s });
        }
        if let Some(trace) = traces.guests.iter().find(|trace| trace.percent.len() != SAMPLES) {
            return Err(Unfit::Samples { guest: trace.name.clone(), samples: trace.percent.len() });
        }
        let kinds = HostKind::both().map(Arc::new);
        let count = traces.guests.len();
        let block = count.div_ceil(SIZES.len()).max(1);
        let mut cluster = Cluster {
            hosts: (0..HOSTS).map(|index| Host::new(kinds[index % kinds.len()].clone())).collect(),
            guests: (0..count).map(|index| Guest::new(SIZES[index / block])).collect(),
            memory_mb: setup.memory_mb,
        };
        placement::place(&mut cluster, setup.placement).map_err(|guest| {
            let (name, size) = (traces.guests[guest].name.clone(), &cluster.guests[guest]);
            Unfit::Unplaced { guest: name, mips: size.mips, memory_mb: size.memory_mb }
        })?;
        Ok(Day {
            traces: traces.clone(),
            power: setup.power,
            cluster: Arc::new(cluster),
            now_s: 0.0,
            next_tick_s: BEGIN_S + SAMPLE_S,
            ticks: 0,
            under_way: VecDeque::new(),
            energy_ws: 0.0,
            migrations: 0,
            grants: Vec::new(),
        })
    }

    /// Lets time pass until the next moves end; gives when, and those that end then, in their order. `None` where none is under
    /// way. They all end before the next tick.
    pub fn finish_next(&mut self) -> Option<(f64, Vec<Move>)> {
        let at_s = self.under_way.front()?.ends_s;
        self.update(at_s);
        self.forget_idle();
        let mut ended = Vec::new();
        while let Some(done) = self.under_way.pop_front_if(|next| next.ends_s == at_s) {
            let cluster = Arc::make_mut(&mut self.cluster);
            let guest = &mut cluster.guests[done.guest];
            let source = guest.host.replace(done.to);
            guest.moving = false;
            let from = source.into_iter().chain([done.to]);
            for host in from {
                cluster.hosts[host].residents.retain(|resident| resident.guest != done.guest);
            }
            cluster.hosts[done.to].residents.push(Resident { guest: done.guest, arriving: false });
            ended.push(Move { guest: done.guest, to: done.to });
        }
        self.update(at_s);
        self.forget_idle();
        Some((at_s, ended))
    }

    /// Lets time pass until the next tick, and shows what is so then; `None` when there is no further one. Whoever keeps what
    /// is shown costs a copy of it.
    pub fn next_tick(&mut self) -> Option<&Arc<Cluster>> {
        while self.finish_next().is_some() {}
        self.ticks += 1;
        if self.ticks >= SAMPLES {
            return None;
        }
        self.update(self.next_tick_s);
        for guest in Arc::make_mut(&mut self.cluster).guests.iter_mut().filter(|guest| guest.host.is_some()) {
            guest.history.rotate_right(1);
            guest.history[0] = guest.utilisation;
        }
        self.forget_idle();
        self.next_tick_s += SAMPLE_S;
        Some(&self.cluster)
    }

    /// Begins moves, in their order, up to the first that cannot be begun. A guest may be moved to several hosts at once: it
    /// ends on the last, and each move counts.
    pub fn start(&mut self, moves: &[Move]) -> Result<(), Illegal> {
        for &Move { guest, to } in moves {
            let cluster = Arc::make_mut(&mut self.cluster);
            let source = cluster.guests.get(guest).and_then(|guest| guest.host).ok_or(Illegal::NoGuest(guest))?;
            let target = cluster.hosts.get_mut(to).ok_or(Illegal::NoHost(guest, to))?;
            if target.guests().any(|there| there == guest) {
                return Err(Illegal::Already(guest, to));
            }
            target.residents.push(Resident { guest, arriving: true });
            let moved = &mut cluster.guests[guest];
            moved.moving = true;
            let ends_s = self.now_s + moved.memory_mb / MOVED_MB_PER_S;
            let place = self.under_way.partition_point(|other| other.ends_s <= ends_s);
            self.under_way.insert(place, UnderWay { ends_s, guest, to });
            self.migrations += 1;
            self.refresh(to);
            self.refresh(source);
        }
        Ok(())
    }

    /// What is so now.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The time of what is so, in seconds since the day began.
    pub fn now_s(&self) -> f64 {
        self.now_s
    }

    /// The energy drawn until now.
    pub fn energy_kwh(&self) -> f64 {
        self.energy_ws / WS_PER_KWH
    }

    /// The figures, once the day is over.
    pub fn figures(mut self) -> Figures {
        let energy_kwh = self.energy_kwh();
        figures(energy_kwh, self.migrations, Arc::make_mut(&mut self.cluster))
    }

    /// Updates all guests and hosts to a time, and adds the energy drawn since the last update.
    fn update(&mut self, at_s: f64) {
        let span_s = at_s - self.now_s;
        self.now_s = at_s;
        let (before, after) = ((at_s / SAMPLE_S).floor(), (at_s / SAMPLE_S).ceil());
        let sample = |trace: &Trace, index: f64| f64::from(trace.percent[(index as usize).min(SAMPLES - 1)]) / 100.0;
        let guests = Arc::make_mut(&mut self.cluster).guests.iter_mut().zip(&self.traces.guests);
        for (guest, trace) in guests.filter(|(guest, _)| guest.host.is_some()) {
            let (from, to) = (sample(trace, before), sample(trace, after));
            let slope = if after > before { (to - from) / ((after - before) * SAMPLE_S) } else { 0.0 };
            guest.utilisation = from + slope * (at_s - before * SAMPLE_S);
            guest.demand_mips = guest.utilisation * guest.mips;
        }
        let mut energy_ws = 0.0;
        for index in 0..self.cluster.hosts.len() {
            let (utilisation, watts) = (self.cluster.hosts[index].utilisation, self.cluster.hosts[index].watts);
            self.refresh(index);
            let host = &self.cluster.hosts[index];
            energy_ws += match self.power {
                Power::AlwaysFull => host.kind.curve.top() * span_s,
                Power::ByUse if utilisation == 0.0 => 0.0,
                Power::ByUse => (watts + (host.watts - watts) / 2.0) * span_s,
            };
        }
        self.energy_ws += energy_ws;
    }

    /// Shares a host's MIPS out anew, at the present instant, and records it.
    fn refresh(&mut self, index: usize) {
        let cluster = Arc::make_mut(&mut self.cluster);
        let (host, guests) = (&mut cluster.hosts[index], &mut cluster.guests);
        if host.residents.is_empty() && host.tally.rests() {
            return;
        }
        let wanted = host.residents.iter().map(|resident| {
            let guest = &guests[resident.guest];
            (guest.demand_mips, guest.presence(resident.arriving))
        });
        host.kind.share(wanted, &mut self.grants);
        let (mut granted_mips, mut requested_mips) = (0.0, 0.0);
        for (resident, grant) in host.residents.iter().zip(&self.grants) {
            let guest = &mut guests[resident.guest];
            let presence = guest.presence(resident.arriving);
            granted_mips += if presence == Presence::Leaving { grant / LEAVING } else { *grant };
            requested_mips += guest.demand_mips;
            if presence != Presence::Arriving {
                guest.tally.record(GuestRecord {
                    at_s: self.now_s,
                    granted_mips: *grant,
                    demand_mips: guest.demand_mips,
                    moving: guest.moving,
                });
            }
        }
        host.granted_mips = granted_mips;
        host.utilisation = (granted_mips / host.kind.total_mips).min(1.0);
        host.watts = host.kind.curve.watts(host.utilisation);
        host.tally.record(HostRecord { at_s: self.now_s, granted_mips, requested_mips });
    }

    /// Guests that want nothing are gone for the rest of the day, unless they are being moved.
    fn forget_idle(&mut self) {
        let Cluster { hosts, guests, .. } = Arc::make_mut(&mut self.cluster);
        for (index, guest) in guests.iter_mut().enumerate() {
            if let Some(host) = guest.host.take_if(|_| !guest.moving && guest.demand_mips == 0.0) {
                hosts[host].residents.retain(|resident| resident.guest != index);
            }
        }
    }
}
