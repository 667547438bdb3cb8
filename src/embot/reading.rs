//! Reads a module's manifest, and says where and how it is wrong.

use super::manifest::{Cover, Manifest};
use crate::error::Diagnostic;
use crate::model::{Mode, Value, Verb};
use crate::plan::Limits;
use crate::yaml::{self, Document, Key, Shape};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All verbs' names, as a shape wants them.
pub const VERBS: &[&str] = &{
    let mut names = [""; Verb::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Verb::ALL[index].1;
        index += 1;
    }
    names
};

/// What a manifest may contain.
pub const SHAPE: Shape = Shape::Keys(&[
    Key::required("module", Shape::Name).like("relieve-hot-host"),
    Key::required("version", Shape::Text).like("\"1.0.0\""),
    Key::optional("description", Shape::Text).like("What it does."),
    Key::required("policies", Shape::List(&Shape::Text)).like("[relieve-hot-host.rhai]"),
    Key::required(
        "covers",
        Shape::Keys(&[
            Key::optional("each", Shape::OneOf(&["host", "vm"])),
            Key::optional("one_for", Shape::OneOf(&["plane"])),
            Key::optional("names", Shape::List(&Shape::Pattern)),
            Key::optional("labels", Shape::Named(&Shape::Text)),
        ]),
    ),
    Key::optional("mode", Shape::OneOf(&["observe", "advise", "act"])),
    Key::optional("permits", Shape::List(&Shape::OneOf(VERBS))),
    Key::optional(
        "limits",
        Shape::Keys(&[
            Key::optional("cooldown", Shape::Span),
            Key::optional("hold", Shape::Span),
            Key::optional("rate", Shape::Keys(&[Key::required("actions", Shape::Whole), Key::required("per", Shape::Span)])),
            Key::optional("minimum_gain", Shape::Number),
            Key::optional("target_max_cpu", Shape::Number),
        ]),
    ),
    Key::optional("settings", Shape::Named(&Shape::Any)),
    Key::optional(
        "channels",
        Shape::Keys(&[Key::optional("sends", Shape::List(&Shape::Name)), Key::optional("hears", Shape::List(&Shape::Name))]),
    ),
]);

#[derive(Deserialize)]
struct Written {
    module: Arc<str>,
    version: Arc<str>,
    #[serde(default)]
    description: Arc<str>,
    policies: Vec<Arc<str>>,
    covers: Covers,
    mode: Option<Mode>,
    #[serde(default)]
    permits: Vec<Verb>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    settings: BTreeMap<String, serde_yaml::Value>,
    #[serde(default)]
    channels: Channels,
}

#[derive(Deserialize)]
struct Covers {
    each: Option<String>,
    one_for: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Deserialize, Default)]
struct Channels {
    #[serde(default)]
    sends: Vec<Arc<str>>,
    #[serde(default)]
    hears: Vec<Arc<str>>,
}

impl Manifest {
    /// Reads a manifest; the warnings beside it are things that were hardly meant.
    pub fn read(file: &str, text: &str) -> Result<(Manifest, Vec<Diagnostic>), Vec<Diagnostic>> {
        Manifest::read_with_places(file, text).map(|(manifest, _, warnings)| (manifest, warnings))
    }

    /// The same, with the places of its keys.
    pub fn read_with_places(file: &str, text: &str) -> Result<(Manifest, Document, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (written, document) = yaml::read::<Written>(file, text, &SHAPE)?;
        let mut check = Check { document: &document, errors: Vec::new(), warnings: Vec::new() };
        let cover = check.cover(&written.covers);
        check.policies(&written.policies);
        check.limits(&written.limits);
        check.texts(&written);
        check.once(&["permits"], &written.permits);
        check.once(&["channels", "sends"], &written.channels.sends);
        check.once(&["channels", "hears"], &written.channels.hears);
        let settings = check.settings(written.settings);
        let Check { errors, warnings, .. } = check;
        let Some(cover) = cover.filter(|_| errors.is_empty()) else { return Err(errors) };
        let manifest = Manifest {
            module: written.module,
            version: written.version,
            description: written.description,
            policies: written.policies,
            cover,
            names: written.covers.names,
            labels: written.covers.labels,
            mode: written.mode.unwrap_or(Mode::Advise),
            permits: written.permits.into_iter().collect(),
            limits: written.limits,
            settings,
            sends: written.channels.sends.into_iter().collect(),
            hears: written.channels.hears.into_iter().collect(),
        };
        Ok((manifest, document, warnings))
    }
}

