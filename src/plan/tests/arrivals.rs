//! Places for guests of other planes, what peers are told, and handovers as actions.

use super::*;
use crate::model::testing::{offer, peer};
use crate::model::{
    Abilities, Affinity, AffinityRule, Maintenance, MigrationId, OfferedGuest, OfferedHost, Peer, Reason, Reservation, VmState,
};
use crate::plan::Arrival;

impl Plane {
    fn places(&self, guest: &OfferedGuest, arriving: &[Arrival]) -> Vec<OfferedHost> {
        let Plane { world, usage, guardrails, open, now, planner, .. } = self;
        planner.places(&Situation { world, usage, guardrails, open, now: *now }, guest, true, arriving)
    }

    fn summary(&self, arriving: &[Arrival]) -> crate::model::Summary {
        let Plane { world, usage, guardrails, open, now, planner, .. } = self;
        planner.summary(&Situation { world, usage, guardrails, open, now: *now }, arriving)
    }
}

fn told(places: &[OfferedHost]) -> Vec<String> {
    let told = |place: &OfferedHost| format!("{}: {}", place.host, place.obstacle.as_deref().unwrap_or("yes"));
    places.iter().map(told).collect()
}

fn arrival(host: &str, memory_mib: u64) -> Arrival {
    Arrival { host: host.into(), vcpus: 2, memory_mib, cpu_cores: Some(1.0) }
}

fn handover(number: u128, plane: &str) -> ActionKind {
    ActionKind::Handover { vm: id(number), plane: plane.into(), host: None, live: true, force_after: None }
}

#[test]
fn hosts_are_compared_and_obstacles_are_told() {
    let mut plane = Plane::new();
    let guest = offer("site-b").guest;
    assert_eq!(
        told(&plane.places(&guest, &[])),
        ["b: yes", "c: yes", "a: CPU would go from 90 % to 109 %, and 80 % is the limit"]
    );
    // Who is on the way takes room and load already.
    assert_eq!(told(&plane.places(&guest, &[arrival("b", 1)]))[0], "c: yes");
    let full = told(&plane.places(&guest, &[arrival("b", 29_000), arrival("c", 1), arrival("c", 1)]));
    assert_eq!(
        full[1..],
        [
            "b: the host has promised 29000 MiB; 2048 more would pass the limit of 29491 MiB",
            "c: 2 of 2 migrations (in and out) are under way there"
        ]
    );
    plane.world.edit_host(&"c".into(), |host| host.maintenance = Maintenance::On(Timestamp(1)));
    let networks = ["other".into()].into();
    plane.world.abilities.insert("b".into(), Abilities { cpu_models: ["Haswell".into()].into(), networks });
    assert_eq!(
        told(&plane.places(&guest, &[]))[1..],
        ["b: it cannot give a guest the CPU model Skylake-Server", "c: it is in maintenance"]
    );
    let plain = OfferedGuest { cpu_model: "".into(), ..guest.clone() };
    assert_eq!(told(&plane.places(&plain, &[]))[1], "b: it has no network or bridge `default`");
    let passed = OfferedGuest { networks: Default::default(), devices: vec!["hostdev:pci".into()], ..plain };
    assert!(told(&plane.places(&passed, &[]))[1].contains("it cannot move while it runs"));
}

#[test]
fn hard_rules_hold_for_guests_that_come() {
    let mut plane = Plane::new();
    plane.world.put_vm(vm(20, "db-1", "b"));
    let rule = |kind| AffinityRule { name: "databases".into(), kind, hard: true, vms: vec!["db-*".into()] };
    let guest = OfferedGuest { name: "db-2".into(), ..offer("site-b").guest };
    plane.world.set_rules(vec![rule(Affinity::Apart)]);
    assert_eq!(told(&plane.places(&guest, &[]))[2], "b: hard rule databases keeps it apart from db-1");
    plane.world.set_rules(vec![rule(Affinity::Together)]);
    let places = told(&plane.places(&guest, &[]));
    assert_eq!((&*places[0], &*places[2]), ("b: yes", "c: hard rule databases keeps it together with db-1"));
}

#[test]
fn peers_are_told_what_is_free() {
    let mut plane = Plane::new();
    plane.world.edit_host(&"b".into(), |host| host.site = "oslo".into());
    let all = plane.summary(&[]);
    assert_eq!((all.hosts, all.vms, all.cpus, all.cpu_cores), (3, 10, 24, 11.2));
    // 90 % of 32 GiB each; ten guests of 2 GiB and 2 processors are on host a.
    assert_eq!((all.largest_free_mib, all.free_memory_mib), (29_491, 3 * 29_491 - 20_480));
    assert_eq!(all.free_vcpus, 3 * 32 - 20);
    assert_eq!(all.classes.iter().map(|class| &**class).collect::<Vec<_>>(), ["site=oslo"]);
    assert_eq!(plane.summary(&[arrival("b", 1_000)]).free_memory_mib, all.free_memory_mib - 1_000);
    plane.world.edit_host(&"b".into(), |host| host.maintenance = Maintenance::On(Timestamp(1)));
    assert_eq!(plane.summary(&[]).hosts, 2);
}

