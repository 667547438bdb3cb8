//! `embot bench`: what a plane costs on this machine, measured.

mod api;
mod delays;
mod folder;
mod idle;
mod metered;
mod plane;
mod planes;
mod sandbox;
mod store;

use super::context::Context;
use super::failure::Failure;
use super::progress::Progress;
use super::screen::{Screen, Tone};
use super::table::{Fit, table};
use crate::daemon::DaemonError;
use crate::error::Diagnostic;
use api::ApiFigures;
use idle::IdleFigures;
use plane::PlaneFigures;
use planes::PlanesFigures;
use sandbox::SandboxFigures;
use serde::Serialize;
use std::io;
use std::time::Duration;
use store::StoreFigures;

/// Measure what a plane costs on this machine: a large one at work, an idle one, misbehaving policies among good ones, two
/// that exchange guests, a store of a million entries, and the API of a large plane.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot bench                                  all of it, in about three minutes\n  embot bench plane --hosts 100 --guests 2000\n  embot bench sandbox --seconds 60 --output json\n\nThe store is written to the folder for temporary files (TMPDIR): name one on the disk that you want to know about. For small ones\nof the same figures see `cargo bench`."
)]
pub struct Bench {
    /// What is measured; without it, everything.
    #[arg(value_enum)]
    what: Vec<What>,
    /// How long each part is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Hosts of the large plane.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hosts: u32,
    /// Guests of the large plane.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    guests: u32,
}

/// Guests that two planes exchange.
const EXCHANGED: usize = 1_000;

/// The parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A large plane on a simulated fleet in real time.
    Plane,
    /// The daemon with a small quiet plane.
    Idle,
    /// Misbehaving embots among good ones.
    Sandbox,
    /// Two planes that hand all their guests to each other.
    Planes,
    /// A store with a million journal entries: opening it after a crash, and backups beside decisions.
    Store,
    /// The API of a large plane over the network.
    Api,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    /// Processors of this machine.
    processors: usize,
    plane: Option<PlaneFigures>,
    idle: Option<IdleFigures>,
    sandbox: Option<SandboxFigures>,
    planes: Option<PlanesFigures>,
    store: Option<StoreFigures>,
    api: Option<ApiFigures>,
}

/// Why something cannot be measured.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("cannot prepare the measurement")]
    Io(#[from] io::Error),
    #[error("the store to be measured fails")]
    Store(#[from] crate::store::StoreError),
    #[error("the plane does not run")]
    Daemon(#[from] DaemonError),
    #[error("the configuration of the measurement is wrong; please report this: {}", .0.as_ref().map_or(String::new(), ToString::to_string))]
    Config(Option<Diagnostic>),
    #[error("the plane to be measured has no simulated fleet; please report this")]
    NoFleet,
    #[error(
        "the plane to be measured does not answer: this machine is too slow for it, or too busy; try fewer hosts and guests"
    )]
    Silent,
    #[error("a module of the measurement is refused; please report this: {0}")]
    Refused(String),
    #[error("{0} after {1:?}: this machine is too slow for it, or too busy; try fewer hosts and guests")]
    TooSlow(&'static str, Duration),
}

impl Bench {
    /// Measures, and shows it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let progress = Progress::new();
        let measured = self.measure(&progress).map_err(|error| Failure::of(&error))?;
        drop(progress);
        context.show(&measured, |screen| render(&measured, screen))
    }

    fn measure(&self, progress: &Progress) -> Result<Measured, BenchError> {
        let wanted = |what: What| self.what.is_empty() || self.what.contains(&what);
        let (hosts, guests, seconds) = (self.hosts as usize, self.guests as usize, self.seconds);
        // The large plane comes first: memory of the process is to be the plane's alone.
        let plane = wanted(What::Plane).then(|| plane::run(hosts, guests, seconds, progress)).transpose()?;
        let idle = wanted(What::Idle).then(|| idle::run(seconds, progress)).transpose()?;
        let sandbox = wanted(What::Sandbox).then(|| sandbox::run(seconds, progress)).transpose()?;
        let planes = wanted(What::Planes).then(|| planes::run(EXCHANGED, progress)).transpose()?;
        let store = wanted(What::Store).then(|| store::run(seconds, progress)).transpose()?;
        let api = wanted(What::Api).then(|| api::run(hosts, guests, seconds, progress)).transpose()?;
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        Ok(Measured { processors, plane, idle, sandbox, planes, store, api })
    }
}

