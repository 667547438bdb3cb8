//! The modules that tests can deploy: manifests, the policies they name, and how a test may change a manifest.

use super::plain;
use crate::embot::{Manifest, SHAPE};
use crate::error::nearest;
use crate::model::{Command, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Manifests and policies by name, as texts.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Manifests: the module's name, and file and text.
    manifests: BTreeMap<Arc<str>, (Arc<str>, Arc<str>)>,
    /// Policies: the name that manifests use, and the text.
    policies: BTreeMap<Arc<str>, Arc<str>>,
}

impl Library {
    /// Adds a manifest; says why not, where it cannot be read.
    pub fn add_manifest(&mut self, file: &str, text: &str) -> Result<(), crate::error::Diagnostic> {
        let (manifest, _) = Manifest::read(file, text).map_err(|complaints| {
            let first = complaints.into_iter().next();
            first.unwrap_or_else(|| crate::policy::suite::whole(file, "this is no manifest"))
        })?;
        self.manifests.insert(manifest.module, (file.into(), text.into()));
        Ok(())
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
    pub(super) fn load(&self, module: &str, changes: Option<&Value>) -> Result<Command, String> {
        let Some((file, text)) = self.manifests.get(module) else {
            let near = nearest(module, self.manifests.keys().map(|name| &**name));
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no manifest of a module `{module}`{hint}"));
        };
        let mut written: serde_json::Value = serde_yaml::from_str(text).map_err(|error| format!("{file}: {error}"))?;
        if let Some(changes) = changes {
            merge(&mut written, plain::written(changes, &SHAPE));
        }
        let policies = written["policies"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        let policies = policies.map(|name| match self.policies.get(name) {
            Some(text) => Ok((Arc::from(name), text.clone())),
            None => Err(format!("{file} names the policy {name}, which is not there")),
        });
        let policies = policies.collect::<Result<_, _>>()?;
        Ok(Command::LoadModule { file: file.clone(), manifest: written.to_string().into(), policies })
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
