//! What every hypervisor promises, as functions over a fixture.
//!
//! Cases run side by side on shared hosts: each makes its own guests, and looks at no others.

use embot::hypervisor::{Destination, ErrorKind, Fate, Hypervisor, HypervisorError, MigrationLimits, Order, Rewriting, Watch};
use embot::model::{
    ActionId, ActionKind, DomainReport, Mark, Notice, NoticeBody, Progress, Reason, Span, Timestamp, VmId, VmState,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One of the fixture's two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// What not every fixture can do. A case that needs what is missing says so and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// [`Fixture::refuse`].
    Refuse,
    /// [`Fixture::lose`].
    Lose,
    /// Change `vcpus` and `memory` of a guest that runs; else of one that is off.
    ResizeLive,
    /// Guests that shut down when asked to (and not only by force).
    Shutdown,
    /// Guests with a balloon driver.
    Balloon,
}

/// A guest that a case needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: String,
    pub running: bool,
    /// It ignores requests to shut down.
    pub deaf: bool,
    /// What its metadata says.
    pub mark: Option<Mark>,
}

/// Two hosts and ways to make and break things on them.
pub trait Fixture: Send + Sync {
    /// A new connection to one of the hosts.
    fn connect(&self, side: Side) -> Box<dyn Hypervisor>;

    /// How the other host reaches this one for a migration.
    fn destination(&self, side: Side) -> Destination;

    /// How this process reaches this host, for copies of files.
    fn destination_from_here(&self, side: Side) -> Destination {
        self.destination(side)
    }

    /// What a guest of this fixture needs of the other host, named: the folder of simulated disks, where it does not say otherwise.
    fn rewriting(&self) -> Rewriting {
        Rewriting { paths: [("/images/".into(), "/images/".into())].into(), ..Rewriting::default() }
    }

    /// Makes a guest on a host: at least 2 processors and 64 MiB.
    fn guest(&self, side: Side, wanted: &Wanted) -> VmId;

    /// The XML that defines a guest of at least 64 MiB.
    fn xml(&self, vm: VmId, name: &str) -> String;

    /// Kills a guest that runs.
    fn crash(&self, vm: VmId);

    /// Limits under which a guest's live migration takes at least a second or so, and yet comes to an end.
    fn slowly(&self) -> MigrationLimits;

    /// Can it do this?
    fn can(&self, ability: Ability) -> bool;

    /// Lets a host refuse all orders for the next while, which only this case sees.
    fn refuse(&self, _side: Side) {}

    /// Cuts all connections to a host for a moment.
    fn lose(&self, _side: Side) {}

    /// Takes a guest away again.
    fn remove(&self, vm: VmId);
}

/// Runs all cases on the fixture that the expression gives; where it gives `None`, it has said what it lacks.
#[macro_export]
macro_rules! contract_tests {
    ($fixture:expr) => {
        $crate::contract_tests! { $fixture;
            reports_are_complete_and_describe_once
            starts_and_shuts_down
            forces_a_deaf_guest_off
            waits_for_a_shutdown_until_told_not_to
            suspends_and_resumes
            saves_and_restores
            resets
            destroys
            refuses_what_does_not_fit_the_state
            knows_no_strangers
            leaves_alone_what_belongs_to_others
            adopts_what_is_free_and_the_mark_travels
            migrates_live
            migrates_what_is_off
            cancels_a_migration
            a_migration_to_nowhere_leaves_the_guest
            a_migration_that_is_refused_leaves_the_guest
            changes_processors_and_memory
            balloons
            tells_of_a_crash
            says_what_happens
            recovers_what_was_done
            recovers_what_runs
            recovers_what_never_began
            defines_and_undefines
            describes_everything_after_a_reconnect
            hands_over_live_and_the_target_lets_it_run
            hands_over_live_and_the_hypervisor_lets_it_run
            a_handover_that_is_cancelled_leaves_the_guest
            a_handover_to_nowhere_leaves_the_guest
            a_handover_that_runs_is_adopted
            a_copy_that_nobody_will_use_is_removed
            what_somebody_paused_stays_paused
            hands_over_what_is_off
            hands_over_what_runs_by_shutting_it_down
            what_is_shut_down_for_a_handover_can_be_forced_and_taken_back
            memory_that_is_saved_is_not_left_behind
            what_another_plane_sends_reaches_nothing_that_is_not_named
        }
    };
    ($fixture:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                if let Some(fixture) = $fixture {
                    $crate::contract::$case(&fixture);
                }
            }
        )*
    };
}

