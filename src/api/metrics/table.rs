//! All metrics: the table that the text is written by and that `embot reference` prints.

use super::form::Kind;

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, as it stands in queries; a histogram's values add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Of what kind it is.
    pub kind: Kind,
    /// The labels that tell its values apart.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// All of them. What counts, counts from the daemon's start.
pub const METRICS: &[Metric] = &[
    gauge("embot_build_info", &["version", "plane"], "Always 1; the labels tell the program's version and the plane's name"),
    gauge("embot_armed", &[], "1 if the plane may act, 0 after `embot disarm`"),
    gauge("embot_starting", &[], "1 while the plane finds out what is true since its start and decides nothing"),
    counter("embot_events_total", &[], "Events taken in"),
    gauge("embot_queue_events", &[], "Events that wait for their step"),
    gauge("embot_held_elements", &[], "Elements whose events are held, as those of a guest on its way to another plane are"),
    histogram("embot_decision_delay_seconds", &[], "Time from an event to the durable decision that it led to"),
    histogram("embot_policy_step_seconds", &["module"], "Time that one step of an embot took"),
    counter("embot_policy_faults_total", &["module"], "Steps of policies that failed and were undone"),
    gauge("embot_embots", &["module"], "Embots"),
    gauge("embot_embots_suspended", &["module"], "Embots that are suspended after too many faults"),
    counter(
        "embot_actions_total",
        &["verb", "result"],
        "Actions, by what became of them: planned or advised, then how they ended",
    ),
    gauge("embot_open_actions", &["state"], "Actions that are not over, by state"),
    counter("embot_refusals_total", &["guardrail"], "Proposals refused, by the guardrail that refused"),
    gauge("embot_host_up", &["host"], "1 if the host answers"),
    gauge(
        "embot_host_sample_age_seconds",
        &["host"],
        "Time since the host's last sample, or since the start where there was none",
    ),
    gauge("embot_host_cpu_usage_ratio", &["host"], "Share of the host's cores in use, by the last sample"),
    gauge("embot_host_memory_usage_ratio", &["host"], "Share of the host's memory in use, by the last sample"),
    gauge("embot_host_in_maintenance", &["host"], "1 if the host is in maintenance"),
    gauge("embot_guests", &["state", "mode"], "Guests, by what they do and by how far the plane may go with them"),
    gauge("embot_notify_up", &["channel"], "1 unless the channel to admins could not be reached when it was last tried"),
    gauge(
        "embot_notify_held",
        &["channel"],
        "Notifications that wait to be told together, for the rate or because the channel is away",
    ),
    gauge("embot_violated_rules", &[], "Affinity rules that the present placement breaks"),
    gauge("embot_peer_up", &["peer"], "1 if there is a connection to the peer"),
    counter("embot_link_refusals_total", &[], "Connections and messages of other planes that were refused"),
    gauge(
        "embot_open_migrations",
        &["side", "phase"],
        "Migrations between planes under way, by this plane's end and the phase it is in",
    ),
    counter("embot_migrations_total", &["side", "result"], "Migrations between planes that are over: moved or stayed"),
    gauge("embot_store_file_bytes", &[], "Size of the store's file"),
    gauge("embot_journal_bytes", &[], "Size of the journal's entries in the store, compressed"),
    gauge("embot_journal_entries", &[], "Batches in the journal"),
    histogram("embot_store_commit_seconds", &[], "Time that one commit to the store took"),
    counter("embot_api_requests_total", &["method", "route", "status"], "Requests to the API, by route and status"),
    gauge("embot_event_streams", &[], "Clients that follow events"),
    counter("embot_trace_spans_total", &[], "Spans handed to the collector of traces"),
    counter("embot_trace_spans_dropped_total", &[], "Spans given up, since the collector was away or too slow"),
    counter("process_cpu_seconds_total", &[], "Processor time that the daemon used"),
    gauge("process_resident_memory_bytes", &[], "Memory that the daemon holds"),
    gauge("process_open_fds", &[], "Files, sockets and pipes that the daemon has open"),
    gauge("process_threads", &[], "Threads of the daemon"),
    gauge("process_start_time_seconds", &[], "When the daemon started, in seconds since 1970"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_units_follow_the_conventions() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "each name once");
        let families: BTreeSet<_> = names.iter().map(|name| name.trim_end_matches("_total")).collect();
        assert_eq!(families.len(), METRICS.len(), "a counter and another metric differ by more than the ending");
        for Metric { name, kind, labels, help } in METRICS {
            assert!(name.starts_with("embot_") || name.starts_with("process_"), "{name}");
            assert!(name.chars().all(|one| one.is_ascii_lowercase() || one == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!name.contains("_ms") && !name.contains("_mib") && !name.contains("percent"), "{name}: base units");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(labels.iter().all(|label| !label.is_empty() && *label != "le"), "{name}");
            assert!(help.len() > 5 && !help.ends_with('.'), "{name}: {help}");
        }
    }
}
