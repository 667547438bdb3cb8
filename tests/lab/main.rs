//! The libvirt adapter on real hosts with real guests.
//!
//! Each test starts hosts of its own by `lab.sh` and removes them at its end, also when it fails. Guests take seconds to boot,
//! so a test is a walk through several cases with the same guests.

mod adoption;
mod cold;
mod daemon;
mod handover;
mod lab;
mod migration;
mod orders;
mod outages;
mod plane;
mod planes;
mod recovery;
mod reports;

use embot::hypervisor::libvirt::LibvirtHost;
use embot::hypervisor::{Destination, ErrorKind, Hypervisor, HypervisorError, MigrationLimits, Order};
use embot::model::{ActionId, ActionKind, DomainReport, HostReport, Notice, NoticeBody, Reason, VmId, VmState};
use lab::{Lab, Waiting, until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// An order of plane `home` under epoch 1.
fn order(kind: ActionKind) -> Order {
    let limits = MigrationLimits::default();
    Order { action: ActionId(1), kind, plane: "home".into(), epoch: 1, expects: None, destination: None, limits }
}

fn migrate(vm: VmId, destination: Destination, limits: MigrationLimits) -> Order {
    let kind = ActionKind::Migrate { vm, to: Some(destination.host.clone()), live: true };
    Order { destination: Some(destination), limits, ..order(kind) }
}

/// Has an order carried out by a host, with nobody changing their mind.
fn execute(host: &LibvirtHost, kind: ActionKind) -> Result<(), HypervisorError> {
    host.execute(&order(kind), &Waiting::default())
}

/// A slow migration: what the guest dirties comes faster than what may be sent.
fn slow() -> MigrationLimits {
    MigrationLimits { bandwidth_mib_per_s: Some(4), ..MigrationLimits::default() }
}

#[track_caller]
fn report(host: &LibvirtHost) -> HostReport {
    host.report(lab::clock().now()).unwrap()
}

fn domain(report: &HostReport, vm: VmId) -> Option<&DomainReport> {
    report.domains.iter().find(|domain| domain.vm == vm)
}

#[track_caller]
fn state(host: &LibvirtHost, vm: VmId) -> Option<(VmState, Reason)> {
    domain(&report(host), vm).map(|domain| (domain.state, domain.reason))
}

#[track_caller]
fn failure(result: Result<(), HypervisorError>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind, error.what)
}

/// The notices of one host.
struct Notices(Arc<Mutex<Vec<Notice>>>);

impl Notices {
    fn of(host: &LibvirtHost) -> Notices {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = heard.clone();
        host.subscribe(Arc::new(move |notice| keep.lock().unwrap().push(notice)));
        Notices(heard)
    }

    fn of_guest(&self, vm: VmId) -> Vec<NoticeBody> {
        self.0.lock().unwrap().iter().filter(|notice| notice.vm == vm).map(|notice| notice.body.clone()).collect()
    }

    /// When this was said first.
    fn first(&self, vm: VmId, wanted: &NoticeBody) -> Option<embot::model::Timestamp> {
        let heard = self.0.lock().unwrap();
        heard.iter().find(|notice| notice.vm == vm && notice.body == *wanted).map(|notice| notice.at)
    }

    fn await_one(&self, vm: VmId, wanted: &NoticeBody) {
        until(&format!("the notice {wanted:?}"), || self.of_guest(vm).contains(wanted).then_some(()));
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}
