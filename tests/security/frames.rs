//! Peers with a good certificate that say what they should not: each stream ends with a reason, and the plane goes on.

use super::world::{Hand, Plane, World, denied, dial, eventually, frame, hello, inquiry};
use embot::migration::link::proto::frame::Body;
use embot::migration::link::proto::{self, Frame, Kind, Ping};
use embot::migration::link::{VERSIONS, wire};
use embot::migration::message::Message;
use embot::migration::{MigrationId, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn message(number: u64, envelope: &embot::migration::message::Envelope) -> Frame {
    frame(number, Body::Message(wire::message(envelope).unwrap()))
}

/// What plane site-b says to site-a, which says a Hello and then these frames, and the reason that it keeps.
fn says(frames: Vec<Frame>, reason: &str) -> (World, Plane, String) {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    let ending = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        let all = std::iter::once(hello("site-a", "site-b", VERSIONS)).chain(frames).collect();
        Hand::say(&mut client, all).await.ending().await
    });
    let (presented, kept) = plane.refused(reason);
    assert!(presented.contains("plane site-a"), "{presented}: {kept}");
    (world, plane, ending)
}

/// It is refused, told why, and a good peer is served.
fn refused(frames: Vec<Frame>, reason: &str) {
    let (world, plane, ending) = says(frames, reason);
    assert!(ending.starts_with("PermissionDenied") && ending.contains(reason), "{ending}");
    let from_a = |(peer, _): &(std::sync::Arc<str>, _)| &**peer == "site-a";
    assert!(plane.messages().iter().filter(|message| from_a(message)).count() <= 1, "nothing after the bad frame is heard");
    plane.still_works(&world, "good");
}

#[test]
fn a_frame_that_comes_again() {
    let once = message(2, &inquiry("site-a", 1));
    refused(vec![once.clone(), once, message(3, &inquiry("site-a", 2))], "frame 2 came in place of frame 3");
}

#[test]
fn frames_in_another_order() {
    refused(vec![message(3, &inquiry("site-a", 1)), message(2, &inquiry("site-a", 2))], "frame 3 came in place of frame 2");
}

#[test]
fn a_second_hello() {
    let Frame { body, .. } = hello("site-a", "site-b", VERSIONS);
    refused(vec![Frame { number: 2, body }], "a Hello must come first");
}

#[test]
fn no_hello() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    let ending = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        Hand::say(&mut client, vec![message(1, &inquiry("site-a", 1))]).await.ending().await
    });
    assert!(ending.contains("a Hello must come first"), "{ending}");
    assert!(plane.messages().is_empty());
    plane.still_works(&world, "good");
}

#[test]
fn a_frame_without_content() {
    refused(vec![Frame { number: 2, body: None }], "a frame without content");
}

#[test]
fn somebody_elses_migration() {
    refused(vec![message(2, &inquiry("good", 1))], "this stream carries migrations of plane site-a only");
}

#[test]
fn a_message_of_the_other_side() {
    refused(vec![message(2, &denied("site-a", 1))], "MIGRATION_DENIED is not for this side to say");
}

#[test]
fn an_offer_in_the_name_of_another() {
    let named = offer("good", "site-b");
    refused(vec![message(2, &named)], "an offer by plane good to plane site-b");
    let named = offer("site-a", "site-c");
    refused(vec![message(2, &named)], "an offer by plane site-a to plane site-c");
}

/// An offer within a migration of site-a, in whatever names.
pub fn offer(from: &str, to: &str) -> embot::migration::message::Envelope {
    use embot::migration::ResumeBy;
    use embot::migration::message::{GuestOffer, Offer};
    use embot::model::{Mode, VmState};
    let guest = GuestOffer {
        name: "web-1".into(),
        state: VmState::Running,
        vcpus: 1,
        memory_mib: 512,
        cpu_millicores: 500,
        labels: Default::default(),
        mode: Mode::Act,
        cpu_model: "".into(),
        machine: "".into(),
        passthrough: Vec::new(),
        disks: Vec::new(),
        bases: Vec::new(),
        networks: Vec::new(),
        autostart: false,
        description: "<domain/>".into(),
    };
    let offer = Offer {
        vm: embot::model::VmId(uuid::Uuid::from_u128(41)),
        epoch: 1,
        from: from.into(),
        to: to.into(),
        host: None,
        way: Way::Live,
        resume: ResumeBy::Manager,
        why: "hot".into(),
        guest,
        modules: Vec::new(),
    };
    let id = MigrationId { plane: "site-a".into(), number: 1 };
    embot::migration::message::Envelope { id, message: Message::Offer(Box::new(offer)) }
}

#[test]
fn a_label_that_is_not_what_is_inside() {
    let mut other_kind = wire::message(&inquiry("site-a", 1)).unwrap();
    other_kind.kind = Kind::StartMigration.into();
    refused(vec![frame(2, Body::Message(other_kind))], "START_MIGRATION has content about INQUIRE");
    let mut other_name = wire::message(&inquiry("site-a", 1)).unwrap();
    other_name.migration = "site-a/2".to_owned();
    refused(vec![frame(2, Body::Message(other_name))], "a frame about site-a/2 has content about site-a/1");
}

#[test]
fn a_message_that_cannot_be_read() {
    let content = |content: Vec<u8>| {
        let whole = wire::message(&inquiry("site-a", 1)).unwrap();
        frame(2, Body::Message(proto::Message { content: content.into(), ..whole }))
    };
    refused(vec![content(vec![1, 0xff, 0xff, 0xff, 0xff])], "a message that cannot be read");
    refused(vec![content(vec![99, 0])], "a message of version 99");
    refused(vec![content(Vec::new())], "an empty message");
    let mut longer = wire::message(&inquiry("site-a", 1)).unwrap().content.to_vec();
    longer.push(0);
    refused(vec![content(longer)], "1 bytes too many");
}

#[test]
fn a_message_that_is_too_large() {
    let (world, plane, ending) = {
        let whole = wire::message(&inquiry("site-a", 1)).unwrap();
        let large = proto::Message { content: vec![1; wire::FRAME_BYTES + 1].into(), ..whole };
        says(vec![frame(2, Body::Message(large))], "a frame that cannot be read")
    };
    assert!(ending.contains("too large"), "{ending}");
    plane.still_works(&world, "good");
}

#[test]
fn a_connection_that_breaks_off_in_the_middle_of_a_frame() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        let hand = Hand::say(&mut client, vec![hello("site-a", "site-b", VERSIONS)]).await;
        hand.answer.as_ref().unwrap();
        hand.out.send(frame(2, Body::Ping(Ping { id: 1 }))).await.unwrap();
        // Half of a large frame is on its way when the process ends.
        let whole = wire::message(&inquiry("site-a", 1)).unwrap();
        let large = proto::Message { content: vec![1; 4 << 20].into(), ..whole };
        hand.out.send(frame(3, Body::Message(large))).await.unwrap();
    });
    eventually("the stream is gone", || plane.peer("site-a").incoming.is_none().then_some(()));
    assert!(plane.messages().is_empty());
    plane.still_works(&world, "good");
}

#[test]
fn bytes_that_are_no_http() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    world.runtime.block_on(async {
        // Not even TLS.
        let mut stream = tokio::net::TcpStream::connect(plane.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        // TLS with a good certificate, and then anything.
        let mut stream = super::world::shake(plane.address(), Some(&folder)).await.unwrap();
        stream.write_all(&[0xff; 4_096]).await.unwrap();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let (presented, _) = plane.refused("received corrupt message");
    assert_eq!(presented, "nobody");
    plane.still_works(&world, "good");
}
