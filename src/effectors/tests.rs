//! Effectors against hypervisors that do what a test says: answer, fail, panic, or not come back.

use super::*;
use crate::clock::VirtualClock;
use crate::hypervisor::{Destination, ErrorKind, Fate, HypervisorError, MigrationLimits, NoticeSink, Order, Watch};
use crate::model::*;
use crossbeam_channel::{Receiver, Sender, unbounded};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// What an order's guest, by its number, makes the hypervisor do.
const SUCCEEDS: u128 = 1;
const FAILS: u128 = 2;
const IS_CANCELLED: u128 = 3;
const PANICS: u128 = 4;
/// Returns when [`Plane::release`] is called, with success.
const HANGS: u128 = 5;
/// Tells of progress each time it is released, until it is cancelled.
const GOES_ON: u128 = 6;
/// Cannot be reached the first times it is asked what became of it.
const IS_ABSENT: u128 = 7;

struct Scripted {
    asked: Mutex<u32>,
    release: Receiver<()>,
    orders: Sender<Order>,
}

impl Scripted {
    fn act(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        let error = |kind, what: &str| Err(HypervisorError::new(kind, what));
        let _ = self.orders.send(order.clone());
        match order.kind.vm().map_or(0, |vm| vm.0.as_u128()) {
            FAILS => error(ErrorKind::Failed, "guest web-1 has no disk"),
            IS_CANCELLED => error(ErrorKind::Cancelled, "the guest stayed where it was"),
            PANICS => panic!("index out of bounds"),
            HANGS => {
                let _ = self.release.recv();
                Ok(())
            }
            GOES_ON => loop {
                let _ = self.release.recv();
                if watch.is_cancelled() {
                    return error(ErrorKind::Cancelled, "undone: the guest runs on host a");
                }
                watch.progress(Progress { done_bytes: 1, total_bytes: 2 });
            },
            _ => Ok(()),
        }
    }
}

impl Hypervisor for Scripted {
    fn report(&self, _: Timestamp) -> Result<HostReport, HypervisorError> {
        Err(HypervisorError::new(ErrorKind::Unsupported, "effectors ask for no report"))
    }

    fn subscribe(&self, _: NoticeSink) {}

    fn mark(&self, _: VmId) -> Result<Option<Mark>, HypervisorError> {
        Ok(None)
    }

    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        self.act(order, watch)
    }

    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError> {
        match order.kind.vm().map_or(0, |vm| vm.0.as_u128()) {
            FAILS => Ok(Fate::NotDone("the guest is still on host a".to_owned())),
            IS_CANCELLED => Err(HypervisorError::new(ErrorKind::TimedOut, "the migration was told to end and does not")),
            IS_ABSENT => {
                let mut asked = self.asked.lock().unwrap();
                *asked += 1;
                let absent = Err(HypervisorError::new(ErrorKind::Unreachable, "connection refused"));
                if *asked < 4 { absent } else { Ok(Fate::Done) }
            }
            _ => self.act(order, watch).map(|()| Fate::Done),
        }
    }
}

/// Admins who were told, and one who cannot be.
struct Admins(Sender<(u64, Level, String)>);

impl Notifier for Admins {
    fn notify(&self, notification: &Notification<'_>) -> Result<(), String> {
        let Notification { action, level, text, .. } = notification;
        let _ = self.0.send((action.map_or(0, |action| action.0), *level, (*text).to_owned()));
        if *level == Level::Alarm { Err("mail.example.org does not answer".to_owned()) } else { Ok(()) }
    }
}

struct Plane {
    effectors: Effectors,
    clock: Arc<VirtualClock>,
    updates: Receiver<(ActionId, ActionUpdate)>,
    orders: Receiver<Order>,
    told: Receiver<(u64, Level, String)>,
    release: BTreeMap<HostId, Sender<()>>,
}

const SHORT: Workers = Workers { per_host: 2, waiting: 3, idle: Span::seconds(30) };

