//! What the shipped policies do, told event by event.
//!
//! A small stage: a world that the test changes, one embot, its timers. Proposals do not come true by themselves; the test
//! says what became of them, as the planner and the effectors would.

mod planes;
mod stage;

use embot::model::{Affinity, EventBody, Level, Reason, Span, VmState};
use stage::Stage;

#[test]
fn a_hot_host_is_relieved_of_the_guest_that_pays_best() {
    let mut stage = Stage::new("relieve-hot-host", "host:a");
    stage.guest("giant", "a", 4, 16_384, 2.0);
    stage.guest("small", "a", 2, 1_024, 1.8);
    stage.guest("idle", "a", 2, 512, 0.0);
    stage.host_load("a", 7.6);
    // Hot for a moment only: nothing.
    for _ in 0..5 {
        assert_eq!(stage.sample("a"), [""; 0]);
    }
    // Hot for a while: the small guest takes off nearly as much as is needed and is quickly copied.
    let proposed = (0..20).map(|_| stage.sample("a")).find(|proposed| !proposed.is_empty());
    assert_eq!(proposed.expect("a proposal"), ["migrate small: a at 95 % of its cores; small uses 1.8 of 8"]);
    // While something is under way there, nothing more.
    stage.busy("small", true);
    assert_eq!(stage.sample("a"), [""; 0]);
    stage.busy("small", false);
    // The planner keeps refusing: after a while the next best is tried.
    let mut tried = Vec::new();
    for _ in 0..20 {
        tried.extend(stage.sample("a"));
    }
    assert!(tried.iter().any(|one| one.starts_with("migrate giant")), "{tried:?}");
    assert!(!tried.iter().any(|one| one.starts_with("migrate idle")), "{tried:?}");
    // Cool again: silence, and nothing left in the state but who rests.
    stage.host_load("a", 1.0);
    for _ in 0..30 {
        stage.sample("a");
    }
    assert_eq!(stage.sample("a"), [""; 0]);
    assert!(!stage.state().contains("asked"), "{}", stage.state());
}

#[test]
fn a_host_in_maintenance_or_down_is_not_relieved() {
    let mut stage = Stage::new("relieve-hot-host", "host:a");
    stage.guest("busy", "a", 4, 1_024, 4.0);
    stage.host_load("a", 8.0);
    stage.maintenance("a", true);
    for _ in 0..30 {
        assert_eq!(stage.sample("a"), [""; 0]);
    }
}

#[test]
fn a_crashed_guest_is_started_after_growing_waits_until_it_gives_up() {
    let mut stage = Stage::new("restart-crashed", "vm:web");
    stage.guest("web", "a", 2, 1_024, 0.5);
    let mut waits = Vec::new();
    let mut said = Vec::new();
    for _ in 0..7 {
        stage.state_of("web", VmState::Off, Reason::Crashed);
        assert_eq!(stage.about_vm("web", EventBody::Crashed(Reason::Crashed)), [""; 0]);
        // The same crash may be told twice.
        assert_eq!(stage.about_vm("web", EventBody::Stopped(Reason::Crashed)), [""; 0]);
        let before = stage.now();
        let proposed = stage.next_timer("restart");
        waits.push(stage.now().since(before));
        said.extend(proposed.clone());
        if proposed[0].starts_with("start") {
            stage.state_of("web", VmState::Running, Reason::Booted);
            stage.about_vm("web", EventBody::Started(Reason::Booted));
        }
    }
    let seconds = [10, 20, 40, 80, 160, 320, 600].map(Span::seconds);
    assert_eq!(waits, seconds);
    assert_eq!(said[0], "start web: crashed (crashed), restart 1 of 6");
    assert_eq!(said[5], "start web: crashed (crashed), restart 6 of 6");
    assert!(said[6].starts_with("alarm: web on a crashed (crashed) and 6 restarts did not help"), "{said:?}");
    // It has given up: no more.
    assert_eq!(stage.about_vm("web", EventBody::Crashed(Reason::Crashed)), [""; 0]);
    assert!(!stage.has_timer("restart"));
    // Somebody starts it, it stays up: all is forgotten, and the next crash begins at 10 s.
    stage.state_of("web", VmState::Running, Reason::Booted);
    stage.about_vm("web", EventBody::Started(Reason::Booted));
    assert_eq!(stage.next_timer("stable"), [""; 0]);
    assert_eq!(stage.state(), "{}");
    stage.state_of("web", VmState::Off, Reason::Crashed);
    stage.about_vm("web", EventBody::Crashed(Reason::Crashed));
    assert!(stage.has_timer("restart"));
}

