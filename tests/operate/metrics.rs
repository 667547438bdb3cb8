//! A scrape of a running daemon, read as strictly as Prometheus reads it.

use crate::plane::{Plane, ask, runtime, until};
use embot::api::metrics::Kind;
use embot::api::metrics::table::{METRICS, Metric};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

type Labels = BTreeMap<String, String>;

/// The values of a scrape by metric and labels. Anything that the format forbids panics.
struct Scrape(BTreeMap<&'static str, Vec<(Labels, f64)>>);

impl Scrape {
    fn read(text: &str) -> Scrape {
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        let (mut described, mut helped) = (BTreeSet::new(), BTreeSet::new());
        let mut values: BTreeMap<&'static str, Vec<(Labels, f64)>> = BTreeMap::new();
        let mut family: Option<(&'static Metric, String)> = None;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and its help");
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and its type");
                assert!(described.insert(name.to_owned()), "{line}: twice");
                let metric = METRICS.iter().find(|metric| family_name(metric) == name);
                let metric = metric.unwrap_or_else(|| panic!("{line}: not in the table"));
                assert_eq!(kind, metric.kind.word(), "{line}");
                family = Some((metric, name.to_owned()));
            } else {
                let (metric, base) = family.as_ref().unwrap_or_else(|| panic!("{line}: of no family"));
                let (name, labels, value) = sample(line);
                let rest = name.strip_prefix(base.as_str()).unwrap_or_else(|| panic!("{line}: not of {base}"));
                let fits: &[&str] = match metric.kind {
                    Kind::Counter => &["_total"],
                    Kind::Gauge => &[""],
                    Kind::Histogram => &["_bucket", "_sum", "_count"],
                };
                assert!(fits.contains(&rest), "{line}");
                let wanted = metric.labels.iter().copied().chain((rest == "_bucket").then_some("le"));
                assert_eq!(labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted.collect(), "{line}");
                assert!(metric.kind == Kind::Gauge || value >= 0.0, "{line}");
                let all = values.entry(metric.name).or_default();
                let labels: Labels = labels.into_iter().chain([("part".to_owned(), rest.to_owned())]).collect();
                assert!(all.iter().all(|(other, _)| *other != labels), "{line}: twice");
                all.push((labels, value));
            }
        }
        assert_eq!(described, helped);
        assert_eq!(described, METRICS.iter().map(|metric| family_name(metric).to_owned()).collect(), "all are described");
        let scrape = Scrape(values);
        METRICS.iter().filter(|metric| metric.kind == Kind::Histogram).for_each(|metric| scrape.check_histogram(metric.name));
        scrape
    }

    /// Each series' buckets rise up to its count.
    fn check_histogram(&self, name: &str) {
        let mut series: BTreeMap<Labels, (Vec<(f64, f64)>, f64)> = BTreeMap::new();
        for (labels, value) in self.0.get(name).into_iter().flatten() {
            let mut labels = labels.clone();
            let (part, limit) = (labels.remove("part").unwrap(), labels.remove("le"));
            let one = series.entry(labels).or_default();
            match (&*part, limit) {
                ("_bucket", Some(limit)) => {
                    one.0.push((if limit == "+Inf" { f64::INFINITY } else { limit.parse().unwrap() }, *value))
                }
                ("_count", None) => one.1 = *value,
                _ => {}
            }
        }
        for (labels, (buckets, count)) in series {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name} {labels:?}");
        }
    }

    /// The sum of a metric's values with these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |one: &Labels| labels.iter().all(|(key, value)| one.get(*key).is_some_and(|other| other == value));
        let found: Vec<f64> =
            self.0.get(name).into_iter().flatten().filter(|(one, _)| fits(one)).map(|(_, value)| *value).collect();
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name}");
        found.iter().sum()
    }
}

fn family_name(metric: &Metric) -> &'static str {
    if metric.kind == Kind::Counter { metric.name.trim_end_matches("_total") } else { metric.name }
}

/// Name, labels and value of a line.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}: no value"));
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
    assert!(value.is_finite(), "{line}");
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), Labels::new(), value) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}: no end of labels"));
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (key, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}: a label without value"));
        let end = quoted.match_indices('"').map(|(at, _)| at).find(|at| !quoted[..*at].ends_with('\\'));
        let end = end.unwrap_or_else(|| panic!("{line}: a value without end"));
        assert!(labels.insert(key.to_owned(), quoted[..end].to_owned()).is_none(), "{line}: a label twice");
        rest = quoted[end + 1..].strip_prefix(',').unwrap_or(&quoted[end + 1..]);
    }
    (name.to_owned(), labels, value)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

