//! What a whole step costs, beside the bare call of the same handler in a plain Rhai engine on plain values.
//!
//! A plane of 500 hosts and 10,000 guests with an embot each takes in a report of every host, ten hosts a turn. `whole` is all
//! that the manager's thread does then: inventory, usage history, queue, views, handler, planner, batch. `intake` is what of
//! that is done with reports before there is an event: inventory and usage history. The step itself (queue, view, handler,
//! plan) is `whole` less `intake`; `no_policy` is a plane whose events nobody hears.
//!
//! Journalling (encoding and committing the batches, here to a store in memory) is measured beside it. Neither making the
//! reports nor dropping the batches, which in a plane falls to other threads, is counted.
//!
//! `cargo bench --bench step`

mod bare;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use embot::manager::{HostSettings, Manager, Settings};
use embot::model::{
    Batch, Capacity, Command, Description, DomainReport, ElementId, Host, HostId, HostLoad, HostReport, Input, Link,
    Maintenance, Mode, Reason, Timestamp, VmId, VmLoad, VmState, World,
};
use embot::sensors::Inventory;
use embot::store::{Recovered, Store};
use embot::usage::Usage;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

const HOSTS: usize = 500;
const GUESTS_A_HOST: usize = 20;
const GUESTS: usize = HOSTS * GUESTS_A_HOST;

