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