/// What the shape cannot say.
struct Check<'a> {
    document: &'a Document,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Check<'_> {
    fn error(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(self.document.error(path, message).with_hint(hint));
    }

    fn cover(&mut self, covers: &Covers) -> Option<Cover> {
        match (covers.each.as_deref(), covers.one_for.as_deref()) {
            (Some("host"), None) => Some(Cover::Hosts),
            (Some(_), None) => Some(Cover::Vms),
            (None, Some(_)) => Some(Cover::Plane),
            (None, None) => {
                let hint = "write `each: host`, `each: vm` or `one_for: plane`";
                self.errors.push(
                    self.document.key_error(&["covers"], "`covers` does not say what the embots stand for").with_hint(hint),
                );
                None
            }
            (Some(_), Some(_)) => {
                let hint = "`each` makes one embot for each host or guest, `one_for: plane` a single one; remove the other";
                let message = "`covers` has both `each` and `one_for`";
                self.errors.push(self.document.key_error(&["covers", "one_for"], message).with_hint(hint));
                None
            }
        }
    }

    fn policies(&mut self, policies: &[Arc<str>]) {
        if policies.is_empty() {
            self.error(
                &["policies"],
                "`policies` is empty",
                "name at least one file of `policies/`, such as `[relieve-hot-host.rhai]`",
            );
        }
        for (index, policy) in policies.iter().enumerate() {
            let index_text = index.to_string();
            let path = ["policies", index_text.as_str()];
            let stem = policy.strip_suffix(".rhai");
            if stem.is_none_or(str::is_empty) {
                let hint = format!("policies are Rhai files: `{}.rhai`", policy.split('.').next().unwrap_or("name"));
                self.error(&path, format!("`{policy}` does not end in `.rhai`"), hint);
            } else if policy.starts_with('/')
                || policy.contains('\\')
                || policy.split('/').any(|part| matches!(part, "" | "." | ".."))
            {
                let hint = "name it as it stands under `policies/`, such as `web/relieve.rhai`";
                self.error(&path, format!("`{policy}` is no file of `policies/`"), hint);
            } else if policies[..index].contains(policy) {
                self.error(&path, format!("`{policy}` is named twice"), "remove one of the two");
            }
        }
    }

    fn limits(&mut self, limits: &Limits) {
        if limits.target_max_cpu.is_some_and(|share| share > 1.0) {
            let hint = "it is a share from 0 to 1: write 0.75 for 75 %";
            self.error(&["limits", "target_max_cpu"], "`limits.target_max_cpu` is more than 1", hint);
        }
        if let Some(rate) = limits.rate {
            if rate.actions == 0 {
                let hint = "write how many actions it may take, or `mode: observe` for none at all";
                self.error(&["limits", "rate", "actions"], "with 0 actions the module could never act", hint);
            }
            if rate.per.0 == 0 {
                self.error(&["limits", "rate", "per"], "`limits.rate.per` is no time at all", "write for example `10m`");
            }
        }
    }

    fn texts(&mut self, written: &Written) {
        if written.version.trim().is_empty() {
            self.error(&["version"], "`version` is empty", "write for example `\"1.0.0\"`: it stands in the module's history");
        }
        if written.description.trim().is_empty() {
            let warning = self.document.key_error(&["module"], "the module has no description");
            self.warnings.push(warning.as_warning().with_hint("add `description:` with a sentence on what it does"));
        }
    }

    fn once<T: Ord + std::fmt::Display>(&mut self, path: &[&str], items: &[T]) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            if !seen.insert(item) {
                let index = index.to_string();
                let path: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
                let warning =
                    self.document.error(&path, format!("`{item}` stands twice in `{}`", path[..path.len() - 1].join(".")));
                self.warnings.push(warning.as_warning().with_hint("remove one of the two"));
            }
        }
    }

    fn settings(&mut self, settings: BTreeMap<String, serde_yaml::Value>) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for (key, value) in settings {
            match convert(value) {
                Ok(value) => {
                    all.insert(key, value);
                }
                Err(why) => self.error(
                    &["settings", &key],
                    format!("`settings.{key}` {why}"),
                    "write a number, a text, true or false, or a list of these",
                ),
            }
        }
        all
    }
}

