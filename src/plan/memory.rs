//! What the planner remembers between decisions, and the limits of pace that need it: hold, cool-down, rates, blast radius.
//!
//! It survives a restart as bytes with a version. Its size is bounded: every entry leaves with the window it counts in, and
//! the windows hold no more than the limits let in.

use super::guardrails::{Guardrails, Rate};
use super::planner::PlannerError;
use super::rejections::{Rejection, Rejections};
use super::target::setting;
use super::terms::Terms;
use super::{Decided, No};
use crate::model::{ActionId, ActionKind, ElementId, EmbotId, Event, HostId, Proposal, Span, Timestamp, Verb, Vm, VmId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The same words of the same embot are passed on once in this time.
const SAME_WORDS: Span = Span::minutes(1);

/// A finished move is remembered so long, for hosts whose sample is older than its end.
const SETTLING: Span = Span::minutes(5);

/// A module that did nothing for so long is forgotten, so rates over longer windows count at most this far back for it. A hold
/// begins anew after this.
const IDLE: Span = Span::hours(24);

/// Rests are remembered at least so long, for the module with a longer cool-down that is yet to come.
const KEPT_RESTS: Span = Span::hours(1);

/// Holds of one embot; beyond this the one that began first is forgotten and must begin anew.
const HOLDS: usize = 4_096;

/// The version of the bytes.
pub(super) const VERSION: u8 = 2;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Has anything changed that is worth writing down?
    #[serde(skip)]
    pub(super) is_changed: bool,
    resting: BTreeMap<VmId, Rest>,
    /// The longest cool-down that anybody asked for so far: rests older than that are forgotten.
    longest_cooldown: Span,
    actions: Budgets,
    notices: Budgets,
    touched: BTreeMap<VmId, Timestamp>,
    holds: BTreeMap<EmbotId, BTreeMap<Condition, Timestamp>>,
    told: BTreeMap<(EmbotId, Arc<str>), Timestamp>,
    /// What admins said no to.
    pub(super) rejections: Rejections,
    settling: BTreeMap<VmId, Move>,
}

/// What a planner remembers of one guest, as it travels with the guest to another plane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestMemory {
    rest: Option<Rest>,
    longest_cooldown: Span,
    touched: Option<Timestamp>,
    holds: Vec<(EmbotId, Condition, Timestamp)>,
    told: Vec<(EmbotId, Arc<str>, Timestamp)>,
    rejections: Vec<Rejection>,
    /// When modules had actions accepted for this guest: a guest does not escape its modules' rates by moving.
    pub spent: Vec<(Arc<str>, Timestamp)>,
}

impl GuestMemory {
    /// The same by another plane's clock.
    #[must_use]
    pub fn shifted(mut self, shift: impl Fn(Timestamp) -> Timestamp) -> GuestMemory {
        let rest = self.rest.iter_mut().map(|rest| &mut rest.since);
        let held = self.holds.iter_mut().map(|(.., since)| since).chain(self.told.iter_mut().map(|(.., at)| at));
        let rejected = self.rejections.iter_mut().flat_map(|rejection| [&mut rejection.at, &mut rejection.until]);
        let spent = self.spent.iter_mut().map(|(_, at)| at);
        for at in rest.chain(&mut self.touched).chain(held).chain(rejected).chain(spent) {
            *at = shift(*at);
        }
        self
    }

    /// Is all of it about this guest?
    pub fn is_of(&self, vm: VmId) -> bool {
        let embots = self.holds.iter().map(|(embot, ..)| embot).chain(self.told.iter().map(|(embot, ..)| embot));
        embots.into_iter().all(|embot| embot.element.vm() == Some(vm))
    }

    /// Names the guest's actions by the numbers they have on this plane.
    pub fn renumber(&mut self, number: impl Fn(ActionId) -> ActionId) {
        let rest = self.rest.iter_mut().map(|rest| &mut rest.action);
        for action in rest.chain(self.rejections.iter_mut().map(|rejection| &mut rejection.action)) {
            *action = number(*action);
        }
    }
}

/// A guest's last action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rest {
    since: Timestamp,
    action: ActionId,
    verb: Verb,
}

/// When actions were accepted: of each module, and of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Budgets {
    modules: BTreeMap<Arc<str>, VecDeque<Timestamp>>,
    plane: VecDeque<Timestamp>,
}

/// What a hold is about: the same kind of event, about the same element, leads to the same sort of action. Which guest of a
/// hot host a script picks may change from sample to sample without the condition being another; only where the event is
/// about the whole plane, or about none of its elements, the guest tells one condition from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Condition {
    event: String,
    about: ElementId,
    subject: Option<VmId>,
    verb: Verb,
}

