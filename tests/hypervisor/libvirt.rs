//! libvirt on real hosts with real guests, where this machine can have them.
//!
//! The cases share two hosts. Guests are software-emulated: they are started and left to boot, since few cases need a guest
//! that has booted, and those wait by themselves.

use crate::contract::{self, Ability, Fixture, Side, Wanted};
use embot::hypervisor::{Destination, Hypervisor, MigrationLimits, Rewriting};
use embot::model::VmId;
use lab::{Guest, Lab};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

#[path = "../lab/lab.rs"]
#[allow(dead_code, reason = "the lab's own tests need more of it")]
mod lab;

struct Libvirt {
    lab: Arc<Lab>,
    guests: Mutex<BTreeMap<VmId, Guest>>,
    /// No other case has these hosts.
    alone: bool,
}

fn shared() -> Option<Libvirt> {
    // The last case that ends takes the hosts down.
    static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    let lab = match shared.upgrade() {
        Some(lab) => lab,
        None => Arc::new(Lab::up("the contract with libvirt", 2)?),
    };
    *shared = Arc::downgrade(&lab);
    Some(Libvirt { lab, guests: Mutex::default(), alone: false })
}

contract_tests!(shared());

#[test]
fn describes_everything_after_its_daemon_restarted() {
    let Some(lab) = Lab::up("describes_everything_after_its_daemon_restarted", 1) else { return };
    let fixture = Libvirt { lab: Arc::new(lab), guests: Mutex::default(), alone: true };
    contract::describes_everything_after_a_reconnect(&fixture);
}

fn host(side: Side) -> &'static str {
    match side {
        Side::A => "host-a",
        Side::B => "host-b",
    }
}

impl Fixture for Libvirt {
    fn connect(&self, side: Side) -> Box<dyn Hypervisor> {
        Box::new(self.lab.host(host(side)))
    }

    fn destination(&self, side: Side) -> Destination {
        self.lab.destination(host(side))
    }

    fn destination_from_here(&self, side: Side) -> Destination {
        Destination { host: host(side).into(), uri: self.lab.uri(host(side)).into(), migration_uri: None }
    }

    fn rewriting(&self) -> Rewriting {
        // Both hosts see the folder of the run and the guests' image.
        let base = std::env::var("EMBOT_LAB_BASE").unwrap_or_else(|_| "/tmp".to_owned());
        let cache = std::env::var("EMBOT_LAB_CACHE").unwrap_or_else(|_| "/var/cache/embot-lab".to_owned());
        let same = |folder: String| (folder.as_str().into(), folder.as_str().into());
        Rewriting { paths: [format!("{base}/"), format!("{cache}/")].map(same).into(), ..Rewriting::default() }
    }

    fn guest(&self, side: Side, wanted: &Wanted) -> VmId {
        let host = host(side);
        let guest = self.lab.guest(host, &wanted.name, &["--vcpus", "2"]);
        if wanted.deaf {
            // Without ACPI there is no power button.
            let xml = self.lab.virsh(host, &["dumpxml", &wanted.name]).unwrap().replace("<acpi/>", "");
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, xml).unwrap();
            self.lab.virsh(host, &["define", &file.path().to_string_lossy()]).unwrap();
        }
        if let Some(mark) = &wanted.mark {
            let mark = format!("<mark plane='{}' epoch='{}'/>", mark.plane, mark.epoch);
            let set = ["metadata", &wanted.name, "--uri", "urn:embot:mark:1", "--key", "embot-mark", "--config", "--set"];
            self.lab.virsh(host, &[&set[..], &[&mark]].concat()).unwrap();
        }
        if wanted.running {
            self.lab.virsh(host, &["start", &wanted.name]).unwrap();
        }
        let vm = guest.vm;
        self.guests.lock().unwrap().insert(vm, guest);
        vm
    }

    fn xml(&self, vm: VmId, name: &str) -> String {
        format!(
            "<domain type='qemu'><name>{name}</name><uuid>{vm}</uuid><memory unit='MiB'>64</memory><vcpu>2</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
        )
    }

    fn crash(&self, vm: VmId) {
        self.lab.kill(&self.guests.lock().unwrap()[&vm]);
    }

    fn slowly(&self) -> MigrationLimits {
        MigrationLimits { bandwidth_mib_per_s: Some(8), ..MigrationLimits::default() }
    }

    fn can(&self, ability: Ability) -> bool {
        match ability {
            // QEMU changes the most memory of a guest only while it is off, and a host that refuses would refuse all cases.
            Ability::ResizeLive | Ability::Refuse => false,
            Ability::Lose => self.alone,
            Ability::Shutdown | Ability::Balloon => true,
        }
    }

    fn lose(&self, side: Side) {
        self.lab.run("restart-libvirtd", &["--host", host(side)]).unwrap();
    }

    fn remove(&self, vm: VmId) {
        for host in ["host-a", "host-b"] {
            // It is on one of them, running or not.
            let _ = self.lab.virsh(host, &["destroy", &vm.to_string()]);
            let _ = self.lab.virsh(host, &["undefine", "--managed-save", &vm.to_string()]);
        }
    }
}
