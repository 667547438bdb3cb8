//! Advice from its beginning to its end: said again, changed, withdrawn, rejected, approved.

use crate::kit::{self, Kept, Plane, act, load, must, refused};
use embot::hypervisor::simulated::{Fault, FleetPlan, Mishap};
use embot::model::{ActionId, ActionKind, ActionState, Command, Mode, Span, VmId};
use embot::plan::Guardrails;
use embot::simulate::Simulation;

#[test]
fn advice_waits_for_an_admin_and_is_checked_again() {
    let mut simulation = Plane::default().over(&kit::four_guests());
    simulation.run_for(Span::seconds(6)).unwrap();
    let policy = "fn on_load(vm) { if vm.name == \"guest-1\" && vm.running { vm.suspend(\"it should rest\"); } }";
    must(&mut simulation, load("rest", "[suspend]", policy));
    simulation.run_for(Span::seconds(10)).unwrap();
    let advice: Vec<_> = simulation.manager(0).open().map(|action| (action.id, action.state.clone())).collect();
    let [(id, ActionState::Advised { .. })] = advice[..] else { panic!("one advice, not {advice:?}") };

    must(&mut simulation, Command::Disarm { cancel: false });
    assert!(refused(&mut simulation, Command::Approve { action: id, reason: None }).contains("kill switch"));
    must(&mut simulation, Command::Arm);
    must(&mut simulation, Command::Approve { action: id, reason: None });
    simulation.run_for(Span::seconds(5)).unwrap();
    let action = simulation.manager(0).action(id).unwrap();
    assert_eq!((&action.state, action.approved_by.as_deref()), (&ActionState::Done, Some("admin")));
    assert!(refused(&mut simulation, Command::Approve { action: id, reason: None }).contains("done"));
}

#[test]
fn who_rejects_says_why_and_for_how_long() {
    let (mut simulation, id) = advised();
    let reason = Some("a backup runs".into());
    must(&mut simulation, Command::Reject { action: id, reason, rest: Some(Span::minutes(20)) });
    let action = simulation.manager(0).action(id).unwrap();
    let ActionState::Rejected { by, reason: Some(reason), .. } = &action.state else { panic!("{:?}", action.state) };
    assert_eq!((&**by, &**reason), ("admin", "a backup runs"));
    let open = |simulation: &Simulation| simulation.manager(0).open().count();
    simulation.run_for(Span::minutes(19)).unwrap();
    assert_eq!(open(&simulation), 0, "advised again too soon");
    let why = simulation.manager(0).refusals().last().unwrap().refusal.reason.clone();
    assert!(why.contains("because a backup runs") && why.contains("may advise it again in"), "{why}");
    assert!(why.ends_with(&format!("`embot plan lift {id}`")), "{why}");
    simulation.run_for(Span::minutes(2)).unwrap();
    assert_eq!(open(&simulation), 1, "the module says it still");
}

#[test]
fn advice_that_is_given_again_has_the_reason_of_today() {
    let guardrails = Guardrails { advice_expires: Span::minutes(1), ..Guardrails::default() };
    let mut simulation = Plane { guardrails, ..Plane::default() }.over(&kit::four_guests());
    simulation.run_for(Span::seconds(6)).unwrap();
    let policy =
        REST.replace("vm.suspend(\"it should rest\")", "this.n = this.get(\"n\", 0) + 1; vm.suspend(`said ${this.n} times`)");
    must(&mut simulation, load("rest", "[suspend]", &policy));
    let said = |simulation: &Simulation| {
        let action = simulation.manager(0).open().next().expect("advice").clone();
        let times = action.proposal.reason.split(' ').nth(1).and_then(|n| n.parse::<u32>().ok()).expect("a number");
        (action.id, times)
    };
    simulation.run_for(Span::seconds(10)).unwrap();
    let (first, few) = said(&simulation);
    simulation.run_for(Span::minutes(10)).unwrap();
    let (last, many) = said(&simulation);
    assert_eq!(first, last, "it is the same advice");
    assert!(many > few + 10, "said {few} times, then {many}");
}

/// Advises one guest to rest, with every sample.
pub const REST: &str = "fn on_load(vm) { if vm.name == \"guest-1\" && vm.running { vm.suspend(\"it should rest\"); } }";

