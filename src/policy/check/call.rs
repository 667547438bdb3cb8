//! Calls: of the script's own functions, of the surface's, of Rhai's; operators are calls as well.

use super::guess::Guess;
use super::known;
use super::walk::{Signature, Walk, Words};
use crate::error::{Spot, nearest};
use crate::model::Level;
use crate::policy::functions::LIMITS;
use crate::policy::surface::{self, Function, Type};
use crate::usage::Metric;
use rhai::{Expr, FnCallExpr, Position};

/// The arguments of a call: what they are, and where.
pub(super) struct Arguments<'a> {
    pub of: Vec<(Guess, Spot, &'a Expr)>,
    /// Where the called name stands.
    pub spot: Spot,
}

impl Arguments<'_> {
    pub(super) fn counted(count: usize) -> String {
        match count {
            0 => "no arguments".to_owned(),
            1 => "1 argument".to_owned(),
            count => format!("{count} arguments"),
        }
    }
}

/// Functions of lists that call what they are given with an element and its number.
const WITH_ELEMENT: [&str; 11] =
    ["filter", "map", "for_each", "find", "find_map", "some", "all", "index_of", "retain", "drain", "dedup"];

impl<'a> Walk<'a> {
    /// Walks a call's arguments. A closure given to a function of lists gets the element.
    pub(super) fn arguments(&mut self, object: &Guess, call: &'a FnCallExpr, spot: Spot) -> Arguments<'a> {
        let element = object.element();
        let name = call.name.as_str();
        let of = call
            .args
            .iter()
            .map(|argument| {
                let mut guess = self.expr(argument);
                if let Guess::Closure(..) = guess {
                    let given = match name {
                        "sort" | "order" | "order_by" | "sort_by" => vec![element.clone(), element.clone()],
                        "reduce" | "reduce_rev" => vec![Guess::Any, element.clone(), Guess::Int],
                        name if WITH_ELEMENT.contains(&name) => vec![element.clone(), Guess::Int],
                        _ => Vec::new(),
                    };
                    let gives = self.enter(&guess, &given, name);
                    if name == "map" {
                        guess = Guess::List(Box::new(gives));
                    }
                }
                let width = literal_width(argument);
                let start = self.spot(argument.start_position(), &width);
                (guess, start, argument)
            })
            .collect();
        Arguments { of, spot }
    }

    /// A call without an object.
    pub(super) fn call(&mut self, call: &'a FnCallExpr, position: Position) -> Guess {
        let name = call.name.as_str();
        if call.op_token.is_some() && call.args.len() == 2 {
            return self.operator(call, position);
        }
        let spot = self.spot(position, name);
        if call.op_token.is_some() || name.is_empty() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            let arguments = self.arguments(&Guess::Any, call, spot);
            return match name {
                "!" => Guess::Bool,
                "-" | "+" => arguments.of.into_iter().next().map_or(Guess::Any, |(guess, ..)| guess),
                _ => Guess::Any,
            };
        }
        let object = match call.args.first() {
            // `filter(list, |x| ...)` is `list.filter(|x| ...)`.
            Some(first) if WITH_ELEMENT.contains(&name) => self.expr(first),
            _ => Guess::Any,
        };
        let arguments = self.arguments(&object, call, spot);
        self.words = None;
        let count = call.args.len();
        let signature = (name.to_owned(), count);
        if self.functions.contains_key(&signature) {
            if self.uses_this(&signature) && !call.capture_parent_scope {
                let hint = format!("write `this.{name}(...)`: a function has the `this` of what it is called on");
                self.error(spot, format!("`{name}` uses `this`, and is called without it"), hint);
            }
            return self.own(signature, None, &arguments);
        }
        if let Some(form) = surface::functions_named(name).find(|form| form.parameters.len() == count) {
            self.fits(form, &arguments);
            return Guess::from(form.returns);
        }
        // A variable may hold a function.
        if known::is_standard(name, count) && !surface::REFUSED.iter().any(|(refused, _)| *refused == name)
            || self.lookup(name).is_some()
        {
            return self.standard_call(name, &arguments);
        }
        if let Some((_, method)) = known::methods_anywhere(name).find(|(_, method)| method.parameters.len() + 1 == count) {
            return Guess::from(method.returns);
        }
        self.no_function(name, count, spot);
        Guess::Any
    }

