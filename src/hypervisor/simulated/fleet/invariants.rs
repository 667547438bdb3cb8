//! What always holds of a fleet, whatever is asked of it and whatever goes wrong: tried with random calls.

use super::super::fleet_plan::{FleetPlan, GuestPlan, HostPlan, IdlePlan, LoadPlan};
use super::super::{Fault, Mishap, Trouble};
use super::orders::{JobId, Stage};
use super::sleep::Sleep;
use super::*;
use crate::hypervisor::{Destination, HandoverStep, MigrationLimits, Order, Rewriting, Transfer};
use crate::migration::ResumeBy;
use crate::model::{ActionId, ActionKind, Mark};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;

const HOSTS: [&str; 3] = ["a", "b", "c"];
const GUESTS: usize = 6;

fn plan(seed: u64) -> FleetPlan {
    let idle = IdlePlan { sleeps_after: Span::seconds(4), wakes_in: Span::seconds(2), wake_watts: None, asleep_watts: 0.0 };
    // One of them never sleeps.
    let idle = |name: &str| (name != "a").then_some(idle);
    let host =
        |name: &str| HostPlan { name: name.to_owned(), cpus: 4, memory_mib: 3_200, idle: idle(name), ..HostPlan::default() };
    let hosts = HOSTS.map(host);
    let guests = GuestPlan {
        name: "g-{n}".to_owned(),
        count: GUESTS as u32,
        memory_mib: 1_024,
        autostart: true,
        mark: Some(Mark { plane: "p".into(), epoch: 1 }),
        load: LoadPlan { dirty_mib_per_s: 5.0, ..LoadPlan::default() },
        ..GuestPlan::default()
    };
    let mut plan = FleetPlan { seed, hosts: hosts.into(), guests: vec![guests], ..FleetPlan::default() };
    plan.chances.migration_fails = 0.1;
    plan.chances.order_refused = 0.05;
    plan.chances.guest_crashes = 2.0;
    plan.chances.host_hangs = 1.0;
    plan
}

