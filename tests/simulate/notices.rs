//! What the plane tells admins by itself: that advice waits, and troubles that nobody takes care of.

use crate::advice::REST;
use crate::kit::{self, Kept, load, must};
use embot::hypervisor::simulated::{Fault, Mishap, Trouble};
use embot::model::{ActionKind, Command, Level, Mode, Record, Span};

/// What was told so loud or louder.
fn told(kept: &Kept, least: Level) -> Vec<String> {
    let journal = kept.simulation.plane(0).store().unwrap().journal();
    let records = journal.batches(0).flat_map(|batch| batch.unwrap().records);
    let text = records.filter_map(|record| match record {
        Record::Notice { level, text } if level >= least => Some(text),
        _ => None,
    });
    text.collect()
}

fn begin() -> Kept {
    let mut kept = Kept::new();
    kept.simulation.run_for(Span::seconds(6)).unwrap();
    kept
}

fn fail(kept: &mut Kept, fault: Fault) {
    let now = kept.simulation.now();
    kept.simulation.fleet_mut().inject(&fault, now);
    kept.simulation.run_for(Span::seconds(20)).unwrap();
}

fn crash(kept: &mut Kept) {
    let vm = kept.simulation.fleet().guest_named("guest-1").unwrap().id;
    fail(kept, Fault::Guest { vm, mishap: Mishap::Crashes });
}

#[test]
fn admins_hear_once_that_advice_waits_and_how_to_answer() {
    let mut kept = begin();
    must(&mut kept.simulation, load("rest", "[suspend]", "fn on_load(vm) { if vm.running { vm.suspend(\"rest\"); } }"));
    kept.simulation.run_for(Span::minutes(5)).unwrap();
    let open: Vec<_> = kept.simulation.manager(0).open().map(|action| action.id).collect();
    assert_eq!(open.len(), 4);
    let [first] = &told(&kept, Level::Warning)[..] else { panic!("{:?}", told(&kept, Level::Warning)) };
    assert!(first.starts_with("4 actions wait for your approval: "), "{first}");
    assert!(first.contains(&format!("{} suspend guest-", open[0])) && first.contains("(rest: rest)"), "{first}");
    assert!(first.contains(&format!("`embot plan approve {0}` or `embot plan reject {0}`", open[0])), "{first}");
    // What comes next is told when some time has passed; what was answered meanwhile is not told.
    must(&mut kept.simulation, load("nap", "[suspend]", REST));
    kept.simulation.run_for(Span::minutes(9)).unwrap();
    assert_eq!(told(&kept, Level::Warning).len(), 1);
    kept.simulation.run_for(Span::minutes(3)).unwrap();
    assert!(told(&kept, Level::Warning)[1..].iter().all(|text| text.starts_with("an action waits")));
    assert_eq!(told(&kept, Level::Warning).len(), 2);
    kept.simulation.run_for(Span::minutes(60)).unwrap();
    assert_eq!(told(&kept, Level::Warning).len(), 2, "said again, it is the same advice");
    let mut kept = begin();
    must(&mut kept.simulation, load("rest", "[suspend]", REST));
    kept.simulation.run_for(Span::seconds(10)).unwrap();
    let id = kept.simulation.manager(0).open().next().unwrap().id;
    must(&mut kept.simulation, Command::Reject { action: id, reason: None, rest: None });
    kept.simulation.run_for(Span::minutes(5)).unwrap();
    assert_eq!(told(&kept, Level::Warning), [""; 0]);
}

#[test]
fn a_crash_is_told_where_nobody_who_acts_takes_care_of_it() {
    for (mode, is_told) in [(None, true), (Some(Mode::Observe), true), (Some(Mode::Advise), true), (Some(Mode::Act), false)] {
        let mut kept = begin();
        if let Some(mode) = mode {
            must(&mut kept.simulation, kit::shipped("restart-crashed"));
            must(&mut kept.simulation, Command::ModuleMode { module: "restart-crashed".into(), mode });
        }
        crash(&mut kept);
        let alarms = told(&kept, Level::Alarm);
        assert_eq!(alarms.len(), usize::from(is_told), "{mode:?}: {alarms:?}");
        if let Some(alarm) = alarms.first() {
            assert!(alarm.starts_with("guest guest-1 on host-1 crashed; no module that acts takes care of it"), "{alarm}");
        }
    }
    // A guest that crashes again and again is told now and then.
    let mut kept = begin();
    for _ in 0..10 {
        crash(&mut kept);
        let vm = kept.simulation.fleet().guest_named("guest-1").unwrap().id;
        must(&mut kept.simulation, Command::Act { kind: ActionKind::Start { vm }, reason: "test".into() });
        kept.simulation.run_for(Span::minutes(1)).unwrap();
    }
    assert_eq!(told(&kept, Level::Alarm).len(), 1);
}

#[test]
fn a_host_that_is_lost_is_told_with_what_is_on_it() {
    let mut kept = begin();
    fail(&mut kept, Fault::Host { host: "host-1".into(), trouble: Trouble::Lost, lasts: Span::minutes(2) });
    let alarms = told(&kept, Level::Alarm);
    let [alarm] = &alarms[..] else { panic!("{alarms:?}") };
    assert!(alarm.starts_with("host host-1 with 2 guests does not answer ("), "{alarm}");
}
