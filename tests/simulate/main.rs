//! The plane in virtual time: the whole loop, from a sample to a moved guest, and back again byte for byte.

use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fleet, FleetPlan};
use embot::manager::{HostSettings, Manager, Settings};
use embot::model::{Command, HostId, Mode, Reply, Span, Timestamp};
use embot::simulate::Simulation;
use embot::store::Recovered;
use std::path::Path;
use std::sync::Arc;

/// A shipped module's files.
fn shipped(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: String| -> Arc<str> {
        std::fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}")).into()
    };
    let policy = format!("{name}.rhai");
    Command::LoadModule {
        file: format!("{name}.yaml").into(),
        manifest: read(format!("embots/{name}.yaml")),
        policies: vec![(policy.as_str().into(), read(format!("policies/{policy}")))],
    }
}

fn plane(fleet: &Fleet) -> Manager {
    let hosts = fleet.hosts().map(|(id, machine)| HostSettings {
        id: id.clone(),
        site: machine.site.clone(),
        labels: machine.labels.clone(),
    });
    let settings = Settings { plane: "home".into(), hosts: hosts.collect(), adopt: Mode::Act, ..Settings::default() };
    Manager::new(settings, Recovered::nothing())
}

fn demo(seed: u64) -> Simulation {
    let mut plan = FleetPlan::parse("demo-fleet.yaml", FleetPlan::DEMO).unwrap();
    plan.seed = seed;
    let fleet = Fleet::new(&plan, Timestamp(0)).unwrap();
    Simulation::new(plane(&fleet), fleet, Span::seconds(5), MigrationLimits::default()).with_journal()
}

fn must(reply: Option<Reply>) -> String {
    match reply {
        Some(Reply::Done { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hot_host_is_relieved() {
    let mut simulation = demo(1);
    println!("{}", must(simulation.command(inline()).unwrap()));
    must(simulation.command(Command::ModuleMode { module: "relieve-hot-host".into(), mode: Mode::Act }).unwrap());
    let moved = simulation
        .run_until(Span::minutes(10), |simulation| {
            simulation.manager().actions().any(|action| {
                action.proposal.kind.verb() == embot::model::Verb::Migrate && action.state == embot::model::ActionState::Done
            })
        })
        .unwrap();
    println!(
        "{}",
        String::from_utf8_lossy(simulation.journal())
            .lines()
            .filter(|l| !l.contains("input"))
            .take(60)
            .collect::<Vec<_>>()
            .join("\n")
    );
    for refusal in simulation.manager().refusals() {
        println!("{} x{}: {}", refusal.refusal.guardrail, refusal.count, refusal.refusal.reason);
    }
    assert!(moved, "nothing moved within ten minutes");
}

fn inline() -> Command {
    let manifest = "module: relieve-hot-host\nversion: '1'\npolicies: [p.rhai]\ncovers: { each: host }\npermits: [migrate]\nlimits: { hold: 15s }\n";
    let policy = r#"
fn settings() { #{ hot: 0.8 } }
fn on_load(host, settings) {
    if host.usage("cpu").mean(seconds(20)) < settings.hot { return; }
    let best = ();
    for vm in host.vms {
        if vm.running && (best == () || vm.cpu_cores > best.cpu_cores) { best = vm; }
    }
    if best != () { best.migrate(`host ${host.name} is hot`); }
}
"#;
    Command::LoadModule {
        file: "relieve-hot-host.yaml".into(),
        manifest: manifest.into(),
        policies: vec![("p.rhai".into(), policy.into())],
    }
}
