//! Every refusal as an admin reads it. Read the snapshot: does it say what was measured, what the limit is, what to change?

use super::*;
use crate::model::{Affinity, AffinityRule, Level, Link, Maintenance, Mark, Reason, VmState};
use crate::plan::Rate;

fn rule(name: &str, kind: Affinity, vms: &[&str]) -> AffinityRule {
    AffinityRule { name: name.into(), kind, hard: true, vms: vms.iter().map(|vm| (*vm).to_owned()).collect() }
}

type Case = (&'static str, fn(&mut Plane) -> Result<Action, Box<Refusal>>);

const CASES: &[Case] = &[
    ("the kill switch", |plane| {
        plane.world.armed = false;
        plane.propose(migrate(1, None))
    }),
    ("an unknown guest", |plane| plane.propose(migrate(77, None))),
    ("a host that does not answer", |plane| {
        plane.world.edit_host(&"a".into(), |host| host.link = Link::Down("connection refused".into()));
        plane.propose(migrate(1, None))
    }),
    ("a host not heard of yet", |plane| {
        plane.world.edit_host(&"a".into(), |host| host.link = Link::Unknown);
        plane.propose(suspend(1))
    }),
    ("a module that observes", |plane| {
        plane.propose_under(migrate(1, None), Terms { mode: Mode::Observe, ..terms("relieve") })
    }),
    ("a guest that is observed", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.mode = Mode::Observe);
        plane.propose(migrate(1, None))
    }),
    ("no permit", |plane| {
        let permits = [Verb::Migrate, Verb::Notify].into();
        plane.propose_under(suspend(1), Terms { permits, ..terms("relieve") })
    }),
    ("no permits at all", |plane| plane.propose_under(suspend(1), Terms { permits: Default::default(), ..terms("relieve") })),
    ("no mark", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.mark = None);
        plane.propose(suspend(1))
    }),
    ("another plane's mark", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.mark = Some(Mark { plane: "other".into(), epoch: 4 }));
        plane.propose_under(suspend(1), Terms::admin("ops"))
    }),
    ("already so", |plane| plane.propose(ActionKind::Start { vm: id(1) })),
    ("already there", |plane| plane.propose(migrate(1, Some("a")))),
    ("a live move of a guest that is off", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.state = VmState::Off);
        plane.propose(migrate(1, Some("b")))
    }),
    ("a cold move of a guest that runs", |plane| plane.propose(ActionKind::Migrate { vm: id(1), to: None, live: false })),
    ("a guest in flight", |plane| {
        plane.world.edit_vm(id(1), |vm| (vm.state, vm.reason) = (VmState::Paused, Reason::Migration));
        plane.propose(ActionKind::Resume { vm: id(1) })
    }),
    ("a shutdown of a paused guest", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.state = VmState::Paused);
        plane.propose(ActionKind::Shutdown { vm: id(1), force_after: None })
    }),
    ("a restore of what was not saved", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.state = VmState::Off);
        plane.propose(ActionKind::Restore { vm: id(1) })
    }),
    ("a balloon larger than the guest", |plane| plane.propose(ActionKind::Balloon { vm: id(1), memory_mib: 4_096 })),
    ("a balloon smaller than what the guest uses", |plane| {
        plane.world.sample_vm(id(1), |vm| vm.load.memory_used_mib = Some(1_400.4));
        assert!(plane.propose(ActionKind::Balloon { vm: id(2), memory_mib: 1_024 }).is_ok(), "what it uses is not known");
        plane.propose(ActionKind::Balloon { vm: id(1), memory_mib: 1_024 })
    }),
    ("less memory than the guest uses", |plane| {
        plane.world.sample_vm(id(1), |vm| vm.load.memory_used_mib = Some(1_400.4));
        plane.propose_under(ActionKind::SetMemory { vm: id(1), memory_mib: 1_400 }, Terms::admin("ops"))
    }),
    ("no processors", |plane| plane.propose(ActionKind::SetVcpus { vm: id(1), vcpus: 0 })),
    ("something is under way", |plane| {
        plane.start(migrate(1, None));
        plane.pass(Span::seconds(20));
        plane.propose(suspend(1))
    }),
    ("advice that was rejected", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.mode = Mode::Advise);
        let action = plane.start(migrate(1, None));
        let until = plane.now + Span::hours(1);
        plane.end(action, ActionState::Rejected { by: "ops".into(), reason: Some("a backup runs".into()), until });
        plane.pass(Span::minutes(12));
        plane.propose(migrate(1, None))
    }),
    ("another target advised in the same breath", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.mode = Mode::Advise);
        plane.start(migrate(1, Some("b")));
        plane.pass(Span::seconds(5));
        plane.propose(migrate(1, Some("c")))
    }),
    ("more advice than people read", |plane| {
        plane.guardrails.module_advice = 2;
        for number in 1..=3 {
            plane.world.edit_vm(id(number), |vm| vm.mode = Mode::Advise);
        }
        plane.start(suspend(1));
        plane.start(suspend(2));
        plane.propose(suspend(3))
    }),
    ("the same, twice in a batch", |plane| {
        let one = proposal("relieve", EventBody::Load, migrate(1, None));
        let two = proposal("spread", EventBody::Load, migrate(1, None));
        let mut plan = plane.decide(vec![(one, terms("relieve")), (two, terms("spread"))]);
        Err(Box::new(plan.refused.remove(0)))
    }),
    ("two modules want different things", |plane| {
        let one = proposal("relieve", EventBody::Load, migrate(1, None));
        let two = proposal("guard", EventBody::Watchdog { action: "none".into() }, suspend(1));
        let mut plan = plane.decide(vec![(one, terms("relieve")), (two, terms("guard"))]);
        Err(Box::new(plan.refused.remove(0)))
    }),
    ("a hold", |plane| {
        plane.guardrails.hold = Span::seconds(30);
        let _ = plane.propose(migrate(1, None));
        plane.pass(Span::seconds(10));
        plane.propose(migrate(1, None))
    }),
    ("a cool-down", |plane| {
        let action = plane.start(migrate(1, None));
        plane.end(action, ActionState::Failed { reason: "it broke".into() });
        plane.pass(Span::minutes(2));
        plane.propose(migrate(1, None))
    }),
    ("a module's own, longer cool-down", |plane| {
        let action = plane.start(suspend(1));
        plane.end(action, ActionState::Done);
        plane.pass(Span::minutes(6));
        let limits = Limits { cooldown: Some(Span::minutes(30)), ..Limits::default() };
        plane.propose_under(migrate(1, None), Terms { limits, ..terms("relieve") })
    }),
    ("a module's rate", |plane| {
        plane.guardrails.module_rate = Rate { actions: 2, per: Span::minutes(10) };
        plane.start(suspend(1));
        plane.pass(Span::minutes(4));
        plane.start(suspend(2));
        plane.pass(Span::minutes(1));
        plane.propose(suspend(3))
    }),
    ("a module's rate of nothing", |plane| {
        let limits = Limits { rate: Some(Rate { actions: 0, per: Span::hours(1) }), ..Limits::default() };
        plane.propose_under(suspend(1), Terms { limits, ..terms("relieve") })
    }),
    ("the plane's rate", |plane| {
        plane.guardrails.plane_rate = Rate { actions: 1, per: Span::minutes(10) };
        plane.propose_under(suspend(1), terms("other")).unwrap();
        plane.pass(Span::seconds(90));
        plane.propose(suspend(3))
    }),
    ("the blast radius", |plane| {
        plane.start(suspend(1));
        plane.start(suspend(2));
        plane.propose(suspend(3))
    }),
    ("too many migrations on the source", |plane| {
        plane.guardrails.blast_radius = 1.0;
        plane.start(migrate(1, Some("b")));
        plane.start(migrate(2, Some("c")));
        plane.propose(migrate(3, None))
    }),
    ("too many migrations in the plane", |plane| {
        plane.guardrails.migrations = 1;
        plane.start(migrate(1, Some("b")));
        plane.propose(migrate(2, None))
    }),
    ("too many migrations on the target", |plane| {
        plane.guardrails.migrations_per_host = 1;
        let mut other = vm(20, "db-1", "c");
        other.load.cpu_cores = Some(0.1);
        plane.world.put_vm(other);
        let limits = Limits { minimum_gain: Some(0.0), ..Limits::default() };
        let action = plane.propose_under(migrate(20, Some("b")), Terms { limits, ..terms("refill") }).unwrap();
        plane.open.insert(action.id, action);
        plane.propose(migrate(1, Some("b")))
    }),
    ("an unknown target", |plane| plane.propose(migrate(1, Some("z")))),
    ("a target that does not answer", |plane| {
        plane.world.edit_host(&"b".into(), |host| host.link = Link::Down("no route to host".into()));
        plane.propose(migrate(1, Some("b")))
    }),
    ("a target in maintenance", |plane| {
        plane.world.edit_host(&"b".into(), |host| host.maintenance = Maintenance::On(Timestamp(0)));
        plane.propose_under(migrate(1, Some("b")), Terms::admin("ops"))
    }),
    ("a target that has said nothing", |plane| {
        plane.world.edit_host(&"b".into(), |host| host.capacity = Default::default());
        plane.propose(migrate(1, Some("b")))
    }),
    ("apart", |plane| {
        plane.world.set_rules(vec![rule("web-apart", Affinity::Apart, &["web-1", "db"])]);
        plane.world.put_vm(vm(20, "db", "b"));
        plane.propose(migrate(1, Some("b")))
    }),
    ("together", |plane| {
        plane.world.set_rules(vec![rule("shop", Affinity::Together, &["web-1", "web-3"])]);
        plane.propose(migrate(1, Some("b")))
    }),
    ("no memory", |plane| {
        let mut big = vm(20, "big", "b");
        big.memory_mib = 28_000;
        plane.world.put_vm(big);
        plane.propose_under(migrate(1, Some("b")), Terms::admin("ops"))
    }),
    ("no vcpus", |plane| {
        let mut wide = vm(20, "wide", "b");
        wide.vcpus = 31;
        plane.world.put_vm(wide);
        plane.propose(migrate(1, Some("b")))
    }),
    ("a target that would be too hot", |plane| {
        plane.world.sample_host(&"b".into(), |host| host.load.cpu_cores = 5.2);
        plane.propose(migrate(1, Some("b")))
    }),
    ("a target hotter than the source", |plane| {
        plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 2.4);
        plane.propose(migrate(1, Some("b")))
    }),
    ("a move that does not pay", |plane| {
        plane.world.sample_host(&"a".into(), |host| host.load.cpu_cores = 4.0);
        plane.propose(migrate(3, Some("b")))
    }),
    ("nowhere to go", |plane| {
        plane.world.edit_host(&"b".into(), |host| host.maintenance = Maintenance::On(Timestamp(0)));
        plane.world.sample_host(&"c".into(), |host| host.load.cpu_cores = 6.0);
        plane.propose(migrate(1, None))
    }),
    ("nowhere among many", |plane| {
        for number in 10..50 {
            let mut host = host(&format!("h{number}"));
            match number % 3 {
                0 => host.load.cpu_cores = 7.0,
                1 => host.maintenance = Maintenance::On(Timestamp(0)),
                _ => host.capacity.memory_mib = 2_048,
            }
            plane.world.put_host(host);
        }
        for host in ["b", "c"] {
            plane.world.sample_host(&host.into(), |host| host.load.cpu_cores = 6.0);
        }
        plane.propose(migrate(1, None))
    }),
    ("the only host", |plane| {
        plane.world.remove_host(&"b".into());
        plane.world.remove_host(&"c".into());
        plane.propose(migrate(1, None))
    }),
    ("a start on a host in maintenance", |plane| {
        plane.world.edit_vm(id(1), |vm| vm.state = VmState::Off);
        plane.world.edit_host(&"a".into(), |host| host.maintenance = Maintenance::On(Timestamp(0)));
        plane.propose_under(ActionKind::Start { vm: id(1) }, Terms::admin("ops"))
    }),
    ("more memory than there is", |plane| plane.propose(ActionKind::SetMemory { vm: id(1), memory_mib: 20_000 })),
    ("a second definition", |plane| {
        plane.propose_under(ActionKind::Define { vm: id(1), host: "b".into(), xml: "".into() }, Terms::admin("ops"))
    }),
    ("the same words", |plane| {
        let notify = ActionKind::Notify { level: Level::Info, text: "hot".into() };
        plane.propose(notify.clone()).unwrap();
        plane.pass(Span::seconds(5));
        plane.propose(notify)
    }),
    ("too many words", |plane| {
        let notify = |n: u32| ActionKind::Notify { level: Level::Info, text: format!("hot {n}").into() };
        for n in 0..10 {
            plane.propose(notify(n)).unwrap();
        }
        plane.propose(notify(10))
    }),
];

