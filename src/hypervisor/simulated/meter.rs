//! What a fleet cost and what its guests went without, measured over a run.
//!
//! Pure: it is told what holds of a host from an instant on ([`Meter::set`]), and what held before counts up to that instant. So
//! the first interval counts, and so does the last, up to the moment for which [`Meter::figures`] is asked.
//!
//! The figures are those of the consolidation literature (Beloglazov and Buyya 2012), without its artefacts: a host counts as
//! short only when its own guests want more than they get, never because a guest is on its way to it; what a guest loses to its
//! own migration counts where it was lost. Each is pooled: sums over all hosts or guests are divided, not the shares of each averaged.

use crate::model::{HostId, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Whether a host has power, as the meter counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It is on: awake, or on its way to be.
    #[default]
    On,
    /// It sleeps.
    Asleep,
    /// It has no power.
    Dead,
}

/// What holds of a host from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Is it on?
    pub phase: Phase,
    /// What it takes, in watts; `None` where its power curve is not known.
    pub watts: Option<f64>,
    /// Does a guest run there?
    pub is_active: bool,
    /// Do its guests want more than it has to give?
    pub is_short: bool,
    /// Cores its guests could use.
    pub wanted: f64,
    /// Cores' worth of work they get done.
    pub given: f64,
    /// Cores' worth of work that they miss because they are being migrated.
    pub lost_to_moves: f64,
}

/// What became of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// It was begun.
    Begun,
    /// The guest has arrived.
    Ended,
    /// The guest stays where it was.
    Failed,
}

/// The fleet at an instant, for plots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// What all hosts take, in watts.
    pub watts: f64,
    /// Hosts that are on.
    pub hosts_on: u32,
    /// Cores that guests could use.
    pub wanted: f64,
    /// Cores' worth of work they get done.
    pub given: f64,
    /// Migrations begun since the point before.
    pub migrations: u64,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Energy of all hosts whose power curve is known, in kWh.
    pub energy_kwh: f64,
    /// Live migrations begun.
    pub migrations: u64,
    /// Of these, those that brought the guest there.
    pub migrations_ended: u64,
    /// Of these, those that left it where it was.
    pub migrations_failed: u64,
    /// Share of the time of hosts with running guests in which these wanted more than the host had to give.
    pub slatah: f64,
    /// What guests lost to their own migrations, over what they wanted.
    pub pdm: f64,
    /// `slatah` times `pdm`.
    pub slav: f64,
    /// `energy_kwh` times `slav`.
    pub esv: f64,
    /// What guests wanted and did not get, over what they wanted.
    pub overall_sla: f64,
    /// How often a host went to sleep.
    pub host_shutdowns: u64,
    /// How long hosts had been on when they went to sleep, on average; `None` where none did.
    pub mean_time_before_shutdown_s: Option<f64>,
    /// Hours that hosts were on, together.
    pub host_hours_on: f64,
    /// Energy of each host whose power curve is known, in kWh.
    pub energy_kwh_by_host: BTreeMap<HostId, f64>,
}

/// Sums up to an instant.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    active_ms: u64,
    short_ms: u64,
    on_ms: u64,
    wanted: f64,
    given: f64,
    lost_to_moves: f64,
}

/// One host's account.
#[derive(Debug, Clone)]
struct Account {
    standing: Standing,
    /// Since when that holds.
    since: Timestamp,
    /// Since when it is on.
    on_since: Timestamp,
    joules: Option<f64>,
}

impl Account {
    /// Counts what holds up to an instant.
    fn settle(&mut self, at: Timestamp, sums: &mut Sums) {
        let Standing { phase, watts, is_active, is_short, wanted, given, lost_to_moves } = self.standing;
        let span = at.since(self.since);
        self.since = self.since.max(at);
        let (ms, seconds) = (span.0, span.as_seconds());
        sums.active_ms += if is_active { ms } else { 0 };
        sums.short_ms += if is_active && is_short { ms } else { 0 };
        sums.on_ms += if phase == Phase::On { ms } else { 0 };
        sums.wanted += wanted * seconds;
        sums.given += given * seconds;
        sums.lost_to_moves += lost_to_moves * seconds;
        if let Some(watts) = watts {
            *self.joules.get_or_insert(0.0) += watts * seconds;
        }
    }
}

