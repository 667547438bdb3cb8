//! Whatever a manager remembers of a guest: captured, written, read and put in force, another manager remembers the same.

use super::*;
use crate::manager::{HostSettings, Settings};
use crate::migration::Timing;
use crate::migration::bundle::{Bundle, BundleError, Waiting};
use crate::model::testing::{self, vm};
use crate::model::{
    Action, ActionId, ActionState, EmbotId, EmbotRow, Event, EventBody, Grant, Mark, Mode, ModuleRow, ModuleVersion, Proposal,
    Span, Timestamp, Value, Vm,
};
use crate::store::Recovered;
use crate::usage::{NATIVE, Usage};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(100_000_000);

fn guest() -> VmId {
    VmId(uuid::Uuid::from_u128(7))
}

fn embot(module: &str) -> EmbotId {
    EmbotId { module: module.into(), element: ElementId::Vm(guest()) }
}

fn module(name: &str) -> ModuleRow {
    let manifest = format!("module: {name}\nversion: '1'\npolicies: [{name}.rhai]\ncovers: {{ each: vm }}\n");
    let version = ModuleVersion {
        file: format!("{name}.yaml").into(),
        manifest: manifest.into(),
        policies: vec![(format!("{name}.rhai").into(), "fn on_load(vm) { this.n = 1; }".into())],
        loaded_at: Timestamp(5),
        by: "ada".into(),
    };
    ModuleRow { mode: Some(Mode::Act), versions: vec![version], declared: None }
}

fn manager(plane: &str, mut recovered: Recovered) -> Manager {
    recovered.modules = ["count", "other"].map(|name| (name.into(), module(name))).into();
    recovered.last_now = NOW;
    let host = HostSettings { id: "a".into(), site: "".into(), labels: BTreeMap::new() };
    Manager::new(Settings { plane: plane.into(), hosts: vec![host], ..Settings::default() }, recovered)
}

fn action(number: u64, state: ActionState, module: Option<&str>) -> Action {
    let proposal = Proposal {
        embot: module.map(embot),
        admin: None,
        kind: ActionKind::Start { vm: guest() },
        reason: "it is off".into(),
        place: None,
        cause: None,
        reads: Arc::new([]),
    };
    Action {
        id: ActionId(number),
        proposal,
        host: Some("a".into()),
        expects: None,
        epoch: 1,
        mode: Mode::Act,
        decided_at: NOW - Span::seconds(number),
        state,
        state_at: NOW - Span::seconds(number),
        progress: None,
        approved_by: None,
        cancelling: None,
        weighed: vec!["because".to_owned()],
        refused: Vec::new(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Blob),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(Value::Map))
}

fn state() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,4}", value(), 0..5).prop_map(Value::Map)
}

/// What a store of the source could hold.
fn remembered() -> impl Strategy<Value = Recovered> {
    let rows = (state(), state(), 0_u32..3, prop::option::of("[a-z]{1,8}"));
    let timers = prop::collection::vec(("[a-z]{1,4}", 1_u64..100_000, value()), 0..6);
    let states = prop::collection::vec((0_usize..4, prop::bool::ANY), 0..6);
    (rows, timers, states, 0_u32..300).prop_map(|((one, other, faults, suspended), timers, states, samples)| {
        let mut recovered = Recovered::nothing();
        let mut vm = Vm { labels: BTreeMap::from([("tier".into(), "web".into())]), ..vm(7, "web", "a") };
        let mut usage = Usage::default();
        for second in 0..samples {
            vm.load_at = NOW - Span::seconds(u64::from(samples - second));
            vm.load.cpu_cores = Some(second as f32);
            usage.record_vm(&vm);
        }
        recovered.usage.extend(usage.export(&ElementId::Vm(guest())).map(|bytes| (ElementId::Vm(guest()), bytes)));
        recovered.vms.insert(guest(), vm);
        for (name, state) in [("count", one), ("other", other)] {
            let state = BTreeMap::from([(Arc::from(name), Arc::new(state))]);
            let suspended = suspended.as_deref().map(Arc::from);
            recovered.embots.insert(embot(name), EmbotRow { state, faults, fault_at: Timestamp(9), suspended });
        }
        for (number, (name, after, content)) in timers.into_iter().enumerate() {
            let due = NOW + Span(after);
            recovered.timers.insert(number as u64, TimerRow { embot: embot("count"), due, name: name.into(), content });
        }
        for (number, (state, by_module)) in states.into_iter().enumerate() {
            let state = match state {
                0 => ActionState::Advised { until: NOW + Span::hours(1) },
                1 => ActionState::Done,
                2 => ActionState::Failed { reason: "no".into() },
                _ => ActionState::Expired,
            };
            let id = number as u64 + 1;
            recovered.actions.insert(ActionId(id), action(id, state, by_module.then_some("count")));
        }
        recovered
    })
}