impl Plane {
    fn new(workers: Workers, migration: MigrationLimits) -> Plane {
        let (sink, updates) = unbounded();
        Plane::with_sink(workers, migration, Arc::new(move |id, update| drop(sink.send((id, update)))), updates)
    }

    fn with_sink(
        workers: Workers,
        migration: MigrationLimits,
        sink: Sink,
        updates: Receiver<(ActionId, ActionUpdate)>,
    ) -> Plane {
        let (orders_sender, orders) = unbounded();
        let (told_sender, told) = unbounded();
        let mut release = BTreeMap::new();
        let mut hosts: BTreeMap<HostId, Arc<dyn Hypervisor>> = BTreeMap::new();
        let mut destinations = BTreeMap::new();
        for name in ["a", "b"] {
            let (sender, receiver) = unbounded();
            let id = HostId::from(name);
            release.insert(id.clone(), sender);
            hosts.insert(
                id.clone(),
                Arc::new(Scripted { asked: Mutex::default(), release: receiver, orders: orders_sender.clone() }),
            );
            let uri = format!("qemu+ssh://{name}/system").into();
            destinations.insert(id.clone(), Destination { host: id, uri, migration_uri: None });
        }
        let clock = VirtualClock::at(Timestamp(0));
        let catalog = Catalog { plane: "home".into(), destinations, migration };
        let effectors = Effectors::new(hosts, catalog, workers, Arc::new(Admins(told_sender)), clock.clone(), sink).unwrap();
        Plane { effectors, clock, updates, orders, told, release }
    }

    fn dispatch(&self, id: u64, host: &str, kind: ActionKind) {
        self.effectors.dispatch(action(id, host, kind));
    }

    /// The next update. The time limit only keeps a broken build from hanging.
    fn next(&self) -> (u64, ActionUpdate) {
        let (id, update) = self.updates.recv_timeout(Duration::from_secs(60)).expect("an update");
        (id.0, update)
    }

    fn expect(&self, id: u64, update: ActionUpdate) {
        assert_eq!(self.next(), (id, update));
    }

    fn expect_failure(&self, id: u64) -> String {
        match self.next() {
            (of, ActionUpdate::Failed(why)) if of == id => why.to_string(),
            other => panic!("action {id} should have failed; there came {other:?}"),
        }
    }

    fn release(&self, host: &str) {
        self.release[&HostId::from(host)].send(()).unwrap();
    }

    /// Lets time pass, and the watchdog look: each action that is taken on wakes it.
    fn pass(&self, span: Span, id: u64) {
        self.clock.advance_to(self.clock.now() + span);
        self.dispatch(id, "nowhere", start(SUCCEEDS));
    }
}

fn action(id: u64, host: &str, kind: ActionKind) -> Action {
    Action {
        id: ActionId(id),
        proposal: Proposal {
            embot: None,
            admin: Some("ada".into()),
            kind,
            reason: "test".into(),
            place: None,
            cause: None,
            reads: Arc::from([]),
        },
        host: Some(host.into()),
        expects: Some(VmState::Running),
        epoch: 4,
        mode: Mode::Act,
        decided_at: Timestamp(0),
        state: ActionState::Planned,
        state_at: Timestamp(0),
        progress: None,
        approved_by: None,
        weighed: Vec::new(),
        refused: Vec::new(),
        cancelling: None,
    }
}

fn start(guest: u128) -> ActionKind {
    ActionKind::Start { vm: VmId(uuid::Uuid::from_u128(guest)) }
}

fn migrate(guest: u128) -> ActionKind {
    ActionKind::Migrate { vm: VmId(uuid::Uuid::from_u128(guest)), to: Some("b".into()), live: true }
}

