//! What the planner decides, case by case.

use super::*;
use crate::model::{Affinity, AffinityRule, Level, Maintenance, Mark, Reason, VmState};
use crate::plan::{BalanceOptions, Rate, balance};

fn rule(kind: Affinity, hard: bool, vms: &[&str]) -> AffinityRule {
    AffinityRule { name: "rule".into(), kind, hard, vms: vms.iter().map(|vm| (*vm).to_owned()).collect() }
}

fn maintain(plane: &mut Plane, host: &str) {
    plane.world.edit_host(&host.into(), |host| host.maintenance = Maintenance::On(Timestamp(0)));
}

fn target(action: &Action) -> &str {
    action.proposal.kind.destination().unwrap().as_str()
}

#[test]
fn an_accepted_move_says_what_was_weighed() {
    let action = Plane::new().propose(migrate(1, None)).unwrap();
    assert_eq!((target(&action), action.host.clone(), action.expects), ("b", Some("a".into()), Some(VmState::Running)));
    assert_eq!((action.epoch, action.state.clone()), (1, ActionState::Planned));
    insta::assert_snapshot!(action.weighed.join("\n"));
}

#[test]
fn the_mode_is_the_smaller_one() {
    let mut plane = Plane::new();
    let advise = Terms { mode: Mode::Advise, ..terms("relieve") };
    let action = plane.propose_under(migrate(1, None), advise).unwrap();
    assert_eq!(action.mode, Mode::Advise);
    assert_eq!(action.state, ActionState::Advised { until: plane.now + Span::hours(24) });
    plane.world.edit_vm(id(2), |vm| vm.mode = Mode::Advise);
    assert_eq!(plane.propose(migrate(2, None)).unwrap().mode, Mode::Advise);
    let admin = plane.propose_under(migrate(2, None), Terms::admin("ops")).unwrap();
    assert_eq!(admin.mode, Mode::Act, "an admin needs nobody's approval");
}

#[test]
fn advice_blocks_no_deed_and_takes_no_budget_of_the_plane() {
    let mut plane = Plane::new();
    plane.guardrails.plane_rate.actions = 1;
    let advise = Terms { mode: Mode::Advise, ..terms("adviser") };
    for number in 1..=5 {
        let action = plane.propose_under(suspend(number), advise.clone()).unwrap();
        plane.open.insert(action.id, action);
    }
    assert!(plane.propose(suspend(1)).is_ok());
}

#[test]
fn the_same_advice_is_kept_fresh_and_other_advice_takes_its_place_after_a_while() {
    let mut plane = Plane::new();
    let advise = |module: &str| Terms { mode: Mode::Advise, ..terms(module) };
    let action = plane.propose_under(migrate(1, None), advise("adviser")).unwrap();
    let first = action.id;
    plane.open.insert(action.id, action);
    let said = |plane: &mut Plane, module: &str, to| {
        let plan = plane.decide(vec![(proposal(module, EventBody::Load, migrate(1, to)), advise(module))]);
        let waits: Vec<ActionId> = plan.refreshed.iter().map(|(id, _)| *id).collect();
        (plan.accepted.len(), waits, plan.refused.first().map(|refusal| refusal.guardrail.to_string()))
    };
    assert_eq!(said(&mut plane, "adviser", None), (0, vec![first], None));
    assert_eq!(said(&mut plane, "adviser", Some("b")), (0, vec![first], None));
    assert_eq!(said(&mut plane, "adviser", Some("c")), (0, vec![], Some("advised".to_owned())), "it has only just said b");
    assert_eq!(said(&mut plane, "other", Some("b")), (1, vec![], None), "each module gives its own advice");
    plane.pass(Span::minutes(2));
    assert_eq!(said(&mut plane, "adviser", Some("c")), (1, vec![], None));
}

