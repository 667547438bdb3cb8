//! Either daemon dies at every write to its store in turn, and at the sync after it, while a guest goes from one plane to the
//! other. Whatever the moment: one owner, one running guest, every accepted fact handled once and in order, nothing left
//! behind.

use crate::kit::{self, A, ADMIT, B};
use embot::hypervisor::simulated::LogLine;
use embot::model::{Command, EventBody, HostId, NoticeBody, Outcome, Record, Span, Timestamp, Verb, VmId};
use embot::simulate::{Died, Simulation};
use embot::store::{Crash, SimulatedDisk};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

/// Two planes on disks.
struct Run {
    planes: Simulation,
    disks: [SimulatedDisk; 2],
    crash: Crash,
    deaths: u32,
    ask: fn(VmId) -> Command,
}

impl Run {
    fn new(crash: Crash) -> Run {
        let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
        let mut planes = kit::planes(kit::FLEET, &disks, [0, 1_500]);
        planes.run_for(Span::seconds(6)).unwrap();
        kit::prepare(&mut planes, ADMIT);
        Run { planes, disks, crash, deaths: 0, ask: |vm| kit::handover(vm, "b") }
    }

    /// The same, but the guest goes cold.
    fn cold(crash: Crash) -> Run {
        Run { ask: |vm| kit::cold(vm, "b", None), ..Run::new(crash) }
    }

    /// The same with the counting module on `a` only: it comes along.
    fn along(crash: Crash) -> Run {
        kit::trust(&[Verb::Notify]);
        let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
        let mut planes = kit::planes(kit::FLEET, &disks, [0, 1_500]);
        planes.run_for(Span::seconds(6)).unwrap();
        kit::must(&mut planes, A, kit::module(kit::COUNT));
        kit::must(&mut planes, B, kit::module(ADMIT));
        planes.run_for(Span::seconds(12)).unwrap();
        Run { planes, disks, crash, deaths: 0, ask: |vm| kit::handover(vm, "b") }
    }

    /// Does something until it is done, however often a plane dies over it.
    fn insist(&mut self, mut what: impl FnMut(&mut Simulation) -> Result<(), Died>) {
        while let Err(died) = what(&mut self.planes) {
            self.deaths += 1;
            let plane = died.plane;
            self.disks[plane] = self.disks[plane].crash(self.crash);
            let (manager, store) = kit::on_disk(plane, &self.disks[plane]);
            self.planes.restart(plane, manager, store);
        }
    }

    fn run_for(&mut self, span: Span) {
        let end = self.planes.now() + span;
        self.insist(|planes| planes.run_for(end.since(planes.now())));
    }

    /// The whole story. `fail`: which plane's store fails, and at which change after the beginning.
    fn play(mut self, fail: Option<(usize, u64)>) -> Run {
        let vm = kit::guest(&self.planes, "web-1");
        if let Some((plane, change)) = fail {
            let disk = &self.disks[plane];
            disk.fail_from(disk.changes() + change, ErrorKind::Other);
        }
        let mut word = 0;
        let mut wink = |run: &mut Run, plane: usize, host: &str| {
            run.insist(|planes| {
                word += 1;
                planes.notice(plane, &HostId::from(host), vm, NoticeBody::Watchdog(format!("w{word}").into()))
            });
        };
        wink(&mut self, A, "a-1");
        let asked_at = self.planes.now();
        loop {
            // An answer that was lost is asked for again; a plane that has just started asks to wait.
            let (mut reply, ask) = (None, self.ask);
            self.insist(|planes| {
                let gone = planes.manager(A).open().any(|action| action.proposal.kind.vm() == Some(vm));
                reply = if gone { None } else { planes.command(A, ask(vm))? };
                Ok(())
            });
            match reply {
                Some(embot::model::Reply::Refused { reason })
                    if reason.contains("try again")
                        || reason.contains("does not answer")
                        || reason.contains("no connection") =>
                {
                    self.run_for(Span::seconds(1));
                }
                Some(embot::model::Reply::Refused { reason }) => panic!("{reason}"),
                _ => break,
            }
            assert!(self.planes.now().since(asked_at) < Span::minutes(2), "never ready");
        }
        for _ in 0..4 {
            self.run_for(Span(600));
            if self.planes.manager(A).world().vm(vm).is_some() {
                wink(&mut self, A, "a-1");
            }
        }
        let over = |planes: &Simulation, plane| kit::last(planes, plane).is_some_and(|one| one.outcome.is_some());
        let by = self.planes.now() + Span::minutes(20);
        let mut ended = false;
        self.insist(|planes| {
            ended = planes.run_until(by.since(planes.now()), |planes| over(planes, A) && over(planes, B))?;
            Ok(())
        });
        assert!(
            ended,
            "not over:\n{:?}\n{:?}\n{}",
            kit::last(&self.planes, A),
            kit::last(&self.planes, B),
            kit::notices(&self.planes)
        );
        self.run_for(Span::seconds(30));
        self
    }