/// A value of YAML as policies know it.
fn convert(value: serde_yaml::Value) -> Result<Value, &'static str> {
    Ok(match value {
        serde_yaml::Value::Null => return Err("has no value"),
        serde_yaml::Value::Bool(bool) => Value::Bool(bool),
        serde_yaml::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) if number.is_f64() && float.is_finite() => Value::Float(float),
            _ => return Err("is a number that policies cannot hold"),
        },
        serde_yaml::Value::String(text) => Value::Text(text),
        serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(convert).collect::<Result<_, _>>()?),
        serde_yaml::Value::Mapping(map) => {
            let mut all = BTreeMap::new();
            for (key, value) in map {
                let serde_yaml::Value::String(key) = key else { return Err("has a key that is no text") };
                all.insert(key, convert(value)?);
            }
            Value::Map(all)
        }
        serde_yaml::Value::Tagged(_) => return Err("has a tag"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    const GOOD: &str = r#"
module: relieve-hot-host
version: "1.0.0"
description: Moves a guest off a host that has been hot for a while.
policies: [relieve-hot-host.rhai]
covers: { each: host, names: ["web-*"], labels: { tier: web } }
permits: [migrate, notify]
limits: { cooldown: 5m, hold: 30s, rate: { actions: 6, per: 10m }, minimum_gain: 2, target_max_cpu: 0.75 }
settings: { hot: 0.85, wait: 2m, many: [1, two], deep: { a: true } }
channels: { sends: [capacity], hears: [maintenance] }
"#;

    #[test]
    fn a_manifest_is_read_whole() {
        let (manifest, warnings) = Manifest::read("m.yaml", GOOD).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(manifest.cover, Cover::Hosts);
        assert_eq!(manifest.mode, Mode::Advise);
        assert_eq!(manifest.limits.rate.map(|rate| rate.per), Some(Span::minutes(10)));
        assert_eq!(manifest.limits.minimum_gain, Some(2.0));
        assert_eq!(manifest.settings["wait"], Value::Text("2m".into()));
        assert_eq!(manifest.settings["many"], Value::Array(vec![Value::Int(1), Value::Text("two".into())]));
        assert_eq!(manifest.permits, BTreeSet::from([Verb::Migrate, Verb::Notify]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Manifest::read("m.yaml", &text);
        }

        /// A sound manifest with pieces cut out, doubled and turned round.
        #[test]
        fn no_broken_manifest_panics(cuts in proptest::collection::vec((0usize..600, 0usize..30, 0u8..3), 1..6)) {
            let mut text: Vec<char> = GOOD.chars().collect();
            for (at, length, how) in cuts {
                let at = at % text.len().max(1);
                let end = (at + length).min(text.len());
                match how {
                    0 => { text.drain(at..end); }
                    1 => { let piece = text[at..end].to_vec(); text.splice(at..at, piece); }
                    _ => text[at..end].reverse(),
                }
            }
            let text: String = text.into_iter().collect();
            for complaint in Manifest::read("m.yaml", &text).err().unwrap_or_default() {
                proptest::prop_assert!(complaint.line > 0 && complaint.hint.is_some());
            }
        }
    }
}
