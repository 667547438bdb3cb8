//! What stands behind dots and brackets: properties, methods and elements.

use super::call::Arguments;
use super::guess::{Guess, VIOLATION};
use super::known;
use super::walk::{Walk, Words};
use crate::error::Spot;
use crate::model::{EventKind, Mode, Reason, VmState};
use crate::policy::surface::{self, TypeTable};
use rhai::{ASTFlags, Expr, FnCallExpr, Position};
use std::sync::LazyLock;

static STATES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let all = [VmState::Running, VmState::Paused, VmState::Asleep, VmState::Off, VmState::Crashed];
    all.iter().map(|state| &*state.to_string().leak()).collect()
});
static MODES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| [Mode::Observe, Mode::Advise, Mode::Act].iter().map(|mode| &*mode.to_string().leak()).collect());
static REASONS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let all = [
        Reason::Unknown,
        Reason::Booted,
        Reason::Asked,
        Reason::Shutdown,
        Reason::Migration,
        Reason::Saved,
        Reason::IoError,
        Reason::Watchdog,
        Reason::Crashed,
        Reason::Failed,
    ];
    all.iter().map(|reason| &*reason.to_string().leak()).collect()
});
static KINDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| EventKind::ALL.iter().map(|kind| kind.name).collect());

impl<'a> Walk<'a> {
    /// A chain `a.b[c].d(e)`: its links lean to the right, each with the rest of the chain inside.
    pub(super) fn chain(&mut self, expr: &'a Expr) -> Guess {
        let mut now = match expr {
            Expr::Dot(pair, ..) | Expr::Index(pair, ..) => self.expr(&pair.lhs),
            _ => Guess::Any,
        };
        let mut link = expr;
        loop {
            link = match link {
                Expr::Dot(pair, flags, _) => match &pair.rhs {
                    rest @ (Expr::Dot(inner, ..) | Expr::Index(inner, ..)) if !flags.contains(ASTFlags::BREAK) => {
                        now = self.step(now, &inner.lhs);
                        rest
                    }
                    last => return self.step(now, last),
                },
                Expr::Index(pair, flags, _) => match &pair.rhs {
                    rest @ (Expr::Dot(inner, ..) | Expr::Index(inner, ..)) if !flags.contains(ASTFlags::BREAK) => {
                        now = self.element(now, &inner.lhs);
                        rest
                    }
                    last => return self.element(now, last),
                },
                _ => return now,
            };
        }
    }

    /// The target of an assignment: all but its last link is read.
    pub(super) fn target(&mut self, target: &'a Expr, with_operator: bool) {
        let last = last_link(target);
        if let Expr::Property(names, position) = last
            && !with_operator
        {
            self.written.insert(names.2.to_string());
            // `vm.cpu = 1`: views are read only. `this.x = 1` is what state is for.
            let view = match target {
                Expr::Dot(pair, ..) if matches!(pair.rhs, Expr::Property(..)) => self.expr(&pair.lhs),
                _ => {
                    self.chain(target);
                    return;
                }
            };
            if let Some(table) = view.table() {
                let message = format!("`{}` of a {} cannot be assigned to", names.2, table.name);
                let spot = self.spot(*position, &names.2);
                self.error(spot, message, "views are read only; propose an action instead, or keep a value in `this`");
            }
            return;
        }
        if let Expr::Index(pair, ..) = target
            && let Expr::StringConstant(text, _) = &pair.rhs
        {
            self.written.insert(text.to_string());
        }
        self.expr(target);
    }

    fn step(&mut self, object: Guess, link: &'a Expr) -> Guess {
        self.words = None;
        match link {
            Expr::Property(names, position) => {
                let spot = self.spot(*position, &names.2);
                self.property(&object, &names.2, spot)
            }
            Expr::MethodCall(call, position) => self.method(&object, call, *position),
            other => {
                self.expr(other);
                Guess::Any
            }
        }
    }

    fn element(&mut self, object: Guess, index: &'a Expr) -> Guess {
        let by = self.expr(index);
        self.words = None;
        match object {
            Guess::List(of) if by == Guess::Int => *of,
            Guess::Never => Guess::Never,
            Guess::Settings | Guess::State => Guess::Any,
            ref view if view.is_view() => {
                let spot = self.spot(index.start_position(), " ");
                let message = format!("{} has no elements", view.describe());
                self.error(spot, message, "read a property with a dot, such as `host.vms`");
                Guess::Any
            }
            _ => Guess::Any,
        }
    }