    /// The words of the watchdog that plane a accepted, in order.
    fn accepted(&self) -> Vec<String> {
        let vm = kit::guest(&self.planes, "web-1");
        let store = self.planes.plane(A).store().expect("a store");
        let mut words: Vec<(u64, String)> = Vec::new();
        for batch in store.journal().batches(0) {
            for record in batch.expect("a readable journal").records {
                if let Record::Event { event } = record
                    && event.element.vm() == Some(vm)
                    && let EventBody::Watchdog { action } = event.body
                {
                    words.push((event.seq, action.to_string()));
                }
            }
        }
        words.sort();
        words.into_iter().map(|(_, word)| word).collect()
    }

    /// What must hold, whenever somebody died.
    fn check(&self, context: &str) {
        let planes = &self.planes;
        let vm = kit::guest(planes, "web-1");
        let moved = kit::last(planes, A).unwrap().outcome == Some(Outcome::Moved);
        let why = || format!("{context}\n{:?}\n{:?}\n{}", kit::last(planes, A), kit::last(planes, B), kit::notices(planes));
        assert_eq!(kit::last(planes, B).unwrap().outcome == Some(Outcome::Moved), moved, "{}", why());
        let (owner, other) = if moved { (B, A) } else { (A, B) };
        assert!(kit::owner(planes, owner, vm).is_some(), "{}", why());
        assert_eq!(kit::owner(planes, other, vm), None, "{}", why());
        assert_eq!(kit::state(planes, other, vm), None, "{}", why());
        let mut seen: String = self.accepted().iter().map(|word| format!("{word} ")).collect();
        if moved {
            seen += "migrated ";
        }
        let state = kit::state(planes, owner, vm).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
        let told = state["seen"].as_str().unwrap_or_default();
        assert_eq!((told, &state["loaded"]), (&*seen, &serde_json::json!(1)), "{}", why());
        assert_eq!(planes.manager(B).holds().count(), 0, "{}", why());
        assert_eq!(planes.manager(A).holds().count(), usize::from(moved), "{}", why());
        assert!(planes.manager(B).world().reserved.is_empty(), "{}", why());
        for plane in [A, B] {
            assert_eq!(planes.manager(plane).open().count(), 0, "{}", why());
            assert_eq!(planes.manager(plane).waiting(), 0, "{}", why());
        }
        let guest = planes.fleet().guest(vm).cloned().expect("the guest");
        assert_eq!(guest.state, embot::model::VmState::Running, "{}", why());
        assert_eq!(guest.host.as_str().starts_with("b-"), moved, "{}", why());
    }

    /// Never ran on two hosts at a time, and nobody acted but its owner.
    fn check_log(&mut self, context: &str) {
        let mut running: BTreeMap<VmId, BTreeSet<HostId>> = BTreeMap::new();
        for line in self.planes.fleet_mut().take_log() {
            let LogLine::Run(run) = line else { continue };
            let hosts = running.entry(run.vm).or_default();
            if run.runs {
                hosts.insert(run.host)
            } else {
                hosts.remove(&run.host)
            };
            assert!(hosts.len() <= 1, "{context}: guest {} runs on {hosts:?}", run.vm);
        }
    }
}

