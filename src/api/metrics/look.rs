//! What is looked up when somebody asks.

use super::form::Samples;
use crate::api::state::Doors;
use crate::manager::Manager;
use crate::model::{Host, Link, Side, Timestamp};
use crate::process::Process;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

fn side(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Target => "target",
    }
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// What the manager knows, at `now`, of a daemon that started at `started`.
pub(super) fn at_manager(manager: &Manager, now: Timestamp, started: Timestamp) -> Samples {
    let mut samples = Samples::default();
    let world = manager.world();
    let version = env!("CARGO_PKG_VERSION");
    samples.put("embot_build_info", &[version, &world.plane], 1.0);
    samples.put("embot_armed", &[], flag(world.armed));
    samples.put("embot_starting", &[], flag(manager.is_starting()));
    samples.put("embot_events_total", &[], manager.figures().events as f64);
    samples.put("embot_queue_events", &[], manager.waiting() as f64);
    samples.put("embot_held_elements", &[], manager.holds().count() as f64);
    for (module, (embots, suspended)) in manager.embot_counts() {
        samples.put("embot_embots", &[&module], embots as f64);
        samples.put("embot_embots_suspended", &[&module], suspended as f64);
    }
    let tally = manager.tally();
    for (module, tally) in &tally.modules {
        samples.spread("embot_policy_step_seconds", &[module], &tally.steps);
        samples.put("embot_policy_faults_total", &[module], tally.faults as f64);
    }
    for ((verb, result), count) in &tally.actions {
        samples.put("embot_actions_total", &[verb.name(), result], *count as f64);
    }
    let mut open: BTreeMap<&str, usize> = BTreeMap::from([("advised", 0), ("planned", 0), ("started", 0)]);
    manager.open().for_each(|action| *open.entry(action.state.word()).or_default() += 1);
    for (state, count) in open {
        samples.put("embot_open_actions", &[state], count as f64);
    }
    samples.spread("embot_decision_delay_seconds", &[], &tally.delays);
    for (guardrail, count) in &tally.refusals {
        samples.put("embot_refusals_total", &[guardrail], *count as f64);
    }
    world.hosts().for_each(|one| host(&mut samples, one, now, started));
    let mut guests: BTreeMap<_, usize> = BTreeMap::new();
    world.vms().for_each(|vm| *guests.entry((vm.state.to_string(), vm.mode)).or_default() += 1);
    for ((state, mode), count) in guests {
        samples.put("embot_guests", &[&state, &mode.to_string()], count as f64);
    }
    samples.put("embot_violated_rules", &[], world.violations().len() as f64);
    for peer in world.peers.values() {
        samples.put("embot_peer_up", &[&peer.name], flag(peer.reachable));
    }
    let mut migrations: BTreeMap<(Side, std::sync::Arc<str>), usize> = BTreeMap::new();
    for migration in manager.migrations().into_iter().filter(|migration| migration.outcome.is_none()) {
        let Some(phase) = migration.phases.last() else { continue };
        *migrations.entry((migration.side, phase.word.clone())).or_default() += 1;
    }
    for ((end, phase), count) in migrations {
        samples.put("embot_open_migrations", &[side(end), &phase], count as f64);
    }
    for ((end, result), count) in &tally.migrations {
        samples.put("embot_migrations_total", &[side(*end), result], *count as f64);
    }
    samples
}

fn host(samples: &mut Samples, host: &Host, now: Timestamp, started: Timestamp) {
    let name = host.id.as_str();
    let seen = host.load_at != Timestamp::default();
    let sampled = if seen { host.load_at } else { started };
    samples.put("embot_host_up", &[name], flag(host.link == Link::Up));
    samples.put("embot_host_sample_age_seconds", &[name], now.since(sampled).0 as f64 / 1e3);
    samples.put("embot_host_in_maintenance", &[name], flag(host.in_maintenance()));
    if seen {
        samples.put("embot_host_cpu_usage_ratio", &[name], host.cpu());
        samples.put("embot_host_memory_usage_ratio", &[name], host.memory());
    }
}

/// What the rest of the daemon knows. What cannot be read now is left out.
pub(super) fn at_daemon(samples: &mut Samples, doors: &Doors) {
    let measured = &doors.metrics.0;
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
    samples.spread("embot_store_commit_seconds", &[], &measured.commits);
    if let Some(file) = measured.store.as_ref().and_then(|path| path.metadata().ok()) {
        samples.put("embot_store_file_bytes", &[], file.len() as f64);
    }
    if let Ok(extent) = doors.journal.extent() {
        samples.put("embot_journal_bytes", &[], extent.map_or(0.0, |extent| extent.bytes as f64));
        samples.put("embot_journal_entries", &[], extent.map_or(0.0, |extent| (extent.last - extent.first + 1) as f64));
    }
    if let Some(link) = &doors.link {
        samples.put("embot_link_refusals_total", &[], link.refusals().0 as f64);
    }
    for (channel, standing) in doors.notifiers.standings() {
        samples.put("embot_notify_up", &[channel], flag(standing.away.is_none()));
        samples.put("embot_notify_held", &[channel], standing.held as f64);
    }
    for ((method, route, status), count) in measured.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        samples.put("embot_api_requests_total", &[method, route, &status.to_string()], *count as f64);
    }
    samples.put("embot_event_streams", &[], measured.streams.load(Ordering::Relaxed) as f64);
    samples.put("embot_trace_spans_total", &[], count(&measured.spans));
    samples.put("embot_trace_spans_dropped_total", &[], count(&measured.spans_dropped));
    let process = Process::own();
    samples.put("process_cpu_seconds_total", &[], process.cpu().as_secs_f64());
    samples.put("process_resident_memory_bytes", &[], process.resident() as f64);
    samples.put("process_open_fds", &[], process.open_files() as f64);
    samples.put("process_threads", &[], process.threads() as f64);
    samples.put("process_start_time_seconds", &[], measured.started.0 as f64 / 1e3);
}
