//! What a whole step costs, from a host's report to the end of the turn (inventory, usage history, queue, views, handler,
//! planner, batch), per event, beside the bare call of the same handler in a plain Rhai engine on plain values.
//!
//! One turn takes the reports of all hosts in; every guest's sample reaches its own embot. Journalling (encoding and committing
//! the batch to a store in memory) is measured beside it.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use embot::manager::{HostSettings, Manager, Settings};
use embot::model::{
    Batch, Capacity, Command, Description, DomainReport, HostId, HostLoad, HostReport, Input, Reason, Timestamp, VmId, VmLoad,
    VmState,
};
use embot::store::{Recovered, Store};
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
        let description = Description {
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
            description: described.then(|| Box::new(description)),
        }
    });
    let report = HostReport {
        asked_at: Timestamp(at),
        capacity: Capacity { cpus: 64, memory_mib: 262_144 },
        load: Some(HostLoad { cpu_cores: 10.0, cpu_wait_cores: 0.2, memory_used_mib: 50_000.0 }),
        domains: domains.collect(),
    };
    Input::Report(HostId::from(format!("host-{host}").as_str()), report)
}

fn plane(policy: Option<&str>) -> Manager {
    let host =
        |number| HostSettings { id: HostId::from(format!("host-{number}").as_str()), site: "".into(), labels: BTreeMap::new() };
    let settings = Settings { plane: "bench".into(), hosts: (0..HOSTS).map(host).collect(), ..Settings::default() };
    let mut manager = Manager::new(settings, Recovered::nothing());
    manager.turn((0..HOSTS).map(|host| report(host, 0, true)).collect(), Timestamp(0));
    if let Some(policy) = policy {
        let manifest = "module: bench\nversion: '1'\ndescription: Measures.\npolicies: [p.rhai]\ncovers: { each: vm }\npermits: [notify]\n";
        let command = Command::LoadModule {
            file: "bench.yaml".into(),
            manifest: manifest.into(),
            policies: vec![(Arc::from("p.rhai"), Arc::from(policy))],
        };
        manager.turn(vec![Input::Command { command, by: "bench".into(), ticket: None }], Timestamp(1));
        assert_eq!(manager.modules().first().map(|module| module.embots), Some(GUESTS), "the module is in force");
    }
    // Everything that came with the start is handled.
    for at in 2..20 {
        manager.turn(vec![Input::Tick], Timestamp(at));
    }
    manager
}

/// Turns over all hosts, one second apart, ten hosts a turn as they come from their pollers.
fn seconds(manager: &mut Manager, at: &Cell<i64>, mut each: impl FnMut(&Batch)) {
    at.set(at.get() + 1_000);
    for first in (0..HOSTS).step_by(10) {
        let inputs = (first..first + 10).map(|host| report(host, at.get(), false)).collect();
        if let Some((batch, _)) = manager.turn(inputs, Timestamp(at.get())) {
            each(&batch);
        }
    }
}

fn whole(bencher: Bencher, policy: Option<&str>) {
    let (mut manager, at) = (plane(policy), Cell::new(1_000));
    bencher.counter(ItemsCount::new(GUESTS)).bench_local(|| seconds(&mut manager, &at, |batch| drop(black_box(batch))));
}

/// Everything but a policy: reports in, samples kept, events queued and popped by nobody.
#[divan::bench(sample_count = 10)]
fn no_policy(bencher: Bencher) {
    whole(bencher, None);
}

#[divan::bench(sample_count = 10)]
fn five_comparisons_whole(bencher: Bencher) {
    whole(bencher, Some(COMPARE));
}

#[divan::bench(sample_count = 10)]
fn stateful_whole(bencher: Bencher) {
    whole(bencher, Some(REMEMBER));
}

#[divan::bench(sample_count = 5)]
fn stateful_whole_with_journal(bencher: Bencher) {
    let (mut manager, at) = (plane(Some(REMEMBER)), Cell::new(1_000));
    let mut store = Store::in_memory().expect("a store");
    bencher.counter(ItemsCount::new(GUESTS)).bench_local(|| {
        let mut batches = Vec::new();
        seconds(&mut manager, &at, |batch| batches.push(batch.clone()));
        store.commit(&batches).expect("a commit");
    });
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

fn bare(bencher: Bencher, policy: &str, settings: rhai::Map) {
    let mut engine = rhai::Engine::new_raw();
    rhai::packages::Package::register_into_engine(&rhai::packages::StandardPackage::new(), &mut engine);
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
    let options = rhai::CallFnOptions::new().eval_ast(false);
    bencher.counter(ItemsCount::new(GUESTS)).bench_local(|| {
        for state in &mut states {
            let vm = Plain { cpu: 0.2, memory: 0.5, iops: 120.0, net: 2e6, cpu_wait: 0.005 };
            let options = options.clone().bind_this_ptr(state);
            let scope = &mut rhai::Scope::new();
            let result: rhai::Dynamic =
                engine.call_fn_with_options(options, scope, &ast, "on_load", (vm, settings.clone())).expect("a good call");
            black_box(result);
        }
    });
}

#[divan::bench(sample_count = 10)]
fn five_comparisons_bare(bencher: Bencher) {
    let values = [("cpu", 0.95), ("memory", 0.98), ("iops", 9000.0), ("net", 1.0e9), ("wait", 0.5)];
    bare(bencher, COMPARE, values.map(|(key, value)| (key.into(), value.into())).into_iter().collect());
}

#[divan::bench(sample_count = 10)]
fn stateful_bare(bencher: Bencher) {
    let values = [("alpha", 0.2), ("hot", 0.95)];
    bare(bencher, REMEMBER, values.map(|(key, value)| (key.into(), value.into())).into_iter().collect());
}
