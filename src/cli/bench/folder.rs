//! A folder for the time of a measurement, and the modules that run in it.

use crate::cli::init::first_files;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder where the system keeps such things (`TMPDIR`).
    pub fn new(name: &str) -> io::Result<Folder> {
        let folder = std::env::temp_dir().join(format!("embot-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
        std::fs::write(path, text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder for temporary things is emptied by the system in the end.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A module's files.
#[derive(Debug, Clone)]
pub struct Module {
    /// The manifest's name.
    pub file: Arc<str>,
    /// The manifest.
    pub manifest: Arc<str>,
    /// Policies: file name and text.
    pub policies: Vec<(Arc<str>, Arc<str>)>,
}

impl Module {
    /// A module of these files.
    pub fn new(file: &str, manifest: &str, policies: &[(&str, &str)]) -> Module {
        let policies = policies.iter().map(|(name, text)| (Arc::from(*name), Arc::from(*text))).collect();
        Module { file: file.into(), manifest: manifest.into(), policies }
    }

    /// The modules that ship, in mode act.
    pub fn shipped() -> Vec<Module> {
        let name = |path: &'static str| Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
        let policies: Vec<_> = first_files().filter(|(path, _)| path.ends_with(".rhai")).collect();
        let manifests = first_files().filter(|(path, _)| path.ends_with(".yaml"));
        manifests
            .map(|(path, manifest)| {
                let named = policies.iter().filter(|(path, _)| manifest.contains(name(path)));
                let named: Vec<_> = named.map(|(path, text)| (name(path), *text)).collect();
                Module::new(name(path), &manifest.replace("mode: advise", "mode: act"), &named)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_module_has_its_policy() {
        let shipped = Module::shipped();
        assert_eq!(shipped.len(), first_files().filter(|(path, _)| path.starts_with("embots/")).count());
        assert!(shipped.iter().all(|module| !module.policies.is_empty()), "{shipped:?}");
    }

    #[test]
    fn a_folder_goes_when_it_is_dropped() {
        let folder = Folder::new("test").unwrap();
        folder.write("a/b", "text").unwrap();
        let path = folder.path("a/b");
        assert!(path.exists());
        drop(folder);
        assert!(!path.exists());
    }
}
