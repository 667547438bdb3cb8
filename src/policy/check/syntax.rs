//! What the parser refuses, in words that say what to do.

use crate::error::{Diagnostic, Spot, nearest};
use crate::policy::surface;
use rhai::{LexError, ParseError, ParseErrorType};

/// A parser's error as a complaint.
pub fn syntax(error: &ParseError, file: &str, text: &str) -> Diagnostic {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let position = error.position();
    let spot = match (position.line(), position.position()) {
        (Some(line), column) => Spot { line: count(line), column: count(column.unwrap_or(1)), length: 1 },
        // The end of the text.
        (None, _) => {
            let line = text.lines().count().max(1);
            let column = text.lines().last().map_or(1, |line| line.chars().count().max(1));
            Spot { line: count(line), column: count(column), length: 1 }
        }
    };
    let word = |length: &str| Spot { length: count(length.chars().count().max(1)), ..spot };
    let (spot, message, hint) = match error.err_type() {
        ParseErrorType::VariableUndefined(name) => {
            let hint = if surface::HANDLER_PARAMETERS.iter().any(|parameter| parameter.name == name) {
                format!("add `{name}` to the parameters of the function")
            } else if let Some(near) = nearest(name, surface::HANDLER_PARAMETERS.iter().map(|parameter| parameter.name)) {
                format!("did you mean `{near}`? It must be among the parameters of the function")
            } else {
                "declare it with `let`; functions see their parameters only, nothing that stands outside".to_owned()
            };
            (word(name), format!("there is no variable `{name}` here"), hint)
        }
        ParseErrorType::Reserved(name) => {
            let hint = refused(name).unwrap_or("use another name").to_owned();
            (word(name), format!("policies cannot use `{name}`"), hint)
        }
        // A word that the engine switched off comes as a bad symbol.
        ParseErrorType::BadInput(LexError::ImproperSymbol(name, _)) if refused(name).is_some() => {
            (word(name), format!("policies cannot use `{name}`"), refused(name).unwrap_or_default().to_owned())
        }
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            (spot, "a text is not closed".to_owned(), "add the closing quote".to_owned())
        }
        ParseErrorType::MissingToken(token, place) => {
            (spot, format!("`{token}` is missing {place}"), format!("add `{token}` before this place"))
        }
        ParseErrorType::UnexpectedEOF => {
            (spot, "the script ends too early".to_owned(), "look for a `{`, `(`, `[` or quote that is not closed".to_owned())
        }
        ParseErrorType::FnDuplicatedDefinition(name, _) => {
            (spot, format!("the function `{name}` is defined twice"), "make one of the two, or rename one".to_owned())
        }
        ParseErrorType::DuplicatedProperty(name) => {
            (spot, format!("`{name}` stands twice in this map"), "remove one of the two".to_owned())
        }
        ParseErrorType::AssignmentToConstant(name) => {
            (spot, format!("`{name}` is a constant"), "declare it with `let` if it is to change".to_owned())
        }
        ParseErrorType::ExprTooDeep => (
            spot,
            "this is nested too deep".to_owned(),
            "split it up: give parts a name with `let`, or make them functions".to_owned(),
        ),
        ParseErrorType::LiteralTooLarge(what, limit) => {
            (spot, format!("{what} is longer than {limit}"), "policies handle small values only".to_owned())
        }
        ParseErrorType::WrongDocComment => (
            spot,
            "a doc comment (`///`) stands before no function".to_owned(),
            "write `//`, or move it above a `fn`".to_owned(),
        ),
        ParseErrorType::AssignmentToInvalidLHS(_) => (
            spot,
            "this cannot be assigned to".to_owned(),
            "compare with `==`; assign to a variable or to a key of `this`".to_owned(),
        ),
        other => {
            let message = other.to_string();
            let mut letters = message.chars();
            let message: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
            (spot, message, "check the parentheses, commas and semicolons around this place".to_owned())
        }
    };
    spot.error(file, message).with_hint(hint)
}

/// What to write instead of a word that policies cannot use.
fn refused(name: &str) -> Option<&'static str> {
    surface::REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, instead)| *instead)
}
