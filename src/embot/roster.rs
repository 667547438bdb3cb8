//! Which embots there are, and which of them hear of an element.

use super::module::Module;
use super::step::Embot;
use crate::model::{ElementId, EmbotId, EmbotRow, Grant, Lookup, VmId, World};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// The embots of all modules. An embot lives as long as its module covers its element.
#[derive(Debug, Default)]
pub struct Roster {
    modules: BTreeMap<Arc<str>, Rc<Module>>,
    embots: BTreeMap<EmbotId, usize>,
    slots: Vec<Option<Embot>>,
    free: Vec<usize>,
    /// Who hears of an element, modules in order of name.
    hearers: Lookup<ElementId, Vec<usize>>,
    /// Rows from the store whose embots were not made yet.
    rows: BTreeMap<EmbotId, EmbotRow>,
}

impl Roster {
    /// A roster that gives embots the state they had.
    pub fn restored(rows: BTreeMap<EmbotId, EmbotRow>) -> Roster {
        Roster { rows, ..Roster::default() }
    }

    /// The modules, by name.
    pub fn modules(&self) -> impl Iterator<Item = &Rc<Module>> {
        self.modules.values()
    }

    /// A module.
    pub fn module(&self, name: &str) -> Option<&Rc<Module>> {
        self.modules.get(name)
    }

    /// The embots, by module and element.
    pub fn embots(&self) -> impl Iterator<Item = &Embot> {
        self.embots.values().filter_map(|slot| self.slots[*slot].as_ref())
    }

    /// The embots that stand for an element, by module.
    pub fn of<'a>(&'a self, element: &'a ElementId) -> impl Iterator<Item = &'a Embot> {
        let named = |module: &Arc<str>| EmbotId { module: module.clone(), element: element.clone() };
        self.modules.keys().filter_map(move |module| self.embot(&named(module)))
    }

    /// An embot.
    pub fn embot(&self, id: &EmbotId) -> Option<&Embot> {
        self.embots.get(id).and_then(|slot| self.slots[*slot].as_ref())
    }

    /// An embot, to be changed.
    pub fn embot_mut(&mut self, id: &EmbotId) -> Option<&mut Embot> {
        self.embots.get(id).and_then(|slot| self.slots[*slot].as_mut())
    }

    /// Who hears of an element (a dependent's events go to its guest's embots).
    pub fn hearers(&self, element: &ElementId) -> &[usize] {
        let whole = element.parent();
        self.hearers.get(whole.as_ref().unwrap_or(element)).map_or(&[], Vec::as_slice)
    }

    /// Where an embot stands in the roster.
    pub fn slot(&self, id: &EmbotId) -> Option<usize> {
        self.embots.get(id).copied()
    }

    /// The embot at a place, and its module.
    pub fn at(&mut self, slot: usize) -> Option<(&mut Embot, &Rc<Module>)> {
        let embot = self.slots.get_mut(slot)?.as_mut()?;
        let module = self.modules.get(&embot.id.module)?;
        Some((embot, module))
    }

    /// The embots that hear a channel, but for `sender`.
    pub fn channel(&self, channel: &str, sender: &EmbotId) -> Vec<EmbotId> {
        let hears = |id: &EmbotId| {
            id != sender && self.modules.get(&id.module).is_some_and(|module| module.manifest.hears.contains(channel))
        };
        self.embots.keys().filter(|id| hears(id)).cloned().collect()
    }

    /// Puts a module in force, in place of its earlier version, whose embots keep their state. Returns the embots that are new
    /// or have a new version, and those that are gone.
    pub fn load(&mut self, module: Module, world: &World) -> (Vec<EmbotId>, Vec<EmbotId>) {
        let name = module.manifest.module.clone();
        let gone = self.unload(&name, true);
        self.modules.insert(name, Rc::new(module));
        let hosts = world.hosts().map(|host| ElementId::Host(host.id.clone()));
        let vms = world.vms().map(|vm| ElementId::Vm(vm.id));
        let everything: Vec<ElementId> = std::iter::once(ElementId::Plane).chain(hosts).chain(vms).collect();
        let mut there = Vec::new();
        for element in everything {
            there.extend(self.register(world, &element).0);
        }
        let gone: Vec<_> = gone.into_iter().filter(|id| !self.embots.contains_key(id)).collect();
        for id in &gone {
            self.rows.remove(id);
        }
        (there, gone)
    }

    /// Forgets rows from the store that no embot took, and that `wanted` picks. Returns whose they were.
    pub fn forget_rows(&mut self, wanted: impl Fn(&EmbotId) -> bool) -> Vec<EmbotId> {
        let forgotten: Vec<EmbotId> = self.rows.keys().filter(|id| wanted(id)).cloned().collect();
        for id in &forgotten {
            self.rows.remove(id);
        }
        forgotten
    }

