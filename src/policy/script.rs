//! From text to a policy that can be called: reading, refusing what could never work, finding the handlers.

use super::error::unreadable;
use super::runtime::Runtime;
use crate::error::Diagnostic;
use crate::model::{EventBody, EventKind, Value, Verb};
use rhai::{AST, ASTNode, Engine, Expr, OptimizationLevel, Position, Scope, ScriptFuncDef, Stmt};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// How Rhai's names of closures begin.
const ANONYMOUS: &str = "anon$";

/// The function that declares a policy's settings.
pub(super) const SETTINGS: &str = "settings";

/// A compiled policy. Copies are cheap and share everything.
#[derive(Debug, Clone)]
pub struct Policy(pub(super) Rc<Compiled>);

/// What a policy's copies share.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Arc<str>,
    pub(super) file: Arc<str>,
    pub(super) ast: AST,
    /// By the event kind's index.
    pub(super) handlers: Vec<Option<Handler>>,
    /// `fn settings()`, where there is one.
    pub(super) settings: Option<Handler>,
    pub(super) defaults: BTreeMap<String, Value>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) verbs: BTreeSet<Verb>,
    pub(super) docs: Vec<(String, String)>,
    /// Made with the first call.
    pub(super) runtime: RefCell<Option<Box<Runtime>>>,
}

/// A handler as it is called.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) name: String,
    pub(super) parameters: Vec<Parameter>,
    /// Does it mention `this`? If not, no copy of the state is made. What it calls cannot reach the state by another way.
    pub(super) stateful: bool,
    /// Line and column of its name.
    pub(super) place: (u32, u32),
}

impl Handler {
    /// A complaint whose place is unknown is at least about this function.
    pub(super) fn located(&self, error: Diagnostic) -> Diagnostic {
        if error.line > 0 {
            return error;
        }
        Diagnostic { line: self.place.0, column: self.place.1, length: self.name.len() as u32, ..error }
    }
}

/// What a handler takes, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Event,
    Vm,
    Host,
    Plane,
    Settings,
    Offer,
}

impl Parameter {
    fn named(name: &str) -> Option<Parameter> {
        Some(match name {
            "event" => Parameter::Event,
            "vm" => Parameter::Vm,
            "host" => Parameter::Host,
            "plane" => Parameter::Plane,
            "settings" => Parameter::Settings,
            "offer" => Parameter::Offer,
            _ => return None,
        })
    }
}

impl Policy {
    /// Its name: the file's, without folder and ending.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Its file.
    pub fn file(&self) -> &Arc<str> {
        &self.0.file
    }

    /// Has it a handler for this kind of event?
    pub fn handles(&self, body: &EventBody) -> bool {
        self.0.handlers.get(body.index()).is_some_and(Option::is_some)
    }

    /// Its settings and their defaults.
    pub fn defaults(&self) -> &BTreeMap<String, Value> {
        &self.0.defaults
    }

    /// What is probably not as it was meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.0.warnings
    }

    /// What it may propose, as far as its text shows.
    pub fn verbs(&self) -> &BTreeSet<Verb> {
        &self.0.verbs
    }

    /// What its author wrote above its functions (`///`): name and text, in the order of the names.
    pub fn docs(&self) -> &[(String, String)] {
        &self.0.docs
    }
}

/// What is known of a script before its settings are.
pub(super) struct Read {
    pub(super) ast: AST,
    pub(super) handlers: Vec<Option<Handler>>,
    pub(super) settings: Option<Handler>,
    /// What the check found, errors and warnings.
    pub(super) found: Vec<Diagnostic>,
    pub(super) verbs: BTreeSet<Verb>,
    pub(super) docs: Vec<(String, String)>,
}

/// Reads a script and finds its handlers.
pub(super) fn read(engine: &Engine, file: &str, text: &str) -> Result<Read, Vec<Diagnostic>> {
    let written = engine.compile(text).map_err(|error| vec![unreadable(file, text, &error)])?;
    let (found, facts) = super::check::inspect(&written, file, text);
    let mut handlers: Vec<Option<Handler>> = EventKind::ALL.iter().map(|_| None).collect();
    let mut settings = None;
    for function in functions(&written) {
        let handler = || Handler {
            name: function.name.to_string(),
            parameters: function.params.iter().filter_map(|name| Parameter::named(name)).collect(),
            stateful: mentions_this(&written, function),
            place: definition(text, &function.name, function.params.len()),
        };
        if function.name == SETTINGS {
            settings = Some(handler());
        } else if let Some(kind) = kind_of(&function.name) {
            handlers[kind] = Some(handler());
        }
    }
    let verbs = facts.verbs.iter().map(|(verb, _)| *verb).collect();
    let docs = docs(&written);
    // The check looks at what was written; what runs has its constants folded.
    let ast = engine.optimize_ast(&Scope::new(), written, OptimizationLevel::Simple);
    Ok(Read { ast, handlers, settings, found, verbs, docs })
}

