//! What every hypervisor promises of handovers to another plane. Cases as in `contract.rs`.

use crate::contract::{
    Ability, EPOCH, Fixture, Own, PLANE, Side, Watcher, eventually, execute, guest, kind_of, lacks, mark, order, state,
};
use embot::hypervisor::{ErrorKind, Handover, HandoverStep, Hypervisor, HypervisorError, MigrationLimits, Transfer};
use embot::migration::ResumeBy;
use embot::model::{ActionKind, Mark, Reason, Sighting, Span, Standing, Timestamp, VmId, VmState};
use std::sync::atomic::Ordering;

/// The plane that gets the guest.
const OTHER: &str = "other";

/// The mark under which the other plane gets it.
fn theirs() -> Mark {
    Mark { plane: OTHER.into(), epoch: EPOCH + 1 }
}

fn ours() -> Mark {
    mark().unwrap()
}

/// One handover of one guest.
struct Going<'a> {
    fixture: &'a dyn Fixture,
    own: &'a Own<'a>,
    id: String,
}

impl<'a> Going<'a> {
    fn of(own: &'a Own<'a>) -> Going<'a> {
        Going { fixture: own.fixture, own, id: format!("{PLANE}/{}", own.name) }
    }

    fn step(&self, plane: &str, mark: Mark, step: HandoverStep) -> Handover {
        Handover { id: self.id.as_str().into(), plane: plane.into(), vm: self.own.vm, mark, step }
    }

    fn seal(&self) -> Handover {
        self.step(PLANE, ours(), HandoverStep::Seal { becomes: theirs() })
    }

    fn transfer(&self, limits: MigrationLimits, resume: ResumeBy) -> Box<Transfer> {
        let destination = self.fixture.destination(Side::B);
        Box::new(Transfer { destination, limits, resume, rewriting: self.fixture.rewriting() })
    }

    fn moves(&self, limits: MigrationLimits, resume: ResumeBy) -> Handover {
        self.step(PLANE, theirs(), HandoverStep::Move(self.transfer(limits, resume)))
    }

    fn quickly(&self) -> Handover {
        self.moves(MigrationLimits::default(), ResumeBy::Manager)
    }

    fn slowly(&self) -> Handover {
        self.moves(self.fixture.slowly(), ResumeBy::Manager)
    }

    /// The target takes it over.
    fn take(&self, start: bool) -> Handover {
        self.step(OTHER, theirs(), HandoverStep::Resume { becomes: theirs(), start })
    }

    /// The source takes it back.
    fn take_back(&self) -> Handover {
        let becomes = Mark { epoch: EPOCH + 2, ..ours() };
        self.step(PLANE, becomes.clone(), HandoverStep::Resume { becomes, start: false })
    }

    /// The same; what was shut down for it is started again.
    fn start_again(&self) -> Handover {
        let becomes = Mark { epoch: EPOCH + 2, ..ours() };
        self.step(PLANE, becomes.clone(), HandoverStep::Resume { becomes, start: true })
    }

    /// The target is about to get it cold.
    fn define(&self) -> Handover {
        let xml = self.fixture.connect(Side::A).definition(self.own.vm).unwrap().xml;
        self.step(
            OTHER,
            theirs(),
            HandoverStep::Define {
                xml,
                rewriting: self.fixture.rewriting(),
                trusted: false,
                autostart: true,
                needs: Vec::new(),
            },
        )
    }

    fn shut_down(&self, force_after: Option<Span>) -> Handover {
        self.step(PLANE, theirs(), HandoverStep::ShutDown { force_after })
    }

    /// Its files go there.
    fn copy(&self) -> Handover {
        let limits = MigrationLimits { copy_storage: true, ..MigrationLimits::default() };
        let mut transfer = self.transfer(limits, ResumeBy::Manager);
        transfer.destination = self.fixture.destination_from_here(Side::B);
        self.step(PLANE, theirs(), HandoverStep::Copy(transfer))
    }

    fn remove(&self, plane: &str) -> Handover {
        self.step(plane, theirs(), HandoverStep::Remove { running: false })
    }
}

