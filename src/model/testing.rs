//! Small hosts and guests for tests of other modules.

use super::element::VmId;
use super::host::{Capacity, Host, HostLoad, Link, Maintenance};
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
