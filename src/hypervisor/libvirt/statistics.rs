//! From libvirt's counters to samples: rates by difference, and `None` for whatever is not told.
//!
//! Everything is optional: an old libvirt, a guest without a driver, a domain that is busy with a job each leave fields out.
//! A counter that falls is no negative rate but a new beginning (a restart, a move, a card taken out): it tells nothing until
//! the next poll. Figures of a domain that does not run are ignored; libvirt shows meaningless ones.

use super::ffi::Param;
use super::state;
use crate::model::{Capacity, HostLoad, Reason, Timestamp, VmId, VmLoad, VmState};
use std::collections::BTreeMap;

/// The counters of one domain at one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// State and reason in libvirt's numbers.
    pub state: Option<(i32, i32)>,
    /// Processors it has at present.
    pub vcpus: Option<u32>,
    /// Memory it holds, in KiB.
    pub balloon_kib: Option<u64>,
    /// Memory at the most, in KiB.
    pub maximum_kib: Option<u64>,
    /// Memory the guest's kernel manages, in KiB.
    available_kib: Option<u64>,
    /// What it could give to a new program without swapping, in KiB.
    usable_kib: Option<u64>,
    /// What it uses for nothing at all, in KiB.
    unused_kib: Option<u64>,
    cpu_ns: Option<u64>,
    wait_ns: Option<u64>,
    disk_bytes: Option<u64>,
    disk_requests: Option<u64>,
    net_bytes: Option<u64>,
}

impl Reading {
    /// Reads a domain's typed parameters.
    pub fn of<'a>(params: impl Iterator<Item = (&'a str, Param<'a>)>) -> Reading {
        let mut reading = Reading::default();
        for (name, value) in params {
            reading.take(name, value);
        }
        reading
    }

    fn take(&mut self, name: &str, value: Param<'_>) {
        let Some(count) = value.count() else { return };
        let small = || u32::try_from(count).ok();
        let add = |sum: &mut Option<u64>| *sum = Some(sum.unwrap_or(0).saturating_add(count));
        match name {
            "state.state" => self.state = small().map(|state| (state as i32, self.state.map_or(0, |(_, reason)| reason))),
            "state.reason" => self.state = small().map(|reason| (self.state.map_or(0, |(state, _)| state), reason as i32)),
            "cpu.time" => self.cpu_ns = Some(count),
            "vcpu.current" => self.vcpus = small(),
            "balloon.current" => self.balloon_kib = Some(count),
            "balloon.maximum" => self.maximum_kib = Some(count),
            "balloon.available" => self.available_kib = Some(count),
            "balloon.usable" => self.usable_kib = Some(count),
            "balloon.unused" => self.unused_kib = Some(count),
            _ => {
                // `net.0.rx.bytes`: the group, the number, the figure.
                let Some((group, rest)) = name.split_once('.') else { return };
                let Some((_, figure)) = rest.split_once('.') else { return };
                match (group, figure) {
                    ("vcpu", "delay") => add(&mut self.wait_ns),
                    ("net", "rx.bytes" | "tx.bytes") => add(&mut self.net_bytes),
                    ("block", "rd.bytes" | "wr.bytes") => add(&mut self.disk_bytes),
                    ("block", "rd.reqs" | "wr.reqs") => add(&mut self.disk_requests),
                    _ => {}
                }
            }
        }
    }

    /// State and reason; `None` where libvirt did not even tell that.
    pub fn state(&self) -> Option<(VmState, Reason)> {
        self.state.map(|(state, reason)| state::of(state, reason))
    }

    /// The reason given for its state does not hold.
    pub fn forget_reason(&mut self) {
        self.state = self.state.map(|(state, _)| (state, 0));
    }

    /// Memory in use inside the guest. Known only from the guest's own balloon driver.
    fn memory_used_kib(&self) -> Option<u64> {
        let free = self.usable_kib.or(self.unused_kib)?;
        self.available_kib?.checked_sub(free)
    }
}

/// A counter as last read.
#[derive(Debug, Clone, Copy, Default)]
struct Counter(Option<(u64, Timestamp)>);

impl Counter {
    /// Units a second since the last reading. A missing value keeps the last one, so that the next rate spans the gap.
    fn rate(&mut self, now: Timestamp, value: Option<u64>) -> Option<f64> {
        let value = value?;
        let before = self.0.replace((value, now));
        let (last, then) = before?;
        let seconds = now.since(then).as_seconds();
        if seconds <= 0.0 {
            self.0 = before;
            return None;
        }
        value.checked_sub(last).map(|more| more as f64 / seconds)
    }
}

const NANOSECONDS: f64 = 1e9;
/// What the kernel shares between guests are pages of this size on all processors that libvirt's hosts usually have.
const SHARED_PAGE_KIB: u64 = 4;

