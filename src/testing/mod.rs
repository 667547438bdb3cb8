//! Policies tested like code: scripts `*_test.rhai` run against simulated worlds.
//!
//! ```text
//! fn test_...()  --calls-->  policy::suite  --Stage-->  World  -->  simulate: the daemon's manager, a simulated fleet
//!                                                         |
//!                            lines that ran  <------------+--> what happened, in words, where a test fails
//! ```
//! Each test runs alone: in an engine and in worlds of its own. So tests cannot disturb each other, and run on all processors
//! at once; the report is in the order of files and lines all the same.

mod report;

pub use crate::policy::suite::SUFFIX;
pub use report::{Coverage, Report, TestReport, junit};

use crate::error::Diagnostic;
use crate::model::World as Model;
use crate::policy::suite::{Builder, Failure, PREFIX, SharedStage, Suite, Test};
use crate::policy::{Engine, Limits, Lines};
use crate::simulate::world::{Library, World};
use crate::usage::Usage;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The stack of a thread that runs tests.
const STACK_BYTES: usize = 64 << 20;

/// So many lines of what happened are shown where a test fails.
const TOLD: usize = 20;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Test scripts: file and text.
    pub scripts: Vec<(String, String)>,
    /// What they can deploy.
    pub library: Arc<Library>,
    /// Are these all tests that there are?
    pub whole: bool,
    /// Only tests whose `file::name` holds one of these; all if empty.
    pub filters: Vec<String>,
    /// Tests that run at a time, at least one.
    pub jobs: usize,
    /// No test may take longer.
    pub patience: Duration,
    /// Is it wanted to know which lines run? That costs time.
    pub lines: bool,
}

/// One test to be run.
struct Job {
    script: usize,
    test: Test,
}

/// Runs tests, and tells `done` of each as it ends. Scripts that cannot be read are complaints in the report.
pub fn run(plan: &Plan, done: impl Fn(&TestReport) + Sync) -> Report {
    let started = Instant::now();
    let (mut jobs, mut complaints) = (Vec::new(), Vec::new());
    for (number, (file, text)) in plan.scripts.iter().enumerate() {
        // Worlds are built when tests run; now only the script is read.
        match Suite::read(file, text, Rc::new(|_| Err("no test runs yet".to_owned())), plan.patience) {
            Ok(suite) if suite.tests().is_empty() => {
                let found = Diagnostic::error(file, 0, 0, 1, "there is no test in it");
                complaints.push(found.with_hint(format!("a test is a function `fn {PREFIX}...()`")).as_warning());
            }
            Ok(suite) => jobs.extend(suite.tests().iter().map(|test| Job { script: number, test: test.clone() })),
            Err(found) => complaints.extend(found),
        }
    }
    let all = jobs.len();
    jobs.retain(|job| {
        let name = format!("{}::{}", plan.scripts[job.script].0, job.test.name);
        plan.filters.is_empty() || plan.filters.iter().any(|filter| name.contains(filter))
    });
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, (TestReport, Lines)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, jobs.len().max(1)) {
            let work = || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let (report, lines) = run_one(plan, job);
                    done(&report);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(number, (report, lines));
                }
            };
            // Scripts that call themselves without end meet their own limit long before that of the stack.
            let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            if let Err(error) = spawned {
                tracing::warn!("one processor less runs tests: {error}");
            }
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut tests, mut lines) = (Vec::new(), Lines::new());
    for (report, run) in results.into_values() {
        tests.push(report);
        for (file, run) in run {
            lines.entry(file).or_default().extend(run);
        }
    }
    // Of a part of the tests nothing follows for policies that these do not deploy.
    let is_wanted = |policy: &str| plan.filters.is_empty() && plan.whole || lines.contains_key(policy);
    complaints.extend(plan.library.complaints().iter().map(|found| found.clone().as_warning()));
    let coverage = if plan.lines { coverage(&plan.library, &lines, is_wanted, &mut complaints) } else { Vec::new() };
    Report::new(tests, complaints, all - jobs.len(), coverage, started.elapsed())
}