fn do_step(host: &dyn Hypervisor, step: &Handover) -> Result<(), HypervisorError> {
    host.hand_over(step, &Watcher::default())
}

/// Does a step twice: the second time nothing is left to be done.
fn twice(host: &dyn Hypervisor, step: &Handover) {
    for time in ["first", "second"] {
        do_step(host, step).unwrap_or_else(|error| panic!("{} for the {time} time: {error}", step.step.name()));
    }
}

fn seen(host: &dyn Hypervisor, vm: VmId) -> Option<(Standing, Option<Mark>, bool)> {
    let Sighting { standing, mark, sealed, .. } = host.look(vm).expect("a look")?;
    Some((standing, mark, sealed.is_some()))
}

pub fn hands_over_live_and_the_target_lets_it_run(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "goes-over", |_| {});
    let going = Going::of(&own);
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, mark(), false)));
    assert_eq!(seen(&*b, own.vm), None);
    assert!(a.definition(own.vm).unwrap().xml.contains("goes-over"));
    twice(&*a, &going.seal());
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, Some(theirs()), true)));
    assert_eq!(kind_of(execute(&*a, ActionKind::Suspend { vm: own.vm })), ErrorKind::NotOwner);

    twice(&*a, &going.quickly());
    assert_eq!(seen(&*a, own.vm), None, "the source no longer has it");
    assert_eq!(seen(&*b, own.vm), Some((Standing::Migrating, Some(theirs()), true)), "it waits for its new manager");
    assert_eq!(state(&*b, own.vm), Some((VmState::Paused, Reason::Migration)), "and nobody takes it for hung");
    let theirs_now =
        embot::hypervisor::Order { plane: OTHER.into(), epoch: EPOCH + 1, ..order(ActionKind::Resume { vm: own.vm }) };
    assert_eq!(kind_of(b.execute(&theirs_now, &Watcher::default())), ErrorKind::NotOwner, "orders wait until it is taken over");

    twice(&*b, &going.take(false));
    assert_eq!(seen(&*b, own.vm), Some((Standing::Running, Some(theirs()), false)));
    let suspends =
        embot::hypervisor::Order { plane: OTHER.into(), epoch: EPOCH + 1, ..order(ActionKind::Suspend { vm: own.vm }) };
    b.execute(&suspends, &Watcher::default()).expect("its new owner may act");
    assert_eq!(state(&*b, own.vm), Some((VmState::Paused, Reason::Asked)));
    assert_eq!(kind_of(do_step(&*b, &going.remove(OTHER))), ErrorKind::NotOwner, "a late step does nothing");
}

pub fn hands_over_live_and_the_hypervisor_lets_it_run(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "goes-on", |_| {});
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    do_step(&*a, &going.moves(MigrationLimits::default(), ResumeBy::Hypervisor)).unwrap();
    assert_eq!(seen(&*a, own.vm), None);
    assert_eq!(seen(&*b, own.vm), Some((Standing::Running, Some(theirs()), true)));
    assert_eq!(kind_of(do_step(&*b, &going.remove(OTHER))), ErrorKind::Precondition, "what runs is not removed");
    twice(&*b, &going.take(false));
    assert_eq!(seen(&*b, own.vm), Some((Standing::Running, Some(theirs()), false)));
}

pub fn a_handover_that_is_cancelled_leaves_the_guest(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "stays-after-all", |_| {});
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    let (watcher, moves) = (Watcher::default(), going.slowly());
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| a.hand_over(&moves, &watcher));
        eventually("progress", || !watcher.progress.lock().unwrap().is_empty() || moving.is_finished());
        let job = |host: &dyn Hypervisor| host.look(own.vm).unwrap().and_then(|sighting| sighting.job);
        assert!(job(&*a).is_some(), "the source says that a move runs");
        assert_eq!(kind_of(do_step(&*a, &going.take_back())), ErrorKind::Precondition, "first the move must be over");
        watcher.cancelled.store(true, Ordering::SeqCst);
        assert_eq!(kind_of(moving.join().unwrap()), ErrorKind::Cancelled);
    });
    eventually("the target drops its half", || seen(&*b, own.vm).is_none());
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, Some(theirs()), true)));
    twice(&*a, &going.take_back());
    let again = Mark { epoch: EPOCH + 2, ..ours() };
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, Some(again), false)));
    assert_eq!(kind_of(do_step(&*a, &going.quickly())), ErrorKind::NotOwner, "a late step does nothing");
}