#[test]
fn advice_uses_up_neither_rates_nor_blast_radius_before_it_is_approved() {
    let mut plane = Plane::new();
    plane.guardrails.module_rate = Rate { actions: 2, per: Span::minutes(10) };
    plane.guardrails.blast_radius = 0.3;
    let advise = || Terms { mode: Mode::Advise, ..terms("relieve") };
    let mut advice = Vec::new();
    for number in 1..=6 {
        let action = plane.propose_under(suspend(number), advise()).unwrap();
        plane.open.insert(action.id, action.clone());
        advice.push(action);
    }
    plane.propose(suspend(7)).expect("advice that waits takes nothing from what is done");
    let Plane { world, usage, guardrails, open, now, planner, .. } = &mut plane;
    let situation = Situation { world, usage, guardrails, open, now: *now };
    planner.approve(&situation, &advice[0], &"ops".into()).unwrap();
    let refusal = plane.propose(suspend(8)).unwrap_err();
    assert!(refusal.reason.contains("has used its actions"), "{}", refusal.reason);
    // ... and what was done takes nothing from what is advised.
    assert!(plane.propose_under(suspend(9), advise()).is_ok());
}

#[test]
fn a_rejection_binds_the_module_it_was_given_to_until_it_is_over_or_lifted() {
    let mut plane = Plane::new();
    let advise = |module: &str| Terms { mode: Mode::Advise, ..terms(module) };
    let reject = |plane: &mut Plane| {
        let action = plane.propose_under(migrate(1, None), advise("relieve")).unwrap();
        let (id, until) = (action.id, plane.now + Span::hours(8));
        plane.open.insert(id, action);
        plane.end(id, ActionState::Rejected { by: "ada".into(), reason: Some("a backup runs".into()), until });
        id
    };
    let rejected = reject(&mut plane);
    assert_eq!(plane.propose_under(migrate(1, None), advise("relieve")).unwrap_err().guardrail, "rejected");
    assert!(plane.propose_under(migrate(1, None), advise("other")).is_ok(), "another module");
    assert!(plane.propose_under(suspend(1), advise("relieve")).is_ok(), "another action");
    assert!(plane.propose_under(migrate(2, None), advise("relieve")).is_ok(), "another guest");
    // It outlives the daemon, and goes along with the guest, by the other plane's clock and numbers.
    let planner = Planner::from_bytes(&plane.planner.to_bytes()).unwrap();
    let standing: Vec<_> = planner.rejections(plane.now).map(|(vm, one)| (vm, one.clone())).collect();
    let [(vm, one)] = &standing[..] else { panic!("{standing:?}") };
    assert_eq!((*vm, one.action, &*one.by, one.reason.as_deref()), (id(1), rejected, "ada", Some("a backup runs")));
    let mut memory = planner.of_guest(id(1)).shifted(|at| at + Span::minutes(1));
    memory.renumber(|_| ActionId(77));
    let mut there = Planner::default();
    there.remember_guest(id(1), memory);
    let until = there.rejections(plane.now).map(|(_, one)| one.until).next();
    assert_eq!(until, Some(plane.now + Span::hours(8) + Span::minutes(1)));
    assert!(there.lift(ActionId(77), plane.now).is_some() && there.rejections(plane.now).next().is_none());
    // Lifted, it may be advised again; once.
    assert!(plane.planner.lift(rejected, plane.now).is_some());
    assert!(plane.planner.lift(rejected, plane.now).is_none());
    let again = reject(&mut plane);
    plane.pass(Span::hours(8));
    assert!(plane.planner.lift(again, plane.now).is_none(), "it is over");
    assert!(plane.propose_under(migrate(1, None), advise("relieve")).is_ok());
}

#[test]
fn an_approved_action_is_planned_as_things_are_now() {
    let mut plane = Plane::new();
    plane.world.edit_vm(id(1), |vm| vm.mode = Mode::Advise);
    let advice = plane.propose(suspend(1)).unwrap();
    plane.world.edit_vm(id(1), |vm| vm.mark = Some(Mark { plane: "home".into(), epoch: 7 }));
    let Plane { world, usage, guardrails, open, now, planner, .. } = &mut plane;
    let situation = Situation { world, usage, guardrails, open, now: *now };
    let approved = planner.approve(&situation, &advice, &"ops".into()).unwrap();
    assert_eq!((approved.id, approved.epoch, approved.state), (advice.id, 7, ActionState::Planned));
    assert_eq!(approved.approved_by.as_deref(), Some("ops"));
}