#[test]
fn whenever_a_daemon_dies_the_guest_has_one_owner_and_no_fact_is_lost() {
    let deaths = die(Run::new, &[A, B], |_, _| ());
    assert!(deaths >= 40, "only {deaths} daemons died");
}

#[test]
fn whenever_a_daemon_dies_a_cold_guest_has_one_owner_and_runs_again() {
    let deaths = die(Run::cold, &[A, B], |_, _| ());
    assert!(deaths >= 40, "only {deaths} daemons died");
}

#[test]
fn whenever_the_target_dies_a_module_that_comes_along_is_there_with_its_guest_or_not_at_all() {
    let deaths = die(Run::along, &[B], |run, context| {
        let moved = kit::last(&run.planes, A).unwrap().outcome == Some(Outcome::Moved);
        let modules: Vec<_> = run.planes.manager(B).modules().iter().map(|module| module.module.to_string()).collect();
        assert_eq!(modules.contains(&"count".to_owned()), moved, "{context}: {modules:?}\n{}", kit::notices(&run.planes));
        assert_eq!(run.planes.manager(B).embots(Some("count")).len(), usize::from(moved), "{context}");
    });
    assert!(deaths >= 20, "only {deaths} daemons died");
}

/// The story once undisturbed, then with a death at writes of these planes, a sample of all of them.
fn die(new: fn(Crash) -> Run, planes: &[usize], check: impl Fn(&Run, &str)) -> u32 {
    let mut calm = new(Crash::Killed);
    let before = [calm.disks[A].changes(), calm.disks[B].changes()];
    calm = calm.play(None);
    calm.check("undisturbed");
    calm.check_log("undisturbed");
    assert_eq!(kit::last(&calm.planes, A).unwrap().outcome, Some(Outcome::Moved));
    assert!(calm.accepted().len() >= 4);
    let writes = [A, B].map(|plane| calm.disks[plane].changes() - before[plane]);
    let sampled = if std::env::var_os("EMBOT_EVERY_WRITE").is_some() { 1 } else { 20 };
    let mut deaths = 0;
    check(&calm, "undisturbed");
    for plane in planes.iter().copied() {
        let stride = if sampled == 1 { 1 } else { (writes[plane] / sampled).max(1) };
        for at in (writes[plane] % stride..writes[plane]).step_by(stride as usize) {
            for crash in [Crash::Killed, Crash::PowerLoss { seed: at }] {
                let context = format!("plane {plane} died at write {at} of {} ({crash:?})", writes[plane]);
                let mut run = new(crash).play(Some((plane, at)));
                run.check(&context);
                run.check_log(&context);
                check(&run, &context);
                deaths += run.deaths;
            }
        }
    }
    deaths
}

#[test]
fn a_cut_link_delays_a_handover_and_spoils_nothing() {
    for cut_at in (0..3_000).step_by(97) {
        let mut run = Run::new(Crash::Killed);
        let vm = kit::guest(&run.planes, "web-1");
        kit::must(&mut run.planes, A, kit::handover(vm, "b"));
        run.run_for(Span(cut_at));
        run.planes.link(A, B, false);
        run.run_for(Span::seconds(70));
        run.planes.link(A, B, true);
        let over = |planes: &Simulation, plane| kit::last(planes, plane).is_some_and(|one| one.outcome.is_some());
        let ended = run
            .planes
            .run_until(Span::minutes(20), |planes| over(planes, A) && (over(planes, B) || kit::last(planes, B).is_none()));
        assert!(
            ended.unwrap(),
            "cut at {cut_at}: {:?}\n{:?}\n{}",
            kit::last(&run.planes, A),
            kit::last(&run.planes, B),
            kit::notices(&run.planes)
        );
        run.run_for(Span::seconds(30));
        if kit::last(&run.planes, B).is_some() {
            run.check(&format!("cut at {cut_at}"));
        }
        run.check_log(&format!("cut at {cut_at}"));
        let now = run.planes.now();
        assert!(now > Timestamp(0));
    }
}
