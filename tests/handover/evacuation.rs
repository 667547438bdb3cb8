//! Two hosts with fifty guests are emptied, to another host of the plane and, for those that find no place there, to a peer.

use crate::kit::{self, A, B};
use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fleet, FleetPlan};
use embot::manager::{HostSettings, Manager};
use embot::model::{Action, ActionKind, ActionState, Command, HostId, Peer, Span, Timestamp, VmId};
use embot::plan::Guardrails;
use embot::simulate::{Plane, Simulation};
use embot::store::Recovered;
use std::collections::{BTreeMap, BTreeSet};

/// Half of the guests fit on the plane's other host.
const FLEET: &str = "
hosts:
  - { name: a-1, cpus: 64, memory_mib: 65536, bandwidth_mib_per_s: 1000 }
  - { name: a-3, cpus: 64, memory_mib: 65536, bandwidth_mib_per_s: 1000 }
  - { name: a-2, cpus: 64, memory_mib: 30000, bandwidth_mib_per_s: 1000 }
  - { name: 'b-{n}', count: 2, cpus: 64, memory_mib: 32768, bandwidth_mib_per_s: 1000 }
guests:
  - { name: 'high-{n}', count: 10, on: [a-1, a-3], vcpus: 1, memory_mib: 1024, load: { cpu: 0.2, memory: 0.5 }, labels: { priority: high } }
  - { name: 'plain-{n}', count: 30, on: [a-1, a-3], vcpus: 1, memory_mib: 1024, load: { cpu: 0.2, memory: 0.5 } }
  - { name: 'low-{n}', count: 10, on: [a-1, a-3], vcpus: 1, memory_mib: 1024, load: { cpu: 0.2, memory: 0.5 }, labels: { priority: low } }
";
const GUESTS: usize = 50;
const EMPTIED: [&str; 2] = ["a-1", "a-3"];

/// At a time: of one host in and out, of the plane, with the peer.
const PER_HOST: u32 = 4;
const IN_PLANE: u32 = 6;
const WITH_PEER: u32 = 3;

fn planes() -> Simulation {
    let fleet = FleetPlan::parse("fleet.yaml", FLEET).unwrap_or_else(|error| panic!("{error}"));
    let planes = ["a", "b"].map(|name| {
        let mut settings = kit::settings(name);
        if name == "a" {
            settings.hosts.push(HostSettings { id: "a-3".into(), ..settings.hosts[0].clone() });
        }
        let guardrails = settings.guardrails.clone();
        settings.guardrails =
            Guardrails { migrations_per_host: PER_HOST, migrations: IN_PLANE, blast_radius: 1.0, ..guardrails };
        settings.handover.peers.iter_mut().for_each(|peer: &mut Peer| peer.migrations = WITH_PEER);
        Plane::new(Manager::new(settings, Recovered::nothing()), MigrationLimits::default()).with_batches()
    });
    let fleet = Fleet::new(&fleet, Timestamp(0)).unwrap();
    Simulation::new(fleet, planes.into(), Span::seconds(5), Span(20)).with_summaries(Span::seconds(10))
}

/// What is under way at this moment must be within all limits. Adds to the most there ever was: on a host, in the plane, with
/// the peer.
fn hold(planes: &Simulation, most: &mut [u32; 3]) {
    for plane in [A, B] {
        let (mut hosts, mut total, mut with_peer) = (BTreeMap::<HostId, u32>::new(), 0, 0);
        let manager = planes.manager(plane);
        for action in manager.open().filter(|action| !matches!(action.state, ActionState::Advised { .. })) {
            let to = match &action.proposal.kind {
                ActionKind::Migrate { to, .. } => to.clone(),
                ActionKind::Handover { .. } => {
                    with_peer += 1;
                    None
                }
                _ => continue,
            };
            total += 1;
            for host in action.host.iter().cloned().chain(to) {
                *hosts.entry(host).or_default() += 1;
            }
        }
        for room in manager.world().reserved.values() {
            *hosts.entry(room.host.clone()).or_default() += 1;
            (total, with_peer) = (total + 1, with_peer + 1);
        }
        let busiest = hosts.values().copied().max().unwrap_or(0);
        assert!(hosts.values().all(|busy| *busy <= PER_HOST), "plane {plane}: {hosts:?}");
        assert!(total <= IN_PLANE && with_peer <= WITH_PEER, "plane {plane}: {total} in all, {with_peer} with the peer");
        for (most, now) in most.iter_mut().zip([busiest, total, with_peer]) {
            *most = (*most).max(now);
        }
    }
}

