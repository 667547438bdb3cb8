//! Rhai's errors in the words of whoever wrote the policy: where, what, and what to do.

use super::limits::{Limits, Stop};
use super::surface::{self, FUNCTIONS, REFUSED, TYPES};
use crate::error::{Diagnostic, nearest};
use rhai::{EvalAltResult, LexError, ParseError, ParseErrorType, Position};

/// A complaint about a place in a script.
pub(super) fn at(file: &str, position: Position, message: impl Into<String>) -> Diagnostic {
    let line = position.line().unwrap_or(0) as u32;
    Diagnostic::error(file, line, position.position().unwrap_or(0) as u32, 1, message)
}

/// A script that Rhai could not read.
pub(super) fn unreadable(file: &str, text: &str, error: &ParseError) -> Diagnostic {
    let (message, hint) = unreadable_words(text, error.err_type());
    let found = at(file, error.position(), message);
    let length = word_length(text, &found);
    let found = Diagnostic { length, ..found };
    // Where no better advice is known, some is still better than none.
    found.with_hint(hint.unwrap_or_else(|| "compare this place with the examples in the reference".to_owned()))
}

/// How long the word at a place is, so that all of it is underlined.
fn word_length(text: &str, place: &Diagnostic) -> u32 {
    let line = text.lines().nth((place.line as usize).wrapping_sub(1)).unwrap_or("");
    let word = line.chars().skip((place.column as usize).saturating_sub(1)).take_while(|c| c.is_alphanumeric() || *c == '_');
    (word.count() as u32).max(1)
}

fn unreadable_words(text: &str, error: &ParseErrorType) -> (String, Option<String>) {
    match error {
        ParseErrorType::Reserved(word) | ParseErrorType::BadInput(LexError::ImproperSymbol(word, _)) => {
            let instead = REFUSED.iter().find(|(refused, _)| refused == word);
            (format!("policies cannot use `{word}`"), instead.map(|(_, instead)| (*instead).to_owned()))
        }
        ParseErrorType::VariableUndefined(name) if is_outer_constant(text, name) => (
            format!("`{name}` is defined outside the functions, where they cannot see it"),
            Some(format!(
                "make it a setting (`fn settings() {{ #{{ {name}: ... }} }}`) or a function (`fn {name}() {{ ... }}`)"
            )),
        ),
        ParseErrorType::VariableUndefined(name) => {
            let parameters = surface::HANDLER_PARAMETERS.iter().map(|parameter| parameter.name);
            let hint = if parameters.clone().any(|parameter| parameter == name) {
                format!("name it among the function's parameters: `fn on_...({name})`")
            } else if let Some(near) = nearest(name, parameters) {
                format!("did you mean `{near}`? It must be named among the function's parameters")
            } else {
                format!("define it first: `let {name} = ...;`")
            };
            (format!("there is no variable `{name}` here"), Some(hint))
        }
        ParseErrorType::FnDuplicatedDefinition(name, _) => {
            (format!("`{name}` is defined twice"), Some("keep one of them, or merge the two".to_owned()))
        }
        ParseErrorType::PropertyExpected => (
            lower_first(&error.to_string()),
            Some(
                "words of the language (`for`, `in`, `if`, ...) are no names; a map's key may be read as `map[\"for\"]`"
                    .to_owned(),
            ),
        ),
        ParseErrorType::AssignmentToConstant(_) => {
            (lower_first(&error.to_string()), Some("compare with `==`; what is to change is declared with `let`".to_owned()))
        }
        ParseErrorType::MissingToken(token, place) => {
            (format!("a `{token}` is missing here, {place}"), Some(format!("add `{token}` before this place")))
        }
        ParseErrorType::UnexpectedEOF => {
            ("the file ends in the midst of something".to_owned(), Some("is a `}`, `)` or `\"` missing?".to_owned()))
        }
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            ("this text does not end".to_owned(), Some("close it with `\"`".to_owned()))
        }
        ParseErrorType::ExprTooDeep => {
            ("this is nested too deeply".to_owned(), Some("put parts of it in variables or functions".to_owned()))
        }
        other => (lower_first(&other.to_string()), None),
    }
}

fn is_outer_constant(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let definition = line.strip_prefix("const ").or_else(|| line.strip_prefix("let "));
        definition
            .and_then(|rest| rest.trim_start().strip_prefix(name))
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_lowercase().chain(characters).collect())
}

