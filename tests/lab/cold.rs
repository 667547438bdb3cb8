//! Guests that go to another plane's host while they are off: what they need there, what is copied, how they are shut down.

use super::handover::{mark, standing, step, transfer};
use super::*;
use embot::clock::Clock;
use embot::hypervisor::{HandoverStep, Rewriting, Transfer};
use embot::migration::ResumeBy;
use embot::model::{Span, Standing, Timestamp};
use std::path::PathBuf;
use std::process::Command;

/// An image of a host's own, as the test sees it; the host sees it in [`IMAGES`].
fn image(lab: &Lab, host: &str, name: &str) -> PathBuf {
    lab.folder().join(host).join("lib/images").join(name)
}

const IMAGES: &str = "/var/lib/libvirt/images/";

#[track_caller]
fn qemu_img(arguments: &[&str], image: &PathBuf) {
    let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).args(arguments).arg(image).arg("16M").output();
    let created = created.unwrap();
    assert!(created.status.success(), "{created:?}");
}

#[test]
fn what_a_guest_needs_and_does_not_bring_is_looked_for_before_it_is_defined() {
    let Some(lab) = Lab::up("what_a_guest_needs_and_does_not_bring", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let guest = lab.guest("host-a", "linked", &["--local-disk", "16"]);
    let vm = guest.vm;
    let base = format!("{IMAGES}base.qcow2");
    qemu_img(&[], &image(&lab, "host-a", "base.qcow2"));
    qemu_img(&["-u", "-b", &base, "-F", "qcow2"], &image(&lab, "host-a", "linked.qcow2"));
    lab.virsh("host-a", &["autostart", "linked"]).unwrap();
    report(&a);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    let off = a.definition(vm).unwrap();
    assert_eq!(off.bases, [base.as_str().into()]);
    // Who looks at the same folder at the same time does not cross the others.
    std::thread::scope(|scope| {
        let look = || (0..5).for_each(|_| assert_eq!(lab.host("host-a").definition(vm).unwrap().bases, off.bases));
        (0..4).for_each(|_| drop(scope.spawn(look)));
    });
    assert!(off.autostart && off.persistent);
    lab.virsh("host-a", &["start", "linked"]).unwrap();
    assert_eq!(a.definition(vm).unwrap().bases, off.bases, "its QEMU says the same");
    lab.virsh("host-a", &["destroy", "linked"]).unwrap();

    let mut rewriting = Rewriting::default();
    let same = |folder: &str| (folder.into(), folder.into());
    rewriting.paths.extend([same("/tmp/"), same("/var/cache/embot-lab/"), same(IMAGES)]);
    let define = |needs: &[&str]| {
        let needs = needs.iter().map(|path| (*path).into()).collect();
        let (xml, rewriting) = (off.xml.clone(), rewriting.clone());
        let what = HandoverStep::Define { xml, rewriting, trusted: false, autostart: true, needs };
        b.hand_over(&step(vm, 1, 2, what), &Waiting::default())
    };
    for missing in [base.as_str(), "/srv/there/is/none.iso"] {
        let (kind, what) = failure(define(&[missing]));
        assert!(kind == ErrorKind::Precondition && what.contains(missing), "{kind:?} {what}");
        assert_eq!(standing(&b, vm), None, "it is not defined, either");
    }
    qemu_img(&[], &image(&lab, "host-b", "base.qcow2"));
    define(&[&base]).unwrap();
    define(&[&base]).unwrap();
    let seen = b.look(vm).unwrap().unwrap();
    assert_eq!((seen.standing, seen.mark, seen.sealed.as_deref()), (Standing::Off, Some(mark("home", 2)), Some("home/1")));
    // From the moment it is taken over its host starts it by itself, and not before.
    let described = || domain(&report(&b), vm).unwrap().description.clone();
    assert!(!described().unwrap().autostart);
    // A base image that only has the right name is found out before anything is copied.
    a.hand_over(&step(vm, 1, 1, HandoverStep::Seal { becomes: mark("home", 2) }), &Waiting::default()).unwrap();
    let here = Destination { host: "host-b".into(), uri: lab.uri("host-b").into(), migration_uri: None };
    let limits = MigrationLimits { copy_storage: true, ..MigrationLimits::default() };
    let transfer = *transfer(here, ResumeBy::Manager);
    let copy = HandoverStep::Copy(Box::new(Transfer { rewriting: rewriting.clone(), limits, ..transfer }));
    let copied = || a.hand_over(&step(vm, 1, 2, copy.clone()), &Waiting::default());
    let other = image(&lab, "host-b", "base.qcow2");
    let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write 0 4M"]).arg(&other).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let (kind, what) = failure(copied());
    assert!(kind == ErrorKind::Precondition && what.contains(&base), "{kind:?} {what}");
    qemu_img(&[], &other);
    std::fs::remove_file(image(&lab, "host-b", "linked.qcow2")).unwrap();
    copied().unwrap();
    let resume = HandoverStep::Resume { becomes: mark("home", 2), start: false };
    b.hand_over(&step(vm, 1, 2, resume), &Waiting::default()).unwrap();
    assert!(until("the flag", || described().map(|described| described.autostart).filter(|is_set| *is_set)));
    lab.virsh("host-b", &["undefine", "linked"]).unwrap();
}

#[test]
fn a_guest_that_crashed_and_is_kept_is_not_copied_while_its_qemu_has_its_files_open() {
    let Some(lab) = Lab::up("a_guest_that_crashed_and_is_kept", 1) else { return };
    let a = lab.host("host-a");
    let notices = Notices::of(&a);
    let guest = lab.guest("host-a", "web", &["--start", "--on-crash", "preserve"]);
    let vm = guest.vm;
    report(&a);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    lab.run("tell", &["--vm", "web", "panic"]).ok();
    notices.await_one(vm, &NoticeBody::State(VmState::Crashed, Reason::Crashed));
    a.hand_over(&step(vm, 1, 1, HandoverStep::Seal { becomes: mark("home", 2) }), &Waiting::default()).unwrap();
    let nowhere = Destination { host: "host-b".into(), uri: "qemu+tcp://192.0.2.1/system".into(), migration_uri: None };
    let copy = HandoverStep::Copy(transfer(nowhere, ResumeBy::Manager));
    let (kind, what) = failure(a.hand_over(&step(vm, 1, 2, copy), &Waiting::default()));
    assert!(kind == ErrorKind::Precondition && what.contains("process is still there"), "{kind:?} {what}");
}

/// The clock, and how often somebody waited by it: for a guest, once it has been asked.
struct Watched(Arc<dyn Clock>, Mutex<u32>);

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: Span) {
        *self.1.lock().unwrap() += 1;
        self.0.sleep(span);
    }
}