/// A handler that compares five values and proposes nothing.
const COMPARE: &str = "
fn settings() { #{ cpu: 0.95, memory: 0.98, iops: 9000.0, net: 1.0e9, wait: 0.5 } }
fn on_load(vm, settings) {
    if vm.cpu > settings.cpu { this.seen = 1; }
    if vm.memory > settings.memory { this.seen = 2; }
    if vm.iops > settings.iops { this.seen = 3; }
    if vm.net > settings.net { this.seen = 4; }
    if vm.cpu_wait > settings.wait { this.seen = 5; }
}
";

/// A handler that keeps a weighted mean in its state.
const REMEMBER: &str = "
fn settings() { #{ alpha: 0.2, hot: 0.95 } }
fn on_load(vm, settings) {
    let old = this.get(\"mean\", 0.0);
    this.mean = old + settings.alpha * (vm.cpu - old);
    this.count = this.get(\"count\", 0) + 1;
    if this.mean > settings.hot { this.hot_since = this.get(\"hot_since\", now()); } else { this.hot_since = -1; }
}
";

fn main() {
    divan::main();
}

fn report(host: usize, at: i64, described: bool) -> Input {
    let domains = (0..GUESTS_A_HOST).map(|guest| {
        let number = host * GUESTS_A_HOST + guest;
        let description = || Description {
            name: format!("guest-{number}").into(),
            vcpus: 2,
            memory_mib: 2_048,
            persistent: true,
            autostart: false,
            labels: BTreeMap::new(),
            mark: None,
            disks: vec!["vda".into()],
            nics: vec!["vnet0".into()],
        };
        let noise = ((at as usize / 1_000 + number) % 17) as f32 / 100.0;
        DomainReport {
            vm: VmId(uuid::Uuid::from_u128(number as u128 + 1)),
            state: VmState::Running,
            reason: Reason::Booted,
            balloon_mib: Some(2_048),
            load: VmLoad {
                cpu_cores: Some(0.4 + noise),
                cpu_wait_cores: Some(0.01),
                memory_used_mib: Some(1_000.0),
                disk_bytes_per_s: Some(1e6),
                disk_iops: Some(120.0),
                net_bytes_per_s: Some(2e6),
            },
            description: described.then(|| Box::new(description())),
        }
    });
    let report = HostReport {
        asked_at: Timestamp(at),
        capacity: Capacity { cpus: 64, memory_mib: 262_144 },
        load: Some(HostLoad {
            cpu_cores: 10.0,
            cpu_wait_cores: 0.2,
            memory_used_mib: 50_000.0,
            memory_shared_mib: None,
            asleep: None,
        }),
        domains: domains.collect(),
    };
    Input::Report(HostId::from(format!("host-{host}").as_str()), report)
}

/// Module, policy and what it covers.
type Module<'a> = (&'a str, &'a str, &'a str);

fn plane(hosts: usize, modules: &[Module]) -> Manager {
    let host =
        |number| HostSettings { id: HostId::from(format!("host-{number}").as_str()), site: "".into(), labels: BTreeMap::new() };
    let settings = Settings {
        plane: "bench".into(),
        hosts: (0..hosts).map(host).collect(),
        new_modules: Mode::Act,
        ..Settings::default()
    };
    let mut manager = Manager::new(settings, Recovered::nothing());
    manager.turn((0..hosts).map(|host| report(host, 0, true)).collect(), Timestamp(0));
    for (name, policy, each) in modules {
        let manifest = format!(
            "module: {name}\nversion: '1'\ndescription: Measures.\npolicies: [{name}.rhai]\ncovers: {{ each: {each} }}\npermits: [migrate]\n"
        );
        let command = Command::LoadModule {
            file: format!("{name}.yaml").into(),
            manifest: manifest.into(),
            policies: vec![(Arc::from(format!("{name}.rhai")), Arc::from(*policy))],
        };
        manager.turn(vec![Input::Command { command, by: "bench".into(), ticket: None }], Timestamp(1));
    }
    assert_eq!(manager.modules().len(), modules.len(), "the modules are in force");
    // Everything that came with the start is handled.
    for at in 2..20 {
        manager.turn(vec![Input::Tick], Timestamp(at));
    }
    manager
}

/// A second's reports, ten hosts a turn as they come from their pollers.
fn second(hosts: usize, at: &Cell<i64>) -> (Timestamp, Vec<Vec<Input>>) {
    at.set(at.get() + 1_000);
    let now = at.get();
    let turn = |first: usize| (first..first + 10).map(|host| report(host, now, false)).collect();
    (Timestamp(now), (0..hosts).step_by(10).map(turn).collect())
}

fn turns(manager: &mut Manager, (now, turns): (Timestamp, Vec<Vec<Input>>)) -> Vec<Batch> {
    turns.into_iter().filter_map(|inputs| manager.turn(inputs, now)).map(|(batch, _)| batch).collect()
}

fn whole(bencher: Bencher, hosts: usize, modules: &[Module]) {
    let (mut manager, at) = (plane(hosts, modules), Cell::new(1_000));
    for _ in 0..120 {
        // The usage history of two minutes.
        turns(&mut manager, second(hosts, &at));
    }
    let before = manager.figures();
    let bencher = bencher.counter(ItemsCount::new(hosts * GUESTS_A_HOST)).with_inputs(|| second(hosts, &at));
    bencher.bench_local_values(|reports| turns(&mut manager, reports));
    let after = manager.figures();
    assert_eq!(after.faults, 0, "the handlers work");
    assert!(modules.is_empty() || after.steps > before.steps, "they are called");
}

/// What is done with reports before there is an event.
#[divan::bench(sample_count = 20)]
fn intake(bencher: Bencher) {
    let (mut world, mut usage, mut inventory) = (World::new("bench"), Usage::default(), Inventory::new(Mode::Observe, []));
    for number in 0..HOSTS {
        world.put_host(Host {
            id: HostId::from(format!("host-{number}").as_str()),
            site: "".into(),
            labels: BTreeMap::new(),
            capacity: Capacity::default(),
            link: Link::Unknown,
            maintenance: Maintenance::Off,
            load: HostLoad::default(),
            load_at: Timestamp(0),
            vms: Default::default(),
        });
    }
    let mut take = |inputs: Vec<Vec<Input>>| {
        for input in inputs.iter().flatten() {
            let Input::Report(host, report) = input else { continue };
            for sensed in inventory.report(&mut world, host, report) {
                match &sensed.element {
                    ElementId::Vm(vm) => world.vm(*vm).map(|vm| usage.record_vm(vm)),
                    ElementId::Host(host) => world.host(host).map(|host| usage.record_host(host)),
                    _ => None,
                };
                black_box(sensed);
            }
        }
        inputs
    };
    let at = Cell::new(1_000);
    take(vec![(0..HOSTS).map(|host| report(host, 0, true)).collect()]);
    (0..120).for_each(|_| drop(take(second(HOSTS, &at).1)));
    bencher.counter(ItemsCount::new(GUESTS)).with_inputs(|| second(HOSTS, &at).1).bench_local_values(take);
}

/// Everything but a policy: reports in, samples kept, events queued, and heard by nobody.
#[divan::bench(sample_count = 20)]
fn no_policy(bencher: Bencher) {
    whole(bencher, HOSTS, &[]);
}

#[divan::bench(sample_count = 20)]
fn five_comparisons_whole(bencher: Bencher) {
    whole(bencher, HOSTS, &[("compare", COMPARE, "vm")]);
}

#[divan::bench(sample_count = 20)]
fn stateful_whole(bencher: Bencher) {
    whole(bencher, HOSTS, &[("remember", REMEMBER, "vm")]);
}

/// A pass over 1,000 guests on 50 hosts: a handler for each guest, and the shipped one that relieves hot hosts for each host.
#[divan::bench(sample_count = 100)]
fn pass_over_1000_guests(bencher: Bencher) {
    let relieve = include_str!("../policies/relieve-hot-host.rhai");
    whole(bencher, 50, &[("compare", COMPARE, "vm"), ("relieve", relieve, "host")]);
}

fn journalled(bencher: Bencher, modules: &[Module]) {
    let (mut manager, at) = (plane(HOSTS, modules), Cell::new(1_000));
    let mut store = Store::in_memory().expect("a store");
    let bencher = bencher.counter(ItemsCount::new(GUESTS)).with_inputs(|| turns(&mut manager, second(HOSTS, &at)));
    bencher.bench_local_refs(|batches| store.commit(batches).expect("a commit"));
}

/// Journalling alone: the batches of one second.
#[divan::bench(sample_count = 10)]
fn five_comparisons_journalling(bencher: Bencher) {
    journalled(bencher, &[("compare", COMPARE, "vm")]);
}

/// The same where every sample changes its embot's state.
#[divan::bench(sample_count = 10)]
fn stateful_journalling(bencher: Bencher) {
    journalled(bencher, &[("remember", REMEMBER, "vm")]);
}

/// A guest as plain values.
#[derive(Debug, Clone, Copy)]
struct Plain {
    cpu: f64,
    memory: f64,
    iops: f64,
    net: f64,
    cpu_wait: f64,
}

fn bare_calls(bencher: Bencher, policy: &str, settings: rhai::Map) {
    let mut engine = bare::engine();
    engine.register_type_with_name::<Plain>("Plain");
    engine.register_get("cpu", |vm: &mut Plain| vm.cpu);
    engine.register_get("memory", |vm: &mut Plain| vm.memory);
    engine.register_get("iops", |vm: &mut Plain| vm.iops);
    engine.register_get("net", |vm: &mut Plain| vm.net);
    engine.register_get("cpu_wait", |vm: &mut Plain| vm.cpu_wait);
    engine.register_fn("now", || 1_i64);
    engine
        .register_fn("get", |map: &mut rhai::Map, key: &str, default: rhai::Dynamic| map.get(key).cloned().unwrap_or(default));
    let ast = engine.compile(policy).expect("a sound policy");
    let mut states: Vec<rhai::Dynamic> = vec![rhai::Dynamic::from_map(rhai::Map::new()); GUESTS];
    bencher.counter(ItemsCount::new(GUESTS)).bench_local(|| {
        for state in &mut states {
            let vm = Plain { cpu: 0.2, memory: 0.5, iops: 120.0, net: 2e6, cpu_wait: 0.005 };
            let options = rhai::CallFnOptions::new().eval_ast(false).bind_this_ptr(state);
            let scope = &mut rhai::Scope::new();
            let result: rhai::Dynamic =
                engine.call_fn_with_options(options, scope, &ast, "on_load", (vm, settings.clone())).expect("a good call");
            let _ = black_box(result);
        }
    });
}

#[divan::bench(sample_count = 20)]
fn five_comparisons_bare(bencher: Bencher) {
    let values = [("cpu", 0.95), ("memory", 0.98), ("iops", 9000.0), ("net", 1.0e9), ("wait", 0.5)];
    bare_calls(bencher, COMPARE, values.map(|(key, value)| (key.into(), value.into())).into_iter().collect());
}

#[divan::bench(sample_count = 20)]
fn stateful_bare(bencher: Bencher) {
    let values = [("alpha", 0.2), ("hot", 0.95)];
    bare_calls(bencher, REMEMBER, values.map(|(key, value)| (key.into(), value.into())).into_iter().collect());
}