/// A step that was stopped at a limit.
pub(super) fn stopped(file: &str, position: Position, why: Stop, limits: &Limits) -> Diagnostic {
    let (message, hint) = match why {
        Stop::Operations => (
            format!("stopped after {} operations", limits.operations),
            "does a loop never end? Let the next event, or a timer, go on where this one stops",
        ),
        Stop::Units => (
            format!("stopped: too much work in functions on lists and texts (more than {} elements)", limits.units),
            "search or copy large lists less often, or keep a map by key",
        ),
        Stop::Deadline => {
            (format!("stopped after {} ms", limits.patience().as_millis()), "copy large lists, maps and texts less often")
        }
        Stop::Proposals => (
            format!("more than {} proposals in one step", limits.proposals),
            "propose what matters most; the next event can propose more",
        ),
        Stop::Timers => {
            (format!("more than {} timers set in one step", limits.timers), "one timer can carry a list in its content")
        }
        Stop::Messages => (format!("more than {} messages sent in one step", limits.messages), "one message can carry a list"),
    };
    at(file, position, message).with_hint(hint)
}

/// A script that failed while it ran.
pub(super) fn failed(file: &str, error: &EvalAltResult) -> Diagnostic {
    let inner = innermost(error);
    let (message, hint) = words(inner);
    let found = at(file, place(error), message);
    match hint {
        Some(hint) => found.with_hint(hint),
        None => found,
    }
}

/// The error itself, without the calls it came through.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        _ => error,
    }
}

/// The innermost place that is known.
fn place(error: &EvalAltResult) -> Position {
    let inner = match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => place(inner),
        _ => Position::NONE,
    };
    if inner.is_none() { error.position() } else { inner }
}

fn words(error: &EvalAltResult) -> (String, Option<String>) {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(thrown, _) => (thrown_words(thrown), None),
        E::ErrorPropertyNotFound(key, _) => (
            format!("the map has no key `{key}`"),
            Some(format!("where it may be absent, write `.get(\"{key}\", default)`, or ask `\"{key}\" in map` first")),
        ),
        E::ErrorDotExpr(text, _) => unknown_property(text),
        E::ErrorFunctionNotFound(signature, _) => unknown_function(signature),
        E::ErrorVariableNotFound(name, _) => (format!("there is no variable `{name}` here"), None),
        E::ErrorMismatchDataType(wanted, got, _) | E::ErrorMismatchOutputType(wanted, got, _) => {
            (format!("{} is needed here, and this is {}", type_words(wanted), type_words(got)), None)
        }
        E::ErrorIndexingType(kind, _) => (format!("{} has no elements to be named by [ ]", type_words(kind)), None),
        E::ErrorArrayBounds(0, ..) => ("the list is empty".to_owned(), Some("ask `list.is_empty()` first".to_owned())),
        E::ErrorArrayBounds(len, index, _) => {
            (format!("the list has {len} elements, so there is none at {index}"), Some("the first is at 0".to_owned()))
        }
        E::ErrorStringBounds(len, index, _) => (format!("the text has {len} characters, so there is none at {index}"), None),
        E::ErrorFor(_) => ("`for` goes through lists, ranges (`0..9`) and texts, and this is none".to_owned(), None),
        E::ErrorUnboundThis(_) => (
            "`this` is the state only in handlers".to_owned(),
            Some("call the function as `this.name()`, or give it what it needs as a parameter".to_owned()),
        ),
        E::ErrorParsing(kind, _) => unreadable_words("", kind),
        E::ErrorArithmetic(text, _) => (lower_first(text), None),
        E::ErrorStackOverflow(_) => {
            ("functions call each other too deeply".to_owned(), Some("does a function call itself without end?".to_owned()))
        }
        E::ErrorTooManyVariables(_) => ("too many variables in one function".to_owned(), None),
        E::ErrorDataTooLarge(what, _) => {
            let what = match what.as_str() {
                "Length of string" => "this text",
                "Size of array/BLOB" => "this list",
                "Size of object map" => "this map",
                _ => "this value",
            };
            (format!("{what} grows larger than a policy may make it"), None)
        }
        E::ErrorAssignmentToConstant(name, _) => (format!("`{name}` is a constant and cannot be changed"), None),
        E::ErrorNonPureMethodCallOnConstant(name, _) => (format!("`{name}` would change a constant"), None),
        other => (lower_first(&other.to_string()), None),
    }
}

