//! The engine: one for all policies of the plane, living in the thread that steps embots.

use super::check::{self, Facts};
use super::context::Context;
use super::coverage::Lines;
use super::error::{at, failed, stopped, unreadable};
use super::functions::{self, EventView, HostView, OfferView, PlaneView, VmView, bounded};
use super::limits::{Limits, Meter, Stop};
use super::runtime::{LEVELS, Runtime};
use super::script::{Compiled, Handler, Parameter, Policy, Read, assignment, read};
use super::state::{State, Unstorable, stored_bytes, to_dynamic, to_value};
use super::step::{Fault, Sheet, Step, StepInput};
use super::surface::REFUSED;
use super::witness::Witness;
use crate::clock::Stopwatch;
use crate::error::{Diagnostic, Severity, nearest};
use crate::model::{ElementId, EventBody, HostId, Span, Value, World};
use crate::plan::Guardrails;
use crate::plan::trial::{PlaneTrials, Trials};
use crate::usage::Usage;
use rhai::{Dynamic, FuncArgs, OptimizationLevel, Position, Scope};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A step that failed without a place runs again for no longer than this: within a loop that never ends, any round will do.
const WATCHED_OPERATIONS: u64 = 20_000;

/// Compiles policies and takes their steps. A script gets at nothing but what is registered here; see the
/// [module](super) for what is guaranteed.
pub struct Engine {
    pub(super) rhai: rhai::Engine,
    pub(super) context: Rc<Context>,
    scope: RefCell<Scope<'static>>,
    witness: OnceCell<Witness>,
    /// The lines that have run, where somebody wants to know.
    pub(super) lines_run: Option<Rc<RefCell<Lines>>>,
    /// The time that steps took since somebody asked.
    took: Cell<Duration>,
}

/// What is known of a policy's text.
#[derive(Debug)]
pub struct Inspection {
    /// What is wrong with it, errors and warnings, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// What it does.
    pub facts: Facts,
    /// The policy, where it is sound.
    pub policy: Option<Policy>,
}

/// A policy with the settings of one module: what an embot's steps are taken with.
#[derive(Debug, Clone)]
pub struct Bound {
    policy: Policy,
    /// The `settings` parameter; each step gets a copy, so that a script that changes it changes nothing.
    settings: Dynamic,
    /// The same, for everybody else.
    effective: BTreeMap<String, Value>,
}

impl Bound {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The settings in force: the module's, and the policy's defaults for the rest.
    pub fn settings(&self) -> &BTreeMap<String, Value> {
        &self.effective
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.context.limits).finish_non_exhaustive()
    }
}

/// A raw engine with the limits on sizes.
fn raw(limits: &Limits) -> rhai::Engine {
    let mut engine = rhai::Engine::new_raw();
    // Rhai's defaults differ between debug and release builds, so each is set. Operations are counted by the meter.
    engine
        .set_max_operations(0)
        .set_max_call_levels(limits.depth + LEVELS)
        .set_max_variables(limits.variables)
        .set_max_functions(200)
        .set_max_modules(0)
        .set_max_expr_depths(64, 64)
        .set_max_string_size(limits.string_bytes)
        .set_max_array_size(limits.array)
        .set_max_map_size(limits.map);
    engine
}

/// An engine in which policies can run.
pub(super) fn furnished(context: &Rc<Context>) -> rhai::Engine {
    let mut engine = raw(&context.limits);
    engine
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_fast_operators(true)
        // The check must see what was written; what is called is optimized afterwards.
        .set_optimization_level(OptimizationLevel::None);
    bounded::register(&mut engine, raw(&context.limits), context);
    for (word, _) in REFUSED {
        engine.disable_symbol(*word);
    }
    functions::register(&mut engine, context);
    let here = context.clone();
    engine.on_progress(move |_| here.meter.operation());
    engine
}

