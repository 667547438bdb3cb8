//! `POST /v1/commands/*`: what an admin asks of the plane. Answered once the journal has it; 409 where the answer is no.
//!
//! Guests and hosts are named as [`super::names`] says. Every request is its own type; fields that are not known are refused.

use super::caller::{Caller, Role};
use super::error::ApiError;
use super::migrations::{CancelMigration, ResolveMigration};
use super::names::{find_host, find_vm};
use super::request::Body;
use super::routes::Route;
use super::state::{Api, ReplyView};
use crate::manager::Manager;
use crate::model::{ActionId, ActionKind, Command, EmbotId, HostId, Level, Mode, Span, VmId};
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Move a guest to another host of the plane, or to another plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// Whom.
    pub vm: String,
    /// Where to: a host of the plane, a peer, or `PEER/HOST`; without it the planner chooses a host of the plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// While it runs, or while it is off; without it, as the guest is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// To another plane and not live: a guest that runs is switched off where it has not shut down after this time; without it,
    /// never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_after: Option<Span>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Start, destroy, reset, suspend, resume, save or restore a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Whom.
    pub vm: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Ask a guest to shut down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Whom.
    pub vm: String,
    /// After this time it is switched off; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_after: Option<Span>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Change a guest's processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetVcpus {
    /// Whom.
    pub vm: String,
    /// To how many.
    #[serde(deserialize_with = "super::request::whole")]
    #[schema(maximum = 4294967295_usize)]
    pub vcpus: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Change a guest's memory, at the most (`set_memory`) or at present (`balloon`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMemory {
    /// Whom.
    pub vm: String,
    /// To how much, in MiB.
    #[serde(deserialize_with = "super::request::whole")]
    #[schema(maximum = 18446744073709551615_usize)]
    pub memory_mib: u64,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Put a host in maintenance, or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Which.
    pub host: String,
    /// In or back.
    pub on: bool,
}

/// Tell admins something, as modules do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// How loud.
    pub level: Level,
    /// What.
    pub text: String,
}

/// Start nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Disarm {
    /// Cancel what runs, too.
    #[serde(default)]
    pub cancel: bool,
}

/// A command without anything to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Approve or cancel an action, or lift its rejection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Which.
    #[serde(deserialize_with = "super::request::whole")]
    #[schema(maximum = 18446744073709551615_usize)]
    pub action: u64,
    /// Why; kept with the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Reject an advised action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Which.
    #[serde(deserialize_with = "super::request::whole")]
    #[schema(maximum = 18446744073709551615_usize)]
    pub action: u64,
    /// Why; kept with the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its module does not advise the same for its guest again for so long; without it, an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Span>,
}

/// How far the plane may go with guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manage {
    /// Whom.
    #[serde(default)]
    pub vms: Vec<String>,
    /// All that the plane knows.
    #[serde(default)]
    pub all: bool,
    /// How far.
    pub mode: Mode,
}

/// Load a module, or its changed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadModule {
    /// The manifest's file name, for messages.
    pub file: String,
    /// The manifest's text.
    pub manifest: String,
    /// The texts of the policies it names, by file name.
    pub policies: BTreeMap<String, String>,
}

/// Unload a module or roll it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Which.
    pub module: String,
}

/// Change a module's mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleMode {
    /// Which.
    pub module: String,
    /// To what.
    pub mode: Mode,
}

/// Let a suspended embot step again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsuspend {
    /// Which: `MODULE@ELEMENT`. The element may be written as a host's or guest's name.
    pub embot: String,
}

/// A request that becomes a command once the names in it are known.
pub trait Request: serde::de::DeserializeOwned + Send + 'static {
    /// Finds what is named, by the plane's present state.
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError>;
}

fn act(kind: ActionKind, reason: Option<String>) -> Command {
    Command::Act { kind, reason: said(reason).unwrap_or_else(|| "an admin asked".into()) }
}

/// A reason, where one was given.
fn said(reason: Option<String>) -> Option<Arc<str>> {
    reason.filter(|reason| !reason.trim().is_empty()).map(Into::into)
}

/// Where a guest can be moved to.
enum Destination {
    Host(HostId),
    Plane(Arc<str>, Option<HostId>),
}

