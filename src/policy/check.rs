//! Checks a policy before it runs: reads the parsed script and complains about what could not work, or was hardly meant.
//!
//! It guesses types lightly (`guess`): parameters of handlers are known by their names, loops and closures over lists of
//! guests or hosts get their element, functions of the script get what their callers pass. What is not known is not
//! complained about: a sound script must pass without a word, however odd. So the walk is repeated until nothing new is
//! learnt, in silence, and only the last walk speaks. Every walk is linear in the script, their number is bounded, and so
//! is the depth it looks into.

mod call;
mod chain;
mod ending;
mod facts;
mod guess;
mod handlers;
mod known;
mod settings;
mod walk;

pub use facts::{Facts, Setting};

use crate::error::{Diagnostic, Spot};
use walk::Walk;

/// More complaints about one file than this help nobody.
const MAX_DIAGNOSTICS: usize = 50;

/// A policy with more functions, closures counted, is not one policy.
const MAX_FUNCTIONS: usize = 500;

/// Complains about a parsed script, sorted by place, and tells what the module check wants to know of it. `text` is what
/// `ast` was parsed from.
pub(super) fn inspect(ast: &rhai::AST, file: &str, text: &str) -> (Vec<Diagnostic>, Facts) {
    if ast.iter_fn_def().count() > MAX_FUNCTIONS {
        let complaint = Spot::START.error(file, format!("more than {MAX_FUNCTIONS} functions"));
        return (vec![complaint.with_hint("split the policy up: a module may name several")], Facts::default());
    }
    let bodies = walk::bodies(ast);
    let mut walk = Walk::new(ast, &bodies, file, text);
    walk.learn();
    walk.speak();
    let (mut complaints, facts) = walk.finish();
    complaints.sort_by(|a, b| (a.line, a.column, a.severity, &a.message).cmp(&(b.line, b.column, b.severity, &b.message)));
    complaints.dedup();
    complaints.truncate(MAX_DIAGNOSTICS);
    (complaints, facts)
}

#[cfg(test)]
mod tests;