/// A move that ended, and that the hosts' samples may not show yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) source: HostId,
    pub(super) target: HostId,
    pub(super) at: Timestamp,
}

impl Condition {
    fn new(event: &Event, kind: &ActionKind) -> Condition {
        let subject = if event.element == ElementId::Plane { kind.vm() } else { None };
        Condition { event: event.body.kind().name.to_owned(), about: event.element.clone(), subject, verb: kind.verb() }
    }
}

impl Memory {
    /// The condition that led to a proposal must have lasted. The first time counts as its beginning.
    pub(super) fn hold(
        &mut self,
        proposal: &Proposal,
        terms: &Terms,
        guardrails: &Guardrails,
        now: Timestamp,
    ) -> Decided<Span> {
        let (hold, key) = terms.hold(guardrails);
        let (Some(embot), Some(event)) = (&proposal.embot, &proposal.cause) else { return Ok(Span::ZERO) };
        if hold == Span::ZERO {
            return Ok(Span::ZERO);
        }
        let holds = self.holds.entry(embot.clone()).or_default();
        let condition = Condition::new(event, &proposal.kind);
        let since = *holds.entry(condition).or_insert_with(|| {
            self.is_changed = true;
            now
        });
        if holds.len() > HOLDS
            && let Some(oldest) = holds.iter().min_by_key(|(_, since)| **since).map(|(condition, _)| condition.clone())
        {
            holds.remove(&oldest);
        }
        let lasted = now.since(since);
        if lasted >= hold {
            return Ok(lasted);
        }
        No::because(
            "hold",
            format!(
                "the condition has lasted {} and must last {hold}; it is looked at again with each event. To act sooner, shorten `{key}`",
                lasted.rounded()
            ),
        )
    }

