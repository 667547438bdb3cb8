//! Whose guest it is.

use super::*;
use embot::model::Mark;

#[test]
fn a_guest_of_another_plane_is_left_alone() {
    let Some(lab) = Lab::up("a_guest_of_another_plane_is_left_alone", 1) else { return };
    let host = lab.host("host-a");
    let guest = lab.guest("host-a", "web", &["--start", "--no-wait"]);
    let vm = guest.vm;
    let suspend = |plane: &str, epoch| {
        let order = Order { plane: plane.into(), epoch, ..order(ActionKind::Suspend { vm }) };
        host.execute(&order, &Waiting::default())
    };
    let mark = |plane: &str, epoch| Some(Mark { plane: plane.into(), epoch });

    assert_eq!(host.mark(vm).unwrap(), None);
    assert_eq!(failure(suspend("home", 1)).0, ErrorKind::NotOwner, "nobody's guest");
    execute(&host, ActionKind::Adopt { vm }).unwrap();
    execute(&host, ActionKind::Adopt { vm }).unwrap();
    assert_eq!(host.mark(vm).unwrap(), mark("home", 1));
    assert_eq!(failure(suspend("home", 2)).0, ErrorKind::NotOwner, "another epoch");
    assert_eq!(failure(suspend("home", 0)).0, ErrorKind::NotOwner, "another epoch");
    assert_eq!(failure(suspend("away", 1)).0, ErrorKind::NotOwner, "another plane");
    assert_eq!(state(&host, vm).map(|(state, _)| state), Some(VmState::Running));
    suspend("home", 1).unwrap();

    // Both copies carry the mark: it is there after the next start too.
    execute(&host, ActionKind::Destroy { vm }).unwrap();
    assert_eq!(host.mark(vm).unwrap(), mark("home", 1));

    // Another plane takes it over: the next report says so, and adopting does not take it back.
    let set = ["metadata", "web", "--uri", "urn:embot:mark:1", "--key", "embot-mark", "--config", "--set"];
    lab.virsh("host-a", &[&set[..], &["<mark plane='away' epoch='2'/>"]].concat()).unwrap();
    let taken = until("the new mark", || domain(&report(&host), vm).unwrap().description.clone());
    assert_eq!(taken.mark, mark("away", 2));
    for kind in [ActionKind::Start { vm }, ActionKind::Adopt { vm }, ActionKind::Undefine { vm }] {
        let (kind, what) = failure(execute(&host, kind));
        assert_eq!(kind, ErrorKind::NotOwner, "{what}");
        assert!(what.contains("belongs to plane `away` (epoch 2)"), "{what}");
    }
    // A mark that nobody can read is nobody's to ignore.
    lab.virsh("host-a", &[&set[..], &["<mark plane='home' epoch='one'/>"]].concat()).unwrap();
    assert_eq!(failure(execute(&host, ActionKind::Start { vm })).0, ErrorKind::NotOwner);
    assert_eq!(state(&host, vm).map(|(state, _)| state), Some(VmState::Off));
}
