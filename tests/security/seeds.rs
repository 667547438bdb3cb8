//! Good bytes for each decoder whose form still changes with the program: made from values, so that they follow it.

use super::frames::offer;
use super::world::{denied, frame, hello, inquiry};
use embot::embot::package::{Contents, Package, Recipe, SigningKey, Unverified, pack, parcel};
use embot::migration::MigrationId;
use embot::migration::bundle::{Bundle, Changes, ModuleStamp, TravellingTimer, Waiting};
use embot::migration::link::proto::frame::Body;
use embot::migration::link::proto::{Frame, Ping, Pong};
use embot::migration::link::{VERSIONS, wire};
use embot::migration::message::{self, Digest, DiskOffer, Envelope, Grants, Message, Record, Rewrite, Round};
use embot::model::{
    ElementId, EmbotId, EmbotRow, Event, EventBody, Mark, Mode, Reason, Span, Summary, Timestamp, Value, Vm, VmId, VmLoad,
    VmState,
};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The guest that they are about.
pub const GUEST: VmId = VmId(uuid::Uuid::from_u128(41));
const NOW: Timestamp = Timestamp(1_790_000_001_000);

/// Messages of both sides.
pub fn messages() -> Vec<Vec<u8>> {
    envelopes().iter().map(|envelope| message::encode(envelope).unwrap()).collect()
}

fn envelopes() -> Vec<Envelope> {
    let of = |message| Envelope { id: MigrationId { plane: "site-a".into(), number: 41 }, message };
    let mut first = offer("site-a", "site-b");
    if let Message::Offer(offer) = &mut first.message {
        offer.guest.labels = [("tier".into(), "web".into())].into();
        offer.guest.disks =
            vec![DiskOffer { target: "vda".into(), path: "/images/web-1.qcow2".into(), bytes: 1 << 33, shared: true }];
        offer.guest.bases = vec!["/images/debian.qcow2".into()];
        offer.guest.networks = vec!["br0".into()];
    }
    let grants = Grants {
        host: "b-1".into(),
        mode: Mode::Act,
        permits: Default::default(),
        lease: Span::minutes(5),
        hypervisor_uri: "qemu+tls://b-1/system".into(),
        migration_uri: "".into(),
        rewrites: vec![
            Rewrite::File { from: "/images/".into(), to: "/var/lib/".into() },
            Rewrite::Network { from: "br0".into(), to: "br1".into() },
        ],
    };
    vec![
        first,
        of(Message::Permitted(Box::new(grants))),
        inquiry("site-a", 41),
        denied("site-a", 41),
        of(Message::State(vec![7; 300].into())),
        of(Message::Dirty(Round { round: 2, last: true, payload: vec![9; 20].into() })),
        of(Message::Complete { epoch: 8, rounds: 2 }),
        of(Message::CompleteAck { epoch: 8, rounds: 2 }),
        of(Message::ModuleRequest([Digest([1; 32]), Digest([2; 32])].into())),
        of(Message::Status(Record::Bound { running: false })),
    ]
}

/// Frames of all sorts.
pub fn frames() -> Vec<Vec<u8>> {
    let summary = Summary {
        hosts: 3,
        cpu_cores: 1.5,
        cpu_models: ["Haswell".into()].into(),
        classes: ["class=gpu".into()].into(),
        ..Summary::default()
    };
    let pong = Pong { id: 3, received_ms: NOW.0, sent_ms: NOW.0 + 1 };
    let mut all = vec![hello("site-a", "site-b", VERSIONS)];
    all.extend(
        [Body::Ping(Ping { id: 3 }), Body::Pong(pong), wire::farewell("the plane stops"), Body::Summary((&summary).into())]
            .map(|body| frame(1, body)),
    );
    all.extend(envelopes().iter().map(|envelope| frame(1, Body::Message(wire::message(envelope).unwrap()))));
    all.iter().map(Frame::encode_to_vec).collect()
}

