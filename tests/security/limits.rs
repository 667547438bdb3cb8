//! Peers that want more than their share: streams, connections, offers, time.

use super::world::{Hand, World, dial, eventually, frame, hello, inquiry, peer, shake};
use embot::migration::link::proto::frame::Body;
use embot::migration::link::{Direction, VERSIONS, wire};
use embot::model::Span;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

#[test]
fn a_thousand_streams_at_once() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    let (served, refused) = world.runtime.block_on(async {
        let client = dial(plane.address(), &folder).await;
        let mut asking = JoinSet::new();
        for _ in 0..1_000 {
            let mut client = client.clone();
            asking.spawn(async move {
                let hand = Hand::say(&mut client, vec![hello("site-a", "site-b", VERSIONS)]).await;
                match &hand.answer {
                    // Kept open until all have been answered.
                    Ok(_) => Ok(hand),
                    Err(status) => Err(status.message().to_owned()),
                }
            });
        }
        let (mut served, mut refused) = (Vec::new(), Vec::new());
        while let Some(done) = asking.join_next().await {
            match done.unwrap() {
                Ok(hand) => served.push(hand),
                Err(why) => refused.push(why),
            }
        }
        (served.len(), refused)
    });
    assert_eq!((served, refused.len()), (1, 999));
    assert!(refused.iter().all(|why| why.contains("a connection carries one stream")), "{refused:?}");
    assert!(plane.link.refusals().0 >= 999, "each is on record");
    plane.still_works(&world, "good");
}

#[test]
fn two_hundred_connections_at_once() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder: Arc<std::path::Path> = world.certified("site-a").into();
    let most = 4;
    let open = world.runtime.block_on(async {
        let mut dialling = JoinSet::new();
        for _ in 0..200 {
            let (address, folder) = (plane.address(), folder.clone());
            dialling.spawn(async move {
                let mut stream = shake(address, Some(&folder)).await.ok()?;
                // What is served begins with the other side's HTTP settings; what is not is closed.
                let mut first = [0; 9];
                stream.read_exact(&mut first).await.ok().map(|_| stream)
            });
        }
        let mut open = Vec::new();
        while let Some(done) = dialling.join_next().await {
            open.extend(done.unwrap());
        }
        open.len()
    });
    assert!(open <= most, "{open} connections of one plane are served at once");
    let (presented, reason) = plane.refused("connections of this plane are open already");
    assert!(presented.contains("plane site-a"), "{presented}: {reason}");
    assert!(plane.link.refusals().0 >= 200 - most as u64);
    plane.still_works(&world, "good");
}

#[test]
fn connections_that_say_nothing_are_closed() {
    let world = World::new();
    let peers = ["good", "site-a"].map(|name| peer(name, None, &[Direction::Receive])).to_vec();
    let plane = world.plane("site-b", peers, |settings| {
        settings.limits.hello = Span(100);
        settings.limits.handshake = Span(300);
        settings.limits.handshakes = 2;
    });
    let folder = world.certified("site-a");
    // The handshake begins and goes no further, more often than there is room for; the plane is not held up for long.
    let silent: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(plane.address()).unwrap()).collect();
    plane.refused("the handshake took longer than 300ms");
    // The handshake is done, and no stream is asked for.
    let ending = world.runtime.block_on(async {
        let mut stream = shake(plane.address(), Some(&folder)).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(|_| ())
    });
    drop(ending);
    // A stream is asked for, and no Hello comes.
    let ending = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        Hand::say(&mut client, Vec::new()).await.ending().await
    });
    assert!(ending.contains("no Hello came within 100ms"), "{ending}");
    drop(silent);
    plane.still_works(&world, "good");
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let world = World::new();
    let peers = ["good", "site-a"].map(|name| peer(name, None, &[Direction::Receive])).to_vec();
    let plane = world.plane("site-b", peers, |settings| settings.limits.idle = Span(300));
    let folder = world.certified("site-a");
    let hand = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        Hand::say(&mut client, vec![hello("site-a", "site-b", VERSIONS)]).await
    });
    assert!(hand.answer.is_ok());
    eventually("it is connected, or was", || plane.heard.lock().unwrap().first().map(|_| ()));
    eventually("it is given up", || plane.peer("site-a").incoming.is_none().then_some(()));
    drop(hand);
    plane.still_works(&world, "good");
}

#[test]
fn a_thousand_messages_a_second_are_slowed_to_what_is_allowed() {
    let world = World::new();
    let mut allowed = peer("site-a", None, &[Direction::Receive]);
    allowed.limits.messages_per_s = 200;
    let peers = vec![allowed, peer("good", None, &[Direction::Receive])];
    let plane = world.plane("site-b", peers, |_| {});
    let folder = world.certified("site-a");
    let started = std::time::Instant::now();
    let hand = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        let offers = (0..1_000).map(|at| frame(at + 2, Body::Message(wire::message(&inquiry("site-a", at)).unwrap())));
        Hand::say(&mut client, std::iter::once(hello("site-a", "site-b", VERSIONS)).chain(offers).collect()).await
    });
    assert!(hand.answer.is_ok());
    // While these wait, others are served.
    plane.still_works(&world, "good");
    let from_a = || plane.messages().iter().filter(|(peer, _)| &**peer == "site-a").count();
    eventually("all arrive in the end", || (from_a() == 1_000).then_some(()));
    let least = std::time::Duration::from_secs(1_000 / 200 - 1);
    assert!(started.elapsed() >= least, "faster than allowed: {:?}", started.elapsed());
}

#[test]
fn a_second_stream_takes_the_place_of_the_first() {
    // A peer whose connection was cut without a word dials again long before the old stream is given up.
    let world = World::new();
    let plane = world.listening("site-b", &["site-a"]);
    let folder = world.certified("site-a");
    world.runtime.block_on(async {
        let mut first = dial(plane.address(), &folder).await;
        let old = Hand::say(&mut first, vec![hello("site-a", "site-b", VERSIONS)]).await;
        assert!(old.answer.is_ok());
        let mut second = dial(plane.address(), &folder).await;
        let new = Hand::say(&mut second, vec![hello("site-a", "site-b", VERSIONS)]).await;
        assert!(new.answer.is_ok());
        assert_eq!(old.ending().await, "Unavailable: the peer has opened a newer stream");
        let said = inquiry("site-a", 1);
        new.out.send(frame(2, Body::Message(wire::message(&said).unwrap()))).await.unwrap();
        tokio::task::block_in_place(|| {
            eventually("the new one is heard", || plane.messages().iter().any(|(_, heard)| *heard == said).then_some(()));
        });
        drop(new);
    });
}