    /// A step on this event proposed these: what it no longer proposes is held no longer.
    pub(super) fn considered<'p>(
        &mut self,
        embot: &EmbotId,
        event: &Event,
        proposed: impl IntoIterator<Item = &'p ActionKind>,
    ) {
        if self.holds.is_empty() {
            return;
        }
        let Some(holds) = self.holds.get_mut(embot) else { return };
        let before = holds.len();
        let proposed: Vec<Condition> = proposed.into_iter().map(|kind| Condition::new(event, kind)).collect();
        let name = event.body.kind().name;
        holds.retain(|held, _| held.event != name || held.about != event.element || proposed.contains(held));
        self.is_changed |= holds.len() != before;
        if holds.is_empty() {
            self.holds.remove(embot);
        }
    }

    /// The guest must have been left alone for a while, unless it is down by no will of anybody's and is to be brought back:
    /// a restart is paced by its policy's back-off and by the rates.
    pub(super) fn cooldown(
        &mut self,
        vm: &Vm,
        proposal: &Proposal,
        terms: &Terms,
        guardrails: &Guardrails,
        now: Timestamp,
    ) -> Decided<()> {
        let (cooldown, key) = terms.cooldown(guardrails);
        if cooldown > self.longest_cooldown {
            self.longest_cooldown = cooldown;
            self.is_changed = true;
        }
        let Some(rest) = self.resting.get(&vm.id) else { return Ok(()) };
        let rested = now.since(rest.since);
        if rested >= cooldown || is_repair(vm, &proposal.kind) {
            return Ok(());
        }
        No::because(
            "cooldown",
            format!(
                "{} was acted on {} ago (action {}, {}) and rests for {cooldown}, so {} more. To act sooner, shorten {}",
                vm.name,
                rested.rounded(),
                rest.action,
                rest.verb,
                Span(cooldown.0 - rested.0).rounded(),
                setting(key)
            ),
        )
    }

    /// Neither the module nor the plane may have used up its actions.
    pub(super) fn rates(&mut self, terms: &Terms, guardrails: &Guardrails, now: Timestamp) -> Decided<String> {
        self.actions.check("actions", terms, guardrails, now)
    }

    /// No more than a share of the guests may be acted on in a while.
    pub(super) fn blast_radius(&mut self, vm: &Vm, guests: usize, guardrails: &Guardrails, now: Timestamp) -> Decided<String> {
        let window = guardrails.blast_window;
        self.touched.retain(|_, at| *at + window > now);
        let allowed = ((guests as f64 * guardrails.blast_radius.clamp(0.0, 1.0)).floor() as usize).max(1);
        let touched = self.touched.len();
        if self.touched.contains_key(&vm.id) || touched < allowed {
            return Ok(format!("{touched} of {allowed} guests in {window}"));
        }
        No::because(
            "blast_radius",
            format!(
                "{touched} of {guests} guests were acted on within {window} and {allowed} may be; {} would be one more. To allow more, raise `guardrails.blast_radius` (now {})",
                vm.name, guardrails.blast_radius
            ),
        )
    }

    /// An action is to be carried out: it counts.
    pub(super) fn accepted(&mut self, vm: Option<VmId>, terms: &Terms, now: Timestamp) {
        self.is_changed = true;
        if !terms.is_admin {
            self.touched.extend(vm.map(|vm| (vm, now)));
            self.actions.spend(&terms.module, now);
        }
    }

    /// Advice of a module was approved: it is an action of the module now, and an admin's as far as the plane's pace goes.
    pub(super) fn approved(&mut self, module: &Arc<str>, now: Timestamp) {
        self.is_changed = true;
        self.actions.spend_of_module(module, now);
    }

    /// Notices have budgets of their own, so that a talkative policy cannot use up what is for actions.
    pub(super) fn notice(
        &mut self,
        proposal: &Proposal,
        text: &Arc<str>,
        terms: &Terms,
        guardrails: &Guardrails,
        now: Timestamp,
    ) -> Decided<()> {
        if terms.is_admin {
            return Ok(());
        }
        self.told.retain(|_, at| *at + SAME_WORDS > now);
        let words = proposal.embot.clone().map(|embot| (embot, text.clone()));
        if let Some(at) = words.as_ref().and_then(|words| self.told.get(words)) {
            let ago = now.since(*at).rounded();
            return No::because(
                "repeated",
                format!("the same was said {ago} ago; the same words are passed on once in {SAME_WORDS}"),
            );
        }
        self.notices.check("notices", terms, guardrails, now)?;
        self.is_changed = true;
        self.notices.spend(&terms.module, now);
        if let Some(words) = words {
            self.told.insert(words, now);
        }
        Ok(())
    }

    pub(super) fn rests_from(&mut self, vm: VmId, action: ActionId, verb: Verb, now: Timestamp) {
        self.is_changed = true;
        self.resting.insert(vm, Rest { since: now, action, verb });
    }

    /// An admin said no.
    pub(super) fn was_rejected(&mut self, vm: VmId, rejection: Rejection) {
        self.is_changed = true;
        self.rejections.add(vm, rejection);
    }

    /// An admin takes a no back.
    pub(super) fn lift(&mut self, action: ActionId) -> Option<(VmId, Rejection)> {
        let lifted = self.rejections.lift(action)?;
        self.is_changed = true;
        Some(lifted)
    }

    pub(super) fn has_moved(&mut self, vm: VmId, source: HostId, target: HostId, now: Timestamp) {
        self.is_changed = true;
        self.settling.insert(vm, Move { source, target, at: now });
    }

    /// The moves that a host's sample may not show yet.
    pub(super) fn settling(&self) -> impl Iterator<Item = (VmId, &Move)> {
        self.settling.iter().map(|(vm, moved)| (*vm, moved))
    }

    /// Forgets what no longer counts.
    pub(super) fn tidy(&mut self, guardrails: &Guardrails, now: Timestamp) {
        let longest = self.longest_cooldown.max(guardrails.cooldown).max(KEPT_RESTS);
        self.resting.retain(|_, rest| rest.since + longest > now);
        self.rejections.tidy(now);
        self.settling.retain(|_, moved| moved.at + SETTLING > now);
        self.holds.retain(|_, holds| {
            holds.retain(|_, since| *since + IDLE > now);
            !holds.is_empty()
        });
        for budgets in [&mut self.actions, &mut self.notices] {
            budgets.modules.retain(|_, log| log.back().is_some_and(|at| *at + IDLE.max(guardrails.module_rate.per) > now));
        }
    }

    /// What is remembered of one guest and the embots that stand for it.
    pub(super) fn of_guest(&self, vm: VmId) -> GuestMemory {
        let is_theirs = |embot: &&EmbotId| embot.element.vm() == Some(vm);
        let holds = self.holds.iter().filter(|(embot, _)| is_theirs(embot));
        let holds = holds.flat_map(|(embot, holds)| {
            holds.iter().map(|(condition, since)| (embot.clone(), condition.clone(), *since)).collect::<Vec<_>>()
        });
        let told = self.told.iter().filter(|((embot, _), _)| is_theirs(&embot));
        GuestMemory {
            rest: self.resting.get(&vm).cloned(),
            longest_cooldown: self.longest_cooldown,
            touched: self.touched.get(&vm).copied(),
            holds: holds.collect(),
            told: told.map(|((embot, words), at)| (embot.clone(), words.clone(), *at)).collect(),
            rejections: self.rejections.of_guest(vm),
            spent: Vec::new(),
        }
    }

    /// Takes over what another plane remembered of a guest.
    pub(super) fn remember_guest(&mut self, vm: VmId, memory: GuestMemory) {
        self.is_changed = true;
        self.longest_cooldown = self.longest_cooldown.max(memory.longest_cooldown);
        self.resting.extend(memory.rest.map(|rest| (vm, rest)));
        self.touched.extend(memory.touched.map(|at| (vm, at)));
        for (embot, condition, since) in memory.holds {
            self.holds.entry(embot).or_default().insert(condition, since);
        }
        self.told.extend(memory.told.into_iter().map(|(embot, words, at)| ((embot, words), at)));
        memory.rejections.into_iter().for_each(|rejection| self.rejections.add(vm, rejection));
        for (module, at) in memory.spent {
            let log = self.actions.modules.entry(module).or_default();
            let place = log.partition_point(|other| *other <= at);
            log.insert(place, at);
        }
    }

    /// Forgets a guest that another plane manages now. What modules have used up of their rates stays used.
    pub(super) fn forget_guest(&mut self, vm: VmId) {
        self.is_changed = true;
        self.resting.remove(&vm);
        self.touched.remove(&vm);
        self.settling.remove(&vm);
        self.holds.retain(|embot, _| embot.element.vm() != Some(vm));
        self.told.retain(|(embot, _), _| embot.element.vm() != Some(vm));
        self.rejections.forget_guest(vm);
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        // Writing to memory fails for types without a fixed shape only, and there are none here.
        bytes.extend(postcard::to_stdvec(self).unwrap_or_default());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Memory, PlannerError> {
        match bytes.split_first() {
            None => Ok(Memory::default()),
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| PlannerError::Damaged(error.to_string())),
            Some((version, _)) => Err(PlannerError::Version(*version)),
        }
    }
}