#[test]
fn admins_are_bound_by_safety_not_by_pace() {
    let mut plane = Plane::new();
    plane.guardrails.module_rate.actions = 0;
    plane.guardrails.hold = Span::hours(1);
    plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 1.0);
    let action = plane.propose_under(migrate(1, Some("b")), Terms::admin("ops")).unwrap();
    plane.open.insert(action.id, action.clone());
    plane.end(action.id, ActionState::Done);
    assert!(plane.propose_under(migrate(1, Some("c")), Terms::admin("ops")).is_ok(), "no cool-down, no gain");
}

#[test]
fn urgent_proposals_come_first() {
    let mut plane = Plane::new();
    let load = proposal("relieve", EventBody::Load, suspend(1));
    let fault = proposal("guard", EventBody::Watchdog { action: "none".into() }, ActionKind::Reset { vm: id(1) });
    let plan = plane.decide(vec![(load, terms("relieve")), (fault, terms("guard"))]);
    assert_eq!(plan.accepted[0].proposal.kind, ActionKind::Reset { vm: id(1) });
    assert_eq!(plan.refused[0].guardrail, "conflict");
}

#[test]
fn an_action_carries_what_its_step_did_not_get() {
    let mut plane = Plane::new();
    let wants = |kind| (proposal("relieve", EventBody::Load, kind), terms("relieve"));
    let plan = plane.decide(vec![wants(suspend(1)), wants(ActionKind::Start { vm: id(2) })]);
    assert_eq!(plan.accepted[0].refused, plan.refused);
}

#[test]
fn a_hold_lasts_while_the_condition_does() {
    let mut plane = Plane::new();
    plane.guardrails.hold = Span::seconds(30);
    let wish = proposal("relieve", EventBody::Load, migrate(1, None));
    let (embot, event) = (wish.embot.clone().unwrap(), wish.cause.clone().unwrap());
    assert!(plane.propose(migrate(1, None)).is_err());
    plane.pass(Span::seconds(20));
    plane.planner.considered(&embot, &event, []);
    assert_eq!(plane.propose(migrate(1, None)).unwrap_err().guardrail, "hold");
    plane.pass(Span::seconds(20));
    plane.planner.considered(&embot, &event, [&migrate(2, None)]);
    assert_eq!(plane.propose(migrate(1, None)).unwrap_err().guardrail, "hold", "begun anew after the gap");
    plane.pass(Span::seconds(10));
    plane.planner = Planner::from_bytes(&plane.planner.to_bytes()).unwrap();
    assert!(plane.propose(migrate(2, None)).is_ok(), "which guest the script picks is not the condition");
}

#[test]
fn a_guest_that_died_may_be_started_again_at_once() {
    let mut plane = Plane::new();
    let action = plane.start(suspend(1));
    plane.end(action, ActionState::Done);
    plane.world.edit_vm(id(1), |vm| (vm.state, vm.reason) = (VmState::Crashed, Reason::Crashed));
    assert!(plane.propose(ActionKind::Start { vm: id(1) }).is_ok());
    plane.world.edit_vm(id(1), |vm| (vm.state, vm.reason) = (VmState::Off, Reason::Shutdown));
    assert_eq!(plane.propose(ActionKind::Start { vm: id(1) }).unwrap_err().guardrail, "cooldown");
}

#[test]
fn a_moved_guest_is_no_guest_in_flight() {
    let mut plane = Plane::new();
    plane.world.edit_vm(id(1), |vm| vm.reason = Reason::Migration);
    assert!(plane.propose(migrate(1, None)).is_ok());
}

