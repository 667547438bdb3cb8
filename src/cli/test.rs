//! `embot test`: do the policies do what their tests say? Needs no daemon.

use super::context::{Context, Output};
use super::failure::Failure;
use super::screen::{Screen, Tone};
use crate::config::Config;
use crate::error::{Severity, Style, count, render};
use crate::model::Span;
use crate::simulate::world::{Library, files};
use crate::testing::{Plan, Report, SUFFIX, TestReport, junit, run};
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
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
    jobs: Option<NonZeroUsize>,
    /// No test may take longer than this, by the clock on the wall.
    #[arg(long, value_name = "SPAN", default_value = "1m")]
    timeout: Span,
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
        let junit_file = self.junit.as_deref().map(create).transpose()?;
        let people = context.output == Output::Table;
        let plan = Plan {
            library: Arc::new(Library::read(&policies, &modules).map_err(Failure::wrong)?),
            scripts,
            whole: self.paths.is_empty(),
            filters: self.filter.clone(),
            jobs: self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from),
            patience: self.timeout.as_duration(),
            lines: self.coverage || self.all_lines || !people,
        };
        let report = run(&plan, |test| {
            if people {
                // Where the terminal is gone, the run goes on.
                context.print(&line(test, &context.screen)).ok();
            }
        });
        context.show(&report, |screen| summary(&report, &plan, &self, screen))?;
        if let Some((path, mut file)) = junit_file {
            let text = junit(&report).map_err(|error| Failure::wrong(format!("the results cannot be written: {error}")))?;
            file.write_all(text.as_bytes())
                .map_err(|error| Failure::wrong(format!("cannot write {}: {error}", path.display())))?;
        }
        match self.verdict(&report) {
            Ok(_) => Ok(()),
            Err(_) if report.tests.is_empty() && report.complaints.is_empty() => Err(Failure::Said(2)),
            Err(_) => Err(Failure::Said(1)),
        }
    }

    /// In a few words: that all is well, or what is not.
    fn verdict(&self, report: &Report) -> Result<&'static str, String> {
        let broken = report.complaints.iter().filter(|found| found.severity == Severity::Error).count();
        let missed: usize = report.coverage.iter().map(|one| one.missed.len()).sum();
        let mut wrong = Vec::new();
        if report.failed > 0 {
            wrong.push(format!("{} failed", report.failed));
        }
        if broken > 0 {
            wrong.push(format!("{} in scripts that cannot be run", count(broken, "error")));
        }
        if self.all_lines && missed > 0 {
            wrong.push(format!("{} never ran", count(missed, "line")));
        }
        if report.tests.is_empty() && broken == 0 {
            wrong.push("nothing has run (`embot test` runs all, and names them)".to_owned());
        }
        if wrong.is_empty() { Ok("all passed") } else { Err(wrong.join(", ")) }
    }

    /// Where policies and manifests are: where the configuration says, or where the named scripts are.
    fn folders(&self, context: &Context) -> Result<(PathBuf, PathBuf), Failure> {
        let path = context.config_path();
        let (mut policies, mut modules) = if context.config.is_some() || path.exists() {
            let config: Config = context.config()?;
            (config.policies, config.modules)
        } else {
            ("policies".into(), "embots".into())
        };
        if let Some(named) = self.paths.first() {
            let of =
                |path: &Path| if path.is_dir() { path.to_owned() } else { path.parent().unwrap_or(Path::new("")).join(".") };
            let folder = of(named);
            let same =
                |one: &Path, other: &Path| matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b);
            if let Some(other) = self.paths.iter().find(|path| !same(&of(path), &folder)) {
                let why = format!("{} and {} are in different folders", named.display(), other.display());
                return Err(Failure::wrong(why).with_hint("run the tests of one folder at a time"));
            }
            if !same(&folder, &policies) {
                modules = folder.join("..").join("embots");
                policies = folder;
            }
        } else if !policies.is_dir() {
            let hint = "go to the plane's folder, or name its configuration with `--config`";
            return Err(Failure::wrong(format!("there is no folder {}", policies.display())).with_hint(hint));
        }
        if let Some(folder) = &self.modules {
            if !folder.is_dir() {
                return Err(Failure::wrong(format!("{} is no folder", folder.display())));
            }
            modules = folder.clone();
        }
        Ok((policies, modules))
    }
}