pub use crate::handovers::*;

/// The plane and epoch under which the cases act.
pub const PLANE: &str = "contract";
pub const EPOCH: u64 = 3;

/// How long a case waits for what must come. Nothing is measured with it.
const AT_MOST: Duration = Duration::from_secs(60);

/// Hears of progress, can change its mind.
#[derive(Debug, Default)]
pub struct Watcher {
    pub progress: Mutex<Vec<Progress>>,
    pub cancelled: AtomicBool,
}

impl Watch for Watcher {
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// An order of the contract's plane, with a number of its own.
pub fn order(kind: ActionKind) -> Order {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Order {
        action: ActionId(NEXT.fetch_add(1, Ordering::SeqCst)),
        kind,
        plane: PLANE.into(),
        epoch: EPOCH,
        expects: None,
        destination: None,
        limits: MigrationLimits::default(),
    }
}

pub fn migration(fixture: &dyn Fixture, vm: VmId, to: Side, live: bool) -> Order {
    let destination = fixture.destination(to);
    let kind = ActionKind::Migrate { vm, to: Some(destination.host.clone()), live };
    Order { destination: Some(destination), ..order(kind) }
}

pub fn mark() -> Option<Mark> {
    Some(Mark { plane: PLANE.into(), epoch: EPOCH })
}

/// A guest that nobody else has, which is removed in the end.
pub struct Own<'a> {
    pub fixture: &'a dyn Fixture,
    pub vm: VmId,
    pub name: String,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.fixture.remove(self.vm);
        }
    }
}

pub fn guest<'a>(fixture: &'a dyn Fixture, name: &str, change: impl FnOnce(&mut Wanted)) -> Own<'a> {
    let mut wanted = Wanted { name: name.to_owned(), running: true, deaf: false, mark: mark() };
    change(&mut wanted);
    Own { fixture, vm: fixture.guest(Side::A, &wanted), name: wanted.name }
}

pub fn lacks(fixture: &dyn Fixture, ability: Ability) -> bool {
    let lacks = !fixture.can(ability);
    if lacks {
        eprintln!("skipped: this hypervisor's fixture lacks the ability {ability:?}");
    }
    lacks
}

fn domain(host: &dyn Hypervisor, vm: VmId) -> Option<DomainReport> {
    let report = host.report(Timestamp(1)).expect("a report");
    report.domains.into_iter().find(|domain| domain.vm == vm)
}

pub fn state(host: &dyn Hypervisor, vm: VmId) -> Option<(VmState, Reason)> {
    domain(host, vm).map(|domain| (domain.state, domain.reason))
}

fn run_state(host: &dyn Hypervisor, vm: VmId) -> Option<VmState> {
    state(host, vm).map(|(state, _)| state)
}

pub fn execute(host: &dyn Hypervisor, kind: ActionKind) -> Result<(), HypervisorError> {
    host.execute(&order(kind), &Watcher::default())
}

pub fn kind_of(result: Result<(), HypervisorError>) -> ErrorKind {
    let error = result.expect_err("this must be refused");
    assert!(!error.what.is_empty(), "an error says what failed");
    error.kind
}

/// Waits for what must come.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < AT_MOST, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn reports_are_complete_and_describe_once(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "described", |_| {});
    let off = guest(fixture, "described-off", |wanted| wanted.running = false);
    let report = host.report(Timestamp(77)).unwrap();
    assert_eq!(report.asked_at, Timestamp(77));
    assert!(report.capacity.cpus > 0 && report.capacity.memory_mib > 0);
    let one = |vm| report.domains.iter().find(|domain| domain.vm == vm).expect("every guest is reported");
    assert_eq!(one(own.vm).state, VmState::Running);
    assert_eq!(one(off.vm).state, VmState::Off);
    let description = one(own.vm).description.clone().expect("what is new is described");
    assert_eq!((&*description.name, &description.mark), (own.name.as_str(), &mark()));
    assert!(description.vcpus >= 2 && description.memory_mib >= 64 && description.persistent);
    assert!(domain(&*host, own.vm).unwrap().description.is_none(), "what is known is not described again");
    execute(&*host, ActionKind::SetVcpus { vm: off.vm, vcpus: 1 }).unwrap();
    let described = domain(&*host, off.vm).unwrap().description.expect("what has changed is described");
    assert_eq!(described.vcpus, 1);
    assert!(domain(&*fixture.connect(Side::A), own.vm).unwrap().description.is_some(), "a new reader knows nothing yet");
}

