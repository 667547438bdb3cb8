//! Scripts that test policies: what they can call, and how one of their tests runs.
//!
//! A test is a function `test_...` without parameters. It builds worlds, lets time pass in them, and says what must be so. What
//! a world is, this file does not know: it turns calls into [`Stage`]'s, with plain data both ways.

use super::error::{at, failed, unreadable};
use super::functions::register_common;
use super::script::{definition, functions};
use super::state::{to_dynamic, to_value};
use super::surface::{Function, Parameter, Type, TypeTable, function, parameter};
use crate::error::{Diagnostic, nearest};
use crate::model::{Span, Timestamp, Value};
use rhai::{AST, Dynamic, Engine, EvalAltResult, FnPtr, NativeCallContext, OptimizationLevel, Position, Scope, Stmt};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How the files of test scripts end. They stand beside the policies.
pub const SUFFIX: &str = "_test.rhai";

/// How the names of tests begin.
pub const PREFIX: &str = "test_";

/// Characters of a text and entries of a list that a test may make.
const MOST: usize = 1 << 20;

/// The wall clock is read once in so many operations of a test.
const CLOCK_EVERY: u64 = 256;

/// A world as its tests see it: planes and the fleet below them.
pub trait Stage {
    /// Does what a method of [`WORLD`] stands for, on one of its planes.
    fn call(&mut self, plane: usize, method: &str, arguments: &[Value]) -> Result<Value, String>;
    /// The number of a plane.
    fn plane(&self, name: &str) -> Result<usize, String>;
    /// The present instant.
    fn now(&self) -> Timestamp;
    /// Lets happen what comes next, up to an instant; says whether there was anything left to happen.
    fn step(&mut self, until: Timestamp) -> Result<bool, String>;
}

/// A stage that a script and its runner share.
pub type SharedStage = Rc<RefCell<dyn Stage>>;

/// Makes a world as `world(...)` describes it.
pub type Builder = Rc<dyn Fn(&Value) -> Result<SharedStage, String>>;

const MAPS: Type = Type::Array(&Type::Map);
const GUEST: Parameter = parameter("guest", Type::Text);
const HOST: Parameter = parameter("host", Type::Text);
const MODULE: Parameter = parameter("module", Type::Text);
const ID: Parameter = parameter("id", Type::Int);
const SPAN: Parameter = parameter("span", Type::Span);

