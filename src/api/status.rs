//! `GET /v1/status`: the plane at a glance.

use super::actions::{ViolationView, violations};
use super::error::ApiError;
use super::stamp::Stamp;
use super::state::Api;
use crate::manager::{Figures, Manager};
use crate::model::{ActionState, Link, Reason, Timestamp, Vm, VmState, World};
use crate::store::Sizes;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A host that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DownView {
    /// Its name.
    pub host: String,
    /// Why; absent where it was not heard of yet.
    pub reason: Option<String>,
}

/// A guest that died, and is still down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CrashedView {
    /// The guest, by UUID.
    pub vm: String,
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub host: String,
    /// `crashed`, or `failed` where the hypervisor could not run it.
    pub reason: String,
    /// Since when.
    pub since: Stamp,
}

/// A module whose file in the folder of modules does not check as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UncheckedView {
    /// Its name, or what its file is called.
    pub module: String,
    /// The file.
    pub file: String,
    /// Is the last version that checked in force?
    pub in_force: bool,
}

/// A channel to admins that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwayView {
    /// Its name.
    pub channel: String,
    /// Why.
    pub reason: String,
    /// Notifications that wait for it.
    pub held: usize,
}

/// What the loop does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FiguresView {
    /// Counts since the daemon started.
    #[serde(flatten)]
    pub so_far: Figures,
    /// Events that wait now.
    pub waiting: usize,
}

/// The plane at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The plane's name.
    pub plane: String,
    /// The daemon's version.
    pub version: String,
    /// The plane's time.
    pub now: Stamp,
    /// `false`: the kill switch is on, nothing new is started.
    pub armed: bool,
    /// `true`: just started, still finding out what is true; nothing is decided yet.
    pub starting: bool,
    /// Hosts configured.
    pub hosts: usize,
    /// Hosts that do not answer.
    pub hosts_down: Vec<DownView>,
    /// Hosts in maintenance.
    pub hosts_in_maintenance: Vec<String>,
    /// Guests by state.
    pub guests: BTreeMap<String, usize>,
    /// Guests by mode.
    pub guests_by_mode: BTreeMap<String, usize>,
    /// Guests that died and are still down.
    #[serde(default)]
    pub guests_crashed: Vec<CrashedView>,
    /// Modules loaded.
    pub modules: usize,
    /// Modules whose files do not check as they are now.
    #[serde(default)]
    pub modules_unchecked: Vec<UncheckedView>,
    /// Embots.
    pub embots: usize,
    /// Embots that are suspended.
    pub embots_suspended: Vec<String>,
    /// Actions that wait for an admin.
    pub advised: usize,
    /// Actions planned or under way.
    pub open: usize,
    /// Affinity rules that the present placement breaks.
    pub violations: Vec<ViolationView>,
    /// Channels to admins that cannot be reached.
    #[serde(default)]
    pub channels_away: Vec<AwayView>,
    /// What the loop does.
    pub figures: FiguresView,
    /// What the store takes; absent where it cannot be read.
    #[serde(default)]
    pub store: Option<Sizes>,
}

/// The guests that died and are still down, by name.
pub fn crashed(world: &World) -> Vec<CrashedView> {
    let has_died = |vm: &&Vm| {
        let died = vm.state == VmState::Crashed || matches!(vm.reason, Reason::Crashed | Reason::Failed);
        died && !vm.is_active()
    };
    let view = |vm: &Vm| CrashedView {
        vm: vm.id.to_string(),
        name: vm.name.to_string(),
        host: vm.host.to_string(),
        reason: if vm.reason == Reason::Failed { vm.reason } else { Reason::Crashed }.to_string(),
        since: vm.since.into(),
    };
    let mut all: Vec<CrashedView> = world.vms().filter(has_died).map(view).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The plane at a glance.
pub fn status(manager: &Manager, now: Timestamp) -> StatusView {
    let world = manager.world();
    let mut guests: BTreeMap<String, usize> = BTreeMap::new();
    let mut guests_by_mode: BTreeMap<String, usize> = BTreeMap::new();
    for vm in world.vms() {
        *guests.entry(vm.state.to_string()).or_default() += 1;
        *guests_by_mode.entry(vm.mode.to_string()).or_default() += 1;
    }
    let unchecked = |(module, file, in_force): (&std::sync::Arc<str>, &std::sync::Arc<str>, bool)| UncheckedView {
        module: module.to_string(),
        file: file.to_string(),
        in_force,
    };
    let down = |host: &crate::model::Host| match &host.link {
        Link::Up => None,
        Link::Unknown => Some(DownView { host: host.id.to_string(), reason: None }),
        Link::Down(reason) => Some(DownView { host: host.id.to_string(), reason: Some(reason.clone()) }),
    };
    let count = |wanted: &dyn Fn(&ActionState) -> bool| manager.open().filter(|action| wanted(&action.state)).count();
    StatusView {
        plane: world.plane.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: now.into(),
        armed: world.armed,
        starting: manager.is_starting(),
        hosts: world.hosts().count(),
        hosts_down: world.hosts().filter_map(down).collect(),
        hosts_in_maintenance: world.hosts().filter(|host| host.in_maintenance()).map(|host| host.id.to_string()).collect(),
        guests,
        guests_by_mode,
        guests_crashed: crashed(&world),
        modules: manager.module_count(),
        modules_unchecked: manager.unchecked_modules().map(unchecked).collect(),
        embots: manager.embot_count(),
        embots_suspended: manager.suspended().map(ToString::to_string).collect(),
        advised: count(&|state| matches!(state, ActionState::Advised { .. })),
        open: count(&ActionState::is_open),
        violations: violations(&world),
        channels_away: Vec::new(),
        figures: FiguresView { so_far: manager.figures(), waiting: manager.waiting() },
        store: None,
    }
}

pub(super) async fn get(State(api): State<Api>) -> Result<Json<StatusView>, ApiError> {
    let now = api.doors.clock.now();
    let status = api.ask(move |manager| status(manager, now)).await?;
    let away = api.doors.notifiers.standings().filter_map(|(channel, standing)| {
        Some(AwayView { channel: channel.to_string(), reason: standing.away?, held: standing.held })
    });
    Ok(Json(StatusView { channels_away: away.collect(), store: api.doors.journal.sizes().ok(), ..status }))
}
