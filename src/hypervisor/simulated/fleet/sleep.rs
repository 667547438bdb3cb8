//! Hosts that sleep while they have nothing to do.
//!
//! ```text
//!          no active guest for `sleeps_after`               a guest is sent, or started, there
//!   Awake ------------------------------------> Asleep -----------------------------------------> Waking
//!     ^                                                                                              |
//!     +----------------------------------------------- after `wakes_in` -----------------------------+
//! ```
//! What is sent there waits until it is awake. It answers all the time, as its management controller would. A host that loses
//! its power is awake when it comes back.

use super::orders::{JobId, OrderState, Stage};
use super::*;
use crate::model::ActionKind;

/// Is a host awake?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// It is; since when it has had nothing to do, if so.
    Awake { idle_since: Option<Timestamp> },
    /// It is not.
    Asleep,
    /// It will be, then.
    Waking { until: Timestamp },
}

impl Sleep {
    /// Awake, and nothing is known of what it has to do.
    pub(super) const AWAKE: Sleep = Sleep::Awake { idle_since: None };
}

impl Fleet {
    /// A host that may sleep is looked at again: has it anything to do?
    pub(super) fn look_whether_idle(&mut self, host: &HostId) {
        let Some(machine) = self.hosts.get(host) else { return };
        let (Some(idle), false) = (machine.idle, machine.has(Trouble::Dies)) else { return };
        let (is_active, is_held) = (self.has_active(host), self.is_held(host));
        let now = self.now;
        let Some(machine) = self.hosts.get_mut(host) else { return };
        match machine.sleep {
            // Whatever brought a guest there did not ask first.
            Sleep::Asleep | Sleep::Waking { .. } if is_active => machine.sleep = Sleep::AWAKE,
            Sleep::Awake { .. } if is_held => machine.sleep = Sleep::AWAKE,
            Sleep::Awake { idle_since: None } => {
                machine.sleep = Sleep::Awake { idle_since: Some(now) };
                self.at(now + idle.sleeps_after, Occurrence::FallsAsleep(host.clone(), now));
            }
            Sleep::Awake { .. } | Sleep::Asleep | Sleep::Waking { .. } => {}
        }
    }

    /// Does a guest take up room on the host?
    fn has_active(&self, host: &HostId) -> bool {
        let Some(machine) = self.hosts.get(host) else { return false };
        let here = machine.guests.iter().filter_map(|vm| self.guests.get(vm)).any(Guest::is_active);
        here || self.copies_on(host).any(|(_, copy)| copy.state != VmState::Off)
    }

    /// The same, or will one soon?
    fn is_held(&self, host: &HostId) -> bool {
        let Some(machine) = self.hosts.get(host) else { return false };
        let starting = || machine.guests.iter().filter_map(|vm| self.guests.get(vm)).any(|guest| guest.starting);
        !machine.moves.is_empty() || !machine.incoming.is_empty() || self.has_active(host) || starting()
    }

    pub(super) fn falls_asleep(&mut self, host: &HostId, since: Timestamp) {
        let Some(machine) = self.hosts.get_mut(host) else { return };
        if machine.sleep == (Sleep::Awake { idle_since: Some(since) }) {
            machine.sleep = Sleep::Asleep;
            self.touch(host);
        }
    }

    /// Wakes a host that is not awake; when it will be.
    fn wake(&mut self, host: &HostId) -> Option<Timestamp> {
        let machine = self.hosts.get_mut(host)?;
        match machine.sleep {
            Sleep::Awake { .. } => None,
            Sleep::Waking { until } => Some(until),
            Sleep::Asleep => {
                let until = self.now + machine.idle.map_or(Span::ZERO, |idle| idle.wakes_in);
                machine.sleep = Sleep::Waking { until };
                self.at(until, Occurrence::Wakes(host.clone(), until));
                self.touch(host);
                Some(until)
            }
        }
    }

    pub(super) fn wakes(&mut self, host: &HostId, at: Timestamp) {
        let Some(machine) = self.hosts.get_mut(host) else { return };
        if machine.sleep == (Sleep::Waking { until: at }) {
            machine.sleep = Sleep::AWAKE;
            self.touch(host);
        }
    }

    /// Lets an order wait for the host that it needs awake; `false`: it need not wait.
    pub(super) fn waits_for_host(&mut self, job: &JobId) -> bool {
        let Some(run) = self.orders.get(job) else { return false };
        let needed = match &run.order.kind {
            ActionKind::Start { .. } | ActionKind::Restore { .. } => Some(&run.host),
            ActionKind::Migrate { live, .. } if *live || run.handover.is_some() => {
                run.order.destination.as_ref().map(|destination| &destination.host)
            }
            _ => None,
        };
        let Some(until) = needed.cloned().and_then(|host| self.wake(&host)) else { return false };
        if let Some(run) = self.orders.get_mut(job) {
            run.stage = Stage::AwaitsHost;
        }
        self.order_at(job, until);
        true
    }