fn thrown_words(thrown: &rhai::Dynamic) -> String {
    let text = thrown.to_string();
    let cut: String = text.chars().take(500).collect();
    if cut.is_empty() { "the policy gave up without a word (`throw`)".to_owned() } else { cut }
}

/// From "Unknown property 'cpuu' - a getter is not registered for type 'vm'".
fn unknown_property(text: &str) -> (String, Option<String>) {
    let mut quoted = text.split('\'').skip(1).step_by(2);
    let (Some(property), Some(kind)) = (quoted.next(), quoted.next()) else { return (lower_first(text), None) };
    if text.contains("setter") {
        let message = format!("`{property}` of {} cannot be set", type_words(kind));
        return (message, Some("policies propose changes, as in `vm.set_vcpus(4, \"why\")`".to_owned()));
    }
    if kind == "()" {
        let message = format!("this is nothing, `()`, and has no property `{property}`");
        return (message, Some("ask first whether there is one: `if x != () { ... }`".to_owned()));
    }
    let table = TYPES.iter().find(|table| table.name == kind);
    let properties = table.into_iter().flat_map(|table| table.properties).map(|property| property.name);
    let method = table.and_then(|table| table.methods_named(property).next());
    let hint = match method {
        Some(_) => Some(format!("`{property}` is called with parentheses: `{kind}.{property}(...)`")),
        None => nearest(property, properties).map(|near| format!("did you mean `{near}`?")),
    };
    (format!("{} has no property `{property}`", type_words(kind)), hint)
}

/// From "usage (vm, i64)".
fn unknown_function(signature: &str) -> (String, Option<String>) {
    let (name, rest) = signature.split_once(" (").unwrap_or((signature, ")"));
    let kinds: Vec<&str> = rest.trim_end_matches(')').split(", ").filter(|kind| !kind.is_empty()).collect();
    let arguments: Vec<String> = kinds.iter().map(|kind| type_words(kind)).collect();
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        let hint = kinds
            .contains(&"()")
            .then(|| "what is not there yet is `()`; for a key of a map write `.get(\"key\", 0)`".to_owned());
        return (format!("`{name}` does not work with {}", arguments.join(" and ")), hint);
    }
    let table = kinds.first().and_then(|first| TYPES.iter().find(|table| table.name == *first));
    if let Some(table) = table {
        let forms = forms(table.methods, name, &format!("{}.", table.name));
        return match forms {
            Some(forms) => (format!("`{name}` is not called like this"), Some(forms)),
            None => {
                let near = nearest(name, table.methods.iter().map(|method| method.name));
                let message = format!("{} has no method `{name}`", type_words(table.name));
                (message, near.map(|near| format!("did you mean `{near}`?")))
            }
        };
    }
    let hint = forms(FUNCTIONS, name, "").or_else(|| {
        let near = nearest(name, FUNCTIONS.iter().map(|function| function.name))?;
        Some(format!("did you mean `{near}`?"))
    });
    let message = match arguments[..] {
        [] => format!("there is no function `{name}` without arguments"),
        _ => format!("there is no function `{name}` for {}", arguments.join(", ")),
    };
    (message, hint)
}

/// How the functions of a name are called.
fn forms(functions: &[surface::Function], name: &str, object: &str) -> Option<String> {
    let form = |function: &surface::Function| {
        let parameters: Vec<&str> = function.parameters.iter().map(|parameter| parameter.name).collect();
        format!("`{object}{name}({})`", parameters.join(", "))
    };
    let forms: Vec<String> = functions.iter().filter(|function| function.name == name).map(form).collect();
    (!forms.is_empty()).then(|| format!("it is called as {}", forms.join(" or ")))
}

