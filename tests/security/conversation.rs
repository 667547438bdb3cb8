//! Two planes that may speak to each other.

use super::world::{DAY, World, denied, eventually, inquiry, peer};
use embot::migration::link::{Direction, Heard, Unsent, Versions};
use embot::migration::message::{Envelope, Message};
use embot::model::Summary;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const BOTH: [Direction; 2] = [Direction::Send, Direction::Receive];

#[test]
fn messages_arrive_in_their_order_both_ways() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    eventually("a stream", || a.peer("site-b").outgoing.filter(|_| b.peer("site-a").incoming.is_some()));
    for number in 0..200 {
        a.link.send(&"site-b".into(), &inquiry("site-a", number)).unwrap();
        b.link.send(&"site-a".into(), &denied("site-a", number)).unwrap();
    }
    eventually("all arrive", || (b.messages().len() == 200 && a.messages().len() == 200).then_some(()));
    for (number, ((from_a, at_b), (from_b, at_a))) in (0..).zip(b.messages().into_iter().zip(a.messages())) {
        assert_eq!((&*from_a, at_b), ("site-a", inquiry("site-a", number)));
        assert_eq!((&*from_b, at_a), ("site-b", denied("site-a", number)));
    }
    assert_eq!(b.link.refusals().0, 0);
}

#[test]
fn what_a_plane_has_to_give_and_what_its_clock_shows_reach_its_peers() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    let summary = Summary { hosts: 3, free_memory_mib: 4_096, classes: ["class=gpu".into()].into(), ..Summary::default() };
    b.link.tell(summary.clone());
    let seen = eventually("the summary arrives", || a.peer("site-b").summary);
    assert_eq!(seen, summary);
    let clock = eventually("the clocks are compared", || a.peer("site-b").clock);
    assert!(clock.ahead_ms.unsigned_abs() <= clock.uncertainty_ms, "one machine has one clock: {clock:?}");
    let told = |heard: &Heard| matches!(heard, Heard::Peer(peer) if peer.reachable && peer.summary.as_ref() == Some(&summary));
    eventually("the plane is told", || a.heard.lock().unwrap().iter().any(told).then_some(()));
    drop(b);
    eventually("the plane is told that the peer is gone", || {
        matches!(a.heard.lock().unwrap().last(), Some(Heard::Peer(peer)) if !peer.reachable).then_some(())
    });
}

#[test]
fn a_plane_that_was_away_is_dialled_again() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a"]);
    let address = b.address();
    let a = world.plane("site-a", vec![peer("site-b", Some(address), &[Direction::Send])], |_| {});
    eventually("a stream", || a.peer("site-b").outgoing);
    drop(b);
    eventually("it is lost", || a.peer("site-b").outgoing.is_none().then_some(()));
    let lost = a.link.send(&"site-b".into(), &inquiry("site-a", 1)).unwrap_err();
    assert!(matches!(lost, Unsent::NotConnected { .. }), "{lost}");
    let problem = eventually("the reason is known", || a.peer("site-b").problem.filter(|why| why.contains("cannot connect")));
    assert!(problem.contains(&address.to_string()), "{problem}");
    let peers = vec![peer("site-a", None, &[Direction::Receive])];
    let b = world.plane("site-b", peers, |settings| settings.listen = Some(address.to_string().into()));
    eventually("a stream again", || a.peer("site-b").outgoing);
    a.link.send(&"site-b".into(), &inquiry("site-a", 2)).unwrap();
    eventually("and messages", || (b.messages().len() == 1).then_some(()));
}