/// Is this to bring a guest back that died, or could not be run?
fn is_repair(vm: &Vm, kind: &ActionKind) -> bool {
    use crate::model::{Reason, VmState};
    let died = vm.state == VmState::Crashed || matches!(vm.reason, Reason::Crashed | Reason::Failed);
    died && !vm.is_active() && kind.verb() == Verb::Start
}

impl Budgets {
    fn check(&mut self, what: &str, terms: &Terms, guardrails: &Guardrails, now: Timestamp) -> Decided<String> {
        let longest = terms.rates(guardrails).map(|(rate, _)| rate.per).max().unwrap_or(Span::ZERO);
        let module = self.modules.get_mut(&terms.module);
        let mut used = String::new();
        if let Some(log) = module {
            forget_before(log, longest, now);
            for (rate, key) in terms.rates(guardrails) {
                used = limited(log, rate, now, &format!("module {} has used its {what}", terms.module), key)?;
            }
            if log.is_empty() {
                self.modules.remove(&terms.module);
            }
        } else {
            let empty = VecDeque::new();
            for (rate, key) in terms.rates(guardrails) {
                used = limited(&empty, rate, now, &format!("module {} may take no {what}", terms.module), key)?;
            }
        }
        let rate = guardrails.plane_rate;
        forget_before(&mut self.plane, rate.per, now);
        limited(&self.plane, rate, now, &format!("the plane has used its {what}"), "guardrails.plane_rate")?;
        Ok(used)
    }

    fn spend(&mut self, module: &Arc<str>, now: Timestamp) {
        self.spend_of_module(module, now);
        self.plane.push_back(now);
    }

    fn spend_of_module(&mut self, module: &Arc<str>, now: Timestamp) {
        self.modules.entry(module.clone()).or_default().push_back(now);
    }
}

fn forget_before(log: &mut VecDeque<Timestamp>, per: Span, now: Timestamp) {
    while log.front().is_some_and(|at| *at + per <= now) {
        log.pop_front();
    }
}

fn limited(log: &VecDeque<Timestamp>, rate: Rate, now: Timestamp, who: &str, key: &str) -> Decided<String> {
    let counted = log.len() - log.partition_point(|at| *at + rate.per <= now);
    let allowed = rate.actions as usize;
    if counted < allowed {
        return Ok(format!("{counted} of {allowed} in {}", rate.per));
    }
    // Free again when the `allowed`th youngest entry leaves the window.
    let next = log.len().checked_sub(allowed).and_then(|index| log.get(index)).map(|at| (*at + rate.per).since(now).rounded());
    let next = next.map_or(String::new(), |next| format!("; the next is possible in {next}"));
    No::because("rate", format!("{who}: {counted} of {allowed} in {}{next}. To allow more, raise {}", rate.per, setting(key)))
}
