//! `embot simulate`: what would come of it? Needs no daemon.

mod sweep;

use super::context::{Context, Output};
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, Tone, percent};
use super::table::{Fit, table};
use super::test::failure_text;
use crate::config::Config;
use crate::embot::Manifest;
use crate::error::{Diagnostic, count};
use crate::model::{Span, Value};
use crate::simulate::cloudsim::Experiment;
use crate::simulate::cloudsim::native::Reference;
use crate::simulate::report::html;
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
    after_help = "Examples:\n  embot simulate scenarios/maintenance.yaml                     one scenario, as it is\n  embot simulate scenarios/*.yaml                               all of them; exit code 1 if an expectation is not met\n  embot simulate hot.yaml --module embots/relieve-hot-host.yaml --module embots/mine.yaml\n                                                                the same world under each module, side by side\n  embot simulate hot.yaml --sweep hot=0.7..0.95:0.05            one setting, several values; the best ones are marked\n  embot simulate hot.yaml --seed 8 --output json\n  embot simulate planetlab --trace day/ --module relieve-hot-host --output html > report.html\n  embot simulate cloudsim-planetlab --trace day/                a day under each policy of the literature\n  embot simulate cloudsim-planetlab-32gib --trace day/ --module lr-mmt --module consolidate\n\nBuilt in, each for a day of recorded CPU use (--trace): planetlab, a data centre as it is; cloudsim-planetlab, to the bit the\nmodel that the literature compares policies in; cloudsim-planetlab-32gib, the same where memory binds.\n\nModules act in simulations, unless the scenario gives them another mode.\n\nExit codes: 0 done, 1 an expectation was not met, 2 nothing could be run."
)]
pub struct Simulate {
    /// Scenarios: files, or the names of built-in ones.
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Recorded CPU use that guests follow, where the scenario says that they do: a PlanetLab day (a folder or one file), or CSV
    /// (`vm,second,cpu`).
    #[arg(long, value_name = "PATH")]
    trace: Option<PathBuf>,
    /// In place of the scenario's modules: a manifest's file, or the name of a module. Given several times: a run for each.
    #[arg(long, value_name = "FILE")]
    module: Vec<String>,
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

/// One scenario's text, and what its guests follow.
struct Text {
    file: String,
    text: String,
    traces: Option<Traces>,
}

impl Text {
    /// Complaints about it; a built-in scenario's text is in no file.
    fn complaints(&self, found: Vec<Diagnostic>) -> Failure {
        Failure::Complaints(found.into_iter().map(|one| (one, Some(self.text.clone()))).collect())
    }
}

/// A scenario.
enum Case {
    Written(Text),
    Experiment(Experiment, Arc<Traces>),
}

/// What is shown.
#[derive(Serialize)]
struct Report {
    runs: Vec<Outcome>,
}

impl Simulate {
    /// Runs and shows.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let cases = self.scenarios.iter().map(|name| self.case(name)).collect::<Result<Vec<_>, _>>()?;
        let (library, modules) = self.library(context)?;
        let library = Arc::new(library);
        let variants = self.variants(&modules, &library)?;
        // An experiment has no modules of its own: it compares those of the literature.
        let compared = if modules.is_empty() { Reference::MODULES.map(Arc::from).into() } else { modules };
        let compared = self.variants(&compared, &library)?;
        let variants = |case: &Case| if matches!(case, Case::Written(_)) { &variants } else { &compared };
        let jobs: Vec<(&Case, &Variant)> =
            cases.iter().flat_map(|case| variants(case).iter().map(move |variant| (case, variant))).collect();
        let runs = self.all(&jobs, &library)?;
        let unmet: usize = runs.iter().map(|run| run.unmet.len()).sum();
        let report = Report { runs };
        match context.output {
            Output::Html => context.print(&html(&report.runs))?,
            _ => context.show(&report, |screen| shown(&report.runs, &cases, &self, screen))?,
        }
        if unmet > 0 { Err(Failure::Said(1)) } else { Ok(()) }
    }

