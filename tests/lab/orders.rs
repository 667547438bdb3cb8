//! Orders other than migration.

use super::*;
use embot::model::Span;

#[test]
fn orders_are_carried_out() {
    let Some(lab) = Lab::up("orders_are_carried_out", 1) else { return };
    let host = lab.host("host-a");
    let notices = Notices::of(&host);
    let guest = lab.guest("host-a", "web", &["--start", "--vcpus", "2"]);
    let vm = guest.vm;
    report(&host);
    execute(&host, ActionKind::Adopt { vm }).unwrap();

    execute(&host, ActionKind::Suspend { vm }).unwrap();
    assert_eq!(state(&host, vm), Some((VmState::Paused, Reason::Asked)));
    let again = Order { expects: Some(VmState::Running), ..order(ActionKind::Suspend { vm }) };
    assert_eq!(failure(host.execute(&again, &Waiting::default())).0, ErrorKind::Precondition);
    execute(&host, ActionKind::Resume { vm }).unwrap();

    execute(&host, ActionKind::Balloon { vm, memory_mib: 80 }).unwrap();
    notices.await_one(vm, &NoticeBody::Balloon(80));
    assert_eq!(domain(&report(&host), vm).unwrap().balloon_mib, Some(80));
    assert_eq!(failure(execute(&host, ActionKind::Balloon { vm, memory_mib: 97 })).0, ErrorKind::Precondition);
    let (kind, what) = failure(execute(&host, ActionKind::SetMemory { vm, memory_mib: 128 }));
    assert_eq!(kind, ErrorKind::Unsupported, "{what}");
    let (kind, what) = failure(execute(&host, ActionKind::SetVcpus { vm, vcpus: 3 }));
    assert_eq!(kind, ErrorKind::Unsupported, "{what}");

    // Saved and restored, it goes on where it was.
    guest.counts_on();
    let before = guest.counts().len();
    execute(&host, ActionKind::Save { vm }).unwrap();
    assert_eq!(state(&host, vm), Some((VmState::Off, Reason::Saved)));
    execute(&host, ActionKind::Restore { vm }).unwrap();
    guest.counts_on();
    guest.assert_no_gap();
    assert!(guest.counts().len() > before);

    execute(&host, ActionKind::Reset { vm }).unwrap();
    until("the guest to boot again", || guest.counts()[before..].contains(&1).then_some(()));

    // Told to shut down, it does.
    execute(&host, ActionKind::Shutdown { vm, force_after: None }).unwrap();
    assert_eq!(state(&host, vm), Some((VmState::Off, Reason::Shutdown)));
    assert_eq!(failure(execute(&host, ActionKind::Restore { vm })).0, ErrorKind::Precondition, "nothing is saved");

    // While it is off, its size may change.
    execute(&host, ActionKind::SetVcpus { vm, vcpus: 1 }).unwrap();
    execute(&host, ActionKind::SetMemory { vm, memory_mib: 100 }).unwrap();
    let resized = report(&host);
    let description = domain(&resized, vm).unwrap().description.clone().unwrap();
    assert_eq!((description.vcpus, description.memory_mib), (1, 100));

    // A guest that has only begun to boot does not hear of its power button: the wish is withdrawn, or it is forced after a time.
    execute(&host, ActionKind::Start { vm }).unwrap();
    assert_eq!(failure(execute(&host, ActionKind::Start { vm })).0, ErrorKind::Precondition);
    let waiting = Waiting::default();
    waiting.cancelled.store(true, std::sync::atomic::Ordering::SeqCst);
    let (kind, what) = failure(host.execute(&order(ActionKind::Shutdown { vm, force_after: None }), &waiting));
    assert_eq!(kind, ErrorKind::Cancelled, "{what}");
    assert_eq!(state(&host, vm).map(|(state, _)| state), Some(VmState::Running));
    execute(&host, ActionKind::Shutdown { vm, force_after: Some(Span::seconds(1)) }).unwrap();
    assert_eq!(state(&host, vm), Some((VmState::Off, Reason::Asked)));

    // A processor can be plugged in while it runs.
    execute(&host, ActionKind::Start { vm }).unwrap();
    guest.counts_on();
    execute(&host, ActionKind::SetVcpus { vm, vcpus: 2 }).unwrap();
    let grown = report(&host);
    assert_eq!(domain(&grown, vm).unwrap().description.as_ref().map(|description| description.vcpus), Some(2));
    execute(&host, ActionKind::Destroy { vm }).unwrap();

    // Undefined, and defined again.
    let xml = lab.virsh("host-a", &["dumpxml", "--inactive", "web"]).unwrap();
    execute(&host, ActionKind::Undefine { vm }).unwrap();
    assert_eq!(state(&host, vm), None);
    let (kind, what) = failure(execute(&host, ActionKind::Undefine { vm }));
    assert_eq!(kind, ErrorKind::NotFound, "{what}");
    let define = |xml: &str| execute(&host, ActionKind::Define { vm, host: "host-a".into(), xml: xml.into() });
    let other = xml.replace(&vm.to_string(), "00000000-0000-0000-0000-000000000001");
    for bad in ["", "<domain/>", "\0", &other] {
        assert_eq!(failure(define(bad)).0, ErrorKind::Failed, "{bad}");
    }
    let (kind, what) = failure(define(&xml.replace("hvm", "abacus")));
    assert!(kind == ErrorKind::Unsupported && what.contains("cannot define") && what.contains("abacus"), "{what}");
    define(&xml).unwrap();
    assert_eq!(failure(define(&xml)).0, ErrorKind::Precondition, "it is there already");
    let defined = report(&host);
    let there = domain(&defined, vm).unwrap();
    assert_eq!(there.state, VmState::Off);
    assert_eq!(there.description.as_ref().and_then(|description| description.mark.as_ref()).map(|mark| mark.epoch), Some(1));
}
