//! The compatibility world gives the figures of CloudSim 3.0.3.
//!
//! The published days are not the project's to carry: `EMBOT_PLANETLAB` names the folder that holds them, each as one file
//! (`20110303.txt`, a line for each guest) or as published (a folder of that name). Without it, a made-up day is held against
//! what the same code gave when it met CloudSim's figures.

use embot::model::Value;
use embot::simulate::cloudsim::Experiment;
use embot::simulate::cloudsim::native::Reference;
use embot::simulate::figures::Figures;
use embot::simulate::scenario::{Deployment, Stopped, Variant};
use embot::simulate::traces::Traces;
use embot::simulate::world::Library;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use Known::{All, Nothing, Part};

/// What CloudSim gives.
const PUBLISHED: &[Row] = &[
    row("20110303", "NonPowerAware", None, "2410.80280", 0, All(["0.0000", "0.0000", "0.0000", "0.0000", "455", "2864.28"])),
    row("20110303", "Dvfs", None, "802.75449", 0, All(["0.0000", "0.0000", "0.0000", "0.0000", "455", "2864.28"])),
    row("20110303", "ThrMmt", None, "192.62307", 26711, All(["3.17578", "4.91328", "0.064637", "0.071001", "5885", "949.58"])),
    row("20110303", "IqrMmt", None, "189.98007", 26282, All(["3.00697", "4.82255", "0.062352", "0.070634", "5868", "951.92"])),
    row("20110303", "MadMmt", None, "185.79167", 26556, All(["3.34157", "5.04882", "0.066185", "0.078914", "5828", "966.75"])),
    row("20110303", "LrMmt", None, "163.47722", 27859, All(["4.64387", "5.85795", "0.079275", "0.147236", "5053", "1028.87"])),
    row("20110303", "LrrMmt", None, "163.47722", 27859, All(["4.64387", "5.85795", "0.079275", "0.147236", "5053", "1028.87"])),
    row("20110303", "ThrMu", None, "207.79430", 30653, All(["4.94359", "7.38235", "0.066965", "0.071207", "6523", "971.33"])),
    row("20110303", "LrMmt", GIB_32, "161.73904", 27891, Nothing),
    row("20110322", "Dvfs", None, "1011.14", 0, Nothing),
    row("20110322", "ThrMmt", None, "201.70", 28902, Nothing),
    row("20110322", "LrMmt", None, "177.48", 32038, Part(["6.13", "0.0758"])),
    row("20110322", "LrMmt", GIB_32, "177.26597", 36034, Nothing),
    row("20110411", "Dvfs", None, "888.42", 0, Nothing),
    row("20110411", "ThrMmt", None, "207.38", 29130, Nothing),
    row("20110411", "LrMmt", None, "176.12", 31960, Part(["6.13", "0.0798"])),
    row("20110411", "LrMmt", GIB_32, "176.11693", 31979, Nothing),
];

/// The memory of a host, where it binds.
const GIB_32: Option<f64> = Some(32_768.0);

struct Row {
    day: &'static str,
    policy: &'static str,
    memory_mb: Option<f64>,
    kwh: &'static str,
    migrations: u64,
    known: Known,
}

const fn row(
    day: &'static str,
    policy: &'static str,
    memory_mb: Option<f64>,
    kwh: &'static str,
    migrations: u64,
    known: Known,
) -> Row {
    Row { day, policy, memory_mb, kwh, migrations, known }
}

