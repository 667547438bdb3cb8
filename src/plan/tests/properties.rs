//! What holds in any world and for any proposals. The checks here count anew from world and open actions, in the plainest way;
//! they share no code with the planner.

use super::*;
use crate::model::{Affinity, AffinityRule, Maintenance, Reason, VmState};
use crate::plan::Rate;
use proptest::prelude::*;
use std::collections::BTreeSet;

const HOSTS: [&str; 4] = ["a", "b", "c", "d"];
const MODULES: [&str; 3] = ["relieve", "restart", "spread"];

#[derive(Debug, Clone)]
struct Setup {
    guests: Vec<(usize, u8, u64, u32, f32, u8)>,
    cores: [f32; 4],
    rules: Vec<(bool, bool, u8)>,
    rates: (u32, u32),
    blast_radius: f64,
    hold_s: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Decide(Vec<Wish>),
    /// The oldest open action ends, well or badly.
    End(bool),
    Maintain(usize),
    Heat(usize, f32),
}

#[derive(Debug, Clone)]
struct Wish {
    module: usize,
    is_admin: bool,
    is_fault: bool,
    vm: u128,
    what: u8,
    to: Option<usize>,
}

fn setup() -> impl Strategy<Value = Setup> {
    // Guests large enough that a host has room for a few only.
    let guest = (0..4usize, 0..16u8, 2_000u64..16_000, 1..14u32, 0.0f32..1.0, 0..16u8);
    (
        proptest::collection::vec(guest, 4..12),
        [0.0f32..4.0, 0.0f32..4.0, 0.0f32..4.0, 0.0f32..7.0],
        proptest::collection::vec((any::<bool>(), any::<bool>(), any::<u8>()), 0..4),
        (2..9u32, 2..14u32),
        0.0..2.0f64,
        prop_oneof![4 => Just(0u64), 1 => 1..60u64],
    )
        .prop_map(|(guests, cores, rules, rates, blast_radius, hold_s)| Setup {
            guests,
            cores,
            rules,
            rates,
            blast_radius,
            hold_s,
        })
}

fn wish() -> impl Strategy<Value = Wish> {
    let to = proptest::option::of(0..4usize);
    (0..3usize, 0..10u8, any::<bool>(), 0..13u128, 0..16u8, to).prop_map(|(module, admin, is_fault, vm, what, to)| Wish {
        module,
        is_admin: admin == 0,
        is_fault,
        vm,
        what,
        to,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..800_000u64).prop_map(Step::Pass),
        5 => proptest::collection::vec(wish(), 0..8).prop_map(Step::Decide),
        3 => any::<bool>().prop_map(Step::End),
        1 => (0..4usize).prop_map(Step::Maintain),
        1 => (0..4usize, 0.0f32..5.0).prop_map(|(host, cores)| Step::Heat(host, cores)),
    ]
}

impl Setup {
    fn plane(&self) -> Plane {
        let mut plane = Plane::new();
        plane.world = World::new("home");
        for (name, cores) in HOSTS.iter().zip(self.cores) {
            let mut host = host(name);
            host.load.cpu_cores = cores;
            plane.world.put_host(host);
        }
        for (number, (at, state, memory_mib, vcpus, cores, mode)) in (1..).zip(&self.guests) {
            let mut vm = vm(number, &format!("g{number}"), HOSTS[*at]);
            vm.state = match state {
                0..=3 => VmState::Off,
                4 => VmState::Crashed,
                5 => VmState::Paused,
                _ => VmState::Running,
            };
            (vm.memory_mib, vm.balloon_mib, vm.vcpus) = (*memory_mib, *memory_mib / 2, *vcpus);
            vm.load.cpu_cores = (*state != 15).then_some(*cores);
            match mode {
                0 => vm.mode = Mode::Advise,
                1 => vm.reason = Reason::Migration,
                2 => vm.mark = None,
                _ => {}
            }
            plane.world.put_vm(vm);
        }
        let rule = |(index, (is_apart, hard, members)): (usize, &(bool, bool, u8))| AffinityRule {
            name: format!("rule-{index}").into(),
            kind: if *is_apart { Affinity::Apart } else { Affinity::Together },
            hard: *hard,
            vms: (0..8).filter(|bit| members >> bit & 1 == 1).map(|bit| format!("g{}", bit + 1)).collect(),
        };
        plane.world.set_rules(self.rules.iter().enumerate().map(rule).collect());
        plane.guardrails.module_rate = Rate { actions: self.rates.0, per: Span::minutes(10) };
        plane.guardrails.plane_rate = Rate { actions: self.rates.1, per: Span::minutes(7) };
        plane.guardrails.blast_radius = self.blast_radius;
        plane.guardrails.hold = Span::seconds(self.hold_s);
        plane.guardrails.migrations_per_host = 2;
        // Moves shall happen, so that there is something to check.
        plane.guardrails.minimum_gain = 0.0;
        plane
    }
}