    /// A scenario with the traces that it wants.
    fn case(&self, name: &str) -> Result<Case, Failure> {
        let traces = |path: &PathBuf| Traces::read(path).map_err(|found| Failure::complaints(vec![found]));
        if let Some(experiment) = Experiment::named(name) {
            let Some(path) = &self.trace else {
                let why = format!("{name} needs a day of recorded CPU use");
                return Err(Failure::wrong(why).with_hint(NO_TRACE));
            };
            return Ok(Case::Experiment(experiment, Arc::new(traces(path)?)));
        }
        let mut text = read(name)?;
        let patience = self.timeout.as_duration();
        let scenario = Scenario::read(&text.file, &text.text, patience).map_err(|found| text.complaints(found))?;
        if let Some(path) = self.trace.as_ref().or(scenario.traces()).filter(|_| scenario.wants_traces()) {
            text.traces = Some(traces(path)?);
        }
        Ok(Case::Written(text))
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
                    Case::Written(text) => {
                        let read = Scenario::read(&text.file, &text.text, patience).map_err(|found| text.complaints(found));
                        read.and_then(|scenario| {
                            let run = Run::begin(&scenario, (*variant).clone(), library, text.traces.as_ref());
                            let ended = run.and_then(|run| run.finish(hear));
                            ended.map_err(|why| Failure::wrong(format!("{}: {why}", text.file)))
                        })
                    }
                    Case::Experiment(experiment, traces) => {
                        let ended = experiment.run(traces, variant, library, hear);
                        ended.map_err(|why| Failure::wrong(format!("{}: {why}", experiment.name)))
                    }
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

/// Where traces come from.
const NO_TRACE: &str = "give it with `--trace PATH`: a folder with a file for each guest, or one file with a line for each. The \
                        days of PlanetLab that the literature uses come with CloudSim (examples/workload/planetlab); your own \
                        guests' use will do as well, as CSV with the header `vm,second,cpu` and 288 samples five minutes apart";

/// Scenarios that the program carries, by their names.
const BUILT_IN: [(&str, &str); 1] = [("planetlab", include_str!("simulate/planetlab.yaml"))];

fn read(file: &str) -> Result<Text, Failure> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == file) {
        return Ok(Text { file: format!("{name}.yaml"), text: (*text).to_owned(), traces: None });
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        let experiments = Experiment::ALL.iter().map(|experiment| experiment.name);
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).chain(experiments).collect();
        let hint = format!("a scenario is a YAML file with `lasts` and `fleet`, or a built-in one: {}", names.join(", "));
        Failure::wrong(format!("cannot read the scenario {file}: {error}")).with_hint(hint)
    })?;
    Ok(Text { file: file.to_owned(), text, traces: None })
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
                Case::Written(text) if text.file == **file => Some(text.text.as_str()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::Out;
    use crate::cli::screen::plain;
    use crate::error::Style;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        simulate: Simulate,
    }

    const WORLD: &str = "lasts: 10m
