//! Usage history: what hosts and guests used, over time, in bounded memory.
//!
//! Each series keeps its latest [`NATIVE`] samples as they came, whatever their interval, and one-minute means of what is
//! older, up to [`MINUTES`] of them. A [`Window`] over a series answers with native samples where it has them, and with
//! minute means beyond; so a percentile over ten minutes of one-second samples is partly a percentile of minute means.

mod series;
pub mod statistics;
mod window;

pub use series::{MINUTES, NATIVE, Series, Values};
pub use window::Window;

use crate::model::{ElementId, Host, Lookup, Span, Timestamp, Vm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU use as a share of the element's processors, 0 to 1.
    Cpu,
    /// CPU time wanted but not given, as a share of the element's processors.
    CpuWait,
    /// Memory use as a share of the element's memory, 0 to 1.
    Memory,
    /// Disk throughput in bytes a second.
    Disk,
    /// Disk operations a second.
    Iops,
    /// Network throughput in bytes a second.
    Net,
}

impl Metric {
    /// All metrics, with their names in policies and what they mean.
    pub const ALL: &'static [(Metric, &'static str, &'static str)] = &[
        (Metric::Cpu, "cpu", "CPU use as a share of its processors, 0 to 1"),
        (Metric::CpuWait, "cpu_wait", "CPU time wanted but not given, as a share of its processors"),
        (Metric::Memory, "memory", "memory use as a share of its memory, 0 to 1"),
        (Metric::Disk, "disk", "disk throughput, bytes a second"),
        (Metric::Iops, "iops", "disk operations a second"),
        (Metric::Net, "net", "network throughput, bytes a second"),
    ];
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Metric::ALL.iter().find(|(metric, ..)| metric == self).map_or("?", |(_, name, _)| name))
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Metric, String> {
        let known = Metric::ALL.iter().find(|(_, name, _)| *name == text).map(|(metric, ..)| *metric);
        known.ok_or_else(|| {
            let names: Vec<_> = Metric::ALL.iter().map(|(_, name, _)| *name).collect();
            format!("`{text}` is not measured; there are {}", names.join(", "))
        })
    }
}

/// The history of every element.
#[derive(Debug, Default)]
pub struct Usage {
    elements: Lookup<ElementId, Series>,
}

impl Usage {
    /// Adds a guest's present sample.
    pub fn record_vm(&mut self, vm: &Vm) {
        let per_core = |cores: Option<f32>| cores.map(|cores| cores / vm.vcpus.max(1) as f32);
        self.record(ElementId::Vm(vm.id), vm.load_at, |metric| match metric {
            Metric::Cpu => per_core(vm.load.cpu_cores),
            Metric::CpuWait => per_core(vm.load.cpu_wait_cores),
            Metric::Memory => vm.load.memory_used_mib.map(|used| used / vm.balloon_mib.max(1) as f32),
            Metric::Disk => vm.load.disk_bytes_per_s,
            Metric::Iops => vm.load.disk_iops,
            Metric::Net => vm.load.net_bytes_per_s,
        });
    }

    /// Adds a host's present sample.
    pub fn record_host(&mut self, host: &Host) {
        self.record(ElementId::Host(host.id.clone()), host.load_at, |metric| match metric {
            Metric::Cpu => Some(host.cpu() as f32),
            Metric::CpuWait => Some(host.load.cpu_wait_cores / host.capacity.cpus.max(1) as f32),
            Metric::Memory => Some(host.memory() as f32),
            Metric::Disk | Metric::Iops | Metric::Net => None,
        });
    }

    fn record(&mut self, element: ElementId, at: Timestamp, sample: impl Fn(Metric) -> Option<f32>) {
        let values =
            std::array::from_fn(|index| Metric::ALL.get(index).and_then(|(metric, ..)| sample(*metric)).unwrap_or(f32::NAN));
        self.elements.entry(element).or_default().push(at, &values);
    }

    /// What is known of an element's metric in the `span` before `now`; empty where nothing is.
    pub fn window(&self, element: &ElementId, metric: Metric, span: Span, now: Timestamp) -> Window {
        self.elements.get(element).map_or_else(Window::default, |series| series.window(metric, span, now))
    }

    /// Forgets an element.
    pub fn forget(&mut self, element: &ElementId) {
        self.elements.remove(element);
    }

    /// An element's whole history, to be kept or sent along with it.
    pub fn export(&self, element: &ElementId) -> Option<Vec<u8>> {
        postcard::to_extend(self.elements.get(element)?, vec![VERSION]).ok()
    }

    /// Takes an exported history over, in place of what there was.
    pub fn import(&mut self, element: ElementId, bytes: &[u8]) -> Result<(), String> {
        self.elements.insert(element, Usage::read(bytes)?);
        Ok(())
    }

    /// Takes over a history of another plane, whose clock shows `behind_ms` less than this one's.
    pub fn import_shifted(&mut self, element: ElementId, bytes: &[u8], behind_ms: i64) -> Result<(), String> {
        let mut series = Usage::read(bytes)?;
        series.shift(behind_ms);
        self.elements.insert(element, series);
        Ok(())
    }

    /// Are these the bytes of a history?
    pub fn check(bytes: &[u8]) -> Result<(), String> {
        Usage::read(bytes).map(drop)
    }

    fn read(bytes: &[u8]) -> Result<Series, String> {
        let (version, rest) = bytes.split_first().ok_or("an empty usage history")?;
        if *version != VERSION {
            return Err(format!("usage history of version {version}; this program reads version {VERSION}"));
        }
        let (series, rest): (Series, _) =
            postcard::take_from_bytes(rest).map_err(|error| format!("damaged usage history: {error}"))?;
        match rest.len() {
            0 => series.checked().ok_or_else(|| "damaged usage history: out of order, or too long".to_owned()),
            more => Err(format!("damaged usage history: {more} bytes too many")),
        }
    }

    /// What an element's history takes in memory once it is full.
    pub const FULL_BYTES: usize = Series::FULL_BYTES;

    /// What all histories take in memory.
    pub fn bytes(&self) -> usize {
        self.elements.values().map(Series::bytes).sum()
    }

    /// The elements with a history, in their order.
    pub fn elements(&self) -> impl Iterator<Item = &ElementId> {
        let ordered: BTreeSet<&ElementId> = self.elements.keys().collect();
        ordered.into_iter()
    }
}

/// The version of the exported form.
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::vm;

    #[test]
    fn metrics_stand_in_the_order_of_their_table() {
        for (index, (metric, ..)) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, index, "series find a metric's value by its place");
        }
    }

    #[test]
    fn a_history_travels() {
        let mut usage = Usage::default();
        let mut guest = vm(1, "web", "a");
        let element = ElementId::Vm(guest.id);
        for second in 1..500 {
            (guest.load.cpu_cores, guest.load_at) = (Some(second as f32 / 500.0), Timestamp(second * 1_000));
            usage.record_vm(&guest);
        }
        let bytes = usage.export(&element).unwrap();
        let mut other = Usage::default();
        other.import(element.clone(), &bytes).unwrap();
        assert_eq!(other.export(&element), Some(bytes));
        let window = |usage: &Usage| usage.window(&element, Metric::Cpu, Span::hours(1), Timestamp(600_000));
        assert_eq!(window(&other), window(&usage));
        assert!(window(&usage).len() > NATIVE);
        assert!(other.import(element.clone(), &[]).is_err());
        assert!(other.import(element, &[9, 0]).is_err());
    }
}