    fn property(&mut self, object: &Guess, name: &str, spot: Spot) -> Guess {
        match object {
            Guess::Never => return Guess::Never,
            Guess::Any => {
                self.settings_reads.insert(name.to_owned());
                return Guess::Any;
            }
            // What holds `()` may be read with `?.`.
            Guess::Map | Guess::Closure(..) | Guess::Unit => return Guess::Any,
            Guess::State => {
                self.state_reads.push((name.to_owned(), spot));
                return Guess::Any;
            }
            Guess::Settings => return self.setting(name, spot),
            Guess::Event(kind) => return self.event_field(*kind, name, spot),
            Guess::Violation => {
                if !VIOLATION.contains(&name) {
                    let hint = known::suggest(name, &VIOLATION, "it has");
                    self.error(spot, format!("a violation has no `{name}`"), hint);
                }
                if name == "kind" {
                    self.words = Some(Words::Of(&["apart", "together"]));
                }
                return match name {
                    "rule" | "kind" => Guess::Text,
                    "hard" => Guess::Bool,
                    "vms" => Guess::List(Box::new(Guess::Vm)),
                    _ => Guess::Any,
                };
            }
            _ => {}
        }
        if let Some(table) = object.table() {
            return self.view_property(object, table, name, spot);
        }
        if !known::is_standard_property(name) {
            let hint = match (object, known::methods_anywhere(name).next()) {
                (Guess::List(of), _) if of.table().is_some_and(|table| table.property(name).is_some()) => {
                    format!("read it from each of the list: `for x in ... {{ x.{name} }}`, or `.map(|x| x.{name})`")
                }
                _ if known::standard_names().any(|known| known == name) => format!("it is a function: write `.{name}(...)`"),
                _ => "check the name, and what stands before the dot".to_owned(),
            };
            self.error(spot, format!("{} has no property `{name}`", object.describe()), hint);
            return Guess::Any;
        }
        match name {
            "len" => Guess::Int,
            name if name.starts_with("is_") => Guess::Bool,
            _ => Guess::Any,
        }
    }