/// A host of the plane, a peer, or `PEER/HOST`. A host wins over a peer of the same name; `PEER/` is the peer.
fn destination(world: &crate::model::World, to: &str) -> Result<Destination, ApiError> {
    let (plane, host) = to.split_once('/').map_or((to, None), |(plane, host)| (plane, Some(host)));
    if host.is_none() && world.host(&HostId::from(to)).is_some() {
        return Ok(Destination::Host(HostId::from(to)));
    }
    if let Some(host) = host.filter(|_| plane == &*world.plane) {
        return find_host(world, host).map(Destination::Host);
    }
    if let Some(peer) = world.peers.get(plane) {
        let host = host.filter(|host| !host.is_empty()).map(HostId::from);
        return Ok(Destination::Plane(peer.name.clone(), host));
    }
    if host.is_some() {
        let names: Vec<&str> = world.peers.keys().map(|name| &**name).collect();
        let near = crate::error::nearest(plane, names.iter().copied());
        return Err(ApiError::not_found(format!("there is no peer `{plane}`")).with_hint(match near {
            Some(near) => format!("did you mean `{near}`? `embot peers` lists them"),
            None => "`embot peers` lists those in the configuration".to_owned(),
        }));
    }
    find_host(world, to).map(Destination::Host)
}

impl Request for Migrate {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        let world = manager.world();
        let vm = find_vm(&world, &self.vm)?;
        let live = self.live.unwrap_or_else(|| world.vm(vm).is_some_and(crate::model::Vm::is_active));
        let to = self.to.as_deref().map(|to| destination(&world, to)).transpose()?;
        if self.force_after.is_some() && (live || !matches!(to, Some(Destination::Plane(..)))) {
            let why = "`force_after` is for a guest that goes to another plane while it is off, and is not obeyed otherwise";
            let hint = "name a peer in `to` and set `live` to false (`--to PEER --cold`), or leave `force_after` out";
            return Err(ApiError::senseless(why).with_hint(hint));
        }
        let kind = match to {
            None => ActionKind::Migrate { vm, to: None, live },
            Some(Destination::Host(host)) => ActionKind::Migrate { vm, to: Some(host), live },
            Some(Destination::Plane(plane, host)) => {
                ActionKind::Handover { vm, plane, host, live, force_after: self.force_after }
            }
        };
        Ok(act(kind, self.reason))
    }
}

impl Request for Shutdown {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        let vm = find_vm(&manager.world(), &self.vm)?;
        Ok(act(ActionKind::Shutdown { vm, force_after: self.force_after }, self.reason))
    }
}

impl Request for SetVcpus {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        let vm = find_vm(&manager.world(), &self.vm)?;
        Ok(act(ActionKind::SetVcpus { vm, vcpus: self.vcpus }, self.reason))
    }
}

impl Request for Maintenance {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        Ok(Command::Maintenance { host: find_host(&manager.world(), &self.host)?, on: self.on })
    }
}

impl Request for Notify {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        if self.text.trim().is_empty() {
            return Err(ApiError::senseless("`text` is empty").with_hint("say what admins should know"));
        }
        Ok(act(ActionKind::Notify { level: self.level, text: self.text.into() }, None))
    }
}

impl Request for Disarm {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        Ok(Command::Disarm { cancel: self.cancel })
    }
}

impl Request for Reject {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        Ok(Command::Reject { action: ActionId(self.action), reason: said(self.reason), rest: self.rest })
    }
}

impl Request for Manage {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        let world = manager.world();
        if self.all != self.vms.is_empty() {
            return Err(ApiError::senseless(if self.all {
                "guests are named, and `all` is set as well"
            } else {
                "no guest is named"
            })
            .with_hint("name the guests in `vms`, or set `all`, not both"));
        }
        let vms: Result<Vec<VmId>, ApiError> = self.vms.iter().map(|name| find_vm(&world, name)).collect();
        Ok(Command::Manage { vms: vms?, mode: self.mode })
    }
}

impl Request for LoadModule {
    fn resolve(self, _: &Manager) -> Result<Command, ApiError> {
        let policies = self.policies.into_iter().map(|(file, text)| (file.into(), text.into())).collect();
        Ok(Command::LoadModule { file: self.file.into(), manifest: self.manifest.into(), policies })
    }
}

fn known_module(name: &str, manager: &Manager) -> Result<Arc<str>, ApiError> {
    let modules = manager.modules();
    let found = modules.iter().find(|module| &*module.module == name).map(|module| module.module.clone());
    found.ok_or_else(|| super::modules::unknown(name, modules.iter().map(|module| &*module.module)))
}

impl Request for ModuleMode {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        Ok(Command::ModuleMode { module: known_module(&self.module, manager)?, mode: self.mode })
    }
}

impl Request for Unsuspend {
    fn resolve(self, manager: &Manager) -> Result<Command, ApiError> {
        let bad = || {
            ApiError::senseless(format!("`{}` names no embot", self.embot))
                .with_hint("write MODULE@ELEMENT, for example `relieve-hot-host@host-a`; `embot embots --suspended` lists them")
        };
        let (module, element) = self.embot.split_once('@').ok_or_else(bad)?;
        let module = known_module(module, manager)?;
        let element = super::names::find_element(&manager.world(), element)?;
        Ok(Command::Unsuspend { embot: EmbotId { module, element } })
    }
}

