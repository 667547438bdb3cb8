//! What a simulated day comes to.

use crate::hypervisor::simulated::Meter;
use crate::model::Timestamp;
use serde::Serialize;

/// The figures of a world over a whole run: energy, moves, and how far guests got what they wanted. Ratios are shares of 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Energy that the hosts drew.
    pub energy_kwh: f64,
    /// Migrations that were started.
    pub migrations: u64,
    /// SLA violation time per active host: the share of the hosts' active time in which they gave their guests less than
    /// these wanted.
    pub slatah: f64,
    /// Performance degradation due to migrations: what guests wanted and did not get while they were moved, as a share of all
    /// that they wanted.
    pub pdm: f64,
    /// `slatah` times `pdm`.
    pub slav: f64,
    /// `energy_kwh` times `slav`.
    pub esv: f64,
    /// What guests wanted and did not get, as a share of all that they wanted.
    pub overall_sla: f64,
    /// How often a host became idle.
    pub host_shutdowns: u64,
    /// How long a host was in use before it became idle, in the mean; 0 where none did.
    pub mean_time_before_shutdown_s: f64,
}

impl Figures {
    /// What the meter of a simulated fleet says, up to an instant.
    pub fn of_fleet(meter: &Meter, at: Timestamp) -> Figures {
        let measured = meter.figures(at);
        Figures {
            energy_kwh: measured.energy_kwh,
            migrations: measured.migrations,
            slatah: measured.slatah,
            pdm: measured.pdm,
            slav: measured.slav,
            esv: measured.esv,
            overall_sla: measured.overall_sla,
            host_shutdowns: measured.host_shutdowns,
            mean_time_before_shutdown_s: measured.mean_time_before_shutdown_s.unwrap_or(0.0),
        }
    }
}
