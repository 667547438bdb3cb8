//! The planner: proposals in, plan out.
//!
//! Every proposal takes the same way, and the first check it fails refuses it:
//!
//! ```text
//! armed -> guest known, host up -> mode -> permit -> owner -> state, already so -> nothing else under way for this guest
//!   -> not rejected -> hold -> cool-down -> rates -> blast radius         (pace; does not bind admins)
//!   -> migrations at a time -> of the target: answers, maintenance, affinity, capacity, CPU, gain over cost
//! ```
//! What is only advised uses up neither rates nor blast radius: what is bounded is how much advice of a module may wait.
//! Urgent proposals come first: admins', then those that faults led to, then other facts', then those from samples. What is
//! accepted counts at once for those that follow in the same batch.

use super::deciding::Deciding;
use super::fleet::Fleet;
use super::guardrails::Guardrails;
use super::memory::{GuestMemory, Memory, VERSION};
use super::rejections::Rejection;
use super::target::{Candidate, Obstacle};
use super::terms::Terms;
use super::{Decided, No, affinity::Ties, placement, standing};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, EmbotId, Event, EventBody, EventClass, HostId, Mode, Peer, Plan, Proposal,
    Refusal, Timestamp, Verb, Vm, VmId, VmState, World,
};
use crate::usage::Usage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a decision is based on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Hosts and guests.
    pub world: &'a World,
    /// What they used.
    pub usage: &'a Usage,
    /// The plane's limits.
    pub guardrails: &'a Guardrails,
    /// All actions that are not over: advised, planned, started.
    pub open: &'a BTreeMap<ActionId, Action>,
    /// The time of the decision.
    pub now: Timestamp,
}

/// Turns proposals into plans. It remembers what limits of pace need: cool-downs, budgets, holds.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    memory: Memory,
}

/// Why a planner's memory cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlannerError {
    /// It was written by another version.
    #[error("the planner's memory has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// It is damaged.
    #[error("the planner's memory is damaged ({0}); restore the store from a backup")]
    Damaged(String),
}

/// What comes of a proposal that is not refused.
enum Weighed {
    /// It is to be done, or advised.
    Settled(Settled),
    /// It is advised already, and waits.
    Waits(ActionId),
}

/// A proposal that passed, ready to become an action.
struct Settled {
    kind: ActionKind,
    host: Option<HostId>,
    expects: Option<VmState>,
    epoch: u64,
    mode: Mode,
    weighed: Vec<String>,
}

impl Planner {
    /// Weighs the proposals of a batch. Every proposal ends in the plan: accepted or refused. Numbers for accepted ones are
    /// taken from `next_action`.
    pub fn decide(&mut self, situation: &Situation, proposals: Vec<(Proposal, Arc<Terms>)>, next_action: &mut u64) -> Plan {
        if proposals.is_empty() {
            return Plan::default();
        }
        self.memory.tidy(situation.guardrails, situation.now);
        let mut deciding = Deciding::new(*situation);
        let (mut refused, mut refreshed) = (Vec::new(), Vec::new());
        let mut proposals = proposals;
        proposals.sort_by_key(|(proposal, terms)| urgency(proposal, terms));
        for (proposal, terms) in proposals {
            match self.weigh(&mut deciding, &proposal, &terms) {
                Ok(Weighed::Waits(advice)) => refreshed.push((advice, proposal)),
                Ok(Weighed::Settled(settled)) => {
                    let action = settled.into_action(proposal, ActionId(*next_action), situation);
                    *next_action += 1;
                    let vm = action.proposal.kind.vm();
                    if vm.is_some() && action.state.is_open() && action.proposal.kind.verb() != Verb::Adopt {
                        self.memory.accepted(vm, &terms, situation.now);
                    }
                    deciding.accept(action);
                }
                Err(no) => refused.push(no.refuse(proposal)),
            }
        }
        let mut accepted = deciding.accepted;
        for action in accepted.iter_mut().filter(|action| action.proposal.embot.is_some()) {
            let of_same_step = |refusal: &&Refusal| is_same_step(&refusal.proposal, &action.proposal);
            action.refused = refused.iter().filter(of_same_step).cloned().collect();
        }
        Plan { accepted, refused, refreshed }
    }