impl Engine {
    /// An engine whose scripts look at this world and this history.
    pub fn new(world: Rc<RefCell<World>>, usage: Rc<RefCell<Usage>>, limits: Limits) -> Engine {
        let meter = Meter::new(limits.clone());
        let trials = PlaneTrials::new(world.clone(), usage.clone(), Guardrails::default());
        let (sheet, trials) = (RefCell::new(Sheet::default()), RefCell::new(Rc::new(trials) as Rc<dyn Trials>));
        let context = Rc::new(Context { world, usage, limits, meter, sheet, trials });
        let rhai = furnished(&context);
        Engine {
            rhai,
            context,
            scope: RefCell::new(Scope::new()),
            witness: OnceCell::new(),
            lines_run: None,
            took: Cell::default(),
        }
    }

    /// Moves are tried in these trials from now on.
    pub fn set_trials(&self, trials: Rc<dyn Trials>) {
        *self.context.trials.borrow_mut() = trials;
    }

    #[cfg(test)]
    pub(super) fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// Reads and checks a policy. All errors that were found, or the policy with its warnings.
    pub fn compile(&self, file: &str, text: &str) -> Result<Policy, Vec<Diagnostic>> {
        let read = read(&self.rhai, file, text)?;
        let errors: Vec<Diagnostic> = read.found.iter().filter(|found| found.severity == Severity::Error).cloned().collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        self.compiled(file, read)
    }

    /// The same without heeding the check, whose complaints are the policy's warnings. What the check would refuse must do no
    /// harm when it runs all the same; this is how that is tested.
    pub fn compile_unchecked(&self, file: &str, text: &str) -> Result<Policy, Vec<Diagnostic>> {
        self.compiled(file, read(&self.rhai, file, text)?)
    }

    fn compiled(&self, file: &str, read: Read) -> Result<Policy, Vec<Diagnostic>> {
        let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
        let mut compiled = Compiled {
            name: Arc::from(stem),
            file: Arc::from(file),
            ast: read.ast,
            handlers: read.handlers,
            settings: read.settings,
            defaults: BTreeMap::new(),
            warnings: read.found,
            verbs: read.verbs,
            docs: read.docs,
            runtime: RefCell::new(None),
        };
        // Making it takes longer than a step may.
        self.witness();
        compiled.defaults = self.defaults(&compiled).map_err(|error| vec![error])?;
        Ok(Policy(Rc::new(compiled)))
    }

    /// All that can be told of a policy without running it, whether it is sound or not.
    pub fn inspect(&self, file: &str, text: &str) -> Inspection {
        let (mut diagnostics, facts) = match self.rhai.compile(text) {
            Ok(ast) => check::inspect(&ast, file, text),
            Err(error) => (vec![unreadable(file, text, &error)], Facts::default()),
        };
        let mut policy = None;
        if diagnostics.iter().all(|found| found.severity != Severity::Error) {
            match self.compile(file, text) {
                Ok(sound) => policy = Some(sound),
                // Its settings cannot be computed.
                Err(errors) => diagnostics.extend(errors.into_iter().map(|error| match error.hint {
                    Some(_) => error,
                    None => error.with_hint("settings are computed once, when the policy is loaded; give them plain defaults"),
                })),
            }
        }
        Inspection { diagnostics, facts, policy }
    }

    /// What `fn settings()` gives.
    fn defaults(&self, policy: &Compiled) -> Result<BTreeMap<String, Value>, Diagnostic> {
        let Some(settings) = &policy.settings else { return Ok(BTreeMap::new()) };
        self.context.meter.reset();
        self.context.sheet.borrow_mut().begin(&policy.file, None);
        let located = |fault| self.located(fault, policy, settings, &State::default(), Args::default).error;
        let given = self.call(policy, settings, None, Args::default()).map_err(located)?;
        let whole = |message: String| {
            settings
                .located(at(&policy.file, Position::NONE, message))
                .with_hint("write `fn settings() { #{ hot: 0.85, wait: minutes(2) } }`")
        };
        match to_value(&given) {
            Ok(Value::Map(defaults)) => Ok(defaults),
            Ok(_) => Err(whole("`fn settings()` must give a map of the settings and their defaults".to_owned())),
            Err(bad) => Err(whole(format!("the setting `{}` is {}", bad.path.trim_start_matches('.'), bad.what))),
        }
    }

