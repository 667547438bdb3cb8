//! Planes and fleets for the tests of this folder.

use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fleet, FleetPlan};
use embot::manager::{HostSettings, Manager, Settings};
use embot::model::{AffinityRule, Command, Mode, Reply, Span, Timestamp};
use embot::plan::Guardrails;
use embot::policy::Limits;
use embot::simulate::{self, Simulation};
use embot::store::{Crash, Recovered, SimulatedDisk, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How the plane of a test differs from the default.
#[derive(Debug, Clone, Default)]
pub struct Plane {
    /// Its guardrails.
    pub guardrails: Guardrails,
    /// Its affinity rules.
    pub rules: Vec<AffinityRule>,
    /// Does it only observe guests that it sees for the first time?
    pub observes: bool,
    /// Does it hold modules back that it sees for the first time?
    pub holds_back: bool,
}

impl Plane {
    /// The manager of the plane over a fleet, going on from what a store holds.
    pub fn manager(&self, fleet: &Fleet, recovered: Recovered) -> Manager {
        let hosts = fleet.hosts();
        let hosts = hosts.map(|(id, machine)| HostSettings {
            id: id.clone(),
            site: machine.site.clone(),
            labels: machine.labels.clone(),
        });
        let settings = Settings {
            plane: "home".into(),
            hosts: hosts.collect(),
            rules: self.rules.clone(),
            guardrails: self.guardrails.clone(),
            handover: embot::manager::HandoverSettings::default(),
            new_modules: if self.holds_back { Mode::Advise } else { Mode::Act },
            adopt: if self.observes { Mode::Observe } else { Mode::Act },
            // The last resort is wall time, which a busy machine can run out of; the other limits hold.
            policy: Limits { deadline: Duration::from_secs(3_600), ..Limits::default() },
        };
        Manager::new(settings, recovered)
    }

    /// A fresh plane over a fleet.
    pub fn over(&self, plan: &FleetPlan) -> Simulation {
        let fleet = Fleet::new(plan, Timestamp(0)).expect("a sound fleet");
        let manager = self.manager(&fleet, Recovered::nothing());
        alone(plane(manager).with_journal(), fleet)
    }
}

/// A plane that polls its hosts one after the other, as a daemon does.
pub fn plane(manager: Manager) -> simulate::Plane {
    simulate::Plane::new(manager, MigrationLimits::default()).polls_in_turn()
}

/// A plane that has a fleet to itself.
pub fn alone(plane: simulate::Plane, fleet: Fleet) -> Simulation {
    Simulation::new(fleet, vec![plane], Span::seconds(5), Span::ZERO)
}

/// A fleet from its description.
pub fn fleet(text: &str) -> FleetPlan {
    FleetPlan::parse("fleet.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// The fleet that ships.
pub fn demo() -> FleetPlan {
    fleet(FleetPlan::DEMO)
}

/// The command that loads a module from its texts.
pub fn module(manifest: &str, policies: &[(&str, &str)]) -> Command {
    let policies = policies.iter().map(|(file, text)| (Arc::from(*file), Arc::from(*text)));
    Command::LoadModule { file: "module.yaml".into(), manifest: manifest.into(), policies: policies.collect() }
}

/// The command that loads a module that ships.
pub fn shipped(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: String| std::fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let policy = format!("{name}.rhai");
    module(&read(format!("embots/{name}.yaml")), &[(&policy, &read(format!("policies/{policy}")))])
}

/// Gives a command that must be obeyed.
pub fn must(simulation: &mut Simulation, command: Command) -> String {
    match simulation.command(0, command).expect("a sound store") {
        Some(Reply::Done { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

/// Loads a module and lets it act.
pub fn act(simulation: &mut Simulation, load: Command) {
    must(simulation, load);
    let names: Vec<Arc<str>> = simulation.manager(0).modules().into_iter().map(|module| module.module).collect();
    for module in names {
        must(simulation, Command::ModuleMode { module, mode: Mode::Act });
    }
}

const FOUR_GUESTS: &str = "
hosts: [{ name: 'host-{n}', count: 2, cpus: 8, memory_mib: 16384 }]
guests: [{ name: 'guest-{n}', count: 4, vcpus: 2, memory_mib: 1024, load: { cpu: 0.3, memory: 0.5 } }]
";

/// Two hosts with four quiet guests.
pub fn four_guests() -> FleetPlan {
    fleet(FOUR_GUESTS)
}

/// A manifest for a policy of the same name, one embot for each guest.
pub fn manifest(name: &str, permits: &str) -> String {
    format!("module: {name}\nversion: '1'\npolicies: [{name}.rhai]\ncovers: {{ each: vm }}\npermits: {permits}\n")
}

/// The command that loads it.
pub fn load(name: &str, permits: &str, policy: &str) -> Command {
    module(&manifest(name, permits), &[(&format!("{name}.rhai"), policy)])
}

/// Gives a command that must not be obeyed, and tells why.
pub fn refused(simulation: &mut Simulation, command: Command) -> String {
    match simulation.command(0, command).expect("no store, no error") {
        Some(Reply::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A plane on a store, whose daemon can be started again.
pub struct Kept {
    /// What runs.
    pub simulation: Simulation,
    /// What outlives it.
    pub disk: SimulatedDisk,
}

impl Kept {
    /// Over four guests.
    pub fn new() -> Kept {
        let disk = SimulatedDisk::default();
        let (store, recovered) = Store::on_disk(&disk).unwrap();
        let fleet = Fleet::new(&four_guests(), Timestamp(0)).unwrap();
        let manager = Plane::default().manager(&fleet, recovered);
        let simulation = alone(plane(manager).with_store(store).with_journal(), fleet);
        Kept { simulation, disk }
    }

    /// The daemon dies and is started again.
    pub fn restart(&mut self) {
        self.disk = self.disk.crash(Crash::Killed);
        let (store, recovered) = Store::on_disk(&self.disk).unwrap();
        let manager = Plane::default().manager(self.simulation.fleet(), recovered);
        self.simulation.restart(0, manager, store);
    }
}