impl Wish {
    fn into_proposal(self) -> (Proposal, Terms) {
        let vm = id(self.vm);
        let to = self.to.map(|to| HOSTS[to].into());
        let kind = match self.what {
            0 | 7 => ActionKind::Start { vm },
            1 => ActionKind::Shutdown { vm, force_after: None },
            2 => ActionKind::Suspend { vm },
            3 => ActionKind::Resume { vm },
            4 => ActionKind::SetMemory { vm, memory_mib: 9_000 },
            5 => ActionKind::SetVcpus { vm, vcpus: 4 },
            6 => ActionKind::Migrate { vm, to, live: false },
            8 => ActionKind::Notify { level: crate::model::Level::Info, text: "hot".into() },
            _ => ActionKind::Migrate { vm, to, live: true },
        };
        let body = if self.is_fault { EventBody::Crashed(Reason::Crashed) } else { EventBody::Load };
        let mut proposal = proposal(MODULES[self.module], body, kind);
        if self.is_admin {
            (proposal.embot, proposal.admin, proposal.cause) = (None, Some("ops".into()), None);
            return (proposal, Terms::admin("ops"));
        }
        (proposal, terms(MODULES[self.module]))
    }
}

/// What is promised on a host: active guests there, guests being started there, guests on their way there; and growth.
fn promised(plane: &Plane, at: &HostId) -> (u64, u64) {
    let mut sum = (0, 0);
    for vm in plane.world.vms() {
        let doing = plane.open.values().find(|action| action.state.is_open() && action.proposal.kind.vm() == Some(vm.id));
        let (mut is_here, mut size) = (vm.is_active() && vm.host == *at, (u64::from(vm.vcpus), vm.memory_mib));
        match doing.map(|action| &action.proposal.kind) {
            Some(ActionKind::Migrate { to: Some(to), live: true, .. }) => is_here |= to == at,
            Some(ActionKind::Start { .. }) => is_here |= vm.host == *at,
            Some(ActionKind::SetMemory { memory_mib, .. }) => size.1 = size.1.max(*memory_mib),
            Some(ActionKind::SetVcpus { vcpus, .. }) => size.0 = size.0.max(u64::from(*vcpus)),
            _ => {}
        }
        if is_here {
            sum = (sum.0 + size.0, sum.1 + size.1);
        }
    }
    sum
}

/// Where a guest takes up room: where it is, and where it is going. Nowhere, if it is off.
fn places(plane: &Plane, vm: VmId) -> (BTreeSet<HostId>, Option<HostId>) {
    let Some(vm) = plane.world.vm(vm) else { return Default::default() };
    let doing = plane.open.values().find(|action| action.state.is_open() && action.proposal.kind.vm() == Some(vm.id));
    let is_starting = matches!(doing.map(|action| &action.proposal.kind), Some(ActionKind::Start { .. }));
    if !vm.is_active() && !is_starting {
        return Default::default();
    }
    let last = doing.and_then(|action| action.proposal.kind.destination()).unwrap_or(&vm.host).clone();
    ([vm.host.clone(), last.clone()].into(), Some(last))
}