    /// Takes a module out of force. With `keep`, its embots' state waits for the next version.
    pub fn unload(&mut self, name: &str, keep: bool) -> Vec<EmbotId> {
        let Some(module) = self.modules.remove(name) else { return Vec::new() };
        let ids: Vec<EmbotId> = self.embots.keys().filter(|id| *id.module == *name).cloned().collect();
        for id in &ids {
            if let Some(embot) = self.remove(id)
                && keep
            {
                self.rows.insert(id.clone(), embot.row(&module));
            }
        }
        ids
    }

    /// Changes a module's mode.
    pub fn set_mode(&mut self, name: &str, mode: crate::model::Mode) -> Option<Rc<Module>> {
        let module = self.modules.get_mut(name)?;
        // Nobody else holds the module between two inputs.
        Rc::get_mut(module)?.set_mode(mode);
        Some(module.clone())
    }

    /// A module that came with guests stands for these now.
    pub fn set_guests(&mut self, name: &str, guests: BTreeMap<VmId, Grant>) {
        // Nobody else holds the module between two inputs.
        if let Some(module) = self.modules.get_mut(name).and_then(Rc::get_mut) {
            module.stand_for(guests);
        }
    }

    /// Changes what the folder of modules said of a module.
    pub fn set_declared(&mut self, name: &str, declared: Option<crate::model::Declared>) {
        // Nobody else holds the module between two inputs.
        if let Some(module) = self.modules.get_mut(name).and_then(Rc::get_mut) {
            module.row.declared = declared;
        }
    }

    /// An element came or changed: makes the embots that cover it now and drops those that no longer do. Returns both.
    pub fn register(&mut self, world: &World, element: &ElementId) -> (Vec<EmbotId>, Vec<EmbotId>) {
        let (mut made, mut dropped) = (Vec::new(), Vec::new());
        let mut hearers = Vec::new();
        let modules: Vec<Rc<Module>> = self.modules.values().cloned().collect();
        for module in modules {
            let id = EmbotId { module: module.manifest.module.clone(), element: module.stands_for(element) };
            let known = self.embots.get(&id).copied();
            if module.covers(world, element) {
                hearers.push(known.unwrap_or_else(|| {
                    made.push(id.clone());
                    self.insert(&id, &module)
                }));
            } else if known.is_some() && id.element == *element && self.remove(&id).is_some() {
                dropped.push(id);
            }
        }
        if hearers.is_empty() {
            self.hearers.remove(element);
        } else {
            self.hearers.insert(element.clone(), hearers);
        }
        (made, dropped)
    }

    /// Gives embots that are yet to be made the state that they had on another plane.
    pub fn expect(&mut self, rows: impl IntoIterator<Item = (EmbotId, EmbotRow)>) {
        self.rows.extend(rows);
    }

    /// Drops what was expected of an element's embots and was not taken up; says whose it was.
    pub fn expected(&mut self, element: &ElementId) -> Vec<EmbotId> {
        let left: Vec<EmbotId> = self.rows.keys().filter(|id| id.element == *element).cloned().collect();
        for id in &left {
            self.rows.remove(id);
        }
        left
    }

    /// The embots that stand for an element go; those that cover it among others still hear of it.
    pub fn dismiss(&mut self, element: &ElementId) -> Vec<EmbotId> {
        let ids: Vec<EmbotId> = self.of(element).map(|embot| embot.id.clone()).collect();
        for id in &ids {
            self.remove(id);
        }
        ids
    }

    /// An element is gone, and with it the embots that stood for it.
    pub fn deregister(&mut self, element: &ElementId) -> Vec<EmbotId> {
        self.hearers.remove(element);
        self.dismiss(element)
    }

    fn insert(&mut self, id: &EmbotId, module: &Module) -> usize {
        let embot = Embot::new(id.clone(), module, self.rows.remove(id));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(embot);
        self.embots.insert(id.clone(), slot);
        slot
    }

    fn remove(&mut self, id: &EmbotId) -> Option<Embot> {
        let slot = self.embots.remove(id)?;
        if let Some(hearers) = self.hearers.get_mut(&id.element) {
            hearers.retain(|hearer| *hearer != slot);
        }
        if id.element == ElementId::Plane {
            for hearers in self.hearers.values_mut() {
                hearers.retain(|hearer| *hearer != slot);
            }
        }
        self.free.push(slot);
        self.slots[slot].take()
    }
}