    fn view_property(&mut self, object: &Guess, table: &'static TypeTable, name: &str, spot: Spot) -> Guess {
        if let Some(property) = table.property(name) {
            self.words = match (object, name) {
                (Guess::Vm, "state") => Some(Words::Of(&STATES)),
                (Guess::Vm | Guess::Offer | Guess::OfferedModule, "mode") => Some(Words::Of(&MODES)),
                (Guess::Vm, "reason") => Some(Words::Of(&REASONS)),
                _ => None,
            };
            if *object == Guess::Plane && name == "violations" {
                return Guess::List(Box::new(Guess::Violation));
            }
            return Guess::from(property.kind);
        }
        let hint = if table.methods_named(name).next().is_some() {
            format!("it is a method: write {}", known::signatures(table.name, table.methods_named(name)))
        } else {
            let names: Vec<&str> = table.properties.iter().map(|property| property.name).collect();
            let methods: Vec<&str> = table.methods.iter().map(|method| method.name).collect();
            match crate::error::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match crate::error::nearest(name, methods) {
                    Some(near) => format!("did you mean {}?", known::signatures(table.name, table.methods_named(near))),
                    None => known::suggest(name, &names, "it has"),
                },
            }
        };
        self.error(spot, format!("{} has no property `{name}`", object.describe()), hint);
        Guess::Any
    }

    fn setting(&mut self, name: &str, spot: Spot) -> Guess {
        self.settings_reads.insert(name.to_owned());
        if !self.functions.contains_key(&("settings".to_owned(), 0)) {
            let hint = format!("add `fn settings() {{ #{{ {name}: ... }} }}` with the default");
            self.error(spot, format!("the setting `{name}` is read, but there is no `fn settings()`"), hint);
            return Guess::Any;
        }
        let Some(declared) = &self.learnt.settings else { return Guess::Any };
        if let Some(guess) = declared.get(name) {
            return guess.clone();
        }
        self.settings_undeclared.insert(name.to_owned());
        let keys: Vec<&str> = declared.keys().map(String::as_str).collect();
        let hint = known::suggest(name, &keys, "add it there with its default; it declares");
        self.error(spot, format!("`fn settings()` declares no `{name}`"), hint);
        Guess::Any
    }

    fn event_field(&mut self, kind: Option<&'static EventKind>, name: &str, spot: Spot) -> Guess {
        if let Some(property) = Guess::Event(None).table().and_then(|table| table.property(name)) {
            if name == "kind" {
                self.words = Some(Words::Of(&KINDS));
            }
            return Guess::from(property.kind);
        }
        let has = |kind: &EventKind| kind.fields.iter().any(|(field, _)| *field == name);
        let here = kind.map_or_else(|| EventKind::ALL.iter().any(has), has);
        if here {
            self.words = match (kind.map(|kind| kind.name), name) {
                (_, "channel") => Some(Words::Channel),
                (Some("timer"), "name") => Some(Words::Timer),
                (Some("started" | "stopped" | "crashed" | "paused" | "resumed"), "reason") => Some(Words::Of(&REASONS)),
                _ => None,
            };
            return surface::event_field(name).map_or(Guess::Any, Guess::from);
        }
        let others: Vec<&str> = EventKind::ALL.iter().filter(|kind| has(kind)).map(|kind| kind.name).collect();
        let mut fields = vec!["at", "kind", "element"];
        match kind {
            Some(kind) => fields.extend(kind.fields.iter().map(|(field, _)| *field)),
            None => fields.extend(EventKind::ALL.iter().flat_map(|kind| kind.fields.iter().map(|(field, _)| *field))),
        }
        let hint = match crate::error::nearest(name, fields.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if others.is_empty() => format!("it has: {}", fields.join(", ")),
            None => format!("only these events have it: {}; this one has: {}", others.join(", "), fields.join(", ")),
        };
        let what = kind.map_or_else(|| "no event has".to_owned(), |kind| format!("a `{}` event has no", kind.name));
        self.error(spot, format!("{what} field `{name}`"), hint);
        Guess::Any
    }

    fn method(&mut self, object: &Guess, call: &'a FnCallExpr, position: Position) -> Guess {
        let name = call.name.as_str();
        let spot = self.spot(position, name);
        let arguments = self.arguments(object, call, spot);
        self.words = None;
        // A function of the script, called on something that it finds as `this`.
        let signature = (name.to_owned(), call.args.len());
        if self.functions.contains_key(&signature) {
            return self.own(signature, Some(object), &arguments);
        }
        let forms: Vec<_> = match object.table() {
            Some(table) => table.methods_named(name).collect(),
            None if matches!(object, Guess::Any | Guess::Never) => {
                known::methods_anywhere(name).map(|(_, method)| method).collect()
            }
            None => Vec::new(),
        };
        if let Some(form) = self.form(&forms, &arguments) {
            return match object {
                Guess::Never => Guess::Never,
                _ => Guess::from(form.returns),
            };
        }
        let count = call.args.len();
        let general = match object.table() {
            Some(_) => known::FOR_ALL.contains(&name) || (*object == Guess::Settings && known::is_standard(name, count + 1)),
            None => known::is_standard(name, count + 1),
        };
        let global = surface::functions_named(name).find(|form| form.parameters.len() == count + 1);
        if let Some(form) = global.filter(|form| object.fits(form.parameters[0].kind)) {
            return Guess::from(form.returns);
        }
        if general {
            return self.standard(object, name, &arguments);
        }
        // A map may hold functions, and what holds `()` may be called with `?.`.
        if *object == Guess::Unit || !object.is_view() && self.written.contains(name) {
            return Guess::Any;
        }
        self.no_method(object, name, count, &forms, spot);
        Guess::Any
    }

    /// The form of a method that is meant: by the number of arguments, then by what they are.
    fn form(&mut self, forms: &[&'static surface::Function], arguments: &Arguments<'a>) -> Option<&'static surface::Function> {
        let mut possible: Vec<&'static surface::Function> =
            forms.iter().copied().filter(|form| form.parameters.len() == arguments.of.len()).collect();
        let first = *possible.first()?;
        let fits = |form: &&'static surface::Function| {
            form.parameters.iter().zip(&arguments.of).all(|(parameter, (guess, ..))| guess.fits(parameter.kind))
        };
        if possible.len() > 1 && possible.iter().any(fits) {
            possible.retain(|form| fits(form));
        }
        match possible[..] {
            // Which permit is needed only shows when it runs.
            [one, other, ..] if one.verb != other.verb => {
                self.facts.verbs_perhaps.extend(possible.iter().filter_map(|form| form.verb));
                Some(one)
            }
            _ => {
                let form = possible.first().copied().unwrap_or(first);
                self.fits(form, arguments);
                Some(form)
            }
        }
    }

    fn no_method(&mut self, object: &Guess, name: &str, count: usize, forms: &[&'static surface::Function], spot: Spot) {
        let table = object.table();
        let prefix = table.map_or("vm", |table| table.name);
        if !forms.is_empty() {
            let message = format!("`{name}` cannot be called with {}", Arguments::counted(count));
            let proposes = forms.iter().any(|form| form.verb.is_some());
            let more = if proposes { "; the reason is a text that `embot explain` shows" } else { "" };
            let hint = format!("write {}{more}", known::signatures(prefix, forms.iter().copied()));
            return self.error(spot, message, hint);
        }
        if table.is_none() && known::STANDARD.contains_key(name) {
            let takes: Vec<String> =
                known::STANDARD[name].iter().filter(|n| **n > 0).map(|n| Arguments::counted(n - 1)).collect();
            let message = format!("`{name}` cannot be called with {}", Arguments::counted(count));
            return self.error(spot, message, format!("it takes {}", takes.join(" or ")));
        }
        let elsewhere = known::methods_anywhere(name).next();
        let own: Vec<String> =
            self.functions.keys().map(|(name, _)| name.clone()).filter(|name| !name.starts_with("anon$")).collect();
        let hint = match (table, elsewhere) {
            (Some(table), _) if table.property(name).is_some() => format!("it is read without parentheses: `{prefix}.{name}`"),
            (None, Some((of, method))) => match object {
                Guess::List(_) => {
                    let call = known::signatures(of, std::iter::once(method));
                    format!("call it on each of the list: `for {of} in ... {{ ... }}` and {call}")
                }
                _ => format!("it is a method of a {of}: {}", known::signatures(of, std::iter::once(method))),
            },
            (Some(_), Some((of, method))) => {
                format!("it is a method of a {of}: {}", known::signatures(of, std::iter::once(method)))
            }
            (Some(table), None) => {
                let methods: Vec<&str> = table.methods.iter().map(|method| method.name).collect();
                let own = own.iter().map(String::as_str);
                match crate::error::nearest(name, methods.iter().copied().chain(own)) {
                    Some(near) if methods.contains(&near) => {
                        format!("did you mean {}?", known::signatures(prefix, table.methods_named(near)))
                    }
                    Some(near) => format!("did you mean `{near}`?"),
                    None if methods.is_empty() => "read its properties, without parentheses".to_owned(),
                    None => format!("it has: {}", unique(&methods)),
                }
            }
            (None, None) => {
                let methods = surface::TYPES.iter().flat_map(|table| table.methods.iter().map(|method| method.name));
                let methods = if matches!(object, Guess::Any | Guess::Never) { methods.collect() } else { Vec::new() };
                let mut names: Vec<&str> = methods.into_iter().chain(known::standard_names()).collect();
                names.extend(own.iter().map(String::as_str));
                match crate::error::nearest(name, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "check the name, and what stands before the dot".to_owned(),
                }
            }
        };
        let message = match object {
            Guess::Any | Guess::Never => format!("nothing has a method `{name}`"),
            object => format!("{} has no method `{name}`", object.describe()),
        };
        self.error(spot, message, hint);
    }
}

/// The names without repetitions: a method may have several forms.
fn unique(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.dedup();
    names.join(", ")
}

fn last_link(expr: &Expr) -> &Expr {
    let mut link = expr;
    while let Expr::Dot(pair, ..) | Expr::Index(pair, ..) = link {
        let index = matches!(link, Expr::Index(_, flags, _) if flags.contains(ASTFlags::BREAK));
        link = &pair.rhs;
        if index {
            break;
        }
    }
    link
}
