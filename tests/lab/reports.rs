//! What hosts say of themselves and their guests.

use super::*;
use embot::model::AgentState;

#[test]
fn a_host_reports_its_guests_and_tells_what_happens() {
    let Some(lab) = Lab::up("a_host_reports_its_guests_and_tells_what_happens", 1) else { return };
    let host = lab.host("host-a");
    let notices = Notices::of(&host);
    let guest = lab.guest("host-a", "web", &["--start", "--burn", "--agent", "--net", "--disk", "16"]);
    let labels = ["metadata", "web", "--uri", "urn:embot:labels:1", "--key", "embot-labels", "--live", "--config"];
    lab.virsh("host-a", &[&labels[..], &["--set", "<labels tier='web'/>"]].concat()).unwrap();
    let vm = guest.vm;

    // The first report says everything.
    let first = report(&host);
    assert!(first.capacity.cpus > 0 && first.capacity.memory_mib > 256, "{:?}", first.capacity);
    assert_eq!(first.domains.len(), 1);
    let seen = domain(&first, vm).unwrap();
    assert_eq!((seen.state, seen.reason, seen.balloon_mib), (VmState::Running, Reason::Booted, Some(96)));
    let description = seen.description.as_ref().unwrap();
    assert_eq!(&*description.name, "web");
    assert_eq!((description.vcpus, description.memory_mib), (1, 96));
    assert_eq!((description.persistent, description.autostart), (true, false));
    assert_eq!(description.labels, [("tier".into(), "web".into())].into());
    assert_eq!(description.mark, None);
    assert_eq!(description.disks, ["vda".into()]);
    assert!(description.nics[0].starts_with("52:54:00:"), "{:?}", description.nics);

    let abilities = host.abilities().unwrap();
    assert!(abilities.cpu_models.contains("qemu64") && !abilities.cpu_models.contains("Skylake-Server"), "{abilities:?}");
    assert!(abilities.networks.contains("bridge0") && !abilities.networks.contains("default"), "{abilities:?}");

    // Later ones have rates, and no definition that did not change.
    let load = until("statistics", || {
        let report = report(&host);
        let seen = domain(&report, vm).unwrap();
        assert_eq!(seen.description, None);
        let busy = seen.load.cpu_cores.is_some_and(|cores| cores > 0.3);
        (busy && seen.load.memory_used_mib.is_some() && report.load.is_some()).then_some((seen.load, report.load))
    });
    assert!(load.0.disk_bytes_per_s.is_some() && load.0.disk_iops.is_some() && load.0.net_bytes_per_s.is_some(), "{load:?}");
    assert!(load.0.memory_used_mib.is_some_and(|used| used > 1.0 && used < 96.0), "{load:?}");
    notices.await_one(vm, &NoticeBody::Agent(AgentState::Connected));

    // The autostart flag has no event; the next report finds it.
    lab.virsh("host-a", &["autostart", "web"]).unwrap();
    let changed = report(&host);
    assert!(domain(&changed, vm).unwrap().description.as_ref().unwrap().autostart);

    // Pause and resume.
    notices.forget();
    lab.virsh("host-a", &["suspend", "web"]).unwrap();
    notices.await_one(vm, &NoticeBody::State(VmState::Paused, Reason::Asked));
    assert_eq!(state(&host, vm), Some((VmState::Paused, Reason::Asked)));
    lab.virsh("host-a", &["resume", "web"]).unwrap();
    notices.await_one(vm, &NoticeBody::State(VmState::Running, Reason::Asked));

    // The death of its QEMU.
    notices.forget();
    lab.kill(&guest);
    notices.await_one(vm, &NoticeBody::State(VmState::Crashed, Reason::Crashed));
    let crashed = report(&host);
    let seen = domain(&crashed, vm).unwrap();
    assert_eq!((seen.state, seen.reason), (VmState::Crashed, Reason::Crashed));
    assert_eq!(seen.load, Default::default(), "libvirt's figures for a domain that is off mean nothing");

    // A start is told once, as a boot.
    notices.forget();
    lab.virsh("host-a", &["start", "web"]).unwrap();
    notices.await_one(vm, &NoticeBody::State(VmState::Running, Reason::Booted));
    let states = notices.of_guest(vm).into_iter().filter(|notice| matches!(notice, NoticeBody::State(..))).count();
    assert_eq!(states, 1, "{:?}", notices.of_guest(vm));

    // Its end, and the end of its definition.
    notices.forget();
    lab.virsh("host-a", &["destroy", "web"]).unwrap();
    notices.await_one(vm, &NoticeBody::State(VmState::Off, Reason::Asked));
    lab.virsh("host-a", &["undefine", "web"]).unwrap();
    notices.await_one(vm, &NoticeBody::Undefined);
    assert_eq!(state(&host, vm), None);
}

#[test]
fn a_watchdog_and_a_panic_are_told() {
    let Some(lab) = Lab::up("a_watchdog_and_a_panic_are_told", 1) else { return };
    let host = lab.host("host-a");
    let notices = Notices::of(&host);
    let guest = lab.guest("host-a", "web", &["--start", "--watchdog", "pause", "--on-crash", "preserve"]);
    let vm = guest.vm;
    report(&host);
    lab.tell(&guest, &["hang"]);
    notices.await_one(vm, &NoticeBody::Watchdog("pause".into()));
    notices.await_one(vm, &NoticeBody::State(VmState::Paused, Reason::Watchdog));
    assert_eq!(state(&host, vm), Some((VmState::Paused, Reason::Watchdog)));

    lab.virsh("host-a", &["reset", "web"]).unwrap();
    lab.virsh("host-a", &["resume", "web"]).unwrap();
    guest.counts_on();
    notices.forget();
    lab.run("tell", &["--vm", "web", "panic"]).ok();
    notices.await_one(vm, &NoticeBody::State(VmState::Crashed, Reason::Crashed));
    assert_eq!(state(&host, vm), Some((VmState::Crashed, Reason::Crashed)));
}