/// One random call.
#[derive(Debug, Clone)]
enum Deed {
    Begin {
        host: Option<usize>,
        guest: usize,
        what: u8,
        target: usize,
        slow: bool,
    },
    Cancel {
        back: u64,
    },
    /// A step of one of two handovers; by one of two planes, which may be wrong about whose the guest is.
    Step {
        host: Option<usize>,
        guest: usize,
        attempt: u8,
        what: u8,
        target: usize,
        mark: bool,
        becomes: bool,
    },
    CancelStep(u8),
    Inject(usize, u8, u64),
    Pass(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let begin = (proptest::option::weighted(0.1, 0..3_usize), 0..GUESTS + 2, 0..18_u8, 0..3_usize, any::<bool>())
        .prop_map(|(host, guest, what, target, slow)| Deed::Begin { host, guest, what, target, slow });
    let cancel = (1..4_u64).prop_map(|back| Deed::Cancel { back });
    let rarely = || proptest::bool::weighted(0.15);
    let step = (proptest::option::weighted(0.4, 0..3_usize), 0..2_usize, 0..2_u8, 0..9_u8, 0..3_usize, rarely(), rarely());
    let step = step.prop_map(|(host, guest, attempt, what, target, mark, becomes)| Deed::Step {
        host,
        guest,
        attempt,
        what,
        target,
        mark,
        becomes,
    });
    let cancel_step = (0..2_u8).prop_map(Deed::CancelStep);
    let inject = (0..GUESTS, 0..12_u8, 1..60_000_u64).prop_map(|(whom, what, lasts)| Deed::Inject(whom, what, lasts));
    let pass = (0..20_000_u64).prop_map(Deed::Pass);
    let short = (0..300_u64).prop_map(Deed::Pass);
    proptest::collection::vec(
        prop_oneof![5 => begin, 5 => step, 1 => cancel, 1 => cancel_step, 1 => inject, 1 => pass, 2 => short],
        1..80,
    )
}

fn name_of(guest: usize) -> String {
    format!("g-{}", guest + 1)
}

/// The guest's UUID, whether it exists or not: the last two are defined by the deeds.
fn vm_of(fleet: &Fleet, guest: usize) -> VmId {
    let defined = VmId(uuid::Uuid::from_u128(guest as u128 + 1));
    fleet.guest_named(&name_of(guest)).map_or(defined, |guest| guest.id)
}

fn mark_of(other: bool) -> Mark {
    if other { Mark { plane: "q".into(), epoch: 2 } } else { Mark { plane: "p".into(), epoch: 1 } }
}

fn step_of(vm: VmId, guest: usize, attempt: u8, what: u8, target: &HostId, mark: bool, becomes: bool) -> Handover {
    let destination = Destination { host: target.clone(), uri: "".into(), migration_uri: None };
    let (limits, rewriting) = (MigrationLimits::default(), Rewriting::default());
    let transfer = || Box::new(Transfer { destination, limits, resume: ResumeBy::Manager, rewriting: rewriting.clone() });
    let step = match what {
        0 | 1 => HandoverStep::Seal { becomes: mark_of(becomes) },
        2 => HandoverStep::Resume { becomes: mark_of(becomes), start: true },
        3 | 4 => HandoverStep::Move(transfer()),
        5 => HandoverStep::Copy(transfer()),
        6 => HandoverStep::Resume { becomes: mark_of(becomes), start: false },
        7 => HandoverStep::Remove { running: false },
        _ => {
            let xml = format!("<domain><name>{}</name><memory unit='GiB'>1</memory></domain>", name_of(guest));
            HandoverStep::Define { xml: xml.into(), rewriting, trusted: false, autostart: false, needs: Vec::new() }
        }
    };
    Handover { id: format!("p/{guest}{attempt}").into(), plane: mark_of(mark).plane, vm, mark: mark_of(mark), step }
}

fn kind_of(vm: VmId, guest: usize, what: u8, target: &HostId) -> ActionKind {
    match what {
        0 => ActionKind::Start { vm },
        1 => ActionKind::Shutdown { vm, force_after: Some(Span::seconds(1)) },
        2 => ActionKind::Destroy { vm },
        3 => ActionKind::Suspend { vm },
        4 => ActionKind::Resume { vm },
        5 => ActionKind::Save { vm },
        6 => ActionKind::Restore { vm },
        7 => ActionKind::SetMemory { vm, memory_mib: 512 * (1 + guest as u64 % 4) },
        8 => ActionKind::Balloon { vm, memory_mib: 300 * (1 + guest as u64) },
        9 => ActionKind::Undefine { vm },
        10 => {
            let xml = format!("<domain><name>{}</name><memory unit='GiB'>2</memory></domain>", name_of(guest));
            ActionKind::Define { vm, host: target.clone(), xml: xml.into() }
        }
        11 | 12 => ActionKind::Migrate { vm, to: Some(target.clone()), live: false },
        13 => ActionKind::Start { vm },
        _ => ActionKind::Migrate { vm, to: Some(target.clone()), live: true },
    }
}

/// Does what is asked, and writes everything down that could be seen.
fn play(seed: u64, deeds: &[Deed]) -> Result<(String, Fleet, Vec<LogLine>), TestCaseError> {
    let mut fleet = Fleet::new(&plan(seed), Timestamp(1_000)).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let (mut seen, mut next, mut now) = (String::new(), 1, Timestamp(1_000));
    let mut log = fleet.take_log();
    for deed in deeds {
        match deed {
            Deed::Begin { host, guest, what, target, slow } => {
                let (vm, target) = (vm_of(&fleet, *guest), HostId::from(HOSTS[*target]));
                let limits = MigrationLimits { bandwidth_mib_per_s: slow.then_some(50), ..MigrationLimits::default() };
                let order = Order {
                    action: ActionId(next),
                    kind: kind_of(vm, *guest, *what, &target),
                    plane: "p".into(),
                    epoch: 1,
                    expects: None,
                    destination: matches!(what, 11 | 12 | 14..).then(|| Destination {
                        host: target,
                        uri: "".into(),
                        migration_uri: None,
                    }),
                    limits,
                };
                // Now and then a number is used twice.
                next += u64::from(*guest != 3);
                let at = fleet.guest(vm).map_or_else(|| "a".into(), |guest| guest.host.clone());
                let host = host.map_or(at, |host| HOSTS[host].into());
                seen += &format!("{:?}\n", fleet.begin(&host, &order, now));
            }
            Deed::Cancel { back } => {
                let job = JobId::Action("p".into(), ActionId(next.saturating_sub(*back)));
                seen += &format!("{}\n", fleet.cancel(&job, now));
            }
            Deed::Step { host, guest, attempt, what, target, mark, becomes } => {
                let (vm, target) = (vm_of(&fleet, *guest), HostId::from(HOSTS[*target]));
                let step = step_of(vm, *guest, *attempt, *what, &target, *mark, *becomes);
                let at: HostId = fleet.guest(vm).map_or_else(|| "a".into(), |guest| guest.host.clone());
                let host: HostId = host.map_or(at.clone(), |host| HOSTS[host].into());
                // Which of two hosts may let it run is for the planes to settle, not for the hosts.
                if host != at && matches!(step.step, HandoverStep::Resume { .. }) {
                    continue;
                }
                let begun = fleet.hand_over(&host, &step, now);
                seen += &format!("{begun:?}\n");
                let lines = fleet.log.len();
                if begun.is_ok() {
                    prop_assert_eq!(fleet.hand_over(&host, &step, now), begun, "a step that is repeated is the same step");
                    prop_assert_eq!(fleet.log.len(), lines, "and does nothing");
                }
            }
            Deed::CancelStep(attempt) => {
                let job = JobId::Handover(format!("p/0{attempt}").into());
                seen += &format!("{}\n", fleet.cancel(&job, now));
            }
            Deed::Inject(whom, what, lasts) => fleet.inject(&fault(&fleet, *whom, *what, Span(*lasts)), now),
            Deed::Pass(ms) => now = now + Span(*ms),
        }
        seen += &format!("{:?}\n", fleet.advance(now));
        let new = fleet.take_log();
        let moved = new.iter().filter_map(|line| match line {
            LogLine::Effect(effect) if effect.outcome == Outcome::Done => Some((effect.vm, effect.target.as_ref()?)),
            LogLine::Step(step) if step.outcome == Outcome::Done && *step.step == *"move" => {
                Some((step.vm, step.target.as_ref()?))
            }
            _ => None,
        });
        for (vm, target) in moved {
            prop_assert_eq!(Some(target), fleet.guest(vm).map(|guest| &guest.host), "it is not where it was moved to");
        }
        log.extend(new);
        audit(&mut fleet, &log, &mut seen)?;
    }
    // Left alone, everything comes to an end.
    fleet.chances = Default::default();
    fleet.advance(now + Span::hours(3));
    log.extend(fleet.take_log());
    audit(&mut fleet, &log, &mut seen)?;
    let open: Vec<_> = fleet.orders.iter().filter(|(_, run)| !matches!(run.stage, Stage::Ended(_))).collect();
    prop_assert!(open.is_empty(), "still open: {open:?}");
    seen += &format!("{log:?}\n");
    Ok((seen, fleet, log))
}

fn fault(fleet: &Fleet, whom: usize, what: u8, lasts: Span) -> Fault {
    let host = HostId::from(HOSTS[whom % 3]);
    let troubles = [
        Trouble::Dies,
        Trouble::Hangs,
        Trouble::Lost,
        Trouble::Refuses,
        Trouble::MigrationsFail(40),
        Trouble::CutAtSwitch,
        Trouble::KilledAtSwitch,
    ];
    match what {
        0..7 => Fault::Host { host, trouble: troubles[what as usize], lasts },
        _ => {
            let mishaps =
                [Mishap::Crashes, Mishap::Stops, Mishap::Sleeps, Mishap::IoError { disk: None }, Mishap::AgentLost { lasts }];
            Fault::Guest { vm: vm_of(fleet, whom), mishap: mishaps[what as usize - 7].clone() }
        }
    }
}

fn audit(fleet: &mut Fleet, log: &[LogLine], seen: &mut String) -> Result<(), TestCaseError> {
    for (vm, guest) in &fleet.guests {
        let on: Vec<_> = fleet.hosts.iter().filter(|(_, machine)| machine.guests.contains(vm)).map(|(id, _)| id).collect();
        prop_assert_eq!(on, [&guest.host], "a guest is defined on one host");
        prop_assert!(guest.balloon_mib <= guest.description.memory_mib);
        let work = guest.work.as_ref().and_then(|job| fleet.orders.get(job));
        prop_assert!(guest.work.is_none() || work.is_some_and(|run| run.begun && !matches!(run.stage, Stage::Ended(_))));
    }
    for (id, machine) in &fleet.hosts {
        prop_assert!(machine.guests.iter().all(|vm| fleet.guests.contains_key(vm)));
        prop_assert!(fleet.held_mib(id) <= machine.capacity.memory_mib, "a host holds more memory than it has");
        let runs = |vm: &VmId| fleet.guests.get(vm).is_some_and(Guest::is_active);
        let sleeps = matches!(machine.sleep, Sleep::Asleep | Sleep::Waking { .. }) && !fleet.touched.contains(id);
        prop_assert!(!sleeps || !machine.guests.iter().any(runs), "a guest is active on a host that sleeps");
        for (vm, _) in fleet.copies_on(id) {
            let guest = fleet.guests.get(vm);
            prop_assert!(guest.is_some_and(|guest| guest.host != *id), "a copy is a second appearance, on another host");
            prop_assert!(!machine.incoming.contains_key(vm));
        }
        for (vm, (job, _)) in &machine.incoming {
            let run = &fleet.orders[job];
            prop_assert!(matches!(run.stage, Stage::Migrating(_)) && run.order.kind.vm() == Some(*vm) && run.host != *id);
        }
        prop_assert!(machine.moves.iter().all(|job| matches!(fleet.orders[job].stage, Stage::Migrating(_))));
    }
    let mut running = BTreeSet::new();
    let hosts: Vec<HostId> = fleet.hosts.keys().cloned().collect();
    for host in hosts {
        let report = fleet.report(&host, Timestamp(0), None);
        if let Ok((report, _)) = &report {
            for domain in report.domains.iter().filter(|domain| domain.state == VmState::Running) {
                prop_assert!(running.insert(domain.vm), "a guest runs on two hosts");
            }
            prop_assert!(report.load.is_none_or(|load| load.cpu_cores <= report.capacity.cpus as f32 + 0.001));
        }
        *seen += &format!("{report:?}\n");
    }
    for (job, run) in &fleet.orders {
        let of = |wanted: fn(&Outcome) -> bool| {
            let outcomes = log.iter().filter_map(|line| match (line, job) {
                (LogLine::Effect(effect), JobId::Action(plane, action)) => {
                    (effect.plane == *plane && effect.action == *action).then_some(&effect.outcome)
                }
                (LogLine::Step(step), JobId::Handover(id)) => {
                    let lasts = matches!(&*step.step, "move" | "copy");
                    (step.handover == *id && lasts).then_some(&step.outcome)
                }
                _ => None,
            });
            outcomes.filter(|outcome| wanted(outcome)).count()
        };
        let begun = of(|outcome| *outcome == Outcome::Begun);
        let ended = of(|outcome| !matches!(outcome, Outcome::Begun | Outcome::Double));
        let is_over = matches!(run.stage, Stage::Ended(_));
        match job {
            JobId::Action(..) => {
                prop_assert_eq!(begun, usize::from(run.begun), "an order is begun once");
                prop_assert_eq!(ended, usize::from(run.begun && is_over), "and ends once");
            }
            // A move that failed may be asked for again.
            JobId::Handover(_) => prop_assert_eq!(begun, ended + usize::from(!is_over), "what is begun ends once"),
        }
    }
    // The log alone tells who runs where.
    let mut logged = BTreeSet::new();
    for line in log {
        let LogLine::Run(run) = line else { continue };
        let place = (run.vm, run.host.clone());
        let changed = if run.runs { logged.insert(place) } else { logged.remove(&place) };
        prop_assert!(changed, "it is said twice: {run:?}");
        let twice = logged.iter().filter(|(vm, _)| *vm == run.vm).count() > 1;
        prop_assert!(!twice, "a guest runs on two hosts: {run:?}");
    }
    let running = fleet.guests.values().filter(|guest| guest.state == VmState::Running);
    prop_assert_eq!(logged, running.map(|guest| (guest.id, guest.host.clone())).collect());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(seed in 0..1_000_u64, deeds in deeds()) {
        let (seen, ..) = play(seed, &deeds)?;
        let (again, ..) = play(seed, &deeds)?;
        prop_assert_eq!(seen, again, "same seed, same calls: same bytes");
    }
}

#[test]
fn contention_and_the_cost_of_migrations_are_those_computed_by_hand() {
    // 4 cores; three guests of 2 processors at 100 % want 6 cores and get 4/3 each.
    let busy = GuestPlan {
        name: "busy-{n}".to_owned(),
        count: 3,
        on: vec!["a".to_owned()],
        memory_mib: 1_024,
        mark: Some(Mark { plane: "p".into(), epoch: 1 }),
        load: LoadPlan { cpu: super::super::Shape::Constant(1.0), dirty_mib_per_s: 0.0, ..LoadPlan::default() },
        ..GuestPlan::default()
    };
    let mut plan = FleetPlan { guests: vec![busy], chances: Default::default(), ..plan(1) };
    plan.times.migration_cpu = 0.1;
    let mut fleet = Fleet::new(&plan, Timestamp(0)).unwrap();
    let (a, b) = (HostId::from("a"), HostId::from("b"));
    let load = |fleet: &mut Fleet, host: &HostId| {
        let (report, _) = fleet.report(host, Timestamp(0), None).unwrap();
        let domain = report.domains[0].load;
        (report.load.unwrap(), domain)
    };
    let (host, domain) = load(&mut fleet, &a);
    assert_eq!((host.cpu_cores, host.cpu_wait_cores, host.memory_used_mib), (4.0, 2.0, 3_072.0));
    assert_eq!((domain.cpu_cores, domain.cpu_wait_cores), (Some(4.0 / 3.0), Some(2.0 / 3.0)));
    // While one of them moves, 0.2 cores on either host go there, and its memory counts on both.
    let vm = fleet.guest_named("busy-1").unwrap().id;
    let order = Order {
        action: ActionId(1),
        kind: ActionKind::Migrate { vm, to: Some(b.clone()), live: true },
        plane: "p".into(),
        epoch: 1,
        expects: None,
        destination: Some(Destination { host: b.clone(), uri: "".into(), migration_uri: None }),
        limits: MigrationLimits::default(),
    };
    fleet.begin(&a, &order, Timestamp(0)).unwrap();
    let (host, domain) = load(&mut fleet, &a);
    assert_eq!((host.cpu_cores, host.cpu_wait_cores), (4.0, 2.2));
    assert_eq!(domain.cpu_cores, Some((3.8 / 3.0) as f32));
    let (host, domain) = load(&mut fleet, &b);
    assert_eq!((host.cpu_cores, host.memory_used_mib, domain.cpu_cores), (0.2, 1_024.0, None));
    // 1,024 MiB at 1,000 MiB/s, then the pause of 50 ms.
    assert_eq!(fleet.advance(Timestamp(1_073)).ended, []);
    assert_eq!(fleet.advance(Timestamp(1_074)).ended, [JobId::Action("p".into(), ActionId(1))]);
    let (host, domain) = load(&mut fleet, &b);
    assert_eq!((host.cpu_cores, host.cpu_wait_cores, domain.cpu_cores), (2.0, 0.0, Some(2.0)));
}

#[test]
fn a_schedule_and_heats_are_kept() {
    let text = "
seed: 3
hosts: [{ name: 'h-{n}', count: 2 }]
guests: [{ name: 'g-{n}', count: 4, load: { cpu: 0.1 } }]
heats: [{ at: 10s, every: 1m, for: 20s, cpu: 0.9, count: 1 }]
faults:
  - { at: 15s, every: 1h, fault: guest_crashes, guest: g-2 }
  - { at: 20s, for: 5s, fault: host_lost, host: h-1 }
";
    let mut fleet = Fleet::new(&FleetPlan::parse("fleet.yaml", text).unwrap(), Timestamp(0)).unwrap();
    let cores = |fleet: &mut Fleet, host: &str| -> f32 {
        fleet.report(&host.into(), Timestamp(0), None).map_or(-1.0, |(report, _)| report.load.unwrap_or_default().cpu_cores)
    };
    assert_eq!(cores(&mut fleet, "h-1"), 0.4);
    fleet.advance(Timestamp(10_000));
    assert_eq!((cores(&mut fleet, "h-1"), cores(&mut fleet, "h-2")), (2.0, 0.4));
    let crash = fleet.advance(Timestamp(15_000)).notices.remove(0);
    assert_eq!((crash.0.as_str(), crash.1.body), ("h-2", NoticeBody::State(VmState::Crashed, Reason::Crashed)));
    fleet.advance(Timestamp(21_000));
    assert_eq!(cores(&mut fleet, "h-1"), -1.0);
    fleet.advance(Timestamp(30_000));
    assert_eq!(cores(&mut fleet, "h-1"), 0.4, "back, and cooled down");
    fleet.advance(Timestamp(70_000));
    assert_eq!((cores(&mut fleet, "h-1"), cores(&mut fleet, "h-2")), (0.4, 1.8), "the next one's turn");
}

#[test]
fn chances_strike_about_as_often_as_they_are_set() {
    let mut plan = plan(9);
    plan.chances = super::super::Chances { guest_reboots: 1.0, ..Default::default() };
    let mut fleet = Fleet::new(&plan, Timestamp(0)).unwrap();
    let changes = fleet.advance(Timestamp(100 * 3_600_000));
    let reboots = changes.notices.iter().filter(|(_, notice)| notice.body == NoticeBody::Rebooted).count();
    // 6 guests, once an hour each, for 100 hours: 600, give or take four standard deviations.
    assert!((500..700).contains(&reboots), "{reboots}");
}

#[test]
fn the_random_deeds_reach_every_kind_of_order_and_end() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut ends: BTreeMap<(String, &str), u32> = BTreeMap::new();
    for seed in 0..300 {
        let deeds = deeds().new_tree(&mut runner).unwrap().current();
        for line in play(seed, &deeds).unwrap().2 {
            let (verb, outcome) = match line {
                LogLine::Effect(effect) => (effect.verb.to_string(), effect.outcome),
                LogLine::Step(step) => (format!("handover {}", step.step), step.outcome),
                LogLine::Run(_) => continue,
            };
            let end = match outcome {
                Outcome::Begun => continue,
                Outcome::Done => "done",
                Outcome::Failed { .. } => "failed",
                Outcome::Cancelled => "cancelled",
                Outcome::Double => "double",
            };
            *ends.entry((verb, end)).or_default() += 1;
        }
    }
    let count = |verb: &str, end: &str| ends.get(&(verb.to_owned(), end)).copied().unwrap_or(0);
    for verb in ["start", "shutdown", "destroy", "suspend", "resume", "save", "restore", "migrate", "define", "undefine"] {
        assert!(count(verb, "done") > 0, "no {verb} was done: {ends:?}");
    }
    for step in ["seal", "define", "move", "resume", "remove"] {
        assert!(count(&format!("handover {step}"), "done") > 0, "no step {step} was done: {ends:?}");
    }
    for end in ["failed", "cancelled"] {
        assert!(count("handover move", end) > 0, "no handover's move ended as {end}: {ends:?}");
    }
    for end in ["failed", "cancelled", "double"] {
        assert!(count("migrate", end) > 0, "no migration ended as {end}: {ends:?}");
    }
}

#[test]
fn memory_is_spoken_for_from_the_beginning_of_a_start() {
    let text = "
hosts: [{ name: a, memory_mib: 3000 }]
guests: [{ name: 'g-{n}', count: 2, running: false, mark: { plane: p, epoch: 1 } }]
";
    let mut fleet = Fleet::new(&FleetPlan::parse("fleet.yaml", text).unwrap(), Timestamp(0)).unwrap();
    let vms: Vec<VmId> = fleet.guests().map(|guest| guest.id).collect();
    let mut start = |number: usize| {
        let order = Order {
            action: ActionId(number as u64),
            kind: ActionKind::Start { vm: vms[number] },
            plane: "p".into(),
            epoch: 1,
            expects: None,
            destination: None,
            limits: MigrationLimits::default(),
        };
        fleet.begin(&"a".into(), &order, Timestamp(0)).map_err(|error| error.what)
    };
    assert_eq!(start(0), Ok(()));
    assert_eq!(start(1), Err("host a cannot allocate 2048 MiB for guest g-2: 952 MiB are free".to_owned()));
}
