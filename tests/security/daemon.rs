//! The same against running daemons: `embot run` processes with what `embot pki` made, reached over their real links.

use super::frames::offer;
use super::world::{DAY, Hand, World, dial, eventually, frame, hello, now, turned_away};
use crate::pair::{Pair, pki};
use crate::plane::Plane;
use crate::process::Process;
use embot::migration::MigrationId;
use embot::migration::link::proto::Summary;
use embot::migration::link::proto::frame::Body;
use embot::migration::link::{VERSIONS, wire};
use embot::migration::message::{self, Envelope, Message};
use embot::model::VmId;
use embot::pki::{Authority, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Nothing happens here by itself.
const QUIET: &str = "
hosts:
  - { name: 'a-{n}', count: 2, cpus: 64, memory_mib: 16384, bandwidth_mib_per_s: 2000 }
  - { name: 'b-{n}', count: 2, cpus: 64, memory_mib: 16384, bandwidth_mib_per_s: 2000 }
guests:
  - { name: 'a-guest-{n}', count: 2, on: [a-1], memory_mib: 512 }
  - { name: 'b-guest-{n}', count: 2, on: [b-1], memory_mib: 512 }
";

/// Starts a plane's daemon, which lets in what its hosts have room for; it decides, and has adopted its two guests.
fn admitting(plane: &Plane) -> Process {
    plane.deploy("admit-offers");
    let mut daemon = plane.daemon();
    plane.wait_until("it decides, and its guests and its module are its own", &mut daemon, |status| {
        status["starting"] == false && status["open"] == 0 && status["guests_by_mode"]["act"] == 2 && status["modules"] == 1
    });
    daemon
}

/// Two planes, and where the second listens.
fn pair() -> (Pair, SocketAddr) {
    let mut listens = Vec::new();
    let pair = Pair::wired(QUIET, |address| {
        listens.push(address.parse().unwrap());
        address.to_owned()
    });
    (pair, listens[1])
}

/// The daemon has refused somebody: this identity, for this reason. Its log and its API say so.
fn refused(plane: &Plane, presented: &str, reason: &str) {
    let is_so = |refusal: &Value| {
        let says = |key: &str, part: &str| refusal[key].as_str().is_some_and(|text| text.contains(part));
        says("presented", presented) && says("reason", reason)
    };
    eventually(&format!("{presented} is refused for `{reason}`"), || {
        let peers = plane.door().get("/v1/peers")?;
        peers["refusals"].as_array()?.iter().any(is_so).then_some(())
    });
    let logged = |line: &str| ["WARN", "refused a peer", presented, reason].iter().all(|part| line.contains(part));
    assert!(plane.said().lines().any(logged), "the log does not name {presented} and `{reason}`:\n{}", plane.log());
    assert_eq!(plane.status().map(|status| status["starting"].clone()), Some(json!(false)), "the daemon answers");
}

#[test]
fn strangers_are_refused_by_a_running_daemon_which_goes_on() {
    let (pair, to) = pair();
    let [source, target] = &pair.planes;
    // A third plane may send guests, too; it is the one that becomes a stranger.
    target.configure(&[("peers: [", "peers: [{ name: site-c, allow: [receive] }, ")]);
    let _daemons = [admitting(source), admitting(target)];
    let (runtime, foreign) = (Runtime::new().unwrap(), World::new());
    let authority = pair.fleet.path("pki");
    let issued = |plane: &str| {
        pki(&authority, &["issue", plane]);
        authority.join("planes").join(plane)
    };
    let expired = pair.fleet.path("expired");
    let old = Request { days: 1, to: Some(expired.clone()), ..Request::new("site-old") };
    Authority::open(&authority).unwrap().issue(&old, now() - DAY - DAY).unwrap();

    // Those with whom there is no handshake.
    let at_the_door: [(Option<&Path>, _, _, _); 3] = [
        (None, "CertificateRequired", "nobody", "peer sent no certificates"),
        (Some(&foreign.certified("site-a")), "UnknownCA", "plane site-a", "no authority that this plane trusts"),
        (Some(&expired), "CertificateExpired", "plane site-old", "it has expired"),
    ];
    for (identity, alert, presented, reason) in at_the_door {
        let said = runtime.block_on(turned_away(to, identity));
        assert!(said.contains(alert), "{presented}: {said}");
        refused(target, presented, reason);
    }

    // Those whose certificate is good, and who are not, or not who they say they are.
    let (stranger, third) = (issued("stranger"), issued("site-c"));
    let says_to_be = |identity: &Path, name: &str| {
        runtime.block_on(async { Hand::say(&mut dial(to, identity).await, vec![hello(name, "site-b", VERSIONS)]).await })
    };
    for (identity, name, presented, reason) in [
        (&stranger, "stranger", "plane stranger", "not among the peers of plane site-b"),
        (&third, "site-a", "plane site-c", "it calls itself `site-a`"),
    ] {
        let ending = runtime.block_on(says_to_be(identity, name).ending());
        assert!(ending.starts_with("PermissionDenied") && ending.contains(reason), "{name}: {ending}");
        refused(target, presented, reason);
    }

    // One that was good until now.
    let hand = says_to_be(&third, "site-c");
    assert!(hand.answer.is_ok(), "it is a peer: {:?}", hand.answer.err());
    pki(&authority, &["revoke", "site-c"]);
    fs::copy(authority.join("crl.pem"), authority.join("planes/site-b/crl.pem")).unwrap();
    let ending = runtime.block_on(hand.ending());
    assert!(ending.contains("no longer accepted: it was revoked"), "{ending}");
    refused(target, "plane site-c", "no longer accepted: it was revoked");
    let said = runtime.block_on(turned_away(to, Some(&third)));
    assert!(said.contains("CertificateRevoked"), "{said}");
    refused(target, "plane site-c", "its certificate is not accepted: it was revoked");

    // Nobody else has noticed: a guest goes over, and another comes back.
    for (from, to, guest) in [(0, 1, "a-guest-1"), (1, 0, "b-guest-1")] {
        let [from, to] = [from, to].map(|plane: usize| &pair.planes[plane]);
        eventually("they are connected", || reachable(from));
        let peer = crate::pair::NAMES[usize::from(std::ptr::eq(to, target))];
        let answer = from.door().post("migrate", &json!({ "vm": guest, "to": peer })).unwrap();
        assert_eq!(answer.code, 200, "{answer:?}");
        for plane in [from, to] {
            let moved = || {
                let migrations = plane.door().get("/v1/migrations")?;
                migrations.as_array()?.iter().any(|one| one["name"] == guest && one["state"] == "moved").then_some(())
            };
            eventually("it is moved, both say", moved);
        }
        let owner = eventually("it is there", || to.door().get(&format!("/v1/elements/{guest}")));
        assert_eq!(owner["element"]["owner"], peer, "{owner}");
    }
}

/// Is there a way to the peer that guests go to?
fn reachable(plane: &Plane) -> Option<()> {
    let peers = plane.door().get("/v1/peers")?;
    peers["peers"].as_array()?.iter().any(|peer| peer["sends"] == true && peer["reachable"] == true).then_some(())
}

/// The limit is for what hangs, not for slow machines.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it comes to an end")
}

