//! A batch while it is decided: what is under way already, and what the batch itself has accepted so far.

use super::fleet::Fleet;
use super::memory::Memory;
use super::planner::Situation;
use super::{Decided, No};
use crate::model::{Action, ActionId, ActionKind, Mode, Proposal, Vm, VmId};
use std::collections::BTreeMap;

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

    /// Is nothing else being done, or about to be, with this guest? Advice that waits stands in nobody's way; where it says what
    /// is advised now, that is the answer.
    pub(super) fn is_free(&self, vm: &Vm, kind: &ActionKind, mode: Mode) -> Decided<Option<ActionId>> {
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
            if is_advice && is_same(kind, &action.proposal.kind) {
                return Ok(Some(action.id));
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

/// Does a proposal say what an action says? Where it leaves the target to the planner, any will do.
fn is_same(proposed: &ActionKind, known: &ActionKind) -> bool {
    match (proposed, known) {
        (ActionKind::Migrate { vm, to: None, live }, ActionKind::Migrate { vm: other, live: as_live, .. }) => {
            vm == other && live == as_live
        }
        _ => proposed == known,
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