fn bundle() -> Bundle {
    let guest = Vm {
        id: GUEST,
        name: "web-1".into(),
        host: "a-1".into(),
        state: VmState::Running,
        reason: Reason::Booted,
        since: Timestamp(1_790_000_000_000),
        vcpus: 2,
        memory_mib: 2_048,
        balloon_mib: 2_048,
        persistent: true,
        autostart: false,
        labels: [("tier".into(), "web".into())].into(),
        disks: vec!["vda".into()],
        nics: vec!["vnet0".into()],
        agent: false,
        mark: Some(Mark { plane: "site-a".into(), epoch: 7 }),
        mode: Mode::Act,
        load: VmLoad::default(),
        load_at: Timestamp(1_790_000_000_500),
    };
    let inner = Value::Map([("b".to_owned(), Value::Bool(true))].into());
    let list = Value::Array(vec![Value::Text("a".into()), Value::Float(0.5), inner]);
    let state = [("count".into(), Value::Int(7).into()), ("list".into(), list.into())].into();
    let timer = TravellingTimer { embot: embot(), remaining: Span(5_000), name: "check".into(), content: Value::Unit };
    Bundle {
        captured_at: NOW,
        guest,
        modules: vec![ModuleStamp { name: "restart".into(), version: "1".into(), hash: [3; 32] }],
        embots: vec![(embot(), EmbotRow { state, faults: 0, fault_at: Timestamp(0), suspended: None })],
        timers: vec![timer],
        memory: Default::default(),
        usage: Vec::new(),
        advice: Vec::new(),
        decisions: Vec::new(),
    }
}

fn embot() -> EmbotId {
    EmbotId { module: "restart".into(), element: ElementId::Vm(GUEST) }
}

fn waiting() -> Waiting {
    let event = |seq, to, body| Event { seq, at: NOW, element: ElementId::Vm(GUEST), to, body };
    let events = vec![
        event(8, None, EventBody::IoError { reason: "no space".into() }),
        event(9, Some(embot()), EventBody::Balloon { memory_mib: 512 }),
    ];
    Waiting { captured_at: NOW, events }
}

/// What is remembered of a guest.
pub fn bundles() -> Vec<Vec<u8>> {
    vec![bundle().to_bytes()]
}

/// Held facts.
pub fn waitings() -> Vec<Vec<u8>> {
    vec![waiting().to_bytes(), Waiting { captured_at: NOW, events: Vec::new() }.to_bytes()]
}

/// Dirty rounds.
pub fn rounds() -> Vec<Vec<u8>> {
    [Some(bundle().to_bytes()), None].map(|state| Changes { state, events: waiting().to_bytes() }.to_bytes()).into()
}

/// The pieces of two modules' packages: what can be asked for.
pub fn pieces() -> Vec<Arc<[u8]>> {
    packages().iter().flat_map(Package::blobs).collect()
}

fn packages() -> Vec<Package<Unverified>> {
    let key = SigningKey::from_seed(&[7; 32]).unwrap();
    let module = |name: &str| {
        let manifest = format!("module: {name}\nversion: '1'\npolicies: [{name}.rhai]\ncovers: {{ each: vm }}\n");
        let policies = [(Arc::from(format!("{name}.rhai")), Arc::from("fn on_load(vm) { this.n = 1; }"))];
        pack(&format!("{name}.yaml").into(), &manifest, &policies, Recipe { serial: 3, ..Recipe::default() }).unwrap()
    };
    vec![module("count").sign(&key).unwrap(), module("other")]
}

/// Listings on offer, signed and not.
pub fn listings() -> Vec<Vec<u8>> {
    packages().iter().map(|package| package.sealed().bytes().to_vec()).collect()
}

/// Parcels: of one package, of both.
pub fn parcels() -> Vec<Vec<u8>> {
    let mut contents = Contents::default();
    let mut asked = BTreeSet::new();
    let mut roots = Vec::new();
    let mut parcels = Vec::new();
    for package in packages() {
        roots.push(package.hash());
        asked.extend(package.blobs().into_iter().map(|piece| contents.put(piece)));
        parcels.push(parcel(&asked, &roots, &contents).unwrap());
    }
    parcels
}

/// A bundle whose embot's state is a list of so many values.
pub fn broad_bundle(values: usize) -> Vec<u8> {
    let mut broad = bundle();
    broad.embots[0].1.state.insert("list".into(), Value::Array(vec![Value::Unit; values]).into());
    broad.to_bytes()
}

/// A bundle whose embot's state is a list within a list, ten thousand deep: whoever reads it must not run out of stack.
pub fn deep_bundle() -> Vec<u8> {
    let mut bytes = bundle().to_bytes();
    let key = bytes.windows(5).position(|five| five == b"count").unwrap() + 5;
    // A list of one.
    bytes.splice(key.., [7, 1].repeat(10_000));
    bytes
}
