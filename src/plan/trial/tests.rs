//! Trials over small planes.

use super::*;
use crate::model::testing::{host, vm};
use crate::model::{Affinity, AffinityRule, Capacity, Host, Link, Maintenance, Mark, Mode, Vm, VmState, World};
use crate::plan::Guardrails;
use crate::usage::Usage;
use proptest::prelude::*;
use std::cell::RefCell;

const NOW: Timestamp = Timestamp(1_000_000_000);
const TEST: Overload = Overload::Threshold { limit: 0.8 };

/// Three hosts of eight cores: `a` with the guests 1 to 3, `b` with 4, `c` with none.
fn world() -> World {
    let mut world = World::new("home");
    for (name, cores) in [("a", 3.0), ("b", 1.0), ("c", 0.0)] {
        let mut host = host(name);
        host.capacity = Capacity { cpus: 8, memory_mib: 16_384 };
        host.load.cpu_cores = cores;
        world.put_host(host);
    }
    for (number, host, cores) in [(1, "a", 0.5), (2, "a", 1.0), (3, "a", 1.5), (4, "b", 1.0)] {
        world.put_vm(guest(number, host, cores));
    }
    world
}

fn guest(number: u128, host: &str, cores: f32) -> Vm {
    let mut guest = vm(number, &format!("g-{number}"), host);
    (guest.vcpus, guest.memory_mib, guest.mode) = (2, 2_048, Mode::Act);
    guest.mark = Some(Mark { plane: "home".into(), epoch: 1 });
    guest.load.cpu_cores = Some(cores);
    guest
}

fn edit_a(world: &mut World, edit: impl FnOnce(&mut Host)) {
    assert!(world.edit_host(&"a".into(), edit).is_some());
}

fn edit_4(world: &mut World, edit: impl FnOnce(&mut Vm)) {
    assert!(world.edit_vm(id(4), edit).is_some());
}

fn id(number: u128) -> VmId {
    VmId(uuid::Uuid::from_u128(number))
}

fn trial(world: World) -> Box<dyn Trial> {
    trial_with(world, Usage::default(), Guardrails::default())
}

fn trial_with(world: World, usage: Usage, guardrails: Guardrails) -> Box<dyn Trial> {
    PlaneTrials::new(Rc::new(RefCell::new(world)), Rc::new(RefCell::new(usage)), guardrails).trial(NOW)
}

fn none(trial: &dyn Trial) -> HostSet {
    trial.hosts_where(|_| false)
}

/// All that can be seen of a trial.
fn seen(trial: &dyn Trial) -> Vec<String> {
    let host = |host| format!("{:?} {:.6} {:?}", trial.guests(host), trial.load(host), trial.is_over(host, TEST));
    (0..trial.hosts().len()).map(host).collect()
}

proptest! {
    /// Whatever is tried can be taken back, and what was not is as it was.
    #[test]
    fn tries_leave_no_trace(tries in prop::collection::vec((1u128..=4, 0usize..3, any::<bool>()), 0..20), keep in 0usize..20) {
        let (mut trial, mut anew) = (trial(world()), trial(world()));
        let untouched = seen(&*trial);
        let mut kept = trial.mark();
        for (index, (guest, host, put)) in tries.iter().enumerate() {
            if index == keep {
                kept = trial.mark();
            }
            if *put { trial.put(id(*guest), *host) } else { trial.take(id(*guest)) }
        }
        if keep >= tries.len() {
            kept = trial.mark();
        }
        trial.back(kept);
        for (guest, host, put) in tries.iter().take(keep) {
            if *put { anew.put(id(*guest), *host) } else { anew.take(id(*guest)) }
        }
        prop_assert_eq!((seen(&*trial), trial.moves()), (seen(&*anew), anew.moves()));
        trial.back(0);
        prop_assert_eq!(seen(&*trial), untouched);
        prop_assert!(trial.moves().is_empty());
    }
}

#[test]
fn a_guest_goes_once_and_to_where_it_would_be() {
    let mut trial = trial(world());
    trial.put(id(1), 1);
    trial.put(id(2), 1);
    trial.put(id(1), 2);
    assert_eq!(trial.moves(), [(id(2), 1), (id(1), 2)]);
    trial.put(id(1), 0);
    trial.take(id(2));
    assert_eq!(trial.moves(), [], "back home, and nowhere");
}

#[test]
fn loads_are_what_guests_use_and_wait_for() {
    let mut world = world();
    world.sample_vm(id(3), |vm| vm.load.cpu_wait_cores = Some(0.5));
    let mut trial = trial(world);
    assert_eq!((trial.load(0), trial.used(0)), (3.5 / 8.0, 3.0 / 8.0));
    assert_eq!((trial.wanted(id(3)), trial.wanted_of(id(3), 1)), (1.0, 0.25));
    trial.put(id(3), 1);
    assert_eq!((trial.load(0), trial.load(1), trial.used(0)), (1.5 / 8.0, 3.0 / 8.0, 3.0 / 8.0));
    assert!(trial.is_unused(2) && !trial.is_unused(0));
}

