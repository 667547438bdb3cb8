//! Which hypervisor a URI means. The one place to name a new one.

use super::Hypervisor;
use super::libvirt::LibvirtHost;
use super::simulated::{LiveFleet, RemoteFleet};
use crate::clock::Clock;
use crate::model::HostId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The URI of a host of the fleet within this process.
pub const EMBEDDED: &str = "simulated:";
/// The URI of a host of a simulated fleet behind a socket starts so.
pub const BEHIND_SOCKET: &str = "simulated:unix:";

/// Opens hosts; hosts of one fleet share its connection.
pub struct Registry {
    clock: Arc<dyn Clock>,
    embedded: Option<Arc<LiveFleet>>,
    remote: BTreeMap<PathBuf, Arc<RemoteFleet>>,
}

impl Registry {
    /// A registry; `embedded` is the fleet within this process, if there is one.
    pub fn new(clock: Arc<dyn Clock>, embedded: Option<Arc<LiveFleet>>) -> Registry {
        Registry { clock, embedded, remote: BTreeMap::new() }
    }

    /// A connection to a host. Nothing is connected yet; a host that cannot be reached shows when it is asked something.
    pub fn open(&mut self, host: &HostId, uri: &str) -> Result<Arc<dyn Hypervisor>, String> {
        if let Some(path) = uri.strip_prefix(BEHIND_SOCKET) {
            let clock = &self.clock;
            let fleet = self.remote.entry(path.into()).or_insert_with_key(|path| RemoteFleet::new(path, clock.clone()));
            return Ok(Arc::new(fleet.host(host)));
        }
        if uri == EMBEDDED {
            let fleet = self.embedded.as_ref();
            let fleet = fleet.ok_or_else(|| format!("host {host}: `{EMBEDDED}` needs a `fleet` in the configuration"))?;
            return Ok(Arc::new(fleet.host(host)));
        }
        if uri.starts_with("simulated") || !uri.contains(':') {
            return Err(format!(
                "host {host}: `{uri}` is no URI of a hypervisor; write `qemu:///system`, \
                                `qemu+ssh://root@NAME/system` or `{BEHIND_SOCKET}/run/fleet.sock`"
            ));
        }
        Ok(Arc::new(LibvirtHost::new(host.clone(), uri, self.clock.clone())))
    }
}