pub fn a_handover_to_nowhere_leaves_the_guest(fixture: &dyn Fixture) {
    let a = fixture.connect(Side::A);
    let own = guest(fixture, "goes-nowhere", |_| {});
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    let mut transfer = going.transfer(MigrationLimits::default(), ResumeBy::Manager);
    transfer.destination.host = "nowhere".into();
    transfer.destination.uri = "qemu+tcp://127.0.0.1:1/system".into();
    let failed = kind_of(do_step(&*a, &going.step(PLANE, theirs(), HandoverStep::Move(transfer))));
    assert!(matches!(failed, ErrorKind::Failed | ErrorKind::Unreachable), "{failed:?}");
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, Some(theirs()), true)));
    do_step(&*a, &going.take_back()).unwrap();
}

pub fn a_handover_that_runs_is_adopted(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "adopted-midway", |_| {});
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    let (watcher, moves) = (Watcher::default(), going.slowly());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| a.hand_over(&moves, &watcher));
        eventually("progress", || !watcher.progress.lock().unwrap().is_empty() || first.is_finished());
        // As a manager does that comes back while the hypervisor still works.
        assert_eq!(do_step(&*fixture.connect(Side::A), &moves), Ok(()));
        first.join().unwrap().unwrap();
    });
    assert_eq!(seen(&*b, own.vm), Some((Standing::Migrating, Some(theirs()), true)));
    do_step(&*b, &going.take(false)).unwrap();
}

pub fn a_copy_that_nobody_will_use_is_removed(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "given-up", |_| {});
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    do_step(&*a, &going.quickly()).unwrap();
    let stranger = Going { id: "another/1".to_owned(), ..Going::of(&own) };
    assert_eq!(kind_of(do_step(&*b, &stranger.remove(OTHER))), ErrorKind::NotOwner, "not by another handover");
    let older = going.step(OTHER, ours(), HandoverStep::Remove { running: false });
    assert_eq!(kind_of(do_step(&*b, &older)), ErrorKind::NotOwner, "not by one who knows an older mark only");
    twice(&*b, &going.remove(OTHER));
    assert_eq!(seen(&*b, own.vm), None);
}

pub fn what_somebody_paused_stays_paused(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "goes-paused", |_| {});
    let going = Going::of(&own);
    execute(&*a, ActionKind::Suspend { vm: own.vm }).unwrap();
    do_step(&*a, &going.seal()).unwrap();
    do_step(&*a, &going.quickly()).unwrap();
    twice(&*b, &going.take(false));
    assert_eq!(seen(&*b, own.vm), Some((Standing::Paused, Some(theirs()), false)));
}

pub fn hands_over_what_is_off(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "goes-cold", |wanted| wanted.running = false);
    let going = Going::of(&own);
    do_step(&*a, &going.seal()).unwrap();
    assert_eq!(kind_of(do_step(&*a, &going.quickly())), ErrorKind::Precondition, "there is no memory to be moved");
    twice(&*b, &going.define());
    assert_eq!(seen(&*b, own.vm), Some((Standing::Off, Some(theirs()), true)));
    twice(&*a, &going.copy());
    twice(&*a, &going.remove(PLANE));
    assert_eq!(seen(&*a, own.vm), None);
    assert!(!starts_by_itself(fixture, own.vm), "not before it is taken over");
    twice(&*b, &going.take(true));
    assert_eq!(seen(&*b, own.vm), Some((Standing::Running, Some(theirs()), false)));
    assert!(starts_by_itself(fixture, own.vm), "as at the source");
}

