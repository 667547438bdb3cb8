//! `GET /v1/migrations`, `GET /v1/peers`, and what admins ask about them: guests that go to other planes and come from them.

use super::commands::Request;
use super::error::ApiError;
use super::request::{Body, Name, Query};
use super::stamp::Stamp;
use super::state::Api;
use crate::manager::{Manager, MigrationView as Migration};
use crate::migration::link::{PeerStatus, Refusal};
use crate::model::{ActionKind, Command, HostId, MigrationId, Outcome, Peer, Side, Span, Summary};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A phase, and when the migration came to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseView {
    /// In one stable word.
    pub phase: String,
    /// When.
    pub at: Stamp,
}

/// A migration between planes, as this plane has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MigrationView {
    /// Its name: the source plane and the number of the action there.
    pub id: String,
    /// `source` or `target`: which end this plane is.
    pub side: Side,
    /// The plane that the guest leaves.
    pub from: String,
    /// The plane that it goes to.
    pub to: String,
    /// The guest's UUID.
    pub vm: String,
    /// Its name.
    pub name: String,
    /// The host of this plane that it leaves or comes to; empty as long as none is settled.
    pub host: String,
    /// While it runs?
    pub live: bool,
    /// `underway`, `undecided`, `moved`, `stayed`.
    pub state: String,
    /// Why it stayed, or cannot be decided.
    pub reason: Option<String>,
    /// The phases it went through, the present one last.
    pub phases: Vec<PhaseView>,
    /// Bytes that the hypervisor has sent.
    pub sent_bytes: u64,
    /// Bytes in all, as far as known.
    pub total_bytes: u64,
    /// Facts of the guest that wait.
    pub held: usize,
    /// Can it still be cancelled, here?
    pub cancellable: bool,
    /// How long it takes yet, in seconds, as far as the bytes tell.
    pub remaining_s: Option<f64>,
}

impl MigrationView {
    /// A migration as the API shows it.
    pub fn new(migration: Migration, manager: &Manager) -> MigrationView {
        let own = manager.settings().plane.to_string();
        let peer = migration.peer.to_string();
        let (from, to) = if migration.side == Side::Source { (own, peer) } else { (peer, own) };
        let (state, reason) = match (&migration.outcome, &migration.undecided) {
            (Some(Outcome::Moved), _) => ("moved", None),
            (Some(Outcome::Stayed { reason }), _) => ("stayed", Some(reason.to_string())),
            (None, Some(reason)) => ("undecided", Some(reason.to_string())),
            (None, None) => ("underway", None),
        };
        let moving = migration.phases.iter().rev().find(|phase| &*phase.word == "moving").map(|phase| phase.at);
        let moving = moving.filter(|_| migration.outcome.is_none());
        let remaining_s = moving.and_then(|since| remaining(&migration, manager.now().since(since)));
        MigrationView {
            id: migration.id.to_string(),
            side: migration.side,
            from,
            to,
            vm: migration.vm.to_string(),
            name: migration.name.to_string(),
            host: migration.host.to_string(),
            live: migration.live,
            state: state.to_owned(),
            reason,
            phases: migration
                .phases
                .iter()
                .map(|phase| PhaseView { phase: phase.word.to_string(), at: phase.at.into() })
                .collect(),
            sent_bytes: migration.sent_bytes,
            total_bytes: migration.total_bytes,
            held: migration.held,
            cancellable: migration.is_cancellable,
            remaining_s,
        }
    }

    /// The phase it is in.
    pub fn phase(&self) -> &str {
        self.phases.last().map_or("", |phase| &phase.phase)
    }
}

/// At the pace so far.
fn remaining(migration: &Migration, elapsed: Span) -> Option<f64> {
    let (sent, total) = (migration.sent_bytes as f64, migration.total_bytes as f64);
    (sent > 0.0 && total >= sent).then(|| elapsed.as_seconds() * (total - sent) / sent)
}

/// Which migrations are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationFilter {
    /// Only those that go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<MigrationFilter>,
) -> Result<Json<Vec<MigrationView>>, ApiError> {
    let views = api.ask(move |manager| {
        let migrations = manager.migrations().into_iter();
        let wanted = migrations.filter(|one| filter.open != Some(true) || one.outcome.is_none());
        wanted.map(|one| MigrationView::new(one, manager)).collect()
    });
    views.await.map(Json)
}

pub(super) async fn get_one(State(api): State<Api>, Name(name): Name) -> Result<Json<MigrationView>, ApiError> {
    let id = named(&name)?;
    let view = api.ask(move |manager| manager.migration_named(&id).map(|one| MigrationView::new(one, manager)));
    view.await?.map(Json).ok_or_else(|| {
        ApiError::not_found(format!("there is no migration {name}")).with_hint("`embot migrations` lists those there are")
    })
}

fn named(name: &str) -> Result<MigrationId, ApiError> {
    name.parse().map_err(|error: crate::model::migration::MigrationIdError| {
        ApiError::senseless(error.to_string()).with_hint("`embot migrations` lists those there are")
    })
}