#[test]
fn an_action_ends_as_its_hypervisor_says() {
    let plane = Plane::new(SHORT, MigrationLimits::default());
    for (id, guest, end) in [
        (1, SUCCEEDS, ActionUpdate::Done),
        (2, FAILS, ActionUpdate::Failed("guest web-1 has no disk".into())),
        (3, IS_CANCELLED, ActionUpdate::Cancelled("the guest stayed where it was".into())),
        (
            4,
            PANICS,
            ActionUpdate::Failed("embot itself failed while carrying it out (index out of bounds): please report this".into()),
        ),
    ] {
        plane.dispatch(id, "a", start(guest));
        plane.expect(id, ActionUpdate::Started);
        plane.expect(id, end);
    }
    assert!(plane.effectors.stop(Span::seconds(60)).is_empty());
    assert!(plane.updates.try_recv().is_err());
}

#[test]
fn an_order_says_what_the_action_and_the_plane_say() {
    let limits = MigrationLimits { bandwidth_mib_per_s: Some(100), ..MigrationLimits::default() };
    let plane = Plane::new(SHORT, limits);
    plane.dispatch(1, "a", migrate(SUCCEEDS));
    let order = plane.orders.recv_timeout(Duration::from_secs(60)).unwrap();
    let destination = Destination { host: "b".into(), uri: "qemu+ssh://b/system".into(), migration_uri: None };
    let expected = Order {
        action: ActionId(1),
        kind: migrate(SUCCEEDS),
        plane: "home".into(),
        epoch: 4,
        expects: Some(VmState::Running),
        destination: Some(destination),
        limits,
    };
    assert_eq!(order, expected);
}

#[test]
fn a_host_that_hangs_starves_no_other() {
    let plane = Plane::new(Workers { waiting: 8, ..SHORT }, MigrationLimits::default());
    for id in 1..=4 {
        plane.dispatch(id, "a", start(HANGS));
    }
    let begun: Vec<_> = (0..2).map(|_| plane.next()).collect();
    assert!(begun.iter().all(|(_, update)| *update == ActionUpdate::Started));
    plane.dispatch(9, "b", start(SUCCEEDS));
    plane.expect(9, ActionUpdate::Started);
    plane.expect(9, ActionUpdate::Done);
    (0..4).for_each(|_| plane.release("a"));
    assert!(plane.effectors.stop(Span::seconds(60)).len() <= 2, "what had not begun may be cancelled");
}

#[test]
fn what_comes_too_late_is_failed_once_and_its_answer_not_used() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.dispatch(1, "a", start(HANGS));
    plane.expect(1, ActionUpdate::Started);
    plane.pass(Span::minutes(5), 90);
    let mut ends = [plane.next(), plane.next()];
    ends.sort_by_key(|(id, _)| *id);
    let (1, ActionUpdate::Failed(why)) = &ends[0] else { panic!("{ends:?}") };
    insta::assert_snapshot!("no_answer", &**why);

    // Its worker is still in there: nothing else is begun on that host.
    plane.dispatch(2, "a", start(SUCCEEDS));
    insta::assert_snapshot!("all_workers_overdue", plane.expect_failure(2));

    plane.release("a");
    // The worker is free once it has seen that its answer is late.
    let mut id = 3;
    loop {
        plane.dispatch(id, "a", start(SUCCEEDS));
        match plane.next() {
            (_, ActionUpdate::Failed(_)) => id += 1,
            begun => break assert_eq!(begun, (id, ActionUpdate::Started)),
        }
    }
    plane.expect(id, ActionUpdate::Done);
    assert!(plane.effectors.open().is_empty() || plane.effectors.stop(Span::seconds(60)).is_empty());
    assert!(plane.updates.try_recv().is_err(), "nothing more is said of action 1");
}