#[test]
fn a_guest_that_shuts_down_is_waited_for_while_its_host_is_away() {
    let Some(lab) = Lab::up("a_guest_that_shuts_down_is_waited_for", 1) else { return };
    let a = lab.host("host-a");
    let guest = lab.guest("host-a", "web", &[]);
    let vm = guest.vm;
    // Without ACPI there is no power button.
    let xml = lab.virsh("host-a", &["dumpxml", "web"]).unwrap().replace("<acpi/>", "");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, xml).unwrap();
    lab.virsh("host-a", &["define", &file.path().to_string_lossy()]).unwrap();
    lab.virsh("host-a", &["start", "web"]).unwrap();
    report(&a);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    a.hand_over(&step(vm, 1, 1, HandoverStep::Seal { becomes: mark("home", 2) }), &Waiting::default()).unwrap();
    let shut_down = step(vm, 1, 2, HandoverStep::ShutDown { force_after: Some(Span::seconds(8)) });
    let asked = Arc::new(Watched(lab::clock(), Mutex::default()));
    let host = LibvirtHost::new("host-a".into(), lab.uri("host-a"), asked.clone());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| host.hand_over(&shut_down, &Waiting::default()));
        until("the guest is asked", || (*asked.1.lock().unwrap() > 0).then_some(()));
        lab.run("restart-libvirtd", &["--host", "host-a", "--kill"]).unwrap();
        assert_eq!(waits.join().unwrap(), Ok(()));
    });
    assert_eq!(until("the host", || a.look(vm).ok()).map(|seen| seen.standing), Some(Standing::Off));
}

