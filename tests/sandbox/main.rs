//! Scripts that mean harm, or are merely wrong: each ends in a fault at its line, within its budget and in bounded memory,
//! keeps its state as it was, and leaves other policies alone.
//!
//! Nothing here measures time: the deadline is set far off, so that operations, units and sizes must end every script.

use embot::model::{ElementId, EmbotId, Event, EventBody, Timestamp, Value, World};
use embot::policy::{Bound, Engine, Fault, Limits, State, Step, StepInput};
use embot::usage::Usage;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what this thread holds, and the most it held.
struct Counting;

fn count(bytes: isize) {
    // At a thread's end its counters may be gone; what it frees then is of no interest.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting allocates nothing, since the counters are
// plain cells with constant initial values and no destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// More than the harmless need, and less than would be noticed.
const MEMORY_BOUND: isize = 96 * 1024 * 1024;

struct Plane {
    engine: Engine,
    embot: EmbotId,
    event: Event,
}

impl Plane {
    fn new(limits: Limits) -> Plane {
        let world = Rc::new(RefCell::new(World::new("home")));
        let engine = Engine::new(world, Rc::new(RefCell::new(Usage::default())), limits);
        let event = Event { seq: 1, at: Timestamp(5), element: ElementId::Plane, to: None, body: EventBody::Loaded };
        Plane { engine, embot: EmbotId { module: "m".into(), element: ElementId::Plane }, event }
    }

    fn bound(&self, text: &str) -> Bound {
        let policy = self.engine.compile_unchecked("evil.rhai", text).unwrap_or_else(|errors| panic!("{text}: {}", errors[0]));
        self.engine.bind(policy, &BTreeMap::new()).expect("no settings")
    }

    fn step(&self, bound: &Bound, state: &mut State) -> Result<Step, Fault> {
        self.engine.step(bound, state, StepInput { embot: &self.embot, event: &self.event, now: Timestamp(5) })
    }
}

fn unhurried() -> Limits {
    Limits { deadline: Duration::from_secs(600), ..Limits::default() }
}

/// Bodies of a handler, line 3 of which must be blamed, and a part of what must be said about it.
const FAULTS: &[(&str, &str, &str)] = &[
    ("loops", "loop { }", "operations"),
    ("loops in a condition", "while 1 < 2 { let x = 1; }", "operations"),
    ("loops over a range", "for i in 0..9000000000000000000 { let x = i; }", "operations"),
    ("recurses", "again(1);", "too deeply"),
    ("recurses through a closure", "let f = |g| g.call(g); f.call(f);", "too deeply"),
    ("doubles a text", "let s = \"x\"; loop { s += s; }", "text grows"),
    ("joins texts", "let s = \"xxxxxxxx\"; loop { s = s + s; }", "text grows"),
    ("interpolates texts", "let s = \"xxxxxxxx\"; loop { s = `${s}${s}`; }", "text grows"),
    ("pads a text", "let s = \"\"; s.pad(1000000000, 'x');", "too much work"),
    ("pads a text to the limit", "let s = \"\"; s.pad(70000, 'x');", "text grows"),
    ("pads a text with texts", "let s = \"\"; s.pad(70000, \"xyz\");", "text grows"),
    ("pads a list", "let l = []; l.pad(1000000000, 1);", "too much work"),
    ("pads a list to the limit", "let l = []; l.pad(2000, 1);", "list grows"),
    ("replaces by more", "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace(\"x\", t);", "text grows"),
    ("replaces characters by more", "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace('x', t);", "text grows"),
    ("replaces nothing by more", "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace(\"\", t);", "text grows"),
    ("splits", "let s = \"\"; s.pad(60000, ','); loop { let l = s.split(','); }", "list grows"),
    ("takes a text apart", "let s = \"\"; s.pad(60000, 'x'); s.to_chars();", "list grows"),
    ("goes through characters", "let s = \"\"; s.pad(60000, 'x'); loop { for c in s.chars() { break; } }", "too much work"),
    ("pushes", "let l = []; loop { l.push(1); }", "list grows"),
    ("pushes into a map", "let m = #{ l: [] }; loop { m.l.push(1); }", "list grows"),
    ("pushes into lists within lists", "let l = [[]]; loop { l[0].push([1, 2, 3]); }", "list grows"),
    ("nests lists", "let l = []; loop { l = [l]; }", "list grows"),
    ("nests maps", "let m = #{}; loop { m = #{ m: m }; }", "map grows"),
    ("joins lists", "let l = [1]; loop { l = l + l; }", "list grows"),
    ("adds lists", "let l = [1]; loop { l += l; }", "list grows"),
    ("appends lists", "let l = [1]; loop { l.append(l); }", "list grows"),
    ("splices lists", "let l = [1]; loop { l.splice(0, 0, l); }", "list grows"),
    ("multiplies by mapping", "let s = \"\"; s.pad(60000, 'x'); let l = []; l.pad(900, 1); l.map(|x| s + x);", "too much work"),
    ("fills a map", "let m = #{}; let i = 0; loop { m[i.to_string()] = i; i += 1; }", "operations"),
    ("mixes maps", "let m = #{}; let i = 0; loop { let n = #{}; n[`k${i}`] = 1; m.mixin(n); i += 1; }", ""),
    ("makes bytes", "let b = blob(1000000000);", "list grows"),
    ("grows bytes", "let b = blob(500); loop { b.append(b); }", "list grows"),
    ("searches", "let l = []; l.pad(1000, 1); loop { l.index_of(2); }", "too much work"),
    ("searches for texts", "let l = []; l.pad(1000, \"a\"); loop { l.index_of(\"b\"); }", "too much work"),
    ("looks for what is not there", "let l = []; l.pad(1000, 1); loop { l.contains(2); }", "too much work"),
    ("asks `in`", "let l = []; l.pad(1000, 1); loop { if 2 in l { } }", "too much work"),
    ("compares lists", "let l = []; l.pad(1000, 1); let k = l; loop { if l == k { } }", "too much work"),
    ("compares maps", "let m = #{ l: [] }; m.l.pad(900, 1); let k = m; loop { if m == k { } }", "too much work"),
    ("sorts", "let l = []; l.pad(1000, 1); loop { l.sort(); }", "too much work"),
    ("sorts by a closure that never ends", "let l = [1, 2, 3]; l.sort(|a, b| { loop { } });", "operations"),
    ("sorts by a closure that throws", "let l = [1, 2, 3]; l.sort(|a, b| { throw \"no order\"; });", "no order"),
    ("sorts by nonsense, for ever", "let l = []; l.pad(900, 1); loop { l.sort(|a, b| 1); }", "operations"),
    ("orders by a closure that never ends", "let l = [1, 2]; l.order_by(|a, b| { loop { } });", "operations"),
    ("removes doubles", "let l = []; l.pad(1000, 1); loop { let k = l; k.dedup(); }", "too much work"),
    ("removes doubles by a closure that never ends", "let l = [1, 1]; l.dedup(|a, b| { loop { } });", "operations"),
    ("filters", "let l = []; l.pad(1000, 1); loop { l.filter(|x| x > 1); }", "operations"),
    ("reduces", "let l = []; l.pad(1000, 1); loop { l.reduce(|sum, x| x, 0); }", "operations"),
    ("retains", "let l = []; l.pad(1000, 1); loop { let k = l; k.retain(|x| false); }", "operations"),
    ("prints a list for ever", "let l = []; l.pad(1000, 1); loop { print(l); }", "too much work"),
    ("makes texts of lists", "let l = []; l.pad(1000, 1); loop { let s = l.to_string(); }", "too much work"),
    ("makes JSON", "let m = #{ l: [] }; m.l.pad(900, 1); loop { m.to_json(); }", "too much work"),
    ("lists keys", "let m = #{}; for i in 0..900 { m[`k${i}`] = i; } loop { m.keys(); }", "too much work"),
    ("prints for ever", "loop { print(\"x\"); }", ""),
    ("catches and goes on", "loop { try { let s = \"\"; s.pad(70000, 'x'); } catch { } }", "text grows"),
    ("catches the stop", "try { loop { } } catch { loop { } }", "operations"),
    ("throws", "throw \"enough\";", "enough"),
    ("throws a map", "throw #{ code: 7 };", "code"),
    ("calls what is not there", "no_such_function(1);", "no function `no_such_function`"),
    ("calls a method that is not there", "plane.explode();", "no method `explode`"),
    ("reads a property that is not there", "plane.nam;", "no property `nam`"),
    ("reads a key that is not there", "let m = #{ a: 1 }; m.b;", "no key `b`"),
    ("sets a property of a view", "plane.name = \"mine\";", "cannot be set"),
    ("divides by zero", "let z = 0; 1 / z;", "division by zero"),
    ("sleeps by another name", "Fn(\"sleep\").call(1);", "cannot use `sleep`"),
    ("exits by another name", "Fn(\"exit\").call();", "cannot use `exit`"),
    ("evaluates by another name", "Fn(\"eval\").call(\"1\");", "cannot use `eval`"),
    ("maps by a name", "[1].map(\"sleep\");", "takes a function"),
    ("reads its own source", "Fn(\"get_fn_metadata_list\").call();", "cannot use `get_fn_metadata_list`"),
    ("proposes for ever", "loop { notify(\"x\"); }", "32 proposals"),
    ("proposes and catches", "loop { try { notify(\"x\"); } catch { } }", "32 proposals"),
    ("sets timers for ever", "for i in 0..10000 { after(5, `t${i}`); }", "16 timers"),
    ("cancels timers for ever", "loop { cancel_timer(\"t\"); }", "16 timers"),
    ("sends for ever", "loop { send(\"c\", 1); }", "32 messages"),
    ("sends a closure", "send(\"c\", #{ deep: [|| 1] });", "`content.deep[0]` is a function"),
    ("attaches a view", "after(5, \"t\", plane);", "`content` is a view"),
    ("waits a negative time", "after(-5, \"t\");", "cannot be negative"),
    ("proposes without a reason", "notify(\"\");", "needs a reason"),
    ("sends without a name", "send(\"\", 1);", "1 to 100 characters"),
];

/// The same, for what is found only when the handler is done: the assignment is to be blamed.
const BAD_STATES: &[(&str, &str, &str)] = &[
    ("keeps a closure", "this.f = |x| x;", "`this.f` is a function"),
    ("keeps a function", "this.list = [1, Fn(\"abs\")];", "`this.list[1]` is a function"),
    ("keeps a view", "this.seen = #{ plane: plane };", "`this.seen.plane` is a view"),
    ("keeps a range", "this.r = 0..5;", "`this.r` is a range"),
    ("keeps a tag", "let x = 5; x.tag = 3; this.x = x;", "`this.x` is a value with a tag"),
    ("nests its state", "let l = []; for i in 0..70 { l = [l]; } this.l = l;", "nested too deeply"),
    ("becomes no map", "this = 5;", ""),
];

/// Scripts that must not even compile, with the line to blame and a part of what must be said.
const REFUSED: &[(&str, u32, &str)] = &[
    ("fn on_loaded() {\n  eval(\"1\");\n}", 2, "cannot use `eval`"),
    ("fn on_loaded() {\n  sleep(1);\n}", 2, "cannot use `sleep`"),
    ("fn on_loaded() {\n  let t = timestamp();\n}", 2, "cannot use `timestamp`"),
    ("fn on_loaded() {\n  exit();\n}", 2, "cannot use `exit`"),
    ("import \"x\" as y;\nfn on_loaded() { }", 1, "cannot use `import`"),
    ("fn on_loaded() { }\nfn notify(text) { }", 2, "would hide"),
    ("fn now() { 5 }", 1, "would hide"),
    ("fn on_loaded() { }\n\nfn migrate(why) { }", 3, "would hide"),
    ("fn mean(span) { 1.0 }", 1, "would hide"),
    ("let vm = 5;\nfn on_loaded() { }", 1, "outside the functions"),
    ("const HOT = 5;\nfn on_loaded() { print(HOT); }", 2, "outside the functions"),
    ("fn on_loaded() { }\nprint(5);", 2, "would never run"),
    ("fn on_loaded() { }\nfn on_loaded() { }", 2, "twice"),
    ("fn on_loaded() { }\nfn on_loaded(plane) { }", 2, "two handlers"),
    ("fn on_loaded(plan) { }", 1, "given no `plan`"),
    ("fn on_loaded() {\n  print(plane.name);\n}", 2, "no variable `plane`"),
    ("fn settings() {\n  loop { }\n}", 2, "operations"),
    ("fn settings() {\n  #{ at: now() }\n}", 2, "`now` has no meaning"),
    ("fn settings() { 5 }", 1, "must give a map"),
    ("fn settings(x) { #{} }", 1, "takes no parameters"),
    ("fn settings() { #{ f: |x| x } }", 1, "`f` is a function"),
    ("fn on_loaded() {\n  if {\n}", 2, ""),
    ("fn on_loaded() {", 1, "is missing here"),
];

#[test]
fn every_misdeed_ends_in_a_fault_at_its_line_in_bounded_memory() {
    let plane = Plane::new(unhurried());
    let good = plane.bound("fn on_loaded() { this.n = this.get(\"n\", 0) + 1; }");
    let mut good_state = State::default();
    let (mut steps, mut wrong) = (0, Vec::new());
    for (name, body, said) in FAULTS.iter().chain(BAD_STATES) {
        let text = format!("fn again(n) {{ this.again(n); }}\nfn on_loaded(plane) {{ this.before = 2;\n{body}\n}}");
        let text = text.replace("again(1)", "this.again(1)");
        let bound = plane.bound(&text);
        let mut state = State::from_value(Value::Map([("before".to_owned(), Value::Int(1))].into()).into());
        let before = state.to_value();
        PEAK.set(LIVE.get());
        let held = LIVE.get();
        match plane.step(&bound, &mut state) {
            Ok(step) => wrong.push(format!("{name}: no fault but {step:?}")),
            Err(fault) => {
                let line = if body.contains("again") { 1 } else { 3 };
                if fault.error.line != line || !fault.error.message.contains(said) || fault.deadline {
                    wrong.push(format!("{name}: {} (wanted line {line}, `{said}`)", fault.error));
                }
            }
        }
        let peak = PEAK.get() - held;
        if peak > MEMORY_BOUND {
            wrong.push(format!("{name}: held {} MiB", peak / 1024 / 1024));
        }
        if LIVE.get() - held > 1024 * 1024 {
            wrong.push(format!("{name}: still holds {} bytes", LIVE.get() - held));
        }
        if state.to_value() != before {
            wrong.push(format!("{name}: state is {:?}", state.to_value()));
        }
        steps += 1;
        plane.step(&good, &mut good_state).expect("other policies go on");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(good_state.to_value(), Value::Map([("n".to_owned(), Value::Int(steps))].into()).into());
}

#[test]
fn what_can_never_work_does_not_compile() {
    let plane = Plane::new(unhurried());
    let mut wrong = Vec::new();
    for (text, line, said) in REFUSED {
        match plane.engine.compile("evil.rhai", text) {
            Ok(_) => wrong.push(format!("compiled: {text}")),
            Err(errors) => {
                let first = &errors[0];
                if first.line != *line || !first.message.contains(said) {
                    wrong.push(format!("{text}\n  -> {first} (wanted line {line}, `{said}`)"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_state_that_grows_is_refused_and_kept_as_it_was() {
    let plane = Plane::new(Limits { state_bytes: 1_000, ..unhurried() });
    let bound = plane.bound("fn on_loaded() {\n let list = this.get(\"list\", []); list.push(1.5); this.list = list; }");
    let mut state = State::default();
    let fault = loop {
        let before = state.to_value();
        if let Err(fault) = plane.step(&bound, &mut state) {
            assert_eq!(state.to_value(), before);
            break fault;
        }
    };
    assert!(fault.error.message.contains("the state has grown to"), "{}", fault.error);
    assert_eq!(fault.error.line, 1, "it is the handler's fault as a whole");
}

#[test]
fn the_clock_ends_what_nothing_else_does() {
    let plane = Plane::new(Limits { deadline: Duration::ZERO, ..Limits::default() });
    let bound = plane.bound("fn on_loaded() { this.n = 1; let l = [];\n l.pad(1000, 1); loop { let k = l; } }");
    let mut state = State::default();
    let fault = plane.step(&bound, &mut state).unwrap_err();
    assert!(fault.deadline && fault.error.line == 2, "{fault:?}");
    assert_eq!(state.to_value(), State::default().to_value());
}

#[test]
fn prints_are_cut_and_dropped() {
    let plane = Plane::new(unhurried());
    let bound = plane.bound("fn on_loaded() { let s = \"\"; s.pad(2000, 'é'); for i in 0..50 { print(s); } }");
    let logs = plane.step(&bound, &mut State::default()).unwrap().logs;
    assert_eq!(logs.len(), 32);
    assert!(logs.iter().all(|log| log.len() <= 1024), "{}", logs[0].len());
}
