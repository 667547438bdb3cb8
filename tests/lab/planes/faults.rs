//! What goes wrong while a guest goes to another plane: whatever it is, exactly one plane owns the guest afterwards, one host runs
//! it, its embot goes on, and it can be handed over again. A guest that ran twice would have counted twice: both would write to
//! the same log.

use super::*;

#[test]
fn whatever_fails_one_plane_owns_the_guest_and_one_host_runs_it() {
    let Some(mut sites) = Sites::up("whatever_fails_one_plane_owns_the_guest_and_one_host_runs_it", [8, 8]) else { return };
    for host in HOSTS {
        // What libvirt waits for one that is cut off: five seconds in place of thirty.
        let conf = sites.lab.folder().join(host).join("etc/qemu.conf");
        let text = std::fs::read_to_string(&conf).unwrap() + "keepalive_interval = 1\nkeepalive_count = 4\n";
        std::fs::write(conf, text).unwrap();
        sites.lab.run("restart-libvirtd", &["--host", host]).unwrap();
    }
    let guest = sites.lab.guest(HOSTS[A], "web", &["--start"]);
    for plane in &sites.planes {
        plane.deploy("tally", TALLY.0, TALLY.1);
    }
    sites.start();
    sites.adopted(A, &guest);
    sites.rested(A, &guest);

    a_target_that_denies(&sites, &guest);
    a_target_that_does_not_answer(&sites, &guest);
    a_move_that_is_cancelled(&sites, &guest);
    a_copy_that_is_killed(&sites, &guest);
    a_target_without_its_libvirtd(&sites, &guest);
    a_link_that_breaks_in_the_last_phase(&sites, &guest);
    a_source_without_its_libvirtd_in_the_last_phase(&sites, &guest);
    a_source_that_is_killed(&mut sites, &guest);
    a_target_that_is_killed(&mut sites, &guest);
    both_are_killed(&mut sites, &guest);
}

/// Under which epoch the guest is owned.
fn epoch(sites: &Sites, owner: usize, guest: &Guest) -> u64 {
    sites.planes[owner].guest(guest).unwrap()["epoch"].as_u64().unwrap()
}

/// Begins a move that takes its time, and waits until its memory is on its way. The epoch before, and the migration.
fn in_the_midst(sites: &Sites, from: usize, guest: &Guest) -> (u64, String) {
    let before = epoch(sites, from, guest);
    sites.hold_up(from, guest);
    let id = sites.begin(from, guest);
    sites.in_the_midst(from, &id);
    (before, id)
}

fn a_target_that_denies(sites: &Sites, guest: &Guest) {
    let maintenance = |word: &str| {
        let (said, error, ok) = sites.planes[B].embot(&["maintenance", HOSTS[B], word]);
        assert!(ok, "{said}{error}");
    };
    let before = epoch(sites, A, guest);
    maintenance("on");
    let id = sites.begin(A, guest);
    let reason = sites.over(&id, "stayed");
    maintenance("off");
    assert!(reason.contains("host-b: it is in maintenance"), "{reason}");
    sites.is_managed_by(A, guest, before);
}

fn a_target_that_does_not_answer(sites: &Sites, guest: &Guest) {
    let before = epoch(sites, A, guest);
    sites.planes[B].signal(Signal::SIGSTOP);
    let id = sites.begin(A, guest);
    let failed = |chain: &Value| chain["action"]["verb"] == "handover" && chain["action"]["state"] == "failed";
    let chain = sites.planes[A].until("the offer to be given up", |plane| plane.latest(guest).filter(failed));
    let result = chain["timeline"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap();
    assert!(result.contains("site-b has not answered within 20s"), "{result}");
    // The guest is managed on, whether or not its peer comes back.
    sites.obeys(A, guest);
    sites.planes[A].until("the lost link to be noticed", |plane| {
        let (_, error, ok) = plane.embot(&["migrate", &guest.name, "--to", SITES[B]]);
        (!ok && error.contains("there is no connection to plane site-b")).then_some(())
    });
    sites.planes[B].signal(Signal::SIGCONT);
    sites.over(&id, "stayed");
    sites.connected();
    sites.is_managed_by(A, guest, before);
}

fn a_move_that_is_cancelled(sites: &Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, A, guest);
    let (_, error, ok) = sites.planes[B].embot(&["migrations", "cancel", &id]);
    assert!(!ok && error.contains("on plane site-a"), "{error}");
    let (said, error, ok) = sites.planes[A].embot(&["migrations", "cancel", &id]);
    assert!(ok, "{said}{error}");
    let reason = sites.over(&id, "stayed");
    assert!(reason.contains("cancelled by"), "{reason}");
    sites.hurry(A, guest);
    sites.is_managed_by(A, guest, before + 2);
}