/// A plane with one advice, given again with every sample, and what a minute of silence makes of it.
fn advised() -> (Simulation, ActionId) {
    let guardrails = Guardrails { advice_expires: Span::minutes(1), ..Guardrails::default() };
    let mut simulation = Plane { guardrails, ..Plane::default() }.over(&kit::four_guests());
    simulation.run_for(Span::seconds(6)).unwrap();
    must(&mut simulation, load("rest", "[suspend]", REST));
    simulation.run_for(Span::minutes(10)).unwrap();
    let advice: Vec<_> = simulation.manager(0).open().map(|action| (action.id, action.state.word())).collect();
    let [(id, "advised")] = advice[..] else { panic!("one advice, not {advice:?}") };
    assert_eq!(simulation.manager(0).refusals().count(), 0, "to say it again is no mistake");
    (simulation, id)
}

fn crash(simulation: &mut Simulation, vm: VmId) {
    let now = simulation.now();
    simulation.fleet_mut().inject(&Fault::Guest { vm, mishap: Mishap::Crashes }, now);
}

fn withdrawn(simulation: &Simulation, id: ActionId) -> String {
    match &simulation.manager(0).action(id).unwrap().state {
        ActionState::Withdrawn { why } => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn advice_stays_while_it_is_given_and_goes_with_its_ground() {
    let (mut simulation, id) = advised();
    must(&mut simulation, Command::UnloadModule { module: "rest".into() });
    assert_eq!(withdrawn(&simulation, id), "module rest is no longer in force");

    let (mut simulation, id) = advised();
    must(&mut simulation, Command::ModuleMode { module: "rest".into(), mode: Mode::Observe });
    assert_eq!(withdrawn(&simulation, id), "module rest only observes now");

    let (mut simulation, id) = advised();
    let vm = simulation.fleet().guest_named("guest-1").unwrap().id;
    must(&mut simulation, Command::Manage { vms: vec![vm], mode: Mode::Observe });
    assert_eq!(withdrawn(&simulation, id), "guest-1 is only observed now");

    // There is nothing left to do.
    let (mut simulation, id) = advised();
    let vm = simulation.fleet().guest_named("guest-1").unwrap().id;
    crash(&mut simulation, vm);
    simulation.run_for(Span::seconds(10)).unwrap();
    assert!(withdrawn(&simulation, id).starts_with("guest-1 is "), "{}", withdrawn(&simulation, id));
}

#[test]
fn what_is_done_to_a_guest_supersedes_what_is_advised_for_it() {
    let (mut simulation, id) = advised();
    let other = load("act", "[migrate]", "fn on_load(vm) { if vm.name == \"guest-1\" { vm.migrate(\"away\"); } }");
    act(&mut simulation, other);
    must(&mut simulation, Command::ModuleMode { module: "rest".into(), mode: Mode::Advise });
    let kind = ActionKind::Migrate {
        vm: simulation.fleet().guest_named("guest-1").unwrap().id,
        to: Some("host-2".into()),
        live: true,
    };
    must(&mut simulation, Command::Act { kind, reason: "test".into() });
    assert!(withdrawn(&simulation, id).ends_with("(migrate) is carried out instead"));
}

/// Guests of which the first is busy at times; what comes again comes to one host after the other.
fn busy_at_times(heats: &str) -> FleetPlan {
    kit::fleet(&format!(
        "
hosts: [{{ name: 'host-{{n}}', count: 2, cpus: 8, memory_mib: 16384 }}]
guests: [{{ name: 'guest-{{n}}', count: 4, vcpus: 2, memory_mib: 1024, load: {{ cpu: 0.3, memory: 0.5 }} }}]
heats: [{{ {heats}, guests: [guest-1], cpu: 1.0 }}]
"
    ))
}

/// Advises on samples, while the guest is busy.
const BUSY: &str = "fn on_load(vm) { if vm.cpu > 0.8 { vm.suspend(`it is at ${percent(vm.cpu)}`); } }";

/// All that was ever advised: number, state.
fn all(simulation: &Simulation) -> Vec<(ActionId, &'static str)> {
    let of_module = simulation.manager(0).actions().filter(|action| action.proposal.embot.is_some());
    of_module.map(|action| (action.id, action.state.word())).collect()
}

#[test]
fn advice_on_a_sample_is_withdrawn_when_later_samples_no_longer_lead_to_it() {
    let mut simulation = Plane::default().over(&busy_at_times("at: 20s, for: 60s"));
    must(&mut simulation, load("rest", "[suspend]", BUSY));
    assert!(simulation.run_until(Span::seconds(60), |simulation| !all(simulation).is_empty()).unwrap());
    let [(id, "advised")] = all(&simulation)[..] else { panic!("{:?}", all(&simulation)) };
    // The last busy sample is from the 80th second at the latest.
    while simulation.now().0 < (80 + 300) * 1_000 - 10_000 {
        simulation.run_for(Span::seconds(5)).unwrap();
        assert_eq!(all(&simulation), [(id, "advised")], "at {:?}", simulation.now());
    }
    simulation.run_for(Span::seconds(30)).unwrap();
    let why = withdrawn(&simulation, id);
    assert!(why.starts_with("module rest has not advised it for 5m") && why.ends_with("what led to it is over"), "{why}");
    assert!(refused(&mut simulation, Command::Approve { action: id, reason: None }).contains("withdrawn"));
    let journal = String::from_utf8_lossy(simulation.plane(0).journal()).into_owned();
    assert!(journal.contains("has not advised it for 5m"), "it stands in the journal");
}

#[test]
fn advice_does_not_blink_where_a_value_flutters_about_its_threshold() {
    let mut simulation = Plane::default().over(&busy_at_times("at: 20s, every: 2m, for: 20s"));
    must(&mut simulation, load("rest", "[suspend]", BUSY));
    simulation.run_for(Span::minutes(60)).unwrap();
    let states: Vec<&str> = all(&simulation).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["advised"]);
}

#[test]
fn advice_on_a_fact_stays_whatever_samples_say() {
    let mut simulation = Plane::default().over(&kit::four_guests());
    simulation.run_for(Span::seconds(6)).unwrap();
    let policy = "fn on_crashed(vm) { vm.start(\"it crashed\"); } fn on_load() { this.n = this.get(\"n\", 0) + 1; }";
    must(&mut simulation, load("start", "[start]", policy));
    let vm = simulation.fleet().guest_named("guest-1").unwrap().id;
    crash(&mut simulation, vm);
    simulation.run_for(Span::minutes(60)).unwrap();
    let [(id, "advised")] = all(&simulation)[..] else { panic!("{:?}", all(&simulation)) };
    must(&mut simulation, Command::Act { kind: ActionKind::Start { vm }, reason: "by hand".into() });
    assert!(withdrawn(&simulation, id).ends_with("(start) is carried out instead"));
}

#[test]
fn what_maintenance_led_to_goes_with_it() {
    let mut simulation = Plane::default().over(&kit::four_guests());
    simulation.run_for(Span::seconds(6)).unwrap();
    must(&mut simulation, kit::shipped("evacuate-maintenance"));
    must(&mut simulation, Command::ModuleMode { module: "evacuate-maintenance".into(), mode: Mode::Advise });
    let maintenance = |simulation: &mut Simulation, host: &str, on: bool| {
        must(simulation, Command::Maintenance { host: host.into(), on });
    };
    maintenance(&mut simulation, "host-1", true);
    simulation.run_for(Span::minutes(10)).unwrap();
    let states: Vec<&str> = all(&simulation).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["advised"; 2], "one for each guest there");
    let first = all(&simulation)[0].0;
    maintenance(&mut simulation, "host-1", false);
    assert_eq!(withdrawn(&simulation, first), "host-1 is no longer in maintenance");
    assert_eq!(simulation.manager(0).open().count(), 0);
    // Who was to come to a host that is in maintenance now stays where it is.
    simulation.run_for(Span::minutes(10)).unwrap();
    let there = "fn on_load(vm) { if vm.host.name != \"host-2\" { vm.migrate_to(\"host-2\", \"there\"); } }";
    let manifest = format!("{}limits: {{ minimum_gain: 0 }}\n", kit::manifest("there", "[migrate]"));
    must(&mut simulation, kit::module(&manifest, &[("there.rhai", there)]));
    simulation.run_for(Span::seconds(10)).unwrap();
    let open: Vec<ActionId> = simulation.manager(0).open().map(|action| action.id).collect();
    assert_eq!(open.len(), 2, "{:?}", simulation.manager(0).refusals().last());
    maintenance(&mut simulation, "host-2", true);
    assert_eq!(withdrawn(&simulation, open[0]), "host-2 is in maintenance");
}

