//! The scenarios beside this file: each is run as `embot simulate` runs it, and comes out as it expects; some twice, with
//! the same figures.

use embot::simulate::scenario::{Outcome, Run, Scenario, Variant};
use embot::simulate::world::Library;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One in so many is run twice.
const TWICE: usize = 4;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulate/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files
}

fn run(path: &Path) -> Outcome {
    let file = path.file_name().unwrap().to_string_lossy();
    let text = std::fs::read_to_string(path).unwrap();
    let scenario = Scenario::read(&file, &text, Duration::from_secs(600)).unwrap_or_else(|found| panic!("{found:?}"));
    let run = Run::begin(&scenario, Variant::default(), &Arc::new(Library::shipped()), None).unwrap();
    let mut outcome = run.finish(|_| ControlFlow::Continue(())).unwrap();
    // What depends on the machine.
    (outcome.step_us, outcome.wall_s, outcome.peak_rss_bytes) = (0.0, 0.0, 0);
    outcome
}

#[test]
fn scenarios_come_out_as_they_expect() {
    let files = scenarios();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(number) else { break };
            let outcome = run(path);
            for unmet in &outcome.unmet {
                wrong.push(format!("{} {:?}\n{}", unmet.failure.error, unmet.failure.actual, unmet.told.join("\n")));
            }
            if number.is_multiple_of(TWICE) && run(path) != outcome {
                wrong.push(format!("{}: the second run came out differently", path.display()));
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(!files.is_empty());
}
