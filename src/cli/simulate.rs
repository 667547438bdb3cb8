//! `embot simulate`: what would come of it? Needs no daemon.

mod sweep;

use super::context::Context;
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, Tone, percent};
use super::table::{Fit, table};
use super::test::failure_text;
use crate::config::Config;
use crate::embot::Manifest;
use crate::error::count;
use crate::model::{Span, Value};
use crate::simulate::cloudsim::Experiment;
use crate::simulate::cloudsim::native::Reference;
use crate::simulate::scenario::{self, Deployment, Outcome, Run, Scenario, Variant};
use crate::simulate::traces::Traces;
use crate::simulate::world::Library;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use sweep::Sweep;

/// Run scenarios in virtual time, without a daemon, and say what came of them.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot simulate scenarios/maintenance.yaml                     one scenario, as it is\n  embot simulate scenarios/*.yaml                               all of them; exit code 1 if an expectation is not met\n  embot simulate hot.yaml --module embots/relieve-hot-host.yaml --module embots/mine.yaml\n                                                                the same world under each module, side by side\n  embot simulate hot.yaml --sweep hot=0.7..0.95:0.05            one setting, several values; the best ones are marked\n  embot simulate hot.yaml --seed 8 --output json\n  embot simulate cloudsim-planetlab --trace 20110303            a day of the literature, under each of its policies\n  embot simulate cloudsim-planetlab-32gib --trace 20110303 --module lr-mmt --module consolidate\n\nBuilt in: cloudsim-planetlab, the model of 800 hosts that the literature compares policies in, and\ncloudsim-planetlab-32gib, where memory binds as well. Both need a day of recorded CPU use (--trace).\n\nModules act in simulations, unless the scenario gives them another mode.\n\nExit codes: 0 done, 1 an expectation was not met, 2 nothing could be run."
)]
pub struct Simulate {
    /// Scenarios: files, or the names of built-in ones.
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// In place of the scenario's modules: a manifest's file, or the name of a module. Given several times: a run for each.
    #[arg(long, value_name = "FILE")]
    module: Vec<String>,
    /// For built-in scenarios, the recorded CPU use of guests: a folder with a file for each, or one file.
    #[arg(long, value_name = "PATH")]
    trace: Option<PathBuf>,
    /// Another seed of all chance.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A run for each value of a setting: `hot=0.7..0.95:0.05`, or `hot=0.7,0.8`. Given several times: each with each.
    #[arg(long, value_name = "SETTING=VALUES")]
    sweep: Vec<Sweep>,
    /// Runs at a time; without it, one for each processor.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// No step or expectation of a scenario may take longer than this, by the clock on the wall.
    #[arg(long, value_name = "SPAN", default_value = "1m")]
    timeout: Span,
}

/// One scenario's text.
struct Text {
    file: String,
    text: String,
}

/// A scenario.
enum Case {
    File(Text),
    BuiltIn(Experiment, Arc<Traces>),
}

/// Where traces come from.
const NO_TRACE: &str = "give it with `--trace PATH`: a folder with a file for each guest, or one file with a line for each. The \
                        days of PlanetLab that the literature uses come with CloudSim (examples/workload/planetlab), and your own \
                        guests' use as CSV will do as well: a header `vm,second,cpu`, 288 samples five minutes apart";

/// What is shown.
#[derive(Serialize)]
struct Report {
    runs: Vec<Outcome>,
}