/// What can be called on a world. All that looks gives plain data with the names of the API; instants are milliseconds.
pub const WORLD: TypeTable = TypeTable {
    kind: Type::World,
    name: "world",
    doc: "A simulated fleet with a plane, or several, in virtual time.",
    properties: &[],
    methods: &[
        function("plane", &[parameter("name", Type::Text)], Type::World, "the same world, seen from another of its planes"),
        function("now", &[], Type::Instant, "the present instant"),
        function("run", &[SPAN], Type::Unit, "lets time pass: `run(minutes(5))`, in ms"),
        function(
            "wait_for",
            &[SPAN, parameter("condition", Type::Any)],
            Type::Bool,
            "lets time pass until a closure gives `true` of the world, or for `span` at the most; says whether it came to be so: `wait_for(minutes(1), |w| w.vm(\"web\").state == \"running\")`",
        ),
        function("deploy", &[MODULE], Type::Unit, "loads a module as its manifest says"),
        function(
            "deploy",
            &[MODULE, parameter("changes", Type::Map)],
            Type::Unit,
            "the same with some keys of the manifest changed: `#{ mode: \"act\", settings: #{ hot: 0.5 } }`",
        ),
        function("add", &[parameter("guest", Type::Map)], Type::Unit, "adds a guest, written as in a fleet file"),
        function(
            "fault",
            &[parameter("fault", Type::Map)],
            Type::Unit,
            "something goes wrong now (or after `at`), written as in a fleet file: `#{ fault: \"guest_crashes\", guest: \"web\" }`; a wrong word is answered with all there are",
        ),
        function(
            "heat",
            &[parameter("heat", Type::Map)],
            Type::Unit,
            "guests get busy now (or after `at`), written as in a fleet file: `#{ guests: [\"web\"], cpu: 0.9, \"for\": minutes(5) }`",
        ),
        function(
            "link",
            &[parameter("plane", Type::Text), parameter("up", Type::Bool)],
            Type::Unit,
            "cuts the link to another plane, or mends it",
        ),
        function(
            "maintenance",
            &[HOST, parameter("on", Type::Bool)],
            Type::Unit,
            "an admin puts a host in maintenance, or back in service",
        ),
        function("approve", &[ID], Type::Unit, "an admin approves an advised action"),
        function("reject", &[ID], Type::Unit, "an admin rejects an advised action"),
        function("cancel", &[ID], Type::Unit, "an admin cancels an action"),
        function("arm", &[], Type::Unit, "an admin lets the plane act again"),
        function("disarm", &[], Type::Unit, "an admin lets the plane start nothing new"),
        function("mode", &[MODULE, parameter("mode", Type::Text)], Type::Unit, "an admin changes a module's mode"),
        function(
            "manage",
            &[GUEST, parameter("mode", Type::Text)],
            Type::Unit,
            "an admin says how far the plane may go with a guest",
        ),
        function(
            "order",
            &[parameter("verb", Type::Text), GUEST],
            Type::Unit,
            "an admin orders `start`, `shutdown`, `destroy`, `reset`, `suspend`, `resume`, `undefine` or `migrate`",
        ),
        function(
            "order",
            &[parameter("verb", Type::Text), GUEST, parameter("to", Type::Text)],
            Type::Unit,
            "the same with a target: `migrate` to a host, `handover` to a plane",
        ),
        function(
            "vm",
            &[GUEST],
            Type::Map,
            "a guest as the plane knows it, as in `embot elements GUEST --output json`; `()` where it knows none of this name",
        ),
        function(
            "host",
            &[HOST],
            Type::Map,
            "a host as the plane knows it, as in `embot elements HOST --output json`; `()` where it knows none of this name",
        ),
        function("actions", &[], MAPS, "what was planned and advised, the oldest first, as in `embot plan --output json`"),
        function("actions", &[parameter("verb", Type::Text)], MAPS, "the same of one kind: `actions(\"migrate\")`"),
        function("refusals", &[], MAPS, "what the planner refused, the oldest first; `guardrail` names the reason in one word"),
        function("notices", &[], MAPS, "what admins were told: `level`, `text`, `by`, `at`"),
        function(
            "faults",
            &[],
            MAPS,
            "policies that failed: `module`, `element`, `error`. A test that does not ask must have none",
        ),
        function(
            "embot",
            &[MODULE, parameter("element", Type::Text)],
            Type::Map,
            "an embot's `state`, `timers` (name and instant), `faults` and `suspended`; `()` where there is none",
        ),
        function("migrations", &[], MAPS, "guests that go to other planes or come from them, the oldest first"),
        function("told", &[], Type::Array(&Type::Text), "all that happened and was decided, in words"),
    ],
};

/// What can be called in tests beside methods of worlds.
pub const TEST_FUNCTIONS: &[Function] = &[
    function(
        "world",
        &[parameter("description", Type::Map)],
        Type::World,
        "a new world: the keys of a fleet file and those of plane.yaml, or `planes: #{ a: #{ hosts: [\"a-*\"], ... }, ... }`, of which the world is first seen from the first by name",
    ),
    function("assert", &[parameter("condition", Type::Bool)], Type::Unit, "fails where it is not so"),
    function(
        "assert",
        &[parameter("condition", Type::Bool), parameter("text", Type::Text)],
        Type::Unit,
        "the same, and says what",
    ),
    function(
        "assert_eq",
        &[parameter("actual", Type::Any), parameter("expected", Type::Any)],
        Type::Unit,
        "fails where they differ",
    ),
    function(
        "assert_ne",
        &[parameter("actual", Type::Any), parameter("other", Type::Any)],
        Type::Unit,
        "fails where they are the same",
    ),
];

/// A world in a script's hands.
#[derive(Clone)]
pub(super) struct WorldView {
    pub(super) stage: SharedStage,
    pub(super) plane: usize,
}

/// What an assertion says when it fails.
#[derive(Debug, Clone)]
struct Unmet {
    message: String,
    expected: Option<String>,
    actual: Option<String>,
}

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Its function's name.
    pub name: String,
    /// The line of its function.
    pub line: u32,
}

/// Why a test failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// What, and where.
    pub error: Diagnostic,
    /// What was expected, where two values differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// A script with tests, ready to run.
pub struct Suite {
    engine: Engine,
    ast: AST,
    file: String,
    tests: Vec<Test>,
    printed: Rc<RefCell<Vec<String>>>,
    patience: Duration,
    deadline: Deadline,
}

