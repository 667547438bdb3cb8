//! `GET /v1/actions/{id}`: why an action was decided, and what became of it; `GET /v1/refusals/{number}`: why one was not.

use super::actions::{ActionView, RefusalView};
use super::error::ApiError;
use super::recent::RecordView;
use super::request::Name;
use super::stamp::Stamp;
use super::state::Api;
use super::words;
use crate::manager::{Manager, ModuleView};
use crate::model::{ActionId, ActionState, ElementId, Event, Place, Read, Timestamp};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlaceView {
    /// The script's file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The line itself; absent where that version of the module is no longer kept.
    pub source: Option<String>,
}

/// A value the step had read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReadView {
    /// Whose, for people: a host's or a guest's name.
    pub of: String,
    /// What: `cpu`, `usage(cpu).mean(10m)`.
    pub what: String,
    /// What it was.
    pub value: serde_json::Value,
}

/// The event that led to an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CauseView {
    /// The event's number.
    pub seq: u64,
    /// When.
    pub at: Stamp,
    /// The event's kind, as in `on_<kind>`.
    pub kind: String,
    /// About which element.
    pub element: String,
    /// In words.
    pub text: String,
}

/// A step of the action's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Milestone {
    /// When.
    pub at: Stamp,
    /// What.
    pub text: String,
}

/// The whole chain behind an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The action and where it stands.
    pub action: ActionView,
    /// The event that led to it; absent where an admin asked.
    pub cause: Option<CauseView>,
    /// Where the script proposed it.
    pub place: Option<PlaceView>,
    /// The values the step had read.
    pub reads: Vec<ReadView>,
    /// What the same step wanted and did not get.
    pub refused: Vec<RefusalView>,
    /// What the planner weighed.
    pub weighed: Vec<String>,
    /// What happened to it, in order.
    pub timeline: Vec<Milestone>,
    /// What would come of it, were it approved now; absent where it is no advice that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_approved: Option<Prospect>,
}

/// What would come of advice, were it approved now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prospect {
    /// Would it be carried out?
    pub carried_out: bool,
    /// As what, in words; where not, why not.
    pub text: String,
    /// What the planner would weigh, as things are now.
    pub weighed: Vec<String>,
}

/// Why a proposal was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusalExplanation {
    /// The refusal: what was wanted, by whom, the guardrail and its words.
    pub refusal: RefusalView,
    /// When it came first; since then it has come `refusal.times` times.
    pub first_at: Stamp,
    /// The event that led to the proposal; absent where an admin asked.
    pub cause: Option<CauseView>,
    /// Where the script proposed it.
    pub place: Option<PlaceView>,
    /// The values the step had read.
    pub reads: Vec<ReadView>,
}

/// The place with its line, as it was in the version that was in force when the action was decided.
fn place(place: &Place, module: Option<&str>, decided_at: Timestamp, manager: &Manager) -> PlaceView {
    let modules = manager.modules();
    let mine = modules.iter().filter(|one| module.is_none_or(|module| module == &*one.module));
    let version = |module: &ModuleView| module.versions.iter().rev().find(|version| version.loaded_at <= decided_at).cloned();
    let versions: Vec<_> = mine.filter_map(version).collect();
    let texts = versions.iter().flat_map(|version| &version.policies);
    let text = texts.into_iter().find(|(file, _)| *file == place.file).map(|(_, text)| text);
    let line = text.and_then(|text| text.lines().nth((place.line as usize).checked_sub(1)?));
    PlaceView {
        file: place.file.to_string(),
        line: place.line,
        column: place.column,
        source: line.map(|line| line.trim_end().to_owned()),
    }
}

fn cause(event: &Event, label: words::Label<'_>) -> CauseView {
    CauseView {
        seq: event.seq,
        at: event.at.into(),
        kind: event.body.kind().name.to_owned(),
        element: event.element.to_string(),
        text: words::event(event, label),
    }
}

fn read(read: &Read, label: words::Label<'_>) -> ReadView {
    ReadView { of: label(&read.element), what: read.what.to_string(), value: read.value.to_json() }
}