/// See the module's page.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    hosts: BTreeMap<HostId, Account>,
    sums: Sums,
    begun: u64,
    /// Of these, those that the points tell of.
    told: u64,
    ended: u64,
    failed: u64,
    shutdowns: u64,
    /// Time on before shutdowns, together.
    before_shutdown_ms: u64,
    points: Vec<Point>,
}

impl Meter {
    /// From now on this holds of a host. Of one that was not told of before, nothing held.
    pub fn set(&mut self, host: &HostId, at: Timestamp, standing: Standing) {
        let Some(account) = self.hosts.get_mut(host) else {
            let account = Account { standing, since: at, on_since: at, joules: None };
            self.hosts.insert(host.clone(), account);
            return;
        };
        account.settle(at, &mut self.sums);
        let before = std::mem::replace(&mut account.standing, standing).phase;
        if before != Phase::On && standing.phase == Phase::On {
            account.on_since = at;
        }
        if before == Phase::On && standing.phase == Phase::Asleep {
            self.shutdowns += 1;
            self.before_shutdown_ms += at.since(account.on_since).0;
        }
    }

    /// A guest's migration came to this.
    pub fn moved(&mut self, came: Move) {
        let count = match came {
            Move::Begun => &mut self.begun,
            Move::Ended => &mut self.ended,
            Move::Failed => &mut self.failed,
        };
        *count += 1;
    }

    /// Adds a point to the time series.
    pub fn point(&mut self, at: Timestamp) {
        let migrations = self.begun - std::mem::replace(&mut self.told, self.begun);
        let mut point = Point { at, watts: 0.0, hosts_on: 0, wanted: 0.0, given: 0.0, migrations };
        for Account { standing, .. } in self.hosts.values() {
            point.watts += standing.watts.unwrap_or(0.0);
            point.hosts_on += u32::from(standing.phase == Phase::On);
            point.wanted += standing.wanted;
            point.given += standing.given;
        }
        self.points.push(point);
    }

    /// The time series so far.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// What came of it up to an instant.
    pub fn figures(&self, at: Timestamp) -> Figures {
        let mut sums = self.sums;
        let mut energy_kwh_by_host = BTreeMap::new();
        for (host, account) in &self.hosts {
            let mut account = account.clone();
            account.settle(at, &mut sums);
            if let Some(joules) = account.joules {
                energy_kwh_by_host.insert(host.clone(), joules / JOULES_A_KWH);
            }
        }
        // (An empty sum would be -0.)
        let energy_kwh = energy_kwh_by_host.values().fold(0.0, |all, kwh| all + kwh);
        let slatah = share(sums.short_ms as f64, sums.active_ms as f64);
        let pdm = share(sums.lost_to_moves, sums.wanted);
        let slav = slatah * pdm;
        let before_shutdown = || self.before_shutdown_ms as f64 / 1_000.0 / self.shutdowns as f64;
        Figures {
            energy_kwh,
            migrations: self.begun,
            migrations_ended: self.ended,
            migrations_failed: self.failed,
            slatah,
            pdm,
            slav,
            esv: energy_kwh * slav,
            overall_sla: share(sums.wanted - sums.given, sums.wanted),
            host_shutdowns: self.shutdowns,
            mean_time_before_shutdown_s: (self.shutdowns > 0).then(before_shutdown),
            host_hours_on: sums.on_ms as f64 / 3_600_000.0,
            energy_kwh_by_host,
        }
    }
}

const JOULES_A_KWH: f64 = 3.6e6;