#[test]
fn every_refusal_says_what_to_do() {
    let mut text = String::new();
    for (name, case) in CASES {
        let refusal = case(&mut Plane::new()).expect_err(name);
        text.push_str(&format!("# {name}\n{}: {}\n\n", refusal.guardrail, refusal.reason));
    }
    insta::assert_snapshot!("refusals", text);
}

#[test]
fn an_approval_can_be_refused_too() {
    let mut plane = Plane::new();
    plane.world.edit_vm(id(1), |vm| vm.mode = Mode::Advise);
    let mut advice = plane.propose(migrate(1, None)).unwrap();
    plane.world.edit_vm(id(1), |vm| vm.state = VmState::Off);
    let Plane { world, usage, guardrails, open, now, planner, .. } = &mut plane;
    let situation = Situation { world, usage, guardrails, open, now: *now };
    let refusal = planner.approve(&situation, &advice, &"ops".into()).unwrap_err();
    insta::assert_snapshot!(refusal.reason, @"web-1 is off: migrate is not possible. Only a running guest moves live: move it cold, or start it first");
    advice.state = ActionState::Expired;
    let refusal = planner.approve(&situation, &advice, &"ops".into()).unwrap_err();
    insta::assert_snapshot!(refusal.reason, @"action 1 is expired; only advised actions can be approved");
}