/// Explains an action. `recent` are the records still at hand; they give the times between decision and end.
pub fn explain(manager: &Manager, id: ActionId, recent: &[RecordView]) -> Result<Explanation, ApiError> {
    let action = manager.action(id).ok_or_else(|| {
        let newest = manager.actions().map(|action| action.id).max();
        ApiError::not_found(format!("there is no action {id}")).with_hint(match newest {
            Some(newest) => format!("the newest is {newest}; older ones than are kept are in `embot journal export`"),
            None => "no action was decided yet; `embot plan` shows what was refused, and why".to_owned(),
        })
    })?;
    let world = manager.world();
    // What another plane has read is named from where it stood: its own name, and guests that are not known here.
    let elsewhere = manager.decided_elsewhere(action);
    let label = |element: &ElementId| match &elsewhere {
        Some(plane) if *element == ElementId::Plane => plane.to_string(),
        Some(plane) if element.vm().is_some_and(|vm| !world.knows(vm)) => format!("a guest of plane {plane}"),
        _ => world.label(element),
    };
    let proposal = &action.proposal;
    let module = proposal.embot.as_ref().map(|embot| &*embot.module);
    let view = ActionView::new(action, &world);
    let prospect = |action| match manager.if_approved(action, &"an admin".into()) {
        Ok(action) => {
            let weighed = action.weighed.iter().filter_map(|line| line.strip_prefix("when approved: "));
            let weighed = weighed.map(ToOwned::to_owned).collect();
            Prospect { carried_out: true, text: ActionView::new(&action, &world).what, weighed }
        }
        Err(reason) => Prospect { carried_out: false, text: reason, weighed: Vec::new() },
    };
    Ok(Explanation {
        if_approved: Some(action).filter(|action| matches!(action.state, ActionState::Advised { .. })).map(prospect),
        cause: proposal.cause.as_deref().map(|event| cause(event, &label)),
        place: proposal.place.as_ref().map(|at| place(at, module, action.decided_at, manager)),
        reads: proposal.reads.iter().map(|one| read(one, &label)).collect(),
        refused: action.refused.iter().map(|refusal| RefusalView::new(None, refusal, 1, &world)).collect(),
        weighed: action.weighed.clone(),
        timeline: timeline(&view, recent),
        action: view,
    })
}

/// Explains a refusal, as it came last.
pub fn explain_refusal(manager: &Manager, number: u64) -> Result<RefusalExplanation, ApiError> {
    let found = manager.refusals().find(|one| one.number == number).ok_or_else(|| {
        let newest = manager.refusals().map(|one| one.number).max();
        ApiError::not_found(format!("there is no refusal r{number} at hand")).with_hint(match newest {
            Some(newest) => {
                format!("the newest is r{newest}; older ones, and those of earlier runs, are in `embot journal export`")
            }
            None => "nothing was refused since the daemon started; earlier ones are in `embot journal export`".to_owned(),
        })
    })?;
    let world = manager.world();
    let label = |element: &ElementId| world.label(element);
    let proposal = &found.refusal.proposal;
    let module = proposal.embot.as_ref().map(|embot| &*embot.module);
    Ok(RefusalExplanation {
        refusal: RefusalView::numbered(found, &world),
        first_at: found.recorded_at.into(),
        cause: proposal.cause.as_deref().map(|event| cause(event, &label)),
        place: proposal.place.as_ref().map(|at| place(at, module, found.last_at, manager)),
        reads: proposal.reads.iter().map(|one| read(one, &label)).collect(),
    })
}

/// Decision and present state are always known; what lies between, as far as the records at hand tell.
fn timeline(action: &ActionView, recent: &[RecordView]) -> Vec<Milestone> {
    let first = if action.mode == "advise" && !action.by.starts_with("admin") { "decided, as advice" } else { "decided" };
    let mut timeline = vec![Milestone { at: action.decided_at, text: first.to_owned() }];
    let last = {
        let more = action.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Milestone { at: action.state_at, text: format!("{}{more}", action.state) }
    };
    for record in recent.iter().filter(|record| record.action == Some(action.id)) {
        let step = record.milestone.as_deref().filter(|step| !step.starts_with("progress"));
        timeline.extend(step.map(|step| Milestone { at: record.at, text: step.to_owned() }));
    }
    let told = timeline.iter().any(|told| told.text.split([' ', ':', ',']).next() == Some(action.state.as_str()));
    if !told && !matches!(action.state.as_str(), "planned" | "advised") {
        timeline.push(last);
    }
    timeline
}

pub(super) async fn get_one(State(api): State<Api>, Name(id): Name) -> Result<Json<Explanation>, ApiError> {
    let id = id.parse().map(ActionId).map_err(|_| {
        ApiError::bad_request(format!("`{id}` is no action's number")).with_hint("`embot plan` and `embot events` show them")
    })?;
    let recent = api.recent.about(id);
    api.ask(move |manager| explain(manager, id, &recent)).await?.map(Json)
}

pub(super) async fn get_refusal(State(api): State<Api>, Name(number): Name) -> Result<Json<RefusalExplanation>, ApiError> {
    let number = number.trim_start_matches('r').parse().map_err(|_| {
        ApiError::bad_request(format!("`{number}` is no refusal's number")).with_hint("`embot plan` shows them: r17")
    })?;
    api.ask(move |manager| explain_refusal(manager, number)).await?.map(Json)
}