pub fn starts_and_shuts_down(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "starts", |wanted| wanted.running = false);
    execute(&*host, ActionKind::Start { vm: own.vm }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Running, Reason::Booted)));
    if lacks(fixture, Ability::Shutdown) {
        return;
    }
    execute(&*host, ActionKind::Shutdown { vm: own.vm, force_after: None }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Off, Reason::Shutdown)));
}

pub fn forces_a_deaf_guest_off(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "deaf", |wanted| wanted.deaf = true);
    execute(&*host, ActionKind::Shutdown { vm: own.vm, force_after: Some(Span::seconds(1)) }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Off, Reason::Asked)));
}

pub fn waits_for_a_shutdown_until_told_not_to(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "deaf-for-ever", |wanted| wanted.deaf = true);
    let watcher = Watcher { cancelled: AtomicBool::new(true), ..Watcher::default() };
    let result = host.execute(&order(ActionKind::Shutdown { vm: own.vm, force_after: None }), &watcher);
    assert_eq!(kind_of(result), ErrorKind::Cancelled);
    assert_eq!(run_state(&*host, own.vm), Some(VmState::Running));
}

pub fn suspends_and_resumes(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "suspended", |_| {});
    execute(&*host, ActionKind::Suspend { vm: own.vm }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Paused, Reason::Asked)));
    execute(&*host, ActionKind::Resume { vm: own.vm }).unwrap();
    assert_eq!(run_state(&*host, own.vm), Some(VmState::Running));
}

pub fn saves_and_restores(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "saved", |_| {});
    assert_eq!(kind_of(execute(&*host, ActionKind::Restore { vm: own.vm })), ErrorKind::Precondition);
    execute(&*host, ActionKind::Save { vm: own.vm }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Off, Reason::Saved)));
    execute(&*host, ActionKind::Restore { vm: own.vm }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Running, Reason::Saved)));
}

pub fn resets(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "reset", |_| {});
    execute(&*host, ActionKind::Reset { vm: own.vm }).unwrap();
    assert_eq!(run_state(&*host, own.vm), Some(VmState::Running));
}

pub fn destroys(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "destroyed", |_| {});
    execute(&*host, ActionKind::Destroy { vm: own.vm }).unwrap();
    assert_eq!(state(&*host, own.vm), Some((VmState::Off, Reason::Asked)));
}

pub fn refuses_what_does_not_fit_the_state(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let (runs, off) = (guest(fixture, "runs", |_| {}), guest(fixture, "off", |wanted| wanted.running = false));
    for kind in [ActionKind::Start { vm: runs.vm }, ActionKind::Resume { vm: runs.vm }, ActionKind::Undefine { vm: runs.vm }] {
        assert_eq!(kind_of(execute(&*host, kind.clone())), ErrorKind::Precondition, "{kind:?}");
    }
    let kinds = [
        ActionKind::Shutdown { vm: off.vm, force_after: None },
        ActionKind::Suspend { vm: off.vm },
        ActionKind::Resume { vm: off.vm },
        ActionKind::Save { vm: off.vm },
        ActionKind::Reset { vm: off.vm },
        ActionKind::Destroy { vm: off.vm },
    ];
    for kind in kinds {
        assert_eq!(kind_of(execute(&*host, kind.clone())), ErrorKind::Precondition, "{kind:?}");
    }
    let unexpected = Order { expects: Some(VmState::Paused), ..order(ActionKind::Suspend { vm: runs.vm }) };
    assert_eq!(kind_of(host.execute(&unexpected, &Watcher::default())), ErrorKind::Precondition);
    assert_eq!(run_state(&*host, runs.vm), Some(VmState::Running));
    assert_eq!(run_state(&*host, off.vm), Some(VmState::Off));
}

pub fn knows_no_strangers(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let stranger = VmId(uuid::Uuid::from_u128(0xdead_beef));
    assert_eq!(kind_of(execute(&*host, ActionKind::Start { vm: stranger })), ErrorKind::NotFound);
    assert_eq!(host.mark(stranger).unwrap_err().kind, ErrorKind::NotFound);
    let own = guest(fixture, "elsewhere", |_| {});
    let other = fixture.connect(Side::B);
    assert_eq!(kind_of(execute(&*other, ActionKind::Suspend { vm: own.vm })), ErrorKind::NotFound);
}