/// A file to be written, before the work that it is for.
fn create(path: &Path) -> Result<(&Path, File), Failure> {
    let file = File::create(path).map_err(|error| Failure::wrong(format!("cannot write {}: {error}", path.display())))?;
    Ok((path, file))
}

fn read_scripts(path: &Path, scripts: &mut Vec<(String, String)>) -> Result<(), Failure> {
    if path.is_file() && !path.to_string_lossy().ends_with(SUFFIX) {
        let hint = format!("the names of test scripts end in `{SUFFIX}`");
        return Err(Failure::wrong(format!("{} is no test script", path.display())).with_hint(hint));
    }
    let found = if path.is_dir() { files(path, SUFFIX).map_err(Failure::wrong)? } else { vec![path.to_owned()] };
    for path in found {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::wrong(format!("cannot read {}: {error}", path.display())))?;
        scripts.push((path.display().to_string(), text));
    }
    Ok(())
}

/// One test, as it ends.
fn line(test: &TestReport, screen: &Screen) -> String {
    let (word, tone) = if test.failure.is_none() { ("ok    ", Tone::Good) } else { ("FAILED", Tone::Bad) };
    format!("{} {}::{} ({:.0} ms)\n", screen.paint(tone, word), test.file, test.name, test.seconds * 1e3)
}

/// What failed and why, how much ran, and how many passed.
fn summary(report: &Report, plan: &Plan, wanted: &Test, screen: &Screen) -> String {
    let style = if screen.color { Style::Colour } else { Style::Plain };
    let source = |file: &str| plan.scripts.iter().find(|(script, _)| script == file).map(|(_, text)| text.as_str());
    let mut text = String::new();
    for found in &report.complaints {
        text += &format!("\n{}\n", render(found, source(&found.file), style));
    }
    for test in &report.tests {
        let Some(failure) = &test.failure else { continue };
        text += &format!("\n{}\n", screen.paint(Tone::Strong, &format!("{}::{}", test.file, test.name)));
        text += &failure_text(failure, &test.printed, &test.told, source(&failure.error.file), screen);
    }
    if wanted.coverage || wanted.all_lines {
        text += "\n";
        for one in &report.coverage {
            let share = if one.lines == 0 { 100.0 } else { 100.0 * one.covered as f64 / one.lines as f64 };
            let missed = if one.missed.is_empty() { String::new() } else { format!("; never ran: {}", one.ranges()) };
            text += &format!("{:>5.1} % of {} ({} of {} lines{missed})\n", share, one.policy, one.covered, one.lines);
        }
    }
    let left_out = if report.left_out > 0 { format!(", {} left out", report.left_out) } else { String::new() };
    let verdict = match wanted.verdict(report) {
        Ok(well) => screen.paint(Tone::Good, well),
        Err(wrong) => screen.paint(Tone::Bad, &wrong),
    };
    let ran = count(report.tests.len(), "test");
    format!("{text}\n{ran}{left_out}: {verdict} ({:.1} s)\n", report.seconds)
}

