//! What is counted: how long hosts were in use and gave too little, and what guests wanted and got.
//!
//! Hosts and guests are recorded at every update; a record holds until the next one, and one at the same instant takes its
//! place. All shares are of pooled sums, over all hosts or all guests, not means of their shares.

use super::cluster::Cluster;
use crate::simulate::figures::Figures;

/// What a host gave and was asked for at an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostRecord {
    pub at_s: f64,
    pub granted_mips: f64,
    pub requested_mips: f64,
}

/// A host's day until now.
#[derive(Debug, Clone, Default)]
pub(super) struct HostTally {
    last: Option<HostRecord>,
    /// Since when it has been idle or in use, at the latest record that holds.
    idle: bool,
    in_use_since_s: f64,
    in_use_s: f64,
    violated_s: f64,
    shutdowns: u64,
    before_shutdowns_s: f64,
}

impl HostTally {
    pub fn record(&mut self, record: HostRecord) {
        if let Some(last) = self.last.filter(|last| last.at_s < record.at_s) {
            self.settle(last);
            if last.granted_mips > 0.0 {
                let span = record.at_s - last.at_s;
                self.in_use_s += span;
                self.violated_s += if last.granted_mips < last.requested_mips { span } else { 0.0 };
            }
        }
        self.last = Some(record);
    }

    /// Is there nothing to record for as long as the host stays idle?
    pub fn rests(&self) -> bool {
        self.last.is_some_and(|last| last.granted_mips == 0.0)
    }

    /// The record stays: did the host become idle, or come into use?
    fn settle(&mut self, record: HostRecord) {
        let idle = record.granted_mips == 0.0;
        match (self.idle, idle) {
            (false, true) => {
                self.shutdowns += 1;
                self.before_shutdowns_s += record.at_s - self.in_use_since_s;
            }
            (true, false) => self.in_use_since_s = record.at_s,
            _ => {}
        }
        self.idle = idle;
    }
}

/// What a guest wanted and got at an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuestRecord {
    pub at_s: f64,
    pub granted_mips: f64,
    pub demand_mips: f64,
    pub moving: bool,
}

/// A guest's day until now, in MIPS times seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestTally {
    last: Option<GuestRecord>,
    granted: f64,
    wanted: f64,
    lost_moving: f64,
}

impl GuestTally {
    pub fn record(&mut self, record: GuestRecord) {
        if let Some(last) = self.last.filter(|last| last.at_s < record.at_s) {
            let span = record.at_s - last.at_s;
            self.granted += last.granted_mips * span;
            self.wanted += last.demand_mips * span;
            if last.moving && last.granted_mips < last.demand_mips {
                self.lost_moving += (last.demand_mips - last.granted_mips) * span;
            }
        }
        self.last = Some(record);
    }
}

/// The figures of a day that is over.
pub(super) fn figures(energy_kwh: f64, migrations: u64, cluster: &mut Cluster) -> Figures {
    let Cluster { hosts, guests, .. } = cluster;
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    for host in hosts.iter_mut() {
        if let Some(last) = host.tally.last {
            host.tally.settle(last);
        }
    }
    let host = |figure: fn(&HostTally) -> f64| hosts.iter().map(|host| figure(&host.tally)).sum::<f64>();
    let guest = |figure: fn(&GuestTally) -> f64| guests.iter().map(|guest| figure(&guest.tally)).sum::<f64>();
    let (wanted, granted) = (guest(|tally| tally.wanted), guest(|tally| tally.granted));
    let slatah = ratio(host(|tally| tally.violated_s), host(|tally| tally.in_use_s));
    let pdm = ratio(guest(|tally| tally.lost_moving), wanted);
    let host_shutdowns = hosts.iter().map(|host| host.tally.shutdowns).sum();
    Figures {
        energy_kwh,
        migrations,
        slatah,
        pdm,
        slav: slatah * pdm,
        esv: energy_kwh * (slatah * pdm),
        overall_sla: ratio(wanted - granted, wanted),
        host_shutdowns,
        mean_time_before_shutdown_s: ratio(host(|tally| tally.before_shutdowns_s), host_shutdowns as f64),
    }
}