/// When the running test must have ended.
pub(super) type Deadline = Rc<Cell<Option<Instant>>>;

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite").field("file", &self.file).field("tests", &self.tests).finish_non_exhaustive()
    }
}

impl Suite {
    /// Reads a script; `builder` makes the worlds it asks for, and no test may take longer than `patience`.
    pub fn read(file: &str, text: &str, builder: Builder, patience: Duration) -> Result<Suite, Vec<Diagnostic>> {
        let printed: Rc<RefCell<Vec<String>>> = Rc::default();
        let deadline = Deadline::default();
        let engine = furnished(builder, &printed, &deadline);
        let ast = engine.compile(text).map_err(|error| {
            let found = unreadable(file, text, &error);
            // Tests have no settings.
            let is_of_policies = found.hint.as_ref().is_some_and(|hint| hint.contains("make it a setting"));
            vec![if is_of_policies {
                found.with_hint("functions see no more than their parameters: make it a function")
            } else {
                found
            }]
        })?;
        let mut tests = Vec::new();
        let mut wrong = Vec::new();
        if let Some(statement) = ast.statements().iter().find(|statement| !matches!(statement, Stmt::Noop(..))) {
            let found = at(file, statement.position(), "what stands outside functions never runs in a test script");
            wrong.push(found.with_hint("put it into a function"));
        }
        for function in functions(&ast).into_iter().filter(|function| function.name.starts_with(PREFIX)) {
            let (line, column) = definition(text, &function.name, function.params.len());
            if function.params.is_empty() {
                tests.push(Test { name: function.name.to_string(), line });
            } else {
                let message = format!("`{}` is a test by its name, and takes parameters", function.name);
                let found = Diagnostic::error(file, line, column, function.name.len() as u32, message);
                wrong.push(found.with_hint("a test is called without any; call a helper something else"));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        tests.sort_by_key(|test| test.line);
        Ok(Suite { engine, ast, file: file.to_owned(), tests, printed, patience, deadline })
    }

    /// Its tests, in the order of the file.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Runs one of them.
    pub fn run(&self, test: &Test) -> Result<(), Box<Failure>> {
        self.deadline.set(Instant::now().checked_add(self.patience));
        let options = rhai::CallFnOptions::new().eval_ast(false);
        let outcome = self.engine.call_fn_with_options::<Dynamic>(options, &mut Scope::new(), &self.ast, &test.name, ());
        outcome.map(drop).map_err(|error| Box::new(self.failure(test, &error)))
    }

    /// What has been printed since it was last asked.
    pub fn printed(&self) -> Vec<String> {
        self.printed.take()
    }

    fn failure(&self, test: &Test, error: &EvalAltResult) -> Failure {
        let mut found = failed(&self.file, error);
        if found.line == 0 {
            found.line = test.line;
        }
        match innermost(error) {
            EvalAltResult::ErrorRuntime(..) => unmet_or(error, found),
            EvalAltResult::ErrorTerminated(..) => {
                let message = format!("the test took longer than {} s", self.patience.as_secs_f64());
                let error = Diagnostic { message, ..found };
                let hint = "does a loop never end? Else let less virtual time pass, or give it longer with `--timeout`";
                Failure { error: error.with_hint(hint), expected: None, actual: None }
            }
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                let hint = hint_of_call(signature);
                let error = hint.map_or_else(|| found.clone(), |hint| Diagnostic { hint: Some(hint), ..found.clone() });
                Failure { error, expected: None, actual: None }
            }
            EvalAltResult::ErrorDataRace(..) => {
                let message = "the closure holds the world that it is called on".to_owned();
                let error =
                    Diagnostic { message, ..found }.with_hint("let it take the world: `w.wait_for(minutes(1), |w| ...)`");
                Failure { error, expected: None, actual: None }
            }
            _ => Failure { error: found, expected: None, actual: None },
        }
    }
}

fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        _ => error,
    }
}

/// An assertion that failed, with its two values; any other error as it was found.
pub(super) fn unmet_or(error: &EvalAltResult, found: Diagnostic) -> Failure {
    let EvalAltResult::ErrorRuntime(thrown, _) = innermost(error) else {
        return Failure { error: found, expected: None, actual: None };
    };
    match thrown.clone().try_cast::<Unmet>() {
        Some(unmet) => {
            let error = Diagnostic { message: unmet.message, hint: None, ..found };
            Failure { error, expected: unmet.expected, actual: unmet.actual }
        }
        None => Failure { error: found, expected: None, actual: None },
    }
}