#[test]
fn each_of_two_planes_that_send_has_its_own_stream() {
    let world = World::new();
    let a = world.plane("site-a", vec![peer("site-b", None, &[Direction::Receive])], |_| {});
    let b = world.plane("site-b", vec![peer("site-a", Some(a.address()), &BOTH)], |_| {});
    // Now that B's address is known, A is started again with it.
    let address = a.address();
    drop(a);
    let a = eventually("the port is free again", || {
        let settings = vec![peer("site-b", Some(b.address()), &BOTH)];
        std::net::TcpListener::bind(address).ok().map(drop)?;
        Some(world.plane("site-a", settings, |settings| settings.listen = Some(address.to_string().into())))
    });
    eventually("both streams", || a.peer("site-b").outgoing.and(a.peer("site-b").incoming));
    a.link.send(&"site-b".into(), &inquiry("site-a", 1)).unwrap();
    a.link.send(&"site-b".into(), &denied("site-b", 2)).unwrap();
    eventually("both arrive", || (b.messages().len() == 2).then_some(()));
    assert_eq!(a.peer("site-b").outgoing.unwrap().sent, 1);
    assert_eq!(a.peer("site-b").incoming.unwrap().sent, 1);
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let world = World::new();
    let a = world.plane("site-a", vec![peer("site-b", None, &[Direction::Receive])], |_| {});
    let said = |peer: &str, envelope| a.link.send(&Arc::from(peer), &envelope).unwrap_err().to_string();
    assert_eq!(said("site-c", inquiry("site-a", 1)), "plane site-c is not among the peers in the configuration");
    assert_eq!(said("site-b", inquiry("site-c", 1)), "migration site-c/1 is neither this plane's nor plane site-b's");
    assert_eq!(said("site-b", inquiry("site-b", 1)), "plane site-b is not connected");
}

#[test]
fn the_highest_common_version_is_spoken() {
    let world = World::new();
    let listening = |oldest, newest| {
        world.plane("site-b", vec![peer("site-a", None, &[Direction::Receive])], |settings| {
            settings.versions = Versions { oldest, newest };
        })
    };
    let dialling = |address, oldest, newest| {
        world.plane("site-a", vec![peer("site-b", Some(address), &[Direction::Send])], |settings| {
            settings.versions = Versions { oldest, newest };
        })
    };
    for (ours, theirs, spoken) in [((1, 2), (2, 3), 2), ((2, 3), (1, 2), 2), ((1, 1), (1, 4), 1), ((3, 4), (3, 4), 4)] {
        let b = listening(theirs.0, theirs.1);
        let a = dialling(b.address(), ours.0, ours.1);
        let stream = eventually("a stream", || a.peer("site-b").outgoing);
        assert_eq!(stream.version, spoken);
        let stream = eventually("the same at the other end", || b.peer("site-a").incoming);
        assert_eq!(stream.version, spoken);
    }
    let b = listening(3, 4);
    let a = dialling(b.address(), 1, 2);
    let (presented, reason) = b.refused("versions");
    assert!(presented.contains("plane site-a"), "{presented}");
    assert!(reason.contains("1 to 2") && reason.contains("3 to 4"), "{reason}");
    eventually("the other side knows why", || a.peer("site-b").problem.filter(|why| **why == *reason));
}

#[test]
fn a_receiver_without_room_holds_the_sender_up_and_loses_nothing() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |settings| {
        settings.limits.idle = DAY;
    });
    eventually("a stream", || a.peer("site-b").outgoing);
    b.full.store(true, Ordering::SeqCst);
    let before = b.messages().len();
    // More than the queues on the way hold; then the sender is told.
    let mut sent = 0;
    let busy = loop {
        match a.link.send(&"site-b".into(), &large(sent)) {
            Ok(()) => sent += 1,
            Err(unsent) => break unsent,
        }
    };
    assert!(matches!(busy, Unsent::Busy(_)), "{busy}");
    assert_eq!(b.messages().len(), before);
    b.full.store(false, Ordering::SeqCst);
    eventually("all that was taken arrives", || (b.messages().len() as u64 == sent).then_some(()));
}

/// A message of a mebibyte.
fn large(number: u64) -> Envelope {
    Envelope { message: Message::State(vec![7; 1 << 20].into()), ..inquiry("site-a", number) }
}

#[test]
fn a_peer_that_dials_is_dialled_at_once() {
    let world = World::new();
    let b = world.plane("site-b", vec![peer("site-a", None, &BOTH)], |_| {});
    let address = b.address();
    let patient = |settings: &mut embot::migration::link::Settings| {
        (settings.limits.again_first, settings.limits.again_most) = (DAY, DAY);
    };
    let a = world.plane("site-a", vec![peer("site-b", Some(address), &BOTH)], patient);
    eventually("a stream", || a.peer("site-b").outgoing);
    drop(b);
    eventually("it is lost", || a.peer("site-b").outgoing.is_none().then_some(()));
    // By itself it would be dialled tomorrow.
    let b = world.plane("site-b", vec![peer("site-a", Some(a.address()), &BOTH)], |settings| {
        settings.listen = Some(address.to_string().into());
    });
    eventually("its own stream", || b.peer("site-a").outgoing);
    eventually("a stream again", || a.peer("site-b").outgoing);
}