    fn no_function(&mut self, name: &str, count: usize, spot: Spot) {
        if let Some((_, instead)) = surface::REFUSED.iter().find(|(refused, _)| *refused == name) {
            return self.error(spot, format!("policies cannot use `{name}`"), *instead);
        }
        let counted = Arguments::counted(count);
        let forms = known::signatures("", surface::functions_named(name));
        if !forms.is_empty() {
            return self.error(spot, format!("`{name}` cannot be called with {counted}"), format!("write {forms}"));
        }
        let own: Vec<(String, usize)> = self.functions.keys().filter(|(name, _)| !name.starts_with("anon$")).cloned().collect();
        if let Some((_, takes)) = own.iter().find(|(own, _)| own == name) {
            let hint = format!("as defined in this file it takes {}", Arguments::counted(*takes));
            return self.error(spot, format!("`{name}` cannot be called with {counted}"), hint);
        }
        if let Some(takes) = known::STANDARD.get(name) {
            let takes: Vec<String> = takes.iter().map(|n| Arguments::counted(*n)).collect();
            return self.error(
                spot,
                format!("`{name}` cannot be called with {counted}"),
                format!("it takes {}", takes.join(" or ")),
            );
        }
        let methods = known::methods_anywhere(name).next();
        if let Some((of, method)) = methods {
            let hint = format!("it is a method: write {}", known::signatures(of, std::iter::once(method)));
            return self.error(spot, format!("there is no function `{name}`"), hint);
        }
        let names = surface::FUNCTIONS.iter().map(|function| function.name);
        let mut names: Vec<&str> = names.chain(known::standard_names()).collect();
        names.extend(own.iter().map(|(name, _)| name.as_str()));
        let hint = match nearest(name, names) {
            Some(near) => match known::signatures("", surface::functions_named(near)) {
                forms if forms.is_empty() => format!("did you mean `{near}`?"),
                forms => format!("did you mean {forms}?"),
            },
            None => "define it in this file with `fn`, or look the name up in the reference".to_owned(),
        };
        self.error(spot, format!("there is no function `{name}`"), hint);
    }

    /// A function of the script: learns what it is called with, and tells what it gives.
    pub(super) fn own(&mut self, signature: Signature, object: Option<&Guess>, arguments: &Arguments<'a>) -> Guess {
        for (index, (guess, ..)) in arguments.of.iter().enumerate() {
            let known = self.learnt.parameters.entry((signature.clone(), index)).or_insert(Guess::Never);
            *known = std::mem::replace(known, Guess::Never).join(guess.clone());
        }
        if let Some(object) = object {
            let known = self.learnt.objects.entry(signature.clone()).or_insert(Guess::Never);
            *known = std::mem::replace(known, Guess::Never).join(object.clone());
        }
        self.learnt.returns.get(&signature).cloned().unwrap_or(Guess::Never)
    }