/// Does the second host start the guest by itself?
fn starts_by_itself(fixture: &dyn Fixture, vm: VmId) -> bool {
    let report = fixture.connect(Side::B).report(Timestamp(1)).unwrap();
    let found = report.domains.into_iter().find(|domain| domain.vm == vm).expect("it is there");
    found.description.expect("a new connection is told all").autostart
}

pub fn hands_over_what_runs_by_shutting_it_down(fixture: &dyn Fixture) {
    if lacks(fixture, Ability::Shutdown) {
        return;
    }
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "goes-to-sleep", |_| {});
    let going = Going::of(&own);
    do_step(&*b, &going.define()).unwrap();
    assert_eq!(kind_of(do_step(&*a, &going.shut_down(None))), ErrorKind::NotOwner, "not before it is sealed");
    do_step(&*a, &going.seal()).unwrap();
    assert_eq!(kind_of(do_step(&*a, &going.copy())), ErrorKind::Precondition, "the files of what runs are not copied");
    twice(&*a, &going.shut_down(None));
    assert_eq!(seen(&*a, own.vm), Some((Standing::Off, Some(theirs()), true)));
    do_step(&*a, &going.copy()).unwrap();
    twice(&*b, &going.take(true));
    assert_eq!(seen(&*b, own.vm), Some((Standing::Running, Some(theirs()), false)));
    twice(&*a, &going.remove(PLANE));
    assert_eq!(seen(&*a, own.vm), None);
}

pub fn what_is_shut_down_for_a_handover_can_be_forced_and_taken_back(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "will-not-hear", |wanted| wanted.deaf = true);
    let going = Going::of(&own);
    do_step(&*b, &going.define()).unwrap();
    do_step(&*a, &going.seal()).unwrap();
    // Whoever asks a guest to shut down waits for it, so that it is known what it does.
    let watcher = Watcher { cancelled: true.into(), ..Watcher::default() };
    assert_eq!(a.hand_over(&going.shut_down(Some(Span::seconds(1))), &watcher), Ok(()));
    assert_eq!(seen(&*a, own.vm), Some((Standing::Off, Some(theirs()), true)));
    twice(&*a, &going.start_again());
    let again = Mark { epoch: EPOCH + 2, ..ours() };
    assert_eq!(seen(&*a, own.vm), Some((Standing::Running, Some(again), false)));
    twice(&*b, &going.remove(OTHER));
    assert_eq!(seen(&*b, own.vm), None);
}

pub fn memory_that_is_saved_is_not_left_behind(fixture: &dyn Fixture) {
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let own = guest(fixture, "saved-before", |_| {});
    let going = Going::of(&own);
    execute(&*a, ActionKind::Save { vm: own.vm }).unwrap();
    do_step(&*b, &going.define()).unwrap();
    do_step(&*a, &going.seal()).unwrap();
    let error = do_step(&*a, &going.copy()).unwrap_err();
    assert!(error.kind == ErrorKind::Precondition && error.what.contains("memory is saved"), "{error}");
    do_step(&*a, &going.take_back()).unwrap();
    do_step(&*b, &going.remove(OTHER)).unwrap();
}

pub fn what_another_plane_sends_reaches_nothing_that_is_not_named(fixture: &dyn Fixture) {
    let b = fixture.connect(Side::B);
    let vm = VmId(uuid::Uuid::from_u128(0xbad_c0de));
    let xml = fixture.xml(vm, "sent").replace(
        "</domain>",
        "<devices><disk type='file'><source file='/etc/shadow'/><target dev='vda'/></disk></devices></domain>",
    );
    let step = HandoverStep::Define {
        xml: xml.into(),
        rewriting: Default::default(),
        trusted: false,
        autostart: false,
        needs: Vec::new(),
    };
    let define = Handover { id: "x/1".into(), plane: OTHER.into(), vm, mark: theirs(), step };
    let error = do_step(&*b, &define).unwrap_err();
    assert!(error.kind == ErrorKind::Failed && error.what.contains("/etc/shadow"), "{error}");
    assert_eq!(seen(&*b, vm), None);
}
