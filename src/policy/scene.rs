//! Pieces of script in scenarios: what is done in a world at given times, and what must be so in it at the end.
//!
//! They can call what tests can call; the world is `w`, and at the end there is `result`, the figures of the run.

use super::error::{failed, unreadable};
use super::state::{to_dynamic, to_value};
use super::suite::{Deadline, Failure, SharedStage, WorldView, furnished};
use crate::error::{Diagnostic, Spot};
use crate::model::Value;
use rhai::{AST, Dynamic, Engine, Scope};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Runs pieces of script.
pub struct Scene {
    engine: Engine,
    patience: Duration,
    deadline: Deadline,
}

/// A piece of script, ready to run.
#[derive(Debug, Clone)]
pub struct Snippet {
    ast: AST,
    file: String,
    place: Spot,
    /// As it was written.
    pub text: String,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").finish_non_exhaustive()
    }
}

impl Scene {
    /// No piece may take longer than `patience`.
    pub fn new(patience: Duration) -> Scene {
        let deadline = Deadline::default();
        let no_worlds = Rc::new(|_: &Value| Err("a scenario has its world: it is `w`".to_owned()));
        Scene { engine: furnished(no_worlds, &Rc::default(), &deadline), patience, deadline }
    }

    /// Reads a piece that stands at this place of a file.
    pub fn read(&self, file: &str, place: Spot, text: &str) -> Result<Snippet, Diagnostic> {
        let mut scope = Scope::new();
        scope.push_constant("w", ()).push_constant("result", ());
        let ast = self.engine.compile_with_scope(&scope, text).map_err(|error| moved(unreadable(file, text, &error), place))?;
        Ok(Snippet { ast, file: file.to_owned(), place, text: text.to_owned() })
    }

    /// Runs a piece on a world; with its figures, where the run is over.
    pub fn run(&self, snippet: &Snippet, world: &SharedStage, result: Option<&Value>) -> Result<Value, Box<Failure>> {
        self.deadline.set(Instant::now().checked_add(self.patience));
        let mut scope = Scope::new();
        scope.push_constant("w", WorldView { stage: world.clone(), plane: 0 });
        scope.push_constant_dynamic("result", result.map_or(Dynamic::UNIT, to_dynamic));
        let given = self.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &snippet.ast);
        let given = given.map_err(|error| {
            let mut failure = super::suite::unmet_or(&error, failed(&snippet.file, &error));
            failure.error = moved(failure.error, snippet.place);
            Box::new(failure)
        })?;
        // What is no plain data is no answer; a piece that only does something has none.
        Ok(to_value(&given).unwrap_or(Value::Unit))
    }

    /// Is what a piece says so? It may say so by its value, `true` or `false`, or by assertions.
    pub fn holds(&self, snippet: &Snippet, world: &SharedStage, result: &Value) -> Result<(), Box<Failure>> {
        let wrong = |message: String| {
            let error =
                Diagnostic::error(&snippet.file, snippet.place.line, snippet.place.column, snippet.place.length, message);
            Err(Box::new(Failure { error, expected: None, actual: None }))
        };
        match self.run(snippet, world, Some(result))? {
            Value::Bool(true) | Value::Unit => Ok(()),
            Value::Bool(false) => wrong(format!("this is not so: {}", snippet.text.trim())),
            other => {
                wrong(format!("this gives {}, where `true` or `false` is wanted: {}", other.to_json(), snippet.text.trim()))
            }
        }
    }
}

/// From a place within a piece to the place in its file.
fn moved(found: Diagnostic, place: Spot) -> Diagnostic {
    let inner = found.line.max(1);
    let column = if inner == 1 { place.column + found.column.saturating_sub(1) } else { found.column };
    Diagnostic { line: place.line + inner - 1, column, ..found }
}