    /// Gives a policy its settings: the defaults, and in their place what the module says. All complaints that there are,
    /// each in words for whoever wrote the manifest.
    pub fn bind(&self, policy: Policy, settings: &BTreeMap<String, Value>) -> Result<Bound, Vec<String>> {
        let mut merged = policy.defaults().clone();
        let mut complaints = Vec::new();
        for (name, value) in settings {
            let Some(default) = merged.get_mut(name) else {
                let near = nearest(name, policy.defaults().keys().map(String::as_str));
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                complaints.push(format!("`{}` has no setting `{name}`{hint}", policy.file()));
                continue;
            };
            match fitting(default, value) {
                Some(fitted) => *default = fitted,
                None => complaints.push(format!(
                    "the setting `{name}` of `{}` is {}, as its default; this is {}",
                    policy.file(),
                    kind(default),
                    kind(value)
                )),
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let settings = to_dynamic(&Value::Map(merged.clone()));
        Ok(Bound { policy, settings, effective: merged })
    }

    /// Takes one step. On a fault the state is as before it. A policy without a handler for this kind of event does nothing.
    pub fn step(&self, bound: &Bound, state: &mut State, input: StepInput) -> Result<Step, Fault> {
        let policy = &*bound.policy.0;
        let Some(Some(handler)) = policy.handlers.get(input.event.body.index()) else { return Ok(Step::default()) };
        let watch = Stopwatch::start();
        let stepped = self.run(handler, bound, state, input);
        self.took.set(self.took.get() + watch.elapsed());
        stepped
    }

    /// The time that steps took since this was last asked. Nothing may decide by it.
    pub fn take_time(&self) -> Duration {
        self.took.take()
    }

    fn run(&self, handler: &Handler, bound: &Bound, state: &mut State, input: StepInput) -> Result<Step, Fault> {
        let policy = &*bound.policy.0;
        self.context.meter.reset();
        self.context.sheet.borrow_mut().begin(&policy.file, Some(input));
        let args = self.args(handler, bound, &input);
        if let Err(fault) = self.call(policy, handler, handler.stateful.then_some(&mut state.live), args) {
            state.restore();
            return Err(self.located(fault, policy, handler, state, || self.args(handler, bound, &input)));
        }
        let changed = handler.stateful && state.is_changed();
        if changed && let Err(fault) = self.keep(policy, handler, state) {
            state.restore();
            return Err(fault);
        }
        Ok(self.result(changed))
    }

    /// The arguments a handler asked for, in its order.
    fn args(&self, handler: &Handler, bound: &Bound, input: &StepInput) -> Args {
        let element = &input.event.element;
        let one = |parameter: &Parameter| match parameter {
            Parameter::Event => Dynamic::from(EventView(Rc::new(input.event.clone()))),
            Parameter::Vm => {
                let known = element.vm().filter(|vm| self.context.world.borrow().vm(*vm).is_some());
                known.map_or(Dynamic::UNIT, |vm| Dynamic::from(VmView(vm)))
            }
            Parameter::Host => self.host_of(element).map_or(Dynamic::UNIT, |host| Dynamic::from(HostView(host))),
            Parameter::Plane => Dynamic::from(PlaneView),
            Parameter::Settings => bound.settings.clone(),
            Parameter::Offer => match &input.event.body {
                EventBody::MigrationOffer(offer) => Dynamic::from(OfferView(offer.clone())),
                _ => Dynamic::UNIT,
            },
        };
        let mut args = Args::default();
        for (slot, parameter) in args.values.iter_mut().zip(&handler.parameters) {
            *slot = one(parameter);
            args.count += 1;
        }
        args
    }

    /// The host an element is, or whose guest it is or belongs to.
    fn host_of(&self, element: &ElementId) -> Option<HostId> {
        let world = self.context.world.borrow();
        let host = match element {
            ElementId::Host(host) => host,
            other => &world.vm(other.vm()?)?.host,
        };
        world.host(host).map(|host| host.id.clone())
    }

    /// Calls a function of the script, and turns all ways in which that may end into two.
    fn call(&self, policy: &Compiled, handler: &Handler, this: Option<&mut Dynamic>, args: Args) -> Result<Dynamic, Fault> {
        let mut scope = self.scope.borrow_mut();
        let mut kept = policy.runtime.borrow_mut();
        let runtime = kept.get_or_insert_with(|| Box::new(Runtime::new(&self.rhai, policy)));
        // A panic in a native function unwinds through the engine. It holds no locks then, and what the step gathered is
        // dropped, so nothing half-done is left behind.
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.call(&self.rhai, &mut scope, &handler.name, this, args)));
        scope.clear();
        if !matches!(outcome, Ok(Ok(_))) {
            *kept = None;
        }
        // A stop counts even where the error that told of it was swallowed.
        let meter = &self.context.meter;
        match (outcome, meter.stopped()) {
            (Ok(Ok(result)), None) => Ok(result),
            (_, Some(why)) => {
                let error = stopped(&policy.file, meter.stopped_at(), why, &self.context.limits);
                Err(Fault { error, deadline: why == Stop::Deadline })
            }
            (Ok(Err(error)), None) => Err(Fault { error: failed(&policy.file, &error), deadline: false }),
            (Err(_), None) => {
                let error = at(&policy.file, Position::NONE, "a function of the policy engine failed; the state is as before");
                let error = error.with_hint("this is a fault of the program, not of the policy: please report it");
                Err(Fault { error, deadline: false })
            }
        }
    }

