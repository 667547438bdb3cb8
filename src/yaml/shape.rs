//! What a YAML file may contain, and the check of a file against it.

use super::{Document, Node};
use crate::error::{Diagnostic, nearest};
use crate::model::Span;
use crate::yaml::node::{Entry, Kind};
use serde_yaml::Value;

/// What a value must look like.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Whatever YAML allows.
    Any,
    /// A text.
    Text,
    /// A name: letters, digits, `-`, `_` and `.`, at least one.
    Name,
    /// A pattern of names, such as `web-*`.
    Pattern,
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative.
    Whole,
    /// A number, not negative.
    Number,
    /// A length of time, such as `5m`.
    Span,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of such values.
    List(&'static Shape),
    /// Names of the writer's choice, each with such a value.
    Named(&'static Shape),
    /// These keys and no others.
    Keys(&'static [Key]),
}

/// A known key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Must it be there?
    pub required: bool,
    /// What its value must look like.
    pub shape: Shape,
    /// A value to show in hints; empty: one made up from the shape.
    pub example: &'static str,
}

impl Key {
    /// A key that must be there.
    pub const fn required(name: &'static str, shape: Shape) -> Key {
        Key { name, required: true, shape, example: "" }
    }

    /// A key that may be left out.
    pub const fn optional(name: &'static str, shape: Shape) -> Key {
        Key { name, required: false, shape, example: "" }
    }

    /// The same with a value to show in hints.
    pub const fn like(self, example: &'static str) -> Key {
        Key { example, ..self }
    }

    fn example(&self) -> String {
        if self.example.is_empty() { example(&self.shape) } else { self.example.to_owned() }
    }
}

/// Checks a document's values against a shape. Keys without values are removed from `value`, so that they count as absent.
pub(super) fn check(document: &Document, value: &mut Value, shape: &Shape, complaints: &mut Vec<Diagnostic>) {
    let mut check = Check { document, complaints };
    if let (Value::Null, Shape::Keys(_) | Shape::Named(_)) = (&*value, shape) {
        *value = Value::Mapping(serde_yaml::Mapping::new());
    }
    check.value("", &document.root, value, shape);
}

struct Check<'a> {
    document: &'a Document,
    complaints: &'a mut Vec<Diagnostic>,
}