/// A part of a whole; of nothing, nothing is missing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(i64) -> Timestamp = |second| Timestamp(second * 1_000);

    fn on(watts: f64, wanted: f64, given: f64, lost_to_moves: f64) -> Standing {
        let is_active = wanted > 0.0;
        let is_short = wanted - given - lost_to_moves > 1e-9;
        Standing { phase: Phase::On, watts: Some(watts), is_active, is_short, wanted, given, lost_to_moves }
    }

    fn near(found: f64, computed: f64) {
        assert!((found - computed).abs() <= 1e-12 * computed.abs().max(1.0), "{found} is not {computed}");
    }

    /// Host a: 100 s with guests 1 and 2, which want 3 of its 2 cores; then guest 2 moves away for 20 s, during which it loses
    /// 0.1 cores; then guest 1 alone, 1 core, until second 200. Host b: guest 3 with 1 core throughout, and guest 2 with 2 from
    /// second 120 on.
    #[test]
    fn two_hosts_three_guests_and_a_migration_are_as_computed_by_hand() {
        let (a, b) = (HostId::from("a"), HostId::from("b"));
        let mut meter = Meter::default();
        meter.set(&a, AT(0), on(200.0, 3.0, 2.0, 0.0));
        meter.set(&b, AT(0), on(100.0, 1.0, 1.0, 0.0));
        meter.point(AT(0));
        meter.moved(Move::Begun);
        meter.set(&a, AT(100), on(200.0, 3.0, 2.9, 0.1));
        meter.moved(Move::Ended);
        meter.set(&a, AT(120), on(150.0, 1.0, 1.0, 0.0));
        meter.set(&b, AT(120), on(180.0, 3.0, 3.0, 0.0));
        meter.point(AT(120));
        let figures = meter.figures(AT(200));
        let joules = (200.0 * 120.0 + 150.0 * 80.0, 100.0 * 120.0 + 180.0 * 80.0);
        near(figures.energy_kwh_by_host[&a], joules.0 / 3.6e6);
        near(figures.energy_kwh, (joules.0 + joules.1) / 3.6e6);
        // Host a was short for 100 of the 400 s that the two were active.
        near(figures.slatah, 0.25);
        let wanted = 3.0 * 120.0 + 80.0 + 120.0 + 3.0 * 80.0;
        near(figures.pdm, 0.1 * 20.0 / wanted);
        near(figures.overall_sla, (100.0 + 2.0) / wanted);
        near(figures.slav, 0.25 * 2.0 / wanted);
        near(figures.esv, figures.energy_kwh * figures.slav);
        assert_eq!((figures.migrations, figures.migrations_ended, figures.migrations_failed), (1, 1, 0));
        near(figures.host_hours_on, 400.0 / 3_600.0);
        assert_eq!((figures.host_shutdowns, figures.mean_time_before_shutdown_s), (0, None));
        let points: Vec<_> = meter.points().iter().map(|point| (point.watts, point.wanted, point.migrations)).collect();
        assert_eq!(points, [(300.0, 4.0, 0), (330.0, 4.0, 1)]);
        // Asking changes nothing.
        assert_eq!(meter.figures(AT(200)), figures);
    }

    #[test]
    fn sleep_is_counted_and_death_is_no_shutdown() {
        let (a, b) = (HostId::from("a"), HostId::from("b"));
        let mut meter = Meter::default();
        let asleep = Standing { phase: Phase::Asleep, watts: Some(5.0), ..Standing::default() };
        let dead = Standing { phase: Phase::Dead, watts: Some(0.0), ..Standing::default() };
        meter.set(&a, AT(0), on(90.0, 0.0, 0.0, 0.0));
        meter.set(&b, AT(0), Standing { watts: None, ..Standing::default() });
        meter.set(&a, AT(300), asleep);
        meter.set(&a, AT(1_000), on(90.0, 0.0, 0.0, 0.0));
        meter.set(&a, AT(1_100), asleep);
        meter.set(&b, AT(1_100), dead);
        let figures = meter.figures(AT(2_000));
        assert_eq!((figures.host_shutdowns, figures.mean_time_before_shutdown_s), (2, Some(200.0)));
        near(figures.energy_kwh, (400.0 * 90.0 + 1_600.0 * 5.0) / 3.6e6);
        assert_eq!(figures.energy_kwh_by_host.len(), 2, "power that is known to be none counts as known");
        near(figures.host_hours_on, (300.0 + 100.0 + 1_100.0) / 3_600.0);
        assert_eq!((figures.slatah, figures.pdm, figures.overall_sla), (0.0, 0.0, 0.0));
    }
}