    /// The host that an order waited for should be awake: it is begun in earnest, if it still can be.
    pub(super) fn host_awaited(&mut self, job: &JobId) {
        let Some(run) = self.orders.get(job).cloned() else { return };
        let Some(guest) = run.order.kind.vm().and_then(|vm| self.guests.get(&vm)) else { return };
        let still = match &run.order.kind {
            ActionKind::Migrate { live: true, .. } => self.check_target(&run.host, guest, &run.order),
            _ => Ok(()),
        };
        match still {
            Ok(()) => self.carry_on(job),
            Err(error) => self.end(job, OrderState::Failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fleet_plan::FleetPlan;
    use super::super::super::{Fault, Mishap};
    use super::*;
    use crate::hypervisor::{Destination, MigrationLimits, Order};
    use crate::model::ActionId;

    const PLAN: &str = "
hosts:
  - { name: a, cpus: 4, memory_mib: 8192, bandwidth_mib_per_s: 100, power: hp-ml110-g4 }
  - name: b
    cpus: 4
    memory_mib: 8192
    bandwidth_mib_per_s: 100
    power: hp-ml110-g4
    idle: { sleeps_after: 5m, wakes_in: 90s, asleep_watts: 5 }
guests:
  - { name: web, on: [a], vcpus: 2, memory_mib: 1000, mark: { plane: p, epoch: 1 }, load: { cpu: 0.5, dirty_mib_per_s: 0 } }
  - { name: off, on: [b], vcpus: 2, memory_mib: 1000, running: false, mark: { plane: p, epoch: 1 }, load: { cpu: 0.5 } }
times: { migration_cpu: 0, boot: 0s, start: 1s }
";

    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(&FleetPlan::parse("fleet.yaml", PLAN).unwrap(), Timestamp(0)).unwrap();
        fleet.measure(Span::minutes(5));
        fleet
    }

    /// Lets the fleet go through all that happens up to an instant, as a simulation does.
    fn run(fleet: &mut Fleet, to: Timestamp) {
        while let Some(next) = fleet.next_change_at().filter(|next| *next <= to) {
            fleet.advance(next);
        }
        fleet.advance(to);
    }

    fn order(number: u64, kind: ActionKind) -> Order {
        let to = match &kind {
            ActionKind::Migrate { to, .. } => to.clone(),
            _ => None,
        };
        let destination = to.map(|host| Destination { host, uri: "".into(), migration_uri: None });
        let (plane, limits) = ("p".into(), MigrationLimits::default());
        Order { action: ActionId(number), kind, plane, epoch: 1, expects: None, destination, limits }
    }

    fn asleep(fleet: &mut Fleet, host: &str) -> Option<bool> {
        let now = fleet.now();
        fleet.report(&host.into(), now, None).unwrap().0.load.unwrap().asleep
    }

    fn state(fleet: &Fleet, number: u64) -> OrderState {
        fleet.poll(&JobId::Action("p".into(), ActionId(number))).unwrap()
    }

    #[test]
    fn a_host_without_guests_sleeps_and_a_guest_that_is_sent_there_waits_until_it_is_awake() {
        let mut fleet = fleet();
        let (web, minutes) = (fleet.guest_named("web").unwrap().id, |minutes: i64| Timestamp(minutes * 60_000));
        run(&mut fleet, Timestamp(minutes(5).0 - 1));
        assert_eq!((asleep(&mut fleet, "a"), asleep(&mut fleet, "b")), (None, Some(false)));
        run(&mut fleet, minutes(10));
        assert_eq!(asleep(&mut fleet, "b"), Some(true));
        let migrate = order(1, ActionKind::Migrate { vm: web, to: Some("b".into()), live: true });
        fleet.begin(&"a".into(), &migrate, minutes(10)).unwrap();
        run(&mut fleet, Timestamp(minutes(10).0 + 89_000));
        assert_eq!(asleep(&mut fleet, "b"), Some(true), "still on its way");
        assert!(fleet.host(&"b".into()).unwrap().incoming.is_empty(), "nothing is sent to a host that sleeps");
        // 1,000 MiB at 100 MiB a second, and the switch.
        run(&mut fleet, Timestamp(minutes(10).0 + 90_000 + 10_050));
        assert_eq!(state(&fleet, 1), OrderState::Done);
        assert_eq!((asleep(&mut fleet, "b"), fleet.guest(web).unwrap().host.as_str()), (Some(false), "b"));

        run(&mut fleet, minutes(20));
        let figures = fleet.meter().unwrap().figures(minutes(20));
        // Host a: 25 % busy until its guest has left, then nothing to do, but it never sleeps. Host b: idle for 5 minutes, asleep
        // for 5, waking for 90 s under full load, idle while the guest comes, then 25 % busy.
        let (gone, rest) = (600.0 + 90.0 + 10.05, 1_200.0 - (600.0 + 90.0 + 10.05));
        let a = 94.3 * (gone - 0.05) + 86.0 * (rest + 0.05);
        let b = 86.0 * 300.0 + 5.0 * 300.0 + 117.0 * 90.0 + 86.0 * 10.05 + 94.3 * rest;
        let near = |found: f64, joules: f64| assert!((found - joules / 3.6e6).abs() < 1e-9, "{} {joules}", found * 3.6e6);
        near(figures.energy_kwh_by_host[&HostId::from("a")], a);
        near(figures.energy_kwh_by_host[&HostId::from("b")], b);
        assert_eq!((figures.host_shutdowns, figures.mean_time_before_shutdown_s), (1, Some(300.0)));
        assert_eq!((figures.migrations, figures.migrations_ended, figures.slatah), (1, 1, 0.0));
        // It wants one core throughout; it was slowed by a tenth for ten seconds, and stood still for the switch.
        let lost = 0.1 * 10.0 + 0.05;
        assert!((figures.pdm - lost / 1_200.0).abs() < 1e-9, "{}", figures.pdm);
        assert!((figures.overall_sla - lost / 1_200.0).abs() < 1e-9, "{}", figures.overall_sla);
        assert!((figures.host_hours_on - (1_200.0 + 900.0) / 3_600.0).abs() < 1e-9);
    }

    #[test]
    fn a_guest_that_is_started_wakes_its_host_and_one_that_goes_off_lets_it_sleep() {
        let mut fleet = fleet();
        let off = fleet.guest_named("off").unwrap().id;
        run(&mut fleet, Timestamp(400_000));
        fleet.begin(&"b".into(), &order(1, ActionKind::Start { vm: off }), Timestamp(400_000)).unwrap();
        assert_eq!(fleet.held_mib(&"b".into()), 1_000, "its memory is spoken for");
        run(&mut fleet, Timestamp(490_999));
        assert!(matches!(state(&fleet, 1), OrderState::Running(_)));
        run(&mut fleet, Timestamp(491_000));
        assert_eq!((state(&fleet, 1), fleet.guest(off).unwrap().state), (OrderState::Done, VmState::Running));
        fleet.inject(&Fault::Guest { vm: off, mishap: Mishap::Stops }, Timestamp(500_000));
        run(&mut fleet, Timestamp(799_999));
        assert_eq!(asleep(&mut fleet, "b"), Some(false));
        run(&mut fleet, Timestamp(800_000));
        assert_eq!(asleep(&mut fleet, "b"), Some(true));
        // Started, and thought better of: the host wakes in vain, and sleeps again when it has had nothing to do for long enough.
        fleet.begin(&"b".into(), &order(2, ActionKind::Start { vm: off }), Timestamp(800_000)).unwrap();
        assert!(fleet.cancel(&JobId::Action("p".into(), ActionId(2)), Timestamp(801_000)));
        run(&mut fleet, Timestamp(890_000 + 299_999));
        assert_eq!((asleep(&mut fleet, "b"), fleet.guest(off).unwrap().state), (Some(false), VmState::Off));
        run(&mut fleet, Timestamp(890_000 + 300_000));
        assert_eq!(asleep(&mut fleet, "b"), Some(true));
    }

    #[test]
    fn a_host_that_loses_its_power_while_it_wakes_fails_what_waited_for_it() {
        let mut fleet = fleet();
        let off = fleet.guest_named("off").unwrap().id;
        run(&mut fleet, Timestamp(400_000));
        fleet.begin(&"b".into(), &order(1, ActionKind::Start { vm: off }), Timestamp(400_000)).unwrap();
        let dies = Fault::Host { host: "b".into(), trouble: Trouble::Dies, lasts: Span::seconds(20) };
        fleet.inject(&dies, Timestamp(410_000));
        assert!(matches!(state(&fleet, 1), OrderState::Failed(_)));
        run(&mut fleet, Timestamp(500_000));
        assert_eq!(asleep(&mut fleet, "b"), Some(false), "it came back by itself");
        assert_eq!(fleet.held_mib(&"b".into()), 0);
        run(&mut fleet, Timestamp(430_000 + 300_000));
        assert_eq!(asleep(&mut fleet, "b"), Some(true));
        let figures = fleet.meter().unwrap().figures(Timestamp(730_000));
        assert_eq!((figures.host_shutdowns, figures.mean_time_before_shutdown_s), (2, Some(300.0)));
    }
}
