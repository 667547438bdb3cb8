//! Small hosts and guests for tests of other modules.

use super::action::Verb;
use super::element::VmId;
use super::hash::ContentHash;
use super::host::{Capacity, Host, HostLoad, Link, Maintenance};
use super::migration::{MigrationRow, Phase, Side, Staged};
use super::offer::{Offer, OfferedGuest, OfferedHost, OfferedModule};
use super::peer::{Peer, Summary};
use super::time::Timestamp;
use super::vm::{Mark, Mode, Reason, Vm, VmLoad, VmState};
use std::collections::{BTreeMap, BTreeSet};

/// A host that is up, with 8 cores and 32 GiB.
pub fn host(name: &str) -> Host {
    Host {
        id: name.into(),
        site: "".into(),
        labels: BTreeMap::new(),
        capacity: Capacity { cpus: 8, memory_mib: 32_768 },
        link: Link::Up,
        maintenance: Maintenance::Off,
        load: HostLoad::default(),
        load_at: Timestamp::default(),
        vms: BTreeSet::new(),
    }
}

/// A running guest of plane `home`, in act mode, with 2 vcpus and 2 GiB.
pub fn vm(number: u128, name: &str, host: &str) -> Vm {
    Vm {
        id: VmId(uuid::Uuid::from_u128(number)),
        name: name.into(),
        host: host.into(),
        state: VmState::Running,
        reason: Reason::Booted,
        since: Timestamp::default(),
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
        load: VmLoad::default(),
        load_at: Timestamp::default(),
    }
}

/// A migration of guest `web` with this number, just offered by plane `site-a`.
pub fn migration(side: Side, number: u128) -> MigrationRow {
    MigrationRow {
        side,
        peer: if side == Side::Source { "site-b".into() } else { "site-a".into() },
        vm: VmId(uuid::Uuid::from_u128(number)),
        name: "web".into(),
        epoch: 3,
        live: true,
        machine: vec![1, 2, 3],
        host: "a".into(),
        is_held: false,
        is_frozen: false,
        rounds: Vec::new(),
        lots: Vec::new(),
        reservation: None,
        grant: None,
        staged: Staged::default(),
        phases: vec![Phase { word: "offered".into(), at: Timestamp(1) }],
        outcome: None,
    }
}

/// An offer of guest `web` (2 vcpus, 2 GiB, one signed module) by this plane; host `a` can take it, host `b` cannot.
pub fn offer(plane: &str) -> Offer {
    let permits: BTreeSet<Verb> = [Verb::Migrate, Verb::Notify].into();
    Offer {
        migration: format!("{plane}/41").into(),
        plane: plane.into(),
        reason: "the plane is hot".into(),
        guest: OfferedGuest {
            id: VmId(uuid::Uuid::from_u128(41)),
            name: "web".into(),
            epoch: 3,
            vcpus: 2,
            memory_mib: 2_048,
            cpu_cores: Some(1.5),
            cpu_model: "Skylake-Server".into(),
            devices: vec!["disk:virtio".into(), "nic:virtio".into()],
            networks: ["default".into()].into(),
            copy_bytes: 0,
            labels: BTreeMap::new(),
        },
        modules: vec![OfferedModule {
            name: "relieve-hot-host".into(),
            version: "1.0.0".into(),
            serial: 7,
            hash: ContentHash::of(b"relieve-hot-host"),
            signed_by: Some("ops".into()),
            mode: Mode::Act,
            permits: permits.clone(),
            in_force: false,
            refusal: None,
        }],
        mode: Mode::Act,
        permits,
        host: None,
        live: true,
        hosts: vec![
            OfferedHost { host: "a".into(), obstacle: None },
            OfferedHost { host: "b".into(), obstacle: Some("it is in maintenance".into()) },
        ],
    }
}

/// A peer that is reachable, takes guests and gives them, and has 16 cores and 32 GiB free.
pub fn peer(name: &str) -> Peer {
    let summary = Summary {
        hosts: 2,
        vms: 4,
        cpus: 16,
        cpu_cores: 4.0,
        memory_mib: 65_536,
        free_memory_mib: 32_768,
        largest_free_mib: 16_384,
        free_vcpus: 56,
        cpu_models: BTreeSet::new(),
        classes: BTreeSet::new(),
    };
    Peer { reachable: true, summary: Some(summary), ..Peer::new(name, true, true) }
}
