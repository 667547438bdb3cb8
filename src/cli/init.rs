//! `embot init`: a folder with all that a plane needs, to start from.

use super::context::Context;
use super::failure::Failure;
use crate::model::Mode;
use std::path::{Path, PathBuf};

/// The modules that ship, and their policies.
pub(super) const SHIPPED: &[(&str, &str)] = &[
    ("embots/relieve-hot-host.yaml", include_str!("../../embots/relieve-hot-host.yaml")),
    ("embots/restart-crashed.yaml", include_str!("../../embots/restart-crashed.yaml")),
    ("embots/evacuate-maintenance.yaml", include_str!("../../embots/evacuate-maintenance.yaml")),
    ("embots/keep-apart.yaml", include_str!("../../embots/keep-apart.yaml")),
    ("embots/admit-offers.yaml", include_str!("../../embots/admit-offers.yaml")),
    ("embots/share-load.yaml", include_str!("../../embots/share-load.yaml")),
    ("policies/relieve-hot-host.rhai", include_str!("../../policies/relieve-hot-host.rhai")),
    ("policies/restart-crashed.rhai", include_str!("../../policies/restart-crashed.rhai")),
    ("policies/evacuate-maintenance.rhai", include_str!("../../policies/evacuate-maintenance.rhai")),
    ("policies/keep-apart.rhai", include_str!("../../policies/keep-apart.rhai")),
    ("policies/admit-offers.rhai", include_str!("../../policies/admit-offers.rhai")),
    ("policies/share-load.rhai", include_str!("../../policies/share-load.rhai")),
];

const REAL: &str = include_str!("init/plane.yaml");
const DEMO: &str = include_str!("init/demo.yaml");

/// Make a folder with a configuration, the modules that ship and their policies. Files that are there already are kept.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot init plane                          for this machine's libvirt, modules in mode advise\n  embot init demo --demo --mode act         for the embedded simulated fleet, modules act at once\n  embot run --config demo/plane.yaml --follow"
)]
pub struct Init {
    /// The folder; made where it is not there.
    directory: PathBuf,
    /// For the simulated fleet that ships, in place of this machine's libvirt.
    #[arg(long)]
    demo: bool,
    /// The mode that the modules start in.
    #[arg(long, default_value = "advise", value_parser = mode)]
    mode: Mode,
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Observe, Mode::Advise, Mode::Act]
        .into_iter()
        .find(|mode| mode.to_string() == text)
        .ok_or_else(|| "write observe, advise or act".to_owned())
}

impl Init {
    /// Writes the files, and says which.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let (mut written, mut kept) = (Vec::new(), Vec::new());
        for (name, text) in self.files() {
            let path = self.directory.join(name);
            match write_new(&path, &text) {
                Ok(true) => written.push(path.display().to_string()),
                Ok(false) => kept.push(path.display().to_string()),
                Err(error) => return Err(Failure::wrong(format!("cannot write {}: {error}", path.display()))),
            }
        }
        let report = serde_json::json!({ "written": written, "kept": kept });
        let next = format!("embot run --config {} --follow", self.directory.join("plane.yaml").display());
        context.show(&report, |_| {
            let kept = if kept.is_empty() { String::new() } else { format!(", {} kept as they were", kept.len()) };
            format!("{} files written in {}{kept}; next: {next}\n", written.len(), self.directory.display())
        })
    }

    fn files(&self) -> Vec<(&'static str, String)> {
        let plane = if self.demo { DEMO } else { REAL };
        let new_modules = format!("new_modules: {}", self.mode);
        let mut files = vec![("plane.yaml", plane.replace("new_modules: advise", &new_modules))];
        let mode = format!("mode: {}", self.mode);
        let mut changes = vec![("mode: advise", mode.as_str())];
        if self.demo {
            // Quicker than a real plane should be, so that there is something to see.
            changes.extend([("wait: 2m", "wait: 20s"), ("cooldown: 10m", "cooldown: 1m")]);
        }
        let changed = |text: &str| changes.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
        files.extend(SHIPPED.iter().map(|(name, text)| (*name, changed(text))));
        files
    }
}

/// Writes a file that is not there yet; `false`: it is there, and was left alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<bool> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn modules_go_as_far_as_was_asked() {
        for demo in [false, true] {
            for mode in [Mode::Observe, Mode::Advise, Mode::Act] {
                let folder = tempfile::tempdir().unwrap();
                let init = Init { directory: folder.path().to_owned(), demo, mode };
                for (name, text) in init.files() {
                    assert!(write_new(&folder.path().join(name), &text).unwrap(), "{name}");
                }
                let config = Config::load(&folder.path().join("plane.yaml")).unwrap();
                assert_eq!(config.new_modules, mode, "demo: {demo}");
            }
        }
    }
}