type Outcome<T> = Result<T, Box<EvalAltResult>>;

fn thrown<T>(payload: Dynamic, place: Position) -> Outcome<T> {
    Err(EvalAltResult::ErrorRuntime(payload, place).into())
}

fn complain<T>(context: &NativeCallContext, text: impl Into<String>) -> Outcome<T> {
    thrown(Dynamic::from(text.into()), context.call_position())
}

fn unmet<T>(context: &NativeCallContext, unmet: Unmet) -> Outcome<T> {
    thrown(Dynamic::from(unmet), context.call_position())
}

/// A script's value as plain data.
fn plain(context: &NativeCallContext, value: &Dynamic) -> Outcome<Value> {
    to_value(value).or_else(|bad| complain(context, format!("this{} is {}: plain data is wanted here", bad.path, bad.what)))
}

/// An engine in which tests can run.
pub(super) fn furnished(builder: Builder, printed: &Rc<RefCell<Vec<String>>>, deadline: &Deadline) -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(0)
        .set_max_string_size(MOST)
        .set_max_array_size(MOST)
        .set_max_map_size(MOST)
        .set_max_call_levels(64)
        .set_max_expr_depths(128, 128)
        .set_max_modules(0)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_optimization_level(OptimizationLevel::None);
    for word in ["eval", "import", "export"] {
        engine.disable_symbol(word);
    }
    let (to, to_debug) = (printed.clone(), printed.clone());
    engine.on_print(move |text| to.borrow_mut().push(text.to_owned()));
    engine.on_debug(move |text, _, _| to_debug.borrow_mut().push(text.to_owned()));
    register_common(&mut engine);
    register_assertions(&mut engine);
    register_worlds(&mut engine, builder, deadline);
    let ends = deadline.clone();
    engine.on_progress(move |operations| (operations % CLOCK_EVERY == 0 && is_over(&ends)).then_some(Dynamic::UNIT));
    engine
}

fn is_over(deadline: &Deadline) -> bool {
    deadline.get().is_some_and(|at| Instant::now() >= at)
}

/// How a function that was called wrongly is called, or what it may have been meant to be.
fn hint_of_call(signature: &str) -> Option<String> {
    let name = signature.split(' ').next()?;
    let methods = WORLD.methods.iter().map(|method| ("world.", method));
    let known = || methods.clone().chain(TEST_FUNCTIONS.iter().map(|function| ("", function)));
    let form = |(before, function): (&str, &Function)| {
        let taken = function.parameters.iter().map(|one| format!("{}: {}", one.name, one.kind.describe()));
        format!("`{before}{name}({})`", taken.collect::<Vec<_>>().join(", "))
    };
    let forms: Vec<String> = known().filter(|(_, function)| function.name == name).map(form).collect();
    if !forms.is_empty() {
        return Some(format!("it is called as {}", forms.join(" or ")));
    }
    nearest(name, known().map(|(_, function)| function.name)).map(|near| format!("did you mean `{near}`?"))
}

fn register_assertions(engine: &mut Engine) {
    let say = |context: &NativeCallContext, holds: bool, text: &str| {
        if holds { Ok(()) } else { unmet(context, Unmet { message: text.to_owned(), expected: None, actual: None }) }
    };
    engine.register_fn("assert", move |context: NativeCallContext, holds: bool| say(&context, holds, "this is not so"));
    engine.register_fn("assert", move |context: NativeCallContext, holds: bool, text: &str| say(&context, holds, text));
    let compare = |context: &NativeCallContext, actual: &Dynamic, expected: &Dynamic, wanted: bool| {
        let (actual, expected) = (plain(context, actual)?, plain(context, expected)?);
        if same(&actual, &expected) == wanted {
            return Ok(());
        }
        let message = if wanted { "these differ" } else { "these are the same" };
        let expected = Some(expected.to_json().to_string()).filter(|_| wanted);
        unmet(context, Unmet { message: message.to_owned(), expected, actual: Some(actual.to_json().to_string()) })
    };
    engine.register_fn("assert_eq", move |context: NativeCallContext, actual: Dynamic, expected: Dynamic| -> Outcome<()> {
        compare(&context, &actual, &expected, true)
    });
    engine.register_fn("assert_ne", move |context: NativeCallContext, actual: Dynamic, other: Dynamic| -> Outcome<()> {
        compare(&context, &actual, &other, false)
    });
}

