//! Reads YAML that people wrote, and says where every complaint stands.
//!
//! `serde_yaml` gives the values but few places, and it stops at the first error. So a file is read in three steps: the
//! tree of nodes with their places (`node`), a check of that tree against the [`Shape`] its reader declares, which
//! collects *all* complaints, and only then the values into the reader's own type. What the shape cannot say, the reader
//! checks afterwards and asks the [`Document`] for the place of a key.
//!
//! Guaranteed: no text makes this panic, or take more than time linear in its length. Aliases are refused, so nothing
//! expands; depth and length are bounded before anything recursive sees the text.

mod node;
mod shape;

pub use shape::{Key, Shape};

use crate::error::{Diagnostic, Spot};
use node::{Entry, Kind, Node};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use std::sync::Arc;

/// The longest file that is read.
pub const MAX_BYTES: usize = 256 * 1024;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;
/// More complaints about one file than this help nobody.
const MAX_DIAGNOSTICS: usize = 50;

/// A file that was read: knows where its keys and values stand.
#[derive(Debug, Clone)]
pub struct Document {
    file: Arc<str>,
    root: Node,
}

/// A file, or a part of one, that is to be read.
#[derive(Debug, Clone)]
pub struct Source {
    document: Document,
    value: serde_yaml::Value,
}

/// Reads a file's text into `T`. All keys that `shape` does not know, and all values that do not fit it, are reported, each
/// with its place and what to write instead. A key without a value counts as absent.
pub fn read<T: DeserializeOwned>(file: &str, text: &str, shape: &Shape) -> Result<(T, Document), Vec<Diagnostic>> {
    Source::parse(file, text)?.read(shape)
}

impl Source {
    /// A file's text; complaints are about YAML itself.
    pub fn parse(file: &str, text: &str) -> Result<Source, Vec<Diagnostic>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_BYTES {
            let message = format!("more than {} KiB of YAML", MAX_BYTES / 1024);
            let hint = "split it up, or check that it is the right file";
            return Err(vec![Diagnostic::error(file, 1, 1, 1, message).with_hint(hint)]);
        }
        let root = node::parse(file, text).map_err(|complaint| vec![complaint])?;
        let document = Document { file: file.into(), root };
        let value = serde_yaml::from_str(text).map_err(|error| vec![document.outer(&error)])?;
        Ok(Source { document, value })
    }

    /// Takes out what stands under a key, to be read by itself; its places stay those in the file.
    pub fn take(&mut self, key: &str) -> Option<Source> {
        let value = self.value.as_mapping_mut()?.shift_remove(key)?;
        let Kind::Map(entries) = &mut self.document.root.kind else { return None };
        let index = entries.iter().position(|entry| entry.name == key)?;
        let root = entries.remove(index).node;
        Some(Source { document: Document { file: self.document.file.clone(), root }, value })
    }

    /// Adds what the file leaves unsaid; a key that is there stays as it is.
    pub fn add(&mut self, key: &str, text: &str) {
        if self.value.is_null() {
            self.value = serde_yaml::Mapping::new().into();
            self.document.root.kind = Kind::Map(Vec::new());
        }
        let (Some(map), Kind::Map(entries)) = (self.value.as_mapping_mut(), &mut self.document.root.kind) else { return };
        if !map.contains_key(key) {
            let place = self.document.root.place;
            map.insert(key.into(), text.into());
            entries.push(Entry { name: key.to_owned(), place, node: Node { place, kind: Kind::Scalar(text.to_owned()) } });
        }
    }

    /// Its keys, where it has keys.
    pub fn keys(&self) -> Vec<String> {
        self.document.keys(&[]).into_iter().map(str::to_owned).collect()
    }

    /// An error about all of it.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.document.error(&[], message)
    }

    /// An error about one of its keys.
    pub fn key_error(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        self.document.key_error(&[key], message)
    }

    /// Reads it into `T`.
    pub fn read<T: DeserializeOwned>(mut self, shape: &Shape) -> Result<(T, Document), Vec<Diagnostic>> {
        let mut complaints = Vec::new();
        shape::check(&self.document, &mut self.value, shape, &mut complaints);
        complaints.truncate(MAX_DIAGNOSTICS);
        if !complaints.is_empty() {
            return Err(complaints);
        }
        match serde_path_to_error::deserialize(self.value) {
            Ok(value) => Ok((value, self.document)),
            Err(error) => Err(vec![self.document.misfit(&error)]),
        }
    }
}

impl Document {
    /// Where the value at `path` stands (`["limits", "rate"]`; items of lists by number, `"0"`). Where there is no such
    /// value, the innermost there is.
    pub fn value_place(&self, path: &[&str]) -> Spot {
        self.find(path).1
    }

    /// Where the last key of `path` stands; for an item of a list, the item.
    pub fn key_place(&self, path: &[&str]) -> Spot {
        self.find(path).0
    }

    /// An error about the value at `path`.
    pub fn error(&self, path: &[&str], message: impl Into<String>) -> Diagnostic {
        self.at(self.value_place(path), message)
    }

    /// An error about the last key of `path`.
    pub fn key_error(&self, path: &[&str], message: impl Into<String>) -> Diagnostic {
        self.at(self.key_place(path), message)
    }

    /// The number of the item of the list at `path` that is this text.
    pub fn position(&self, path: &[&str], item: &str) -> Option<String> {
        let mut node = &self.root;
        for step in path {
            node = node.child(step)?.1;
        }
        let Kind::List(items) = &node.kind else { return None };
        let found = items.iter().position(|one| matches!(&one.kind, Kind::Scalar(text) if text == item))?;
        Some(found.to_string())
    }