#[test]
fn a_running_plane_tells_its_figures() {
    let port = free_port();
    let plane = Plane::new(&format!("metrics: {{ listen: '127.0.0.1:{port}' }}\nadopt: act\nnew_modules: act\n"));
    plane.deploy("relieve-hot-host");
    let _daemon = plane.start();
    let (hosts, guests) = (8.0, 40.0);
    let scrape = until("all guests are done with, and all hosts were heard of", || {
        let (status, text) = plane.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let scrape = Scrape::read(&text);
        let marked = scrape.sum("embot_actions_total", &[("verb", "adopt"), ("result", "done")]) == guests;
        let stepped = scrape.sum("embot_policy_step_seconds", &[("module", "relieve-hot-host"), ("part", "_count")]) > 0.0;
        let heard = scrape.sum("embot_host_up", &[]) == hosts;
        let known = scrape.sum("embot_guests", &[("mode", "act")]) == guests;
        let sampled = scrape.sum("embot_host_memory_usage_ratio", &[]) > 0.0;
        let fresh = scrape.sum("embot_host_sample_age_seconds", &[]) < hosts * 10.0;
        let burnt = scrape.sum("process_cpu_seconds_total", &[]) > 0.0;
        (marked && stepped && heard && known && sampled && fresh && burnt).then_some(scrape)
    });
    assert_eq!(scrape.sum("embot_guests", &[]), guests);
    assert_eq!(scrape.sum("embot_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("plane", "home")]), 1.0);
    assert_eq!(scrape.sum("embot_armed", &[]), 1.0);
    let planned = scrape.sum("embot_actions_total", &[("result", "planned")]);
    let over = ["done", "failed", "cancelled"]
        .iter()
        .map(|result| scrape.sum("embot_actions_total", &[("result", result)]))
        .sum::<f64>();
    assert_eq!(
        planned,
        over + scrape.sum("embot_open_actions", &[("state", "planned")])
            + scrape.sum("embot_open_actions", &[("state", "started")])
    );
    for some in [
        "embot_events_total",
        "embot_embots",
        "embot_store_file_bytes",
        "embot_journal_entries",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(scrape.sum(some, &[]) > 0.0, "{some}");
    }
    assert!(scrape.sum("embot_store_commit_seconds", &[("part", "_count")]) > 0.0);
    let asked = [("route", "/v1/status"), ("status", "200"), ("method", "GET")];
    assert!(scrape.sum("embot_api_requests_total", &asked) >= 1.0);

    // An address of its own serves the same, and nothing else.
    let other = |path: &str| {
        runtime()
            .block_on(async { ask(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a port"), path).await })
    };
    let (status, text) = other("/metrics");
    assert_eq!(status, 200);
    assert_eq!(Scrape::read(&text).sum("embot_guests", &[]), guests);
    assert_eq!(other("/v1/status").0, 404);

    // Paths that nobody serves are one route.
    for path in ["/nowhere", "/else/where", "/v1/elements/web-1"] {
        plane.get(path);
    }
    let scrape = Scrape::read(&plane.get("/metrics").1);
    assert_eq!(scrape.sum("embot_api_requests_total", &[("route", "none"), ("status", "404")]), 2.0);
    assert_eq!(scrape.sum("embot_api_requests_total", &[("route", "/v1/elements/{*name}")]), 1.0);

    // What is switched off shows.
    assert!(plane.embot(&["disarm"]).status.success());
    assert_eq!(Scrape::read(&plane.get("/metrics").1).sum("embot_armed", &[]), 0.0);
}

#[test]
fn decisions_and_refusals_are_counted_and_timed() {
    let plane = Plane::new("adopt: act\nnew_modules: act\n");
    plane.write("policies/wake.rhai", "fn on_load(vm) { vm.start(`${vm.name} runs already`); }\n");
    let manifest = "module: wake\nversion: '1'\npolicies: [wake.rhai]\ncovers: { each: vm }\npermits: [start]\nmode: act\n";
    plane.write("embots/wake.yaml", manifest);
    let _daemon = plane.start();
    let scrape = until("a refusal and its delay", || {
        let scrape = Scrape::read(&plane.get("/metrics").1);
        // The refusal is counted when it is decided, its delay when it is durable.
        let refused = scrape.sum("embot_refusals_total", &[("guardrail", "already")]) > 0.0;
        let timed = scrape.sum("embot_decision_delay_seconds", &[("part", "_count")]) >= 1.0;
        (refused && timed).then_some(scrape)
    });
    let seconds = scrape.sum("embot_decision_delay_seconds", &[("part", "_sum")]);
    let count = scrape.sum("embot_decision_delay_seconds", &[("part", "_count")]);
    assert!(seconds > 0.0 && seconds < count * 30.0, "{count} decisions in {seconds} s");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let plane = Plane::new(&format!("metrics: {{ listen: '{address}' }}\n"));
    let output = plane.embot(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {address} for metrics")) && said.contains("metrics.listen"), "{said}");
}
