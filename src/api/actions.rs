//! `GET /v1/actions`, `/v1/plan`, `/v1/rejections`: what is being done, what waits for an admin, what was refused, what admins
//! rejected.

use super::error::ApiError;
use super::names::find_element;
use super::request::Query;
use super::stamp::Stamp;
use super::state::Api;
use super::words;
use crate::manager::Manager;
use crate::model::{Action, ActionState, Refusal, Timestamp, VmId, World};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Bytes moved.
    pub done_bytes: u64,
    /// Bytes to move in all, as known now.
    pub total_bytes: u64,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActionView {
    /// Its number.
    pub id: u64,
    /// What kind: `migrate`, `start`, ...
    pub verb: String,
    /// What, in words: `migrate web-3 host-a -> host-c`.
    pub what: String,
    /// The guest it acts on, by UUID.
    pub vm: Option<String>,
    /// The guest's name.
    pub vm_name: Option<String>,
    /// The host that carries it out.
    pub host: Option<String>,
    /// The host it takes the guest to.
    pub destination: Option<String>,
    /// Who wanted it: a module's name, or `admin NAME`.
    pub by: String,
    /// The embot that proposed it.
    pub embot: Option<String>,
    /// Why.
    pub reason: String,
    /// `advised`, `planned`, `started`, `done`, `failed`, `cancelled`, `rejected`, `expired` or `withdrawn`.
    pub state: String,
    /// More about the state: why it failed, who cancelled or rejected it.
    pub state_reason: Option<String>,
    /// When it came to that state.
    pub state_at: Stamp,
    /// When it was decided.
    pub decided_at: Stamp,
    /// When unanswered advice expires.
    pub expires_at: Option<Stamp>,
    /// The mode it was decided under.
    pub mode: String,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// Who wants it ended while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelling: Option<String>,
    /// How far it is.
    pub progress: Option<ProgressView>,
}

impl ActionView {
    /// An action as the API shows it.
    pub fn new(action: &Action, world: &World) -> ActionView {
        let label = |element: &crate::model::ElementId| world.label(element);
        let kind = &action.proposal.kind;
        let (state_reason, expires_at) = match &action.state {
            ActionState::Advised { until } => (None, Some((*until).into())),
            ActionState::Failed { reason } => (Some(reason.to_string()), None),
            ActionState::Withdrawn { why } => (Some(why.to_string()), None),
            ActionState::Cancelled { by } => (Some(format!("by {by}")), None),
            ActionState::Rejected { by, reason: Some(reason), .. } => (Some(format!("by {by}: {reason}")), None),
            ActionState::Rejected { by, .. } => (Some(format!("by {by}")), None),
            ActionState::Planned | ActionState::Started | ActionState::Done | ActionState::Expired => (None, None),
        };
        ActionView {
            id: action.id.0,
            verb: kind.verb().to_string(),
            what: words::action(kind, action.host.as_ref(), &label),
            vm: kind.vm().map(|vm| vm.to_string()),
            vm_name: kind.vm().map(|vm| world.label(&crate::model::ElementId::Vm(vm))),
            host: action.host.as_ref().map(ToString::to_string),
            destination: kind.destination().map(ToString::to_string),
            by: words::author(&action.proposal),
            embot: action.proposal.embot.as_ref().map(ToString::to_string),
            reason: action.proposal.reason.to_string(),
            state: action.state.word().to_owned(),
            state_reason,
            state_at: action.state_at.into(),
            decided_at: action.decided_at.into(),
            expires_at,
            mode: action.mode.to_string(),
            approved_by: action.approved_by.as_ref().map(ToString::to_string),
            cancelling: action.cancelling.as_ref().map(ToString::to_string),
            progress: action
                .progress
                .map(|progress| ProgressView { done_bytes: progress.done_bytes, total_bytes: progress.total_bytes }),
        }
    }

    /// Is it over?
    pub fn is_final(&self) -> bool {
        !matches!(self.state.as_str(), "advised" | "planned" | "started")
    }
}