#[test]
fn what_no_worker_gets_to_is_failed_and_never_begun() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.dispatch(1, "a", migrate(GOES_ON));
    plane.expect(1, ActionUpdate::Started);
    plane.dispatch(2, "a", start(SUCCEEDS));
    // The first one lives; the second has waited all the time.
    plane.clock.advance_to(Timestamp(240_000));
    plane.release("a");
    plane.expect(1, ActionUpdate::Progress(Progress { done_bytes: 1, total_bytes: 2 }));
    plane.pass(Span::minutes(1), 90);
    let mut ends = [plane.next(), plane.next()];
    ends.sort_by_key(|(id, _)| *id);
    let (2, ActionUpdate::Failed(why)) = &ends[0] else { panic!("{ends:?}") };
    insta::assert_snapshot!("no_worker", &**why);
    plane.effectors.cancel(ActionId(1));
    plane.release("a");
    plane.expect(1, ActionUpdate::Cancelled("undone: the guest runs on host a".into()));
    assert!(plane.effectors.stop(Span::seconds(60)).is_empty());
    assert_eq!(plane.orders.try_iter().map(|order| order.action.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_migration_that_tells_of_progress_is_cut_short_by_the_planes_limit_only() {
    let limits = MigrationLimits { timeout: Some(Span::minutes(20)), ..MigrationLimits::default() };
    let plane = Plane::new(SHORT, limits);
    plane.dispatch(1, "a", migrate(GOES_ON));
    plane.expect(1, ActionUpdate::Started);
    for minute in 0..5 {
        plane.pass(Span::minutes(4), 90 + minute);
        plane.expect_failure(90 + minute);
        plane.release("a");
        plane.expect(1, ActionUpdate::Progress(Progress { done_bytes: 1, total_bytes: 2 }));
    }
    plane.pass(Span::minutes(1), 99);
    let mut ends = [plane.next(), plane.next()];
    ends.sort_by_key(|(id, _)| *id);
    let (1, ActionUpdate::Failed(why)) = &ends[0] else { panic!("{ends:?}") };
    insta::assert_snapshot!("too_long", &**why);
    plane.release("a");
}

#[test]
fn what_waits_is_cancelled_at_once_and_what_runs_is_asked_to_stop() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.dispatch(1, "a", migrate(GOES_ON));
    plane.expect(1, ActionUpdate::Started);
    plane.dispatch(2, "a", start(SUCCEEDS));
    plane.effectors.cancel(ActionId(2));
    plane.expect(2, ActionUpdate::Cancelled("cancelled before it began".into()));
    plane.effectors.cancel(ActionId(1));
    plane.effectors.cancel(ActionId(77));
    plane.release("a");
    plane.expect(1, ActionUpdate::Cancelled("undone: the guest runs on host a".into()));
}

#[test]
fn recovery_tells_what_became_of_it() {
    let plane = Plane::new(SHORT, MigrationLimits::default());
    plane.effectors.recover(action(1, "a", start(SUCCEEDS)));
    plane.expect(1, ActionUpdate::Started);
    plane.expect(1, ActionUpdate::Done);
    plane.effectors.recover(action(2, "a", start(FAILS)));
    plane.expect(2, ActionUpdate::Started);
    insta::assert_snapshot!("not_done", plane.expect_failure(2));
    plane.effectors.recover(action(3, "a", start(IS_CANCELLED)));
    plane.expect(3, ActionUpdate::Started);
    insta::assert_snapshot!("fate_unknown", plane.expect_failure(3));
}

#[test]
fn a_host_that_does_not_answer_is_asked_again_before_anything_is_said() {
    let plane = Plane::new(SHORT, MigrationLimits::default());
    plane.effectors.recover(action(1, "a", start(IS_ABSENT)));
    plane.expect(1, ActionUpdate::Started);
    plane.expect(1, ActionUpdate::Done);
    assert_eq!(plane.clock.now(), Timestamp(3_000), "with a pause in between");
}

#[test]
fn what_is_to_be_recovered_is_cancelled_at_its_hypervisor_only() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.effectors.recover(action(1, "a", start(HANGS)));
    plane.expect(1, ActionUpdate::Started);
    // No worker has begun to ask, but the host may be at it since before the restart.
    for (id, guest) in [(2, FAILS), (3, IS_ABSENT)] {
        plane.effectors.recover(action(id, "a", start(guest)));
        plane.effectors.cancel(ActionId(id));
    }
    plane.release("a");
    plane.expect(1, ActionUpdate::Done);
    plane.expect(2, ActionUpdate::Started);
    plane.expect(2, ActionUpdate::Cancelled("the guest is still on host a".into()));
    plane.expect(3, ActionUpdate::Started);
    plane.expect(3, ActionUpdate::Done);
}