/// The position in [`EventKind::ALL`] of the kind a function handles.
fn kind_of(function: &str) -> Option<usize> {
    let name = function.strip_prefix("on_")?;
    EventKind::ALL.iter().position(|kind| kind.name == name)
}

/// The script's functions, those made of closures not counted, by name.
pub(super) fn functions(ast: &AST) -> Vec<&ScriptFuncDef> {
    let named = ast.iter_fn_def().map(|function| &**function);
    let mut named: Vec<&ScriptFuncDef> = named.filter(|function| !function.name.starts_with(ANONYMOUS)).collect();
    named.sort_by(|a, b| (&a.name, a.params.len()).cmp(&(&b.name, b.params.len())));
    named
}

/// Where a function is defined, line and column from 1: Rhai keeps only where its body begins.
pub(super) fn definition(text: &str, name: &str, parameters: usize) -> (u32, u32) {
    let mut first = None;
    for (number, line) in text.lines().enumerate() {
        for (start, _) in line.match_indices("fn ") {
            let rest = &line[start + 3..];
            let column = start + 3 + (rest.len() - rest.trim_start().len());
            let Some(after) = rest.trim_start().strip_prefix(name) else { continue };
            let Some(inside) = after.trim_start().strip_prefix('(') else { continue };
            let place = (number as u32 + 1, line[..column].chars().count() as u32 + 1);
            let list = inside.split(')').next().unwrap_or("");
            if list.split(',').filter(|parameter| !parameter.trim().is_empty()).count() == parameters {
                return place;
            }
            first = first.or(Some(place));
        }
    }
    first.unwrap_or((0, 0))
}

/// One function alone, to be walked: Rhai gives no way into a function's body but through a whole script's walk.
pub(super) fn alone(ast: &AST, function: &ScriptFuncDef) -> AST {
    // `clone_functions_only_filtered` of Rhai 1.27 ignores its filter.
    let mut alone = ast.clone();
    alone.clear_statements();
    alone.retain_functions(|_, _, name, parameters| *name == *function.name && parameters == function.params.len());
    alone
}

/// Where the first key of a path into the state (`.seen[2].host`) is set; none where that is not plain to see.
pub(super) fn assignment(ast: &AST, path: &str) -> Position {
    let key = path.trim_start_matches('.').split(['.', '[']).next().unwrap_or("");
    let is_key = |target: &Expr| match target {
        Expr::ThisPtr(_) => key.is_empty(),
        Expr::Dot(parts, ..) => {
            let key_is = |part: &Expr| matches!(part, Expr::Property(names, _) if names.2 == key);
            let deeper = |part: &Expr| matches!(part, Expr::Dot(rest, ..) | Expr::Index(rest, ..) if key_is(&rest.lhs));
            matches!(parts.lhs, Expr::ThisPtr(_)) && (key_is(&parts.rhs) || deeper(&parts.rhs))
        }
        Expr::Index(parts, ..) => {
            matches!(parts.lhs, Expr::ThisPtr(_)) && matches!(&parts.rhs, Expr::StringConstant(text, _) if text == key)
        }
        _ => false,
    };
    let mut found = Position::NONE;
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(statement @ Stmt::Assignment(assigned))) = path.last()
            && is_key(&assigned.1.lhs)
        {
            found = statement.position();
        }
        found.is_none()
    });
    found
}

fn mentions_this(ast: &AST, function: &ScriptFuncDef) -> bool {
    !alone(ast, function).walk(&mut |path: &[ASTNode]| !matches!(path.last(), Some(ASTNode::Expr(Expr::ThisPtr(_)))))
}

fn docs(ast: &AST) -> Vec<(String, String)> {
    let text = |function: &ScriptFuncDef| {
        let lines = function.comments.iter().flat_map(|comment| comment.lines());
        let lines: Vec<&str> = lines.map(|line| line.trim_start_matches('/').trim()).collect();
        lines.join("\n")
    };
    functions(ast)
        .into_iter()
        .map(|function| (function.name.to_string(), text(function)))
        .filter(|(_, text)| !text.is_empty())
        .collect()
}
