//! Certificates, authorities and revocations change while the plane runs.

use super::world::{DAY, World, eventually, inquiry, now, peer};
use embot::migration::link::Direction;
use embot::pki::Request;
use std::fs;

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    let before = eventually("a stream", || a.peer("site-b").outgoing).certificate;
    assert_eq!(before, b.link.certificate());
    // Once with the same key, once with a new one.
    for new_key in [false, true] {
        let issued = world.authority().renew(&Request::new("site-b"), new_key, now()).unwrap();
        eventually("it is read", || (b.link.certificate() == issued.certificate).then_some(()));
        assert!(a.peer("site-b").outgoing.is_some(), "the open stream goes on");
    }
    // Who dials from now on sees the new one.
    let c = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    let seen = eventually("a stream", || c.peer("site-b").outgoing).certificate;
    assert_eq!(seen, b.link.certificate());
    assert_ne!(seen.serial, before.serial);
}

#[test]
fn half_written_files_leave_the_old_ones_in_force() {
    let world = World::new();
    let b = world.listening("site-b", &["good"]);
    let mut before = b.link.certificate();
    let folder = world.certified("site-b");
    let other = world.certified("other");
    // A certificate whose key has not been copied yet; then a file of nothing. Each is looked at, and not taken.
    for (file, damage) in [("plane.crt", fs::read(other.join("plane.crt")).unwrap()), ("crl.pem", Vec::new())] {
        fs::write(folder.join(file), damage).unwrap();
        eventually("it is seen, and not read", || b.link.unread().filter(|why| why.contains(file)));
        assert_eq!(b.link.certificate(), before);
        world.authority().renew(&Request::new("site-b"), false, now()).unwrap();
        eventually("whole files are read", || (b.link.certificate() != before && b.link.unread().is_none()).then_some(()));
        before = b.link.certificate();
    }
    b.still_works(&world, "good");
}

#[test]
fn a_peer_that_is_revoked_is_cut_off_and_stays_out() {
    let world = World::new();
    let b = world.listening("site-b", &["site-a", "good"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    eventually("a stream", || b.peer("site-a").incoming);
    world.authority().revoke("site-a", now()).unwrap();
    assert!(b.peer("site-a").incoming.is_some(), "the list has not arrived");
    fs::copy(world.folder.path().join("pki/crl.pem"), world.certified("site-b").join("crl.pem")).unwrap();
    let (presented, _) = b.refused("no longer accepted: it was revoked");
    assert!(presented.contains("plane site-a"), "{presented}");
    eventually("the stream ends", || b.peer("site-a").incoming.is_none().then_some(()));
    b.refused("its certificate is not accepted: it was revoked");
    let why =
        eventually("it knows why", || a.peer("site-b").problem.filter(|why| why.contains("this plane's certificate: revoked")));
    assert!(why.contains("it refuses"), "{why}");
    b.still_works(&world, "good");
    // A fresh certificate lets it in again.
    world.authority().renew(&Request::new("site-a"), false, now()).unwrap();
    eventually("a stream again", || a.peer("site-b").outgoing);
    a.link.send(&"site-b".into(), &inquiry("site-a", 1)).unwrap();
    eventually("and messages", || b.messages().iter().any(|(peer, _)| &**peer == "site-a").then_some(()));
}

#[test]
fn a_plane_whose_own_certificate_has_expired_comes_back_with_a_new_one() {
    let world = World::new();
    let old = Request { days: 1, ..Request::new("site-a") };
    world.authority().issue(&old, now() - DAY - DAY).unwrap();
    let b = world.listening("site-b", &["site-a"]);
    let a = world.plane("site-a", vec![peer("site-b", Some(b.address()), &[Direction::Send])], |_| {});
    eventually("it is told why", || a.peer("site-b").problem.filter(|why| why.contains("expired (`embot pki renew`")));
    b.refused("it has expired");
    world.authority().renew(&Request::new("site-a"), false, now()).unwrap();
    eventually("a stream", || a.peer("site-b").outgoing);
}
