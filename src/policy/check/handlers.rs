//! Signatures: which functions are handlers, and what they may take.

use super::guess::Guess;
use super::walk::Walk;
use crate::error::{Spot, nearest};
use crate::model::EventKind;
use crate::policy::surface::{self, HandlerParameter};
use rhai::{Position, ScriptFuncDef};

/// What a handler's parameter is.
pub(super) fn parameter(name: &str, kind: &'static EventKind) -> Guess {
    match surface::HANDLER_PARAMETERS.iter().find(|parameter| parameter.name == name) {
        Some(parameter) if parameter.name == "event" => Guess::Event(Some(kind)),
        Some(parameter) if possible(parameter, kind) => Guess::from(parameter.kind),
        _ => Guess::Any,
    }
}

/// Is there ever such a thing in an event of this kind?
fn possible(parameter: &HandlerParameter, kind: &EventKind) -> bool {
    let about = parameter.about.is_empty() || parameter.about.iter().any(|about| kind.about.contains(about));
    about && parameter.only.is_none_or(|only| only == kind.name)
}

impl Walk<'_> {
    /// Checks the heads of all functions.
    pub(super) fn signatures(&mut self) {
        let functions: Vec<_> = self.functions.iter().map(|(signature, def)| (signature.0.clone(), *def)).collect();
        for (name, def) in functions {
            if name.starts_with("anon$") {
                continue;
            }
            let head = Head::find(self.text, def);
            let spot = head.as_ref().map_or_else(|| self.spot(def.body.start_position(), " "), |head| head.name);
            if name.starts_with("on_") {
                self.handler(&name, def, spot, head.as_ref());
            } else if name == "settings" {
                if !def.params.is_empty() {
                    let hint = "write `fn settings() { #{ key: default } }`; handlers get `settings` as a parameter";
                    self.error(spot, "`fn settings` takes no parameters", hint);
                }
            } else if hides_surface(&name, def.params.len()) {
                let hint = format!("give it another name, such as `my_{name}`");
                self.error(spot, format!("`{name}` is a function of the policy language, which this one would hide"), hint);
            }
        }
        if self.facts.handlers.is_empty() && !self.functions.keys().any(|(name, _)| name.starts_with("on_")) {
            let hint = "add a handler, for example `fn on_load(vm) { ... }`";
            self.warn(Spot::START, "this policy handles no event", hint);
        }
    }

    fn handler(&mut self, name: &str, def: &ScriptFuncDef, spot: Spot, head: Option<&Head>) {
        let word = name.strip_prefix("on_").unwrap_or(name);
        let Some(kind) = EventKind::named(word) else {
            let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name).collect();
            let hint = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean `on_{near}`?"),
                None => format!("events: {}", known.join(", ")),
            };
            return self.error(spot, format!("there is no event `{word}`: `{name}` would never be called"), hint);
        };
        if self.facts.handlers.insert(kind.name, spot).is_some() {
            self.error(spot, format!("there are two handlers `{name}`"), "make one of the two, with all parameters it needs");
        }
        for (index, parameter) in def.params.iter().enumerate() {
            let spot = head.and_then(|head| head.parameters.get(index).copied()).unwrap_or(spot);
            self.handler_parameter(kind, parameter, spot);
        }
    }

    fn handler_parameter(&mut self, kind: &'static EventKind, name: &str, spot: Spot) {
        let all = surface::HANDLER_PARAMETERS;
        let names: Vec<&str> =
            all.iter().filter(|parameter| possible(parameter, kind)).map(|parameter| parameter.name).collect();
        match all.iter().find(|parameter| parameter.name == name) {
            None => {
                let hint = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`? It may take {}", names.join(", ")),
                    None => format!("parameters are given by name; it may take {}", names.join(", ")),
                };
                self.error(spot, format!("`on_{}` is given no `{name}`", kind.name), hint);
            }
            Some(parameter) if !possible(parameter, kind) => {
                let hint = format!("it may take {}", names.join(", "));
                let message = match parameter.only {
                    Some(only) => format!("only `on_{only}` is given `{name}`"),
                    None => format!("a `{}` event never concerns a {name}", kind.name),
                };
                self.error(spot, message, hint);
            }
            Some(_) if name == "settings" && !self.functions.contains_key(&("settings".to_owned(), 0)) => {
                let hint = "add `fn settings() { #{ key: default } }`, or remove the parameter";
                self.error(spot, "`settings` is taken, but there is no `fn settings()`", hint);
            }
            Some(_) => {}
        }
    }
}

/// Would a script's function be called where the surface's is meant? Rhai looks among the script's functions first.
fn hides_surface(name: &str, parameters: usize) -> bool {
    let mut methods = surface::TYPES.iter().flat_map(|table| table.methods).filter(|method| method.name == name);
    surface::functions_named(name).next().is_some()
        || surface::REFUSED.iter().any(|(refused, _)| *refused == name)
        || methods.any(|method| method.verb.is_some() || method.parameters.len() == parameters)
}

/// Where the parts of `fn name(a, b)` stand: the parser keeps only the place of the body.
struct Head {
    name: Spot,
    parameters: Vec<Spot>,
}

impl Head {
    fn find(text: &str, def: &ScriptFuncDef) -> Option<Head> {
        let body = offset(text, def.body.start_position())?;
        let before = text.get(..body)?;
        let name = def.name.as_str();
        let (start, after) = before.rmatch_indices(name).find_map(|(start, _)| {
            let word = before[..start].trim_end();
            let rest = before[start + name.len()..].trim_start();
            let head = word.ends_with("fn") && word.len() < start && rest.starts_with('(');
            head.then_some((start, before.len() - rest.len()))
        })?;
        let mut parameters = Vec::new();
        let mut from = after;
        for parameter in &def.params {
            let at = before.get(from..)?.find(parameter.as_str())? + from;
            parameters.push(spot(text, at, parameter));
            from = at + parameter.len();
        }
        Some(Head { name: spot(text, start, name), parameters })
    }
}

fn offset(text: &str, position: Position) -> Option<usize> {
    let (line, column) = (position.line()?, position.position()?);
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(start..)?;
    Some(start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(byte, _)| byte))
}

fn spot(text: &str, byte: usize, name: &str) -> Spot {
    let before = &text[..byte];
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Spot { line: count(line), column: count(column), length: count(name.chars().count().max(1)) }
}