/// A figure, what is wanted, what was measured, and whether that is good enough (nothing: there is no goal).
struct Row(&'static str, &'static str, String, Option<bool>);

fn render(measured: &Measured, screen: &Screen) -> String {
    let mut text = format!("on {} processors\n", measured.processors);
    if let Some(plane) = &measured.plane {
        let about = format!("{} hosts, {} guests, {} embots, {:.0} s", plane.hosts, plane.guests, plane.embots, plane.seconds);
        text += &part("Plane", &about, plane_rows(plane), screen);
        text += "The plane's processor time is that of the process less the simulated hypervisor (its thread, and the time\nspent in calls to it) and less the measuring itself. Memory is the whole process, with the simulated fleet.\n";
    }
    if let Some(idle) = &measured.idle {
        let about =
            format!("{} hosts, {} guests, all modules, the fleet in it, {:.0} s", idle.hosts, idle.guests, idle.seconds);
        text += &part("Idle daemon", &about, idle_rows(idle), screen);
    }
    if let Some(sandbox) = &measured.sandbox {
        let about = format!("{} good embots and {} others, twice {:.0} s", sandbox.embots, sandbox.others, sandbox.seconds);
        text += &part("Sandbox", &about, sandbox_rows(sandbox), screen);
    }
    if let Some(planes) = &measured.planes {
        let about = format!("{} guests change places {} times, {:.0} s", planes.guests, planes.exchanges, planes.seconds);
        text += &part("Two planes", &about, planes_rows(planes), screen);
        text += "Both planes and the fleet are one process, in real time, with stores on disk and TLS between them. The simulated\n\
                 hypervisor's processor time is taken out, and from a guest's wait the move itself.\n";
    }
    if let Some(store) = &measured.store {
        let about = format!("{} journal entries, {:.0} MiB", store.entries, store.file_mib);
        text += &part("Store", &about, store_rows(store), screen);
    }
    if let Some(api) = &measured.api {
        let about = format!("{} guests, {} who follow what happens, {:.0} s", api.guests, api.streams, api.seconds);
        text += &part("API", &about, api_rows(api), screen);
        text += "Server and clients are one process, with TLS between them; a list is read on a connection of its own.\n";
    }
    text
}