#[test]
fn moves_under_way_count_at_both_ends() {
    let mut plane = Plane::new();
    plane.guardrails.blast_radius = 1.0;
    plane.guardrails.migrations_per_host = 10;
    plane.world.edit_host(&"c".into(), |host| host.capacity.memory_mib = 4_600);
    let free = || Terms { limits: Limits { minimum_gain: Some(0.0), ..Limits::default() }, ..terms("free") };
    for number in [1, 2] {
        let action = plane.propose_under(migrate(number, Some("c")), free()).unwrap();
        plane.open.insert(action.id, action);
    }
    assert_eq!(plane.propose_under(migrate(3, Some("c")), free()).unwrap_err().guardrail, "capacity");
    // Also within one batch.
    let mut plane = Plane::new();
    plane.guardrails.blast_radius = 1.0;
    plane.world.edit_host(&"c".into(), |host| host.capacity.memory_mib = 2_600);
    let wish = |number| (proposal("free", EventBody::Load, migrate(number, Some("c"))), free());
    let plan = plane.decide(vec![wish(1), wish(2)]);
    assert_eq!((plan.accepted.len(), &*plan.refused[0].guardrail), (1, "capacity"));
}

#[test]
fn a_guest_that_is_being_started_has_its_room() {
    let mut plane = Plane::new();
    for number in [1, 2] {
        plane.world.edit_vm(id(number), |vm| vm.state = VmState::Off);
    }
    plane.world.edit_host(&"a".into(), |host| host.capacity.memory_mib = 21_000);
    plane.start(ActionKind::Start { vm: id(1) });
    assert_eq!(plane.propose(ActionKind::Start { vm: id(2) }).unwrap_err().guardrail, "capacity");
}

#[test]
fn two_moves_do_not_overshoot() {
    let mut plane = Plane::new();
    plane.guardrails.blast_radius = 1.0;
    plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 5.6);
    plane.start(migrate(1, None));
    let refusal = plane.propose(migrate(3, None)).unwrap_err();
    assert_eq!(refusal.guardrail, "placement", "after the first move the source will be cool: {}", refusal.reason);
}

#[test]
fn a_peak_alone_moves_nothing() {
    let mut plane = Plane::new();
    for second in 1..=300 {
        let at = Timestamp(plane.now.0 - 300_000 + second * 1_000);
        plane.world.sample_host(&"a".into(), |host| {
            host.load.cpu_cores = if second == 300 { 7.9 } else { 2.0 };
            host.load_at = at;
        });
        plane.usage.record_host(plane.world.host(&"a".into()).unwrap());
    }
    assert_eq!(plane.propose(migrate(1, Some("b"))).unwrap_err().guardrail, "target_cpu");
}

#[test]
fn placement_prefers_cool_near_and_unruled_hosts() {
    let mut plane = Plane::new();
    plane.world.sample_host(&"c".into(), |host| host.load.cpu_cores = 1.0);
    assert_eq!(target(&plane.propose(migrate(1, None)).unwrap()), "c");

    let mut plane = Plane::new();
    plane.world.put_vm(vm(20, "db", "b"));
    plane.world.set_rules(vec![rule(Affinity::Apart, false, &["web-1", "db"])]);
    assert_eq!(target(&plane.propose(migrate(1, None)).unwrap()), "c", "a soft rule");

    let mut plane = Plane::new();
    plane.world.edit_host(&"a".into(), |host| host.site = "north".into());
    plane.world.edit_host(&"b".into(), |host| host.site = "south".into());
    plane.world.edit_host(&"c".into(), |host| host.site = "north".into());
    assert_eq!(target(&plane.propose(migrate(1, None)).unwrap()), "c", "the same site");
}

#[test]
fn a_move_that_mends_a_rule_need_not_pay() {
    let mut plane = Plane::new();
    plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 1.0);
    assert_eq!(plane.propose(migrate(1, None)).unwrap_err().guardrail, "placement");
    plane.world.set_rules(vec![rule(Affinity::Apart, true, &["web-1", "web-2"])]);
    assert!(plane.propose(migrate(1, None)).is_ok());
}

