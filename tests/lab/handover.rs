//! Guests that go to another plane's host, as the hypervisor sees it.

use super::*;
use embot::hypervisor::{Handover, HandoverStep, Rewriting, Transfer};
use embot::migration::ResumeBy;
use embot::model::{Mark, Standing, Timestamp};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

fn mark(plane: &str, epoch: u64) -> Mark {
    Mark { plane: plane.into(), epoch }
}

/// A step of the handover with this number; marks up to this epoch are its own.
fn step(vm: VmId, number: u64, epoch: u64, step: HandoverStep) -> Handover {
    let id = format!("home/{number}").into();
    Handover { id, plane: "home".into(), vm, mark: mark("home", epoch), step }
}

fn transfer(destination: Destination, resume: ResumeBy) -> Box<Transfer> {
    let limits = MigrationLimits::default();
    Box::new(Transfer { destination, limits, resume, rewriting: Rewriting::default() })
}

fn standing(host: &LibvirtHost, vm: VmId) -> Option<Standing> {
    host.look(vm).unwrap().map(|sighting| sighting.standing)
}

/// How long a guest stood still, and how long all of it took.
struct Figures {
    pause: Duration,
    wall: Duration,
}

#[test]
fn a_guest_goes_over_without_missing_a_beat_and_its_pause_is_told() {
    let Some(lab) = Lab::up("a_guest_goes_over_without_missing_a_beat_and_its_pause_is_told", 2) else { return };
    let hosts = [lab.host("host-a"), lab.host("host-b")];
    let notices = [Notices::of(&hosts[0]), Notices::of(&hosts[1])];
    let names = ["host-a", "host-b"];
    let guest = lab.guest("host-a", "web", &["--start"]);
    let vm = guest.vm;
    hosts.iter().for_each(|host| drop(report(host)));
    execute(&hosts[0], ActionKind::Adopt { vm }).unwrap();
    let mut figures = BTreeMap::new();
    for round in 0..9_u64 {
        let (from, to) = ((round % 2) as usize, 1 - (round % 2) as usize);
        let (source, target, epoch) = (&hosts[from], &hosts[to], round + 1);
        notices.iter().for_each(Notices::forget);
        let way = ["bare", "by hypervisor", "by manager"][(round % 3) as usize];
        let began = Instant::now();
        if way == "bare" {
            let arguments = ["migrate", "--live", "--p2p", "--persistent", "--undefinesource", "web"];
            lab.virsh(names[from], &[&arguments[..], &[&lab.destination(names[to]).uri]].concat()).unwrap();
        } else {
            let becomes = mark("home", epoch);
            let resume = if way == "by manager" { ResumeBy::Manager } else { ResumeBy::Hypervisor };
            let seal = step(vm, round, epoch - 1, HandoverStep::Seal { becomes: becomes.clone() });
            source.hand_over(&seal, &Waiting::default()).unwrap();
            let moves = HandoverStep::Move(transfer(lab.destination(names[to]), resume));
            source.hand_over(&step(vm, round, epoch, moves), &Waiting::default()).unwrap();
            let resumes = HandoverStep::Resume { becomes, start: false };
            target.hand_over(&step(vm, round, epoch, resumes), &Waiting::default()).unwrap();
        }
        let wall = began.elapsed();
        let when = |side: usize, wanted: NoticeBody| -> Timestamp {
            until(&format!("the notice {wanted:?}"), || notices[side].first(vm, &wanted))
        };
        let stopped = when(from, NoticeBody::State(VmState::Paused, Reason::Migration));
        let ran = when(to, NoticeBody::State(VmState::Running, Reason::Migration));
        let pause = Duration::from_millis(ran.since(stopped).0);
        figures.entry(way).or_insert_with(Vec::new).push(Figures { pause, wall });
        assert_eq!((standing(source, vm), standing(target, vm)), (None, Some(Standing::Running)), "{way}");
        if way == "bare" {
            // The epochs go on.
            let xml = format!("<mark plane='home' epoch='{epoch}'/>");
            let set =
                ["metadata", "web", "--uri", "urn:embot:mark:1", "--key", "embot-mark", "--live", "--config", "--set", &xml];
            lab.virsh(names[to], &set).unwrap();
        }
        assert_eq!(target.mark(vm).unwrap(), Some(mark("home", epoch)));
        guest.counts_on();
    }
    guest.assert_no_gap();
    for (way, mut figures) in figures {
        figures.sort_by_key(|figures| figures.pause);
        let middle = &figures[figures.len() / 2];
        let text = format!(
            "{way}: pause {} ms, wall {} ms (the middle of three)\n",
            middle.pause.as_millis(),
            middle.wall.as_millis()
        );
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    }
}

#[test]
fn files_of_a_guest_that_is_off_are_copied_and_verified() {
    let Some(lab) = Lab::up("files_of_a_guest_that_is_off_are_copied_and_verified", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let guest = lab.guest("host-a", "cold", &["--local-disk", "16"]);
    let vm = guest.vm;
    let image = |host: &str| -> PathBuf { lab.folder().join(host).join("lib/images/cold.qcow2") };
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
    let copies = |copy_storage| {
        let limits = MigrationLimits { copy_storage, ..MigrationLimits::default() };
        let transfer = *transfer(here.clone(), ResumeBy::Manager);
        HandoverStep::Copy(Box::new(Transfer { rewriting: rewriting.clone(), limits, ..transfer }))
    };
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