    /// Gives a fault its place, where it has none yet. The errors of limits lose theirs on their way out of Rhai's functions;
    /// so the handler runs once more, watched. At worst the fault is at least that of the handler.
    fn located(&self, fault: Fault, policy: &Compiled, handler: &Handler, state: &State, args: impl FnOnce() -> Args) -> Fault {
        if fault.error.line > 0 {
            return fault;
        }
        let operations = self.context.meter.operations().min(WATCHED_OPERATIONS);
        self.context.sheet.borrow_mut().restart();
        self.context.meter.reset();
        self.context.meter.end_after(operations);
        let this = handler.stateful.then(|| state.live.clone());
        let place = self.witness().last_place(policy, handler, this, args());
        let error =
            Diagnostic { line: place.line().unwrap_or(0) as u32, column: place.position().unwrap_or(0) as u32, ..fault.error };
        Fault { error: handler.located(error), ..fault }
    }

    fn witness(&self) -> &Witness {
        self.witness.get_or_init(|| Witness::new(&self.context))
    }

    /// Keeps a changed state, where it can be kept.
    fn keep(&self, policy: &Compiled, handler: &Handler, state: &mut State) -> Result<(), Fault> {
        let limit = self.context.limits.state_bytes;
        let refuse = |path: &str, message: String, hint: &str| {
            let error = at(&policy.file, assignment(&policy.ast, path), message).with_hint(hint);
            Err(Fault { error: handler.located(error), deadline: false })
        };
        let unstorable = |bad: Unstorable| {
            refuse(
                &bad.path,
                format!("`this{}` is {}: it cannot be kept", bad.path, bad.what),
                "keep plain data: numbers, texts, lists and maps; of a guest its `id`, of a host its `name`",
            )
        };
        if !state.live.is_map() {
            return refuse("", "`this` must remain a map".to_owned(), "set its keys, as in `this.count = 1`");
        }
        match stored_bytes(&state.live) {
            Err(bad) => unstorable(bad),
            Ok(bytes) if bytes > limit => refuse(
                "",
                format!("the state has grown to {bytes} bytes, more than the {limit} it may have"),
                "forget what is old: `this.list.shift()`, `this.map.remove(key)`; usage history is kept for you (`vm.usage`)",
            ),
            Ok(_) => state.keep().or_else(unstorable),
        }
    }

