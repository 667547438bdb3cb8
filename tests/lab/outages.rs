//! Hosts that restart, and hosts that hang.

use super::*;

#[test]
fn hosts_that_restart_or_hang_trouble_nobody_else() {
    let Some(lab) = Lab::up("hosts_that_restart_or_hang_trouble_nobody_else", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let notices = Notices::of(&a);
    let guest = lab.guest("host-a", "web", &["--start", "--no-wait"]);
    let vm = guest.vm;
    report(&a);
    report(&b);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    until("everything to be said", || domain(&report(&a), vm).unwrap().description.is_none().then_some(()));

    // Restarted: connected again, everything said again, events heard again.
    for signal in [&["--host", "host-a"][..], &["--host", "host-a", "--kill"]] {
        lab.run("restart-libvirtd", signal).unwrap();
        // A call that meets the old connection just as it ends fails; the next one has a new one.
        let back = until("host-a to answer", || a.report(lab::clock().now()).ok());
        let there = domain(&back, vm).unwrap();
        assert_eq!(there.state, VmState::Running);
        assert!(there.description.as_ref().is_some_and(|description| description.mark.is_some()));
        notices.forget();
        lab.virsh("host-a", &["suspend", "web"]).unwrap();
        notices.await_one(vm, &NoticeBody::State(VmState::Paused, Reason::Asked));
        lab.virsh("host-a", &["resume", "web"]).unwrap();
        notices.await_one(vm, &NoticeBody::State(VmState::Running, Reason::Asked));
    }

    // Stopped: said so at once.
    lab.run("stop-libvirtd", &["--host", "host-a"]).unwrap();
    let error = a.report(lab::clock().now()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.what.contains("host-a: cannot connect to"), "{error}");
    assert_eq!(failure(execute(&a, ActionKind::Suspend { vm })).0, ErrorKind::Unreachable);
    // What happens meanwhile has no event; the comparison finds it.
    lab.kill(&guest);
    lab.run("start-libvirtd", &["--host", "host-a"]).unwrap();
    assert_eq!(state(&a, vm), Some((VmState::Crashed, Reason::Crashed)));
    execute(&a, ActionKind::Start { vm }).unwrap();

    // Hanging: whoever asks is told after a while, an open connection or a new one; others go on.
    lab.run("freeze", &["--host", "host-a"]).unwrap();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| {
            for _ in 0..3 {
                let error = a.report(lab::clock().now()).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
            }
            assert_eq!(failure(execute(&a, ActionKind::Suspend { vm })).0, ErrorKind::Unreachable);
            assert_eq!(a.mark(vm).unwrap_err().kind, ErrorKind::Unreachable);
        });
        let mut polls = 0;
        while !hanging.is_finished() {
            report(&b);
            polls += 1;
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(polls > 100, "host-b was polled {polls} times only while host-a hung");
        hanging.join().unwrap();
    });
    lab.run("thaw", &["--host", "host-a"]).unwrap();
    let back = until("host-a to be back", || a.report(lab::clock().now()).ok());
    assert!(domain(&back, vm).unwrap().description.is_some());
    assert_eq!(state(&a, vm), Some((VmState::Running, Reason::Booted)), "what was given up is not done later");
    execute(&a, ActionKind::Suspend { vm }).unwrap();
}

#[test]
fn a_migration_to_a_host_that_hangs_is_given_up() {
    let Some(lab) = Lab::up("a_migration_to_a_host_that_hangs_is_given_up", 2) else { return };
    let a = lab.host("host-a");
    let guest = lab.guest("host-a", "web", &["--start", "--no-wait"]);
    let vm = guest.vm;
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    lab.run("freeze", &["--host", "host-b"]).unwrap();
    let limits = MigrationLimits { timeout: Some(embot::model::Span::seconds(1)), ..MigrationLimits::default() };
    let (kind, what) = failure(a.execute(&migrate(vm, lab.destination("host-b"), limits), &Waiting::default()));
    assert_eq!(kind, ErrorKind::TimedOut, "{what}");
    assert!(what.contains("host-b") && what.contains("does not answer") && what.contains("running"), "{what}");
    assert_eq!(state(&a, vm).map(|(state, _)| state), Some(VmState::Running));
    lab.run("thaw", &["--host", "host-b"]).unwrap();
    // What was given up stays given up.
    until("libvirt to let go of the guest", || execute(&a, ActionKind::Suspend { vm }).ok());
    assert_eq!(state(&lab.host("host-b"), vm), None);
    assert_eq!(state(&a, vm), Some((VmState::Paused, Reason::Asked)));
}

#[test]
fn a_qemu_that_hangs_does_not_hide_the_other_guests() {
    let Some(lab) = Lab::up("a_qemu_that_hangs_does_not_hide_the_other_guests", 1) else { return };
    let host = lab.host("host-a");
    let stuck = lab.guest("host-a", "stuck", &["--start", "--no-wait"]);
    let other = lab.guest("host-a", "other", &["--start", "--no-wait"]);
    execute(&host, ActionKind::Adopt { vm: other.vm }).unwrap();
    until("figures", || domain(&report(&host), stuck.vm)?.balloon_mib);
    lab.signal(&stuck, nix::sys::signal::Signal::SIGSTOP);
    for _ in 0..3 {
        let now = report(&host);
        assert_eq!(now.domains.len(), 2);
        assert_eq!(domain(&now, stuck.vm).map(|domain| (domain.state, domain.balloon_mib)), Some((VmState::Running, None)));
        assert_eq!(domain(&now, other.vm).map(|domain| domain.state), Some(VmState::Running));
    }
    execute(&host, ActionKind::Suspend { vm: other.vm }).unwrap();
    assert_eq!(state(&host, other.vm), Some((VmState::Paused, Reason::Asked)));
    lab.signal(&stuck, nix::sys::signal::Signal::SIGCONT);
    until("figures again", || domain(&report(&host), stuck.vm)?.balloon_mib);
}
