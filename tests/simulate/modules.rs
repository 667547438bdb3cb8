//! Modules while the plane runs: taken over, kept when broken, rolled back, suspended; advice and the kill switch.

use crate::kit::{self, Plane, act, module, must};
use embot::hypervisor::simulated::FleetPlan;
use embot::model::{ActionState, Command, HostId, Mode, Reply, Span, Verb};
use embot::simulate::Simulation;
use std::sync::Arc;

const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 2, cpus: 8, memory_mib: 16384 }]
guests: [{ name: 'guest-{n}', count: 4, vcpus: 2, memory_mib: 1024, load: { cpu: 0.3, memory: 0.5 } }]
";

fn fleet() -> FleetPlan {
    kit::fleet(FLEET)
}

fn manifest(name: &str, permits: &str) -> String {
    format!("module: {name}\nversion: '1'\npolicies: [{name}.rhai]\ncovers: {{ each: vm }}\npermits: {permits}\n")
}

fn state(simulation: &Simulation, module: &str) -> Vec<String> {
    let embots = simulation.manager().embots(Some(module));
    embots.iter().flat_map(|embot| embot.state.values().map(|state| state.to_json().to_string())).collect()
}

fn load(name: &str, permits: &str, policy: &str) -> Command {
    module(&manifest(name, permits), &[(&format!("{name}.rhai"), policy)])
}

