//! `trust` and `module_key`: whose modules may come here from other planes, and with which key this plane signs its own.

use super::{Check, Config};
use crate::embot::VERBS;
use crate::embot::package::{SigningKey, TrustStore};
use crate::yaml::{Key, Shape};

/// What `trust` may contain.
pub(super) const SHAPE: Shape = Shape::List(&Shape::Keys(&[
    Key::required("name", Shape::Name).like("ops"),
    Key::required("key", Shape::Text).like("\"ed25519:...\""),
    Key::optional("permits", Shape::List(&Shape::OneOf(VERBS))).like("[migrate, notify]"),
    Key::optional("mode", Shape::OneOf(&["observe", "advise", "act"])),
]));

impl Config {
    /// The keys whose modules are taken here: those of `trust`, and the plane's own.
    pub fn trust_store(&self, own: Option<&SigningKey>) -> TrustStore {
        let store = TrustStore::new(self.trust.clone());
        own.map_or(store.clone(), |own| store.with_own(&self.plane, own.public()))
    }

    /// The key this plane signs modules with, where it has one.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, String> {
        let Some(path) = &self.module_key else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|error| {
            format!(
                "cannot read `module_key` {}: {error}; `embot module keys generate {}` makes one",
                path.display(),
                path.display()
            )
        })?;
        SigningKey::from_pkcs8(&bytes).map(Some).map_err(|error| format!("`module_key` {}: {error}", path.display()))
    }

    pub(super) fn check_trust(&self, check: &mut Check<'_>) {
        for (index, trusted) in self.trust.iter().enumerate() {
            let number = index.to_string();
            let earlier = &self.trust[..index];
            if earlier.iter().any(|other| other.name == trusted.name) {
                let error =
                    check.document.error(&["trust", &number, "name"], format!("two keys are called `{}`", trusted.name));
                check.found.push(error.with_hint("offers and refusals name the key, so its name must be its own"));
            }
            if let Some(other) = earlier.iter().find(|other| other.key == trusted.key) {
                let message = format!("`{}` and `{}` are the same key", other.name, trusted.name);
                let error = check.document.error(&["trust", &number, "key"], message);
                check.found.push(error.with_hint("which permits count would be chance; remove one of the two"));
            }
        }
        if let Some(path) = &self.module_key {
            check.must(!path.as_os_str().is_empty(), &["module_key"], "is empty", "write a path, or remove the key");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnostic;
    use crate::model::{Mode, Verb};
    use std::path::Path;

    const KEY: &str = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

    fn read(rest: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot"))
    }

    #[test]
    fn trusted_keys_are_read_with_safe_defaults() {
        let all =
            read(&format!("module_key: own.key\ntrust: [{{ name: ops, key: '{KEY}', permits: [migrate], mode: act }}]\n"))
                .unwrap();
        assert_eq!(all.module_key.as_deref(), Some(Path::new("/etc/embot/own.key")));
        assert_eq!((all.trust[0].mode, &all.trust[0].permits), (Mode::Act, &[Verb::Migrate].into()));
        let least = read(&format!("trust: [{{ name: ops, key: '{KEY}' }}]\n")).unwrap();
        assert_eq!((least.trust[0].mode, least.trust[0].permits.len()), (Mode::Advise, 0));
        let own = SigningKey::from_seed(&[1; 32]).unwrap();
        assert_eq!(least.trust_store(None).keys().len(), 1);
        assert_eq!(least.trust_store(Some(&own)).keys().len(), 1, "the plane's own key is listed already");
        let other = SigningKey::from_seed(&[2; 32]).unwrap();
        assert_eq!(&*least.trust_store(Some(&other)).keys()[1].name, "home");
    }

    #[test]
    fn a_key_file_is_read_or_complained_about() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.key");
        let config = read(&format!("module_key: {}\n", path.display())).unwrap();
        let error = config.signing_key().unwrap_err();
        assert!(error.contains("embot module keys generate"), "{error}");
        std::fs::write(&path, b"no key").unwrap();
        assert!(config.signing_key().unwrap_err().contains("no Ed25519 private key"));
        assert!(read("").unwrap().signing_key().unwrap().is_none());
    }

    #[test]
    fn complaints_about_trust_name_their_place() {
        let texts = [
            format!("trust: [{{ name: ops }}, {{ name: ops, key: '{KEY}', permits: [migarte], mod: act }}]\n"),
            "trust:\n  - name: ops\n    key: ed25519:12\n".to_owned(),
            format!("trust:\n  - {{ name: a, key: '{KEY}' }}\n  - {{ name: a, key: '{KEY}' }}\nmodule_key: ''\n"),
        ];
        let told = |text: &String| {
            let all: String = read(text).unwrap_err().iter().map(|one| format!("{one}\n")).collect();
            format!("{all}---\n")
        };
        insta::assert_snapshot!(texts.iter().map(told).collect::<String>());
    }
}