/// A proposal that was refused, perhaps many times for the same reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// Its number; absent where the refusal is part of an action's explanation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// When it was refused last; absent where the refusal is part of an action's explanation.
    pub at: Option<Stamp>,
    /// What was wanted, in words.
    pub what: String,
    /// Who wanted it.
    pub by: String,
    /// Why it was wanted.
    pub wanted_because: String,
    /// Where the script asked for it: `file:line:column`.
    pub place: Option<String>,
    /// The guardrail that refused, in one word.
    pub guardrail: String,
    /// Why it was refused, and what would have to change.
    pub reason: String,
    /// How many times in a row.
    pub times: u64,
}

impl RefusalView {
    /// A refusal as the API shows it.
    pub fn new(at: Option<Timestamp>, refusal: &Refusal, times: u64, world: &World) -> RefusalView {
        let label = |element: &crate::model::ElementId| world.label(element);
        let proposal = &refusal.proposal;
        // Where the guest was then is not kept. In an explanation, which may be read much later, it would be told wrongly.
        let vm = proposal.kind.vm().filter(|_| at.is_some()).and_then(|vm| world.vm(vm));
        let from = vm.map(|vm| &vm.host);
        RefusalView {
            number: None,
            at: at.map(Stamp),
            what: words::action(&proposal.kind, from, &label),
            by: words::author(proposal),
            wanted_because: proposal.reason.to_string(),
            place: proposal.place.as_ref().map(ToString::to_string),
            guardrail: refusal.guardrail.to_string(),
            reason: refusal.reason.clone(),
            times,
        }
    }
}

impl RefusalView {
    /// A refusal with its number, as the manager keeps it.
    pub fn numbered(one: &crate::manager::RefusalView, world: &World) -> RefusalView {
        let view = RefusalView::new(Some(one.last_at), &one.refusal, one.count.into(), world);
        RefusalView { number: Some(one.number), ..view }
    }
}

/// Recent refusals that pass `wanted`, the newest first.
pub(super) fn refusals(manager: &Manager, wanted: impl Fn(&Refusal) -> bool) -> Vec<RefusalView> {
    let world = manager.world();
    let found = manager.refusals().rev().filter(|one| wanted(&one.refusal));
    found.map(|one| RefusalView::numbered(one, &world)).collect()
}

/// All actions at hand, the newest first.
pub(super) fn newest_first(manager: &Manager) -> Vec<&Action> {
    let mut all: Vec<&Action> = manager.actions().collect();
    all.sort_by_key(|action| std::cmp::Reverse(action.id));
    all
}

/// Advice that an admin rejected: until then its module does not advise the same for the same guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RejectionView {
    /// The action that was rejected.
    pub action: u64,
    /// The module that advised it.
    pub module: String,
    /// What is not advised again: `migrate`, `start`, ...
    pub verb: String,
    /// For this guest, by UUID.
    pub vm: String,
    /// The guest's name.
    pub vm_name: String,
    /// Who rejected it.
    pub by: String,
    /// Why, where it was said.
    pub reason: Option<String>,
    /// When.
    pub at: Stamp,
    /// The same may be advised again from here on.
    pub until: Stamp,
}

/// The rejections that stand, those that end first before the others.
pub fn rejections(manager: &Manager) -> Vec<RejectionView> {
    let world = manager.world();
    let view = |(vm, one): (VmId, &crate::plan::Rejection)| RejectionView {
        action: one.action.0,
        module: one.module.to_string(),
        verb: one.verb.to_string(),
        vm: vm.to_string(),
        vm_name: world.label(&crate::model::ElementId::Vm(vm)),
        by: one.by.to_string(),
        reason: one.reason.as_ref().map(ToString::to_string),
        at: one.at.into(),
        until: one.until.into(),
    };
    let mut all: Vec<RejectionView> = manager.rejections().map(view).collect();
    all.sort_by_key(|one| one.until.0);
    all
}

/// An affinity rule that the present placement breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViolationView {
    /// The rule's name.
    pub rule: String,
    /// `together` or `apart`.
    pub kind: String,
    /// Is it a hard rule?
    pub hard: bool,
    /// The guests concerned: name and host.
    pub guests: Vec<String>,
}