type Answer = Result<Json<ReplyView>, ApiError>;

async fn give(api: Api, by: Caller, command: Result<Command, ApiError>) -> Answer {
    api.command(command?, by.name).await.map(Json)
}

/// A route for a request that finds its own command.
async fn ask<R: Request>(State(api): State<Api>, by: Caller, Body(request): Body<R>) -> Answer {
    let command = api.ask(move |manager| request.resolve(manager)).await?;
    give(api, by, command).await
}

/// A route for one of several commands that take the same request.
fn guest(kind: fn(VmId) -> ActionKind) -> axum::routing::MethodRouter<Api> {
    post(move |State(api): State<Api>, by: Caller, Body(request): Body<Guest>| async move {
        let found = api.ask(move |manager| find_vm(&manager.world(), &request.vm).map(|vm| act(kind(vm), request.reason)));
        let command = found.await?;
        give(api, by, command).await
    })
}

fn memory(kind: fn(VmId, u64) -> ActionKind) -> axum::routing::MethodRouter<Api> {
    post(move |State(api): State<Api>, by: Caller, Body(request): Body<SetMemory>| async move {
        let found = api.ask(move |manager| {
            find_vm(&manager.world(), &request.vm).map(|vm| act(kind(vm, request.memory_mib), request.reason))
        });
        let command = found.await?;
        give(api, by, command).await
    })
}

fn settle(command: fn(ActionId, Option<Arc<str>>) -> Command) -> axum::routing::MethodRouter<Api> {
    post(move |State(api): State<Api>, by: Caller, Body(request): Body<Settle>| async move {
        give(api, by, Ok(command(ActionId(request.action), said(request.reason)))).await
    })
}

fn module(command: fn(Arc<str>) -> Command) -> axum::routing::MethodRouter<Api> {
    post(move |State(api): State<Api>, by: Caller, Body(request): Body<Module>| async move {
        let found = api.ask(move |manager| known_module(&request.module, manager).map(command));
        let command = found.await?;
        give(api, by, command).await
    })
}

fn set_memory(vm: VmId, memory_mib: u64) -> ActionKind {
    ActionKind::SetMemory { vm, memory_mib }
}

fn balloon(vm: VmId, memory_mib: u64) -> ActionKind {
    ActionKind::Balloon { vm, memory_mib }
}

async fn arm(State(api): State<Api>, by: Caller, Body(Nothing {}): Body<Nothing>) -> Answer {
    give(api, by, Ok(Command::Arm)).await
}

/// A request that finds its own command.
fn command<R: Request + ToSchema>(name: &str, role: Role, about: &'static str) -> Route {
    Route::command::<R>(name, role, about, post(ask::<R>))
}

