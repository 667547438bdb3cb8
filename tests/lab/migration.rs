//! Guests that move, and guests that do not.

use super::*;
use embot::model::Span;
use std::sync::atomic::Ordering;

#[test]
fn a_guest_moves_without_missing_a_beat_or_stays_where_it_is() {
    let Some(lab) = Lab::up("a_guest_moves_without_missing_a_beat_or_stays_where_it_is", 2) else { return };
    let (a, b) = (lab.host("host-a"), lab.host("host-b"));
    let (at_a, at_b) = (Notices::of(&a), Notices::of(&b));
    let guest = lab.guest("host-a", "web", &["--start", "--memory", "160"]);
    let vm = guest.vm;
    // In less memory than it has, this much dirt would leave the guest none.
    lab.tell(&guest, &["dirty", "32"]);
    report(&a);
    report(&b);
    execute(&a, ActionKind::Adopt { vm }).unwrap();
    lab.virsh("host-a", &["autostart", "web"]).unwrap();

    // Cancelled in the midst: it stays, and the target drops its half.
    let waiting = Waiting::default();
    waiting.cancel_at_progress.store(true, Ordering::SeqCst);
    let (kind, what) = failure(a.execute(&migrate(vm, lab.destination("host-b"), slow()), &waiting));
    assert_eq!(kind, ErrorKind::Cancelled, "{what}");
    assert!(what.contains("was cancelled") && what.contains("running") && what.contains("on host-a"), "{what}");
    assert_eq!(state(&a, vm).map(|(state, _)| state), Some(VmState::Running));
    until("the target to drop its half", || state(&b, vm).is_none().then_some(()));
    let arriving = at_b.of_guest(vm);
    let harmless = |notice: &NoticeBody| matches!(notice, NoticeBody::State(_, Reason::Migration) | NoticeBody::Undefined);
    assert!(arriving.iter().all(|notice| harmless(notice) || matches!(notice, NoticeBody::Agent(_))), "{arriving:?}");

    // Too slow: given up, likewise.
    let limits = MigrationLimits { timeout: Some(Span::seconds(2)), ..slow() };
    let (kind, what) = failure(a.execute(&migrate(vm, lab.destination("host-b"), limits), &Waiting::default()));
    assert_eq!(kind, ErrorKind::TimedOut, "{what}");
    assert!(what.contains("longer than 2s"), "{what}");

    // Nobody there.
    let mut nowhere = lab.destination("host-b");
    nowhere.uri = "qemu+tcp://127.0.0.1:1/system".into();
    let (kind, what) = failure(a.execute(&migrate(vm, nowhere, slow()), &Waiting::default()));
    assert_eq!(kind, ErrorKind::Failed, "{what}");
    assert!(what.contains("refused") && what.contains("nothing was moved") && what.contains("running"), "{what}");
    guest.counts_on();
    guest.assert_no_gap();
    assert!(lab.virsh("host-a", &["dominfo", "web"]).unwrap().contains("Autostart:      enable"));
    assert!(!lab.virsh("host-a", &["dumpxml", "web"]).unwrap().contains("autostart"), "the note in the mark is taken back");

    // And now for good. While it moves, neither side takes it for anything else.
    lab.tell(&guest, &["calm"]);
    at_a.forget();
    at_b.forget();
    let limits = MigrationLimits {
        bandwidth_mib_per_s: Some(16),
        max_downtime: Some(Span(500)),
        auto_converge: true,
        ..MigrationLimits::default()
    };
    let waiting = Waiting::default();
    let order = migrate(vm, lab.destination("host-b"), limits);
    let seen = std::thread::scope(|scope| {
        let moving = scope.spawn(|| a.execute(&order, &waiting));
        let mut seen = Vec::new();
        while !moving.is_finished() {
            seen.extend(state(&b, vm));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        moving.join().unwrap().unwrap();
        seen
    });
    assert!(seen.contains(&(VmState::Paused, Reason::Migration)), "{seen:?}");
    assert!(seen.iter().all(|(_, reason)| *reason == Reason::Migration), "{seen:?}");
    let progress = waiting.progress.lock().unwrap().clone();
    assert!(!progress.is_empty());
    assert!(progress.iter().all(|progress| progress.done_bytes <= progress.total_bytes), "{progress:?}");
    assert!(progress.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes), "{progress:?}");
    guest.counts_on();
    guest.assert_no_gap();

    // At the target: defined, running, ours, and started with its host as before.
    let arrived = report(&b);
    let there = domain(&arrived, vm).unwrap();
    assert_eq!((there.state, there.reason), (VmState::Running, Reason::Migration));
    let description = there.description.as_ref().unwrap();
    assert!(description.persistent && description.autostart, "{description:?}");
    assert_eq!(description.mark, b.mark(vm).unwrap());
    assert_eq!(description.mark.as_ref().map(|mark| (&*mark.plane, mark.epoch)), Some(("home", 1)));
    assert!(!lab.virsh("host-b", &["dumpxml", "web"]).unwrap().contains("autostart"), "the note in the mark is taken back");
    at_b.await_one(vm, &NoticeBody::State(VmState::Running, Reason::Migration));
    at_a.await_one(vm, &NoticeBody::State(VmState::Off, Reason::Migration));
    assert_eq!(state(&a, vm), None);
    let (kind, what) = failure(execute(&a, ActionKind::Suspend { vm }));
    assert_eq!(kind, ErrorKind::NotFound, "{what}");

    // Cold, back again.
    let back = |live| {
        let kind = ActionKind::Migrate { vm, to: Some("host-a".into()), live };
        b.execute(&Order { destination: Some(lab.destination("host-a")), ..super::order(kind) }, &Waiting::default())
    };
    assert_eq!(failure(back(false)).0, ErrorKind::Precondition);
    execute(&b, ActionKind::Destroy { vm }).unwrap();
    assert_eq!(failure(back(true)).0, ErrorKind::Precondition);
    back(false).unwrap();
    assert_eq!(state(&b, vm), None);
    let returned = report(&a);
    let there = domain(&returned, vm).unwrap();
    assert_eq!(there.state, VmState::Off);
    let description = there.description.as_ref().unwrap();
    assert!(description.persistent && description.autostart, "{description:?}");
    assert_eq!(description.mark.as_ref().map(|mark| mark.epoch), Some(1));
}
