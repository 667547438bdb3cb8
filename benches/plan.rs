//! How long the planner takes: `cargo bench --bench plan`.
//!
//! The fleets are made from a seed: every fifth host is hot, 50 affinity rules name some of the guests, every host and guest
//! has two minutes of usage history, one sample a second.

use embot::model::{
    Action, ActionId, ActionKind, Affinity, AffinityRule, Capacity, ElementId, EmbotId, Event, EventBody, Host, HostLoad, Link,
    Maintenance, Mark, Mode, Proposal, Reason, Timestamp, Verb, Vm, VmId, VmLoad, VmState, World,
};
use embot::plan::{BalanceOptions, Guardrails, Limits, Planner, Situation, Terms, balance};
use embot::usage::Usage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hosts and guests.
const FLEETS: [(usize, usize); 2] = [(100, 1_500), (500, 10_000)];

const HISTORY_S: i64 = 120;

struct Fleet {
    world: World,
    usage: Usage,
    guardrails: Guardrails,
    open: BTreeMap<ActionId, Action>,
}

fn main() {
    divan::main();
}

fn share(random: &mut ChaCha8Rng) -> f64 {
    f64::from(random.next_u32()) / f64::from(u32::MAX)
}

fn host(number: usize) -> Host {
    Host {
        id: name(number).as_str().into(),
        site: if number.is_multiple_of(2) { "north" } else { "south" }.into(),
        labels: BTreeMap::new(),
        capacity: Capacity { cpus: 32, memory_mib: 262_144 },
        link: Link::Up,
        maintenance: Maintenance::Off,
        load: HostLoad::default(),
        load_at: Timestamp(0),
        vms: Default::default(),
    }
}

fn name(number: usize) -> String {
    format!("host-{number:03}")
}

fn guest(number: usize, host: usize) -> Vm {
    Vm {
        id: VmId(uuid::Uuid::from_u128(number as u128)),
        name: format!("{}-{number}", ["web", "db", "batch"][number % 3]).into(),
        host: name(host).as_str().into(),
        state: VmState::Running,
        reason: Reason::Booted,
        since: Timestamp(0),
        vcpus: 4,
        memory_mib: 4_096,
        balloon_mib: 4_096,
        persistent: true,
        autostart: false,
        labels: BTreeMap::new(),
        disks: Vec::new(),
        nics: Vec::new(),
        agent: false,
        mark: Some(Mark { plane: "home".into(), epoch: 1 }),
        mode: Mode::Act,
        load: VmLoad::default(),
        load_at: Timestamp(0),
    }
}

fn fleet((hosts, guests): (usize, usize)) -> Fleet {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut world, mut usage) = (World::new("home"), Usage::default());
    let rule = |number: usize| AffinityRule {
        name: format!("rule-{number}").into(),
        kind: Affinity::Apart,
        hard: number.is_multiple_of(2),
        vms: vec![format!("db-{number}*")],
    };
    world.set_rules((0..50).map(rule).collect());
    for number in 0..hosts {
        world.put_host(host(number));
    }
    let mut base = Vec::new();
    for number in 0..guests {
        let at = number % hosts;
        let most = if at.is_multiple_of(5) { 3.9 } else { 1.6 };
        base.push(most * share(&mut random));
        world.put_vm(guest(number, at));
    }
    for second in 1..=HISTORY_S {
        let at = Timestamp(second * 1_000);
        let mut used = vec![0.0; hosts];
        for (number, base) in base.iter().enumerate() {
            let id = VmId(uuid::Uuid::from_u128(number as u128));
            let cores = (base * (0.8 + 0.4 * share(&mut random))).min(4.0) as f32;
            used[number % hosts] += cores;
            world.sample_vm(id, |vm| (vm.load.cpu_cores, vm.load_at) = (Some(cores), at));
            if let Some(vm) = world.vm(id) {
                usage.record_vm(vm);
            }
        }
        for (number, used) in used.iter().enumerate() {
            let id = name(number).as_str().into();
            world.sample_host(&id, |host| (host.load.cpu_cores, host.load_at) = (used.min(32.0), at));
            if let Some(host) = world.host(&id) {
                usage.record_host(host);
            }
        }
    }
    Fleet { world, usage, guardrails: Guardrails::default(), open: BTreeMap::new() }
}

impl Fleet {
    fn situation(&self) -> Situation<'_> {
        let Fleet { world, usage, guardrails, open } = self;
        Situation { world, usage, guardrails, open, now: Timestamp(HISTORY_S * 1_000) }
    }
}

fn wish(vm: VmId) -> (Proposal, Arc<Terms>) {
    let element = ElementId::Host(name(0).as_str().into());
    let event = Event { seq: 1, at: Timestamp(0), element: element.clone(), to: None, body: EventBody::Load };
    let proposal = Proposal {
        embot: Some(EmbotId { module: "relieve".into(), element }),
        admin: None,
        kind: ActionKind::Migrate { vm, to: None, live: true },
        reason: "hot".into(),
        place: None,
        cause: Some(Arc::new(event)),
        reads: Arc::new([]),
    };
    let terms = Terms::of_module("relieve".into(), Mode::Act, [Verb::Migrate].into(), Limits::default());
    (proposal, Arc::new(terms))
}

/// What every batch without a proposal costs.
#[divan::bench]
fn decide_nothing(bencher: divan::Bencher) {
    let fleet = fleet((10, 100));
    let mut planner = Planner::default();
    bencher.bench_local(|| planner.decide(&fleet.situation(), Vec::new(), &mut 1));
}

/// One guest off a hot host, the planner chooses among all the others.
#[divan::bench(args = FLEETS)]
fn decide_one_move(bencher: divan::Bencher, size: (usize, usize)) {
    let fleet = fleet(size);
    let hot = name(0).as_str().into();
    let busiest = fleet.world.vms_on(&hot).max_by(|a, b| a.cpu().total_cmp(&b.cpu())).map(|vm| vm.id);
    let Some(busiest) = busiest else { return };
    bencher.with_inputs(|| (Planner::default(), vec![wish(busiest)])).bench_local_values(|(mut planner, wishes)| {
        let plan = planner.decide(&fleet.situation(), wishes, &mut 1);
        assert_eq!(plan.accepted.len(), 1, "{:?}", plan.refused);
        plan
    });
}

/// A full balancing plan.
#[divan::bench(args = FLEETS, sample_count = 10)]
fn balancing_plan(bencher: divan::Bencher, size: (usize, usize)) {
    let fleet = fleet(size);
    let options = BalanceOptions { moves: 10_000, ..BalanceOptions::default() };
    let plan = balance(&fleet.situation(), &options);
    println!("{size:?}: {} moves, {} left", plan.moves.len(), plan.left.len());
    assert!(!plan.moves.is_empty());
    bencher.bench_local(|| balance(&fleet.situation(), &options));
}

/// All violations of 50 rules.
#[divan::bench(args = FLEETS)]
fn violations(bencher: divan::Bencher, size: (usize, usize)) {
    let fleet = fleet(size);
    bencher.bench_local(|| fleet.world.violations());
}