fn part(title: &str, about: &str, rows: Vec<Row>, screen: &Screen) -> String {
    let verdict = |good: Option<bool>| match good {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    let rows = rows
        .into_iter()
        .map(|Row(what, goal, measured, good)| vec![what.to_owned(), measured, goal.to_owned(), verdict(good).to_owned()]);
    let columns = [("FIGURE", Fit::Keep), ("MEASURED", Fit::Cut), ("GOAL", Fit::Keep), ("", Fit::Keep)];
    format!("\n{}: {about}\n{}", screen.paint(Tone::Strong, title), table(&columns, rows.collect(), screen))
}

fn share(share: f64) -> String {
    format!("{:.1} % of a core", share * 100.0)
}

fn mib(mib: f64) -> String {
    format!("{mib:.0} MiB")
}

fn ms(ms: f64) -> String {
    format!("{ms:.3} ms")
}

fn plane_rows(plane: &PlaneFigures) -> Vec<Row> {
    let delay = &plane.fact_to_plan;
    let answered = delay.count > 0 && plane.unanswered == 0;
    let mut rows = vec![
        Row("processor", "under 50 %", share(plane.cpu_of_core), Some(plane.cpu_of_core < 0.5)),
        Row("memory", "under 200 MiB", mib(plane.resident_mib), Some(plane.resident_mib < 200.0)),
        Row("memory with full history", "", mib(plane.resident_mib + plane.history_to_come_mib), None),
        Row("fact to durable plan, p50", "under 5 ms", ms(delay.p50_ms), Some(answered && delay.p50_ms < 5.0)),
        Row("fact to durable plan, p99", "under 50 ms", ms(delay.p99_ms), Some(answered && delay.p99_ms < 50.0)),
        Row("fact to durable plan, max", "", format!("{} of {}", ms(delay.max_ms), delay.count), None),
    ];
    if plane.unanswered > 0 {
        rows.push(Row("facts without a plan", "0", plane.unanswered.to_string(), Some(false)));
    }
    rows.push(Row("events", "", format!("{:.0} a second", plane.events_per_s), None));
    rows.push(Row("steps", "", format!("{:.0} a second", plane.steps_per_s), None));
    let threads = plane.cpu_by_thread.iter().map(|(name, time)| format!("{name} {:.1} %", time * 100.0));
    rows.push(Row("processor by thread", "", threads.collect::<Vec<_>>().join(", "), None));
    rows.push(Row("simulated hypervisor", "", share(plane.simulation_of_core), None));
    rows.push(Row("threads", "", plane.threads.to_string(), None));
    rows.push(Row("store", "", mib(plane.store_mib), None));
    rows
}

fn api_rows(api: &ApiFigures) -> Vec<Row> {
    let (list, record) = (&api.list, &api.record);
    vec![
        Row("list of all guests, p50", "under 50 ms", ms(list.p50_ms), Some(list.p50_ms < 50.0)),
        Row("list of all guests, p99", "", format!("{} of {}", ms(list.p99_ms), list.count), None),
        Row("records", "1000 a second", format!("{:.0} a second to each", api.records_per_s), Some(api.records_per_s > 950.0)),
        Row("records lost", "0", api.lost.to_string(), Some(api.lost == 0)),
        Row("decision to reader, p50", "", ms(record.p50_ms), None),
        Row("decision to reader, p99", "", ms(record.p99_ms), None),
        Row("processor, clients included", "", share(api.cpu_of_core), None),
        Row("memory for it, clients included", "", mib(api.grown_mib), None),
    ]
}

fn idle_rows(idle: &IdleFigures) -> Vec<Row> {
    vec![
        Row("processor", "under 1 %", share(idle.cpu_of_core), Some(idle.cpu_of_core < 0.01)),
        Row("memory", "under 40 MiB", mib(idle.resident_mib), Some(idle.resident_mib < 40.0)),
        Row("threads", "", idle.threads.to_string(), None),
    ]
}

fn sandbox_rows(sandbox: &SandboxFigures) -> Vec<Row> {
    let (before, after, bad) = (&sandbox.before, &sandbox.after, &sandbox.misbehaving);
    let times = after.p99_ms / before.p99_ms.max(0.000_001);
    vec![
        Row("ten good steps before, p99", "", ms(before.p99_ms), None),
        Row(
            "ten good steps after, p99",
            "within 2 times",
            format!("{} ({times:.2} times)", ms(after.p99_ms)),
            Some(times <= 2.0),
        ),
        Row(
            "longest misbehaving step",
            "at most 10 ms",
            format!("{} of {}", ms(bad.max_ms), bad.count),
            Some(bad.max_ms <= 10.0),
        ),
        Row("suspended", "all the others", sandbox.suspended.to_string(), Some(sandbox.suspended == sandbox.others)),
    ]
}

fn planes_rows(planes: &PlanesFigures) -> Vec<Row> {
    let (wait, rate) = (&planes.wait, planes.handovers_per_s);
    let (first, last) = (planes.resident_first_mib, planes.resident_last_mib);
    vec![
        Row("handovers", "over 500 a second", format!("{rate:.0} a second"), Some(rate > 500.0)),
        Row("processor, both planes", "", format!("{:.2} ms a handover", planes.cpu_ms), None),
        Row("facts wait, p50", "", ms(wait.p50_ms), None),
        Row("facts wait, p99", "", format!("{} of {}", ms(wait.p99_ms), wait.count), None),
        Row("memory", "flat", format!("{first:.0} MiB, then {last:.0} MiB"), Some(last < first * 1.1)),
        Row("a guest after a day", "under 16 KiB", format!("{} bytes", planes.day_bytes), Some(planes.day_bytes < 16_384)),
        Row("tried again", "", format!("{} of {}", planes.stayed, planes.handovers + planes.stayed), None),
        Row("simulated hypervisor", "", share(planes.simulation_of_core), None),
    ]
}

fn store_rows(store: &StoreFigures) -> Vec<Row> {
    let (alone, beside) = (&store.alone, &store.beside);
    let times = beside.p99_ms / alone.p99_ms.max(0.000_001);
    vec![
        Row("opened after a crash", "under 2 s", format!("{:.2} s", store.open_s), Some(store.open_s < 2.0)),
        Row("backup", "under 5 s", format!("{:.2} s, {:.0} MiB", store.backup_s, store.backup_mib), Some(store.backup_s < 5.0)),
        Row("decision durable, p50 / p99", "", format!("{} / {}", ms(alone.p50_ms), ms(alone.p99_ms)), None),
        Row(
            "the same beside backups",
            "p99 under 50 ms",
            format!("{} / {} ({times:.1} times)", ms(beside.p50_ms), ms(beside.p99_ms)),
            Some(beside.p99_ms < 50.0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::delays::Delays;
    use super::*;
    use crate::cli::screen::plain;

    #[test]
    fn figures_as_people_see_them() {
        let delays = |p50_ms: f64| Delays { count: 600, p50_ms, p99_ms: 4.0 * p50_ms, max_ms: 9.0 * p50_ms };
        let plane = PlaneFigures {
            hosts: 500,
            guests: 10_000,
            embots: 21_001,
            seconds: 30.0,
            events_per_s: 10_540.2,
            steps_per_s: 10_520.0,
            cpu_of_core: 0.283,
            cpu_by_thread: [("manager".to_owned(), 0.15), ("store".to_owned(), 0.08)].into(),
            simulation_of_core: 0.09,
            resident_mib: 120.0,
            resident_before_mib: 6.0,
            history_to_come_mib: 55.0,
            threads: 540,
            fact_to_plan: delays(1.5),
            unanswered: 2,
            store_mib: 40.0,
        };
        let idle = IdleFigures { hosts: 4, guests: 40, seconds: 30.0, cpu_of_core: 0.004, resident_mib: 51.0, threads: 14 };
        let sandbox = SandboxFigures {
            embots: 1_000,
            others: 3,
            seconds: 30.0,
            before: delays(0.02),
            misbehaving: delays(1.0),
            after: delays(0.021),
            suspended: 3,
        };
        let planes = PlanesFigures {
            guests: 1_000,
            exchanges: 4,
            handovers: 4_000,
            stayed: 3,
            seconds: 9.0,
            handovers_per_s: 512.4,
            cpu_ms: 2.71,
            simulation_of_core: 0.4,
            wait: delays(12.0),
            resident_first_mib: 80.0,
            resident_last_mib: 82.0,
            day_bytes: 14_200,
        };
        let store = StoreFigures {
            entries: 1_000_000,
            file_mib: 400.0,
            open_s: 0.51,
            backup_s: 2.2,
            backup_mib: 210.0,
            alone: delays(1.1),
            beside: delays(1.4),
        };
        let api = ApiFigures {
            guests: 10_000,
            list: delays(30.0),
            streams: 200,
            seconds: 31.0,
            records_per_s: 998.2,
            record: delays(4.0),
            lost: 3,
            cpu_of_core: 1.4,
            grown_mib: 20.0,
        };
        let (plane, idle, sandbox, planes) = (Some(plane), Some(idle), Some(sandbox), Some(planes));
        let (store, api) = (Some(store), Some(api));
        let measured = Measured { processors: 2, plane, idle, sandbox, planes, store, api };
        insta::assert_snapshot!(render(&measured, &plain(100)));
    }
}
