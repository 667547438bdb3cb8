//! The folder of modules: loaded at start-up, watched while the plane runs.
//!
//! The folder is what the admin edits; the plane takes over what checks and keeps the last good version of what does not. A
//! manifest that disappears leaves its module in force: `embot modules unload` takes it out.

use crate::embot::Manifest;
use crate::manager::Handle;
use crate::model::{Command, Reply};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// A module's files as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    manifest: Arc<str>,
    policies: Vec<(Arc<str>, Arc<str>)>,
}

/// Watches a folder of manifests and the folder of their policies.
#[derive(Debug)]
pub struct Folder {
    modules: PathBuf,
    policies: PathBuf,
    known: BTreeMap<Arc<str>, Files>,
    complaint: Option<String>,
}

impl Folder {
    /// A folder that nothing was read from yet.
    pub fn new(modules: &Path, policies: &Path) -> Folder {
        Folder { modules: modules.to_owned(), policies: policies.to_owned(), known: BTreeMap::new(), complaint: None }
    }

    /// Loads what changed, for as long as the daemon runs.
    pub async fn watch(mut self, handle: Handle) {
        loop {
            let (folder, changed) = match tokio::task::spawn_blocking(move || self.changed()).await {
                Ok(read) => read,
                Err(error) => return tracing::error!(%error, "modules are no longer watched"),
            };
            self = folder;
            for (file, files) in changed {
                let command = Command::LoadModule { file: file.clone(), manifest: files.manifest, policies: files.policies };
                match handle.command(command, "folder".into()).await {
                    Ok(Reply::Done { message, .. }) => tracing::info!(%file, "{message}"),
                    Ok(Reply::Refused { reason }) => {
                        tracing::error!(%file, "the module is not taken over; a version in force before stays so:\n{reason}");
                    }
                    // The manager was too busy to listen: read it again at the next look.
                    Err(_) => drop(self.known.remove(&file)),
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn changed(mut self) -> (Folder, Vec<(Arc<str>, Files)>) {
        let read = match self.read() {
            Ok(read) => read,
            Err(error) => {
                let complaint = format!("cannot read modules from {}: {error}", self.modules.display());
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!("{complaint}");
                    self.complaint = Some(complaint);
                }
                return (self, Vec::new());
            }
        };
        self.complaint = None;
        let changed: Vec<_> = read.iter().filter(|(file, files)| self.known.get(*file) != Some(files)).collect();
        let changed: Vec<_> = changed.into_iter().map(|(file, files)| (file.clone(), files.clone())).collect();
        self.known = read;
        (self, changed)
    }

    fn read(&self) -> io::Result<BTreeMap<Arc<str>, Files>> {
        let mut read = BTreeMap::new();
        if !self.modules.exists() {
            return Ok(read);
        }
        for entry in std::fs::read_dir(&self.modules)?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "yaml" && extension != "yml") {
                continue;
            }
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
            // Editors leave locks and copies under such names.
            if name.starts_with('.') {
                continue;
            }
            // One file that cannot be read says nothing about the others; what was known of it stays.
            let files = match std::fs::read_to_string(&path) {
                Ok(manifest) => Some(module_files(&name, &manifest, &self.policies)),
                Err(error) => {
                    tracing::debug!(file = %path.display(), %error, "a manifest cannot be read");
                    self.known.get(name.as_str()).cloned()
                }
            };
            read.extend(files.map(|files| (Arc::from(name.as_str()), files)));
        }
        Ok(read)
    }
}

/// A manifest's policies, as far as they can be read; what is missing, the manager complains about.
fn module_files(name: &str, manifest: &str, folder: &Path) -> Files {
    let named = Manifest::read(name, manifest).map(|(manifest, _)| manifest.policies).unwrap_or_default();
    let text = |file: Arc<str>| {
        let text = std::fs::read_to_string(folder.join(&*file)).ok()?;
        Some((file, Arc::from(text)))
    };
    Files { manifest: manifest.into(), policies: named.into_iter().filter_map(text).collect() }
}
