//! `GET /v1/embots`: the autonomic elements, what they remember and whether they are suspended.

use super::error::ApiError;
use super::names::find_element;
use super::request::Query;
use super::stamp::Stamp;
use super::state::Api;
use crate::manager;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An embot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbotView {
    /// Its identity: `MODULE@ELEMENT`.
    pub embot: String,
    /// Its module.
    pub module: String,
    /// The element it stands for.
    pub element: String,
    /// That element's name for people.
    pub name: String,
    /// Faults of its policies since the last good hour.
    pub faults: u32,
    /// Why it is suspended; absent while it works.
    pub suspended: Option<String>,
    /// Its timers, by name: when they are due.
    pub timers: BTreeMap<String, Stamp>,
    /// What its policies remember, by policy.
    pub state: BTreeMap<String, serde_json::Value>,
}

impl EmbotView {
    /// An embot as the API shows it.
    pub fn new(embot: &manager::EmbotView) -> EmbotView {
        EmbotView {
            embot: embot.id.to_string(),
            module: embot.id.module.to_string(),
            element: embot.id.element.to_string(),
            name: embot.element.clone(),
            faults: embot.faults,
            suspended: embot.suspended.as_ref().map(ToString::to_string),
            timers: embot.timers.iter().map(|(name, due)| (name.to_string(), (*due).into())).collect(),
            state: embot.state.iter().map(|(policy, state)| (policy.to_string(), state.to_json())).collect(),
        }
    }
}

/// Which embots are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbotFilter {
    /// Only those of this module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Only those that stand for this element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// Only those that are suspended (`true`) or work (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<EmbotFilter>,
) -> Result<Json<Vec<EmbotView>>, ApiError> {
    let found = api.ask(move |manager| {
        let world = manager.world();
        let element = filter.element.as_deref().map(|name| find_element(&world, name)).transpose()?;
        let wanted = |embot: &manager::EmbotView| {
            element.as_ref().is_none_or(|element| *element == embot.id.element)
                && filter.suspended.is_none_or(|suspended| suspended == embot.suspended.is_some())
        };
        let embots = manager.embots(filter.module.as_deref());
        Ok(embots.iter().filter(|embot| wanted(embot)).map(EmbotView::new).collect())
    });
    found.await?.map(Json)
}