    /// Empties the sheet into a result.
    fn result(&self, changed: bool) -> Step {
        let mut sheet = self.context.sheet.borrow_mut();
        let reads = if sheet.proposals.is_empty() { Vec::new() } else { sheet.reads() };
        Step {
            reads,
            proposals: std::mem::take(&mut sheet.proposals),
            timers: std::mem::take(&mut sheet.timers),
            messages: std::mem::take(&mut sheet.messages),
            logs: std::mem::take(&mut sheet.logs),
            verdict: sheet.verdict.take(),
            changed,
        }
    }
}

/// Arguments of a handler: at most one of each kind.
#[derive(Default)]
pub(super) struct Args {
    pub(super) values: [Dynamic; 6],
    /// How many of them there are.
    pub(super) count: usize,
}

impl FuncArgs for Args {
    fn parse<ARGS: Extend<Dynamic>>(self, args: &mut ARGS) {
        args.extend(self.values.into_iter().take(self.count));
    }
}

/// A setting's value in the type of its default, where it fits.
fn fitting(default: &Value, value: &Value) -> Option<Value> {
    match (default, value) {
        (Value::Float(_), Value::Int(i)) => Some(Value::Float(*i as f64)),
        (Value::Int(_), Value::Text(text)) => {
            let span: Span = text.parse().ok()?;
            i64::try_from(span.0).ok().map(Value::Int)
        }
        _ if std::mem::discriminant(default) == std::mem::discriminant(value) => Some(value.clone()),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Unit => "()",
        Value::Bool(_) => "true or false",
        Value::Int(_) => "a whole number or a length of time",
        Value::Float(_) => "a number",
        Value::Char(_) | Value::Text(_) => "a text",
        Value::Blob(_) => "bytes",
        Value::Array(_) => "a list",
        Value::Map(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, NOW, event, load, web};
    use super::*;
    use crate::model::{ActionKind, EmbotId, EventBody, Level, Reason};
    use crate::policy::TimerChange;

    #[test]
    fn a_step_proposes_with_reason_place_and_what_it_read() {
        let bench = Bench::new();
        let text = "fn settings() { #{ hot: 0.5 } }\n\
                    fn on_load(vm, host, settings) {\n\
                    \x20   if host.cpu > settings.hot && vm.cpu > 0.7 {\n\
                    \x20       vm.migrate(`${vm.name} uses ${percent(vm.cpu)}`);\n\
                    \x20   }\n\
                    }";
        let (step, _) = bench.load(text).unwrap();
        let [draft] = &step.proposals[..] else { panic!("{step:?}") };
        assert_eq!(draft.kind, ActionKind::Migrate { vm: web(), to: None, live: true });
        assert_eq!(&*draft.reason, "web uses 75 %");
        assert_eq!(draft.place.to_string(), "test.rhai:4:12");
        let reads: Vec<String> =
            step.reads.iter().map(|read| format!("{} {} {:?}", read.element, read.what, read.value)).collect();
        assert_eq!(reads, ["host:a cpu Float(0.75)", "vm:00000000-0000-0000-0000-000000000001 cpu Float(0.75)"], "each once");
    }

    #[test]
    fn a_step_that_proposes_nothing_reports_no_reads() {
        let (step, _) = Bench::new().load("fn on_load(vm) { if vm.cpu > 2.0 { vm.reset(\"?\"); } }").unwrap();
        assert_eq!(step, Step::default());
    }

    #[test]
    fn state_stays_from_step_to_step_and_is_kept_as_it_was_on_a_fault() {
        let bench = Bench::new();
        let text = "fn on_load(vm) { this.n = this.get(\"n\", 0) + 1; if this.n > 2 { throw \"three\"; } }";
        let bound = bench.bound(text).unwrap();
        let mut state = State::default();
        assert!(bench.step(&bound, &mut state, &load()).unwrap().changed);
        assert!(bench.step(&bound, &mut state, &load()).unwrap().changed);
        let before = state.to_value();
        let fault = bench.step(&bound, &mut state, &load()).unwrap_err();
        assert_eq!(fault.error.to_string(), "test.rhai:1:65: error: three");
        assert_eq!(state.to_value(), before);
    }

    #[test]
    fn a_state_written_the_same_is_not_changed() {
        let bench = Bench::new();
        let bound = bench.bound("fn on_load(vm) { this.last = 0.0 / 0.0; this.list = [1, 'c', \"x\"]; }").unwrap();
        let mut state = State::default();
        assert!(bench.step(&bound, &mut state, &load()).unwrap().changed);
        assert!(!bench.step(&bound, &mut state, &load()).unwrap().changed);
    }

    #[test]
    fn settings_are_merged_in_the_types_of_their_defaults() {
        let bench = Bench::new();
        let text = "fn settings() { #{ hot: 0.85, wait: minutes(2), tier: \"web\" } }\n\
                    fn on_load(settings) { print(`${settings.hot} ${settings.wait} ${settings.tier}`); }";
        let policy = bench.engine.compile("policies/test.rhai", text).unwrap();
        assert_eq!(&**policy.name(), "test");
        let given = [("hot".to_owned(), Value::Int(1)), ("wait".to_owned(), Value::Text("5m".into()))].into();
        let bound = bench.engine.bind(policy.clone(), &given).unwrap();
        let step = bench.step(&bound, &mut State::default(), &load()).unwrap();
        assert_eq!(step.logs, ["1.0 300000 web"]);
        let wrong = [("hott".to_owned(), Value::Int(1)), ("tier".to_owned(), Value::Bool(true))].into();
        assert_eq!(
            bench.engine.bind(policy, &wrong).unwrap_err(),
            [
                "`policies/test.rhai` has no setting `hott`; did you mean `hot`?",
                "the setting `tier` of `policies/test.rhai` is a text, as its default; this is true or false"
            ]
        );
    }

    #[test]
    fn timers_messages_and_notes_to_admins() {
        let text = "fn on_load(vm) {\n\
                    \x20 after(seconds(90), \"again\", #{ tries: 1 }); cancel_timer(\"old\");\n\
                    \x20 send(\"capacity\", [vm.name, 1.5]); notify(\"alarm\", \"fire\"); print(42); debug(\"x\");\n\
                    }";
        let (step, _) = Bench::new().load(text).unwrap();
        let content = Value::Map([("tries".to_owned(), Value::Int(1))].into());
        assert_eq!(
            step.timers,
            [
                TimerChange::Set { name: "again".into(), due: NOW + Span::seconds(90), content },
                TimerChange::Cancel { name: "old".into() }
            ]
        );
        assert_eq!(step.messages, [("capacity".into(), Value::Array(vec![Value::Text("web".into()), Value::Float(1.5)]))]);
        assert_eq!(step.proposals[0].kind, ActionKind::Notify { level: Level::Alarm, text: "fire".into() });
        assert_eq!(step.logs, ["42", "3: \"x\""]);
    }

    #[test]
    fn chance_is_the_same_for_the_same_embot_and_event() {
        let bench = Bench::new();
        let bound = bench.bound("fn on_load() { print(random()); print(random()); }").unwrap();
        let first = bench.step(&bound, &mut State::default(), &load()).unwrap().logs;
        assert_eq!(bench.step(&bound, &mut State::default(), &load()).unwrap().logs, first);
        assert_ne!(first[0], first[1]);
        let mut other = load();
        other.seq += 1;
        assert_ne!(bench.step(&bound, &mut State::default(), &other).unwrap().logs, first);
        // The generator and its seed are part of what a replay depends on.
        assert_eq!(first, ["0.624782964317843", "0.23306267586604268"]);
    }

    #[test]
    fn events_show_their_own_fields_and_no_others() {
        let bench = Bench::new();
        let bound = bench.bound("fn on_crashed(event) { print(event.reason); print(event.from); }").unwrap();
        let crashed = event(ElementId::Vm(web()), EventBody::Crashed(Reason::Watchdog));
        let fault = bench.step(&bound, &mut State::default(), &crashed).unwrap_err();
        assert_eq!(
            fault.error.to_string(),
            "test.rhai:1:57: error: an event `crashed` has no field `from`; it has at, kind, element, reason"
        );
    }

    #[test]
    fn views_reach_the_whole_plane() {
        let bench = Bench::new();
        let text = "fn on_load(vm, host, plane) {\n\
            print(vm.host == host); print(plane.hosts.len()); print(plane.vms.map(|v| v.name).contains(\"db\"));\n\
            print(plane.vm(\"db\").host.name); print(plane.host(\"c\")); print(vm.label(\"tier\") + vm.label(\"x\"));\n\
            print(vm.usage(\"cpu\").count(seconds(30))); print(format(vm.usage(\"cpu\").mean(seconds(30)), 3));\n\
            print(vm.disk > 0.0); print(host.busy); print(vm.state); print([vm, host]); print(vm);\n\
            print(plane.hosts.filter(|h| h.cpu < 0.5).len()); print(vm.disks[0]); print(vm.labels.tier);\n\
            }";
        let (step, _) = bench.load(text).unwrap();
        assert_eq!(
            step.logs,
            ["true", "2", "true", "a", "", "web", "30", "0.742", "false", "0", "running", "[web, a]", "web", "0", "vda", "web"]
        );
    }

    #[test]
    fn a_guest_that_is_gone_is_no_guest() {
        let bench = Bench::new();
        bench.world.borrow_mut().remove_vm(web());
        let bound =
            bench.bound("fn on_gone(vm, host, event) { print(vm == ()); print(host == ()); print(event.element); }").unwrap();
        let gone = event(ElementId::Vm(web()), EventBody::Gone);
        let step = bench.step(&bound, &mut State::default(), &gone).unwrap();
        assert_eq!(step.logs, ["true", "true", "vm:00000000-0000-0000-0000-000000000001"]);
    }

    #[test]
    fn a_panic_of_a_native_function_is_a_fault_and_no_more() {
        let mut bench = Bench::new();
        bench.engine.rhai.register_fn("explode", |_: &mut rhai::Array| -> i64 { panic!("a test's own panic") });
        let bound = bench.bound("fn on_load(vm) { this.n = 1; let l = [1]; l.explode(); }").unwrap();
        let mut state = State::default();
        let fault = bench.step(&bound, &mut state, &load()).unwrap_err();
        assert!(fault.error.message.contains("the state is as before"), "{}", fault.error);
        assert_eq!(state.to_value(), State::default().to_value());
        assert!(bench.load("fn on_load(vm) { vm.reset(\"still works\") }").is_ok());
    }

    #[test]
    fn a_policy_says_what_it_handles_may_propose_and_how_it_is_meant() {
        let bench = Bench::new();
        let text = "/// Restarts what died.\n/// Gently.\nfn on_crashed(vm) { vm.start(\"x\"); }\n\
                    fn helper(l) { l.for_each(|v| v.balloon(1, \"y\")); notify(\"z\"); }";
        let policy = bench.engine.compile("test.rhai", text).unwrap();
        assert!(policy.handles(&EventBody::Crashed(Reason::Crashed)) && !policy.handles(&EventBody::Load));
        let verbs: Vec<&str> = policy.verbs().iter().map(|verb| verb.name()).collect();
        assert_eq!(verbs, ["start", "balloon", "notify"]);
        assert_eq!(policy.docs(), [("on_crashed".to_owned(), "Restarts what died.\nGently.".to_owned())]);
    }

    #[test]
    fn embots_of_other_elements_get_what_there_is() {
        let bench = Bench::new();
        let bound = bench.bound("fn on_loaded(vm, host, plane) { print(vm); print(host); print(plane.name); }").unwrap();
        let embot = EmbotId { module: "m".into(), element: ElementId::Plane };
        let loaded = event(ElementId::Plane, EventBody::Loaded);
        let input = StepInput { embot: &embot, event: &loaded, now: NOW };
        assert_eq!(bench.engine.step(&bound, &mut State::default(), input).unwrap().logs, ["", "", "home"]);
        assert!(bench.usage.borrow().elements().count() == 1);
    }
}