fn refused(simulation: &mut Simulation, command: Command) -> String {
    match simulation.command(command).expect("no store, no error") {
        Some(Reply::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_policy_goes_on_with_the_state_and_a_broken_one_changes_nothing() {
    let mut simulation = Plane::default().over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    act(&mut simulation, load("count", "[]", "fn on_load() { this.n = this.get(\"n\", 0) + 1; }"));
    simulation.run_for(Span::seconds(10)).unwrap();
    assert_eq!(state(&simulation, "count"), [r#"{"n":2}"#; 4]);

    must(&mut simulation, load("count", "[]", "fn on_load() { this.n = this.get(\"n\", 0) + 100; }"));
    simulation.run_for(Span::seconds(5)).unwrap();
    assert_eq!(state(&simulation, "count"), [r#"{"n":102}"#; 4], "the new version starts from the old one's state");

    let reason = refused(&mut simulation, load("count", "[]", "fn on_load() { this.n = nonsense(); }"));
    assert!(reason.contains("count.rhai:1") && reason.contains("nonsense"), "{reason}");
    simulation.run_for(Span::seconds(5)).unwrap();
    assert_eq!(state(&simulation, "count"), [r#"{"n":202}"#; 4], "the last good version stays");

    must(&mut simulation, Command::RollBack { module: "count".into() });
    simulation.run_for(Span::seconds(5)).unwrap();
    assert_eq!(state(&simulation, "count"), [r#"{"n":203}"#; 4], "the version before, with the state of now");
    assert!(refused(&mut simulation, Command::RollBack { module: "count".into() }).contains("no version before"));
}

#[test]
fn the_third_fault_suspends_one_embot_and_nobody_else() {
    let mut simulation = Plane::default().over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    let policy = "fn on_load(vm) { this.n = this.get(\"n\", 0) + 1; if vm.name == \"guest-1\" && this.n > 1 { loop { } } }";
    act(&mut simulation, load("loops", "[]", policy));
    act(&mut simulation, load("good", "[]", "fn on_load() { this.n = this.get(\"n\", 0) + 1; }"));
    simulation.run_for(Span::seconds(60)).unwrap();
    let embots = simulation.manager().embots(Some("loops"));
    let suspended: Vec<_> =
        embots.iter().filter(|embot| embot.suspended.is_some()).map(|embot| embot.element.as_str()).collect();
    assert_eq!(suspended, ["guest-1"]);
    let sick = embots.iter().find(|embot| embot.element == "guest-1").unwrap();
    assert_eq!((sick.faults, sick.state.values().next().unwrap().to_json().to_string()), (3, r#"{"n":1}"#.to_owned()));
    assert!(sick.suspended.as_ref().unwrap().contains("loops.rhai:1"), "{:?}", sick.suspended);
    assert_eq!(state(&simulation, "good"), [r#"{"n":12}"#; 4]);

    must(&mut simulation, load("loops", "[]", "fn on_load(vm) { this.n = 7; }"));
    must(&mut simulation, Command::Unsuspend { embot: sick.id.clone() });
    simulation.run_for(Span::seconds(5)).unwrap();
    assert_eq!(state(&simulation, "loops"), [r#"{"n":7}"#; 4]);
}

#[test]
fn advice_waits_for_an_admin_and_is_checked_again() {
    let mut simulation = Plane::default().over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    let policy = "fn on_load(vm) { if vm.name == \"guest-1\" && vm.running { vm.suspend(\"it should rest\"); } }";
    must(&mut simulation, load("rest", "[suspend]", policy));
    simulation.run_for(Span::seconds(10)).unwrap();
    let advice: Vec<_> = simulation.manager().open().map(|action| (action.id, action.state.clone())).collect();
    let [(id, ActionState::Advised { .. })] = advice[..] else { panic!("one advice, not {advice:?}") };

    must(&mut simulation, Command::Disarm { cancel: false });
    assert!(refused(&mut simulation, Command::Approve { action: id }).contains("kill switch"));
    must(&mut simulation, Command::Arm);
    must(&mut simulation, Command::Approve { action: id });
    simulation.run_for(Span::seconds(5)).unwrap();
    let action = simulation.manager().action(id).unwrap();
    assert_eq!((&action.state, action.approved_by.as_deref()), (&ActionState::Done, Some("admin")));
    assert!(refused(&mut simulation, Command::Approve { action: id }).contains("done"));
}

#[test]
fn nothing_new_is_started_while_disarmed() {
    let mut simulation = Plane::default().over(&kit::demo());
    act(&mut simulation, kit::shipped("relieve-hot-host"));
    must(&mut simulation, Command::Disarm { cancel: false });
    simulation.run_for(Span::minutes(10)).unwrap();
    let moved = simulation.manager().actions().filter(|action| action.proposal.kind.verb() == Verb::Migrate).count();
    assert_eq!(moved, 0);
    assert!(!simulation.manager().world().armed);
}

#[test]
fn embots_hear_each_other_over_declared_channels() {
    let mut simulation = Plane::default().over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    let tells = format!("{}channels: {{ sends: [news] }}\n", manifest("tells", "[]"));
    let hears = format!("{}channels: {{ hears: [news] }}\n", manifest("hears", "[]")).replace("each: vm", "one_for: plane");
    act(
        &mut simulation,
        module(&hears, &[("hears.rhai", "fn on_message(event) { this.heard = this.get(\"heard\", 0) + event.content.n; }")]),
    );
    act(&mut simulation, module(&tells, &[("tells.rhai", "fn on_loaded() { send(\"news\", #{ n: 10 }); }")]));
    simulation.run_for(Span::seconds(1)).unwrap();
    assert_eq!(state(&simulation, "hears"), [r#"{"heard":40}"#]);
}

#[test]
fn a_host_in_maintenance_is_emptied_and_filled_again() {
    let mut simulation = Plane::default().over(&kit::demo());
    simulation.run_for(Span::seconds(6)).unwrap();
    act(&mut simulation, kit::shipped("evacuate-maintenance"));
    let host = HostId::from("south-4");
    let count = |simulation: &Simulation| simulation.manager().world().vms_on(&host).filter(|vm| vm.is_active()).count();
    let before = count(&simulation);
    must(&mut simulation, Command::Maintenance { host: host.clone(), on: true });
    let mut most = 0;
    let empty = simulation.run_until(Span::minutes(15), |simulation| {
        most = most.max(simulation.manager().open().count());
        count(simulation) == 0
    });
    assert!(empty.unwrap() && before > 0, "{} of {before} guests are left", count(&simulation));
    assert!(most <= 2, "{most} moves at a time");
    must(&mut simulation, Command::Maintenance { host: host.clone(), on: false });
    let back = simulation.run_until(Span::minutes(30), |simulation| count(simulation) == before);
    assert!(back.unwrap(), "{} of {before} guests came back", count(&simulation));
}

#[test]
fn a_hot_host_is_relieved_and_the_journal_says_why() {
    let mut simulation = Plane::default().over(&kit::demo());
    act(&mut simulation, kit::shipped("relieve-hot-host"));
    let moved = simulation.run_until(Span::minutes(20), |simulation| {
        simulation
            .manager()
            .actions()
            .any(|action| action.proposal.kind.verb() == Verb::Migrate && action.state == ActionState::Done)
    });
    assert!(moved.unwrap(), "no move in twenty minutes");
    let manager = simulation.manager();
    let action = manager.actions().find(|action| action.proposal.kind.verb() == Verb::Migrate).unwrap();
    let place = action.proposal.place.as_ref().unwrap();
    assert_eq!(place.file, Arc::<str>::from("relieve-hot-host.rhai"));
    assert!(action.proposal.reads.iter().any(|read| read.what.contains("usage(cpu)")), "{:?}", action.proposal.reads);
    assert!(action.weighed.iter().any(|line| line.contains("gain")), "{:?}", action.weighed);
    assert!(action.proposal.cause.is_some() && action.mode == Mode::Act);
}

/// The first fenced block of a language in the README.
fn block(readme: &str, language: &str) -> String {
    let start = readme.find(&format!("```{language}\n")).expect("the README has the block") + language.len() + 4;
    readme[start..].split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn the_tutorial_of_the_readme_works() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("the README");
    let mut simulation = Plane::default().over(&kit::demo());
    simulation.run_for(Span::seconds(6)).unwrap();
    must(&mut simulation, module(&block(&readme, "yaml"), &[("rest-batch.rhai", &block(&readme, "rhai"))]));
    let advised = simulation.run_until(Span::minutes(5), |simulation| simulation.manager().open().next().is_some());
    assert!(advised.unwrap(), "nothing was advised: {:?}", simulation.manager().refusals().collect::<Vec<_>>());
    let id = simulation.manager().open().next().unwrap().id;
    must(&mut simulation, Command::Approve { action: id });
    must(&mut simulation, Command::ModuleMode { module: "rest-batch".into(), mode: Mode::Act });
    let resumed = |simulation: &Simulation| {
        simulation.manager().actions().any(|action| {
            action.proposal.kind.verb() == Verb::Resume && action.state == ActionState::Done && action.proposal.embot.is_some()
        })
    };
    assert!(simulation.run_until(Span::minutes(10), resumed).unwrap(), "the guest was not resumed");
}
