//! Loading, changing and taking back modules while the plane runs. A module takes over between two events; its embots keep
//! their state; one that does not check leaves the last good version in force.

use super::Manager;
use crate::embot::{Manifest, Module};
use crate::error::Diagnostic;
use crate::model::{Change, ContentHash, Declared, Level, Mode, ModuleRow, ModuleVersion, Record};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions of a module that are kept for a roll-back.
const VERSIONS_KEPT: usize = 10;

/// Modules that are not in force.
#[derive(Default)]
pub(super) struct Shelf {
    /// Those that were in the last run and do not check now, and those that an admin unloaded while their file is still in the
    /// folder.
    pub(super) unrestored: BTreeMap<Arc<str>, ModuleRow>,
    /// Files of the folder that did not check when they were last declared, with what may be their module's name.
    pub(super) unchecked: BTreeMap<Arc<str>, Arc<str>>,
}

impl Manager {
    pub(super) fn load_module(
        &mut self,
        file: &Arc<str>,
        manifest: &Arc<str>,
        policies: &[(Arc<str>, Arc<str>)],
        by: &Arc<str>,
        declared: Option<Declared>,
    ) -> Result<String, String> {
        let version = ModuleVersion {
            file: file.clone(),
            manifest: manifest.clone(),
            policies: policies.to_vec(),
            loaded_at: self.now,
            by: by.clone(),
        };
        let read = self.read_module(&version).inspect_err(|error| {
            let named = Manifest::read(file, manifest).map(|(manifest, _)| manifest.module).ok();
            let stands =
                if self.has_been_in_force(file, named.as_ref()) { "the last good version stays" } else { "it is not in force" };
            let text = format!("the module of {file} does not check, {stands}: {error}");
            self.turn.records.push(Record::Notice { level: Level::Warning, text });
        })?;
        let name = read.0.module.clone();
        let in_force = self.roster.module(&name).map(|old| old.row.clone());
        let is_new = in_force.is_none();
        // A version that could not be restored left its mode and its history behind.
        let before = in_force.or_else(|| self.shelf.unrestored.get(&name).cloned());
        let mode = read.0.mode;
        let is_first = before.as_ref().is_none_or(|row| row.versions.is_empty());
        let held_back = (is_first && mode > self.settings.new_modules).then_some(self.settings.new_modules);
        let mut row = before.unwrap_or(ModuleRow { mode: None, versions: Vec::new(), declared: None });
        // What an admin deploys is the plane's own, whoever brought the same before.
        let is_new = is_new || self.disown(&name);
        row.mode = row.mode.or(held_back);
        let is_news = declared.is_some() && row.declared != declared;
        row.declared = declared.or(row.declared);
        let same = |old: &ModuleVersion| old.manifest == version.manifest && old.policies == version.policies;
        if !is_new && row.versions.last().is_some_and(same) {
            if is_news {
                self.roster.set_declared(&name, row.declared.clone());
                self.turn.changes.push(Change::Module(name.clone(), Some(row)));
            }
            return Ok(format!("module {name} is in force in this version already"));
        }
        row.versions.push(version);
        if row.versions.len() > VERSIONS_KEPT {
            row.versions.remove(0);
        }
        let message = self.put_in_force(read, row)?;
        let Some(held_back) = held_back else { return Ok(message) };
        let text = format!(
            "module {name} is new and starts in mode {held_back}, though its manifest says {mode}: `embot modules mode {name} {mode}` \
             raises it (`new_modules` in the configuration says how far new modules may go)"
        );
        self.notice(Level::Warning, text.clone());
        Ok(format!("{message}; {text}"))
    }

    /// At start-up: the version in force before. What no longer checks is left out, loudly.
    pub(super) fn restore_module(&mut self, name: Arc<str>, row: ModuleRow) {
        let Some(version) = row.versions.last() else {
            self.shelf.unrestored.insert(name, row);
            return;
        };
        let restored = self.read_module(version).and_then(|(manifest, policies)| Module::new(manifest, policies, row.clone()));
        match restored {
            Ok(mut module) => {
                self.mobile.scope(&mut module);
                let (made, gone) = self.roster.load(module, &self.world.borrow());
                let news = made.into_iter().filter(|id| self.roster.embot(id).is_some_and(|embot| embot.dirty)).collect();
                self.embots_changed(news, gone);
            }
            Err(error) => {
                self.notice(Level::Alarm, format!("the module of {} is not in force: {error}", version.file));
                self.shelf.unrestored.insert(name, row);
            }
        }
    }