/// The rules broken now.
pub(super) fn violations(world: &World) -> Vec<ViolationView> {
    let guest = |vm: &crate::model::VmId| match world.vm(*vm) {
        Some(vm) => format!("{} on {}", vm.name, vm.host),
        None => vm.to_string(),
    };
    let view = |violation: crate::model::Violation| ViolationView {
        rule: violation.rule.to_string(),
        kind: match violation.kind {
            crate::model::Affinity::Together => "together",
            crate::model::Affinity::Apart => "apart",
        }
        .to_owned(),
        hard: violation.hard,
        guests: violation.vms.iter().map(guest).collect(),
    };
    world.violations().into_iter().map(view).collect()
}

/// The plan: what is open, what waits for an answer, what was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// `false`: the kill switch is on, nothing new is started.
    pub armed: bool,
    /// Actions planned or under way, the oldest first.
    pub open: Vec<ActionView>,
    /// Actions that wait for an admin, the oldest first.
    pub advised: Vec<ActionView>,
    /// What was refused lately, the newest first.
    pub refused: Vec<RefusalView>,
    /// Affinity rules that the present placement breaks.
    pub violations: Vec<ViolationView>,
}

/// The plan as it stands.
pub fn plan(manager: &Manager) -> PlanView {
    let world = manager.world();
    let of = |wanted: &dyn Fn(&ActionState) -> bool| {
        let found = manager.open().filter(|action| wanted(&action.state));
        found.map(|action| ActionView::new(action, &world)).collect()
    };
    PlanView {
        armed: world.armed,
        open: of(&ActionState::is_open),
        advised: of(&|state| matches!(state, ActionState::Advised { .. })),
        refused: refusals(manager, |_| true),
        violations: violations(&world),
    }
}

/// Which actions are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionFilter {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only those on this guest, or to or from this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// Only those of this module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// At most so many (100 where it is not said).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_usize)]
    pub limit: Option<u32>,
}

const STATES: [&str; 9] = ["advised", "planned", "started", "done", "failed", "cancelled", "rejected", "expired", "withdrawn"];

/// The actions that pass the filter, the newest first.
pub fn list(manager: &Manager, filter: &ActionFilter) -> Result<Vec<ActionView>, ApiError> {
    if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
        return Err(ApiError::senseless(format!("no action is ever `{state}`"))
            .with_hint(format!("the states are {}", STATES.join(", "))));
    }
    let world = manager.world();
    let element = filter.element.as_deref().map(|name| find_element(&world, name)).transpose()?;
    let concerns = |action: &Action| match &element {
        None => true,
        Some(crate::model::ElementId::Plane) => action.host.is_none(),
        Some(crate::model::ElementId::Host(host)) => {
            action.host.as_ref() == Some(host) || action.proposal.kind.destination() == Some(host)
        }
        Some(other) => other.vm() == action.proposal.kind.vm(),
    };
    let of_module = |action: &Action| {
        let module = action.proposal.embot.as_ref().map(|embot| &*embot.module);
        filter.module.is_none() || filter.module.as_deref() == module
    };
    let found = newest_first(manager).into_iter().filter(|action| {
        filter.state.as_deref().is_none_or(|state| state == action.state.word()) && of_module(action) && concerns(action)
    });
    Ok(found.take(filter.limit.map_or(100, |limit| limit as usize)).map(|action| ActionView::new(action, &world)).collect())
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<ActionFilter>,
) -> Result<Json<Vec<ActionView>>, ApiError> {
    api.ask(move |manager| list(manager, &filter)).await?.map(Json)
}

pub(super) async fn get_plan(State(api): State<Api>) -> Result<Json<PlanView>, ApiError> {
    api.ask(plan).await.map(Json)
}

pub(super) async fn get_rejections(State(api): State<Api>) -> Result<Json<Vec<RejectionView>>, ApiError> {
    api.ask(rejections).await.map(Json)
}
