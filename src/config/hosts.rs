//! What the shape cannot say of `hosts`: names and URIs of their own, of known hypervisors, that lead here from elsewhere too.

use super::{Check, Config};
use crate::hypervisor::BEHIND_SOCKET;
use crate::migration::link::PeerSettings;
use std::path::Path;

/// What a hypervisor's URI may begin with: libvirt's drivers, and the simulated one.
const SCHEMES: &[&str] =
    &["qemu", "xen", "lxc", "ch", "bhyve", "vbox", "vz", "esx", "vpx", "gsx", "hyperv", "vmwareplayer", "test", "simulated"];

impl Config {
    /// Sockets of simulated fleets start at the configuration file.
    pub(super) fn place_hosts(&mut self, base: &Path) {
        for uri in self.hosts.iter_mut().flat_map(|host| [Some(&mut host.uri), host.migration_uri.as_mut()]).flatten() {
            if let Some(socket) = uri.strip_prefix(BEHIND_SOCKET) {
                *uri = format!("{BEHIND_SOCKET}{}", base.join(socket).display()).into();
            }
        }
    }

    pub(super) fn check_hosts(&self, check: &mut Check<'_>) {
        if self.hosts.is_empty() && self.fleet.is_none() {
            let hint = "add `hosts: [{ name: host-a, uri: \"qemu:///system\" }]`, or `fleet: demo` for a simulated fleet";
            check.found.push(check.document.error(&["hosts"], "the plane has no hosts").with_hint(hint));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let number = index.to_string();
            let earlier = &self.hosts[..index];
            if earlier.iter().any(|other| other.name == host.name) {
                let error = check.document.error(&["hosts", &number, "name"], format!("two hosts are called `{}`", host.name));
                check.found.push(error.with_hint("a host's name must be its own within the plane"));
            }
            // All hosts of a simulated fleet share its socket; they differ by name.
            let shared = host.uri.starts_with(BEHIND_SOCKET);
            if let Some(other) = earlier.iter().find(|other| other.uri == host.uri).filter(|_| !shared) {
                let message = format!("hosts `{}` and `{}` have the same uri", other.name, host.name);
                let error = check.document.error(&["hosts", &number, "uri"], message);
                check.found.push(error.with_hint("each host is one hypervisor; remove one of the two"));
            }
            let uris = [("uri", Some(&host.uri)), ("migration_uri", host.migration_uri.as_ref())];
            for (key, uri) in uris.into_iter().filter_map(|(key, uri)| uri.map(|uri| (key, uri))) {
                if uri.split_once(':').is_none_or(|(scheme, rest)| scheme.is_empty() || rest.is_empty()) {
                    let error = check.document.error(&["hosts", &number, key], format!("`{uri}` is not a hypervisor's URI"));
                    let hint =
                        "write for example `qemu:///system`, `qemu+tcp://10.0.0.1/system` or `simulated:unix:/run/fleet.sock`";
                    check.found.push(error.with_hint(hint));
                } else if let Some(scheme) = uri.split([':', '+']).next().filter(|scheme| !SCHEMES.contains(scheme)) {
                    let error =
                        check.document.error(&["hosts", &number, key], format!("no hypervisor has URIs of `{scheme}:`"));
                    let hint = match crate::error::nearest(scheme, SCHEMES.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are {}", SCHEMES.join(", ")),
                    };
                    check.found.push(error.with_hint(hint));
                }
            }
            let (key, uri) = host.migration_uri.as_ref().map_or(("uri", &host.uri), |uri| ("migration_uri", uri));
            if self.peers.iter().any(PeerSettings::receives) && names_no_host(uri) {
                let message = format!("peers may send guests here, and to them `{uri}` would mean a hypervisor of their own");
                let error = check.document.error(&["hosts", &number, key], message);
                let hint = "give as `migration_uri` what leads here from other hosts, such as `qemu+tls://HOST/system`; or let peers \
                            only receive (`allow: [send]`)";
                check.found.push(error.with_hint(hint));
            }
            if let Some(capacity) = host.capacity {
                let at = |key| ["hosts", number.as_str(), "capacity", key];
                check.must(
                    capacity.cpus > 0,
                    &at("cpus"),
                    "must be at least 1",
                    "remove `capacity` to take what the host reports",
                );
                let some = capacity.memory_mib > 0;
                check.must(some, &at("memory_mib"), "must be at least 1", "remove `capacity` to take what the host reports");
            }
        }
    }
}

/// Does a URI of a real hypervisor mean whatever host it is read on?
fn names_no_host(uri: &str) -> bool {
    let imitated = |scheme: &str| matches!(scheme.split('+').next(), Some("test" | "simulated"));
    let (scheme, rest) = uri.split_once(':').unwrap_or_default();
    let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    !imitated(scheme) && host.is_empty()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::read;

    #[test]
    fn hosts_of_a_simulated_fleet_share_its_socket() {
        let hosts = r#"[{ name: a, uri: "simulated:unix:/f.sock" }, { name: b, uri: "simulated:unix:/f.sock" }]"#;
        assert_eq!(read(&format!("plane: home\nhosts: {hosts}\n")).unwrap().hosts.len(), 2);
    }

    #[test]
    fn peers_that_send_guests_here_must_find_their_way() {
        let with = |host: &str, peers: &str| {
            read(&format!(
                "{host}\nlink: {{ listen: '0.0.0.0:1', certificate: c, key: k, ca: a }}\npeers: {peers}\nplane: home\n"
            ))
        };
        let (both, send) = ("[{ name: b, address: 'b:1' }]", "[{ name: b, address: 'b:1', allow: [send] }]");
        for there in ["qemu+tls://h/system", "test:///default", "simulated:unix:/f.sock"] {
            assert!(with(&format!("hosts: [{{ name: a, uri: '{there}' }}]"), both).is_ok(), "{there}");
        }
        for nowhere in ["qemu:///system", "qemu+unix:///system?socket=/run/s", "xen:/system"] {
            let host = format!("hosts: [{{ name: a, uri: '{nowhere}' }}]");
            let found = with(&host, both).unwrap_err();
            assert!(found[0].to_string().contains("migration_uri"), "{}", found[0]);
            assert!(with(&host, send).is_ok());
            let told = host.replace(" }]", ", migration_uri: 'qemu+tls://h/system' }]");
            assert!(with(&told, both).is_ok(), "{told}");
        }
    }
}
