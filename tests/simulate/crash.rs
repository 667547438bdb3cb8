//! The daemon dies at every write to its store in turn, and at the sync after it. Whatever was accepted is there after the
//! restart, nothing is done twice, nothing planned is forgotten.

use crate::kit::{self, Plane};
use embot::hypervisor::simulated::{Effect, Fleet, FleetPlan, Outcome};
use embot::model::{ActionId, ActionKind, Command, Input, Record, Reply, Span, Timestamp};
use embot::plan::{Guardrails, Rate};
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

const FLEET: &str = "
seed: 5
hosts: [{ name: 'host-{n}', count: 2, cpus: 8, memory_mib: 16384 }]
guests: [{ name: 'guest-{n}', count: 4, vcpus: 2, memory_mib: 1024, load: { cpu: 0.3, memory: 0.5 } }]
faults:
  - { at: 12s, fault: guest_crashes, guest: guest-2 }
  - { at: 31s, fault: guest_crashes, guest: guest-2 }
times: { boot: 2s }
";

/// Counts what it sees, in its state, and acts on it: a fact handled twice or not at all shows in the count.
const MANIFEST: &str = "
module: count
version: '1'
policies: [count.rhai]
covers: { each: vm }
mode: act
permits: [start, migrate, notify]
limits: { minimum_gain: 0 }
";
const POLICY: &str = "
fn on_crashed(vm, event) {
    this.crashes = this.get(\"crashes\", 0) + 1;
    after(seconds(2), \"again\", this.crashes);
    vm.start(`crash ${this.crashes}`);
}
fn on_timer(event) {
    this.timers = this.get(\"timers\", 0) + 1;
}
";

fn plane() -> Plane {
    let rate = Rate { actions: 1_000, per: Span::minutes(1) };
    let guardrails = Guardrails {
        cooldown: Span::seconds(1),
        module_rate: rate,
        plane_rate: rate,
        blast_radius: 1.0,
        ..Guardrails::default()
    };
    Plane { guardrails, ..Plane::default() }
}

/// One run: what was accepted, and what was done.
struct Run {
    simulation: Simulation,
    effects: Vec<Effect>,
    /// Commands the plane said yes to.
    accepted: BTreeSet<String>,
}

/// What admins do, and when.
fn script(fleet: &Fleet) -> Vec<(i64, Command)> {
    let vm = |name: &str| fleet.guest_named(name).expect("a guest of the fleet").id;
    let go = |name: &str, to: &str| {
        let kind = ActionKind::Migrate { vm: vm(name), to: Some(to.into()), live: true };
        Command::Act { kind, reason: format!("{name} to {to}").into() }
    };
    vec![
        (8_000, kit::module(MANIFEST, &[("count.rhai", POLICY)])),
        (14_000, go("guest-1", "host-2")),
        (20_000, go("guest-4", "host-1")),
        (26_000, Command::Maintenance { host: "host-2".into(), on: true }),
        (34_000, go("guest-3", "host-2")),
    ]
}

fn run(plan: &FleetPlan, disk: &SimulatedDisk, fail_at: Option<u64>, crash: Crash) -> Run {
    let fleet = Fleet::new(plan, Timestamp(0)).unwrap();
    let script = script(&fleet);
    let (store, recovered) = Store::on_disk(disk).unwrap();
    let manager = plane().manager(&fleet, recovered);
    let simulation = kit::alone(kit::plane(manager).with_store(store), fleet);
    let mut run = Run { simulation, effects: Vec::new(), accepted: BTreeSet::new() };
    if let Some(change) = fail_at {
        disk.fail_from(disk.changes() + change, ErrorKind::Other);
    }
    let mut disk = disk.clone();
    let mut steps = script.into_iter().peekable();
    while run.simulation.now() < Timestamp(60_000) {
        let due = steps.peek().map_or(60_000, |(at, _)| *at);
        let result = run.simulation.run_for(Timestamp(due).since(run.simulation.now())).and_then(|()| {
            let Some((_, command)) = steps.peek() else { return Ok(()) };
            let name = format!("{command:?}");
            match run.simulation.command(0, command.clone())? {
                Some(Reply::Done { .. }) => drop(run.accepted.insert(name)),
                // Not ready again after a restart: asked again a little later.
                Some(Reply::Refused { reason }) if reason.contains("try again") => {
                    return run.simulation.run_for(Span::seconds(1));
                }
                _ => {}
            }
            steps.next();
            Ok(())
        });
        if result.is_err() {
            // The daemon is gone; its disk is what the crash left of it.
            disk = disk.crash(crash);
            let (store, recovered) = Store::on_disk(&disk).unwrap_or_else(|error| panic!("the store does not open: {error}"));
            let manager = plane().manager(run.simulation.fleet(), recovered);
            run.simulation.restart(0, manager, store);
        }
    }
    run.effects = run.simulation.fleet_mut().take_effects();
    run
}

/// What must hold of every run, whenever the daemon died.
fn check(run: &Run, context: &str) {
    let mut begun: BTreeMap<ActionId, u32> = BTreeMap::new();
    for effect in &run.effects {
        assert_ne!(effect.outcome, Outcome::Double, "{context}: action {} was done twice", effect.action);
        *begun.entry(effect.action).or_default() += u32::from(effect.outcome == Outcome::Begun);
    }
    assert!(begun.values().all(|times| *times == 1), "{context}: an action was begun more than once: {begun:?}");
    let manager = run.simulation.manager(0);
    for action in begun.keys() {
        assert!(manager.action(*action).is_some(), "{context}: action {action} was done and is not known");
    }
    let open: Vec<_> = manager.open().map(|action| (action.id, action.state.word())).collect();
    assert!(open.is_empty(), "{context}: not ended: {open:?}");
    let journal = journal(&run.simulation);
    for command in &run.accepted {
        let times = journal.iter().filter(|line| line.as_str() == command).count();
        // More than once only where the answer was lost and the admin asked again.
        assert!(times >= 1, "{context}: an accepted command is not in the journal: {command}");
    }
}

/// The commands of the journal.
fn journal(simulation: &Simulation) -> Vec<String> {
    let journal = simulation.plane(0).store().expect("a store").journal();
    let mut commands = Vec::new();
    for batch in journal.batches(0) {
        for input in batch.expect("a readable journal").inputs {
            if let Input::Command { command, .. } = input {
                commands.push(format!("{command:?}"));
            }
        }
    }
    commands
}

/// How often the crashes of guest-2 were counted, how often its timer fired, and how many facts of its crash the journal has.
fn counts(simulation: &Simulation) -> (String, usize) {
    let embots = simulation.manager(0).embots(Some("count"));
    let embot = embots.iter().find(|embot| embot.element == "guest-2").expect("an embot");
    let state = embot.state.values().next().map(|state| state.to_json().to_string()).unwrap_or_default();
    let journal = simulation.plane(0).store().expect("a store").journal();
    let crashes = journal.batches(0).flat_map(|batch| batch.expect("a readable journal").records);
    let crashes =
        crashes.filter(|record| matches!(record, Record::Event { event } if event.body.kind().name == "crashed")).count();
    (state, crashes)
}

#[test]
fn whenever_the_daemon_dies_nothing_is_lost_or_doubled() {
    let plan = kit::fleet(FLEET);
    let calm = SimulatedDisk::default();
    let undisturbed = run(&plan, &calm, None, Crash::Killed);
    check(&undisturbed, "undisturbed");
    assert_eq!(counts(&undisturbed.simulation), (r#"{"crashes":2,"timers":2}"#.to_owned(), 2));
    assert!(undisturbed.effects.len() > 12, "little was done: {:?}", undisturbed.effects);

    let writes = calm.changes();
    // All of them where there is time; else every so many, another remainder each time the number of writes changes.
    let stride = if std::env::var_os("EMBOT_EVERY_WRITE").is_some() { 1 } else { (writes / 60).max(1) };
    let mut tried = 0;
    for at in (writes % stride..writes).step_by(stride as usize) {
        for crash in [Crash::Killed, Crash::PowerLoss { seed: at }] {
            let context = format!("died at write {at} of {writes} ({crash:?})");
            let run = run(&plan, &SimulatedDisk::default(), Some(at), crash);
            check(&run, &context);
            let (state, crashes) = counts(&run.simulation);
            let expected = format!(r#"{{"crashes":{crashes},"timers":{crashes}}}"#);
            assert_eq!(state, expected, "{context}: the journal has {crashes} crashes");
            tried += 1;
        }
    }
    assert!(tried >= 100, "only {tried} crashes were tried");
}