/// What must be equal: all but where the guest is, whose, and the numbers that each plane gives itself.
fn plain(mut bundle: Bundle) -> Bundle {
    (bundle.guest.host, bundle.guest.mark, bundle.guest.since) = ("".into(), None, NOW);
    bundle.timers.sort_by(|a, b| (&a.embot, &a.name).cmp(&(&b.embot, &b.name)));
    bundle.memory.spent.sort();
    bundle.memory.renumber(|_| ActionId(0));
    for action in bundle.advice.iter_mut().chain(&mut bundle.decisions) {
        action.id = ActionId(0);
        action.weighed.retain(|line| !line.starts_with("decided by plane"));
    }
    bundle
}

fn put_in_force(manager: &mut Manager, bundle: Bundle) {
    let row = MigrationRow { grant: Some(Grant::default()), ..testing::migration(Side::Target, 7) };
    let id = MigrationId { plane: "site-a".into(), number: 1 };
    let offer = Message::Abort { epoch: 1, reason: Reason::new(ReasonKind::Peer, ""), asks: false };
    let (machine, _) = Target::first(id, offer, Timing::default(), NOW).expect("a machine");
    let entry = Entry::new(Machine::Target(machine), row);
    let mark = Mark { plane: "site-b".into(), epoch: 4 };
    let mut bundle = bundle.rebase(0);
    bundle.renumber("site-a", &mut manager.row.next_action);
    manager.take_in(&entry, bundle, mark, &"a".into(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_known_of_a_guest_travels_whole(recovered in remembered()) {
        let embots: Vec<_> = recovered.embots.clone().into_iter().collect();
        let source = manager("site-a", recovered);
        let bundle = source.bundle(guest(), true).unwrap();
        prop_assert_eq!(&bundle.embots, &embots);
        let bytes = bundle.to_bytes();
        let read = Bundle::from_bytes(&bytes, guest()).unwrap();
        prop_assert_eq!(read.to_bytes(), bytes);
        let mut target = manager("site-b", Recovered::nothing());
        put_in_force(&mut target, read);
        let there = target.bundle(guest(), true).unwrap();
        prop_assert_eq!(plain(there).to_bytes(), plain(bundle).to_bytes());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0_u8..3) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = (Bundle::from_bytes(&bytes, guest()).is_ok(), Waiting::from_bytes(&bytes, guest()).is_ok());
        let _ = crate::migration::bundle::Changes::from_bytes(&bytes, guest()).is_ok();
    }

    #[test]
    fn a_bundle_that_was_changed_on_its_way_does_no_harm(recovered in remembered(), at in any::<prop::sample::Index>(), byte: u8) {
        let source = manager("site-a", recovered);
        let mut bytes = source.bundle(guest(), true).unwrap().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(bundle) = Bundle::from_bytes(&bytes, guest()) {
            let mut target = manager("site-b", Recovered::nothing());
            put_in_force(&mut target, bundle);
            prop_assert!(target.world().vms().all(|vm| vm.id == guest()));
            prop_assert!(target.embots(None).iter().all(|embot| embot.id.element == ElementId::Vm(guest())));
        }
    }
}

/// With the histories full, all that is known of a guest fits in 16 KiB.
#[test]
fn a_bundle_is_small() {
    let mut recovered = Recovered::nothing();
    let mut vm = vm(7, "web", "a");
    let mut usage = Usage::default();
    for sample in 0..40_000_u32 {
        vm.load_at = Timestamp(i64::from(sample) * 5_000);
        let load = |step: u32| Some((sample.wrapping_mul(2_654_435_761).wrapping_add(step) % 1_000) as f32 / 999.0);
        (vm.load.cpu_cores, vm.load.cpu_wait_cores, vm.load.memory_used_mib) = (load(1), load(2), load(3));
        (vm.load.disk_bytes_per_s, vm.load.disk_iops, vm.load.net_bytes_per_s) = (load(4), load(5), load(6));
        usage.record_vm(&vm);
    }
    let element = ElementId::Vm(guest());
    recovered.usage.extend(usage.export(&element).map(|bytes| (element, bytes)));
    recovered.vms.insert(guest(), vm);
    for number in 1..=40 {
        recovered.actions.insert(ActionId(number), action(number, ActionState::Done, Some("count")));
    }
    let source = manager("site-a", recovered);
    let size = source.bundle(guest(), true).unwrap().to_bytes().len();
    assert!(size > NATIVE * 20, "{size} bytes: the history is not in it");
    assert!(size < 16 * 1_024, "{size} bytes");
}

#[test]
fn what_modules_that_stay_have_done_to_a_guest_does_not_keep_it_here() {
    let mut recovered = Recovered::nothing();
    recovered.vms.insert(guest(), vm(7, "web", "a"));
    recovered.embots.insert(embot("count"), EmbotRow::default());
    let of_the_plane = EmbotId { module: "share-load".into(), element: ElementId::Plane };
    let handover = ActionKind::Handover { vm: guest(), plane: "site-b".into(), host: None, live: true };
    for (number, state, kind) in
        [(1, ActionState::Done, ActionKind::Start { vm: guest() }), (2, ActionState::Started, handover.clone())]
    {
        let mut action = action(number, state, None);
        (action.proposal.embot, action.proposal.kind) = (Some(of_the_plane.clone()), kind);
        recovered.actions.insert(ActionId(number), action);
    }
    recovered.actions.insert(ActionId(3), action(3, ActionState::Done, Some("count")));
    let source = manager("site-a", recovered);
    let bundle = Bundle::from_bytes(&source.bundle(guest(), true).unwrap().to_bytes(), guest()).unwrap();
    assert_eq!(bundle.memory.spent, [("count".into(), NOW - Span::seconds(3))]);
    // Who reads it has the handover behind it.
    let done = |action: &Action| (action.proposal.kind.clone(), action.state.clone());
    let decisions: Vec<_> = bundle.decisions.iter().map(done).collect();
    let start = || (ActionKind::Start { vm: guest() }, ActionState::Done);
    assert_eq!(decisions, [start(), start(), (handover, ActionState::Done)]);
}

#[test]
fn what_is_about_somebody_else_is_refused() {
    let mut recovered = Recovered::nothing();
    recovered.vms.insert(guest(), vm(7, "web", "a"));
    let source = manager("site-a", recovered);
    let good = source.bundle(guest(), true).unwrap();
    let other = EmbotId { module: "count".into(), element: ElementId::Plane };
    let mut embots = good.clone();
    embots.embots.push((other.clone(), EmbotRow::default()));
    let mut usage = good.clone();
    usage.usage.push((ElementId::Host("a".into()), Vec::new()));
    let mut actions = good.clone();
    actions.decisions.push(Action { state: ActionState::Planned, ..action(1, ActionState::Done, None) });
    let mut unknown = good.clone();
    unknown.memory.spent.push(("stranger".into(), NOW));
    for (what, bundle) in [("embot", embots), ("usage", usage), ("action", actions), ("stranger", unknown)] {
        let error = Bundle::from_bytes(&bundle.to_bytes(), guest()).unwrap_err();
        assert!(matches!(error, BundleError::Foreign(_)) && error.to_string().contains(what), "{error}");
    }
    assert!(Bundle::from_bytes(&good.to_bytes(), VmId(uuid::Uuid::nil())).is_err());
    let event = |to, element| Event { seq: 1, at: NOW, element, to, body: EventBody::Changed };
    for event in [event(None, ElementId::Plane), event(Some(other), ElementId::Vm(guest()))] {
        let waiting = Waiting { captured_at: NOW, events: vec![event] };
        assert!(matches!(Waiting::from_bytes(&waiting.to_bytes(), guest()), Err(BundleError::Foreign(_))));
    }
}