pub fn leaves_alone_what_belongs_to_others(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let foreign = Some(Mark { plane: "another".into(), epoch: EPOCH });
    let newer = Some(Mark { plane: PLANE.into(), epoch: EPOCH + 1 });
    let older = Some(Mark { plane: PLANE.into(), epoch: EPOCH - 1 });
    for (name, mark, adoptable) in
        [("free", None, true), ("foreign", foreign, false), ("newer", newer, false), ("older", older, true)]
    {
        let own = guest(fixture, name, |wanted| wanted.mark = mark.clone());
        for kind in [ActionKind::Suspend { vm: own.vm }, ActionKind::Destroy { vm: own.vm }] {
            assert_eq!(kind_of(execute(&*host, kind.clone())), ErrorKind::NotOwner, "{name} {kind:?}");
        }
        let moves = host.execute(&migration(fixture, own.vm, Side::B, true), &Watcher::default());
        assert_eq!(kind_of(moves), ErrorKind::NotOwner, "{name}");
        if !adoptable {
            assert_eq!(kind_of(execute(&*host, ActionKind::Adopt { vm: own.vm })), ErrorKind::NotOwner, "{name}");
        }
        assert_eq!(run_state(&*host, own.vm), Some(VmState::Running), "{name}: nothing was done");
        assert_eq!(host.mark(own.vm).unwrap(), mark, "{name}");
    }
}

pub fn adopts_what_is_free_and_the_mark_travels(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "adopted", |wanted| wanted.mark = None);
    domain(&*a, own.vm);
    execute(&*a, ActionKind::Adopt { vm: own.vm }).unwrap();
    assert_eq!(a.mark(own.vm).unwrap(), mark());
    assert_eq!(domain(&*a, own.vm).unwrap().description.expect("a new mark is a new description").mark, mark());
    a.execute(&migration(fixture, own.vm, Side::B, true), &Watcher::default()).unwrap();
    assert_eq!(b.mark(own.vm).unwrap(), mark());
    assert_eq!(domain(&*b, own.vm).unwrap().description.unwrap().mark, mark());
    execute(&*b, ActionKind::Suspend { vm: own.vm }).expect("its owner may act on it there");
}

pub fn migrates_live(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "moves", |_| {});
    let order = Order { limits: fixture.slowly(), ..migration(fixture, own.vm, Side::B, true) };
    let (watcher, over) = (Watcher::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let spectator = scope.spawn(|| {
            let mut seen_paused_there = false;
            while !over.load(Ordering::SeqCst) {
                // The target first: a guest that runs there no longer runs at the source, whenever that answers.
                let there = state(&*b, own.vm);
                let here = state(&*a, own.vm);
                let runs = |state: Option<(VmState, Reason)>| state.is_some_and(|(state, _)| state == VmState::Running);
                assert!(!(runs(there) && runs(here)), "it runs twice");
                assert!(there.is_some() || here.is_some(), "it is nowhere");
                seen_paused_there |= there == Some((VmState::Paused, Reason::Migration));
                std::thread::sleep(Duration::from_millis(2));
            }
            seen_paused_there
        });
        let result = a.execute(&order, &watcher);
        over.store(true, Ordering::SeqCst);
        let seen_paused_there = spectator.join().unwrap();
        result.unwrap();
        assert!(seen_paused_there, "while it moves, the target shows it as paused with reason migration");
    });
    assert_eq!(domain(&*a, own.vm), None, "the source no longer has it");
    assert_eq!(run_state(&*b, own.vm), Some(VmState::Running));
    let progress = watcher.progress.lock().unwrap();
    assert!(progress.iter().any(|progress| progress.done_bytes > 0 && progress.total_bytes > 0), "progress is told");
    assert!(progress.is_sorted_by_key(|progress| progress.done_bytes), "and does not go back");
}

pub fn migrates_what_is_off(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "moves-off", |wanted| wanted.running = false);
    let live = a.execute(&migration(fixture, own.vm, Side::B, true), &Watcher::default());
    assert_eq!(kind_of(live), ErrorKind::Precondition);
    a.execute(&migration(fixture, own.vm, Side::B, false), &Watcher::default()).unwrap();
    assert_eq!(domain(&*a, own.vm), None);
    assert_eq!(run_state(&*b, own.vm), Some(VmState::Off));
    assert_eq!(b.mark(own.vm).unwrap(), mark());
}