/// What may be asked for, and by whom.
pub(super) fn routes() -> Vec<Route> {
    use Role::{Admin, Operator};
    vec![
        command::<Migrate>("migrate", Operator, "Move a guest to another host of the plane, or to another plane."),
        Route::command::<Guest>("start", Operator, "Start a guest that is off.", guest(|vm| ActionKind::Start { vm })),
        command::<Shutdown>("shutdown", Operator, "Ask a guest to shut down."),
        Route::command::<Guest>("destroy", Operator, "Switch a guest off at once.", guest(|vm| ActionKind::Destroy { vm })),
        Route::command::<Guest>("reset", Operator, "Reset a guest, as by its button.", guest(|vm| ActionKind::Reset { vm })),
        Route::command::<Guest>("suspend", Operator, "Stop a guest's processors.", guest(|vm| ActionKind::Suspend { vm })),
        Route::command::<Guest>("resume", Operator, "Let a suspended guest run on.", guest(|vm| ActionKind::Resume { vm })),
        Route::command::<Guest>(
            "save",
            Operator,
            "Save a guest's memory to disk and stop it.",
            guest(|vm| ActionKind::Save { vm }),
        ),
        Route::command::<Guest>(
            "restore",
            Operator,
            "Start a saved guest where it stopped.",
            guest(|vm| ActionKind::Restore { vm }),
        ),
        command::<SetVcpus>("set_vcpus", Operator, "Change a guest's processors."),
        Route::command::<SetMemory>("set_memory", Operator, "Change the most memory a guest may use.", memory(set_memory)),
        Route::command::<SetMemory>("balloon", Operator, "Change the memory a guest holds at present.", memory(balloon)),
        command::<Notify>("notify", Operator, "Tell admins something, as modules do."),
        command::<Maintenance>("maintenance", Operator, "Put a host in maintenance, or back."),
        command::<Disarm>("disarm", Operator, "Start nothing new until the plane is armed again."),
        Route::command::<Nothing>("arm", Operator, "Act again.", post(arm)),
        Route::command::<Nothing>("reload", Admin, "Read the configuration again.", post(super::reload::post))
            .gives::<super::reload::ReloadView>(),
        Route::command::<Settle>(
            "approve",
            Operator,
            "Approve an advised action.",
            settle(|action, reason| Command::Approve { action, reason }),
        ),
        command::<Reject>("reject", Operator, "Reject an advised action."),
        Route::command::<Settle>(
            "lift",
            Operator,
            "Take back that advice was rejected.",
            settle(|action, reason| Command::Lift { action, reason }),
        ),
        Route::command::<Settle>(
            "cancel",
            Operator,
            "Cancel a running action.",
            settle(|action, reason| Command::Cancel { action, reason }),
        ),
        command::<Manage>("manage", Operator, "Say how far the plane may go with guests."),
        command::<CancelMigration>("cancel_migration", Operator, "Give a migration to another plane up."),
        command::<ResolveMigration>("resolve_migration", Admin, "Decide a migration that the planes cannot decide."),
        command::<LoadModule>("load_module", Admin, "Load a module, or its changed version."),
        Route::command::<Module>("unload_module", Admin, "Forget a module.", module(|module| Command::UnloadModule { module })),
        command::<ModuleMode>("module_mode", Admin, "Change a module's mode."),
        Route::command::<Module>(
            "roll_back",
            Admin,
            "Go back to a module's version before.",
            module(|module| Command::RollBack { module }),
        ),
        command::<Unsuspend>("unsuspend", Admin, "Let a suspended embot step again."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::read_body;
    use proptest::prelude::*;

    /// JSON that looks like a request, now and then.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let key = prop_oneof![
            prop::sample::select(vec![
                "vm", "vms", "to", "live", "reason", "host", "on", "mode", "all", "action", "module", "file"
            ])
            .prop_map(str::to_owned),
            prop::sample::select(vec!["manifest", "policies", "embot", "cancel", "vcpus", "memory_mib", "force_after"])
                .prop_map(str::to_owned),
            ".{0,6}",
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            prop::sample::select(vec!["act", "web-1", "5m", "host:host-a", "-1s"]).prop_map(Into::into),
            ".{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(key.clone(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Reads the bytes as every request there is; says how many it was.
    fn read_as_all(bytes: &[u8]) -> usize {
        fn reads<T: serde::de::DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> usize {
            match read_body::<T>(bytes) {
                Ok(request) => {
                    let again = serde_json::to_vec(&request).unwrap();
                    assert_eq!(read_body::<T>(&again).unwrap(), request, "what was read is written and read again");
                    1
                }
                Err(error) => {
                    assert!(!error.problem.error.is_empty());
                    0
                }
            }
        }
        reads::<Migrate>(bytes)
            + reads::<Guest>(bytes)
            + reads::<Shutdown>(bytes)
            + reads::<SetVcpus>(bytes)
            + reads::<SetMemory>(bytes)
            + reads::<Maintenance>(bytes)
            + reads::<Disarm>(bytes)
            + reads::<Nothing>(bytes)
            + reads::<Settle>(bytes)
            + reads::<Manage>(bytes)
            + reads::<LoadModule>(bytes)
            + reads::<Module>(bytes)
            + reads::<ModuleMode>(bytes)
            + reads::<Unsuspend>(bytes)
    }

    proptest! {
        #[test]
        fn no_json_makes_a_request_panic(json in json()) {
            read_as_all(json.to_string().as_bytes());
        }

        #[test]
        fn no_bytes_make_a_request_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            read_as_all(&bytes);
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        fn said<T: serde::de::DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
            read_body::<T>(text.as_bytes()).unwrap_err().problem.error
        }
        let all = [
            said::<Migrate>(r#"{"vm": "web-1", "target": "host-b"}"#),
            said::<Migrate>(r#"{"to": "host-b"}"#),
            said::<Shutdown>(r#"{"vm": "web-1", "force_after": "soon"}"#),
            said::<Manage>(r#"{"all": true, "mode": "control"}"#),
            said::<Settle>(r#"{"action": "17"}"#),
            said::<Disarm>("cancel=true"),
        ];
        insta::assert_snapshot!(all.join("\n"));
        assert!(read_body::<Disarm>(b"").is_ok(), "nothing to say is said by an empty body");
        assert!(read_body::<Migrate>(&[b'['; 100_000]).is_err(), "depth is bounded");
    }
}
