//! A loaded module: its manifest with its policies bound to their settings.

use super::manifest::{Cover, Manifest};
use super::package::Travelling;
use crate::model::{ElementId, Grant, Host, Mode, ModuleRow, Vm, VmId, World};
use crate::plan::Terms;
use crate::policy::Bound;
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// A module in force.
#[derive(Debug)]
pub struct Module {
    /// What its admin wrote.
    pub manifest: Manifest,
    /// Its policies, with their settings, in the manifest's order.
    pub policies: Vec<Bound>,
    /// What the planner holds it to.
    pub terms: Arc<Terms>,
    /// What the store keeps of it.
    pub row: ModuleRow,
    /// Where it came with guests: it stands for those and no others, and for each within what was granted.
    guests: Option<BTreeMap<VmId, Grant>>,
    names: GlobSet,
    /// How it travels, or why it cannot: found out once, for a changed version is another module.
    travelling: OnceCell<Result<Rc<Travelling>, Arc<str>>>,
}

impl Module {
    /// Joins a manifest and its policies. Fails where a name pattern cannot be read (the manifest's reader tells that earlier,
    /// with its place).
    pub fn new(manifest: Manifest, policies: Vec<Bound>, row: ModuleRow) -> Result<Module, String> {
        let mut names = GlobSetBuilder::new();
        for pattern in &manifest.names {
            names.add(Glob::new(pattern).map_err(|error| error.to_string())?);
        }
        let names = names.build().map_err(|error| error.to_string())?;
        let terms = Arc::new(Terms {
            module: manifest.module.clone(),
            mode: row.mode.unwrap_or(manifest.mode),
            permits: manifest.permits.clone(),
            limits: manifest.limits.clone(),
            is_admin: false,
        });
        Ok(Module { manifest, policies, terms, row, guests: None, names, travelling: OnceCell::new() })
    }

    /// How it travels with guests; `pack` finds it out.
    pub fn travelling(
        &self,
        pack: impl FnOnce(&ModuleRow) -> Result<Travelling, Arc<str>>,
    ) -> Result<Rc<Travelling>, Arc<str>> {
        self.travelling.get_or_init(|| pack(&self.row).map(Rc::new)).clone()
    }

    /// From now on it stands for these guests only, which brought it.
    pub fn stand_for(&mut self, guests: BTreeMap<VmId, Grant>) {
        self.guests = Some(guests);
    }

    /// What the planner holds its embot for this element to.
    pub fn terms_for(&self, element: &ElementId) -> Arc<Terms> {
        let grant = self.guests.as_ref().zip(element.vm()).and_then(|(guests, vm)| guests.get(&vm));
        let Some(Grant { mode, permits, .. }) = grant else { return self.terms.clone() };
        let mut terms = (*self.terms).clone();
        terms.mode = mode.map_or(terms.mode, |mode| terms.mode.min(mode));
        if let Some(permits) = permits {
            terms.permits.retain(|permit| permits.contains(permit));
        }
        Arc::new(terms)
    }

    /// The mode in force: what an admin set, else what the manifest says.
    pub fn mode(&self) -> Mode {
        self.terms.mode
    }

    /// Changes the mode by an admin's word.
    pub fn set_mode(&mut self, mode: Mode) {
        self.row.mode = Some(mode);
        self.terms = Arc::new(Terms { mode, ..(*self.terms).clone() });
    }

    /// The elements its embots stand for: each embot's, or the plane for all.
    pub fn stands_for(&self, element: &ElementId) -> ElementId {
        if self.manifest.cover == Cover::Plane { ElementId::Plane } else { element.clone() }
    }

    /// Does it cover this element? Dependents are covered through their guest.
    pub fn covers(&self, world: &World, element: &ElementId) -> bool {
        if let Some(guests) = &self.guests
            && !matches!(element, ElementId::Vm(vm) if guests.contains_key(vm))
        {
            return false;
        }
        match element {
            ElementId::Plane => self.manifest.cover == Cover::Plane,
            ElementId::Host(host) => {
                self.manifest.cover != Cover::Vms && world.host(host).is_some_and(|host| self.covers_host(host))
            }
            ElementId::Vm(vm) => self.manifest.cover != Cover::Hosts && world.vm(*vm).is_some_and(|vm| self.covers_vm(vm)),
            ElementId::Disk(..) | ElementId::Nic(..) | ElementId::App(..) => false,
        }
    }

    fn covers_host(&self, host: &Host) -> bool {
        self.matches(host.id.as_str(), &host.labels)
    }

    fn covers_vm(&self, vm: &Vm) -> bool {
        self.matches(&vm.name, &vm.labels)
    }

    fn matches(&self, name: &str, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        (self.manifest.names.is_empty() || self.names.is_match(name))
            && self.manifest.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