#[test]
fn a_start_that_is_refused_is_tried_again() {
    let mut stage = Stage::new("restart-crashed", "vm:web");
    stage.guest("web", "a", 2, 1_024, 0.5);
    stage.state_of("web", VmState::Off, Reason::Crashed);
    stage.about_vm("web", EventBody::Crashed(Reason::Crashed));
    assert_eq!(stage.next_timer("restart"), ["start web: crashed (crashed), restart 1 of 6"]);
    assert_eq!(stage.next_timer("restart"), ["start web: crashed (crashed), restart 2 of 6"]);
}

#[test]
fn a_guest_stopped_on_purpose_stays_so() {
    for reason in [Reason::Asked, Reason::Shutdown, Reason::Saved, Reason::Migration, Reason::Unknown] {
        let mut stage = Stage::new("restart-crashed", "vm:web");
        stage.guest("web", "a", 2, 1_024, 0.5);
        stage.state_of("web", VmState::Off, reason);
        stage.about_vm("web", EventBody::Stopped(reason));
        assert!(!stage.has_timer("restart"), "{reason}");
    }
    // Stopped on purpose while the restart was due.
    let mut stage = Stage::new("restart-crashed", "vm:web");
    stage.guest("web", "a", 2, 1_024, 0.5);
    stage.about_vm("web", EventBody::Crashed(Reason::Crashed));
    stage.about_vm("web", EventBody::Stopped(Reason::Asked));
    assert!(!stage.has_timer("restart"));
    assert_eq!(stage.state(), "{}");
}

#[test]
fn a_guest_whose_host_is_away_waits_for_it_without_losing_a_try() {
    let mut stage = Stage::new("restart-crashed", "vm:web");
    stage.guest("web", "a", 2, 1_024, 0.5);
    stage.state_of("web", VmState::Off, Reason::Crashed);
    stage.about_vm("web", EventBody::Crashed(Reason::Crashed));
    stage.maintenance("a", true);
    for _ in 0..10 {
        assert_eq!(stage.next_timer("restart"), [""; 0]);
    }
    stage.maintenance("a", false);
    assert_eq!(stage.next_timer("restart"), ["start web: crashed (crashed), restart 1 of 6"]);
}