/// Another plane, as this one knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Its name.
    pub name: String,
    /// May this plane offer guests to it?
    pub sends: bool,
    /// May it offer guests to this plane?
    pub receives: bool,
    /// Is there a connection?
    pub reachable: bool,
    /// Where it is dialled, if it is.
    pub address: Option<String>,
    /// What it last said that it has to give.
    pub summary: Option<Summary>,
    /// When it said that.
    pub summary_at: Option<Stamp>,
    /// By how much its clock is ahead of this plane's, in milliseconds, as measured.
    pub clock_ahead_ms: Option<i64>,
    /// Why there is no connection to it.
    pub problem: Option<String>,
}

/// The peers, and who else knocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeersView {
    /// The peers, by name.
    pub peers: Vec<PeerView>,
    /// How many connections were refused since the start.
    pub refused: u64,
    /// The last of them.
    pub refusals: Vec<RefusedView>,
    /// Why this plane's files of certificates, which have changed, are not in force.
    pub unread: Option<String>,
}

/// A connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedView {
    /// When.
    pub at: Stamp,
    /// From where.
    pub address: String,
    /// The identity that was presented.
    pub presented: String,
    /// Why.
    pub reason: String,
}

impl From<Refusal> for RefusedView {
    fn from(refusal: Refusal) -> RefusedView {
        RefusedView {
            at: refusal.at.into(),
            address: refusal.address.to_string(),
            presented: refusal.presented.to_string(),
            reason: refusal.reason.to_string(),
        }
    }
}

impl PeerView {
    fn new(peer: Peer, status: Option<PeerStatus>) -> PeerView {
        let (address, clock, problem) =
            status.map_or((None, None, None), |status| (status.address, status.clock, status.problem));
        PeerView {
            name: peer.name.to_string(),
            sends: peer.sends,
            receives: peer.receives,
            reachable: peer.reachable,
            address: address.map(|address| address.to_string()),
            summary_at: peer.summary.is_some().then(|| peer.summary_at.into()),
            summary: peer.summary,
            clock_ahead_ms: clock.map(|clock| clock.ahead_ms),
            problem: problem.filter(|_| !peer.reachable).map(|problem| problem.to_string()),
        }
    }
}

pub(super) async fn get_peers(State(api): State<Api>) -> Result<Json<PeersView>, ApiError> {
    let peers = api.ask(Manager::peers).await?;
    let link = api.doors.link.as_ref();
    let mut status = link.map(crate::migration::link::Link::peers).unwrap_or_default();
    let view = |peer: Peer| {
        let at = status.iter().position(|one| one.name == peer.name);
        PeerView::new(peer, at.map(|at| status.swap_remove(at)))
    };
    let peers = peers.into_iter().map(view).collect();
    let (refused, refusals) = link.map(crate::migration::link::Link::refusals).unwrap_or_default();
    let unread = link.and_then(crate::migration::link::Link::unread).map(|why| why.to_string());
    Ok(Json(PeersView { peers, refused, refusals: refusals.into_iter().map(RefusedView::from).collect(), unread }))
}

/// Give a migration up; the guest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelMigration {
    /// Which: `PLANE/NUMBER`.
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}/[0-9]{1,18}$")]
    pub migration: String,
}

/// Decide a migration that the planes cannot decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveMigration {
    /// Which: `PLANE/NUMBER`.
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}/[0-9]{1,18}$")]
    pub migration: String,
    /// The plane that owns the guest from now on.
    pub owner: String,
    /// The host that is certain not to run it, and stays so.
    pub fenced: String,
}

impl Request for CancelMigration {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        Ok(Command::CancelMigration { migration: named(&self.migration)? })
    }
}

impl Request for ResolveMigration {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        // The host may be the other plane's, so its name cannot be looked up.
        let fenced = HostId::from(&*self.fenced);
        Ok(Command::ResolveMigration { migration: named(&self.migration)?, owner: self.owner.into(), fenced })
    }
}

/// What a migration would come to, if it were asked for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRunView {
    /// Would it be planned?
    pub possible: bool,
    /// What would be done, in words.
    pub what: String,
    /// Why not.
    pub reason: Option<String>,
    /// What the planner weighed.
    pub weighed: Vec<String>,
}

/// `POST /v1/migrate/dry-run`: asks the planner, and nobody else; nothing is begun.
pub(super) async fn dry_run(
    State(api): State<Api>,
    Body(request): Body<super::commands::Migrate>,
) -> Result<Json<DryRunView>, ApiError> {
    let view = api.ask(move |manager| {
        let command = request.resolve(manager)?;
        let Command::Act { kind, .. } = command else { return Err(ApiError::bad_request("that is no migration")) };
        let what = |kind: &ActionKind| super::words::action(kind, None, &|element| manager.world().label(element));
        let by: Arc<str> = "admin".into();
        Ok(match manager.try_out(kind.clone(), &by) {
            Ok(action) => {
                DryRunView { possible: true, what: what(&action.proposal.kind), reason: None, weighed: action.weighed }
            }
            Err(reason) => DryRunView { possible: false, what: what(&kind), reason: Some(reason), weighed: Vec::new() },
        })
    });
    view.await?.map(Json)
}