/// The guests in the order in which they first set out.
fn order(planes: &Simulation) -> Vec<VmId> {
    let mut seen = BTreeSet::new();
    let manager = planes.manager(A);
    let mut moves: Vec<&Action> = manager.actions().filter(|action| action.proposal.embot.is_some()).collect();
    moves.sort_by_key(|action| action.id);
    let vms = moves.iter().filter_map(|action| action.proposal.kind.vm());
    vms.filter(|vm| seen.insert(*vm)).collect()
}

#[test]
fn fifty_guests_leave_two_hosts_within_every_limit_and_by_priority() {
    let mut planes = planes();
    planes.run_for(Span::seconds(6)).unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let manifest = read("embots/evacuate-maintenance.yaml");
    let wanted = [("at_once: 2", "at_once: 10\n  patience: 30s"), ("to_peers: false", "to_peers: true")];
    let manifest = wanted.iter().fold(manifest, |text, (old, new)| {
        assert!(text.contains(old), "{text}");
        text.replace(old, new)
    });
    kit::must(&mut planes, A, kit::module((&manifest, &read("policies/evacuate-maintenance.rhai"))));
    kit::must(&mut planes, B, kit::module(kit::ADMIT));
    planes.run_for(Span::seconds(20)).unwrap();
    let homes: BTreeMap<VmId, HostId> = planes.manager(A).world().vms().map(|vm| (vm.id, vm.host.clone())).collect();
    for host in EMPTIED {
        kit::must(&mut planes, A, Command::Maintenance { host: host.into(), on: true });
    }

    let (began, mut most) = (planes.now(), [0; 3]);
    let left = |planes: &Simulation| {
        let world = planes.manager(A).world();
        EMPTIED.iter().map(|host| world.vms_on(&(*host).into()).count()).sum::<usize>()
    };
    let is_over = |planes: &Simulation| left(planes) == 0 && planes.manager(A).open().count() == 0;
    let over = planes.run_until(Span::minutes(60), |planes| {
        hold(planes, &mut most);
        is_over(planes)
    });
    assert!(over.unwrap(), "{} guests are left\n{}", left(&planes), kit::notices(&planes));
    let took = planes.now().since(began);
    assert_eq!(most, [PER_HOST, IN_PLANE, WITH_PEER], "the limits are used");

    let owned = |plane: usize| -> Vec<(String, String)> {
        let manager = planes.manager(plane);
        let (world, name) = (manager.world(), manager.settings().plane.clone());
        world.vms().filter(|vm| vm.epoch_of(&name).is_some()).map(|vm| (vm.name.to_string(), vm.host.to_string())).collect()
    };
    let (here, there) = (owned(A), owned(B));
    println!(
        "{GUESTS} guests left two hosts in {took} of virtual time: {} to the plane's third host, {} to the peer; at most {} at a \
         time on a host, {} in the plane, {} with the peer",
        here.len(),
        there.len(),
        most[0],
        most[1],
        most[2]
    );
    assert_eq!(here.len() + there.len(), GUESTS);
    assert!(here.iter().all(|(_, host)| host == "a-2") && there.iter().all(|(_, host)| host.starts_with("b-")));
    assert!(here.len() >= 20 && there.len() >= 20, "{} stayed in the plane", here.len());

    let order = order(&planes);
    assert_eq!(order.len(), GUESTS);
    for host in EMPTIED {
        let of_host = order.iter().filter(|vm| &*homes[vm].0 == host);
        let names = of_host.map(|vm| planes.fleet().guest(*vm).expect("the guest").description.name.to_string());
        let names: Vec<String> = names.collect();
        let rank = |name: &String| ["high", "plain", "low"].iter().position(|rank| name.starts_with(rank));
        assert!(names.is_sorted_by_key(rank), "who matters more sets out first from {host}: {names:?}");
    }
}