    pub(super) fn read_module(&self, version: &ModuleVersion) -> Result<(Manifest, Vec<crate::policy::Bound>), String> {
        let told = |errors: Vec<Diagnostic>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let (manifest, _) = Manifest::read(&version.file, &version.manifest).map_err(told)?;
        let mut bound = Vec::new();
        for file in &manifest.policies {
            let Some((_, text)) = version.policies.iter().find(|(name, _)| **name == **file) else {
                return Err(format!("{}: the policy `{file}` is missing: put it into the policies folder", version.file));
            };
            let policy = self.engine.compile(file, text).map_err(told)?;
            let settings = manifest.settings.iter().filter(|(name, _)| policy.defaults().contains_key(*name));
            let settings = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
            let trouble = |errors: Vec<String>| format!("{}: {}", version.file, errors.join("; "));
            bound.push(self.engine.bind(policy, &settings).map_err(trouble)?);
        }
        if let Some(name) =
            manifest.settings.keys().find(|name| !bound.iter().any(|policy| policy.settings().contains_key(*name)))
        {
            return Err(format!("{}: no policy of the module has a setting `{name}`; run `embot check`", version.file));
        }
        Ok((manifest, bound))
    }

    pub(super) fn put_in_force(
        &mut self,
        (manifest, policies): (Manifest, Vec<crate::policy::Bound>),
        row: ModuleRow,
    ) -> Result<String, String> {
        let (name, version) = (manifest.module.clone(), manifest.version.clone());
        let mut module = Module::new(manifest, policies, row.clone())?;
        self.mobile.scope(&mut module);
        let mode = module.mode();
        let (made, gone) = self.roster.load(module, &self.world.borrow());
        let count = made.len();
        // A changed version deserves another chance.
        for id in &made {
            if let Some(embot) = self.roster.embot_mut(id).filter(|embot| embot.suspended.is_some()) {
                embot.unsuspend();
            }
        }
        self.embots_changed(made, gone);
        self.shelf.unrestored.remove(&name);
        self.turn.changes.push(Change::Module(name.clone(), Some(row)));
        let message = format!("module {name} {version} is in force with {count} embots, in mode {mode}");
        self.notice(Level::Info, message.clone());
        Ok(message)
    }

    pub(super) fn unload_module(&mut self, name: &Arc<str>) -> Result<String, String> {
        if self.roster.module(name).is_none() {
            return Err(self.no_such_module(name));
        }
        let declared = self.roster.module(name).and_then(|module| module.row.declared.clone());
        let file = declared.as_ref().map(|declared| declared.file.clone());
        // What is left says that the folder is not to bring it back by itself.
        let row = declared.map(|declared| ModuleRow { mode: None, versions: Vec::new(), declared: Some(declared) });
        let message = self.unload(name, row);
        Ok(match file {
            Some(file) => format!("{message}; its file {file} is left alone until it changes"),
            None => message,
        })
    }

    fn unload(&mut self, name: &Arc<str>, left: Option<ModuleRow>) -> String {
        let gone = self.roster.unload(name, false);
        let count = gone.len();
        self.embots_changed(Vec::new(), gone);
        self.tally.forget(name);
        match left.clone() {
            Some(row) => drop(self.shelf.unrestored.insert(name.clone(), row)),
            None => drop(self.shelf.unrestored.remove(name)),
        }
        self.turn.changes.push(Change::Module(name.clone(), left));
        self.disown(name);
        format!("module {name} is unloaded; its {count} embots and their state are gone")
    }