#[test]
fn advice_outlives_the_daemon_and_goes_when_its_ground_has() {
    let mut kept = Kept::new();
    kept.simulation.run_for(Span::seconds(6)).unwrap();
    let policy = "fn on_load(vm) { if vm.name == \"guest-1\" && vm.label(\"calm\") == \"\" { vm.suspend(\"rest\"); } }";
    must(&mut kept.simulation, load("rest", "[suspend]", policy));
    kept.simulation.run_for(Span::minutes(1)).unwrap();
    let [(id, "advised")] = all(&kept.simulation)[..] else { panic!("{:?}", all(&kept.simulation)) };
    must(&mut kept.simulation, load("rest", "[suspend]", "fn on_load(vm) { this.n = 1; }"));
    kept.simulation.run_for(Span::minutes(4)).unwrap();
    kept.restart();
    kept.simulation.run_for(Span::minutes(4)).unwrap();
    assert_eq!(all(&kept.simulation), [(id, "advised")], "its patience begins anew");
    kept.simulation.run_for(Span::minutes(2)).unwrap();
    assert!(withdrawn(&kept.simulation, id).contains("what led to it is over"));
    kept.restart();
    assert_eq!(all(&kept.simulation), [(id, "withdrawn")]);
}

#[test]
fn a_rejection_binds_one_module_and_can_be_lifted() {
    let mut kept = Kept::new();
    kept.simulation.run_for(Span::seconds(6)).unwrap();
    must(&mut kept.simulation, load("rest", "[suspend]", REST));
    kept.simulation.run_for(Span::seconds(20)).unwrap();
    must(&mut kept.simulation, load("nap", "[suspend]", REST));
    kept.simulation.run_for(Span::seconds(20)).unwrap();
    let open = |kept: &Kept| {
        let modules =
            kept.simulation.manager(0).open().filter_map(|action| Some(action.proposal.embot.as_ref()?.module.to_string()));
        modules.collect::<Vec<_>>()
    };
    // What one module advises another may advise as well.
    assert_eq!(open(&kept), ["rest", "nap"]);
    let id = kept.simulation.manager(0).open().next().unwrap().id;
    let reason = Some("a backup runs".into());
    must(&mut kept.simulation, Command::Reject { action: id, reason, rest: Some(Span::hours(24 * 7)) });
    kept.restart();
    kept.simulation.run_for(Span::minutes(2)).unwrap();
    assert_eq!(open(&kept), ["nap"]);
    let standing = embot::api::actions::rejections(kept.simulation.manager(0));
    let [one] = &standing[..] else { panic!("{standing:?}") };
    assert_eq!((one.action, &*one.module, &*one.verb, &*one.vm_name), (id.0, "rest", "suspend", "guest-1"));
    assert_eq!((&*one.by, one.reason.as_deref()), ("admin", Some("a backup runs")));
    let lift = || Command::Lift { action: id, reason: None };
    let said = must(&mut kept.simulation, lift());
    assert_eq!(said, format!("the rejection of action {id} is lifted: module rest may advise to suspend guest-1 again"));
    assert!(refused(&mut kept.simulation, lift()).contains("`embot plan rejections`"));
    kept.simulation.run_for(Span::seconds(10)).unwrap();
    assert_eq!(open(&kept), ["nap", "rest"]);
    // Who lifted it stands in the audit.
    let audit = kept.simulation.plane(0).store().unwrap().audit();
    let mut lines = Vec::new();
    audit
        .lines(&mut |line| {
            lines.push(line.to_owned());
            true
        })
        .unwrap();
    assert!(lines.iter().any(|line| line.contains("\"lift\"")), "{lines:?}");
}