    /// Do the arguments fit a function of the surface? Also keeps what the module check wants to know.
    pub(super) fn fits(&mut self, form: &'static Function, arguments: &Arguments<'a>) {
        if let Some(verb) = form.verb {
            self.facts.verbs.push((verb, arguments.spot));
        }
        for (parameter, (guess, spot, argument)) in form.parameters.iter().zip(&arguments.of) {
            if !guess.fits(parameter.kind) {
                let message = format!(
                    "`{}` of `{}` must be a {}, not {}",
                    parameter.name,
                    form.name,
                    parameter.kind.describe(),
                    guess.describe()
                );
                self.error(*spot, message, format!("write {}", known::signatures("", std::iter::once(form))));
                continue;
            }
            match (parameter.name, parameter.kind, argument) {
                ("reason", _, Expr::StringConstant(text, _)) if text.trim().is_empty() => {
                    let hint = "say why in a few words: admins read it in `embot explain`, for example \"host hot for 2m\"";
                    self.error(*spot, format!("`{}` is proposed without a reason", form.name), hint);
                }
                (_, Type::Span, Expr::IntegerConstant(ms, _)) if *ms > 0 => {
                    let hint = format!("write the unit: `seconds({ms})`, `minutes({ms})` or `hours({ms})`");
                    self.warn(*spot, format!("{ms} as a length of time is {ms} milliseconds"), hint);
                }
                ("metric", _, Expr::StringConstant(text, _)) if text.parse::<Metric>().is_err() => {
                    let names: Vec<&str> = Metric::ALL.iter().map(|(_, name, _)| *name).collect();
                    self.error(*spot, format!("`{text}` is not measured"), known::suggest(text, &names, "there are"));
                }
                ("limits", Type::Map, Expr::Map(map, _)) => {
                    for (key, _) in &map.0 {
                        if !LIMITS.contains(&key.name.as_str()) {
                            let spot = self.spot(key.pos, &key.name);
                            let hint = known::suggest(&key.name, &LIMITS, "there are");
                            self.error(spot, format!("an offer cannot be accepted with `{}`", key.name), hint);
                        }
                    }
                }
                ("level", _, Expr::StringConstant(text, _)) => {
                    let names = ["info", "warning", "alarm"];
                    debug_assert_eq!(names.len(), [Level::Info, Level::Warning, Level::Alarm].len());
                    if !names.contains(&text.as_str()) {
                        let hint = known::suggest(text, &names, "there are");
                        self.error(*spot, format!("`{text}` is no level of a notification"), hint);
                    }
                }
                _ => {}
            }
        }
        self.timers_and_channels(form, arguments);
    }

    fn timers_and_channels(&mut self, form: &Function, arguments: &Arguments<'a>) {
        match (form.name, arguments.of.as_slice()) {
            ("after", [_, (_, spot, Expr::StringConstant(name, _)), ..]) => {
                self.timers_set.push((name.to_string(), *spot));
                if let Some(timers) = &mut self.timers {
                    timers.insert(name.to_string());
                }
            }
            ("after", _) => self.timers = None,
            ("send", [(_, spot, Expr::StringConstant(channel, _)), ..]) => {
                self.facts.sends.push((channel.to_string(), *spot));
            }
            ("send", _) => self.facts.sends_computed = true,
            _ => {}
        }
    }

    /// What one of Rhai's functions gives, where that is worth knowing.
    pub(super) fn standard(&mut self, object: &Guess, name: &str, arguments: &Arguments<'a>) -> Guess {
        let element = object.element();
        match name {
            "filter" | "drain" | "order" | "order_by" | "order_desc" | "extract" | "reverse_order" => object.clone(),
            "find" | "pop" | "shift" | "remove" | "get" if element.is_view() => element,
            "map" => arguments.of.first().map_or(Guess::Any, |(guess, ..)| guess.clone()),
            "len" | "index_of" | "to_int" | "parse_int" => Guess::Int,
            "to_float" | "parse_float" => Guess::Float,
            "some" | "all" | "contains" | "starts_with" | "ends_with" => Guess::Bool,
            name if name.starts_with("is_") => Guess::Bool,
            "to_string" | "to_upper" | "to_lower" | "sub_string" | "type_of" => Guess::Text,
            "keys" => Guess::List(Box::new(Guess::Text)),
            "abs" | "max" | "min" | "round" | "floor" | "ceiling" if object.is_number() => Guess::Number,
            _ => Guess::Any,
        }
    }

    fn standard_call(&mut self, name: &str, arguments: &Arguments<'a>) -> Guess {
        let object = arguments.of.first().map_or(Guess::Any, |(guess, ..)| guess.clone());
        match name {
            "map" | "filter" | "get" => Guess::Any,
            name => self.standard(&object, name, arguments),
        }
    }