/// Are two values the same? A whole number may be written for the other kind.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Float(a), Value::Float(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && same(a, b))
        }
        _ => one == other,
    }
}

fn register_worlds(engine: &mut Engine, builder: Builder, deadline: &Deadline) {
    engine.register_type_with_name::<WorldView>(WORLD.name);
    engine.register_fn("world", move |context: NativeCallContext, description: Dynamic| -> Outcome<WorldView> {
        let description = plain(&context, &description)?;
        match builder(&description) {
            Ok(stage) => Ok(WorldView { stage, plane: 0 }),
            Err(why) => complain(&context, why),
        }
    });
    engine.register_fn("plane", |context: NativeCallContext, world: WorldView, name: &str| -> Outcome<WorldView> {
        let found = world.stage.borrow().plane(name);
        match found {
            Ok(plane) => Ok(WorldView { plane, ..world }),
            Err(why) => complain(&context, why),
        }
    });
    engine.register_fn("now", |world: WorldView| world.stage.borrow().now().0);
    let ends = deadline.clone();
    engine.register_fn("run", move |context: NativeCallContext, world: WorldView, span: i64| -> Outcome<()> {
        run(&context, &world, span, &ends, || Ok(false)).map(drop)
    });
    let ends = deadline.clone();
    engine.register_fn(
        "wait_for",
        move |context: NativeCallContext, world: WorldView, span: i64, condition: FnPtr| -> Outcome<bool> {
            run(&context, &world, span, &ends, || condition.call_within_context(&context, (world.clone(),)))
        },
    );
    for method in WORLD.methods.iter().filter(|method| !["plane", "now", "run", "wait_for"].contains(&method.name)) {
        let name = method.name;
        let ask = move |context: &NativeCallContext, world: &WorldView, arguments: &[Dynamic]| {
            let arguments: Vec<Value> = arguments.iter().map(|one| plain(context, one)).collect::<Outcome<_>>()?;
            let given = world.stage.borrow_mut().call(world.plane, name, &arguments);
            match given {
                Ok(value) => Ok(to_dynamic(&value)),
                Err(why) => complain(context, why),
            }
        };
        type One = Dynamic;
        match method.parameters.len() {
            0 => engine.register_fn(name, move |context: NativeCallContext, world: WorldView| -> Outcome<One> {
                ask(&context, &world, &[])
            }),
            1 => engine.register_fn(name, move |context: NativeCallContext, world: WorldView, a: One| -> Outcome<One> {
                ask(&context, &world, &[a])
            }),
            2 => {
                engine.register_fn(name, move |context: NativeCallContext, world: WorldView, a: One, b: One| -> Outcome<One> {
                    ask(&context, &world, &[a, b])
                })
            }
            _ => engine.register_fn(
                name,
                move |context: NativeCallContext, world: WorldView, a: One, b: One, c: One| -> Outcome<One> {
                    ask(&context, &world, &[a, b, c])
                },
            ),
        };
    }
}

