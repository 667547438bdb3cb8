//! A management module as its admin writes it: a YAML file in `embots/`.

use crate::model::{Mode, Value, Verb};
use crate::plan::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a module's embots stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// One embot for each matching host.
    Hosts,
    /// One embot for each matching guest with its dependents.
    Vms,
    /// One embot for the plane; it hears what happens to the plane, every matching host and every matching guest.
    Plane,
}

/// A module's manifest, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The module's name: letters, digits, `-` and `_`.
    pub module: Arc<str>,
    /// Its version, for people.
    pub version: Arc<str>,
    /// What it does, in a sentence.
    pub description: Arc<str>,
    /// The policies' files, relative to the `policies/` folder.
    pub policies: Vec<Arc<str>>,
    /// What its embots stand for.
    pub cover: Cover,
    /// Patterns of names of what is covered (`web-*`); empty: all.
    pub names: Vec<String>,
    /// Labels of what is covered, all of which must be there.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// How far it may go, until an admin says otherwise. `advise` where the manifest is silent.
    pub mode: Mode,
    /// What it may propose.
    pub permits: BTreeSet<Verb>,
    /// Its guardrails.
    pub limits: Limits,
    /// Values for its policies' settings.
    pub settings: BTreeMap<String, Value>,
    /// Channels it sends on.
    pub sends: BTreeSet<Arc<str>>,
    /// Channels it hears.
    pub hears: BTreeSet<Arc<str>>,
}

// STOPGAP
#[derive(serde::Deserialize)]
struct Raw { module: Arc<str>, version: Arc<str>, #[serde(default)] description: Arc<str>, policies: Vec<Arc<str>>, covers: RawCover, #[serde(default)] mode: Option<Mode>, #[serde(default)] permits: Vec<Verb>, #[serde(default)] limits: Limits, #[serde(default)] settings: BTreeMap<String, serde_yaml::Value>, #[serde(default)] channels: Ch }
#[derive(serde::Deserialize, Default)] #[serde(default)] struct Ch { sends: BTreeSet<Arc<str>>, hears: BTreeSet<Arc<str>> }
#[derive(serde::Deserialize, Default)] #[serde(default)] struct RawCover { each: Option<String>, one_for: Option<String>, names: Vec<String>, labels: BTreeMap<Arc<str>, Arc<str>> }
impl Manifest {
    /// Stopgap.
    pub fn read(file: &str, text: &str) -> Result<(Manifest, Vec<crate::error::Diagnostic>), Vec<crate::error::Diagnostic>> {
        let raw: Raw = serde_yaml::from_str(text).map_err(|e| vec![crate::error::Diagnostic::error(file, 0, 0, 1, e.to_string())])?;
        let v = |v: serde_yaml::Value| match v { serde_yaml::Value::Bool(b) => Value::Bool(b), serde_yaml::Value::Number(n) => n.as_i64().map(Value::Int).unwrap_or(Value::Float(n.as_f64().unwrap_or(0.0))), serde_yaml::Value::String(s) => Value::Text(s), _ => Value::Unit };
        Ok((Manifest { module: raw.module, version: raw.version, description: raw.description, policies: raw.policies, cover: match raw.covers.each.as_deref() { Some("host") => Cover::Hosts, Some("vm") => Cover::Vms, _ => Cover::Plane }, names: raw.covers.names, labels: raw.covers.labels, mode: raw.mode.unwrap_or(Mode::Advise), permits: raw.permits.into_iter().collect(), limits: raw.limits, settings: raw.settings.into_iter().map(|(k, x)| (k, v(x))).collect(), sends: raw.channels.sends, hears: raw.channels.hears }, vec![]))
    }
}
