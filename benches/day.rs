//! A day of a large fleet in virtual time: 1,000 hosts with 10,000 guests, each with a load from a trace of five-minute samples,
//! polled every five minutes, and measured.
//!
//! `no_module` is what the fleet and the manager cost by themselves: reports, inventory, usage history, queue, batches. With
//! `relieve_hot_host` every host has an embot as well, and some guests are moved. `DAY_HOSTS` sets another number of hosts; each
//! has ten guests.
//!
//! `cargo bench --bench day`

use divan::{Bencher, black_box};
use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fleet, FleetPlan, GuestPlan, HostPlan, LoadPlan, Shape, Trace};
use embot::manager::{HostSettings, Manager, Settings};
use embot::model::{Command, Mark, Mode, PowerCurve, Span, Timestamp};
use embot::policy::Limits;
use embot::process::Process;
use embot::simulate::{Plane, Simulation};
use embot::store::Recovered;
use std::sync::Arc;
use std::time::Duration;

const GUESTS_A_HOST: u32 = 10;
const POLL: Span = Span::minutes(5);
const DAY: Span = Span::hours(24);

fn main() {
    divan::main();
}

fn hosts() -> u32 {
    std::env::var("DAY_HOSTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

/// A day of work: quiet at night, busy at noon, with some noise.
fn samples() -> Arc<[f32]> {
    let sample = |slot: u32| {
        let noon = 0.5 - 0.5 * (std::f32::consts::TAU * slot as f32 / 288.0).cos();
        let noise = (slot.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0;
        (0.05 + 0.5 * noon + 0.3 * noise * noise).min(1.0)
    };
    (0..288).map(sample).collect()
}

fn plan() -> FleetPlan {
    let host = HostPlan {
        name: "host-{n}".to_owned(),
        count: hosts(),
        cpus: 16,
        memory_mib: 65_536,
        power: PowerCurve::named("hp-ml110-g5").ok(),
        ..HostPlan::default()
    };
    let trace = Trace { interval: POLL, samples: samples(), repeat: true, start: Span::ZERO, stagger: Span::minutes(35) };
    let guest = GuestPlan {
        name: "guest-{n}".to_owned(),
        count: hosts() * GUESTS_A_HOST,
        vcpus: 3,
        memory_mib: 2_048,
        mark: Some(Mark { plane: "bench".into(), epoch: 1 }),
        load: LoadPlan { cpu: Shape::Trace(trace), ..LoadPlan::default() },
        ..GuestPlan::default()
    };
    FleetPlan { hosts: vec![host], guests: vec![guest], ..FleetPlan::default() }
}

fn simulation(module: Option<&str>) -> Simulation {
    let mut fleet = Fleet::new(&plan(), Timestamp(0)).expect("a sound fleet");
    fleet.measure(POLL);
    let host = |(id, machine): (_, &embot::hypervisor::simulated::Machine)| HostSettings {
        id: Clone::clone(id),
        site: machine.site.clone(),
        labels: machine.labels.clone(),
    };
    let settings = Settings {
        plane: "bench".into(),
        hosts: fleet.hosts().map(host).collect(),
        adopt: Mode::Act,
        new_modules: Mode::Act,
        policy: Limits { deadline: Duration::from_secs(3_600), ..Limits::default() },
        ..Settings::default()
    };
    let manager = Manager::new(settings, Recovered::nothing());
    let plane = Plane::new(manager, MigrationLimits::default());
    let mut simulation = Simulation::new(fleet, vec![plane], POLL, Span::ZERO);
    simulation.run_for(Span::minutes(1)).expect("no store, no error");
    if let Some(name) = module {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: String| Arc::from(std::fs::read_to_string(root.join(path)).expect("a module that ships"));
        let (file, policy) = (format!("{name}.yaml"), format!("{name}.rhai"));
        let load = Command::LoadModule {
            file: file.as_str().into(),
            manifest: read(format!("embots/{file}")),
            policies: vec![(policy.as_str().into(), read(format!("policies/{policy}")))],
        };
        let mode = Command::ModuleMode { module: name.into(), mode: Mode::Act };
        for command in [load, mode] {
            let reply = simulation.command(0, command).expect("no store, no error");
            assert!(matches!(reply, Some(embot::model::Reply::Done { .. })), "{reply:?}");
        }
    }
    simulation
}

fn day(bencher: Bencher, module: Option<&str>) {
    let run = |mut simulation: Simulation| {
        simulation.run_for(DAY).expect("no store, no error");
        simulation
    };
    let told = std::cell::Cell::new(false);
    bencher.with_inputs(|| simulation(module)).bench_local_values(|simulation| {
        let simulation = run(simulation);
        if !told.replace(true) {
            let figures = simulation.fleet().meter().expect("it is measured").figures(simulation.now());
            println!(
                "{} hosts: {:.1} kWh, {} migrations, SLATAH {:.4}, peak {} MiB",
                hosts(),
                figures.energy_kwh,
                figures.migrations,
                figures.slatah,
                Process::own().peak() >> 20
            );
        }
        black_box(simulation)
    });
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn no_module(bencher: Bencher) {
    day(bencher, None);
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn relieve_hot_host(bencher: Bencher) {
    day(bencher, Some("relieve-hot-host"));
}
