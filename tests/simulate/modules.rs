//! Modules while the plane runs: taken over, kept when broken, rolled back, suspended; the kill switch.

use crate::advice::REST;
use crate::kit::{self, Kept, Plane, act, load, manifest, module, must, refused};
use embot::api::explain;
use embot::manager::{Idle, IdleModule};
use embot::model::{ActionState, Command, HostId, Mode, Span, Verb};
use embot::simulate::Simulation;
use std::sync::Arc;

fn state(simulation: &Simulation, module: &str) -> Vec<String> {
    let embots = simulation.manager(0).embots(Some(module));
    embots.iter().flat_map(|embot| embot.state.values().map(|state| state.to_json().to_string())).collect()
}

#[test]
fn a_changed_policy_goes_on_with_the_state_and_a_broken_one_changes_nothing() {
    let mut simulation = Plane::default().over(&kit::four_guests());
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
    let mut simulation = Plane::default().over(&kit::four_guests());
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
    let mut simulation = Plane::default().over(&kit::four_guests());
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

#[test]
fn a_new_module_does_not_act_because_its_manifest_says_so() {
    let mut simulation = Plane { holds_back: true, ..Plane::default() }.over(&kit::four_guests());
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

impl Kept {
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
    // It is shown as such until the file is as it was.
    let unchecked = |kept: &Kept| {
        let manager = kept.simulation.manager(0);
        let all = manager.unchecked_modules().map(|(module, file, in_force)| (module.to_string(), file.to_string(), in_force));
        all.collect::<Vec<_>>()
    };
    assert_eq!(unchecked(&kept), [("count".to_owned(), "count.yaml".to_owned(), true)]);
    kept.declare("count.yaml", Some(1));
    assert_eq!(unchecked(&kept), []);
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
    let mut simulation = Plane::default().over(&kit::four_guests());
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