/// Why something failed: the place, what was expected and what was, what was printed, and what had happened.
pub(super) fn failure_text(
    failure: &crate::policy::suite::Failure,
    printed: &[String],
    told: &[String],
    source: Option<&str>,
    screen: &Screen,
) -> String {
    let style = if screen.color { Style::Colour } else { Style::Plain };
    let mut text = format!("{}\n", render(&failure.error, source, style));
    for (name, value) in [("expected", &failure.expected), ("actual", &failure.actual)] {
        if let Some(value) = value {
            text += &format!("  {name:>8}: {value}\n");
        }
    }
    for (heading, lines) in [("it printed", printed), ("what happened last, by the time of the world", told)] {
        if !lines.is_empty() {
            text += &format!("  {heading}:\n");
            text += &lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::Out;
    use crate::cli::screen::plain;
    use clap::Parser;
    use std::sync::Mutex;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        test: Test,
    }

    const POLICY: &str = "fn on_crashed(vm) {\n    vm.start(\"it crashed\");\n}\n";
    const TESTS: &str = "fn it() {
    let w = world(#{ hosts: [#{ name: \"a\" }], guests: [#{ name: \"web\" }] });
    w.deploy(\"again\", #{ mode: \"act\" });
    w
}
fn test_crash() {
    let w = it();
    w.fault(#{ fault: \"guest_crashes\", guest: \"web\" });
    assert(w.wait_for(minutes(1), |w| w.actions(\"start\").len() == 1));
}
fn test_calm() { assert_eq(it().actions(), []); }
";

    /// A folder with one module, its policy and tests, and a policy that no test deploys.
    fn site() -> tempfile::TempDir {
        let site = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "embots/again.yaml",
                "module: again\nversion: '1'\npolicies: [again.rhai]\ncovers: { each: vm }\npermits: [start]\n",
            ),
            ("embots/.again.yaml.swp.yaml", "module: ["),
            ("policies/again.rhai", POLICY),
            ("policies/idle.rhai", POLICY),
            ("policies/again_test.rhai", TESTS),
        ] {
            let path = site.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        site
    }

    /// The exit code of a run, and what people see of it. Words that begin with `@` are paths below the site.
    fn outcome(site: &Path, words: &[&str], output: Output) -> (u8, String) {
        let words = words.iter().map(|word| match word.strip_prefix('@') {
            Some(path) => site.join(path).display().to_string(),
            None => (*word).to_owned(),
        });
        let line = Line::parse_from(std::iter::once("test".to_owned()).chain(words));
        let kept = Arc::new(Mutex::new(Vec::new()));
        let context = Context {
            socket: None,
            remote: Default::default(),
            config: None,
            output,
            screen: plain(100),
            out: Out::kept(&kept),
        };
        let (code, more) = match line.test.run(&context) {
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
        let broken = "fn test_it( {";
        for (words, code, said) in [
            (&["@policies"][..], 0, "2 tests: all passed"),
            (&["@policies/again_test.rhai", "--filter", "calm"], 0, "1 test, 1 left out: all passed"),
            (&["@policies", "--filter", "nobody"], 2, "nothing has run"),
            (&["@policies", "--filter", "crash", "--all-lines"], 0, "100.0 % of again.rhai"),
            (&["@policies", "--filter", "calm", "--all-lines"], 1, "1 line never ran"),
            (&["@policies/again.rhai"], 2, "is no test script"),
            (&["@nowhere"], 2, "cannot read"),
            (&["@policies", "--modules", "@nowhere"], 2, "is no folder"),
            (&["@policies", "--modules", "@policies"], 1, "there is no manifest of a module `again` in SITE/policies"),
            (&["@policies", "--junit", "@nowhere/x.xml"], 2, "cannot write"),
        ] {
            let (found, text) = outcome(site.path(), words, Output::Table);
            assert!(found == code && text.contains(said), "{words:?}: {found}\n{text}");
        }
        std::fs::write(site.path().join("policies/broken_test.rhai"), broken).unwrap();
        let (code, text) = outcome(site.path(), &["@policies"], Output::Table);
        assert!(code == 1 && text.contains("2 tests: 1 error in scripts that cannot be run"), "{code} {text}");
        let (code, text) = outcome(site.path(), &["@policies", "--junit", "@results.xml"], Output::Json);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &report["passed"], report["complaints"].as_array().unwrap().len()), (1, &serde_json::json!(2), 1));
        assert!(std::fs::read_to_string(site.path().join("results.xml")).unwrap().contains("errors=\"1\""));
    }

    #[test]
    fn neither_recursion_nor_a_loop_without_end_takes_the_other_tests_along() {
        let site = site();
        let wild =
            "fn deep(n) { 1 + deep(n + 1) }\nfn test_deep() { deep(0); }\nfn test_loop() { loop { } }\nfn test_calm() { }\n";
        std::fs::write(site.path().join("policies/wild_test.rhai"), wild).unwrap();
        let (code, text) = outcome(site.path(), &["@policies/wild_test.rhai", "--timeout", "2s"], Output::Table);
        assert!(code == 1 && text.contains("3 tests: 2 failed"), "{code}\n{text}");
        assert!(text.contains("longer than 2 s") && text.contains("call each other too deeply"), "{text}");
    }
}