/// What a peer hears on a stream of its own.
struct Ear {
    hand: Hand,
    number: u64,
    /// What the plane last said of its room.
    room: Summary,
}

impl Ear {
    /// Dials as site-a, and hears of the room there is.
    async fn dial(to: SocketAddr, identity: &Path) -> Ear {
        let hand = Hand::say(&mut dial(to, identity).await, vec![hello("site-a", "site-b", VERSIONS)]).await;
        let mut ear = Ear { hand, number: 1, room: Summary::default() };
        while ear.room.hosts == 0 {
            assert!(ear.hear().await.is_none(), "nothing has been said to it");
        }
        ear
    }

    async fn say(&mut self, envelope: &Envelope) {
        self.number += 1;
        self.hand.out.send(frame(self.number, Body::Message(wire::message(envelope).unwrap()))).await.unwrap();
    }

    /// The next frame, if it is a message.
    async fn hear(&mut self) -> Option<Envelope> {
        let stream = self.hand.answer.as_mut().unwrap().get_mut();
        match stream.message().await.unwrap().expect("the stream goes on").body {
            Some(Body::Message(said)) => Some(message::decode(&said.content).unwrap()),
            Some(Body::Summary(room)) => {
                self.room = room;
                None
            }
            _ => None,
        }
    }
}