    /// The folder says what a file holds. Where that is what it held before, whatever an admin has done since stands: a
    /// roll-back, another version, an unloading.
    pub(super) fn declare_module(
        &mut self,
        file: &Arc<str>,
        manifest: &Arc<str>,
        policies: &[(Arc<str>, Arc<str>)],
        by: &Arc<str>,
    ) -> Result<String, String> {
        let declared = Declared { file: file.clone(), digest: digest(manifest, policies) };
        if let Some(name) = self.declared_by(|known| *known == declared) {
            self.shelf.unchecked.remove(file);
            return Ok(format!("module {name} stays as it is: {file} has not changed"));
        }
        let loaded = self.load_module(file, manifest, policies, by, Some(declared.clone()));
        if loaded.is_err() {
            let named = Manifest::read(file, manifest).map(|(manifest, _)| manifest.module);
            let stem = file.rsplit_once('.').map_or(&**file, |(stem, _)| stem);
            self.shelf.unchecked.insert(file.clone(), named.unwrap_or_else(|_| stem.into()));
        } else {
            self.shelf.unchecked.remove(file);
        }
        let message = loaded?;
        // A file that now holds another module no longer holds the one before.
        while let Some(other) = self.declared_by(|known| known.file == *file && *known != declared) {
            self.unload(&other, None);
        }
        Ok(message)
    }

    /// A file is gone from the folder, and its module goes with it.
    pub(super) fn undeclare_module(&mut self, file: &Arc<str>) -> String {
        self.shelf.unchecked.remove(file);
        match self.declared_by(|known| known.file == *file) {
            Some(name) => {
                let message = format!("{file} is gone: {}", self.unload(&name, None));
                self.notice(Level::Warning, message.clone());
                message
            }
            None => format!("{file} is gone; it held no module that is in force"),
        }
    }

    /// Is a module of this file or this name in force, or was it in an earlier run?
    pub(super) fn has_been_in_force(&self, file: &str, name: Option<&Arc<str>>) -> bool {
        self.declared_by(|known| &*known.file == file).is_some()
            || name.is_some_and(|name| self.roster.module(name).is_some() || self.shelf.unrestored.contains_key(name))
    }

    /// The module that a file declares, in force or not.
    fn declared_by(&self, wanted: impl Fn(&Declared) -> bool) -> Option<Arc<str>> {
        self.declared().find(|(_, declared)| wanted(declared)).map(|(name, _)| name.clone())
    }

    fn declared(&self) -> impl Iterator<Item = (&Arc<str>, &Declared)> {
        let in_force = self.roster.modules().map(|module| (&module.manifest.module, &module.row));
        let rows = in_force.chain(&self.shelf.unrestored);
        rows.filter_map(|(name, row)| row.declared.as_ref().map(|declared| (name, declared)))
    }

    /// The files of the folder that modules were taken from.
    pub fn declared_files(&self) -> Vec<Arc<str>> {
        self.declared().map(|(_, declared)| declared.file.clone()).collect()
    }

    pub(super) fn module_mode(&mut self, name: &Arc<str>, mode: Mode) -> Result<String, String> {
        let Some(module) = self.roster.set_mode(name, mode) else { return Err(self.no_such_module(name)) };
        self.turn.changes.push(Change::Module(name.clone(), Some(module.row.clone())));
        Ok(format!("module {name} is in mode {mode}"))
    }

    pub(super) fn roll_back(&mut self, name: &Arc<str>, _by: &Arc<str>) -> Result<String, String> {
        let Some(module) = self.roster.module(name) else { return Err(self.no_such_module(name)) };
        let mut row = module.row.clone();
        row.versions.pop();
        let Some(version) = row.versions.last() else {
            return Err(format!("module {name} has no version before this one"));
        };
        let read = self.read_module(version)?;
        let file = row.declared.as_ref().map(|declared| declared.file.clone());
        let message = self.put_in_force(read, row)?;
        Ok(match file {
            Some(file) => format!("rolled back: {message}; its file {file} is left alone until it changes"),
            None => format!("rolled back: {message}"),
        })
    }

    fn no_such_module(&self, name: &str) -> String {
        let names: Vec<_> = self.roster.modules().map(|module| &*module.manifest.module).collect();
        match crate::error::nearest(name, names.iter().copied()) {
            Some(near) => format!("no module `{name}` is loaded; did you mean `{near}`?"),
            None if names.is_empty() => format!("no module `{name}` is loaded; `embot modules load FILE` loads one"),
            None => format!("no module `{name}` is loaded; there are {}", names.join(", ")),
        }
    }
}

/// A digest of a module's texts. Each is preceded by its length, so that no two modules read the same.
pub(super) fn digest(manifest: &str, policies: &[(Arc<str>, Arc<str>)]) -> ContentHash {
    let texts = policies.iter().flat_map(|(file, text)| [&**file, &**text]);
    let mut bytes = Vec::new();
    for text in std::iter::once(manifest).chain(texts) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    ContentHash::of(&bytes)
}