fleet:
  hosts:
    - { name: \"host-{n}\", count: 2, cpus: 8, power: hp-ml110-g5 }
  guests:
    - { name: \"web-{n}\", count: 4, vcpus: 4, on: [host-1], load: { cpu: 0.5 } }
modules: [relieve-hot-host]
expect:
  - result.migrations == 1
";

    /// A folder with scenarios.
    fn site() -> tempfile::TempDir {
        let site = tempfile::tempdir().unwrap();
        let traced = "lasts: 10m\nfleet: { hosts: [{ name: a }], guests: [{ name: \"g-{n}\" }] }\ntraces: { guests: [\"g-{n}\"] }\n\
                      expect:\n  - assert_eq(w.vm(\"g-2\").host, \"a\")\n";
        for (path, text) in [
            ("hot.yaml", WORLD.to_owned()),
            ("wrong.yaml", WORLD.replace("migrations == 1", "migrations == 7")),
            ("broken.yaml", WORLD.replace("lasts: 10m", "lasts: soon")),
            ("unknown.yaml", WORLD.replace("relieve-hot-host", "relief")),
            ("traced.yaml", traced.to_owned()),
            ("day.csv", "vm,second,cpu\nx,0,10\ny,0,20\nx,300,10\ny,300,20\n".to_owned()),
            ("bad.csv", "vm,second,cpu\nx,0,10\nx,300,many\n".to_owned()),
        ] {
            std::fs::write(site.path().join(path), text).unwrap();
        }
        site
    }

    /// The exit code of a run, and what people see of it. Words that begin with `@` are paths below the site.
    fn outcome(site: &Path, words: &[&str], output: Output) -> (u8, String) {
        let words = words.iter().map(|word| match word.strip_prefix('@') {
            Some(path) => site.join(path).display().to_string(),
            None => (*word).to_owned(),
        });
        let line = Line::parse_from(std::iter::once("simulate".to_owned()).chain(words));
        let kept = Arc::new(Mutex::new(Vec::new()));
        let context = Context {
            socket: None,
            remote: Default::default(),
            config: None,
            output,
            screen: plain(160),
            out: Out::kept(&kept),
        };
        let (code, more) = match line.simulate.run(&context) {
            Ok(()) => (0, String::new()),
            Err(Failure::Said(code)) => (code, String::new()),
            Err(failure) => (2, failure.text(Style::Plain)),
        };
        let text = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        (code, format!("{text}{more}").replace(&site.display().to_string(), "SITE"))
    }

    #[test]
    fn runs_end_with_what_is_true_of_them() {
        let site = site();
        for (words, code, said) in [
            (&["@hot.yaml"][..], 0, "1 run: all as expected"),
            (&["@hot.yaml", "@wrong.yaml"], 1, "2 runs: 1 expectation not met"),
            (&["@wrong.yaml"], 1, "this is not so: result.migrations == 7"),
            (&["@wrong.yaml"], 1, "what happened last"),
            (&["@broken.yaml"], 2, "`lasts` must be a length of time"),
            (&["@unknown.yaml"], 2, "there is no manifest of a module `relief`"),
            (&["@nowhere.yaml"], 2, "a scenario is a YAML file"),
            (&["@hot.yaml", "--module", "restart-crashed"], 1, "restart-crashed"),
            (&["@hot.yaml", "--module", "relieve-hot-host", "--sweep", "warm=1,2"], 2, "has no setting `warm`"),
            (&["@traced.yaml"], 2, "name a folder or a file of them (`--trace PATH`)"),
            (&["cloudsim-planetlab"], 2, "cloudsim-planetlab needs a day of recorded CPU use"),
            (
                &["cloudsim-planetlab", "--trace", "@day.csv", "--module", "dvfs"],
                2,
                "guest `x` has 2 samples; a day here has 288",
            ),
            (&["@traced.yaml", "--trace", "@day.csv"], 0, "all as expected"),
            (&["@traced.yaml", "--trace", "@bad.csv"], 2, "SITE/bad.csv:3"),
        ] {
            let (found, text) = outcome(site.path(), words, Output::Table);
            assert!(found == code && text.contains(said), "{words:?}: {found}\n{text}");
        }
    }

    #[test]
    fn a_sweep_compares_settings_and_seeds_are_kept() {
        let site = site();
        let words = ["@hot.yaml", "--module", "relieve-hot-host", "--sweep", "hot=0.5,1.5", "--seed", "9"];
        let (code, text) = outcome(site.path(), &words, Output::Json);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let runs = report["runs"].as_array().unwrap();
        assert_eq!((code, runs.len()), (1, 2), "nothing is hotter than 1: then nobody moves");
        assert_eq!((&runs[0]["settings"]["hot"], &runs[1]["settings"]["hot"]), (&0.5.into(), &1.5.into()));
        assert_eq!((&runs[0]["migrations"], &runs[1]["migrations"], &runs[0]["seed"]), (&1.into(), &0.into(), &9.into()));
        for key in [
            "scenario",
            "module",
            "energy_kwh",
            "slatah",
            "pdm",
            "slav",
            "esv",
            "overall_sla",
            "host_shutdowns",
            "mean_time_before_shutdown_s",
            "decisions",
            "refused",
            "wall_s",
            "peak_rss_bytes",
        ] {
            assert!(!runs[0][key].is_null(), "{key}");
        }
        assert!(runs[0]["energy_kwh"].as_f64().unwrap() > 0.01);
    }

    #[test]
    fn a_page_shows_all_runs_and_needs_nothing_else() {
        let site = site();
        let (code, page) = outcome(site.path(), &["@hot.yaml", "@wrong.yaml"], Output::Html);
        assert_eq!(code, 1);
        assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
        assert_eq!(
            (page.matches("<svg").count(), page.matches("<polyline").count()),
            (4, 8),
            "four plots, a curve for each run"
        );
        assert!(page.contains("wrong: relieve-hot-host, seed 0: not as expected"));
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