#[test]
fn a_handover_needs_a_peer_that_takes_guests_and_counts_as_a_migration() {
    let mut plane = Plane::new();
    plane.guardrails.blast_radius = 1.0;
    let refused = |plane: &mut Plane, to: &str| plane.propose(handover(1, to)).unwrap_err().reason;
    assert!(refused(&mut plane, "home").contains("is on plane home already"));
    assert!(refused(&mut plane, "site-b").contains("has no peer site-b"));
    plane.world.peers.insert("site-b".into(), peer("site-b"));
    plane.world.peers.get_mut("site-b").unwrap().sends = false;
    assert!(refused(&mut plane, "site-b").contains("not offered to site-b"));
    let there = plane.world.peers.get_mut("site-b").unwrap();
    (there.sends, there.reachable) = (true, false);
    assert!(refused(&mut plane, "site-b").contains("no connection to plane site-b"));
    plane.world.peers.get_mut("site-b").unwrap().reachable = true;
    plane.start(handover(1, "site-b"));
    let first = plane.open.values().next().unwrap();
    assert!(first.weighed.iter().any(|line| line.contains("site-b had 32768 MiB free")), "{:?}", first.weighed);
    assert_eq!(first.host, Some("a".into()));
    assert_eq!(plane.propose(migrate(1, Some("b"))).unwrap_err().guardrail, "busy");
    plane.start(handover(2, "site-b"));
    let third = plane.propose(handover(3, "site-b")).unwrap_err();
    assert!(third.reason.contains("2 of 2 migrations (in and out) are under way on a"), "{}", third.reason);
}

#[test]
fn a_guest_goes_live_while_it_runs_and_cold_otherwise() {
    let told = |state: VmState, reason: Reason, live: bool| {
        let mut plane = Plane::new();
        plane.guardrails.blast_radius = 1.0;
        plane.world.peers.insert("site-b".into(), peer("site-b"));
        plane.world.edit_vm(id(1), |vm| (vm.state, vm.reason) = (state, reason));
        let kind = ActionKind::Handover { vm: id(1), plane: "site-b".into(), host: None, live, force_after: None };
        plane.propose(kind).map_or_else(|refusal| refusal.reason, |_| "yes".to_owned())
    };
    let states = [
        (VmState::Running, Reason::Booted),
        (VmState::Paused, Reason::Asked),
        (VmState::Off, Reason::Shutdown),
        (VmState::Off, Reason::Saved),
        (VmState::Crashed, Reason::Failed),
    ];
    let all = states.iter().flat_map(|(state, reason)| {
        [true, false].map(|live| format!("{state} ({reason}), live: {live}: {}", told(*state, *reason, live)))
    });
    insta::assert_snapshot!(all.collect::<Vec<_>>().join("\n"));
}

#[test]
fn guests_on_their_way_to_a_peer_and_from_it_are_counted_together() {
    let mut plane = Plane::new();
    plane.guardrails.blast_radius = 1.0;
    plane.guardrails.migrations_per_host = 100;
    for name in ["site-b", "site-c"] {
        plane.world.peers.insert(name.into(), Peer { migrations: 2, ..peer(name) });
    }
    let coming = MigrationId { plane: "site-b".into(), number: 7 };
    let room = Reservation { host: "b".into(), vcpus: 1, memory_mib: 1_024, cores: 1.0 };
    plane.world.reserved.insert(coming.clone(), room);
    plane.start(handover(1, "site-b"));
    let full = "2 of 2 migrations to and from plane site-b are under way; wait for one to end, or raise `limits.migrations` of site-b under `peers`";
    let refused = plane.propose(handover(2, "site-b")).unwrap_err();
    assert_eq!((&*refused.guardrail, &*refused.reason), ("migrations", full));
    let admits = |plane: &Plane, from: &str| {
        let Plane { world, usage, guardrails, open, now, planner, .. } = plane;
        planner.admits(&Situation { world, usage, guardrails, open, now: *now }, &world.peers[from])
    };
    assert_eq!(admits(&plane, "site-b").unwrap_err().as_ref(), full, "the other plane hears the same");
    admits(&plane, "site-c").unwrap();
    plane.start(handover(2, "site-c"));

    // All of them count for the plane, its own migrations as well.
    plane.guardrails.migrations = 3;
    let full = "3 of 3 migrations are under way in the plane";
    assert!(plane.propose(migrate(3, Some("c"))).unwrap_err().reason.starts_with(full));
    assert!(admits(&plane, "site-c").unwrap_err().starts_with(full));
    plane.world.reserved.remove(&coming);
    admits(&plane, "site-c").unwrap();
    admits(&plane, "site-b").unwrap();
    plane.propose(migrate(3, Some("c"))).unwrap();
}