pub fn cancels_a_migration(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "stays", |_| {});
    let order = Order { limits: fixture.slowly(), ..migration(fixture, own.vm, Side::B, true) };
    let watcher = Watcher::default();
    std::thread::scope(|scope| {
        let moves = scope.spawn(|| a.execute(&order, &watcher));
        eventually("progress", || watcher.progress.lock().unwrap().iter().any(|p| p.done_bytes > 0) || moves.is_finished());
        watcher.cancelled.store(true, Ordering::SeqCst);
        assert_eq!(kind_of(moves.join().unwrap()), ErrorKind::Cancelled);
    });
    assert_eq!(run_state(&*a, own.vm), Some(VmState::Running));
    eventually("the target forgets it", || domain(&*b, own.vm).is_none());
    execute(&*a, ActionKind::Suspend { vm: own.vm }).expect("it can be acted on again");
}

pub fn a_migration_to_nowhere_leaves_the_guest(fixture: &dyn Fixture) {
    let a = fixture.connect(Side::A);
    let own = guest(fixture, "to-nowhere", |_| {});
    let mut order = migration(fixture, own.vm, Side::B, true);
    if let Some(destination) = &mut order.destination {
        destination.host = "nowhere".into();
        destination.uri = "qemu+tcp://127.0.0.1:1/system".into();
        destination.migration_uri = None;
    }
    let failed = kind_of(a.execute(&order, &Watcher::default()));
    assert!(matches!(failed, ErrorKind::Failed | ErrorKind::Unreachable), "{failed:?}");
    assert_eq!(run_state(&*a, own.vm), Some(VmState::Running));
}

pub fn a_migration_that_is_refused_leaves_the_guest(fixture: &dyn Fixture) {
    if lacks(fixture, Ability::Refuse) {
        return;
    }
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "refused", |_| {});
    fixture.refuse(Side::B);
    let refused = a.execute(&migration(fixture, own.vm, Side::B, true), &Watcher::default());
    assert_eq!(kind_of(refused), ErrorKind::Failed);
    assert_eq!(run_state(&*a, own.vm), Some(VmState::Running));
    assert_eq!(domain(&*b, own.vm), None);
}

pub fn changes_processors_and_memory(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "resized", |wanted| wanted.running = fixture.can(Ability::ResizeLive));
    let before = domain(&*host, own.vm).unwrap().description.unwrap();
    execute(&*host, ActionKind::SetVcpus { vm: own.vm, vcpus: 1 }).unwrap();
    assert_eq!(domain(&*host, own.vm).unwrap().description.unwrap().vcpus, 1);
    let memory_mib = before.memory_mib - 16;
    execute(&*host, ActionKind::SetMemory { vm: own.vm, memory_mib }).unwrap();
    assert_eq!(domain(&*host, own.vm).unwrap().description.unwrap().memory_mib, memory_mib);
}

pub fn balloons(fixture: &dyn Fixture) {
    if lacks(fixture, Ability::Balloon) {
        return;
    }
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "ballooned", |_| {});
    let held = domain(&*host, own.vm).unwrap().balloon_mib.expect("what it holds is told");
    execute(&*host, ActionKind::Balloon { vm: own.vm, memory_mib: held - 16 }).unwrap();
    eventually("the balloon follows", || domain(&*host, own.vm).unwrap().balloon_mib == Some(held - 16));
}

pub fn tells_of_a_crash(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "crashes", |_| {});
    let notices = listen(&*host, own.vm);
    fixture.crash(own.vm);
    eventually("the crash is reported", || state(&*host, own.vm) == Some((VmState::Crashed, Reason::Crashed)));
    eventually("the crash is told", || notices.lock().unwrap().contains(&NoticeBody::State(VmState::Crashed, Reason::Crashed)));
    execute(&*host, ActionKind::Start { vm: own.vm }).expect("what crashed can be started");
    assert_eq!(run_state(&*host, own.vm), Some(VmState::Running));
}

fn listen(host: &dyn Hypervisor, vm: VmId) -> Arc<Mutex<Vec<NoticeBody>>> {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = notices.clone();
    host.subscribe(Arc::new(move |notice: Notice| {
        if notice.vm == vm {
            sink.lock().unwrap().push(notice.body);
        }
    }));
    notices
}

pub fn says_what_happens(fixture: &dyn Fixture) {
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "talks", |_| {});
    let notices = listen(&*host, own.vm);
    execute(&*host, ActionKind::Suspend { vm: own.vm }).unwrap();
    execute(&*host, ActionKind::Resume { vm: own.vm }).unwrap();
    execute(&*host, ActionKind::Destroy { vm: own.vm }).unwrap();
    execute(&*host, ActionKind::Start { vm: own.vm }).unwrap();
    let states = || -> Vec<VmState> {
        let notices = notices.lock().unwrap();
        notices.iter().filter_map(|body| if let NoticeBody::State(state, _) = body { Some(*state) } else { None }).collect()
    };
    let all = [VmState::Paused, VmState::Running, VmState::Off, VmState::Running];
    eventually("all four are told", || {
        let mut states = states();
        states.dedup();
        states == all
    });
}

