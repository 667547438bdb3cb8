//! The folder of modules: what it declares is in force, unless an admin has said otherwise since.
//!
//! ```text
//! a file is new or has changed -> its module is taken over, once it checks; until then the last good version stays
//! a file is gone               -> its module is unloaded
//! a file is as it was          -> nothing: a roll-back, an unloading or another version by hand stands, also after a restart
//! ```
//! What the folder said last stands in the module's row, so a start compares with that and not with what is in force. Editors
//! replace files by removing them first, so a file is gone only when two looks in a row do not find it; and a folder that is
//! not there, or cannot be read, says nothing.

use crate::config::Config;
use crate::embot::Manifest;
use crate::manager::Handle;
use crate::model::{Command, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where modules and policies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The folder of manifests.
    pub modules: PathBuf,
    /// The folder of policies.
    pub policies: PathBuf,
}

impl Folders {
    /// As the configuration says.
    pub fn of(config: &Config) -> Folders {
        Folders { modules: config.modules.clone(), policies: config.policies.clone() }
    }
}

/// A module's files as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    /// The module's name, where the manifest can be read.
    module: Option<Arc<str>>,
    manifest: Arc<str>,
    policies: Vec<(Arc<str>, Arc<str>)>,
}

/// The manifests that are there, and those of them that could be read.
type Listing = (BTreeSet<Arc<str>>, BTreeMap<Arc<str>, Files>);

/// What a look at the folder found.
#[derive(Debug, Default)]
struct Look {
    /// Files that are new or changed.
    changed: Vec<(Arc<str>, Files)>,
    /// Files that are gone.
    gone: Vec<Arc<str>>,
}

/// Watches a folder of manifests and the folder of their policies.
#[derive(Debug)]
pub struct Folder {
    folders: Folders,
    known: BTreeMap<Arc<str>, Files>,
    /// Files that modules were taken from, here or in an earlier run.
    declared: BTreeSet<Arc<str>>,
    /// Of those, the ones that the last look did not find.
    missing: BTreeSet<Arc<str>>,
    complaints: BTreeSet<String>,
}

impl Folder {
    /// A folder that nothing was read from yet.
    pub fn new(folders: Folders) -> Folder {
        Folder {
            folders,
            known: BTreeMap::new(),
            declared: BTreeSet::new(),
            missing: BTreeSet::new(),
            complaints: BTreeSet::new(),
        }
    }