    /// The keys of the mapping at `path`.
    pub fn keys(&self, path: &[&str]) -> Vec<&str> {
        let mut node = &self.root;
        for step in path {
            match node.child(step) {
                Some((_, child)) => node = child,
                None => return Vec::new(),
            }
        }
        match &node.kind {
            Kind::Map(entries) => entries.iter().map(|entry| entry.name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    fn at(&self, place: Spot, message: impl Into<String>) -> Diagnostic {
        place.error(&self.file, message)
    }

    fn find(&self, path: &[&str]) -> (Spot, Spot) {
        let mut node = &self.root;
        let mut key = node.place;
        for step in path {
            let Some((at, child)) = node.child(step) else { break };
            key = at;
            node = child;
        }
        (key, node.place)
    }

    /// What `serde_yaml` refuses although the tree was sound.
    fn outer(&self, error: &serde_yaml::Error) -> Diagnostic {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = error.location().map_or((1, 1), |at| (count(at.line()), count(at.column())));
        Diagnostic::error(&self.file, line, column, 1, format!("this is not valid YAML: {error}"))
            .with_hint("check the characters and the indentation around this place")
    }

    /// What the shape allowed and the type refused.
    fn misfit(&self, error: &serde_path_to_error::Error<serde_yaml::Error>) -> Diagnostic {
        let steps: Vec<String> = error
            .path()
            .iter()
            .map(|segment| match segment {
                Segment::Seq { index } => index.to_string(),
                Segment::Map { key } => key.clone(),
                Segment::Enum { variant } => variant.clone(),
                Segment::Unknown => String::new(),
            })
            .collect();
        let path: Vec<&str> = steps.iter().map(String::as_str).collect();
        let message =
            if path.is_empty() { error.inner().to_string() } else { format!("`{}`: {}", error.path(), error.inner()) };
        self.error(&path, message).with_hint("compare it with the examples in the reference")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    const SHAPE: Shape = Shape::Keys(&[
        Key::required("name", Shape::Name),
        Key::optional("every", Shape::Span),
        Key::optional("share", Shape::Number),
        Key::optional("mode", Shape::OneOf(&["observe", "advise", "act"])),
        Key::optional("names", Shape::List(&Shape::Pattern)),
        Key::optional("rate", Shape::Keys(&[Key::required("actions", Shape::Whole), Key::required("per", Shape::Span)])),
        Key::optional("labels", Shape::Named(&Shape::Text)),
    ]);

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        every: Option<crate::model::Span>,
        share: Option<f64>,
        mode: Option<String>,
        #[serde(default)]
        names: Vec<String>,
        rate: Option<crate::plan::Rate>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    fn complaints(text: &str) -> String {
        let all = read::<Example>("x.yaml", text, &SHAPE).map(|_| ()).unwrap_err();
        all.iter().map(|one| format!("{one}\n")).collect()
    }

    #[test]
    fn a_sound_file_is_read_and_knows_its_places() {
        let text = "name: web\nevery: 5m\nshare: 1\nrate: { actions: 3, per: 1h }\nlabels:\n  tier: front\nmode:\n";
        let (example, document) = read::<Example>("x.yaml", text, &SHAPE).unwrap();
        assert_eq!(example.every, Some(crate::model::Span::minutes(5)));
        assert_eq!(example.mode, None);
        assert_eq!(document.value_place(&["rate", "per"]), Spot { line: 4, column: 26, length: 2 });
        assert_eq!(document.key_place(&["labels", "tier"]), Spot { line: 6, column: 3, length: 4 });
        assert_eq!(document.keys(&["rate"]), ["actions", "per"]);
    }

    #[test]
    fn every_complaint_is_reported_with_its_place() {
        insta::assert_snapshot!(complaints(
            "nam: web\nevery: 5\nshare: much\nmode: acts\nnames: ['[']\nrate:\n  acts: 3\n  per: soon\nlabels: [a]\n"
        ));
    }

    #[test]
    fn bombs_and_oddities_end_in_complaints() {
        let mut bomb = String::from("a: &a [x, x]\n");
        bomb.push_str("b: &b [*a, *a]\nc: &c [*b, *b]\n");
        let deep = "[".repeat(100_000);
        let texts = [
            bomb.as_str(),
            &deep,
            &"- ".repeat(100_000),
            &"? ".repeat(100_000),
            &"{a: ".repeat(50_000),
            &"x".repeat(MAX_BYTES + 1),
            "name: a\nname: b\n",
            "name: !tag a\n",
            "name: a\n---\nname: b\n",
            "name: a\n\tevery: 5m\n",
            "- name\n",
            "1: 2\n",
            "? [a, b]\n: c\n",
            "name: \u{0}\n",
            "",
            "name:\n",
            "name: 1.5\n",
        ];
        let all: String = texts.iter().map(|text| format!("{}---\n", complaints(text))).collect();
        insta::assert_snapshot!(all);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read::<Example>("x.yaml", &text, &SHAPE);
        }

        #[test]
        fn no_yaml_like_text_panics(text in "([-?:,\\[\\]{}#&*!|>'\"%@` \n\ta-c0-9.]|name: |every: |rate:\n  |\r\n|\u{feff}|é)*") {
            let _ = read::<Example>("x.yaml", &text, &SHAPE);
        }
    }
}