    /// To be called after every step of an embot, also one that proposed nothing, and before [`Planner::decide`] of its
    /// proposals: a hold ends where a step on the same kind of event no longer proposes the same.
    pub fn considered<'p>(&mut self, embot: &EmbotId, event: &Event, proposed: impl IntoIterator<Item = &'p ActionKind>) {
        self.memory.considered(embot, event, proposed);
    }

    /// An admin approves an advised action: may it be carried out as things are now? The limits of safety are checked again;
    /// those of pace are the admin's to judge. The answer is the action as it is to be carried out, `Planned`, with what it
    /// expects of the guest now; or why it may not be, with the advice left as it was.
    pub fn approve(&mut self, situation: &Situation, action: &Action, by: &Arc<str>) -> Result<Action, Box<Refusal>> {
        let refuse = |no: No| Box::new(no.refuse(action.proposal.clone()));
        if !matches!(action.state, ActionState::Advised { .. }) {
            let reason = format!("action {} is {}; only advised actions can be approved", action.id, action.state.word());
            return Err(refuse(No { guardrail: "state", reason }));
        }
        self.memory.tidy(situation.guardrails, situation.now);
        let terms = Terms::admin(by);
        let settled = match self.weigh(&mut Deciding::new(*situation), &action.proposal, &terms).map_err(refuse)? {
            Weighed::Settled(settled) => settled,
            // No admin's wish waits for advice.
            Weighed::Waits(advice) => {
                let reason = format!("action {advice} says the same and waits");
                return Err(refuse(No { guardrail: "advised", reason }));
            }
        };
        if let Some(embot) = &action.proposal.embot {
            self.memory.approved(&embot.module, situation.now);
        }
        let mut approved = action.clone();
        approved.host = settled.host;
        approved.expects = settled.expects;
        approved.epoch = settled.epoch;
        approved.proposal.kind = settled.kind;
        approved.weighed.extend(settled.weighed.into_iter().map(|line| format!("when approved: {line}")));
        approved.state = ActionState::Planned;
        approved.state_at = situation.now;
        approved.approved_by = Some(by.clone());
        Ok(approved)
    }

    /// An action came to one of its final states, which it shows. The cool-down of its guest counts from here, also when it
    /// failed: what failed a moment ago is not tried again at once.
    pub fn ended(&mut self, action: &Action, now: Timestamp) {
        let kind = &action.proposal.kind;
        let Some(vm) = kind.vm() else { return };
        if kind.verb() == Verb::Adopt {
            // The plane's own book-keeping; the guest did not feel it.
            return;
        }
        match action.state {
            ActionState::Done | ActionState::Failed { .. } | ActionState::Cancelled { .. } => {
                self.memory.rests_from(vm, action.id, kind.verb(), now);
                if let (ActionState::Done, ActionKind::Migrate { to: Some(to), live: true, .. }, Some(source)) =
                    (&action.state, kind, &action.host)
                {
                    self.memory.has_moved(vm, source.clone(), to.clone(), now);
                }
            }
            ActionState::Rejected { .. } => {
                if let Some((vm, rejection)) = Rejection::of(action) {
                    self.memory.was_rejected(vm, rejection);
                }
            }
            ActionState::Expired
            | ActionState::Withdrawn { .. }
            | ActionState::Advised { .. }
            | ActionState::Planned
            | ActionState::Started => {}
        }
    }

    /// What admins said no to and may not be advised yet, guest by guest.
    pub fn rejections(&self, now: Timestamp) -> impl Iterator<Item = (VmId, &Rejection)> {
        self.memory.rejections.standing(now)
    }

    /// An admin takes a no back; `None` where no action of this number was rejected, or that is over.
    pub fn lift(&mut self, action: ActionId, now: Timestamp) -> Option<(VmId, Rejection)> {
        self.memory.rejections.tidy(now);
        self.memory.lift(action)
    }

    /// Has what [`Planner::to_bytes`] writes changed since the last call?
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.memory.is_changed)
    }

    /// What it remembers of a guest that goes to another plane.
    pub fn of_guest(&self, vm: VmId) -> GuestMemory {
        self.memory.of_guest(vm)
    }

    /// Takes over what another plane's planner remembered of a guest that has come.
    pub fn remember_guest(&mut self, vm: VmId, memory: GuestMemory) {
        self.memory.remember_guest(vm, memory);
    }

    /// Forgets a guest that has gone to another plane.
    pub fn forget_guest(&mut self, vm: VmId) {
        self.memory.forget_guest(vm);
    }

    /// What it remembers, in a versioned form of bounded size.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.memory.to_bytes()
    }

    /// Reads what [`Planner::to_bytes`] wrote. No bytes at all: a planner that remembers nothing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Planner, PlannerError> {
        Ok(Planner { memory: Memory::from_bytes(bytes)? })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The checks, in order.
    fn weigh(&mut self, deciding: &mut Deciding, proposal: &Proposal, terms: &Terms) -> Decided<Weighed> {
        let Situation { world, guardrails, .. } = deciding.situation;
        let kind = &proposal.kind;
        if let ActionKind::Notify { text, .. } = kind {
            return self.weigh_notice(deciding, proposal, text, terms).map(Weighed::Settled);
        }
        standing::armed(world)?;
        let (vm, host) = standing::known(world, kind)?;
        let mode = standing::mode(terms, vm)?;
        standing::permit(terms, kind.verb())?;
        let epoch = standing::owner(world, kind, vm)?;
        let mut weighed = vec![format!("mode {mode}, permit {}, epoch {epoch}", kind.verb())];
        if let Some(vm) = vm {
            standing::state(kind, vm)?;
            if guardrails.off {
                let (host, expects) = (Some(host.id.clone()), Some(vm.state));
                return Ok(Weighed::Settled(Settled { kind: kind.clone(), host, expects, epoch, mode, weighed }));
            }
            if let Some(advice) = deciding.is_free(vm, proposal, mode)? {
                return Ok(Weighed::Waits(advice));
            }
            if !terms.is_admin {
                weighed.push(self.pace(vm, deciding, proposal, terms, mode == Mode::Advise)?);
            }
        }
        let mut settled =
            Settled { kind: kind.clone(), host: Some(host.id.clone()), expects: vm.map(|vm| vm.state), epoch, mode, weighed };
        let Some(vm) = vm else {
            if host.in_maintenance() {
                return Err(Obstacle::Maintenance.refusal("the new guest to", &host.id));
            }
            return Ok(Weighed::Settled(settled));
        };
        match kind {
            ActionKind::Migrate { to, live, .. } => {
                let fleet = deciding.fleet(&self.memory);
                let Some(source) = fleet.seat(&host.id) else {
                    return No::because("host", format!("the plane has no host {}", host.id));
                };
                concurrency(fleet, source, guardrails)?;
                let candidate = Candidate::new(fleet, vm, source, *live, terms);
                let chosen = match to {
                    Some(to) => placement::named(fleet, &candidate, to)?,
                    None => placement::best(fleet, &candidate)?,
                };
                let to = Some(fleet.seats[chosen.fit.seat].host.id.clone());
                settled.kind = ActionKind::Migrate { vm: vm.id, to, live: *live };
                settled.weighed.extend(chosen.weighed);
            }
            ActionKind::Handover { plane, .. } => {
                let peer = standing::peer(world, vm, plane)?;
                let fleet = deciding.fleet(&self.memory);
                if let Some(source) = fleet.seat(&host.id) {
                    concurrency(fleet, source, guardrails)?;
                }
                with_peer(fleet, peer)?;
                settled.weighed.push(standing::room_there(peer));
            }
            ActionKind::Start { .. } | ActionKind::Restore { .. } => {
                let fleet = deciding.fleet(&self.memory);
                let obstacle = |obstacle: Obstacle| obstacle.refusal(&format!("{} on", vm.name), &host.id);
                if host.in_maintenance() {
                    return Err(obstacle(Obstacle::Maintenance));
                }
                let Some(seat) = fleet.seat(&host.id) else { return Ok(Weighed::Settled(settled)) };
                if let Some(broken) = Ties::of(vm, fleet).broken_at(seat).find(|broken| broken.rule.hard) {
                    return Err(obstacle(Obstacle::of(&broken)));
                }
                let share = fleet.room(seat, u64::from(vm.vcpus), vm.memory_mib).map_err(obstacle)?;
                settled.weighed.push(format!(
                    "{} would have promised {} of its memory",
                    host.id,
                    super::target::percent(share)
                ));
            }
            ActionKind::SetVcpus { vcpus, .. } if vm.is_active() => {
                let more = u64::from(vcpus.saturating_sub(vm.vcpus));
                deciding.grows(&self.memory, vm, more, 0)?;
            }
            ActionKind::SetMemory { memory_mib, .. } if vm.is_active() => {
                deciding.grows(&self.memory, vm, 0, memory_mib.saturating_sub(vm.memory_mib))?;
            }
            _ => {}
        }
        Ok(Weighed::Settled(settled))
    }

    /// Is it too soon, or too much?
    fn pace(&mut self, vm: &Vm, deciding: &Deciding, proposal: &Proposal, terms: &Terms, is_advice: bool) -> Decided<String> {
        let Situation { world, guardrails, now, .. } = deciding.situation;
        if is_advice {
            self.memory.rejections.check(vm, proposal.kind.verb(), &terms.module, now)?;
        }
        let held = self.memory.hold(proposal, terms, guardrails, now)?;
        // Who is on a host in maintenance has to leave, once, however soon and however many they are: an admin wants it.
        let is_evacuation = matches!(proposal.kind, ActionKind::Migrate { .. } | ActionKind::Handover { .. })
            && world.host(&vm.host).is_some_and(|host| host.in_maintenance());
        if !is_evacuation {
            self.memory.cooldown(vm, proposal, terms, guardrails, now)?;
        }
        if is_advice {
            return Ok(format!("held for {held}; advice of the module that waits: {}", deciding.more_advice(&terms.module)?));
        }
        let rate = self.memory.rates(terms, guardrails, now)?;
        let blast = match is_evacuation {
            true => "does not bind an evacuation".to_owned(),
            false => self.memory.blast_radius(vm, world.vm_count(), guardrails, now)?,
        };
        Ok(format!("held for {held}; module's rate: {rate}; blast radius: {blast}"))
    }

    fn weigh_notice(&mut self, deciding: &Deciding, proposal: &Proposal, text: &Arc<str>, terms: &Terms) -> Decided<Settled> {
        let Situation { guardrails, now, .. } = deciding.situation;
        standing::mode(terms, None)?;
        standing::permit(terms, proposal.kind.verb())?;
        self.memory.notice(proposal, text, terms, guardrails, now)?;
        // Telling an admin needs no admin's approval.
        Ok(Settled { kind: proposal.kind.clone(), host: None, expects: None, epoch: 0, mode: Mode::Act, weighed: Vec::new() })
    }
}