fn a_copy_that_is_killed(sites: &Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, A, guest);
    sites.lab.signal_on(HOSTS[B], guest, Signal::SIGKILL);
    let reason = sites.over(&id, "stayed");
    assert!(reason.contains("host-b"), "{reason}");
    sites.hurry(A, guest);
    sites.is_managed_by(A, guest, before + 2);
}

fn a_target_without_its_libvirtd(sites: &Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, A, guest);
    sites.lab.run("stop-libvirtd", &["--host", HOSTS[B], "--kill"]).unwrap();
    sites.planes[A].until("the source to give up", |_| {
        sites.migration(A, &id).filter(|it| it["phases"].to_string().contains("reclaiming"))
    });
    sites.lab.run("start-libvirtd", &["--host", HOSTS[B]]).unwrap();
    sites.over(&id, "stayed");
    sites.hurry(A, guest);
    sites.is_managed_by(A, guest, before + 2);
}

/// Begins a move and brings it to its last phase, and keeps it there: the memory is over, the guest stands still, and the target's
/// libvirtd has not yet said that it has it. The epoch before, and the migration.
fn in_the_last_phase(sites: &Sites, from: usize, guest: &Guest) -> (u64, String) {
    let (before, id) = in_the_midst(sites, from, guest);
    sites.lab.run("freeze", &["--host", HOSTS[1 - from]]).unwrap();
    sites.hurry(from, guest);
    // As long as its last pages are under way, a QEMU whose link breaks answers nobody.
    until("the memory to be over", || {
        let state = sites.lab.virsh(HOSTS[from], &["domstate", &guest.name]).ok()?;
        (state.trim() == "paused" && !sites.lab.sends_memory(HOSTS[from])).then_some(())
    });
    (before, id)
}

fn a_link_that_breaks_in_the_last_phase(sites: &Sites, guest: &Guest) {
    let (before, id) = in_the_last_phase(sites, A, guest);
    // The source's QEMU hangs as well, which hides no host.
    let since = sites.planes[A].position();
    sites.lab.signal_on(HOSTS[A], guest, Signal::SIGSTOP);
    sites.lab.run("cut", &["--host", HOSTS[B]]).unwrap();
    sites.lab.run("thaw", &["--host", HOSTS[B]]).unwrap();
    for word in ["host-a does not answer", "host-a answers"] {
        sites.planes[A].until(word, |plane| plane.told(&since, word));
    }
    sites.lab.signal_on(HOSTS[A], guest, Signal::SIGCONT);
    let reason = sites.over(&id, "stayed");
    sites.lab.run("mend", &["--host", HOSTS[B]]).unwrap();
    assert!(reason.contains("cannot move guest") && reason.contains("to host-b"), "{reason}");
    sites.is_managed_by(A, guest, before + 2);
}

fn a_source_without_its_libvirtd_in_the_last_phase(sites: &Sites, guest: &Guest) {
    let (before, id) = in_the_last_phase(sites, A, guest);
    sites.lab.run("stop-libvirtd", &["--host", HOSTS[A], "--kill"]).unwrap();
    sites.lab.run("thaw", &["--host", HOSTS[B]]).unwrap();
    sites.lab.run("start-libvirtd", &["--host", HOSTS[A]]).unwrap();
    let reason = sites.over(&id, "stayed");
    assert!(reason.contains("did not happen: it is paused for a move on host-a"), "{reason}");
    sites.is_managed_by(A, guest, before + 2);
}

fn a_source_that_is_killed(sites: &mut Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, A, guest);
    sites.planes[A].kill();
    sites.hurry(A, guest);
    sites.planes[A].start();
    sites.over(&id, "moved");
    sites.is_managed_by(B, guest, before + 1);
}

fn a_target_that_is_killed(sites: &mut Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, B, guest);
    sites.planes[A].kill();
    sites.hurry(B, guest);
    until("the guest to have left", || (!sites.has(HOSTS[B], guest)).then_some(()));
    sites.planes[A].start();
    sites.over(&id, "moved");
    sites.is_managed_by(A, guest, before + 1);
}

fn both_are_killed(sites: &mut Sites, guest: &Guest) {
    let (before, id) = in_the_midst(sites, A, guest);
    sites.planes[A].kill();
    sites.planes[B].kill();
    sites.hurry(A, guest);
    sites.start();
    sites.over(&id, "moved");
    sites.is_managed_by(B, guest, before + 1);
}
