//! `metrics` and `traces`: where the plane's figures are read, and where the way of events is told.

use super::{Check, Config};
use crate::yaml::{Key, Shape};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// What `metrics` may contain.
pub(super) const METRICS: Shape = Shape::Keys(&[Key::optional("listen", Shape::Text).like("\"127.0.0.1:7410\"")]);

/// What `traces` may contain.
pub(super) const TRACES: Shape = Shape::Keys(&[Key::required("endpoint", Shape::Text).like("\"http://127.0.0.1:4318\"")]);

/// An address for figures only, in plain HTTP and for whoever can connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// The address and port; this machine's own address unless something else is said.
    pub listen: Arc<str>,
}

impl Default for MetricsConfig {
    fn default() -> MetricsConfig {
        MetricsConfig { listen: "127.0.0.1:7410".into() }
    }
}

/// A collector that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Its address, without the path.
    pub endpoint: Arc<str>,
}

impl TracesConfig {
    /// Host and port to connect to, where the address names them.
    pub fn authority(&self) -> Option<&str> {
        let rest = self.endpoint.strip_prefix("http://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':')?;
        let plain = !authority.contains(['/', '@', '?', '#', ' ']);
        (!host.is_empty() && plain && port.parse::<u16>().is_ok()).then_some(authority)
    }
}

impl Config {
    pub(super) fn check_observe(&self, check: &mut Check<'_>) {
        if let Some(metrics) = &self.metrics {
            let hint = "write a numeric address and a port, for example `127.0.0.1:7410`, or `0.0.0.0:7410` for all who reach this machine";
            let address = metrics.listen.parse::<SocketAddr>();
            check.must(address.is_ok(), &["metrics", "listen"], "is not an address with a port", hint);
        }
        if let Some(traces) = &self.traces {
            let hint =
                "write for example `http://127.0.0.1:4318`: a collector close by, in plain HTTP, which may pass on with TLS";
            let named = traces.authority().is_some();
            check.must(named, &["traces", "endpoint"], "is not an address that traces can go to", hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(rest: &str) -> Result<Config, String> {
        let read = Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot"));
        read.map_err(|found| found.iter().map(|one| format!("{one}\n")).collect())
    }

    #[test]
    fn figures_stay_on_this_machine_unless_something_else_is_said() {
        assert_eq!(read("").unwrap().metrics, None);
        assert_eq!(&*read("metrics: {}\n").unwrap().metrics.unwrap().listen, "127.0.0.1:7410");
        assert_eq!(&*read("metrics: { listen: '[::]:9' }\n").unwrap().metrics.unwrap().listen, "[::]:9");
        let traces = read("traces: { endpoint: 'http://collector.example:4318/' }\n").unwrap().traces.unwrap();
        assert_eq!(traces.authority(), Some("collector.example:4318"));
    }

    #[test]
    fn complaints_about_figures_and_traces_name_their_place() {
        for (text, place) in [
            ("metrics: { listen: here }\n", "`metrics.listen` is not an address"),
            ("metrics: { port: 7410 }\n", "port"),
            ("traces: {}\n", "endpoint"),
            ("traces: { endpoint: 'https://collector:4318' }\n", "`traces.endpoint` is not an address"),
            ("traces: { endpoint: 'http://collector:4318/v1/traces' }\n", "`traces.endpoint` is not an address"),
        ] {
            let complaint = read(text).unwrap_err();
            assert!(complaint.contains(place) && complaint.contains("plane.yaml:3"), "{text}{complaint}");
        }
    }
}