/// An offer of a guest of its own, with 1 GiB.
fn guest(number: u64) -> Envelope {
    let Message::Offer(mut offer) = offer("site-a", "site-b").message else { unreachable!() };
    offer.vm = VmId(uuid::Uuid::from_u128(0x1000 + u128::from(number)));
    offer.guest.name = format!("guest-{number}").into();
    (offer.guest.memory_mib, offer.guest.cpu_millicores) = (1_024, 10);
    Envelope { id: MigrationId { plane: "site-a".into(), number }, message: Message::Offer(offer) }
}

#[test]
fn a_thousand_offers_at_once_take_no_more_than_there_is() {
    let (pair, to) = pair();
    let target = &pair.planes[1];
    // Room is the limit: nothing else is.
    target.configure(&[
        ("migrations_per_host: 4", "migrations_per_host: 2000"),
        ("migrations: 12", "migrations: 2000"),
        ("limits: { migrations: 1000 }", "limits: { migrations: 2000 }"),
        ("peers: [", "handover: { step_timeout: 2s, lease: 15s }\npeers: ["),
    ]);
    let _daemon = admitting(target);
    let runtime = Runtime::new().unwrap();
    let identity = pair.fleet.path("pki/planes/site-a");
    // Each of two hosts has 16 GiB, one of them 1 GiB less for its own two guests.
    let fits = BTreeMap::from([("b-1", 15), ("b-2", 16)]);

    let (granted, reasons, room) = runtime.block_on(in_time(async {
        let mut ear = Ear::dial(to, &identity).await;
        let room = ear.room.clone();
        for number in 1..=1_000 {
            ear.say(&guest(number)).await;
        }
        // Its own work goes on meanwhile.
        let door = target.door();
        let own = tokio::task::spawn_blocking(move || {
            let answer = door.post("suspend", &json!({ "vm": "b-guest-1" })).unwrap();
            assert_eq!(answer.code, 200, "{answer:?}");
            let path = format!("/v1/actions/{}", answer.body["actions"][0]);
            let done = || door.get(&path).filter(|explained| explained["action"]["state"] == "done");
            eventually("the plane's own work is done", done);
        });
        let (mut granted, mut reasons) = (BTreeMap::new(), BTreeMap::<u64, String>::new());
        while granted.len() + reasons.len() < 1_000 {
            let Some(Envelope { id, message }) = ear.hear().await else { continue };
            match message {
                Message::Permitted(grants) => drop(granted.insert(id.number, grants.host.to_string())),
                Message::Denied(reason) => drop(reasons.insert(id.number, reason.to_string())),
                other => panic!("{id}: {other:?}"),
            }
        }
        own.await.unwrap();
        (granted, reasons, room)
    }));
    let mut taken = BTreeMap::<&str, u64>::new();
    granted.values().for_each(|host| *taken.entry(host).or_default() += 1);
    assert_eq!(taken, fits, "what fits is let in, and no more");
    let unreasoned = reasons.values().find(|reason| !reason.contains("no host can take it: b-1: ") || !reason.contains("MiB"));
    assert_eq!(unreasoned, None);
    let open = target.door().get("/v1/migrations?open=true").unwrap();
    assert_eq!(open.as_array().map(Vec::len), Some(granted.len()), "each guest that may come is expected");

    // The peer has gone away, without a word. Its guests are expected for a while, and then no more.
    let over = || target.door().get("/v1/migrations?open=true").filter(|open| open.as_array().is_some_and(Vec::is_empty));
    eventually("nobody is expected any more", over);
    runtime.block_on(in_time(async {
        let mut ear = Ear::dial(to, &identity).await;
        let free = |room: &Summary| (room.free_memory_mib, room.free_vcpus, room.vms);
        while free(&ear.room) != free(&room) {
            ear.hear().await;
        }
        ear.say(&guest(2_000)).await;
        let answer = loop {
            if let Some(answer) = ear.hear().await {
                break answer.message;
            }
        };
        assert!(matches!(answer, Message::Permitted(_)), "{answer:?}");
    }));
    println!("1,000 offers: {} let in, {} refused", granted.len(), reasons.len());
}