/// Lets time pass until something is so, or for `span` ms at the most.
fn run(
    context: &NativeCallContext,
    world: &WorldView,
    span: i64,
    deadline: &Deadline,
    mut is_so: impl FnMut() -> Outcome<bool>,
) -> Outcome<bool> {
    let Ok(span) = u64::try_from(span) else { return complain(context, format!("time does not run backwards ({span} ms)")) };
    let end = world.stage.borrow().now() + Span(span);
    loop {
        if is_so()? {
            return Ok(true);
        }
        if is_over(deadline) {
            return Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into());
        }
        let stepped = world.stage.borrow_mut().step(end);
        match stepped {
            Ok(true) => {}
            Ok(false) => return is_so(),
            Err(why) => return complain(context, why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stage that counts, and on which the clock only goes by whole seconds.
    #[derive(Default)]
    struct Counting {
        now: i64,
        calls: Vec<String>,
    }

    impl Stage for Counting {
        fn call(&mut self, plane: usize, method: &str, arguments: &[Value]) -> Result<Value, String> {
            self.calls.push(format!("{plane} {method} {arguments:?}"));
            match method {
                "vm" => Ok(Value::Map([("cpu".to_owned(), Value::Float(0.5))].into())),
                "arm" => Err("it is armed".to_owned()),
                _ => Ok(Value::Unit),
            }
        }

        fn plane(&self, name: &str) -> Result<usize, String> {
            if name == "b" { Ok(1) } else { Err(format!("there is no plane `{name}`")) }
        }

        fn now(&self) -> Timestamp {
            Timestamp(self.now)
        }

        fn step(&mut self, until: Timestamp) -> Result<bool, String> {
            self.now = (self.now + 1_000).min(until.0);
            Ok(self.now < until.0)
        }
    }

    fn suite(text: &str) -> Result<Suite, Vec<Diagnostic>> {
        let builder: Builder = Rc::new(|_| Ok(Rc::new(RefCell::new(Counting::default()))));
        Suite::read("a_test.rhai", text, builder, Duration::from_millis(200))
    }

    /// What becomes of the only test.
    fn outcome(body: &str) -> Result<(), String> {
        let suite = suite(&format!("fn test_it() {{\n{body}\n}}")).map_err(|found| found[0].to_string())?;
        suite.run(&suite.tests()[0]).map_err(|failure| {
            let values = [("expected", &failure.expected), ("actual", &failure.actual)];
            let values = values.iter().filter_map(|(name, value)| Some(format!(" {name} {}", (*value).as_ref()?)));
            format!("{}{}", failure.error, values.collect::<String>())
        })
    }

    #[test]
    fn tests_are_found_in_the_order_of_the_file() {
        let suite = suite("fn helper(x) { x }\nfn test_b() { }\n\nfn test_a() { helper(1); }").unwrap();
        let found: Vec<(&str, u32)> = suite.tests().iter().map(|test| (&*test.name, test.line)).collect();
        assert_eq!(found, [("test_b", 2), ("test_a", 4)]);
    }

    #[test]
    fn time_passes_until_something_is_so() {
        let body = "let w = world(#{});\nw.run(seconds(3));\nassert_eq(w.now(), 3000);
            assert(w.wait_for(minutes(1), |w| w.now() >= 5000));\nassert_eq(w.now(), 5000);
            assert(!w.wait_for(seconds(2), |w| false));\nassert_eq(w.now(), 7000);
            assert_eq(w.vm(\"web\").cpu, 0.5);\nassert_eq(w.plane(\"b\").vm(\"web\"), #{ cpu: 0.5 });\nassert_eq([1, 2.0], [1.0, 2]);";
        assert_eq!(outcome(body), Ok(()));
    }

    #[test]
    fn what_fails_is_told_with_its_place() {
        let told = |body| outcome(body).unwrap_err();
        assert_eq!(told("assert_eq(1, 2);"), "a_test.rhai:2:1: error: these differ expected 2 actual 1");
        assert_eq!(told("assert_ne([], []);"), "a_test.rhai:2:1: error: these are the same actual []");
        assert_eq!(told("\nassert(false, \"so\");"), "a_test.rhai:3:1: error: so");
        assert_eq!(told("world(#{}).arm();"), "a_test.rhai:2:12: error: it is armed");
        assert_eq!(told("world(#{}).plane(\"c\");"), "a_test.rhai:2:12: error: there is no plane `c`");
        assert!(told("world(#{}).run(-1);").contains("backwards"));
        assert!(told("assert_eq(|x| x, 1);").contains("plain data"));
        assert!(told("wordl(#{});").contains("wordl"));
        for endless in ["loop { }", "let w = world(#{}); loop { w.run(minutes(1)); }", "world(#{}).run(days(1000000));"] {
            assert!(told(endless).contains("took longer than 0.2 s"), "{}", told(endless));
        }
        assert!(told("world(#{}).rnu(5);").contains("did you mean `run`?"));
        assert!(told("world(#{}).run(\"5m\");").contains("it is called as `world.run(span: span (ms))`"));
        assert!(told("let w = world(#{});\nw.wait_for(5, || w.now() > 5);").contains("let it take the world"));
        assert!(suite("fn test_it(x) { }").unwrap_err()[0].message.contains("takes parameters"));
        assert!(suite("fn test_it( { }").is_err());
        assert!(suite("fn test_it() { }\nassert(false);").unwrap_err()[0].to_string().starts_with("a_test.rhai:2:"));
        let outer = suite("const MOST = 5;\nfn test_it() { assert(MOST == 5); }").unwrap_err();
        assert!(outer[0].to_string().contains("make it a function"), "{}", outer[0]);
    }
}