#[test]
fn files_of_a_guest_that_is_off_are_copied_and_verified() {
    let Some(lab) = Lab::up("files_of_a_guest_that_is_off_are_copied_and_verified", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let guest = lab.guest("host-a", "cold", &["--local-disk", "16"]);
    let vm = guest.vm;
    let image = |host: &str| image(&lab, host, "cold.qcow2");
    let written =
        Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 0xab 1M 4M"]).arg(image("host-a")).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    report(&a);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    let do_step = |host: &LibvirtHost, what| host.hand_over(&step(vm, 1, 2, what), &Waiting::default());
    a.hand_over(&step(vm, 1, 1, HandoverStep::Seal { becomes: mark("home", 2) }), &Waiting::default()).unwrap();
    let definition = a.definition(vm).unwrap();
    assert_eq!(definition.disk_bytes.iter().map(|(target, _)| &**target).collect::<Vec<_>>(), ["vda"]);
    // Another name at the target: the map says so.
    let same = |folder: &str| (folder.into(), folder.into());
    let mut rewriting = Rewriting::default();
    rewriting.paths.extend([same("/tmp/"), same("/var/cache/embot-lab/")]);
    rewriting.paths.insert("/var/lib/libvirt/images/cold.qcow2".into(), "/var/lib/libvirt/images/arrived.qcow2".into());
    do_step(
        &b,
        HandoverStep::Define {
            xml: definition.xml,
            rewriting: rewriting.clone(),
            trusted: false,
            autostart: false,
            needs: Vec::new(),
        },
    )
    .unwrap();
    let here = Destination { host: "host-b".into(), uri: lab.uri("host-b").into(), migration_uri: None };
    let copies_within = |copy_storage, timeout| {
        let limits = MigrationLimits { copy_storage, timeout, ..MigrationLimits::default() };
        let transfer = *transfer(here.clone(), ResumeBy::Manager);
        HandoverStep::Copy(Box::new(Transfer { rewriting: rewriting.clone(), limits, ..transfer }))
    };
    let copies = |copy_storage| copies_within(copy_storage, None);
    let copy = || copies(true);
    let arrived = image("host-b").with_file_name("arrived.qcow2");

    // Were its disks shared, they would be there.
    do_step(&a, copies(false)).unwrap();
    assert!(!arrived.exists());

    // Something else lies there: not touched.
    std::fs::write(&arrived, "precious").unwrap();
    let (kind, what) = failure(do_step(&a, copy()));
    assert_eq!(kind, ErrorKind::Precondition, "{what}");
    assert!(what.contains("arrived.qcow2") && what.contains("8 bytes"), "{what}");
    assert_eq!(std::fs::read(&arrived).unwrap(), b"precious");
    std::fs::remove_file(&arrived).unwrap();

    // Given up in the midst, then done, then done again.
    let waiting = Waiting::default();
    waiting.cancelled.store(true, std::sync::atomic::Ordering::SeqCst);
    let (kind, what) = failure(a.hand_over(&step(vm, 1, 2, copy()), &waiting));
    assert_eq!(kind, ErrorKind::Cancelled, "{what}");
    let (kind, what) = failure(do_step(&a, copies_within(true, Some(Span(1)))));
    assert!(kind == ErrorKind::TimedOut && what.contains("longer than 1ms"), "{what}");
    for _ in 0..2 {
        let waiting = Waiting::default();
        a.hand_over(&step(vm, 1, 2, copy()), &waiting).unwrap();
        let progress = waiting.progress.lock().unwrap().last().copied().unwrap();
        assert!(progress.done_bytes == progress.total_bytes && progress.done_bytes > 8 << 20, "{progress:?}");
        assert!(std::fs::read(image("host-a")).unwrap() == std::fs::read(&arrived).unwrap(), "the same to the byte");
    }
    do_step(&a, HandoverStep::Remove { running: false }).unwrap();
    assert!(image("host-a").exists(), "files stay");
    do_step(&b, HandoverStep::Resume { becomes: mark("home", 2), start: true }).unwrap();
    assert_eq!((standing(&a, vm), standing(&b, vm)), (None, Some(Standing::Running)));
    guest.counts_on();
}