/// Does every active guest of the rule finally come to the same host, none of them being on one in maintenance?
fn is_together(plane: &Plane, members: &BTreeSet<VmId>) -> (bool, bool) {
    let last: BTreeSet<HostId> = members.iter().filter_map(|vm| places(plane, *vm).1).collect();
    let is_calm = members.iter().filter_map(|vm| plane.world.vm(*vm)).all(|vm| {
        let host = plane.world.host(&vm.host);
        host.is_some_and(|host| !host.in_maintenance())
    });
    (last.len() < 2, is_calm)
}

fn members(plane: &Plane, rule: &AffinityRule) -> BTreeSet<VmId> {
    plane.world.vms().filter(|vm| rule.vms.iter().any(|name| **name == *vm.name)).map(|vm| vm.id).collect()
}

/// When whose action was accepted on whom: of what limits of pace count.
#[derive(Default)]
struct Log(Vec<(Timestamp, Arc<str>, VmId, bool)>);

impl Log {
    fn since(&self, from: Timestamp) -> impl Iterator<Item = &(Timestamp, Arc<str>, VmId, bool)> {
        self.0.iter().filter(move |(at, ..)| *at > from)
    }
}

fn check(plane: &mut Plane, wishes: Vec<Wish>, log: &mut Log) -> Result<(), TestCaseError> {
    let proposals: Vec<_> = wishes.into_iter().map(Wish::into_proposal).collect();
    let together: Vec<(BTreeSet<VmId>, (bool, bool))> = plane
        .world
        .rules()
        .iter()
        .filter(|rule| rule.hard && rule.kind == Affinity::Together)
        .map(|rule| members(plane, rule))
        .map(|members| (members.clone(), is_together(plane, &members)))
        .collect();

    // The same inputs lead to the same plan, also after a restart.
    let next_action = plane.next_action;
    let mut again = Planner::from_bytes(&plane.planner.to_bytes()).unwrap();
    let plan = plane.decide(proposals.clone());
    std::mem::swap(&mut again, &mut plane.planner);
    let after = std::mem::replace(&mut plane.next_action, next_action);
    prop_assert_eq!(&plane.decide(proposals.clone()), &plan);
    prop_assert_eq!(plane.planner.to_bytes(), again.to_bytes());
    prop_assert_eq!(plane.next_action, after);

    prop_assert_eq!(plan.accepted.len() + plan.refused.len() + plan.refreshed.len(), proposals.len());
    prop_assert_eq!(after - next_action, plan.accepted.len() as u64);
    for action in &plan.accepted {
        if action.proposal.kind.vm().is_some() {
            plane.open.insert(action.id, action.clone());
        }
    }
    let open: Vec<VmId> = plane.open.values().filter(|a| a.state.is_open()).filter_map(|a| a.proposal.kind.vm()).collect();
    prop_assert_eq!(open.iter().collect::<BTreeSet<_>>().len(), open.len(), "two open actions on a guest");

    for action in plan.accepted.iter().filter(|action| action.state.is_open()) {
        let Some(vm) = action.proposal.kind.vm() else { continue };
        let vm = plane.world.vm(vm).unwrap();
        prop_assert!(vm.epoch_of("home").is_some(), "acted on a guest that is not ours");
        let is_move = matches!(action.proposal.kind, ActionKind::Migrate { .. });
        let grows = matches!(action.proposal.kind, ActionKind::Start { .. } | ActionKind::Migrate { live: true, .. });
        let target = action.proposal.kind.destination().unwrap_or(&vm.host);
        if is_move || grows {
            prop_assert!(!plane.world.host(target).unwrap().in_maintenance(), "placed on a host in maintenance");
        }
        if grows {
            let (vcpus, memory_mib) = promised(plane, target);
            prop_assert!(vcpus <= 32, "{vcpus} vcpus promised on {target}");
            prop_assert!(memory_mib as f64 <= 32_768.0 * 0.9, "{memory_mib} MiB promised on {target}");
            for rule in plane.world.rules().iter().filter(|rule| rule.hard && rule.kind == Affinity::Apart) {
                let members = members(plane, rule);
                for other in members.iter().filter(|other| **other != vm.id && members.contains(&vm.id)) {
                    prop_assert!(!places(plane, *other).0.contains(target), "{} breaks {}", vm.name, rule.name);
                }
            }
        }
        let migrations = plane.open.values().filter(|action| action.state.is_open()).filter(|action| {
            let to = action.proposal.kind.destination();
            matches!(action.proposal.kind, ActionKind::Migrate { .. })
                && (to == Some(target) || action.host.as_ref() == Some(target))
        });
        prop_assert!(!is_move || migrations.count() <= 2, "too many migrations");
        let is_evacuation = is_move && plane.world.host(&vm.host).unwrap().in_maintenance();
        if let Some(embot) = &action.proposal.embot {
            log.0.push((plane.now, embot.module.clone(), vm.id, is_evacuation));
        }
    }
    for (members, (was_together, was_calm)) in together {
        // What an admin or a policy starts elsewhere is checked at its start; so nothing may have come apart.
        prop_assert!(!(was_together && was_calm) || is_together(plane, &members).0, "a group was torn apart");
    }
    let Guardrails { module_rate, plane_rate, blast_window, blast_radius, .. } = plane.guardrails;
    for module in MODULES {
        let used = log.since(plane.now - module_rate.per).filter(|(_, by, ..)| &**by == module).count();
        prop_assert!(used <= module_rate.actions as usize, "{module} acted {used} times");
    }
    prop_assert!(log.since(plane.now - plane_rate.per).count() <= plane_rate.actions as usize);
    // Whoever had to leave a host is touched already: acting on that guest once more touches nobody new.
    let lately = |evacuated: bool| {
        let those = log.since(plane.now - blast_window).filter(move |(.., is_evacuation)| *is_evacuation == evacuated);
        those.map(|(_, _, vm, _)| *vm).collect::<BTreeSet<VmId>>()
    };
    let touched: Vec<VmId> = lately(false).difference(&lately(true)).copied().collect();
    let allowed = ((plane.world.vm_count() as f64 * blast_radius.min(1.0)) as usize).max(1);
    prop_assert!(touched.len() <= allowed, "{} guests touched, {allowed} allowed", touched.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_keep_all_guardrails(setup in setup(), steps in proptest::collection::vec(step(), 1..25)) {
        let mut plane = setup.plane();
        let mut log = Log::default();
        for step in steps {
            match step {
                Step::Pass(ms) => plane.pass(Span(ms)),
                Step::Decide(wishes) => check(&mut plane, wishes, &mut log)?,
                Step::End(is_well) => {
                    let oldest = plane.open.iter().find(|(_, action)| action.state.is_open()).map(|(id, _)| *id);
                    let Some(oldest) = oldest else { continue };
                    let kind = plane.open[&oldest].proposal.kind.clone();
                    let state = if is_well { ActionState::Done } else { ActionState::Failed { reason: "no".into() } };
                    plane.end(oldest, state);
                    if let (true, Some(vm)) = (is_well, kind.vm()) {
                        plane.world.edit_vm(vm, |vm| match kind {
                            ActionKind::Start { .. } | ActionKind::Resume { .. } => vm.state = VmState::Running,
                            ActionKind::Shutdown { .. } => vm.state = VmState::Off,
                            ActionKind::Suspend { .. } => vm.state = VmState::Paused,
                            ActionKind::SetMemory { memory_mib, .. } => vm.memory_mib = memory_mib,
                            ActionKind::SetVcpus { vcpus, .. } => vm.vcpus = vcpus,
                            _ => {}
                        });
                    }
                }
                Step::Maintain(host) => {
                    plane.world.edit_host(&HOSTS[host].into(), |host| host.maintenance = match host.maintenance {
                        Maintenance::Off => Maintenance::On(Timestamp(0)),
                        Maintenance::On(_) => Maintenance::Off,
                    });
                }
                Step::Heat(host, cores) => {
                    let now = plane.now;
                    plane.world.sample_host(&HOSTS[host].into(), |host| (host.load.cpu_cores, host.load_at) = (cores, now));
                }
            }
        }
    }
}
