//! What the manager does with plans and with what effectors say of actions.

use super::{Manager, Output, Planner, RefusalView, Situation};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ActionUpdate, ElementId, EventBody, HostId, Mark, Mode, Plan, Proposal, Reason,
    Record, Refusal, Span, Timestamp, Vm, VmId, VmState,
};
use crate::plan::Terms;
use std::sync::Arc;

/// Advice that an admin rejected is not given again for so long, unless the admin says how long.
const REJECTED_REST: Span = Span::hours(1);
/// A refusal that keeps coming is counted, and recorded again only after this...
const REPEATED: Span = Span::hours(1);
/// ... or where it had not come for so long.
const ABSENT: Span = Span::minutes(5);
/// Refusals kept at hand.
const REFUSALS_KEPT: usize = 512;

impl Manager {
    /// Asks the planner, as things are now. It may take numbers for actions from the counter.
    fn planned<T>(&mut self, ask: impl FnOnce(&mut Planner, &Situation<'_>, &mut u64) -> T) -> T {
        let (world, usage) = (self.world.borrow(), self.usage.borrow());
        let situation =
            Situation { world: &world, usage: &usage, guardrails: &self.settings.guardrails, open: &self.open, now: self.now };
        ask(&mut self.planner, &situation, &mut self.row.next_action)
    }

    /// What the planner finds, as things are now; nothing is decided by it.
    pub(super) fn weighed<T>(&self, ask: impl FnOnce(&Planner, &Situation<'_>) -> T) -> T {
        let (world, usage) = (self.world.borrow(), self.usage.borrow());
        let (guardrails, open, now) = (&self.settings.guardrails, &self.open, self.now);
        ask(&self.planner, &Situation { world: &world, usage: &usage, guardrails, open, now })
    }

    /// Lets the planner weigh what embots want, and takes its plan over.
    pub(super) fn decide(&mut self, wanted: Vec<(Proposal, Arc<Terms>)>) -> Plan {
        let mut plan = self.planned(|planner, situation, next_action| planner.decide(situation, wanted, next_action));
        for action in &plan.accepted {
            self.accept(action.clone());
        }
        for refusal in &plan.refused {
            self.refuse(refusal.clone());
        }
        self.refresh_advice(std::mem::take(&mut plan.refreshed));
        plan
    }

    fn accept(&mut self, action: Action) {
        self.turn.records.push(Record::Planned { action: action.clone() });
        self.turn.actions.insert(action.id);
        self.audit_action(&action);
        self.figures.planned += 1;
        self.tally.action(action.proposal.kind.verb(), action.state.word());
        let planned = action.state == ActionState::Planned;
        self.open.insert(action.id, action.clone());
        if !planned {
            self.notices.advised(action.id, self.now);
        }
        self.supersede_advice(&action);
        if planned {
            self.send_out(action);
        }
    }

    /// A planned action goes to its effector, when the batch is durable.
    fn send_out(&mut self, action: Action) {
        if let Some(vm) = action.proposal.kind.vm() {
            let mut world = self.world.borrow_mut();
            world.open.insert(vm, (action.id, action.proposal.kind.verb()));
            if let ActionKind::Migrate { to: Some(to), .. } = &action.proposal.kind {
                world.moving.insert(vm, to.clone());
            }
        }
        match action.proposal.kind {
            ActionKind::Handover { .. } => self.begin_handover(&action),
            _ => self.turn.outputs.push(Output::Dispatch(Box::new(action))),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.figures.refused += 1;
        self.tally.refusal(refusal.guardrail.clone());
        let same = |old: &RefusalView| {
            let (a, b) = (&old.refusal, &refusal);
            a.guardrail == b.guardrail
                && a.proposal.embot == b.proposal.embot
                && a.proposal.kind.vm() == b.proposal.kind.vm()
                && a.proposal.kind.verb() == b.proposal.kind.verb()
        };
        if let Some(at) = self.refusals.iter().rposition(same)
            && self.now.since(self.refusals[at].recorded_at) < REPEATED
            && self.now.since(self.refusals[at].last_at) < ABSENT
            && refusal.proposal.embot.is_some()
        {
            let old = &mut self.refusals[at];
            (old.last_at, old.count, old.refusal) = (self.now, old.count + 1, refusal);
            return;
        }
        if self.refusals.len() == REFUSALS_KEPT {
            self.refusals.pop_front();
        }
        let number = self.row.next_refusal;
        self.row.next_refusal += 1;
        self.turn.records.push(Record::Refused { number, refusal: refusal.clone() });
        self.refusals.push_back(RefusalView { number, recorded_at: self.now, last_at: self.now, count: 1, refusal });
    }

    /// An effector tells of an action. What comes after its end is ignored.
    pub(super) fn update(&mut self, id: ActionId, update: &ActionUpdate) {
        let Some(action) = self.open.get_mut(&id) else { return };
        if !action.state.is_open() {
            return;
        }
        self.turn.records.push(Record::Action { action: id, update: update.clone() });
        let state = match update {
            ActionUpdate::Started => {
                action.state = ActionState::Started;
                // One that is being recovered was started before: what hosts have said since then is newer.
                if !self.unreconciled.contains(&id) {
                    action.state_at = self.now;
                }
                self.turn.actions.insert(id);
                return;
            }
            ActionUpdate::Progress(progress) => {
                action.progress = Some(*progress);
                // It goes on, and that is all there is to know of it.
                self.unreconciled.remove(&id);
                return;
            }
            ActionUpdate::Done => ActionState::Done,
            ActionUpdate::Failed(reason) => ActionState::Failed { reason: reason.clone() },
            ActionUpdate::Cancelled(by) => ActionState::Cancelled { by: by.clone() },
        };
        self.end(id, state);
    }

    /// An action is over: the world, the planner and the embot that wanted it learn of it.
    pub(super) fn end(&mut self, id: ActionId, state: ActionState) {
        let Some(mut action) = self.open.remove(&id) else { return };
        self.unreconciled.remove(&id);
        let started_at = action.state_at;
        (action.state, action.state_at) = (state, self.now);
        self.audit_action(&action);
        action.cancelling = None;
        self.turn.actions.insert(id);
        if let Some(vm) = action.proposal.kind.vm() {
            let mut world = self.world.borrow_mut();
            if world.open.get(&vm).is_some_and(|(open, _)| *open == id) {
                world.open.remove(&vm);
                world.moving.remove(&vm);
            }
        }
        self.tally.action(action.proposal.kind.verb(), action.state.word());
        match &action.state {
            ActionState::Done => {
                self.figures.done += 1;
                self.done(&action, started_at);
            }
            ActionState::Failed { .. } => self.figures.failed += 1,
            _ => {}
        }
        self.planner.ended(&action, self.now);
        // What an embot itself says no more, or said otherwise, it need not be told.
        let is_told = !matches!(action.state, ActionState::Withdrawn { .. });
        if let Some(embot) = action.proposal.embot.clone().filter(|_| is_told) {
            let body = match &action.state {
                ActionState::Done => EventBody::ActionDone(id),
                ActionState::Failed { reason } => EventBody::ActionFailed { action: id, reason: reason.clone() },
                other => EventBody::ActionFailed { action: id, reason: other.word().into() },
            };
            self.event(self.now, embot.element.clone(), Some(embot), body);
        }
        self.ended.insert(id, action);
    }

    /// What a finished action made true, known at once and not only at the next poll. Where the hypervisor has said something
    /// newer than the action's start, that counts.
    fn done(&mut self, action: &Action, started_at: Timestamp) {
        let kind = &action.proposal.kind;
        let Some(vm) = kind.vm() else { return };
        let state = match kind {
            ActionKind::Start { .. } => Some((VmState::Running, Reason::Booted)),
            ActionKind::Shutdown { .. } => Some((VmState::Off, Reason::Shutdown)),
            ActionKind::Destroy { .. } => Some((VmState::Off, Reason::Asked)),
            ActionKind::Suspend { .. } => Some((VmState::Paused, Reason::Asked)),
            ActionKind::Resume { .. } => Some((VmState::Running, Reason::Asked)),
            ActionKind::Save { .. } => Some((VmState::Off, Reason::Saved)),
            ActionKind::Restore { .. } => Some((VmState::Running, Reason::Saved)),
            _ => None,
        };
        let mut world = self.world.borrow_mut();
        if let ActionKind::Adopt { .. } = kind {
            let mark = Mark { plane: world.plane.clone(), epoch: action.epoch };
            self.inventory.marked(&mut world, vm, mark, self.now);
        }
        let newer = world.vm(vm).is_none_or(|vm| vm.since > started_at);
        // Where it no longer stands where the move began, some host has said since that it is there.
        let stands = world.vm(vm).is_some_and(|vm| Some(&vm.host) == action.host.as_ref());
        let sensed = match kind {
            ActionKind::Migrate { to: Some(host), .. } if stands => {
                self.inventory.acted(&mut world, vm, self.now, Some(host), None)
            }
            ActionKind::Migrate { .. } => Vec::new(),
            _ if newer => Vec::new(),
            _ => self.inventory.acted(&mut world, vm, self.now, None, state),
        };
        drop(world);
        self.sensed(sensed);
    }

    /// Would this advice be carried out, were it approved now? The action as it would be, or why not. Nothing is changed by it.
    pub fn if_approved(&self, action: &Action, by: &Arc<str>) -> Result<Action, String> {
        self.must_be_settled()?;
        let approved = self.weighed(|planner, situation| planner.clone().approve(situation, action, by));
        approved.map_err(|refusal| refusal.reason)
    }

    /// An admin approves advice: checked again as things are now.
    pub(super) fn approve(&mut self, id: ActionId, by: &Arc<str>, reason: Option<&Arc<str>>) -> Result<ActionId, String> {
        self.must_be_settled()?;
        let Some(action) = self.open.get(&id).cloned() else { return Err(self.no_such_action(id)) };
        if !matches!(action.state, ActionState::Advised { .. }) {
            return Err(format!("action {id} is {}; only advice can be approved", action.state.word()));
        }
        let approved = self.planned(|planner, situation, _| planner.approve(situation, &action, by));
        let action = approved.map_err(|refusal| refusal.reason)?;
        self.open.insert(id, action.clone());
        self.turn.actions.insert(id);
        self.settled(id, "approved", by, reason);
        self.supersede_advice(&action);
        self.send_out(action);
        Ok(id)
    }

    pub(super) fn settled(&mut self, action: ActionId, how: &str, by: &Arc<str>, reason: Option<&Arc<str>>) {
        self.turn.records.push(Record::Settled { action, how: how.into(), by: by.clone(), reason: reason.cloned() });
    }

    /// An admin rejects advice. The same is not advised for its guest again for a while.
    pub(super) fn reject(
        &mut self,
        id: ActionId,
        by: &Arc<str>,
        reason: Option<&Arc<str>>,
        rest: Option<Span>,
    ) -> Result<ActionId, String> {
        let Some(action) = self.open.get(&id) else { return Err(self.no_such_action(id)) };
        if !matches!(action.state, ActionState::Advised { .. }) {
            let word = action.state.word();
            return Err(format!(
                "action {id} is {word}; only advice can be rejected (`embot plan cancel {id}` ends a running action)"
            ));
        }
        self.settled(id, "rejected", by, reason);
        let until = self.now + rest.unwrap_or(REJECTED_REST);
        self.end(id, ActionState::Rejected { by: by.clone(), reason: reason.cloned(), until });
        Ok(id)
    }

    /// An admin cancels what runs: the effector ends it and says so.
    pub(super) fn cancel(&mut self, id: ActionId, by: &Arc<str>, reason: Option<&Arc<str>>) -> Result<ActionId, String> {
        let Some(action) = self.open.get(&id) else { return Err(self.no_such_action(id)) };
        if !action.state.is_open() {
            return self.reject(id, by, reason, None);
        }
        if matches!(action.proposal.kind, ActionKind::Handover { .. }) {
            self.may_cancel(&self.migration_of(id))?;
        }
        self.settled(id, "cancelling", by, reason);
        self.withdraw(id, by);
        Ok(id)
    }

    /// Asks for the end of an action. The wish stands in its row, so that it is told again after a restart.
    pub(super) fn withdraw(&mut self, id: ActionId, by: &Arc<str>) {
        let Some(action) = self.open.get_mut(&id) else { return };
        action.cancelling = Some(by.clone());
        self.turn.actions.insert(id);
        match action.proposal.kind {
            ActionKind::Handover { .. } => self.cancel_handover(id, by),
            _ => self.turn.outputs.push(Output::Cancel(id)),
        }
    }

    fn no_such_action(&self, id: ActionId) -> String {
        match self.ended.get(&id) {
            Some(action) => format!("action {id} is {} already; `embot explain {id}` tells more", action.state.word()),
            None => format!("there is no action {id}; `embot plan list` shows those there are"),
        }
    }

    /// Where the configuration says that guests are adopted, the plane puts its mark on those that carry none: guests seen
    /// for the first time, guests whose definition changed, guests of a host that has come back.
    pub(super) fn adopt_unmarked(&mut self) {
        if !std::mem::take(&mut self.looks_for_unmarked) || self.settings.adopt == Mode::Observe || !self.world.borrow().armed {
            return;
        }
        let (by, reason) = (Arc::from("plane"), "adopted at first sight, as `adopt` in the configuration says");
        let unmarked: Vec<VmId> = {
            let world = self.world.borrow();
            let wanted = |vm: &&Vm| vm.mode > Mode::Observe && vm.mark.is_none() && !world.open.contains_key(&vm.id);
            world.vms().filter(wanted).map(|vm| vm.id).collect()
        };
        if !unmarked.is_empty() {
            self.mark(&unmarked, &by, reason);
        }
    }

    /// Puts the plane's mark on guests that do not carry it.
    pub(super) fn mark(&mut self, vms: &[VmId], by: &Arc<str>, reason: &str) -> Plan {
        let (terms, reason) = (Arc::new(Terms::admin(by)), Arc::from(reason));
        let wanted = vms.iter().map(|vm| (admin_wants(ActionKind::Adopt { vm: *vm }, &reason, by), terms.clone()));
        self.decide(wanted.collect())
    }

    /// A guest that runs on two hosts is left alone: which of the two an order would reach is anybody's guess.
    pub(super) fn runs_once(&self, vm: VmId) -> Result<(), String> {
        let Some(other) = self.inventory.also_on(vm).next() else { return Ok(()) };
        let name = self.world.borrow().label(&ElementId::Vm(vm));
        Err(format!("{name}: it runs on {other} as well; stop it by hand on one of its hosts first"))
    }

    /// Would this be planned, if an admin asked for it now? The action as it would be, or why not. Nothing is changed by it.
    pub fn try_out(&self, kind: ActionKind, by: &Arc<str>) -> Result<Action, String> {
        kind.vm().map_or(Ok(()), |vm| self.runs_once(vm))?;
        let wanted = vec![(admin_wants(kind, &"tried out".into(), by), Arc::new(Terms::admin(by)))];
        let mut number = self.row.next_action;
        let plan = self.weighed(|planner, situation| planner.clone().decide(situation, wanted, &mut number));
        match (plan.accepted.into_iter().next(), plan.refused.into_iter().next()) {
            (Some(action), _) => Ok(action),
            (None, refusal) => Err(refusal.map_or_else(|| "nothing came of it".to_owned(), |refusal| refusal.reason)),
        }
    }

    /// Something an admin wants done, now.
    pub(super) fn act_for_admin(&mut self, kind: ActionKind, reason: Arc<str>, by: &Arc<str>) -> Result<Vec<ActionId>, String> {
        kind.vm().map_or(Ok(()), |vm| self.runs_once(vm))?;
        let plan = self.decide(vec![(admin_wants(kind, &reason, by), Arc::new(Terms::admin(by)))]);
        match plan.refused.into_iter().next() {
            Some(refusal) => Err(refusal.reason),
            None => Ok(plan.accepted.iter().map(|action| action.id).collect()),
        }
    }

    /// A host enters or leaves maintenance.
    pub(super) fn maintenance(&mut self, host: &HostId, on: bool) -> Result<String, String> {
        use crate::model::Maintenance;
        let mut world = self.world.borrow_mut();
        let Some(known) = world.host(host) else {
            let names: Vec<_> = world.hosts().map(|host| host.id.as_str()).collect();
            let nearest = crate::error::nearest(host.as_str(), names.iter().copied());
            let hint =
                nearest.map_or_else(|| format!("there are {}", names.join(", ")), |name| format!("did you mean `{name}`?"));
            return Err(format!("there is no host `{host}`; {hint}"));
        };
        if known.in_maintenance() == on {
            return Ok(format!("{host} {} in maintenance already", if on { "is" } else { "is not" }));
        }
        let now = self.now;
        let ended = match known.maintenance {
            Maintenance::On(since) => Some(since),
            Maintenance::Off => None,
        };
        world.edit_host(host, |host| host.maintenance = if on { Maintenance::On(now) } else { Maintenance::Off });
        drop(world);
        self.withdraw_for_maintenance(host, ended);
        self.event(now, ElementId::Host(host.clone()), None, EventBody::Maintenance { on });
        Ok(if on {
            format!("{host} is in maintenance: no guest is placed there; {}", self.mover())
        } else {
            format!("{host} is back in service")
        })
    }

    /// Who moves guests away from a host in maintenance: the module that may go furthest.
    fn mover(&self) -> String {
        let body = EventBody::Maintenance { on: true };
        let evacuates = |module: &&std::rc::Rc<crate::embot::Module>| {
            module.manifest.permits.contains(&crate::model::Verb::Migrate)
                && module.policies.iter().any(|policy| policy.policy().handles(&body))
        };
        let Some(module) = self.roster.modules().filter(evacuates).max_by_key(|module| module.mode()) else {
            return "what runs there stays: no module that is loaded moves guests away (evacuate-maintenance does)".to_owned();
        };
        let name = &module.manifest.module;
        let acts = format!("`embot modules mode {name} act` lets it act");
        match module.mode() {
            Mode::Act => format!("module {name} moves away what runs there"),
            Mode::Advise => format!("module {name} only advises: `embot plan` shows what waits for your approval, {acts}"),
            Mode::Observe => format!("what runs there stays: module {name} only observes; {acts}"),
        }
    }
}

/// A proposal that no policy made.
fn admin_wants(kind: ActionKind, reason: &Arc<str>, by: &Arc<str>) -> Proposal {
    let (admin, reason) = (Some(by.clone()), reason.clone());
    Proposal { embot: None, admin, kind, reason, place: None, cause: None, reads: Arc::new([]) }
}