#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    cpu: Counter,
    wait: Counter,
    disk_bytes: Counter,
    disk_requests: Counter,
    net_bytes: Counter,
}

/// The counters of a host and its guests as last read.
#[derive(Debug, Default)]
pub struct Meters {
    guests: BTreeMap<VmId, Meter>,
    host_cpu: Counter,
}

impl Meters {
    /// A guest's sample from its counters at `now`.
    pub fn sample(&mut self, vm: VmId, now: Timestamp, reading: &Reading) -> VmLoad {
        if !matches!(reading.state(), Some((VmState::Running, _))) {
            self.guests.remove(&vm);
            return VmLoad::default();
        }
        let meter = self.guests.entry(vm).or_default();
        VmLoad {
            cpu_cores: meter.cpu.rate(now, reading.cpu_ns).map(|ns| (ns / NANOSECONDS) as f32),
            cpu_wait_cores: meter.wait.rate(now, reading.wait_ns).map(|ns| (ns / NANOSECONDS) as f32),
            memory_used_mib: reading.memory_used_kib().map(|kib| kib as f32 / 1024.0),
            disk_bytes_per_s: meter.disk_bytes.rate(now, reading.disk_bytes).map(|bytes| bytes as f32),
            disk_iops: meter.disk_requests.rate(now, reading.disk_requests).map(|requests| requests as f32),
            net_bytes_per_s: meter.net_bytes.rate(now, reading.net_bytes).map(|bytes| bytes as f32),
        }
    }

    /// Forgets guests that were not listed.
    pub fn retain(&mut self, listed: impl Fn(&VmId) -> bool) {
        self.guests.retain(|vm, _| listed(vm));
    }

    /// The host's own sample, from its processor times and memory; `None` until there are two readings. `waiting` is what its
    /// guests wanted and did not get.
    pub fn host(&mut self, now: Timestamp, node: &Node, waiting: f32) -> Option<HostLoad> {
        let busy = node.cpu_busy_ns();
        let cpu_cores = self.host_cpu.rate(now, busy)?;
        let memory_used_mib = node.memory_used_kib()? as f32 / 1024.0;
        let cpu_cores = (cpu_cores / NANOSECONDS) as f32;
        let memory_shared_mib = node.shared_pages.map(|pages| (pages * SHARED_PAGE_KIB) as f32 / 1024.0);
        Some(HostLoad { cpu_cores, cpu_wait_cores: waiting, memory_used_mib, memory_shared_mib, asleep: None })
    }
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Processors and memory.
    pub capacity: Capacity,
    /// Processor times in nanoseconds, all processors together; empty where not told.
    pub cpu_ns: BTreeMap<String, u64>,
    /// Memory in KiB; empty where not told.
    pub memory_kib: BTreeMap<String, u64>,
    /// Pages that guests have in common with others and so do not take up (KSM); `None` where not told.
    pub shared_pages: Option<u64>,
}

impl Node {
    fn cpu_busy_ns(&self) -> Option<u64> {
        let time = |name: &str| self.cpu_ns.get(name).copied();
        Some(time("kernel")?.saturating_add(time("user")?).saturating_add(time("intr").unwrap_or(0)))
    }

