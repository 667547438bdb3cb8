//! A guest on offer, for tests.

use super::message::{Digest, DiskOffer, Grants, GuestOffer, ModuleOffer, Offer, Rewrite};
use super::{MigrationId, ResumeBy, Way};
use crate::model::{HostId, Mode, Span, Verb, VmId, VmState};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The first migration of the plane `a`.
pub fn id() -> MigrationId {
    MigrationId { plane: "a".into(), number: 1 }
}

/// A guest of the plane `a`, on offer to the plane `b` under epoch 7.
pub fn offer() -> Offer {
    Offer {
        vm: VmId(Uuid::from_u128(1)),
        epoch: 7,
        from: "a".into(),
        to: "b".into(),
        host: Some(HostId::from("b-1")),
        way: Way::Live,
        resume: ResumeBy::Manager,
        why: "a-1 is hot".into(),
        guest: GuestOffer {
            name: "web-1".into(),
            state: VmState::Running,
            vcpus: 2,
            memory_mib: 2048,
            cpu_millicores: 500,
            labels: BTreeMap::from([("tier".into(), "web".into())]),
            mode: Mode::Act,
            cpu_model: "EPYC".into(),
            machine: "pc-i440fx-7.2".into(),
            passthrough: Vec::new(),
            disks: vec![DiskOffer { target: "vda".into(), path: "/pool/web-1.qcow2".into(), bytes: 1 << 30, shared: true }],
            bases: vec!["/pool/debian.qcow2".into()],
            networks: vec!["br0".into()],
            autostart: true,
            description: "<domain/>".into(),
        },
        modules: vec![ModuleOffer {
            name: "count".into(),
            hash: Digest([1; 32]),
            sealed: vec![4].into(),
            mode: Mode::Act,
            permits: BTreeSet::from([Verb::Migrate]),
        }],
    }
}

/// What the plane `b` grants.
pub fn grants() -> Grants {
    Grants {
        host: HostId::from("b-1"),
        mode: Mode::Advise,
        permits: BTreeSet::from([Verb::Migrate]),
        lease: Span::minutes(2),
        hypervisor_uri: "qemu+tls://b-1/system".into(),
        migration_uri: "tcp://b-1".into(),
        rewrites: vec![
            Rewrite::File { from: "/pool/".into(), to: "/images/".into() },
            Rewrite::Network { from: "br0".into(), to: "br7".into() },
        ],
    }
}