#[test]
fn a_host_in_maintenance_empties_at_its_own_pace() {
    let mut plane = Plane::new();
    plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 1.0);
    plane.world.set_rules(vec![rule(Affinity::Together, true, &["web-1", "web-2", "web-3"])]);
    maintain(&mut plane, "a");
    let mut home = None;
    for number in 1..=10 {
        let action = plane.start(migrate(number, None));
        let to = target(&plane.open[&action]).to_owned();
        if number <= 3 {
            assert_eq!(home.get_or_insert(to.clone()), &to, "guests that belong together follow each other");
        }
        plane.end(action, ActionState::Done);
    }
    assert_eq!(plane.world.vms_on(&"a".into()).count(), 0);
}

#[test]
fn a_notice_needs_no_approval_and_works_disarmed() {
    let mut plane = Plane::new();
    plane.world.armed = false;
    let notify = ActionKind::Notify { level: Level::Alarm, text: "hot".into() };
    let action = plane.propose_under(notify, Terms { mode: Mode::Advise, ..terms("relieve") }).unwrap();
    assert_eq!((action.state, action.host), (ActionState::Planned, None));
    plane.world.armed = true;
    assert!(plane.propose(suspend(1)).is_ok());
}

#[test]
fn guests_that_are_new_can_be_defined_and_adopted() {
    let mut plane = Plane::new();
    let define = ActionKind::Define { vm: id(50), host: "b".into(), xml: "<domain/>".into() };
    let action = plane.propose_under(define, Terms::admin("ops")).unwrap();
    assert_eq!((action.host, action.expects, action.epoch), (Some("b".into()), None, 1));
    plane.world.edit_vm(id(1), |vm| (vm.mark, vm.mode) = (None, Mode::Observe));
    assert_eq!(plane.propose_under(ActionKind::Adopt { vm: id(1) }, Terms::admin("ops")).unwrap().epoch, 1);
}

#[test]
fn an_off_guest_moves_cold_without_taking_room() {
    let mut plane = Plane::new();
    plane.world.edit_vm(id(1), |vm| vm.state = VmState::Off);
    plane.world.edit_host(&"b".into(), |host| host.capacity.memory_mib = 1);
    assert!(plane.propose(ActionKind::Migrate { vm: id(1), to: Some("b".into()), live: false }).is_ok());
}

#[test]
fn bytes_of_another_version_or_none_at_all() {
    assert!(Planner::from_bytes(&[]).is_ok());
    assert_eq!(Planner::from_bytes(&[9, 1]).unwrap_err(), crate::plan::PlannerError::Version(9));
    assert!(matches!(Planner::from_bytes(&[2, 255]).unwrap_err(), crate::plan::PlannerError::Damaged(_)));
}

#[test]
fn changes_are_reported_once() {
    let mut plane = Plane::new();
    assert!(plane.propose(ActionKind::Start { vm: id(1) }).is_err());
    assert!(!plane.planner.take_changed(), "a refusal leaves no trace");
    plane.start(suspend(1));
    assert!(plane.planner.take_changed());
    assert!(!plane.planner.take_changed());
}

#[test]
fn a_balancing_plan_evacuates_mends_and_relieves() {
    let mut plane = Plane::new();
    for (number, host) in [(30, "d"), (31, "e"), (32, "e")] {
        plane.world.put_host(crate::model::testing::host(host));
        let mut guest = vm(number, &format!("db-{number}"), host);
        guest.load.cpu_cores = Some(0.2);
        plane.world.put_vm(guest);
    }
    maintain(&mut plane, "d");
    plane.world.set_rules(vec![rule(Affinity::Apart, true, &["db-*"])]);
    let Plane { world, usage, guardrails, open, now, .. } = &plane;
    let plan = balance(&Situation { world, usage, guardrails, open, now: *now }, &BalanceOptions::default());
    let moves: Vec<String> = plan
        .moves
        .iter()
        .map(|each| format!("{} {} -> {}: {}", world.vm(each.vm).unwrap().name, each.source, each.target, each.reason))
        .collect();
    insta::assert_snapshot!(moves.join("\n"));
    assert_eq!(plan.left, Vec::<String>::new());
}
