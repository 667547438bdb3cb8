//! A batch while it is decided: what is under way already, and what the batch itself has accepted so far.

use super::fleet::Fleet;
use super::memory::Memory;
use super::planner::Situation;
use super::{Decided, No};
use crate::model::{Action, ActionId, ActionState, Mode, Proposal, Span, Vm, VmId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Advice stands at least so long before its embot may advise the same kind of action otherwise (to another host, say): nobody
/// can answer what changes under their eyes.
const ADVICE_STANDS: Span = Span::minutes(2);

/// A batch while it is decided.
pub(super) struct Deciding<'a> {
    pub(super) situation: Situation<'a>,
    /// Actions that are not over, by guest.
    open_for: BTreeMap<VmId, Vec<&'a Action>>,
    pub(super) accepted: Vec<Action>,
    /// Where in `accepted` a guest's are.
    accepted_for: BTreeMap<VmId, Vec<usize>>,
    fleet: Option<Fleet<'a>>,
}

impl<'a> Deciding<'a> {
    pub(super) fn new(situation: Situation<'a>) -> Deciding<'a> {
        let mut open_for: BTreeMap<VmId, Vec<&Action>> = BTreeMap::new();
        for action in situation.open.values() {
            if let Some(vm) = action.proposal.kind.vm() {
                open_for.entry(vm).or_default().push(action);
            }
        }
        Deciding { situation, open_for, accepted: Vec::new(), accepted_for: BTreeMap::new(), fleet: None }
    }

    /// The fleet, made when it is first asked for.
    pub(super) fn fleet(&mut self, memory: &Memory) -> &Fleet<'a> {
        let (situation, accepted) = (self.situation, &self.accepted);
        self.fleet.get_or_insert_with(|| {
            let mut fleet = Fleet::new(situation, memory);
            accepted.iter().filter(|action| action.state.is_open()).for_each(|action| fleet.reserve(action));
            fleet
        })
    }

    /// From here on, an accepted action counts.
    pub(super) fn accept(&mut self, action: Action) {
        if let Some(fleet) = self.fleet.as_mut().filter(|_| action.state.is_open()) {
            fleet.reserve(&action);
        }
        if let Some(vm) = action.proposal.kind.vm() {
            self.accepted_for.entry(vm).or_default().push(self.accepted.len());
        }
        self.accepted.push(action);
    }

    /// Is nothing else being done, or about to be, with this guest? Advice that waits stands in nobody's way; where the same embot
    /// says again what waits, that is the answer. It may change its mind, but not with every sample.
    pub(super) fn is_free(&self, vm: &Vm, proposal: &Proposal, mode: Mode) -> Decided<Option<ActionId>> {
        let kind = &proposal.kind;
        let is_advice = mode != Mode::Act;
        if let Some(migration) = self.situation.world.arriving.get(&vm.id) {
            let name = &vm.name;
            return No::because(
                "busy",
                format!(
                    "{name} is just coming from plane {} (migration {migration}); wait until `embot migrations` shows it done",
                    migration.plane
                ),
            );
        }
        for action in self.open_for.get(&vm.id).into_iter().flatten() {
            let since = self.situation.now.since(action.state_at).rounded();
            let what = format!(
                "action {} ({}, {} {since} ago, for {})",
                action.id,
                what(action),
                action.state.word(),
                who(&action.proposal)
            );
            if action.state.is_open() {
                return No::because("busy", format!("{}: {what} is not over; one action at a time for a guest", vm.name));
            }
            if !is_advice || proposal.embot.is_none() || proposal.embot != action.proposal.embot {
                continue;
            }
            if kind.asks_for(&action.proposal.kind) {
                return Ok(Some(action.id));
            }
            if kind.verb() == action.proposal.kind.verb() && self.situation.now.since(action.decided_at) < ADVICE_STANDS {
                return No::because(
                    "advised",
                    format!(
                        "{}: {what} waits; another {} is advised in its place once it has stood for {ADVICE_STANDS}",
                        vm.name,
                        kind.verb()
                    ),
                );
            }
        }
        let of_same_guest = self.accepted_for.get(&vm.id).into_iter().flatten().filter_map(|at| self.accepted.get(*at));
        let mut counting = of_same_guest.filter(|action| action.state.is_open() || is_advice);
        let Some(winner) = counting.next() else { return Ok(None) };
        let what = format!("action {} ({}, for {})", winner.id, what(winner), who(&winner.proposal));
        let is_same_place = kind.destination().is_none_or(|to| winner.proposal.kind.destination() == Some(to));
        if winner.proposal.kind.verb() == kind.verb() && is_same_place {
            return No::because("duplicate", format!("{}: {what}, accepted a moment ago, does it already", vm.name));
        }
        No::because(
            "conflict",
            format!("{}: {what} was more urgent, or proposed first; one action at a time for a guest", vm.name),
        )
    }

    /// May the module advise more? What waits is for people, who read no endless lists. Advice takes nothing from what is done,
    /// and is not counted with it.
    pub(super) fn more_advice(&self, module: &Arc<str>) -> Decided<String> {
        let of_module = |action: &&Action| {
            matches!(action.state, ActionState::Advised { .. })
                && action.proposal.embot.as_ref().is_some_and(|embot| embot.module == *module)
        };
        let allowed = self.situation.guardrails.module_advice as usize;
        let waiting = self.situation.open.values().chain(&self.accepted).filter(of_module).count();
        if waiting < allowed {
            return Ok(format!("{waiting} of {allowed}"));
        }
        No::because(
            "advice",
            format!(
                "{waiting} actions that module {module} advises wait for an answer, and {allowed} may; answer some \
                 (`embot plan list --state advised --module {module}`), or raise `guardrails.module_advice`"
            ),
        )
    }

    /// Is there room for a guest to grow where it is?
    pub(super) fn grows(&mut self, memory: &Memory, vm: &Vm, vcpus: u64, memory_mib: u64) -> Decided<()> {
        let fleet = self.fleet(memory);
        let Some(seat) = fleet.seat(&vm.host) else { return Ok(()) };
        if vcpus == 0 && memory_mib == 0 {
            return Ok(());
        }
        fleet
            .room(seat, vcpus, memory_mib)
            .map(|_| ())
            .map_err(|obstacle| obstacle.refusal(&format!("{} on", vm.name), &vm.host))
    }
}

fn what(action: &Action) -> String {
    let kind = &action.proposal.kind;
    match kind.destination() {
        Some(host) => format!("{} to {host}", kind.verb()),
        None => kind.verb().to_string(),
    }
}

fn who(proposal: &Proposal) -> String {
    match (&proposal.embot, &proposal.admin) {
        (Some(embot), _) => format!("module {}", embot.module),
        (None, Some(admin)) => format!("admin {admin}"),
        (None, None) => "an admin".to_owned(),
    }
}
