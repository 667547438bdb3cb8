//! What came of tests: for people, for scripts, and for machines that collect test results.

use crate::error::Diagnostic;
use crate::policy::suite::Failure;
use serde::Serialize;
use std::time::Duration;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The tests that ran, by file and line.
    pub tests: Vec<TestReport>,
    /// How many of them passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were left out by a filter.
    pub left_out: usize,
    /// Scripts that cannot be read, or hold no test.
    pub complaints: Vec<Diagnostic>,
    /// How much of each policy ran.
    pub coverage: Vec<Coverage>,
    /// How long it took.
    pub seconds: f64,
}

/// What came of one test.
#[derive(Debug, Clone, Serialize)]
pub struct TestReport {
    /// The script.
    pub file: String,
    /// The test's function.
    pub name: String,
    /// The line where it begins.
    pub line: u32,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed; absent where it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Where it failed: what happened last in its worlds, with the time since they began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
    /// What it printed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
}

/// How much of a policy ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The policy.
    pub policy: String,
    /// Lines that can run: those on which a statement begins.
    pub lines: usize,
    /// How many of them ran.
    pub covered: usize,
    /// Those that did not.
    pub missed: Vec<u32>,
}

impl Coverage {
    /// The missed lines, put together: `12-14, 20`.
    pub fn ranges(&self) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for line in &self.missed {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *line => *last = *line,
                _ => ranges.push((*line, *line)),
            }
        }
        let range = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        ranges.into_iter().map(range).collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    pub(super) fn new(
        tests: Vec<TestReport>,
        complaints: Vec<Diagnostic>,
        left_out: usize,
        coverage: Vec<Coverage>,
        took: Duration,
    ) -> Report {
        let failed = tests.iter().filter(|test| test.failure.is_some()).count();
        Report { passed: tests.len() - failed, failed, left_out, tests, complaints, coverage, seconds: took.as_secs_f64() }
    }
}

/// The report in the form of JUnit, which most machines that collect test results read.
pub fn junit(report: &Report) -> Result<String, quick_junit::SerializeError> {
    use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
    let mut written = quick_junit::Report::new("embot test");
    written.set_time(Duration::from_secs_f64(report.seconds));
    let mut files: Vec<&str> = report.tests.iter().map(|test| &*test.file).collect();
    files.dedup();
    for file in files {
        let mut suite = TestSuite::new(file);
        for test in report.tests.iter().filter(|test| test.file == file) {
            let status = match &test.failure {
                None => TestCaseStatus::success(),
                Some(failure) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    let values = [("expected", &failure.expected), ("actual", &failure.actual)];
                    let values = values.iter().filter_map(|(name, value)| Some(format!("{name}: {}\n", (*value).as_ref()?)));
                    let more: String = values.chain(test.told.iter().map(|line| format!("{line}\n"))).collect();
                    status.set_message(failure.error.to_string()).set_description(more);
                    status
                }
            };
            let mut case = TestCase::new(&*test.name, status);
            case.set_classname(file).set_time(Duration::from_secs_f64(test.seconds));
            case.extra.insert("line".into(), test.line.to_string().into());
            if !test.printed.is_empty() {
                case.set_system_out(test.printed.join("\n"));
            }
            suite.add_test_case(case);
        }
        written.add_test_suite(suite);
    }
    for found in &report.complaints {
        // A script that cannot be read has no tests, and must not look as if all were well.
        let mut suite = TestSuite::new(&*found.file);
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(found.to_string());
        suite.add_test_case(TestCase::new("the script", status));
        written.add_test_suite(suite);
    }
    written.to_string()
}