/// Migrations at a time, as far as the target does not matter.
fn concurrency(fleet: &Fleet, source: usize, guardrails: &Guardrails) -> Decided<()> {
    in_plane(fleet, guardrails)?;
    let (source, limit) = (&fleet.seats[source], guardrails.migrations_per_host);
    if source.migrations >= limit {
        let reason = format!(
            "{} of {limit} migrations (in and out) are under way on {}; wait for one to end, or raise `guardrails.migrations_per_host`",
            source.migrations, source.host.id
        );
        return No::because("migrations", reason);
    }
    Ok(())
}

/// Migrations at a time in the whole plane.
pub(super) fn in_plane(fleet: &Fleet, guardrails: &Guardrails) -> Decided<()> {
    let (running, limit) = (fleet.migrations(), guardrails.migrations);
    if running >= limit {
        let reason = format!(
            "{running} of {limit} migrations are under way in the plane; wait for one to end, or raise `guardrails.migrations`"
        );
        return No::because("migrations", reason);
    }
    Ok(())
}

/// Migrations at a time to and from one peer.
pub(super) fn with_peer(fleet: &Fleet, peer: &Peer) -> Decided<()> {
    let (running, limit, name) = (fleet.migrations_with(&peer.name), peer.migrations, &peer.name);
    if running >= limit {
        let reason = format!(
            "{running} of {limit} migrations to and from plane {name} are under way; wait for one to end, or raise \
             `limits.migrations` of {name} under `peers`"
        );
        return No::because("migrations", reason);
    }
    Ok(())
}