    /// Tells the plane what changed, for as long as the daemon runs. Where the folders are may change meanwhile.
    pub async fn watch(mut self, handle: Handle, folders: watch::Receiver<Folders>) {
        loop {
            // A manager that is too busy to answer is asked at the next start: until then no file of an earlier run is missed.
            if let Ok(declared) = handle.ask(|manager| manager.declared_files()).await {
                self.declared.extend(declared);
                break;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        loop {
            self.folders = folders.borrow().clone();
            let (folder, look) = match tokio::task::spawn_blocking(move || self.look()).await {
                Ok(read) => read,
                Err(error) => return tracing::error!(%error, "modules are no longer watched"),
            };
            self = folder;
            for (file, files) in look.changed {
                let texts = Some((files.manifest, files.policies));
                match handle.command(Command::DeclareModule { file: file.clone(), texts }, "folder".into()).await {
                    Ok(Reply::Done { message, .. }) => tracing::info!(%file, "{message}"),
                    Ok(Reply::Refused { reason }) => {
                        tracing::error!(%file, "the module is not taken over:\n{reason}");
                    }
                    // The manager was too busy to listen: read it again at the next look.
                    Err(_) => drop(self.known.remove(&file)),
                }
            }
            for file in look.gone {
                match handle.command(Command::DeclareModule { file: file.clone(), texts: None }, "folder".into()).await {
                    Ok(Reply::Done { message, .. } | Reply::Refused { reason: message }) => tracing::info!("{message}"),
                    Err(_) => drop(self.declared.insert(file)),
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn look(mut self) -> (Folder, Look) {
        let mut complaints = BTreeSet::new();
        let look = match self.read(&mut complaints) {
            Ok(Some((names, read))) => self.compare(&names, read),
            Ok(None) => Look::default(),
            Err(error) => {
                complaints.insert(format!("cannot read modules from {}: {error}", self.folders.modules.display()));
                Look::default()
            }
        };
        complaints.difference(&self.complaints).for_each(|complaint| tracing::error!("{complaint}"));
        self.complaints = complaints;
        (self, look)
    }

    fn compare(&mut self, names: &BTreeSet<Arc<str>>, read: BTreeMap<Arc<str>, Files>) -> Look {
        let changed = read.iter().filter(|(file, files)| self.known.get(*file) != Some(files));
        let changed = changed.map(|(file, files)| (file.clone(), files.clone())).collect();
        self.declared.extend(read.keys().cloned());
        let missing: BTreeSet<_> = self.declared.difference(names).cloned().collect();
        let gone: Vec<_> = missing.intersection(&self.missing).cloned().collect();
        for file in &gone {
            self.declared.remove(file);
        }
        self.missing = missing;
        self.known = read;
        Look { changed, gone }
    }

    /// The names of the manifests that are there, and those that could be read. `None`: there is no folder.
    fn read(&self, complaints: &mut BTreeSet<String>) -> io::Result<Option<Listing>> {
        let (mut names, mut read) = (BTreeSet::new(), BTreeMap::new());
        if !self.folders.modules.exists() {
            return Ok(None);
        }
        for entry in std::fs::read_dir(&self.folders.modules)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "yaml" && extension != "yml") {
                continue;
            }
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
            // Editors leave locks and copies under such names.
            if name.starts_with('.') {
                continue;
            }
            let name: Arc<str> = name.into();
            // One file that cannot be read says nothing about the others; what was known of it stays.
            let files = match std::fs::read_to_string(&path) {
                Ok(manifest) => Some(module_files(&name, &manifest, &self.folders.policies)),
                Err(error) => {
                    tracing::debug!(file = %path.display(), %error, "a manifest cannot be read");
                    self.known.get(&name).cloned()
                }
            };
            names.insert(name.clone());
            read.extend(files.map(|files| (name, files)));
        }
        let mut modules: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        read.retain(|file, files: &mut Files| {
            let Some(module) = &files.module else { return true };
            match modules.get(module) {
                None => {
                    modules.insert(module.clone(), file.clone());
                    true
                }
                Some(first) => {
                    complaints
                        .insert(format!("{file} is left alone: it is module `{module}`, as {first} is; rename one of them"));
                    false
                }
            }
        });
        Ok(Some((names, read)))
    }
}

/// A manifest's policies, as far as they can be read; what is missing, the manager complains about.
fn module_files(name: &str, manifest: &str, folder: &Path) -> Files {
    let read = Manifest::read(name, manifest).ok().map(|(manifest, _)| manifest);
    let text = |file: Arc<str>| {
        let text = std::fs::read_to_string(folder.join(&*file)).ok()?;
        Some((file, Arc::from(text)))
    };
    let (module, named) = read.map_or((None, Vec::new()), |read| (Some(read.module), read.policies));
    Files { module, manifest: manifest.into(), policies: named.into_iter().filter_map(text).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place(tempfile::TempDir, Option<Folder>);

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            let (modules, policies) = (folder.path().join("embots"), folder.path().join("policies"));
            fs::create_dir_all(&policies).unwrap();
            let watched = Folder::new(Folders { modules, policies });
            Place(folder, Some(watched))
        }

        fn write(&self, file: &str, module: &str) {
            let path = self.0.path().join("embots").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                format!("module: {module}\nversion: '1'\npolicies: [p.rhai]\ncovers: {{ each: vm }}\npermits: []\n"),
            )
            .unwrap();
        }

        fn remove(&self, file: &str) {
            fs::remove_file(self.0.path().join("embots").join(file)).unwrap();
        }

        /// What a look finds: `+` new or changed, `-` gone.
        fn look(&mut self) -> String {
            let (folder, look) = self.1.take().unwrap().look();
            self.1 = Some(folder);
            let changed = look.changed.iter().map(|(file, _)| format!("+{file}"));
            changed.chain(look.gone.iter().map(|file| format!("-{file}"))).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn a_file_is_gone_when_two_looks_miss_it() {
        let mut place = Place::new();
        place.write("a.yaml", "a");
        place.write("b.yaml", "b");
        assert_eq!((place.look(), place.look()), ("+a.yaml +b.yaml".into(), String::new()));
        place.remove("a.yaml");
        assert_eq!(place.look(), "");
        place.write("a.yaml", "a");
        assert_eq!((place.look(), place.look()), ("+a.yaml".into(), String::new()), "an editor has replaced it");
        place.remove("a.yaml");
        place.write("c.yaml", "a");
        assert_eq!((place.look(), place.look(), place.look()), ("+c.yaml".into(), "-a.yaml".into(), String::new()));
    }

    #[test]
    fn a_file_of_an_earlier_run_is_missed_and_a_folder_that_is_not_there_is_not() {
        let mut place = Place::new();
        place.1.as_mut().unwrap().declared.insert("old.yaml".into());
        assert_eq!((place.look(), place.look(), place.look()), (String::new(), String::new(), String::new()));
        place.write("a.yaml", "a");
        assert_eq!((place.look(), place.look()), ("+a.yaml".into(), "-old.yaml".into()));
        fs::rename(place.0.path().join("embots"), place.0.path().join("away")).unwrap();
        assert_eq!((place.look(), place.look()), (String::new(), String::new()));
    }

    #[test]
    fn one_module_comes_from_one_file() {
        let mut place = Place::new();
        place.write("a.yaml", "same");
        place.write("b.yaml", "same");
        assert_eq!((place.look(), place.look(), place.look()), ("+a.yaml".into(), String::new(), String::new()));
        assert!(place.1.as_ref().unwrap().complaints.iter().any(|complaint| complaint.contains("as a.yaml is")));
        place.remove("a.yaml");
        assert_eq!((place.look(), place.look()), ("+b.yaml".into(), "-a.yaml".into()));
    }
}
