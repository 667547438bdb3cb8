//! The walk through a script: statements and expressions.

use super::facts::Facts;
use super::guess::Guess;
use crate::error::{Diagnostic, Spot, nearest};
use crate::model::EventKind;
use crate::policy::script;
use rhai::{AST, ASTNode, Expr, FnPtr, Position, ScriptFuncDef, Stmt, StmtBlock};
use std::collections::{BTreeMap, BTreeSet};

/// Deeper expressions are not looked into. The parser allows fewer; this keeps the check safe on its own.
const MAX_DEPTH: usize = 160;
/// Walks before it speaks. Each climbs the lattice of guesses, so real scripts settle in three or four.
const MAX_ROUNDS: usize = 12;

/// A function of the script: its name and how many parameters it has.
pub(super) type Signature = (String, usize);

/// What was learnt about the script's own functions and variables so far.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Learnt {
    pub parameters: BTreeMap<(Signature, usize), Guess>,
    pub objects: BTreeMap<Signature, Guess>,
    pub returns: BTreeMap<Signature, Guess>,
    /// Variables that are assigned to somewhere in the function.
    pub variables: BTreeMap<(Signature, String), Guess>,
    pub settings: Option<BTreeMap<String, Guess>>,
}

/// A function while it is walked.
#[derive(Debug)]
pub(super) struct Frame {
    /// Closures share that of the function they stand in.
    pub function: Signature,
    /// A closure to which nobody gives `this`.
    pub lacks_this: bool,
    pub scopes: Vec<(String, Guess)>,
    pub this: Guess,
    pub returns: Guess,
}

/// The words a property can have, for comparisons with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Words {
    Of(&'static [&'static str]),
    Channel,
    Timer,
}

/// A function's body.
#[derive(Debug, Default)]
pub(super) struct FunctionBody {
    /// Its statements. Rhai does not name the type that holds them, but shows them to a visitor.
    statements: Vec<Stmt>,
    /// Does it name `this`? (Closures in it are functions of their own.)
    uses_this: bool,
}

/// The body of each function.
pub(super) type Bodies = BTreeMap<Signature, FunctionBody>;

/// Takes the bodies out of a script.
pub(super) fn bodies(ast: &AST) -> Bodies {
    let mut bodies = Bodies::new();
    for def in ast.iter_fn_def() {
        let alone = script::alone(ast, def);
        let mut body = FunctionBody::default();
        alone.walk(&mut |path: &[ASTNode]| {
            if let [ASTNode::Stmt(statement)] = path {
                body.statements.push((*statement).clone());
            }
            body.uses_this |= matches!(path.last(), Some(ASTNode::Expr(Expr::ThisPtr(_))));
            true
        });
        bodies.insert((def.name.to_string(), def.params.len()), body);
    }
    bodies
}

