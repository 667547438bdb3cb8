//! Loading, changing and taking back modules while the plane runs. A module takes over between two events; its embots keep
//! their state; one that does not check leaves the last good version in force.

use super::Manager;
use crate::embot::{Manifest, Module};
use crate::error::Diagnostic;
use crate::model::{Change, Level, Mode, ModuleRow, ModuleVersion, Record};
use std::sync::Arc;

/// Versions of a module that are kept for a roll-back.
const VERSIONS_KEPT: usize = 10;

impl Manager {
    pub(super) fn load_module(
        &mut self,
        file: &Arc<str>,
        manifest: &Arc<str>,
        policies: &[(Arc<str>, Arc<str>)],
        by: &Arc<str>,
    ) -> Result<String, String> {
        let version = ModuleVersion {
            file: file.clone(),
            manifest: manifest.clone(),
            policies: policies.to_vec(),
            loaded_at: self.now,
            by: by.clone(),
        };
        let read = self.read_module(&version).inspect_err(|error| {
            let text = format!("the module of {file} is not taken over; a version in force before stays so: {error}");
            self.turn.records.push(Record::Notice { level: Level::Warning, text });
        })?;
        let name = read.0.module.clone();
        let in_force = self.roster.module(&name).map(|old| old.row.clone());
        let is_new = in_force.is_none();
        // A version that could not be restored left its mode and its history behind.
        let before = in_force.or_else(|| self.unrestored.get(&name).cloned());
        let mut row = before.unwrap_or(ModuleRow { mode: None, versions: Vec::new() });
        // What an admin deploys is the plane's own, whoever brought the same before.
        let is_new = is_new || self.disown(&name);
        let same = |old: &ModuleVersion| old.manifest == version.manifest && old.policies == version.policies;
        if !is_new && row.versions.last().is_some_and(same) {
            return Ok(format!("module {name} is in force in this version already"));
        }
        row.versions.push(version);
        if row.versions.len() > VERSIONS_KEPT {
            row.versions.remove(0);
        }
        self.put_in_force(read, row)
    }

    /// At start-up: the version in force before. What no longer checks is left out, loudly.
    pub(super) fn restore_module(&mut self, name: Arc<str>, row: ModuleRow) {
        let Some(version) = row.versions.last() else { return };
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
                self.unrestored.insert(name, row);
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
        self.unrestored.remove(&name);
        self.turn.changes.push(Change::Module(name.clone(), Some(row)));
        let message = format!("module {name} {version} is in force with {count} embots, in mode {mode}");
        self.notice(Level::Info, message.clone());
        Ok(message)
    }

    pub(super) fn unload_module(&mut self, name: &Arc<str>) -> Result<String, String> {
        if self.roster.module(name).is_none() {
            return Err(self.no_such_module(name));
        }
        let gone = self.roster.unload(name, false);
        let count = gone.len();
        self.embots_changed(Vec::new(), gone);
        self.turn.changes.push(Change::Module(name.clone(), None));
        self.disown(name);
        Ok(format!("module {name} is unloaded; its {count} embots and their state are gone"))
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
        self.put_in_force(read, row).map(|message| {
            let file =
                "its file still holds the version given up: change it, or the next start of the daemon takes that over again";
            format!("rolled back: {message}; {file}")
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