impl Simulate {
    /// Runs and shows.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let cases = self.cases()?;
        let (library, modules) = self.library(context)?;
        let library = Arc::new(library);
        let variants = self.variants(&modules, &library)?;
        let of_literature: Vec<Arc<str>> = Reference::MODULES.map(Arc::from).into();
        let comparing = if modules.is_empty() { self.variants(&of_literature, &library)? } else { variants.clone() };
        let variants = |case: &Case| if matches!(case, Case::File(_)) { &variants } else { &comparing };
        let jobs: Vec<(&Case, &Variant)> =
            cases.iter().flat_map(|case| variants(case).iter().map(move |variant| (case, variant))).collect();
        let runs = self.all(&jobs, &library)?;
        let unmet: usize = runs.iter().map(|run| run.unmet.len()).sum();
        let report = Report { runs };
        context.show(&report, |screen| shown(&report.runs, &cases, &self, screen))?;
        if unmet > 0 { Err(Failure::Said(1)) } else { Ok(()) }
    }

    /// The scenarios, each read or found built in.
    fn cases(&self) -> Result<Vec<Case>, Failure> {
        let built_in = |name: &String| Experiment::named(name);
        let traces = match (self.scenarios.iter().find_map(built_in), &self.trace) {
            (Some(_), Some(path)) => Some(Arc::new(Traces::read(path).map_err(|wrong| Failure::complaints(vec![wrong]))?)),
            (Some(experiment), None) => {
                let why = format!("{} needs a day of recorded CPU use", experiment.name);
                return Err(Failure::wrong(why).with_hint(NO_TRACE));
            }
            (None, Some(_)) => {
                let hint = "a scenario in a file has its guests' load under `fleet`; leave `--trace` out";
                return Err(Failure::wrong("`--trace` is for built-in scenarios, of which none is named").with_hint(hint));
            }
            (None, None) => None,
        };
        let patience = self.timeout.as_duration();
        let case = |name: &String| match (built_in(name), &traces) {
            (Some(experiment), Some(traces)) => Ok(Case::BuiltIn(experiment, traces.clone())),
            _ => {
                let text = read(name)?;
                Scenario::read(&text.file, &text.text, patience).map_err(Failure::complaints)?;
                Ok(Case::File(text))
            }
        };
        self.scenarios.iter().map(case).collect()
    }

    /// Runs all, several at a time; the answers are in the order of the jobs.
    fn all(&self, jobs: &[(&Case, &Variant)], library: &Arc<Library>) -> Result<Vec<Outcome>, Failure> {
        let patience = self.timeout.as_duration();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let progress = Mutex::new((Progress::new(), vec![0.0; jobs.len()]));
        let done: Mutex<Vec<Option<Result<Outcome, Failure>>>> = Mutex::new((0..jobs.len()).map(|_| None).collect());
        let tell = |number: usize, share: f64| {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.1[number] = share;
            let all = progress.1.iter().sum::<f64>() / jobs.len() as f64;
            let ended = progress.1.iter().filter(|share| **share >= 1.0).count();
            progress.0.say(&format!("{ended} of {} done, {}", count(jobs.len(), "run"), percent(all)));
        };
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((case, variant)) = jobs.get(number).filter(|_| !stop.load(Ordering::Relaxed)) else { return };
                let hear = |progress: scenario::Progress| {
                    tell(number, progress.passed.as_seconds() / progress.of.as_seconds());
                    if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let outcome = match case {
                    // What runs scripts stays within its thread, so each run reads its scenario anew.
                    Case::File(text) => {
                        let read = Scenario::read(&text.file, &text.text, patience).map_err(Failure::complaints);
                        read.and_then(|scenario| {
                            let run = Run::begin(&scenario, (*variant).clone(), library);
                            let ended = run.and_then(|run| run.finish(hear));
                            ended.map_err(|why| Failure::wrong(format!("{}: {why}", text.file)))
                        })
                    }
                    Case::BuiltIn(experiment, traces) => experiment
                        .run(traces, variant, library, hear)
                        .map_err(|why| Failure::wrong(format!("{}: {why}", experiment.name))),
                };
                if outcome.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                tell(number, 1.0);
                done.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(outcome);
            }
        };
        let threads = self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        std::thread::scope(|scope| {
            for _ in 1..threads.clamp(1, jobs.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (ended, failed): (Vec<_>, Vec<_>) = done.into_iter().flatten().partition(Result::is_ok);
        match failed.into_iter().find_map(Result::err) {
            Some(failure) => Err(failure),
            None => Ok(ended.into_iter().flatten().collect()),
        }
    }

    /// The modules that can be loaded, and the names of those that `--module` gives.
    fn library(&self, context: &Context) -> Result<(Library, Vec<Arc<str>>), Failure> {
        let (policies, modules) = match context.config.is_some() || context.config_path().exists() {
            true => {
                let config: Config = context.config()?;
                (config.policies, config.modules)
            }
            false => (PathBuf::from("policies"), PathBuf::from("embots")),
        };
        let own = Library::read(&policies, &modules).map_err(Failure::wrong)?;
        let mut named = Library::new("the files named");
        let mut names = Vec::new();
        for module in &self.module {
            let path = Path::new(module);
            if !path.exists() && !module.contains(['/', '.']) {
                names.push(module.as_str().into());
                continue;
            }
            let text =
                std::fs::read_to_string(path).map_err(|error| Failure::wrong(format!("cannot read {module}: {error}")))?;
            let (manifest, _) = Manifest::read(module, &text).map_err(Failure::complaints)?;
            named.add_manifest(module, &text);
            // Its policies stand where the daemon would look for them, or beside it.
            for policy in &manifest.policies {
                let beside = path.parent().unwrap_or(Path::new(""));
                let places = [beside.join("../policies").join(&**policy), beside.join(&**policy)];
                if let Some(text) = places.iter().find_map(|place| std::fs::read_to_string(place).ok()) {
                    named.add_policy(policy, &text);
                }
            }
            names.push(manifest.module.clone());
        }
        Ok((named.or(own).or(Library::shipped()), names))
    }

    fn variants(&self, modules: &[Arc<str>], library: &Library) -> Result<Vec<Variant>, Failure> {
        let deploy = |module: &Arc<str>| Deployment { module: module.clone(), plane: None, changes: act() };
        let mut variants: Vec<Variant> = match modules {
            [] => vec![Variant::default()],
            modules => modules.iter().map(|one| Variant { modules: Some(vec![deploy(one)]), ..Variant::default() }).collect(),
        };
        for sweep in &self.sweep {
            if let Some(module) = modules.iter().find(|module| !library.settings(module).contains(&sweep.setting)) {
                let known: Vec<String> = library.settings(module).into_iter().collect();
                let why = format!("module {module} has no setting `{}`", sweep.setting);
                return Err(Failure::wrong(why).with_hint(format!("it has: {}", known.join(", "))));
            }
            let each = |variant: &Variant| -> Vec<Variant> {
                let with = |value: &f64| {
                    let mut variant = variant.clone();
                    variant.settings.insert(sweep.setting.clone(), *value);
                    variant
                };
                sweep.values.iter().map(with).collect()
            };
            variants = variants.iter().flat_map(each).collect();
        }
        for variant in &mut variants {
            variant.seed = self.seed;
        }
        Ok(variants)
    }
}

fn act() -> Value {
    Value::Map([("mode".to_owned(), Value::Text("act".to_owned()))].into())
}

fn read(file: &str) -> Result<Text, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let names = Experiment::ALL.map(|experiment| experiment.name).join(" and ");
        let hint = format!("a scenario is a YAML file with `lasts` and `fleet`; {names} are built in");
        Failure::wrong(format!("cannot read the scenario {file}: {error}")).with_hint(hint)
    })?;
    Ok(Text { file: file.to_owned(), text })
}