#[test]
fn what_is_to_be_recovered_is_not_refused_for_want_of_room() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.effectors.recover(action(1, "a", start(HANGS)));
    plane.expect(1, ActionUpdate::Started);
    (2..=20).for_each(|id| plane.effectors.recover(action(id, "a", start(SUCCEEDS))));
    plane.release("a");
    plane.expect(1, ActionUpdate::Done);
    for id in 2..=20 {
        plane.expect(id, ActionUpdate::Started);
        plane.expect(id, ActionUpdate::Done);
    }
}

#[test]
fn what_cannot_be_taken_on_fails_with_the_reason() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.dispatch(1, "attic", start(SUCCEEDS));
    insta::assert_snapshot!("no_such_host", plane.expect_failure(1));
    plane.effectors.dispatch(Action { host: None, ..action(2, "a", start(SUCCEEDS)) });
    insta::assert_snapshot!("no_host", plane.expect_failure(2));
    plane.dispatch(3, "a", start(HANGS));
    plane.expect(3, ActionUpdate::Started);
    (4..=7).for_each(|id| plane.dispatch(id, "a", start(SUCCEEDS)));
    insta::assert_snapshot!("queue_full", plane.expect_failure(7));
    // The same number again, while it is open: ignored.
    plane.dispatch(4, "a", start(FAILS));
    plane.release("a");
    plane.expect(3, ActionUpdate::Done);
    for id in 4..=6 {
        plane.expect(id, ActionUpdate::Started);
        plane.expect(id, ActionUpdate::Done);
    }
}

#[test]
fn stopping_waits_as_long_as_it_is_told_and_then_keeps_quiet() {
    let plane = Plane::new(Workers { per_host: 1, ..SHORT }, MigrationLimits::default());
    plane.dispatch(1, "a", start(HANGS));
    plane.dispatch(2, "a", start(SUCCEEDS));
    plane.dispatch(3, "b", start(HANGS));
    let begun: Vec<_> = (0..2).map(|_| plane.next()).collect();
    assert!(begun.iter().all(|(_, update)| *update == ActionUpdate::Started));
    plane.release("b");
    plane.expect(3, ActionUpdate::Done);
    let Plane { effectors, updates, release, .. } = plane;
    assert_eq!(effectors.stop(Span(20)), [ActionId(1)]);
    release[&HostId::from("a")].send(()).unwrap();
    // The sender in the sink goes with the last worker: this ends when all of them have.
    let rest: Vec<_> = updates.iter().collect();
    assert_eq!(rest, [(ActionId(2), ActionUpdate::Cancelled("the manager stopped before it began".into()))]);
}

#[test]
fn no_call_waits_for_who_receives_the_updates() {
    let (sink, updates) = crossbeam_channel::bounded(0);
    let plane =
        Plane::with_sink(SHORT, MigrationLimits::default(), Arc::new(move |id, update| drop(sink.send((id, update)))), updates);
    // Nobody receives yet; all of this would hang if it waited.
    (1..=2).for_each(|id| plane.dispatch(id, "a", start(SUCCEEDS)));
    plane.dispatch(3, "nowhere", start(SUCCEEDS));
    plane.effectors.cancel(ActionId(1));
    plane.effectors.cancel(ActionId(3));
    assert_eq!(plane.effectors.open().len(), 3);
    let mut last = BTreeMap::new();
    while last.values().filter(|update| is_final(update)).count() < 3 {
        let (id, update) = plane.next();
        last.insert(id, update);
    }
    drop(plane.updates);
}

