//! Orders whose manager died.

use super::*;
use embot::hypervisor::Fate;
use std::sync::atomic::Ordering;

/// Starts a slow migration through a client that then dies.
fn orphan(lab: &Lab, guest: &lab::Guest, bandwidth: &str) {
    let target = lab.destination("host-b").uri;
    let arguments = ["migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--bandwidth", bandwidth];
    let mut client = std::process::Command::new("virsh")
        .args(["--connect", lab.uri("host-a")])
        .args(arguments)
        .args([&*guest.name, &*target])
        .spawn()
        .unwrap();
    until("the migration to run", || {
        let job = lab.virsh("host-a", &["domjobinfo", &guest.name]).ok()?;
        (job.contains("Outgoing migration") && job.contains("Memory processed")).then_some(())
    });
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn what_became_of_an_order_is_found_out() {
    let Some(lab) = Lab::up("what_became_of_an_order_is_found_out", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let guest = lab.guest("host-a", "web", &["--start", "--memory", "160"]);
    let vm = guest.vm;
    report(&a);
    report(&b);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    let fate = |order: &Order, waiting: &Waiting| a.recover(order, waiting).unwrap();
    let plain = |kind| fate(&order(kind), &Waiting::default());
    let not_done = |fate: Fate| matches!(fate, Fate::NotDone(_));

    // Seen by the state.
    assert_eq!(plain(ActionKind::Start { vm }), Fate::Done);
    assert_eq!(plain(ActionKind::Adopt { vm }), Fate::Done);
    assert_eq!(plain(ActionKind::SetVcpus { vm, vcpus: 1 }), Fate::Done);
    assert_eq!(plain(ActionKind::Balloon { vm, memory_mib: 160 }), Fate::Done);
    assert_eq!(plain(ActionKind::SetVcpus { vm, vcpus: 2 }), Fate::NotDone("it has 1 vcpus, not 2".into()));
    assert!(not_done(plain(ActionKind::Shutdown { vm, force_after: None })));
    assert!(not_done(plain(ActionKind::Save { vm })));
    assert!(not_done(plain(ActionKind::Undefine { vm })));
    let stranger = VmId("00000000-0000-0000-0000-000000000001".parse().unwrap());
    assert!(not_done(plain(ActionKind::Start { vm: stranger })));
    assert_eq!(plain(ActionKind::Undefine { vm: stranger }), Fate::Done);

    // A migration that never began.
    let order = migrate(vm, lab.destination("host-b"), slow());
    let Fate::NotDone(what) = fate(&order, &Waiting::default()) else { panic!("it did not move") };
    assert_eq!(what, "it is still on host-a: running (booted)");

    // One that goes on without who asked for it: adopted, then cancelled.
    lab.tell(&guest, &["dirty", "32"]);
    orphan(&lab, &guest, "4");
    let waiting = Waiting::default();
    waiting.cancel_at_progress.store(true, Ordering::SeqCst);
    let Fate::NotDone(what) = fate(&order, &waiting) else { panic!("it was cancelled") };
    assert!(what.starts_with("the migration was cancelled; it is still on host-a: running"), "{what}");

    // The same, waited for to its end.
    lab.tell(&guest, &["calm"]);
    orphan(&lab, &guest, "8");
    let waiting = Waiting::default();
    assert_eq!(fate(&order, &waiting), Fate::Done);
    assert!(!waiting.progress.lock().unwrap().is_empty());
    assert_eq!(state(&a, vm), None);
    assert_eq!(state(&b, vm), Some((VmState::Running, Reason::Migration)));
    // Asked again, long after.
    assert_eq!(fate(&order, &Waiting::default()), Fate::Done);
    guest.counts_on();
    guest.assert_no_gap();

    // Neither here nor there.
    let lost = migrate(stranger, lab.destination("host-b"), slow());
    assert!(not_done(fate(&lost, &Waiting::default())));
}

#[test]
fn a_source_that_restarts_in_the_midst_of_a_migration_is_asked_again() {
    let Some(lab) = Lab::up("a_source_that_restarts_in_the_midst_of_a_migration_is_asked_again", 2) else { return };
    let a = lab.host("host-a");
    let guest = lab.guest("host-a", "web", &["--start", "--memory", "160"]);
    let vm = guest.vm;
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    lab.tell(&guest, &["dirty", "32"]);
    let waiting = Waiting::default();
    let order = migrate(vm, lab.destination("host-b"), slow());
    let result = std::thread::scope(|scope| {
        let moving = scope.spawn(|| a.execute(&order, &waiting));
        until("progress", || (!waiting.progress.lock().unwrap().is_empty()).then_some(()));
        lab.run("restart-libvirtd", &["--host", "host-a", "--kill"]).unwrap();
        moving.join().unwrap()
    });
    let (kind, what) = failure(result);
    assert_eq!(kind, ErrorKind::Failed, "{what}");
    assert!(what.contains("broke") && what.contains("running (booted) on host-a"), "{what}");
    guest.counts_on();
    guest.assert_no_gap();
}