impl Check<'_> {
    fn complain(&mut self, node: &Node, message: String, hint: impl Into<String>) {
        self.complaints.push(self.document.at(node.place, message).with_hint(hint));
    }

    /// `path` is empty for the whole file.
    fn value(&mut self, path: &str, node: &Node, value: &mut Value, shape: &Shape) {
        match (shape, &mut *value) {
            (Shape::Any, _) | (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => {}
            (Shape::Name, Value::String(text)) => {
                if text.is_empty() {
                    self.complain(node, format!("`{path}` is empty"), "give it a name");
                } else if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
                    let message = format!("`{path}` contains {bad:?}");
                    self.complain(node, message, "names are made of the letters a-z, digits, `-`, `_` and `.`");
                }
            }
            (Shape::Pattern, Value::String(text)) => {
                if text.is_empty() {
                    self.complain(node, format!("`{path}` is an empty pattern"), "write a name, or a pattern such as `web-*`");
                } else if let Err(error) = globset::Glob::new(text) {
                    let message = format!("`{text}` is not a pattern of names: {}", error.kind());
                    self.complain(node, message, "`*` stands for any text, `?` for one character, `[ab]` for one of these");
                }
            }
            (Shape::Span, Value::String(text)) => {
                if let Err(error) = text.parse::<Span>() {
                    self.complain(node, format!("`{path}` must be a length of time"), error.to_string());
                }
            }
            (Shape::Whole, Value::Number(number)) if number.is_u64() => {}
            (Shape::Number, Value::Number(number)) if number.as_f64().is_some_and(|x| x >= 0.0 && x.is_finite()) => {}
            (Shape::OneOf(words), Value::String(text)) => {
                if !words.contains(&text.as_str()) {
                    let list = words.join(", ");
                    let hint = nearest(text, words.iter().copied()).map_or_else(
                        || format!("there are: {list}"),
                        |near| format!("did you mean `{near}`? There are: {list}"),
                    );
                    self.complain(node, format!("`{path}` cannot be `{text}`"), hint);
                }
            }
            (Shape::List(inner), Value::Sequence(items)) => {
                if let Kind::List(nodes) = &node.kind {
                    for (index, (node, item)) in nodes.iter().zip(items).enumerate() {
                        self.value(&format!("{path}[{index}]"), node, item, inner);
                    }
                }
            }
            (Shape::Named(inner), Value::Mapping(map)) => {
                self.texts_only(path, node, map);
                for (entry, (_, value)) in entries(node).iter().zip(map.iter_mut()) {
                    self.value(&join(path, &entry.name), &entry.node, value, inner);
                }
            }
            (Shape::Keys(known), Value::Mapping(map)) => self.keys(path, node, map, known),
            (_, value) => self.wrong(path, node, value, shape),
        }
    }

    fn keys(&mut self, path: &str, node: &Node, map: &mut serde_yaml::Mapping, known: &'static [Key]) {
        self.texts_only(path, node, map);
        for (entry, (_, value)) in entries(node).iter().zip(map.iter_mut()) {
            let name = entry.name.as_str();
            match known.iter().find(|key| key.name == name) {
                Some(_) if value.is_null() => {}
                Some(key) => {
                    let before = self.complaints.len();
                    self.value(&join(path, name), &entry.node, value, &key.shape);
                    // The key's own example is better than one made up.
                    if let (Shape::List(_), [complaint]) = (&key.shape, &mut self.complaints[before..])
                        && !key.example.is_empty()
                        && !value.is_sequence()
                    {
                        complaint.hint = Some(format!("write a list, even of one: `{}`", key.example));
                    }
                }
                None => self.unknown(path, entry, known),
            }
        }
        map.retain(|_, value| !value.is_null());
        for key in known.iter().filter(|key| key.required && !map.contains_key(key.name)) {
            // Where a misspelt form of it stands, that complaint is enough.
            let misspelt = entries(node)
                .iter()
                .any(|entry| known.iter().all(|key| key.name != entry.name) && nearest(&entry.name, [key.name]).is_some());
            if misspelt {
                continue;
            }
            let message =
                if path.is_empty() { format!("`{}` is missing", key.name) } else { format!("`{path}` lacks `{}`", key.name) };
            let hint = format!("add `{}: {}`", key.name, key.example());
            match entries(node).iter().find(|entry| entry.name == key.name) {
                Some(entry) => {
                    let message = format!("`{}` has no value", join(path, key.name));
                    self.complaints.push(self.document.at(entry.place, message).with_hint(hint));
                }
                None => self.complain(node, message, hint),
            }
        }
    }

    fn unknown(&mut self, path: &str, entry: &Entry, known: &'static [Key]) {
        let names: Vec<&str> = known.iter().map(|key| key.name).collect();
        let list = names.join(", ");
        let hint = nearest(&entry.name, names)
            .map_or_else(|| format!("known here: {list}"), |near| format!("did you mean `{near}`? Known here: {list}"));
        let message = if path.is_empty() {
            format!("unknown key `{}`", entry.name)
        } else {
            format!("unknown key `{}` in `{path}`", entry.name)
        };
        self.complaints.push(self.document.at(entry.place, message).with_hint(hint));
    }

    /// YAML reads `1:` and `true:` as keys that are no texts.
    fn texts_only(&mut self, _path: &str, node: &Node, map: &serde_yaml::Mapping) {
        for (entry, (key, _)) in entries(node).iter().zip(map.iter()) {
            if !key.is_string() {
                let message = format!("the key `{}` is read as {}", entry.name, describe(key));
                let hint = format!("write it as a text: `\"{}\"`", entry.name);
                self.complaints.push(self.document.at(entry.place, message).with_hint(hint));
            }
        }
    }

    fn wrong(&mut self, path: &str, node: &Node, value: &Value, shape: &Shape) {
        let what = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
        let message = format!("{what} must be {}, not {}", wanted(shape), describe(value));
        let hint = match (shape, value) {
            (Shape::Text | Shape::Name | Shape::Pattern | Shape::OneOf(_), Value::Number(_) | Value::Bool(_)) => {
                "put quotes around it to make it a text".to_owned()
            }
            (Shape::Span, Value::Number(number)) => format!("write the unit: `{number}s`, `{number}m` or `{number}h`"),
            (Shape::List(inner), Value::String(_) | Value::Number(_)) => {
                format!("write a list, even of one: `[{}]`", example(inner))
            }
            _ => format!("for example `{}`", example(shape)),
        };
        self.complain(node, message, hint);
    }
}

fn entries(node: &Node) -> &[Entry] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => &[],
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Any => "a value".into(),
        Shape::Text => "a text".into(),
        Shape::Name => "a name".into(),
        Shape::Pattern => "a pattern of names".into(),
        Shape::Bool => "true or false".into(),
        Shape::Whole => "a whole number, 0 or more".into(),
        Shape::Number => "a number, 0 or more".into(),
        Shape::Span => "a length of time".into(),
        Shape::OneOf(words) => format!("one of {}", words.join(", ")),
        Shape::List(_) => "a list".into(),
        Shape::Named(_) | Shape::Keys(_) => "keys with values".into(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(bool) => format!("`{bool}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text `{text}`"),
        Value::String(_) => "a text".into(),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "keys with values".into(),
        Value::Tagged(_) => "a tagged value".into(),
    }
}

fn example(shape: &Shape) -> String {
    match shape {
        Shape::Any | Shape::Text => "\"a text\"".into(),
        Shape::Name => "a-name".into(),
        Shape::Pattern => "web-*".into(),
        Shape::Bool => "true".into(),
        Shape::Whole => "3".into(),
        Shape::Number => "0.5".into(),
        Shape::Span => "5m".into(),
        Shape::OneOf(words) => words.first().copied().unwrap_or("").into(),
        Shape::List(inner) => format!("[{}]", example(inner)),
        Shape::Named(inner) => format!("{{ a-name: {} }}", example(inner)),
        Shape::Keys(keys) => {
            let required: Vec<String> = keys
                .iter()
                .filter(|key| key.required)
                .chain(keys.iter().filter(|key| !key.required).take(1))
                .map(|key| format!("{}: {}", key.name, key.example()))
                .collect();
            format!("{{ {} }}", required.join(", "))
        }
    }
}
