//! Modules while the plane runs: taken over, kept when broken, rolled back, suspended; advice and the kill switch.

use crate::kit::{self, Plane, act, module, must};
use embot::api::explain;
use embot::hypervisor::simulated::{Fleet, FleetPlan};
use embot::manager::{Idle, IdleModule};
use embot::model::{ActionState, Command, HostId, Mode, Reply, Span, Verb};
use embot::plan::Guardrails;
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk, Store};
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
    let embots = simulation.manager(0).embots(Some(module));
    embots.iter().flat_map(|embot| embot.state.values().map(|state| state.to_json().to_string())).collect()
}

fn load(name: &str, permits: &str, policy: &str) -> Command {
    module(&manifest(name, permits), &[(&format!("{name}.rhai"), policy)])
}

fn refused(simulation: &mut Simulation, command: Command) -> String {
    match simulation.command(0, command).expect("no store, no error") {
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
    let embots = simulation.manager(0).embots(Some("loops"));
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
    assert!(why.contains("advised again in"), "{why}");
    simulation.run_for(Span::minutes(2)).unwrap();
    assert_eq!(open(&simulation), 1, "the module says it still");
}

#[test]
fn advice_that_is_given_again_has_the_reason_of_today() {
    let guardrails = Guardrails { advice_expires: Span::minutes(1), ..Guardrails::default() };
    let mut simulation = Plane { guardrails, ..Plane::default() }.over(&fleet());
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

#[test]
fn nothing_new_is_started_while_disarmed() {
    let mut simulation = Plane::default().over(&kit::demo());
    act(&mut simulation, kit::shipped("relieve-hot-host"));
    must(&mut simulation, Command::Disarm { cancel: false });
    simulation.run_for(Span::minutes(10)).unwrap();
    let moved = simulation.manager(0).actions().filter(|action| action.proposal.kind.verb() == Verb::Migrate).count();
    assert_eq!(moved, 0);
    assert!(!simulation.manager(0).world().armed);
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
    let count = |simulation: &Simulation| simulation.manager(0).world().vms_on(&host).filter(|vm| vm.is_active()).count();
    let before = count(&simulation);
    must(&mut simulation, Command::Maintenance { host: host.clone(), on: true });
    let mut most = 0;
    let empty = simulation.run_until(Span::minutes(15), |simulation| {
        most = most.max(simulation.manager(0).open().count());
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
            .manager(0)
            .actions()
            .any(|action| action.proposal.kind.verb() == Verb::Migrate && action.state == ActionState::Done)
    });
    assert!(moved.unwrap(), "no move in twenty minutes");
    let manager = simulation.manager(0);
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
    let advised = simulation.run_until(Span::minutes(5), |simulation| simulation.manager(0).open().next().is_some());
    assert!(advised.unwrap(), "nothing was advised: {:?}", simulation.manager(0).refusals().collect::<Vec<_>>());
    let id = simulation.manager(0).open().next().unwrap().id;
    must(&mut simulation, Command::Approve { action: id, reason: None });
    must(&mut simulation, Command::ModuleMode { module: "rest-batch".into(), mode: Mode::Act });
    let resumed = |simulation: &Simulation| {
        simulation.manager(0).actions().any(|action| {
            action.proposal.kind.verb() == Verb::Resume && action.state == ActionState::Done && action.proposal.embot.is_some()
        })
    };
    assert!(simulation.run_until(Span::minutes(10), resumed).unwrap(), "the guest was not resumed");
}

const REST: &str = "fn on_load(vm) { if vm.name == \"guest-1\" && vm.running { vm.suspend(\"it should rest\"); } }";

/// A plane with one advice, given again with every sample, and what a minute of silence makes of it.
fn advised() -> (Simulation, embot::model::ActionId) {
    let guardrails = Guardrails { advice_expires: Span::minutes(1), ..Guardrails::default() };
    let mut simulation = Plane { guardrails, ..Plane::default() }.over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    must(&mut simulation, load("rest", "[suspend]", REST));
    simulation.run_for(Span::minutes(10)).unwrap();
    let advice: Vec<_> = simulation.manager(0).open().map(|action| (action.id, action.state.word())).collect();
    let [(id, "advised")] = advice[..] else { panic!("one advice, not {advice:?}") };
    assert_eq!(simulation.manager(0).refusals().count(), 0, "to say it again is no mistake");
    (simulation, id)
}

fn withdrawn(simulation: &Simulation, id: embot::model::ActionId) -> String {
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

    // Nobody gives it any more, and nobody answers.
    let (mut simulation, id) = advised();
    must(&mut simulation, load("rest", "[suspend]", "fn on_load(vm) { if vm.cpu > 1 { vm.suspend(\"never\"); } }"));
    simulation.run_for(Span::seconds(70)).unwrap();
    assert_eq!(simulation.manager(0).action(id).unwrap().state, ActionState::Expired);
}

#[test]
fn what_is_done_to_a_guest_supersedes_what_is_advised_for_it() {
    let (mut simulation, id) = advised();
    let other = load("act", "[migrate]", "fn on_load(vm) { if vm.name == \"guest-1\" { vm.migrate(\"away\"); } }");
    act(&mut simulation, other);
    must(&mut simulation, Command::ModuleMode { module: "rest".into(), mode: Mode::Advise });
    let kind = embot::model::ActionKind::Migrate {
        vm: simulation.fleet().guest_named("guest-1").unwrap().id,
        to: Some("host-2".into()),
        live: true,
    };
    must(&mut simulation, Command::Act { kind, reason: "test".into() });
    assert!(withdrawn(&simulation, id).ends_with("(migrate) is carried out instead"));
}

#[test]
fn a_new_module_does_not_act_because_its_manifest_says_so() {
    let mut simulation = Plane { holds_back: true, ..Plane::default() }.over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    let manifest = format!("{}mode: act\n", manifest("rest", "[suspend]"));
    let load = |policy: &str| module(&manifest, &[("rest.rhai", policy)]);
    let said = must(&mut simulation, load(REST));
    assert!(said.contains("`embot modules mode rest act`"), "{said}");
    simulation.run_for(Span::seconds(10)).unwrap();
    let advised = |simulation: &Simulation| simulation.manager(0).open().map(|action| action.state.word()).collect::<Vec<_>>();
    assert_eq!(advised(&simulation), ["advised"]);
    // A changed version is held back no less.
    must(&mut simulation, load(&REST.replace("rest\"", "rest now\"")));
    assert_eq!(simulation.manager(0).modules()[0].mode, Mode::Advise);
    must(&mut simulation, Command::ModuleMode { module: "rest".into(), mode: Mode::Act });
    simulation.run_for(Span::seconds(10)).unwrap();
    assert_eq!(simulation.fleet().guest_named("guest-1").unwrap().state, embot::model::VmState::Paused);
}

/// A plane on a store, whose daemon can be started again.
struct Kept {
    simulation: Simulation,
    disk: SimulatedDisk,
}

impl Kept {
    fn new() -> Kept {
        let disk = SimulatedDisk::default();
        let (store, recovered) = Store::on_disk(&disk).unwrap();
        let fleet = Fleet::new(&fleet(), embot::model::Timestamp(0)).unwrap();
        let manager = Plane::default().manager(&fleet, recovered);
        let simulation = kit::alone(kit::plane(manager).with_store(store).with_journal(), fleet);
        Kept { simulation, disk }
    }

    fn restart(&mut self) {
        self.disk = self.disk.crash(Crash::Killed);
        let (store, recovered) = Store::on_disk(&self.disk).unwrap();
        let manager = Plane::default().manager(self.simulation.fleet(), recovered);
        self.simulation.restart(0, manager, store);
    }

    /// What the folder's watcher says of `count.yaml`, whose policy adds `step`.
    fn declare(&mut self, file: &str, step: Option<i64>) -> String {
        let texts = step.map(|step| {
            let policy = format!("fn on_load() {{ this.n = {step}; }}");
            (Arc::from(manifest("count", "[]")), vec![(Arc::from("count.rhai"), Arc::from(policy))])
        });
        must(&mut self.simulation, Command::DeclareModule { file: file.into(), texts })
    }

    /// The state that the version in force makes; `None`: no version is.
    fn n(&mut self) -> Option<String> {
        self.simulation.run_for(Span::seconds(12)).unwrap();
        state(&self.simulation, "count").into_iter().next()
    }
}

#[test]
fn what_an_admin_did_stands_until_the_file_changes() {
    let mut kept = Kept::new();
    kept.declare("count.yaml", Some(1));
    kept.declare("count.yaml", Some(2));
    assert_eq!(kept.n().as_deref(), Some(r#"{"n":2}"#));
    must(&mut kept.simulation, Command::RollBack { module: "count".into() });
    // The daemon starts again, and looks at the folder.
    kept.restart();
    assert!(kept.declare("count.yaml", Some(2)).contains("stays as it is"));
    assert_eq!(kept.n().as_deref(), Some(r#"{"n":1}"#), "rolled back it stays");

    let said = must(&mut kept.simulation, Command::UnloadModule { module: "count".into() });
    assert!(said.ends_with("its file count.yaml is left alone until it changes"), "{said}");
    kept.restart();
    kept.declare("count.yaml", Some(2));
    kept.restart();
    kept.declare("count.yaml", Some(2));
    assert_eq!(kept.n(), None, "unloaded it stays");
    let idle = || IdleModule { module: "count".into(), file: "count.yaml".into(), why: Idle::Unloaded };
    assert_eq!(kept.simulation.manager(0).idle_modules(), [idle()], "and it is shown");
    kept.declare("count.yaml", Some(3));
    assert_eq!(kept.n().as_deref(), Some(r#"{"n":3}"#));
    assert_eq!(kept.simulation.manager(0).idle_modules(), []);

    must(&mut kept.simulation, load("count", "[]", "fn on_load() { this.n = 4; }"));
    kept.restart();
    kept.declare("count.yaml", Some(3));
    assert_eq!(kept.n().as_deref(), Some(r#"{"n":4}"#), "loaded by hand it stays");
}

#[test]
fn a_file_that_has_never_checked_is_shown_and_nothing_else_is_claimed_of_it() {
    let mut kept = Kept::new();
    let broken = |module: &str, policy: &str| Command::DeclareModule {
        file: "count.yaml".into(),
        texts: Some((Arc::from(manifest(module, "[]")), vec![(Arc::from("count.rhai"), Arc::from(policy))])),
    };
    refused(&mut kept.simulation, broken("count", "fn on_load() { this.n = nonsense(); }"));
    let idle = || IdleModule { module: "count".into(), file: "count.yaml".into(), why: Idle::NeverChecked };
    assert_eq!(kept.simulation.manager(0).idle_modules(), [idle()]);
    let told = |kept: &Kept| String::from_utf8_lossy(kept.simulation.plane(0).journal()).into_owned();
    assert!(told(&kept).contains("does not check, it is not in force"), "{}", told(&kept));
    // Mended, it is in force; what it becomes after that leaves the good version there.
    kept.declare("count.yaml", Some(1));
    assert_eq!((kept.simulation.manager(0).idle_modules(), kept.n().as_deref()), (vec![], Some(r#"{"n":1}"#)));
    refused(&mut kept.simulation, broken("count", "fn on_load() { this.n = nonsense(); }"));
    assert!(told(&kept).contains("does not check, the last good version stays"), "{}", told(&kept));
    assert_eq!((kept.simulation.manager(0).idle_modules(), kept.n().as_deref()), (vec![], Some(r#"{"n":1}"#)));
    // A file that goes away while it does not check is forgotten.
    kept.declare("count.yaml", None);
    refused(&mut kept.simulation, broken("other", "fn on_load() {"));
    assert_eq!(kept.simulation.manager(0).idle_modules().len(), 1);
    kept.declare("count.yaml", None);
    assert_eq!(kept.simulation.manager(0).idle_modules(), []);
}

#[test]
fn a_module_goes_with_its_file() {
    let mut kept = Kept::new();
    kept.declare("count.yaml", Some(1));
    assert_eq!(kept.n().as_deref(), Some(r#"{"n":1}"#));
    // Another name for the file is no reason to start anew.
    kept.declare("counts.yaml", Some(1));
    kept.declare("count.yaml", None);
    assert_eq!(state(&kept.simulation, "count"), [r#"{"n":1}"#; 4]);
    kept.restart();
    assert_eq!(kept.simulation.manager(0).declared_files(), ["counts.yaml".into()]);
    kept.declare("counts.yaml", None);
    assert_eq!(kept.n(), None);
    kept.restart();
    assert_eq!((kept.n(), kept.simulation.manager(0).declared_files()), (None, Vec::new()));

    // What was loaded by hand has no file to go with; a file that holds another module takes the one before with it.
    must(&mut kept.simulation, load("other", "[]", "fn on_load() { this.n = 1; }"));
    kept.declare("count.yaml", Some(1));
    let texts =
        Some((Arc::from(manifest("new", "[]")), vec![(Arc::from("new.rhai"), Arc::from("fn on_load() { this.n = 1; }"))]));
    must(&mut kept.simulation, Command::DeclareModule { file: "count.yaml".into(), texts });
    let names: Vec<_> = kept.simulation.manager(0).modules().iter().map(|module| module.module.to_string()).collect();
    assert_eq!(names, ["new", "other"]);
}

#[test]
fn a_refusal_has_a_number_and_can_be_explained() {
    let mut simulation = Plane::default().over(&fleet());
    simulation.run_for(Span::seconds(6)).unwrap();
    act(&mut simulation, load("rest", "[]", "fn on_load(vm) {\n    if vm.cpu > 0.01 { vm.suspend(\"it should rest\"); }\n}"));
    simulation.run_for(Span::minutes(10)).unwrap();
    let numbers: Vec<_> = simulation.manager(0).refusals().map(|refusal| (refusal.number, refusal.count)).collect();
    assert_eq!(numbers.len(), 4, "one for each guest, however often it came: {numbers:?}");
    assert!(numbers.iter().all(|(_, count)| *count > 100), "{numbers:?}");
    let explanation = explain::explain_refusal(simulation.manager(0), numbers[0].0).unwrap();
    assert_eq!((explanation.refusal.number, explanation.refusal.guardrail.as_str()), (Some(numbers[0].0), "permit"));
    let place = explanation.place.unwrap();
    assert_eq!((place.file.as_str(), place.line), ("rest.rhai", 2));
    assert!(place.source.unwrap().contains("vm.suspend"));
    assert_eq!(explanation.reads.iter().map(|read| read.what.as_str()).collect::<Vec<_>>(), ["cpu"]);
    assert_eq!(explanation.cause.unwrap().kind, "load");
}