/// One test, in worlds of its own.
fn run_one(plan: &Plan, job: &Job) -> (TestReport, Lines) {
    let (file, text) = &plan.scripts[job.script];
    let started = Instant::now();
    let worlds: Rc<RefCell<Vec<Rc<RefCell<World>>>>> = Rc::default();
    let (library, built, lines) = (plan.library.clone(), worlds.clone(), plan.lines);
    let builder: Builder = Rc::new(move |description| {
        let world = Rc::new(RefCell::new(World::read(description, library.clone(), lines)?));
        built.borrow_mut().push(world.clone());
        let shared: SharedStage = world;
        Ok(shared)
    });
    let mut printed = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // It was read once before.
        let suite = Suite::read(file, text, builder, plan.patience).map_err(|found| first(found, file, &job.test))?;
        let outcome = suite.run(&job.test);
        printed = suite.printed();
        outcome
    }));
    let mut outcome = outcome.unwrap_or_else(|_| {
        let error = Diagnostic::error(file, job.test.line, 0, 1, "the program itself failed in this test");
        let error = error.with_hint("this is a fault of the program, not of the test: please report it");
        Err(Box::new(Failure { error, expected: None, actual: None }))
    });
    let mut lines = Lines::new();
    let mut told = Vec::new();
    for world in worlds.borrow().iter() {
        let mut world = world.borrow_mut();
        for (policy, run) in world.lines_run() {
            lines.entry(policy).or_default().extend(run);
        }
        for policy in world.deployed() {
            lines.entry(policy.clone()).or_default();
        }
        if let Some(fault) = world.unexpected_faults().into_iter().next() {
            match &mut outcome {
                Ok(()) => {
                    let error = Diagnostic::error(file, job.test.line, 0, 1, fault);
                    let error = error.with_hint("a test in which policies are to fail asks for `faults()`");
                    outcome = Err(Box::new(Failure { error, expected: None, actual: None }));
                }
                Err(failure) => failure.error.hint = Some(fault),
            }
        }
        if outcome.is_err() {
            told.extend(world.last_told(TOLD));
        }
    }
    let report = TestReport {
        file: file.clone(),
        name: job.test.name.clone(),
        line: job.test.line,
        seconds: started.elapsed().as_secs_f64(),
        failure: outcome.err().map(|failure| *failure),
        told,
        printed,
    };
    (report, lines)
}

fn first(found: Vec<Diagnostic>, file: &str, test: &Test) -> Box<Failure> {
    let first = found.into_iter().next();
    let error = first.unwrap_or_else(|| Diagnostic::error(file, test.line, 0, 1, "the script cannot be read"));
    Box::new(Failure { error, expected: None, actual: None })
}

/// How much of each policy ran.
fn coverage(
    library: &Library,
    run: &Lines,
    is_wanted: impl Fn(&str) -> bool,
    complaints: &mut Vec<Diagnostic>,
) -> Vec<Coverage> {
    let engine =
        Engine::new(Rc::new(RefCell::new(Model::new("test"))), Rc::new(RefCell::new(Usage::default())), Limits::default());
    let of = |(name, text): (&Arc<str>, &Arc<str>)| {
        let lines = match engine.compile(name, text) {
            Ok(policy) => policy.lines(),
            Err(found) => {
                complaints.extend(found);
                return None;
            }
        };
        let covered = run.get(name).map_or(0, |run| lines.intersection(run).count());
        let missed = lines.iter().filter(|line| !run.get(name).is_some_and(|run| run.contains(line))).copied().collect();
        Some(Coverage { policy: name.to_string(), lines: lines.len(), covered, missed })
    };
    library.policies().filter(|(name, _)| is_wanted(name)).filter_map(of).collect()
}
