//! What a step costs beside the bare Rhai call of the same handler.
//!
//! `bare` calls the handler in an engine set up as Rhai recommends it (raw, standard package, the same limits), with views
//! registered as plain getters over the same model and arguments made beforehand. `step` is the whole of `Engine::step`:
//! meter, sheet, arguments, copy and comparison of the state, notes of what is read. Each round goes through 10,000 embots,
//! so that caches are as cold as in a plane of that size.
//!
//! `cargo bench --bench policy`

mod bare;

use divan::Bencher;
use divan::counter::ItemsCount;
use embot::model::{
    Capacity, ElementId, EmbotId, Event, EventBody, Host, HostLoad, Link, Maintenance, Mark, Mode, Reason, Timestamp, Vm, VmId,
    VmLoad, VmState, World,
};
use embot::policy::{Engine, Limits, State, StepInput};
use embot::usage::Usage;
use rhai::{CallFnOptions, Dynamic, FuncArgs, Scope};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

fn main() {
    divan::main();
}

const EMBOTS: usize = 10_000;

const EMPTY: &str = "fn on_load(vm) { }";

const COMPARISONS: &str = "fn on_load(vm) {
    if vm.cpu > 0.9 && vm.memory > 0.9 { vm.migrate(\"hot\"); }
    if vm.cpu < 0.0 || vm.memory < 0.0 || vm.vcpus > 64 { vm.migrate(\"odd\"); }
}";

const EWMA: &str = "fn on_load(vm) {
    let cpu = vm.cpu;
    let mean = if \"mean\" in this { 0.2 * cpu + 0.8 * this.mean } else { cpu };
    this.mean = mean;
    if mean > 0.9 { this.hot = if \"hot\" in this { this.hot + 1 } else { 1 }; } else { this.hot = 0; }
    if this.hot > 5 { vm.migrate(\"hot for long\"); }
}";

const HANDLERS: [(&str, &str); 3] = [("empty", EMPTY), ("comparisons", COMPARISONS), ("ewma", EWMA)];

fn text(name: &str) -> &'static str {
    HANDLERS.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text)
}

fn vm(number: usize) -> Vm {
    Vm {
        id: VmId(uuid::Uuid::from_u128(number as u128)),
        name: format!("vm-{number}").into(),
        host: format!("host-{}", number % 500).as_str().into(),
        state: VmState::Running,
        reason: Reason::Booted,
        since: Timestamp(0),
        vcpus: 2,
        memory_mib: 2_048,
        balloon_mib: 2_048,
        persistent: true,
        autostart: false,
        labels: BTreeMap::new(),
        disks: vec!["vda".into()],
        nics: Vec::new(),
        agent: false,
        mark: Some(Mark { plane: "home".into(), epoch: 1 }),
        mode: Mode::Act,
        load: VmLoad { cpu_cores: Some((number % 100) as f32 / 60.0), memory_used_mib: Some(900.0), ..VmLoad::default() },
        load_at: Timestamp(1),
    }
}

fn world() -> Rc<RefCell<World>> {
    let mut world = World::new("home");
    for number in 0..500 {
        world.put_host(Host {
            id: format!("host-{number}").as_str().into(),
            site: "".into(),
            labels: BTreeMap::new(),
            capacity: Capacity { cpus: 64, memory_mib: 524_288 },
            link: Link::Up,
            maintenance: Maintenance::Off,
            load: HostLoad::default(),
            load_at: Timestamp(0),
            vms: BTreeSet::new(),
        });
    }
    (0..EMBOTS).for_each(|number| world.put_vm(vm(number)));
    Rc::new(RefCell::new(world))
}

/// The view of the bare engine.
#[derive(Clone, Copy)]
struct Bare(VmId);

struct Arguments(Dynamic);

impl FuncArgs for Arguments {
    fn parse<ARGS: Extend<Dynamic>>(self, args: &mut ARGS) {
        args.extend([self.0]);
    }
}

fn bare_engine(world: &Rc<RefCell<World>>) -> rhai::Engine {
    let mut engine = bare::engine();
    engine.register_type_with_name::<Bare>("vm");
    let here = world.clone();
    engine.register_get("cpu", move |vm: &mut Bare| here.borrow().vm(vm.0).map_or(f64::NAN, Vm::cpu));
    let here = world.clone();
    engine.register_get("memory", move |vm: &mut Bare| here.borrow().vm(vm.0).map_or(f64::NAN, Vm::memory));
    let here = world.clone();
    engine.register_get("vcpus", move |vm: &mut Bare| here.borrow().vm(vm.0).map_or(0, |vm| i64::from(vm.vcpus)));
    engine.register_fn("migrate", |_: &mut Bare, _: &str| ());
    engine
}

#[divan::bench(args = HANDLERS.map(|(name, _)| name), name = "bare")]
fn bare_calls(bencher: Bencher, name: &str) {
    let world = world();
    let engine = bare_engine(&world);
    let ast = engine.compile(text(name)).expect("it compiles");
    let mut states: Vec<Dynamic> = (0..EMBOTS).map(|_| Dynamic::from_map(rhai::Map::new())).collect();
    bencher
        .counter(ItemsCount::new(EMBOTS))
        .with_inputs(|| {
            let argument = |number: usize| Dynamic::from(Bare(VmId(uuid::Uuid::from_u128(number as u128))));
            (0..EMBOTS).map(argument).collect::<Vec<_>>()
        })
        .bench_local_values(|arguments| {
            let mut scope = Scope::new();
            for (state, argument) in states.iter_mut().zip(arguments) {
                let options = CallFnOptions::new().eval_ast(false).bind_this_ptr(state);
                let result = engine.call_fn_with_options::<Dynamic>(options, &mut scope, &ast, "on_load", Arguments(argument));
                let _ = divan::black_box(result).expect("it runs");
            }
        });
}

#[divan::bench(args = HANDLERS.map(|(name, _)| name))]
fn step(bencher: Bencher, name: &str) {
    let world = world();
    let engine = Engine::new(world.clone(), Rc::new(RefCell::new(Usage::default())), Limits::default());
    let policy = engine.compile("bench.rhai", text(name)).expect("it compiles");
    let bound = engine.bind(policy, &BTreeMap::new()).expect("no settings");
    let mut states: Vec<State> = (0..EMBOTS).map(|_| State::default()).collect();
    let module: std::sync::Arc<str> = "bench".into();
    let element = |number: usize| ElementId::Vm(VmId(uuid::Uuid::from_u128(number as u128)));
    let embots: Vec<EmbotId> = (0..EMBOTS).map(|number| EmbotId { module: module.clone(), element: element(number) }).collect();
    let event = |number: usize| Event { seq: 1, at: Timestamp(1), element: element(number), to: None, body: EventBody::Load };
    let events: Vec<Event> = (0..EMBOTS).map(event).collect();
    bencher.counter(ItemsCount::new(EMBOTS)).bench_local(|| {
        for ((state, embot), event) in states.iter_mut().zip(&embots).zip(&events) {
            let step = engine.step(&bound, state, StepInput { embot, event, now: Timestamp(1) });
            divan::black_box(step).expect("no fault");
        }
    });
}