    /// Memory that is neither free nor a cache.
    fn memory_used_kib(&self) -> Option<u64> {
        let part = |name: &str| self.memory_kib.get(name).copied();
        let caches = part("buffers").unwrap_or(0).saturating_add(part("cached").unwrap_or(0));
        Some(part("total")?.saturating_sub(part("free")?).saturating_sub(caches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: VmId = VmId(uuid::Uuid::from_u128(1));

    fn running(more: &[(&'static str, u64)]) -> Reading {
        let state = [("state.state", Param::Int(1)), ("state.reason", Param::Int(1))];
        Reading::of(state.into_iter().chain(more.iter().map(|(name, value)| (*name, Param::Uint(*value)))))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn rates_are_differences_over_time_summed_over_devices() {
        let mut meters = Meters::default();
        let counters = |n: u64| {
            running(&[
                ("cpu.time", n * 1_500_000_000),
                ("vcpu.0.delay", n * 100_000_000),
                ("vcpu.1.delay", n * 400_000_000),
                ("net.count", 1),
                ("net.0.rx.bytes", n * 10),
                ("net.0.tx.bytes", n * 5),
                ("block.0.rd.bytes", n * 4096),
                ("block.1.wr.bytes", n * 4096),
                ("block.0.rd.reqs", n * 2),
                ("block.1.wr.reqs", n),
                ("block.0.fl.reqs", n * 100),
            ])
        };
        assert_eq!(meters.sample(GUEST, at(0), &counters(1)), VmLoad::default(), "one reading makes no rate");
        let load = meters.sample(GUEST, at(2), &counters(3));
        assert_eq!(load.cpu_cores, Some(1.5));
        assert_eq!(load.cpu_wait_cores, Some(0.5));
        assert_eq!(load.net_bytes_per_s, Some(15.0));
        assert_eq!(load.disk_bytes_per_s, Some(8192.0));
        assert_eq!(load.disk_iops, Some(3.0));
        assert_eq!(load.memory_used_mib, None);
    }

    #[test]
    fn a_counter_that_falls_starts_anew() {
        let mut meters = Meters::default();
        let cpu = |meters: &mut Meters, second, ns| meters.sample(GUEST, at(second), &running(&[("cpu.time", ns)])).cpu_cores;
        cpu(&mut meters, 0, 4_800_000_000);
        assert_eq!(cpu(&mut meters, 1, 490_000_000), None);
        assert_eq!(cpu(&mut meters, 2, 990_000_000), Some(0.5));
    }

    #[test]
    fn a_poll_without_a_figure_makes_the_next_rate_span_the_gap() {
        let mut meters = Meters::default();
        meters.sample(GUEST, at(0), &running(&[("cpu.time", 0)]));
        assert_eq!(meters.sample(GUEST, at(1), &running(&[])).cpu_cores, None);
        assert_eq!(meters.sample(GUEST, at(2), &running(&[("cpu.time", 1_000_000_000)])).cpu_cores, Some(0.5));
    }

    #[test]
    fn figures_of_a_domain_that_is_off_are_ignored() {
        let mut meters = Meters::default();
        let off = Reading::of([("state.state", Param::Int(5)), ("cpu.time", Param::Uint(270_000_000))].into_iter());
        meters.sample(GUEST, at(0), &off);
        assert_eq!(meters.sample(GUEST, at(1), &running(&[("cpu.time", 300_000_000)])).cpu_cores, None);
    }

    #[test]
    fn two_polls_at_one_instant_make_no_rate_and_lose_none() {
        let mut meters = Meters::default();
        meters.sample(GUEST, at(0), &running(&[("cpu.time", 0)]));
        assert_eq!(meters.sample(GUEST, at(0), &running(&[("cpu.time", 500_000_000)])).cpu_cores, None);
        assert_eq!(meters.sample(GUEST, at(1), &running(&[("cpu.time", 1_000_000_000)])).cpu_cores, Some(1.0));
    }

    #[test]
    fn memory_in_use_is_the_guests_own_word() {
        let kib =
            [("balloon.available", 102_400), ("balloon.usable", 51_200), ("balloon.unused", 10_240), ("balloon.rss", 999_999)];
        let mut meters = Meters::default();
        assert_eq!(meters.sample(GUEST, at(0), &running(&kib)).memory_used_mib, Some(50.0));
        assert_eq!(meters.sample(GUEST, at(0), &running(&[kib[0], kib[2]])).memory_used_mib, Some(90.0));
        assert_eq!(meters.sample(GUEST, at(0), &running(&[kib[3]])).memory_used_mib, None);
    }

    #[test]
    fn odd_names_and_types_do_no_harm() {
        let odd = [
            ("", Param::Uint(1)),
            (".", Param::Uint(1)),
            ("net", Param::Uint(1)),
            ("net.0", Param::Uint(1)),
            ("net.0.rx.bytes", Param::Text("1")),
            ("cpu.time", Param::Int(-1)),
            ("block.0.rd.bytes", Param::Uint(u64::MAX)),
            ("block.1.rd.bytes", Param::Uint(u64::MAX)),
        ];
        let reading = Reading::of(odd.into_iter());
        assert_eq!(reading.disk_bytes, Some(u64::MAX));
        assert_eq!(reading, Reading { disk_bytes: Some(u64::MAX), ..Reading::default() });
        assert_eq!(reading.state(), None);
    }

    #[test]
    fn a_hosts_sample_leaves_caches_out() {
        let mut meters = Meters::default();
        let node = |busy: u64| Node {
            capacity: Capacity::default(),
            cpu_ns: [("kernel".into(), busy), ("user".into(), busy), ("idle".into(), 7)].into(),
            memory_kib: [("total".into(), 10_240), ("free".into(), 2_048), ("cached".into(), 1_024), ("buffers".into(), 1_024)]
                .into(),
            shared_pages: Some(512),
        };
        assert_eq!(meters.host(at(0), &node(0), 0.0), None);
        let load = meters.host(at(1), &node(500_000_000), 0.25).unwrap();
        let memory = (load.memory_used_mib, load.memory_shared_mib);
        assert_eq!((load.cpu_cores, load.cpu_wait_cores, memory), (1.0, 0.25, (6.0, Some(2.0))));
        assert_eq!(meters.host(at(2), &Node::default(), 0.0), None);
    }
}
