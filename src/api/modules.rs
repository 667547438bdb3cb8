//! `GET /v1/modules`, `/v1/modules/{name}`: what is deployed, and what was before.

use super::error::ApiError;
use super::request::Name;
use super::stamp::Stamp;
use super::state::Api;
use crate::error::nearest;
use crate::manager::{self, Idle};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct ModuleView {
    /// Its name.
    pub module: String,
    /// The version in force, as its manifest says.
    pub version: String,
    /// What it does.
    pub description: String,
    /// How far it may go now; `unloaded` or `broken` where it is not in force.
    pub mode: String,
    /// Did an admin set the mode, in place of the manifest's?
    pub mode_set: bool,
    /// Its policies' files.
    pub policies: Vec<String>,
    /// What it may propose.
    pub permits: Vec<String>,
    /// Settings in force, by policy.
    pub settings: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    /// How many embots it has.
    pub embots: usize,
    /// How many of them are suspended.
    pub suspended: usize,
    /// When the version in force was loaded.
    pub loaded_at: Option<Stamp>,
    /// By whom.
    pub loaded_by: Option<String>,
}

/// A version of a module as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// When it was loaded.
    pub loaded_at: Stamp,
    /// By whom.
    pub loaded_by: String,
    /// The manifest's file.
    pub file: String,
    /// The manifest.
    pub manifest: String,
    /// Its policies: file and text.
    pub policies: BTreeMap<String, String>,
}

/// What a policy's author wrote above one of its functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocView {
    /// The policy.
    pub policy: String,
    /// The function.
    pub function: String,
    /// The text.
    pub text: String,
}

/// A module with the texts of its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModuleDetail {
    /// The module.
    pub module: ModuleView,
    /// What is written above the functions of the version in force.
    pub docs: Vec<DocView>,
    /// Its versions, the one in force first.
    pub versions: Vec<VersionView>,
}

impl ModuleView {
    /// A module as the API shows it.
    pub fn new(module: &manager::ModuleView) -> ModuleView {
        let version = module.versions.last();
        ModuleView {
            module: module.module.to_string(),
            version: module.version.to_string(),
            description: module.description.to_string(),
            mode: module.mode.to_string(),
            mode_set: module.mode_set,
            policies: version.into_iter().flat_map(|version| &version.policies).map(|(file, _)| file.to_string()).collect(),
            permits: module.permits.iter().map(ToString::to_string).collect(),
            settings: module.settings.iter().map(|(policy, settings)| (policy.to_string(), json(settings))).collect(),
            embots: module.embots,
            suspended: module.suspended,
            loaded_at: version.map(|version| version.loaded_at.into()),
            loaded_by: version.map(|version| version.by.to_string()),
        }
    }
}

impl From<manager::IdleModule> for ModuleView {
    /// A module that is not in force has little to show: what became of it, and what to do.
    fn from(idle: manager::IdleModule) -> ModuleView {
        let (mode, why) = match idle.why {
            Idle::Unloaded => ("unloaded", format!("its file {} is left alone until it changes", idle.file)),
            Idle::NoLongerChecks => ("broken", format!("{} no longer checks; `embot check` says why", idle.file)),
            Idle::NeverChecked => ("broken", format!("{} has never checked; `embot check` says why", idle.file)),
        };
        ModuleView { module: idle.module.to_string(), mode: mode.to_owned(), description: why, ..ModuleView::default() }
    }
}

fn json(settings: &BTreeMap<String, crate::model::Value>) -> BTreeMap<String, serde_json::Value> {
    settings.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
}

/// A module with its versions.
pub(crate) fn detail(module: &manager::ModuleView) -> ModuleDetail {
    let versions = module.versions.iter().rev().map(|version| VersionView {
        loaded_at: version.loaded_at.into(),
        loaded_by: version.by.to_string(),
        file: version.file.to_string(),
        manifest: version.manifest.to_string(),
        policies: version.policies.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect(),
    });
    let doc = |policy: &str, (function, text): &(String, String)| DocView {
        policy: policy.to_owned(),
        function: function.clone(),
        text: text.clone(),
    };
    let docs = module.docs.iter().flat_map(|(policy, docs)| docs.iter().map(|one| doc(policy, one)));
    ModuleDetail { module: ModuleView::new(module), docs: docs.collect(), versions: versions.collect() }
}

pub(super) async fn get_list(State(api): State<Api>) -> Result<Json<Vec<ModuleView>>, ApiError> {
    api.ask(|manager| {
        let in_force = manager.modules();
        in_force.iter().map(ModuleView::new).chain(manager.idle_modules().into_iter().map(ModuleView::from)).collect()
    })
    .await
    .map(Json)
}

pub(super) async fn get_one(State(api): State<Api>, Name(name): Name) -> Result<Json<ModuleDetail>, ApiError> {
    let (modules, idle) = api.ask(|manager| (manager.modules(), manager.idle_modules())).await?;
    if let Some(found) = modules.iter().find(|module| *module.module == *name) {
        return Ok(Json(detail(found)));
    }
    let names = modules.iter().map(|module| &module.module).chain(idle.iter().map(|module| &module.module));
    let unknown = unknown(&name, names.map(|name| &**name));
    let found = idle.iter().find(|module| *module.module == *name).ok_or(unknown)?;
    Ok(Json(ModuleDetail { module: found.clone().into(), docs: Vec::new(), versions: Vec::new() }))
}

/// No module has this name.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    ApiError::not_found(format!("there is no module `{name}`")).with_hint(match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`? `embot modules list` shows all"),
        None => "`embot modules list` shows all, `embot modules load FILE` loads one".to_owned(),
    })
}