pub fn recovers_what_was_done(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "recovered", |_| {});
    let moves = migration(fixture, own.vm, Side::B, true);
    a.execute(&moves, &Watcher::default()).unwrap();
    assert_eq!(fixture.connect(Side::A).recover(&moves, &Watcher::default()), Ok(Fate::Done));
    let suspends = order(ActionKind::Suspend { vm: own.vm });
    b.execute(&suspends, &Watcher::default()).unwrap();
    assert_eq!(fixture.connect(Side::B).recover(&suspends, &Watcher::default()), Ok(Fate::Done));
    assert_eq!(run_state(&*b, own.vm), Some(VmState::Paused), "recovering does nothing");
}

pub fn recovers_what_runs(fixture: &dyn Fixture) {
    let a = fixture.connect(Side::A);
    let own = guest(fixture, "recovered-midway", |_| {});
    let moves = Order { limits: fixture.slowly(), ..migration(fixture, own.vm, Side::B, true) };
    let watcher = Watcher::default();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| a.execute(&moves, &watcher));
        eventually("progress", || !watcher.progress.lock().unwrap().is_empty() || first.is_finished());
        // As a daemon does that comes back while the hypervisor still works.
        assert_eq!(fixture.connect(Side::A).recover(&moves, &Watcher::default()), Ok(Fate::Done));
        first.join().unwrap().unwrap();
    });
    assert_eq!(run_state(&*fixture.connect(Side::B), own.vm), Some(VmState::Running));
}

pub fn recovers_what_never_began(fixture: &dyn Fixture) {
    let a = fixture.connect(Side::A);
    let own = guest(fixture, "never-begun", |_| {});
    for order in [order(ActionKind::Suspend { vm: own.vm }), migration(fixture, own.vm, Side::B, true)] {
        let fate = a.recover(&order, &Watcher::default()).unwrap();
        assert!(matches!(&fate, Fate::NotDone(what) if !what.is_empty()), "{fate:?}");
    }
    assert_eq!(run_state(&*a, own.vm), Some(VmState::Running), "recovering starts nothing");
}

pub fn defines_and_undefines(fixture: &dyn Fixture) {
    let a = fixture.connect(Side::A);
    let vm = VmId(uuid::Uuid::from_u128(0xde_f1ed));
    let host = fixture.destination(Side::A).host;
    let xml: Arc<str> = fixture.xml(vm, "defined").into();
    execute(&*a, ActionKind::Define { vm, host: host.clone(), xml: xml.clone() }).unwrap();
    assert_eq!(run_state(&*a, vm), Some(VmState::Off));
    assert_eq!(a.mark(vm).unwrap(), mark(), "what a plane defines is its own");
    assert_eq!(kind_of(execute(&*a, ActionKind::Define { vm, host: host.clone(), xml })), ErrorKind::Precondition);
    execute(&*a, ActionKind::Start { vm }).unwrap();
    execute(&*a, ActionKind::Destroy { vm }).unwrap();
    execute(&*a, ActionKind::Undefine { vm }).unwrap();
    assert_eq!(domain(&*a, vm), None);
    let nonsense = ActionKind::Define { vm, host, xml: "<domain>".into() };
    assert_eq!(kind_of(execute(&*a, nonsense)), ErrorKind::Failed);
}

pub fn describes_everything_after_a_reconnect(fixture: &dyn Fixture) {
    if lacks(fixture, Ability::Lose) {
        return;
    }
    let host = fixture.connect(Side::A);
    let own = guest(fixture, "reconnected", |_| {});
    let notices = listen(&*host, own.vm);
    host.report(Timestamp(1)).unwrap();
    fixture.lose(Side::A);
    let described = || host.report(Timestamp(1)).is_ok_and(|report| report.domains.iter().all(|d| d.description.is_some()));
    eventually("the host is connected again, and describes everything", described);
    assert_eq!(run_state(&*host, own.vm), Some(VmState::Running), "its guests never stopped");
    execute(&*host, ActionKind::Suspend { vm: own.vm }).unwrap();
    eventually("notices come again", || notices.lock().unwrap().contains(&NoticeBody::State(VmState::Paused, Reason::Asked)));
}
