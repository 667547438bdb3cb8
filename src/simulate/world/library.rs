//! The modules that tests can deploy: manifests, the policies they name, and how a test may change a manifest.

use super::plain;
use crate::embot::{Manifest, SHAPE, SHIPPED};
use crate::error::{Diagnostic, nearest};
use crate::model::{Command, Value};
use crate::policy::suite::SUFFIX;
use crate::policy::{Engine, Limits};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// The files of a folder with this ending, by name; none where there is no such folder. Hidden ones are somebody else's.
pub fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let refused = |error| format!("cannot read {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_file() && name.ends_with(ending) && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Manifests and policies by name, as texts.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Manifests: the module's name, and file and text.
    manifests: BTreeMap<Arc<str>, (Arc<str>, Arc<str>)>,
    /// Policies: the name that manifests use, and the text.
    policies: BTreeMap<Arc<str>, Arc<str>>,
    /// What is wrong with manifests that cannot be read.
    broken: Vec<Diagnostic>,
    /// Where it was looked for manifests.
    place: String,
}

impl Library {
    /// An empty one; `place` tells where it was looked for manifests.
    pub fn new(place: &str) -> Library {
        Library { place: place.to_owned(), ..Library::default() }
    }

    /// All policies of one folder, and all manifests of another; says why not, where one of the files cannot be read.
    pub fn read(policies: &Path, modules: &Path) -> Result<Library, String> {
        let text = |path: &Path| fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let mut library = Library::new(&modules.display().to_string());
        for path in files(modules, ".yaml")?.into_iter().chain(files(modules, ".yml")?) {
            library.add_manifest(&path.display().to_string(), &text(&path)?);
        }
        for path in files(policies, ".rhai")?.into_iter().filter(|path| !path.to_string_lossy().ends_with(SUFFIX)) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            library.add_policy(&name, &text(&path)?);
        }
        Ok(library)
    }

    /// The modules and policies that the program carries.
    pub fn shipped() -> Library {
        let mut library = Library::new("the program");
        for (path, text) in SHIPPED.iter().filter(|(path, _)| !path.ends_with(SUFFIX)) {
            match path.strip_prefix("policies/") {
                Some(name) => library.add_policy(name, text),
                None => library.add_manifest(path, text),
            }
        }
        library
    }

    /// The same, and what it lacks from another.
    pub fn or(mut self, other: Library) -> Library {
        for (name, manifest) in other.manifests {
            self.manifests.entry(name).or_insert(manifest);
        }
        for (name, policy) in other.policies {
            self.policies.entry(name).or_insert(policy);
        }
        self
    }

    /// The settings of a module: those of its manifest, and those that its policies declare.
    pub fn settings(&self, module: &str) -> BTreeSet<String> {
        let Some((_, text)) = self.manifests.get(module) else { return BTreeSet::new() };
        let Ok(written) = serde_yaml::from_str::<serde_json::Value>(text) else { return BTreeSet::new() };
        let own = written["settings"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let policies = written["policies"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        let engine = Engine::new(Rc::default(), Rc::default(), Limits::default());
        let declared = policies.filter_map(|name| engine.compile_unchecked(name, self.policies.get(name)?).ok());
        own.chain(declared.flat_map(|policy| policy.defaults().keys().cloned().collect::<Vec<_>>())).collect()
    }

    /// Adds a manifest. One that cannot be read, or whose module is there already, is told of where a module is missed.
    pub fn add_manifest(&mut self, file: &str, text: &str) {
        let manifest = match Manifest::read(file, text) {
            Ok((manifest, _)) => manifest,
            Err(complaints) => return self.broken.extend(complaints),
        };
        if let Some((first, _)) = self.manifests.get(&manifest.module) {
            // The daemon, too, keeps to the first by name.
            let message = format!("this is module `{}`, as is {first}: it is left alone", manifest.module);
            return self.broken.push(Diagnostic::error(file, 0, 0, 1, message).with_hint("give one of them another name"));
        }
        self.manifests.insert(manifest.module, (file.into(), text.into()));
    }

    /// What is wrong with manifests.
    pub fn complaints(&self) -> &[Diagnostic] {
        &self.broken
    }

    /// Adds a policy under the name that manifests use.
    pub fn add_policy(&mut self, name: &str, text: &str) {
        self.policies.insert(name.into(), text.into());
    }

    /// The policies, by the name that manifests use.
    pub fn policies(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.policies.iter()
    }

    /// The command that loads a module, with some keys of its manifest changed.
    pub(in crate::simulate) fn load(&self, module: &str, changes: Option<&Value>) -> Result<Command, String> {
        let Some((file, text)) = self.manifests.get(module) else {
            let near = nearest(module, self.manifests.keys().map(|name| &**name));
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let broken: String = self.broken.iter().map(|found| format!("; {found}")).collect();
            return Err(format!("there is no manifest of a module `{module}` in {}{hint}{broken}", self.place));
        };
        let Some(changes) = changes else { return self.command(file, text.clone()) };
        let mut written: serde_json::Value = serde_yaml::from_str(text).map_err(|error| format!("{file}: {error}"))?;
        merge(&mut written, plain::written(changes, &SHAPE));
        // What is wrong now stands in no file.
        self.command(&format!("{file} as the test changes it").into(), written.to_string().into())
    }

    fn command(&self, file: &Arc<str>, manifest: Arc<str>) -> Result<Command, String> {
        let written: serde_json::Value = serde_yaml::from_str(&manifest).map_err(|error| format!("{file}: {error}"))?;
        let policies = written["policies"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        let policies = policies.map(|name| match self.policies.get(name) {
            Some(text) => Ok((Arc::from(name), text.clone())),
            None => Err(format!("{file} names the policy {name}, which is not there")),
        });
        let policies = policies.collect::<Result<_, _>>()?;
        Ok(Command::LoadModule { file: file.clone(), manifest, policies })
    }
}

/// Puts changes over what is there, map by map.
fn merge(written: &mut serde_json::Value, changes: serde_json::Value) {
    match (written, changes) {
        (serde_json::Value::Object(written), serde_json::Value::Object(changes)) => {
            for (key, change) in changes {
                merge(written.entry(key).or_insert(serde_json::Value::Null), change);
            }
        }
        (written, changes) => *written = changes,
    }
}