pub(super) struct Walk<'a> {
    pub ast: &'a AST,
    bodies: &'a Bodies,
    pub file: &'a str,
    pub text: &'a str,
    pub functions: BTreeMap<Signature, &'a ScriptFuncDef>,
    pub learnt: Learnt,
    pub frames: Vec<Frame>,
    /// What the property read last can be.
    pub words: Option<Words>,
    depth: usize,
    speaking: bool,
    complaints: Vec<Diagnostic>,
    pub facts: Facts,
    /// Names that the script writes: keys of maps, properties assigned to, texts.
    pub written: BTreeSet<String>,
    /// The texts among them.
    pub texts: BTreeSet<String>,
    /// Keys of `this` that handlers read.
    pub state_reads: Vec<(String, Spot)>,
    pub settings_reads: BTreeSet<String>,
    /// Those that are read and not declared.
    pub settings_undeclared: BTreeSet<String>,
    /// Names of timers set with a written-out name; `None` once a name is computed.
    pub timers: Option<BTreeSet<String>>,
    pub timers_set: Vec<(String, Spot)>,
    pub timers_compared: Vec<(String, Spot)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(ast: &'a AST, bodies: &'a Bodies, file: &'a str, text: &'a str) -> Walk<'a> {
        let functions = ast.iter_fn_def().map(|def| ((def.name.to_string(), def.params.len()), def.as_ref())).collect();
        Walk {
            ast,
            bodies,
            file,
            text,
            functions,
            learnt: Learnt::default(),
            frames: Vec::new(),
            words: None,
            depth: 0,
            speaking: false,
            complaints: Vec::new(),
            facts: Facts::default(),
            written: BTreeSet::new(),
            texts: BTreeSet::new(),
            state_reads: Vec::new(),
            settings_reads: BTreeSet::new(),
            settings_undeclared: BTreeSet::new(),
            timers: Some(BTreeSet::new()),
            timers_set: Vec::new(),
            timers_compared: Vec::new(),
        }
    }

    /// Walks in silence until nothing new is learnt.
    pub(super) fn learn(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let before = self.learnt.clone();
            self.all_functions();
            if self.learnt == before {
                return;
            }
        }
        // What has not settled is not to be relied on.
        let learnt = &mut self.learnt;
        let guesses = learnt.parameters.values_mut().chain(learnt.objects.values_mut());
        guesses.chain(learnt.returns.values_mut()).chain(learnt.variables.values_mut()).for_each(|guess| *guess = Guess::Any);
    }

    /// Walks once more, and complains.
    pub(super) fn speak(&mut self) {
        self.speaking = true;
        self.facts = Facts::default();
        self.state_reads.clear();
        self.timers_set.clear();
        self.timers_compared.clear();
        self.signatures();
        self.all_functions();
        self.top_level();
        self.afterwards();
    }

    pub(super) fn finish(self) -> (Vec<Diagnostic>, Facts) {
        (self.complaints, self.facts)
    }

    fn all_functions(&mut self) {
        let functions: Vec<(Signature, &'a ScriptFuncDef)> =
            self.functions.iter().map(|(signature, def)| (signature.clone(), *def)).collect();
        for (signature, def) in functions {
            // Closures are walked where they are used.
            if !signature.0.starts_with("anon$") {
                self.function(signature, def);
            }
        }
    }

    fn function(&mut self, signature: Signature, def: &'a ScriptFuncDef) {
        // A misspelt handler gets what the one that was meant would get.
        let handler = signature.0.strip_prefix("on_").and_then(|name| {
            EventKind::named(name).or_else(|| EventKind::named(nearest(name, EventKind::ALL.iter().map(|kind| kind.name))?))
        });
        let mut scopes = Vec::new();
        for (index, name) in def.params.iter().enumerate() {
            let guess = match handler {
                Some(kind) => super::handlers::parameter(name, kind),
                None => self.learnt.parameters.get(&(signature.clone(), index)).cloned().unwrap_or(Guess::Never),
            };
            scopes.push((name.to_string(), guess));
        }
        let this = match handler {
            Some(_) => Guess::State,
            None => self.learnt.objects.get(&signature).cloned().unwrap_or(Guess::Never),
        };
        self.frames.push(Frame { function: signature.clone(), lacks_this: false, scopes, this, returns: Guess::Never });
        let body = self.statements_of(&signature);
        let last = self.statements(body);
        if signature == ("settings".to_owned(), 0) {
            self.settings(body);
        }
        let returns = self.frames.pop().map_or(Guess::Any, |frame| frame.returns.join(last));
        self.learn_return(signature, returns);
    }

    fn statements_of(&self, signature: &Signature) -> &'a [Stmt] {
        self.bodies.get(signature).map_or(&[], |body| &body.statements)
    }

    /// Does this function of the script name `this`?
    pub(super) fn uses_this(&self, signature: &Signature) -> bool {
        self.bodies.get(signature).is_some_and(|body| body.uses_this)
    }

    fn learn_return(&mut self, signature: Signature, guess: Guess) {
        let known = self.learnt.returns.entry(signature).or_insert(Guess::Never);
        *known = std::mem::replace(known, Guess::Never).join(guess);
    }

    pub(super) fn block(&mut self, block: &'a StmtBlock) -> Guess {
        self.statements(block.statements())
    }

    fn statements(&mut self, statements: &'a [Stmt]) -> Guess {
        let depth = self.frame().scopes.len();
        let mut last = Guess::Unit;
        for statement in statements {
            last = self.statement(statement);
        }
        self.frame().scopes.truncate(depth);
        last
    }

    fn statement(&mut self, statement: &'a Stmt) -> Guess {
        if self.depth >= MAX_DEPTH {
            return Guess::Any;
        }
        self.depth += 1;
        let guess = self.statement_inside(statement);
        self.depth -= 1;
        guess
    }

    fn statement_inside(&mut self, statement: &'a Stmt) -> Guess {
        match statement {
            Stmt::If(flow, _) => {
                self.expr(&flow.expr);
                let then = self.block(&flow.body);
                then.join(self.block(&flow.branch))
            }
            Stmt::Switch(switch, _) => {
                let (value, cases) = &**switch;
                self.expr(value);
                let mut all = if cases.def_case.is_some() { Guess::Never } else { Guess::Unit };
                for case in &cases.expressions {
                    self.expr(&case.lhs);
                    all = all.join(self.expr(&case.rhs));
                }
                all
            }
            Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
                self.expr(&flow.expr);
                self.block(&flow.body);
                Guess::Any
            }
            Stmt::For(walk, _) => {
                let (name, counter, flow) = &**walk;
                let element = self.expr(&flow.expr).element();
                let depth = self.frame().scopes.len();
                self.bind(&name.name, element);
                if let Some(counter) = counter {
                    self.bind(&counter.name, Guess::Int);
                }
                self.block(&flow.body);
                self.frame().scopes.truncate(depth);
                Guess::Any
            }
            Stmt::Var(variable, ..) => {
                let guess = self.expr(&variable.1);
                self.bind(&variable.0.name, guess);
                Guess::Unit
            }
            Stmt::Assignment(assignment) => {
                let (operator, sides) = &**assignment;
                let guess = self.expr(&sides.rhs);
                self.assign(&sides.lhs, guess, operator.is_op_assignment());
                Guess::Unit
            }
            Stmt::FnCall(call, position) => self.call(call, *position),
            Stmt::Block(block) => self.block(block),
            Stmt::TryCatch(flow, _) => {
                self.block(&flow.body);
                let depth = self.frame().scopes.len();
                if let Expr::Variable(name, ..) = &flow.expr {
                    self.bind(&name.1, Guess::Any);
                }
                self.block(&flow.branch);
                self.frame().scopes.truncate(depth);
                Guess::Any
            }
            Stmt::Expr(expr) => self.expr(expr),
            Stmt::BreakLoop(Some(expr), ..) => {
                self.expr(expr);
                Guess::Any
            }
            Stmt::Return(expr, ..) => {
                let guess = expr.as_ref().map_or(Guess::Unit, |expr| self.expr(expr));
                let frame = self.frame();
                frame.returns = std::mem::replace(&mut frame.returns, Guess::Never).join(guess);
                Guess::Never
            }
            Stmt::Noop(_) => Guess::Unit,
            _ => Guess::Any,
        }
    }

    fn assign(&mut self, target: &'a Expr, guess: Guess, with_operator: bool) {
        match target {
            Expr::Variable(name, ..) => {
                let guess = if with_operator { Guess::Any } else { guess };
                let key = (self.frame().function.clone(), name.1.to_string());
                let now = self.lookup(&name.1).unwrap_or(Guess::Any);
                let now = if with_operator && now.is_number() { now } else { now.join(guess) };
                let known = self.learnt.variables.entry(key).or_insert(Guess::Never);
                *known = std::mem::replace(known, Guess::Never).join(now);
            }
            target => {
                self.target(target, with_operator);
            }
        }
    }

    /// Makes a variable known. One that is assigned to elsewhere is whatever it ever was.
    fn bind(&mut self, name: &str, guess: Guess) {
        let key = (self.frame().function.clone(), name.to_owned());
        if let Some(known) = self.learnt.variables.get_mut(&key) {
            *known = std::mem::replace(known, Guess::Never).join(guess.clone());
        }
        self.frame().scopes.push((name.to_owned(), guess));
    }

    pub(super) fn lookup(&mut self, name: &str) -> Option<Guess> {
        let here = self.frame().scopes.iter().rev().find(|(known, _)| known == name).map(|(_, guess)| guess.clone())?;
        let key = (self.frame().function.clone(), name.to_owned());
        Some(self.learnt.variables.get(&key).map_or(here.clone(), |known| known.clone().join(here)))
    }

    pub(super) fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            let function = (String::new(), 0);
            self.frames.push(Frame {
                function,
                lacks_this: false,
                scopes: Vec::new(),
                this: Guess::Any,
                returns: Guess::Never,
            });
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    pub(super) fn expr(&mut self, expr: &'a Expr) -> Guess {
        if self.depth >= MAX_DEPTH {
            return Guess::Any;
        }
        self.depth += 1;
        self.words = None;
        let guess = self.expr_inside(expr);
        self.depth -= 1;
        guess
    }

    fn expr_inside(&mut self, expr: &'a Expr) -> Guess {
        match expr {
            Expr::DynamicConstant(value, _) => match value.read_lock::<FnPtr>() {
                Some(pointer) => Guess::Closure(pointer.fn_name().to_owned(), Vec::new()),
                None => {
                    self.write_constant(value);
                    constant(value)
                }
            },
            Expr::BoolConstant(..) => Guess::Bool,
            Expr::IntegerConstant(..) => Guess::Int,
            Expr::FloatConstant(..) => Guess::Float,
            Expr::StringConstant(text, _) => {
                self.write_text(text);
                Guess::Text
            }
            Expr::InterpolatedString(parts, _) => {
                for part in parts {
                    self.expr(part);
                }
                Guess::Text
            }
            Expr::Array(items, _) => {
                for item in items {
                    self.expr(item);
                }
                // It may be added to later.
                Guess::List(Box::new(Guess::Any))
            }
            Expr::Map(map, _) => {
                for (key, value) in &map.0 {
                    self.written.insert(key.name.to_string());
                    self.expr(value);
                }
                Guess::Map
            }
            Expr::Unit(_) => Guess::Unit,
            Expr::Variable(name, _, position) => match self.lookup(&name.1) {
                Some(guess) => guess,
                None => {
                    self.not_captured(&name.1, *position);
                    Guess::Any
                }
            },
            Expr::ThisPtr(position) => {
                if self.frame().lacks_this {
                    let spot = self.spot(*position, "this");
                    let hint = "take what you need before it, as in `let limit = this.limit;`, and use that within; or write a `for` loop";
                    self.error(spot, "within `|...|` there is no `this`", hint);
                }
                self.frame().this.clone()
            }
            Expr::Stmt(block) => self.closure(block).unwrap_or_else(|| self.block(block)),
            Expr::FnCall(call, position) => self.call(call, *position),
            Expr::Dot(..) | Expr::Index(..) => self.chain(expr),
            Expr::And(sides, _) | Expr::Or(sides, _) => {
                for side in sides.iter() {
                    self.expr(side);
                }
                Guess::Bool
            }
            Expr::Coalesce(sides, _) => {
                let mut all = Guess::Never;
                for side in sides.iter() {
                    all = all.join(self.expr(side));
                }
                all
            }
            _ => Guess::Any,
        }
    }

    /// Rhai's closures do not capture a variable that has the name of a function: within them the name means the function.
    fn not_captured(&mut self, name: &str, position: Position) {
        let Some((here, outer)) = self.frames.split_last() else { return };
        let is_meant = |frame: &Frame| frame.function == here.function && frame.scopes.iter().any(|(known, _)| known == name);
        if outer.iter().any(is_meant) && self.functions.keys().any(|(function, _)| function == name) {
            let spot = self.spot(position, name);
            let message = format!("within `|...|` the name `{name}` means the function, not the variable");
            self.error(spot, message, "take what you need before it: `let limit = settings.limit;`, and use that within");
        }
    }

    /// A closure that captures variables is a block that shares them and then curries the function with them.
    fn closure(&mut self, block: &'a StmtBlock) -> Option<Guess> {
        let [Stmt::Share(_), Stmt::Expr(expr)] = block.statements() else { return None };
        let Expr::FnCall(curry, _) = &**expr else { return None };
        let (Expr::DynamicConstant(value, _), captured) = curry.args.split_first()? else { return None };
        let name = value.read_lock::<FnPtr>()?.fn_name().to_owned();
        let captured = captured.iter().map(|variable| self.expr(variable)).collect();
        Some(Guess::Closure(name, captured))
    }

    /// Walks a closure's body with what it is called with, and says what it gives. Other values are no closures: nothing.
    pub(super) fn enter(&mut self, closure: &Guess, arguments: &[Guess], called_by: &str) -> Guess {
        let Guess::Closure(name, captured) = closure else { return Guess::Any };
        let found = self.functions.iter().find(|((known, _), _)| known == name);
        let Some((signature, def)) = found.map(|(signature, def)| (signature.clone(), *def)) else { return Guess::Any };
        if self.depth >= MAX_DEPTH || self.frames.len() >= 16 {
            return Guess::Any;
        }
        let given = captured.iter().chain(arguments).cloned().chain(std::iter::repeat(Guess::Any));
        let scopes: Vec<_> = def.params.iter().map(ToString::to_string).zip(given).collect();
        let function = self.frame().function.clone();
        // The functions of lists bind `this` to the element where the closure does not take it as a parameter, and `call` to its object.
        let lacks_this = def.params.len() > captured.len() && called_by != "call";
        self.frames.push(Frame { function, lacks_this, scopes, this: Guess::Any, returns: Guess::Never });
        let body = self.statements_of(&signature);
        let last = self.statements(body);
        self.frames.pop().map_or(Guess::Any, |frame| frame.returns.join(last))
    }

    fn write_text(&mut self, text: &str) {
        self.written.insert(text.to_owned());
        self.texts.insert(text.to_owned());
    }

    fn write_constant(&mut self, value: &rhai::Dynamic) {
        if let Ok(text) = value.as_immutable_string_ref() {
            self.write_text(&text);
        } else if let Ok(map) = value.as_map_ref() {
            for (key, value) in map.iter() {
                self.written.insert(key.to_string());
                self.write_constant(value);
            }
        } else if let Ok(items) = value.as_array_ref() {
            items.iter().for_each(|item| self.write_constant(item));
        }
    }

    pub(super) fn error(&mut self, spot: Spot, message: impl Into<String>, hint: impl Into<String>) {
        if self.speaking {
            self.complaints.push(spot.error(self.file, message).with_hint(hint));
        }
    }

    pub(super) fn warn(&mut self, spot: Spot, message: impl Into<String>, hint: impl Into<String>) {
        if self.speaking {
            self.complaints.push(spot.error(self.file, message).with_hint(hint).as_warning());
        }
    }

    /// Where a name stands.
    pub(super) fn spot(&self, position: Position, name: &str) -> Spot {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (Some(line), column) = (position.line(), position.position().unwrap_or(1)) else { return Spot::START };
        Spot { line: count(line), column: count(column), length: count(name.chars().count().max(1)) }
    }
}

/// What a constant is.
pub(super) fn constant(value: &rhai::Dynamic) -> Guess {
    if value.is_bool() {
        Guess::Bool
    } else if value.is_int() {
        Guess::Int
    } else if value.is_float() {
        Guess::Float
    } else if value.is_string() {
        Guess::Text
    } else if value.is_map() {
        Guess::Map
    } else if value.is_array() {
        Guess::List(Box::new(Guess::Any))
    } else if value.is_unit() {
        Guess::Unit
    } else {
        Guess::Any
    }
}