impl Settled {
    fn into_action(self, proposal: Proposal, id: ActionId, situation: &Situation) -> Action {
        let now = situation.now;
        let state = match self.mode {
            Mode::Act => ActionState::Planned,
            Mode::Observe | Mode::Advise => ActionState::Advised { until: now + situation.guardrails.advice_expires },
        };
        Action {
            id,
            proposal: Proposal { kind: self.kind, ..proposal },
            host: self.host,
            expects: self.expects,
            epoch: self.epoch,
            mode: self.mode,
            decided_at: now,
            state,
            state_at: now,
            progress: None,
            approved_by: None,
            weighed: self.weighed,
            refused: Vec::new(),
            cancelling: None,
        }
    }
}

/// Who comes first; lower is earlier. Of equals, who proposed first.
fn urgency(proposal: &Proposal, terms: &Terms) -> u8 {
    if terms.is_admin {
        return 0;
    }
    match proposal.cause.as_ref().map(|event| &event.body) {
        Some(
            EventBody::HostDown(_)
            | EventBody::Crashed(_)
            | EventBody::Conflict(_)
            | EventBody::IoError { .. }
            | EventBody::Watchdog { .. },
        ) => 1,
        Some(EventBody::Maintenance { .. }) => 2,
        Some(body) if body.class() == EventClass::Fact => 3,
        Some(_) | None => 4,
    }
}

fn is_same_step(a: &Proposal, b: &Proposal) -> bool {
    a.embot.is_some()
        && a.embot == b.embot
        && a.cause.as_ref().map(|event| event.seq) == b.cause.as_ref().map(|event| event.seq)
}