#[test]
fn guests_go_where_there_is_room_and_rules_hold() {
    let except = |names: &[usize]| HostSet::of(3, |host| names.contains(&host));
    // The fullest in use, and only if it must a host that is not.
    let free = trial(world());
    assert_eq!(free.fullest(id(4), TEST, &except(&[])), Some(0));
    assert_eq!(free.fullest(id(4), TEST, &except(&[0])), Some(2));
    assert_eq!(free.fullest(id(1), TEST, &except(&[])), Some(1));
    assert_eq!(free.fullest(id(1), TEST, &except(&[1, 2])), None, "not where it is");
    assert_eq!(free.fullest(id(1), Overload::Threshold { limit: 0.15 }, &except(&[])), Some(2), "1.5 of 8 cores are too many");

    let refuses = |change: &dyn Fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        let trial = trial(world);
        trial.fullest(id(4), TEST, &except(&[2])).is_none() && trial.cheapest(id(4), TEST, &except(&[2])).is_none()
    };
    assert!(!refuses(&|_| {}));
    assert!(refuses(&|world| edit_a(world, |host| host.maintenance = Maintenance::On(NOW))));
    assert!(refuses(&|world| edit_a(world, |host| host.link = Link::Unknown)));
    assert!(refuses(&|world| edit_a(world, |host| host.capacity.memory_mib = 8_192)), "8 GiB less a tenth");
    assert!(refuses(&|world| edit_4(world, |vm| vm.vcpus = 27)), "four a core");
    let apart = |hard| AffinityRule { name: "r".into(), kind: Affinity::Apart, hard, vms: vec!["g-1".into(), "g-4".into()] };
    assert!(refuses(&|world| world.set_rules(vec![apart(true)])) && !refuses(&|world| world.set_rules(vec![apart(false)])));
    let together = |vms: &[&str]| AffinityRule {
        name: "r".into(),
        kind: Affinity::Together,
        hard: true,
        vms: vms.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert!(!refuses(&|world| world.set_rules(vec![together(&["g-1", "g-4"])])), "to each other they may go");
    let mut pair = world();
    pair.set_rules(vec![together(&["g-1", "g-2"])]);
    assert_eq!(trial(pair).fullest(id(1), TEST, &except(&[])), None, "from each other they may not");
}

#[test]
fn who_must_stay_stays_and_counts() {
    let stays = |change: &dyn Fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        let mut trial = trial(world);
        trial.take(id(4));
        trial.put(id(4), 2);
        assert!(trial.has(id(4)) && trial.cheapest(id(4), TEST, &none(&*trial)).is_none());
        trial.is_fixed(1)
            && trial.guests(1).is_empty()
            && trial.moves().is_empty()
            && trial.load(1) > 0.0
            && !trial.is_unused(1)
    };
    let edited = |edit: fn(&mut Vm)| stays(&|world| edit_4(world, edit));
    assert!(edited(|vm| vm.mode = Mode::Observe));
    assert!(edited(|vm| vm.mark = None));
    assert!(edited(|vm| vm.state = VmState::Paused));
    assert!(edited(|vm| vm.load.cpu_cores = None), "nothing is known of it");
    let open = (crate::model::ActionId(7), crate::model::Verb::Migrate);
    assert!(stays(&|world| assert!(world.open.insert(id(4), open).is_none())));
}

#[test]
fn a_guest_on_its_way_counts_at_both_ends() {
    let mut world = world();
    world.open.insert(id(4), (crate::model::ActionId(7), crate::model::Verb::Migrate));
    world.moving.insert(id(4), "c".into());
    let trial = trial(world);
    assert_eq!((trial.load(1), trial.load(2)), (1.0 / 8.0, 1.0 / 8.0));
    assert!(trial.is_fixed(1) && trial.is_fixed(2) && !trial.is_unused(2));
    assert_eq!(trial.ranked(TEST), [0], "neither end can be emptied");
    assert_eq!(trial.least_used(&none(&*trial)), Some(0));
}

#[test]
fn what_is_asleep_costs_more_to_use() {
    let mut world = world();
    world.sample_host(&"c".into(), |host| host.load.asleep = Some(true));
    let trial = trial(world);
    // Equal hosts: the first adds as little as any.
    assert_eq!(trial.cheapest(id(4), TEST, &none(&*trial)), Some(0));
    let all_but_c = HostSet::of(3, |host| host < 2);
    assert_eq!(trial.cheapest(id(4), TEST, &all_but_c), Some(2));
}

#[test]
fn the_past_is_that_of_the_guests() {
    let mut usage = Usage::default();
    let mut past = guest(4, "b", 0.0);
    // Every minute of the last hour; in the first half it used both its processors.
    for minute in 0..60 {
        past.load_at = Timestamp(NOW.0 - (59 - minute) * 60_000);
        past.load.cpu_cores = Some(if minute < 30 { 2.0 } else { 0.0 });
        usage.record_vm(&past);
    }
    let trial = trial_with(world(), usage, Guardrails::default());
    let spread = Overload::Spread { deviations: 1.0, cap: 0.9, slots: 12 };
    // Six slots of 0.25 of the host and six of nothing.
    assert!((trial.expected(1, spread) - 0.25).abs() < 1e-9, "{}", trial.expected(1, spread));
    let recent = Overload::Spread { deviations: 1.0, cap: 0.9, slots: 5 };
    assert!((trial.expected(1, recent) - 0.125).abs() < 1e-9, "what it uses now");
    let is_over = |slots| trial.is_over(1, Overload::Spread { deviations: 1.0, cap: 0.2, slots });
    assert!(is_over(12) && !is_over(5));
}

#[test]
fn sets_of_hosts_know_their_members() {
    let mut set = HostSet::of(800, |host| host % 400 == 63);
    set.insert(799);
    assert_eq!(set.iter().collect::<Vec<_>>(), [63, 463, 799]);
    assert!(set.contains(63) && !set.contains(64));
    assert_eq!((set.len(), set.others().count()), (3, 797));
    assert!(set.others().all(|host| !set.contains(host) && host < 800));
    let mut other = HostSet::of(800, |host| host == 1);
    assert!(!other.is_empty() && HostSet::of(800, |_| false).is_empty());
    other.insert_all(&set);
    assert_eq!(other.iter().collect::<Vec<_>>(), [1, 63, 463, 799]);
}