/// A Rhai type in words.
fn type_words(kind: &str) -> String {
    match kind.trim() {
        "i64" => "a whole number".to_owned(),
        "f64" => "a number with a point".to_owned(),
        "bool" => "true or false".to_owned(),
        "string" | "&str | ImmutableString | String" | "char" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        "map" => "a map".to_owned(),
        "()" => "nothing, `()`".to_owned(),
        "Fn" => "a function".to_owned(),
        "vm" => "a guest (vm)".to_owned(),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::State;
    use crate::policy::testing::{Bench, load};

    /// Each text, with what an admin is told.
    fn told(texts: &[&str], checked: bool) -> String {
        let bench = Bench::new();
        let say = |text: &&str| {
            let said = match if checked { bench.checked(text) } else { bench.bound(text) } {
                Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
                Ok(bound) => match bench.step(&bound, &mut State::default(), &load()) {
                    Ok(_) => "no complaint".to_owned(),
                    Err(fault) => fault.error.to_string(),
                },
            };
            format!("{text}\n  -> {said}\n")
        };
        texts.iter().map(say).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn admins_are_told_what_does_not_compile() {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(told(&[
            "fn on_load(vm) { if vm.cpu > { } }",
            "fn on_load(vm { }",
            "fn on_load(vm) { let s = \"abc; }",
            "fn on_load(vm) { vm.reset(\"x\"",
            "fn on_load(vm) { 5 = 6; }",
            "fn on_load(vm) { if cpu > 5 { } }",
            "fn on_load() { if vm.cpu > 5 { } }",
            "const HOT = 0.8; fn on_load(vm) { if vm.cpu > HOT { } }",
            "let hot = 0.8; fn on_load(vm) { }",
            "on_load(5);",
            "fn on_load(vm) { } fn on_load(host) { }",
            "fn on_load(vm) { } fn on_load(vm, host) { }",
            "fn on_load(vn) { }",
            "fn label(vm) { vm.name }",
            "fn notify(what, whom) { }",
            "fn on_load(vm) { sleep(5); }",
            "fn on_load(vm) { import \"other\" as other; }",
            "fn settings() { #{ hot: 1 / 0 } }",
            "fn settings() { #{ hot: 1, later: || 5 } }",
            "fn settings() { notify(\"hello\"); #{} }",
            "fn on_load(vm) { ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))) }",
        ], true)) });
    }

    #[test]
    fn admins_are_told_what_failed() {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(told(&[
            "fn on_load(vm) { if vm.cpuu > 0.5 { } }",
            "fn on_load(vm) { if vm.usage > 0.5 { } }",
            "fn on_load(vm) { vm.usage(\"cpus\"); }",
            "fn on_load(vm) { vm.usage(\"cpu\").mean(\"10m\"); }",
            "fn on_load(vm) { vm.usage(\"cpu\").average(minutes(10)); }",
            "fn on_load(vm) { vm.migrate(); }",
            "fn on_load(vm) { vm.migrate_to(\"c\", \"why\"); }",
            "fn on_load(vm) { vm.migrate(\" \"); }",
            "fn on_load(vm) { vm.set_vcpus(0, \"why\"); }",
            "fn on_load(vm) { vm.vcpus = 4; }",
            "fn on_load(vm) { notify(\"loud\", \"x\"); }",
            "fn on_load(vm) { notfy(\"x\"); }",
            "fn on_load(vm) { this.count += 1; }",
            "fn on_load(vm) { if this.count > 1 { } }",
            "fn helper() { this.x } fn on_load(vm) { helper(); }",
            "fn on_load(vm) { let l = []; l[0]; }",
            "fn on_load(vm) { let l = [1]; l[5]; }",
            "fn on_load(vm) { for x in 5 { } }",
            "fn on_load(vm) { let x = vm + 1; }",
            "fn on_load(vm) { if vm { print(1); } }",
            "fn on_load(vm) { 1 % 0; }",
            "fn on_load(vm) { 9223372036854775807 + 1; }",
            "fn on_load(vm) { throw #{ code: 7 }; }",
            "fn on_load(vm) { throw; }",
            "fn on_load(vm) { loop { } }",
            "fn on_load(vm) { let l = []; loop { l.push(1); } }",
            "fn again() { again() } fn on_load(vm) { again(); }",
            "fn on_load(vm) { let l = []; l.pad(1000, 1); loop { l.contains(2); } }",
            "fn on_load(vm) { loop { vm.reset(\"x\"); } }",
            "fn on_load(vm) { this.guest = vm; }",
            "fn on_load(vm) { this.steps = [#{ what: |x| x }]; }",
            "fn on_load(vm) { send(\"c\", #{ guest: vm }); }",
            "fn on_load(vm) { after(seconds(-5), \"x\"); }",
            "fn on_load(vm) { format(1.5, 99); }",
            "fn on_load(vm) { [1].map(\"helper\"); }",
            "fn on_load(vm, settings) { settings.hot; }",
            "fn on_load(vm, plane) { plane.vm(\"nobody\").name; }",
        ], false)) });
    }
}