#[test]
fn a_host_in_maintenance_is_emptied_two_by_two_and_filled_again() {
    let mut stage = Stage::new("evacuate-maintenance", "host:a");
    for name in ["g1", "g2", "g3"] {
        stage.guest(name, "a", 2, 1_024, 0.5);
    }
    stage.guest("off", "a", 2, 1_024, 0.0);
    stage.state_of("off", VmState::Off, Reason::Asked);
    stage.host_load("a", 1.0);
    stage.maintenance("a", true);
    let first = stage.about_host("a", EventBody::Maintenance { on: true });
    assert_eq!(first, ["migrate g1: maintenance of a, guests left: 3", "migrate g2: maintenance of a, guests left: 3"]);
    // The first is on its way, the second was refused: the third has its turn.
    stage.busy("g1", true);
    assert_eq!(stage.next_timer("look"), ["migrate g3: maintenance of a, guests left: 3"]);
    stage.busy("g1", false);
    stage.moved("g1", "b");
    stage.moved("g3", "b");
    // What was refused is proposed again.
    assert_eq!(stage.next_timer("look"), ["migrate g2: maintenance of a, guests left: 1"]);
    stage.moved("g2", "b");
    assert_eq!(stage.next_timer("look"), ["info: a is empty: maintenance can begin"]);
    assert_eq!(stage.next_timer("look"), [""; 0]);
    // Back in service: those it sent away come back, two by two; the one that was stopped meanwhile does not.
    stage.state_of("g3", VmState::Off, Reason::Shutdown);
    stage.maintenance("a", false);
    assert_eq!(stage.about_host("a", EventBody::Maintenance { on: false }), [""; 0]);
    let back = stage.next_timer("look");
    assert_eq!(back, ["migrate g1 to a: a is back from maintenance", "migrate g2 to a: a is back from maintenance"]);
    stage.moved("g1", "a");
    assert_eq!(stage.next_timer("look"), ["migrate g2 to a: a is back from maintenance"]);
    stage.moved("g2", "a");
    assert_eq!(stage.next_timer("look"), ["info: a is back in service, and its guests are back"]);
    assert_eq!(stage.state(), "{}");
    assert!(!stage.has_timer("look"));
}

#[test]
fn an_evacuation_that_does_not_get_on_is_told_once() {
    let mut stage = Stage::new("evacuate-maintenance", "host:a");
    stage.guest("g1", "a", 2, 1_024, 0.5);
    stage.maintenance("a", true);
    stage.about_host("a", EventBody::Maintenance { on: true });
    let mut told = Vec::new();
    for _ in 0..300 {
        told.extend(stage.next_timer("look").into_iter().filter(|one| !one.starts_with("migrate")));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("warning: a in maintenance: no guest has left for a while. Still there: [\"g1\"]"), "{told:?}");
}

#[test]
fn broken_rules_are_mended_hard_ones_first() {
    let mut stage = Stage::new("keep-apart", "plane");
    for (name, host, memory_mib) in [
        ("db-1", "a", 4_096),
        ("db-2", "a", 1_024),
        ("app", "a", 512),
        ("cache", "b", 256),
        ("web-1", "b", 512),
        ("web-2", "b", 512),
    ] {
        stage.guest(name, host, 2, memory_mib, 0.5);
    }
    stage.rule("web", Affinity::Apart, false, &["web-*"]);
    stage.rule("shop", Affinity::Together, true, &["app", "cache"]);
    stage.rule("databases", Affinity::Apart, true, &["db-*"]);
    stage.about_plane(EventBody::Loaded);
    // Two at a time, and the soft rule has to wait.
    let first = [
        "migrate cache to a: hard rule shop: most of its guests are on a",
        "migrate db-2: hard rule databases: 2 of its guests share a",
    ];
    assert_eq!(stage.next_timer("look"), first);
    stage.busy("db-2", true);
    stage.moved("cache", "a");
    assert_eq!(stage.next_timer("look"), ["migrate web-1: soft rule web: 2 of its guests share b"]);
    stage.busy("db-2", false);
    stage.moved("db-2", "b");
    stage.moved("web-1", "a");
    assert_eq!(stage.next_timer("look"), [""; 0]);
    // Somebody starts a guest where it does not belong: it does not wait for the next look, and looks once only.
    stage.moved("db-2", "a");
    stage.about_vm("db-2", EventBody::Started(Reason::Booted));
    stage.about_vm("db-2", EventBody::Migrated { from: "b".into(), to: "a".into() });
    assert_eq!(stage.next_timer("soon"), ["migrate db-2: hard rule databases: 2 of its guests share a"]);
    assert!(!stage.has_timer("soon") && stage.has_timer("look"));
}

#[test]
fn levels_of_notifications_are_those_of_the_model() {
    // The words the policies use.
    assert_eq!([Level::Info, Level::Warning, Level::Alarm].map(stage::word), ["info", "warning", "alarm"]);
}
