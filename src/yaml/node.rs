//! The tree of a YAML file with the place of each key and value.

use super::MAX_DEPTH;
use crate::error::{Diagnostic, Spot};
use saphyr_parser::{Event, Marker, Parser, ScanError, Span};
use std::collections::BTreeSet;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Spot,
    pub kind: Kind,
}

/// What a value is. The scalars' meaning is left to `serde_yaml`.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub place: Spot,
    pub node: Node,
}

impl Node {
    /// A child by its key or number, with the place of the key (of the item itself in a list).
    pub(super) fn child(&self, step: &str) -> Option<(Spot, &Node)> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::List(items) => items.get(step.parse::<usize>().ok()?).map(|item| (item.place, item)),
            Kind::Map(entries) => entries.iter().find(|entry| entry.name == step).map(|entry| (entry.place, &entry.node)),
        }
    }
}

/// A list or mapping that is not complete yet.
enum Open {
    List(Spot, Vec<Node>),
    Map { place: Spot, entries: Vec<Entry>, names: BTreeSet<String>, key: Option<(String, Spot)> },
}

/// Reads a text's one document. An empty text is an empty value.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, Diagnostic> {
    let mut builder = Builder { file, text, open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(error) => return Err(builder.syntax(&error)),
        }
    }
    Ok(builder.root.unwrap_or(Node { place: Spot::START, kind: Kind::Scalar(String::new()) }))
}

struct Builder<'a> {
    file: &'a str,
    text: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let place = place(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_none() => Ok(()),
            Event::DocumentStart(_) => Err(self.complain(
                place,
                "a second document in one file",
                "remove the `---` line, or make it a file of its own",
            )),
            Event::Alias(_) => {
                Err(self.complain(place, "an alias (`*name`)", "write the value out: aliases are not read here"))
            }
            Event::Scalar(text, _, anchor, tag) => {
                self.plain(place, anchor, tag.is_some())?;
                self.scalar(text.into_owned(), place)
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(place, anchor, tag.is_some())?;
                self.open(place, Open::List(one_line(place), Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(place, anchor, tag.is_some())?;
                let (entries, names) = (Vec::new(), BTreeSet::new());
                self.open(place, Open::Map { place: one_line(place), entries, names, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(place, items)) => self.value(Node { place, kind: Kind::List(items) }),
                Some(Open::Map { place, entries, .. }) => self.value(Node { place, kind: Kind::Map(entries) }),
                None => Ok(()),
            },
        }
    }

    /// Anchors and tags have no meaning in files of ours.
    fn plain(&self, place: Spot, anchor: usize, tag: bool) -> Result<(), Diagnostic> {
        if anchor != 0 {
            return Err(self.complain(place, "an anchor (`&name`)", "remove it and write the value out where it is used"));
        }
        if tag {
            return Err(self.complain(place, "a tag (`!name`)", "remove it; quote the text if it should begin with `!`"));
        }
        Ok(())
    }

    fn open(&mut self, place: Spot, what: Open) -> Result<(), Diagnostic> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(self.complain(
                place,
                "a key must be a plain text",
                "write `key: value`; quote texts that begin with `[` or `{`",
            ));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep");
            return Err(self.complain(place, &message, "no file of ours needs this; look for a stray `[`, `{` or `- `"));
        }
        self.open.push(what);
        Ok(())
    }

    fn scalar(&mut self, text: String, place: Spot) -> Result<(), Diagnostic> {
        if let Some(Open::Map { names, key: key @ None, .. }) = self.open.last_mut() {
            if !names.insert(text.clone()) {
                let message = format!("`{text}` is given twice");
                return Err(self.complain(place, &message, "remove one of the two"));
            }
            *key = Some((text, place));
            return Ok(());
        }
        self.value(Node { place, kind: Kind::Scalar(text) })
    }

    fn value(&mut self, node: Node) -> Result<(), Diagnostic> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                if let Some((name, place)) = key.take() {
                    // A key without a value has an empty place somewhere behind it; the key itself is the better place.
                    let node = if node.place.length == 0 { Node { place, ..node } } else { node };
                    entries.push(Entry { name, place, node });
                }
            }
        }
        Ok(())
    }

    fn complain(&self, place: Spot, message: &str, hint: &str) -> Diagnostic {
        place.error(self.file, message).with_hint(hint)
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let (line, column) = position(*error.marker());
        let source = self.text.lines().nth(line as usize - 1).unwrap_or("");
        let indent: String = source.chars().take_while(|c| c.is_whitespace()).collect();
        let hint = if indent.contains('\t') || error.info().contains("a tab") {
            "indent with spaces; YAML allows no tabs there"
        } else if error.info().contains("recursion") {
            "no file of ours needs such nesting; look for a stray `[`, `{` or `- `"
        } else if error.info().contains("mapping values") {
            "put quotes around a text that contains `: `"
        } else if error.info().contains("quoted") {
            "look for a quote that is not closed"
        } else if error.info().contains("flow") || error.info().contains(",") {
            "look for a `[` or `{` that is not closed, or a missing comma"
        } else {
            "check the indentation and the quotes around this place"
        };
        let message = format!("this is not valid YAML: {}", error.info());
        Diagnostic::error(self.file, line, column, 1, message).with_hint(hint)
    }
}

fn position(mark: Marker) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(mark.line().max(1)), count(mark.col() + 1))
}

/// A scalar that goes over several lines is marked by its first character only.
fn place(span: Span) -> Spot {
    let (line, column) = position(span.start);
    let length = if span.start.line() == span.end.line() {
        u32::try_from(span.end.col().saturating_sub(span.start.col())).unwrap_or(1)
    } else {
        1
    };
    Spot { line, column, length }
}

/// Lists and mappings are marked at their first character.
fn one_line(place: Spot) -> Spot {
    Spot { length: 1, ..place }
}