#[test]
fn admins_are_told_and_told_again_after_a_restart() {
    let plane = Plane::new(SHORT, MigrationLimits::default());
    let notify = |level| ActionKind::Notify { level, text: "host a is hot".into() };
    plane.dispatch(1, "a", notify(Level::Info));
    plane.effectors.recover(action(2, "a", notify(Level::Warning)));
    plane.dispatch(3, "a", notify(Level::Alarm));
    // Several workers tell them, in whichever order.
    let mut said = std::collections::BTreeMap::<u64, Vec<ActionUpdate>>::new();
    for (id, update) in (0..6).map(|_| plane.next()) {
        said.entry(id).or_default().push(update);
    }
    let failed = ActionUpdate::Failed("mail.example.org does not answer".into());
    let ends = [(1, ActionUpdate::Done), (2, ActionUpdate::Done), (3, failed)];
    assert_eq!(said, ends.map(|(id, end)| (id, vec![ActionUpdate::Started, end])).into());
    let mut told: Vec<_> = plane.told.try_iter().map(|(id, level, _)| (id, level)).collect();
    told.sort();
    assert_eq!(told, [(1, Level::Info), (2, Level::Warning), (3, Level::Alarm)]);
    assert!(plane.orders.try_recv().is_err(), "no hypervisor is asked");
}

fn is_final(update: &ActionUpdate) -> bool {
    !matches!(update, ActionUpdate::Started | ActionUpdate::Progress(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens at the same time: one end for each action, and nothing after it.
    #[test]
    fn each_action_ends_exactly_once(
        steps in prop::collection::vec((SUCCEEDS..=GOES_ON, any::<bool>(), 0_u64..6, any::<bool>()), 1..24),
    ) {
        let log: Arc<Mutex<Vec<(ActionId, ActionUpdate)>>> = Arc::default();
        let (written, (sender, updates)) = (log.clone(), unbounded());
        // The sink's sender tells when all threads are gone.
        let sink: Sink = Arc::new(move |id, update| {
            let _ = &sender;
            job::lock(&written).push((id, update));
        });
        let plane = Plane::with_sink(SHORT, MigrationLimits::default(), sink, updates);
        for (id, (guest, on_a, minutes, recover)) in (1..).zip(&steps) {
            let action = action(id, if *on_a { "a" } else { "b" }, migrate(*guest));
            if *recover { plane.effectors.recover(action) } else { plane.effectors.dispatch(action) }
            plane.clock.advance_to(plane.clock.now() + Span::minutes(*minutes));
            if minutes % 2 == 1 {
                plane.effectors.cancel(ActionId(id / 2 + 1));
            }
            plane.release(if *on_a { "b" } else { "a" });
        }
        (1..=steps.len() as u64).for_each(|id| plane.effectors.cancel(ActionId(id)));
        for _ in 0..=steps.len() * 2 {
            plane.release("a");
            plane.release("b");
        }
        let Plane { effectors, updates, release, .. } = plane;
        // What is to be recovered, and no worker came to, is left to the next manager.
        let left = effectors.stop(Span::seconds(60));
        prop_assert!(left.iter().all(|id| steps[id.0 as usize - 1].3), "{left:?}");
        drop(release);
        prop_assert!(updates.recv().is_err());
        let log = job::lock(&log);
        for id in (1..=steps.len() as u64).map(ActionId).filter(|id| !left.contains(id)) {
            let said: Vec<_> = log.iter().filter(|(of, _)| *of == id).map(|(_, update)| update).collect();
            prop_assert!(said.last().is_some_and(|update| is_final(update)), "{id}: {said:?}");
            prop_assert_eq!(said.iter().filter(|update| is_final(update)).count(), 1, "{}: {:?}", id, said);
            prop_assert!(said.iter().skip(1).all(|update| **update != ActionUpdate::Started), "{id}: {said:?}");
        }
    }
}