/// The runs as a table, and below it what was not as expected.
fn shown(runs: &[Outcome], cases: &[Case], wanted: &Simulate, screen: &Screen) -> String {
    let settings: Vec<&str> = wanted.sweep.iter().map(|sweep| sweep.setting.as_str()).collect();
    let mut columns = vec![("SCENARIO", Fit::Cut), ("MODULE", Fit::Cut)];
    columns.extend(settings.iter().map(|setting| (*setting, Fit::Right)));
    let figures = ["kWh", "MIGRATIONS", "SLATAH %", "PDM %", "SHUTDOWNS", "DECISIONS", "REFUSED", "STEP us", "TIME s"];
    columns.extend(figures.map(|title| (title, Fit::Right)));
    let row = |run: &Outcome| {
        let mut row = vec![run.scenario.to_string(), run.module.clone()];
        row.extend(
            settings.iter().map(|setting| run.settings.get(*setting).map_or_else(String::new, |value| value.to_string())),
        );
        let figures = &run.figures;
        row.extend([
            format!("{:.3}", figures.energy_kwh),
            figures.migrations.to_string(),
            format!("{:.3}", figures.slatah * 100.0),
            format!("{:.4}", figures.pdm * 100.0),
            figures.host_shutdowns.to_string(),
            run.decisions.to_string(),
            run.refused.to_string(),
            format!("{:.1}", run.step_us),
            format!("{:.2}", run.wall_s),
        ]);
        row
    };
    let mut text = table(&columns, runs.iter().map(row).collect(), screen);
    for run in runs {
        for unmet in &run.unmet {
            let file = &unmet.failure.error.file;
            let source = cases.iter().find_map(|case| match case {
                Case::File(text) if text.file == **file => Some(text.text.as_str()),
                _ => None,
            });
            text += &format!("\n{}\n", screen.paint(Tone::Strong, &format!("{} ({})", run.scenario, run.module)));
            text += &failure_text(&unmet.failure, &[], &unmet.told, source, screen);
        }
    }
    let unmet: usize = runs.iter().map(|run| run.unmet.len()).sum();
    let verdict = match unmet {
        0 => screen.paint(Tone::Good, "all as expected"),
        _ => screen.paint(Tone::Bad, &format!("{} not met", count(unmet, "expectation"))),
    };
    format!("{text}\n{}: {verdict}\n", count(runs.len(), "run"))
}
