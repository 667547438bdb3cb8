//! `embot test`: do the policies do what their tests say? Needs no daemon.

use super::context::{Context, Output};
use super::failure::Failure;
use super::screen::{Screen, Tone};
use crate::config::Config;
use crate::error::{Style, count, render};
use crate::testing::{Library, Plan, Report, SUFFIX, TestReport, junit, run};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Run the tests of policies (`*_test.rhai`) in simulated worlds, without a daemon.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot test                                   all tests beside the configuration's policies\n  embot test policies/restart-crashed_test.rhai\n  embot test --filter gives_up                 tests with this in their name\n  embot test --coverage                        and which lines of each policy never ran\n  embot test --junit results.xml               also as JUnit, for a CI machine\n\nExit codes: 0 all passed, 1 tests failed (or lines never ran, with --all-lines), 2 nothing could be run."
)]
pub struct Test {
    /// Test scripts, or folders of them; without any, the folder of policies that the configuration names.
    paths: Vec<PathBuf>,
    /// Only tests whose `file::name` holds this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// The folder with the manifests that tests deploy; without it, the one the configuration names, or `embots`.
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Show which lines of each policy never ran.
    #[arg(long)]
    coverage: bool,
    /// Fail if a line of a policy never ran.
    #[arg(long)]
    all_lines: bool,
    /// Also write the results to this file, as JUnit.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Tests that run at a time; without it, one for each processor.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

impl Test {
    /// Runs and shows.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let (policies, modules) = self.folders(context)?;
        let mut scripts = Vec::new();
        match self.paths.as_slice() {
            [] => read_scripts(&policies, &mut scripts)?,
            paths => paths.iter().try_for_each(|path| read_scripts(path, &mut scripts))?,
        }
        if scripts.is_empty() {
            let hint = format!("tests are functions `fn test_...()` in files that end in `{SUFFIX}`, beside the policies");
            return Err(Failure::wrong("there is no test to run").with_hint(hint));
        }
        let plan = Plan {
            library: Arc::new(library(&policies, &modules)?),
            scripts,
            filters: self.filter.clone(),
            jobs: self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        };
        let people = context.output == Output::Table;
        let report = run(&plan, |test| {
            if people {
                // Where the terminal is gone, the run goes on.
                context.print(&line(test, &context.screen)).ok();
            }
        });
        if let Some(path) = &self.junit {
            let text = junit(&report).map_err(|error| Failure::wrong(format!("the results cannot be written: {error}")))?;
            std::fs::File::create(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|error| Failure::wrong(format!("cannot write {}: {error}", path.display())))?;
        }
        let never_ran = report.coverage.iter().map(|one| one.missed.len()).sum::<usize>();
        context.show(&report, |screen| summary(&report, &plan, self.coverage || self.all_lines, screen))?;
        let broken = report.complaints.iter().any(|found| found.severity == crate::error::Severity::Error);
        if report.failed > 0 || broken || (self.all_lines && never_ran > 0) {
            return Err(Failure::Said(1));
        }
        if report.tests.is_empty() {
            return Err(Failure::wrong("no test has this in its name").with_hint("`embot test` runs all, and names them"));
        }
        Ok(())
    }

    /// Where policies and manifests are.
    fn folders(&self, context: &Context) -> Result<(PathBuf, PathBuf), Failure> {
        let path = context.config_path();
        let (policies, modules) = if context.config.is_some() || path.exists() {
            let config: Config = context.config()?;
            (config.policies, config.modules)
        } else {
            ("policies".into(), "embots".into())
        };
        Ok((policies, self.modules.clone().unwrap_or(modules)))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::wrong(format!("cannot read {}: {error}", path.display())))
}

/// The files of a folder with this ending, by name; none where there is no such folder.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, Failure> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let refused = |error| Failure::wrong(format!("cannot read {}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.is_file() && path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_scripts(path: &Path, scripts: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let found = if path.is_dir() { files(path, SUFFIX)? } else { vec![path.to_owned()] };
    for path in found {
        scripts.push((path.display().to_string(), read(&path)?));
    }
    Ok(())
}

/// What tests can deploy: all manifests and policies of these folders.
fn library(policies: &Path, modules: &Path) -> Result<Library, Failure> {
    let mut library = Library::default();
    for ending in [".yaml", ".yml"] {
        for path in files(modules, ending)? {
            library
                .add_manifest(&path.display().to_string(), &read(&path)?)
                .map_err(|found| Failure::complaints(vec![found]))?;
        }
    }
    for path in files(policies, ".rhai")?.into_iter().filter(|path| !path.to_string_lossy().ends_with(SUFFIX)) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        library.add_policy(&name, &read(&path)?);
    }
    Ok(library)
}

/// One test, as it ends.
fn line(test: &TestReport, screen: &Screen) -> String {
    let (word, tone) = if test.failure.is_none() { ("ok    ", Tone::Good) } else { ("FAILED", Tone::Bad) };
    format!("{} {}::{} ({:.0} ms)\n", screen.paint(tone, word), test.file, test.name, test.seconds * 1e3)
}

/// What failed and why, how much ran, and how many passed.
fn summary(report: &Report, plan: &Plan, with_lines: bool, screen: &Screen) -> String {
    let style = if screen.color { Style::Colour } else { Style::Plain };
    let source = |file: &str| plan.scripts.iter().find(|(script, _)| script == file).map(|(_, text)| text.as_str());
    let mut text = String::new();
    for found in &report.complaints {
        text += &format!("\n{}\n", render(found, source(&found.file), style));
    }
    for test in &report.tests {
        let Some(failure) = &test.failure else { continue };
        text += &format!("\n{}\n", screen.paint(Tone::Strong, &format!("{}::{}", test.file, test.name)));
        text += &format!("{}\n", render(&failure.error, source(&failure.error.file), style));
        for (name, value) in [("expected", &failure.expected), ("actual", &failure.actual)] {
            if let Some(value) = value {
                text += &format!("  {name:>8}: {value}\n");
            }
        }
        if !test.printed.is_empty() {
            text += "  it printed:\n";
            text += &test.printed.iter().map(|line| format!("    {line}\n")).collect::<String>();
        }
        if !test.told.is_empty() {
            text += "  what happened last, by the time of the world:\n";
            text += &test.told.iter().map(|line| format!("    {line}\n")).collect::<String>();
        }
    }
    if with_lines {
        text += "\n";
        for one in &report.coverage {
            let share = if one.lines == 0 { 100.0 } else { 100.0 * one.covered as f64 / one.lines as f64 };
            let missed = if one.missed.is_empty() { String::new() } else { format!("; never ran: {}", one.ranges()) };
            text += &format!("{:>5.1} % of {} ({} of {} lines{missed})\n", share, one.policy, one.covered, one.lines);
        }
    }
    let left_out = if report.left_out > 0 { format!(", {} left out", report.left_out) } else { String::new() };
    let verdict = match report.failed {
        0 => screen.paint(Tone::Good, "all passed"),
        failed => screen.paint(Tone::Bad, &format!("{failed} failed")),
    };
    let ran = count(report.tests.len(), "test");
    format!("{text}\n{ran}{left_out}: {verdict} ({:.1} s)\n", report.seconds)
}