    fn operator(&mut self, call: &'a FnCallExpr, position: Position) -> Guess {
        let name = call.name.as_str();
        let (left_expr, right_expr) = (&call.args[0], &call.args[1]);
        let left = self.expr(left_expr);
        let left_words = self.words.take();
        let right = self.expr(right_expr);
        let right_words = self.words.take();
        let spot = self.spot(position, name);
        match name {
            "==" | "!=" => {
                self.equality(&left, &right, spot);
                for (words, other) in [(left_words, right_expr), (right_words, left_expr)] {
                    if let (Some(words), Expr::StringConstant(text, position)) = (words, other) {
                        let spot = self.spot(*position, &literal_width(other));
                        self.word(words, text, spot);
                    }
                }
                Guess::Bool
            }
            "<" | ">" | "<=" | ">=" => {
                self.order(&left, &right, name, spot);
                Guess::Bool
            }
            "+" | "-" | "*" | "/" | "%" | "**" => match (left, right) {
                (Guess::Never, _) | (_, Guess::Never) => Guess::Never,
                (Guess::Int, Guess::Int) => Guess::Int,
                (Guess::Text, _) | (_, Guess::Text) if name == "+" => Guess::Text,
                (Guess::Float, right) if right.is_number() => Guess::Float,
                (left, Guess::Float) if left.is_number() => Guess::Float,
                (left, right) if left.is_number() && right.is_number() => Guess::Number,
                (left @ Guess::List(_), _) => left,
                _ => Guess::Any,
            },
            "contains" => Guess::Bool,
            _ => Guess::Any,
        }
    }

    fn equality(&mut self, left: &Guess, right: &Guess, spot: Spot) {
        for (one, other) in [(left, right), (right, left)] {
            if *one == Guess::Unit && other.is_plain() {
                let hint = match other {
                    Guess::Float | Guess::Number => "an unknown number is NaN: ask `x.is_nan()`",
                    _ => "remove the comparison, or compare with a value it can have",
                };
                return self.warn(spot, format!("{} is never `()`", other.describe()), hint);
            }
            if matches!(one, Guess::Vm | Guess::Host | Guess::Plane) && other.is_plain() {
                let hint = "compare a property of it, such as `.name`";
                return self.warn(spot, format!("{} is never equal to {}", one.describe(), other.describe()), hint);
            }
        }
        let differ = left.is_plain() && right.is_plain() && left != right && !(left.is_number() && right.is_number());
        if differ {
            let message = format!("{} is never equal to {}", left.describe(), right.describe());
            self.warn(spot, message, "compare values of the same kind; `to_string()`, `to_int()` and `to_float()` convert");
        }
    }

    fn order(&mut self, left: &Guess, right: &Guess, operator: &str, spot: Spot) {
        for (one, other) in [(left, right), (right, left)] {
            if *one == Guess::Unit {
                let message = format!("`()` has no size: `{operator}` with it is always false");
                return self.error(spot, message, "compare with a number; `x == ()` asks whether there is a value");
            }
            if one.is_view() && !matches!(other, Guess::Any | Guess::Never) {
                let message = format!("{} has no size: `{operator}` with it fails or is always false", one.describe());
                return self.error(spot, message, "compare a property of it, such as `.cpu`");
            }
        }
        if left.is_plain() && right.is_plain() && (left.is_number() != right.is_number()) {
            let message = format!("`{operator}` between {} and {} is always false", left.describe(), right.describe());
            self.warn(spot, message, "compare values of the same kind; quotes make a number a text");
        }
    }

    /// A property with a few possible words is compared with a text.
    fn word(&mut self, words: Words, text: &str, spot: Spot) {
        match words {
            Words::Of(known) if known.contains(&text) => {}
            Words::Of(known) => {
                let hint = known::suggest(text, known, "it can be");
                self.warn(spot, format!("it is never \"{text}\""), hint);
            }
            Words::Channel => self.facts.hears.push((text.to_owned(), spot)),
            Words::Timer => self.timers_compared.push((text.to_owned(), spot)),
        }
    }
}

/// As many characters as a literal takes, so that all of it is marked.
fn literal_width(expr: &Expr) -> String {
    match expr {
        Expr::StringConstant(text, _) => format!("\"{text}\""),
        Expr::IntegerConstant(number, _) => number.to_string(),
        Expr::Variable(name, ..) => name.1.to_string(),
        _ => " ".to_owned(),
    }
}
