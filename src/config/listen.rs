//! Where the plane listens: addresses with a port, each of its own.

use super::{Check, Config};

/// A host and a port, which is a number.
pub(super) fn has_port(address: &str) -> bool {
    parts(address).is_some()
}

fn parts(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':').filter(|(host, _)| !host.is_empty())?;
    Some((host, port.parse().ok()?))
}

/// Does one listener keep the other from listening? Port 0 is whichever is free.
fn collide(one: &str, other: &str) -> bool {
    let (Some((host, port)), Some((other_host, other_port))) = (parts(one), parts(other)) else { return false };
    let is_everywhere = |host: &str| matches!(host, "0.0.0.0" | "[::]");
    port == other_port && port != 0 && (host == other_host || is_everywhere(host) || is_everywhere(other_host))
}

impl Config {
    /// What listens, and where in the configuration that stands.
    fn listeners(&self) -> Vec<([&'static str; 2], &str)> {
        let metrics = self.metrics.as_ref().map(|metrics| (["metrics", "listen"], &*metrics.listen));
        let link = self.link.as_ref().and_then(|link| Some((["link", "listen"], &**link.listen.as_ref()?)));
        let api = self.api.as_ref().map(|api| (["api", "listen"], &*api.listen));
        [metrics, link, api].into_iter().flatten().collect()
    }

    pub(super) fn check_listeners(&self, check: &mut Check<'_>) {
        let listeners = self.listeners();
        for (index, (path, address)) in listeners.iter().enumerate() {
            for ([other, key], other_address) in &listeners[..index] {
                let what = format!("takes the port of `{other}.{key}` as well");
                check.must(!collide(address, other_address), path, &what, "give each a port of its own");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_listen_get_in_each_others_way_only_where_they_do() {
        for (one, other, wanted) in [
            ("127.0.0.1:7400", "127.0.0.1:7400", true),
            ("0.0.0.0:7400", "127.0.0.1:7400", true),
            ("10.0.0.1:7400", "[::]:7400", true),
            ("10.0.0.1:7400", "10.0.0.2:7400", false),
            ("0.0.0.0:7400", "0.0.0.0:7401", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("here", "here", false),
        ] {
            assert_eq!(collide(one, other), wanted, "{one} {other}");
        }
    }
}