/// What else is known of a day.
enum Known {
    /// SLAV in 1e-5, SLATAH, PDM and overall SLA in percent, host shutdowns, mean seconds before one.
    All([&'static str; 6]),
    /// SLATAH and PDM in percent.
    Part([&'static str; 2]),
    Nothing,
}

/// Is a figure what was published, to the last digit that was, or at least within a tolerance?
fn differs(what: &str, found: f64, published: &str, tolerance: f64) -> Option<String> {
    let decimals = published.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let half_a_digit = 0.5 * 10_f64.powi(-(decimals as i32));
    let distance = (found - published.parse::<f64>().unwrap()).abs();
    (distance > tolerance.max(half_a_digit * 1.000_001)).then(|| format!("{what}: {found}, not {published}"))
}

fn differences(figures: &Figures, row: &Row) -> Vec<String> {
    let mut all = Vec::new();
    if figures.migrations != row.migrations {
        all.push(format!("migrations: {}, not {}", figures.migrations, row.migrations));
    }
    let mut compare = |what, found: f64, published: &str, tolerance| all.extend(differs(what, found, published, tolerance));
    compare("kWh", figures.energy_kwh, row.kwh, 1e-5);
    match &row.known {
        All([slav, slatah, pdm, overall, shutdowns, before_s]) => {
            let mut relative = |what, found: f64, published: &str| compare(what, found, published, 1e-5 * found);
            relative("SLAV", figures.slav * 1e5, slav);
            relative("SLATAH", figures.slatah * 100.0, slatah);
            relative("PDM", figures.pdm * 100.0, pdm);
            relative("overall SLA", figures.overall_sla * 100.0, overall);
            relative("time before shutdown", figures.mean_time_before_shutdown_s, before_s);
            compare("shutdowns", figures.host_shutdowns as f64, shutdowns, 0.0);
        }
        Part([slatah, pdm]) => {
            compare("SLATAH", figures.slatah * 100.0, slatah, 0.0);
            compare("PDM", figures.pdm * 100.0, pdm, 0.0);
        }
        Nothing => {}
    }
    all
}

fn find(folder: &Path, day: &str) -> Option<PathBuf> {
    [folder.join(format!("{day}.txt")), folder.join(day)].into_iter().find(|path| path.exists())
}

/// The module that stands for a policy of the literature.
fn module(policy: &str) -> Option<&'static str> {
    let reference = Reference::named(policy);
    Reference::MODULES.into_iter().find(|module| Reference::of_module(module) == reference && policy != "LrrMmt")
}

/// A day that a module decides, as `embot simulate` runs it.
fn by_script(module: &str, traces: &Arc<Traces>, memory_mb: Option<f64>) -> Figures {
    let name = if memory_mb.is_some() { "cloudsim-planetlab-32gib" } else { "cloudsim-planetlab" };
    let acts = Value::Map([("mode".to_owned(), Value::Text("act".to_owned()))].into());
    let deployment = Deployment { module: module.into(), plane: None, changes: acts };
    let variant = Variant { modules: Some(vec![deployment]), ..Variant::default() };
    let run = Experiment::named(name).unwrap().run(traces, &variant, &Library::shipped(), |_| ControlFlow::Continue(()));
    let outcome = run.unwrap();
    assert_eq!((outcome.refused, outcome.decisions), (0, outcome.figures.migrations), "{module}");
    outcome.figures
}

#[test]
fn published_days_give_the_figures_of_cloudsim() {
    let Some(folder) = std::env::var_os("EMBOT_PLANETLAB") else {
        let days: BTreeSet<_> = PUBLISHED.iter().map(|row| row.day).collect();
        return eprintln!("skipped: fidelity to CloudSim on {days:?}: EMBOT_PLANETLAB names no folder with these days");
    };
    let mut days = BTreeMap::new();
    for day in PUBLISHED.iter().map(|row| row.day).collect::<BTreeSet<_>>() {
        let Some(path) = find(Path::new(&folder), day) else {
            eprintln!("skipped: {day} is not in {}", folder.display());
            continue;
        };
        let traces = Traces::read(&path).unwrap_or_else(|complaint| panic!("{complaint}"));
        days.insert(day, Arc::new(traces));
    }
    assert!(!days.is_empty(), "none of the days is in {}", folder.display());
    let rows = Mutex::new(PUBLISHED.iter());
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some(row) = { rows.lock().unwrap().next() } {
            let Some(traces) = days.get(row.day) else { continue };
            let mut reference = Reference::named(row.policy).unwrap();
            reference.setup.memory_mb = row.memory_mb;
            let mut found = differences(&reference.run(traces).unwrap(), row);
            if let Some(module) = module(row.policy) {
                let by_script = differences(&by_script(module, traces, row.memory_mb), row);
                found.extend(by_script.iter().map(|one| format!("by the script: {one}")));
            }
            let called = format!("{} {} {:?}", row.day, row.policy, row.memory_mb);
            wrong.lock().unwrap().extend(found.iter().map(|one| format!("{called}: {one}")));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_made_up_day_gives_the_figures_it_gave() {
    let traces = Arc::new(Traces::made_up(60, 1));
    let mut said = String::new();
    for policy in ["NonPowerAware", "Dvfs", "ThrMmt", "IqrMmt", "MadMmt", "LrMmt", "ThrMu", "LrMu"] {
        let figures = Reference::named(policy).unwrap().run(&traces).unwrap();
        assert_eq!(figures.migrations > 0, !["NonPowerAware", "Dvfs"].contains(&policy), "{policy}");
        let Figures { energy_kwh, migrations, slatah, pdm, overall_sla, host_shutdowns, mean_time_before_shutdown_s, .. } =
            figures;
        said += &format!(
            "{policy}: {energy_kwh:.5} kWh, {migrations} migrations, SLATAH {slatah:.8}, PDM {pdm:.8}, overall {overall_sla:.8}, \
             {host_shutdowns} shutdowns after {mean_time_before_shutdown_s:.2} s\n"
        );
    }
    insta::assert_snapshot!(said);
}

#[test]
fn scripts_decide_as_the_same_policies_do_natively() {
    let traces = Arc::new(Traces::made_up(60, 1));
    for name in Reference::MODULES {
        for memory_mb in [None, GIB_32] {
            let mut reference = Reference::of_module(name).unwrap();
            reference.setup.memory_mb = memory_mb;
            let natively = reference.run(&traces).unwrap();
            assert_eq!(by_script(name, &traces, memory_mb), natively, "{name} {memory_mb:?}");
        }
    }
}

#[test]
fn our_own_policy_draws_less_and_moves_less_than_those_of_the_literature() {
    let traces = Arc::new(Traces::made_up(150, 2));
    let mut reference = Reference::of_module("lr-mmt").unwrap();
    reference.setup.memory_mb = GIB_32;
    let theirs = reference.run(&traces).unwrap();
    let ours = by_script("consolidate", &traces, GIB_32);
    assert!(ours.energy_kwh < 0.8 * theirs.energy_kwh, "{ours:?} {theirs:?}");
    assert!(ours.migrations * 5 < theirs.migrations && ours.migrations > 0, "{ours:?} {theirs:?}");
    assert!(ours.slatah < 0.5 * theirs.slatah && ours.esv < 0.1 * theirs.esv, "{ours:?} {theirs:?}");
}

#[test]
fn days_that_cannot_be_run_say_why() {
    let traces = Arc::new(Traces::made_up(4, 1));
    let run = |module: &str, memory: &str| {
        let deployment = Deployment { module: module.into(), plane: None, changes: Value::Map(BTreeMap::new()) };
        let variant = Variant { modules: Some(vec![deployment]), ..Variant::default() };
        Experiment::named(memory).unwrap().run(&traces, &variant, &Library::shipped(), |_| ControlFlow::Break(()))
    };
    let Err(Stopped::Failed(why)) = run("lr-mtm", "cloudsim-planetlab") else { panic!("there is no such module") };
    assert!(why.contains("did you mean `lr-mmt`?"), "{why}");
    assert_eq!(run("lr-mmt", "cloudsim-planetlab-32gib"), Err(Stopped::Told));
    assert!(Experiment::named("cloudsim").is_none());
}
