//! `link` and `peers`: how this plane is reached by other planes, which ones, and what may pass.

use super::listen::has_port;
use super::{Check, Config};
use crate::migration::link::Settings;
use crate::pki::is_plane_name;
use crate::yaml::{Key, Shape};
use std::path::Path;

/// What `link` may contain.
pub(super) const LINK: Shape = Shape::Keys(&[
    Key::optional("listen", Shape::Text).like("\"0.0.0.0:7401\""),
    Key::required("certificate", Shape::Text).like("tls/plane.crt"),
    Key::required("key", Shape::Text).like("tls/plane.key"),
    Key::required("ca", Shape::Text).like("tls/ca.crt"),
    Key::optional("crl", Shape::Text).like("tls/crl.pem"),
]);

/// What `peers` may contain.
pub const PEERS: Shape = Shape::List(&Shape::Keys(&[
    Key::required("name", Shape::Name).like("site-b"),
    Key::optional("address", Shape::Text).like("\"b.example:7401\""),
    Key::optional("allow", Shape::List(&Shape::OneOf(&["send", "receive"]))).like("[send, receive]"),
    Key::optional(
        "limits",
        Shape::Keys(&[
            Key::optional("migrations", Shape::Whole),
            Key::optional("messages_per_s", Shape::Whole),
            Key::optional("mib_per_s", Shape::Whole),
        ]),
    ),
]));

impl Config {
    /// What the link needs to start; `None` where this plane speaks to no other.
    pub fn link_settings(&self) -> Option<Settings> {
        self.link.as_ref().map(|link| Settings::new(&self.plane, link, &self.peers))
    }

    /// Paths of the link start at the configuration file.
    pub(super) fn place_link(&mut self, base: &Path) {
        let Some(link) = &mut self.link else { return };
        for path in [&mut link.certificate, &mut link.key, &mut link.ca].into_iter().chain(&mut link.crl) {
            *path = base.join(&*path);
        }
    }

    pub(super) fn check_link(&self, check: &mut Check<'_>) {
        if let Some(link) = &self.link {
            let listens = link.listen.as_deref().is_none_or(has_port);
            check.must(listens, &["link", "listen"], "is not an address with a port", "write for example `0.0.0.0:7401`");
            let files = [("certificate", &link.certificate), ("key", &link.key), ("ca", &link.ca)];
            for (key, path) in files.into_iter().chain(link.crl.as_ref().map(|path| ("crl", path))) {
                let hint = "write the path of the file; `embot pki issue` makes all four";
                check.must(!path.as_os_str().is_empty(), &["link", key], "is empty", hint);
            }
            let named = is_plane_name(&self.plane);
            check.must(named, &["plane"], "cannot stand in a certificate", "choose a name of 1 to 64 letters and digits");
        } else if !self.peers.is_empty() {
            let error = check.document.error(&["peers"], "there are peers, and no `link` to reach them by");
            let hint = "add `link: { listen: \"0.0.0.0:7401\", certificate: tls/plane.crt, key: tls/plane.key, ca: tls/ca.crt, \
                        crl: tls/crl.pem }`; `embot pki issue` makes the files";
            check.found.push(error.with_hint(hint));
        }
        for (index, peer) in self.peers.iter().enumerate() {
            let number = index.to_string();
            let at = |key| ["peers", number.as_str(), key];
            if self.peers[..index].iter().any(|other| other.name == peer.name) {
                let error = check.document.error(&at("name"), format!("two peers are called `{}`", peer.name));
                check.found.push(error.with_hint("a peer is named as its certificate names it, once"));
            }
            check.must(peer.name != self.plane, &at("name"), "is this plane itself", "remove it");
            check.must(!peer.allow.is_empty(), &at("allow"), "allows nothing", "write `send`, `receive` or both");
            match &peer.address {
                Some(address) => {
                    let hint = "write for example `b.example:7401`";
                    check.must(has_port(address), &at("address"), "is not an address with a port", hint);
                }
                None => {
                    let hint = "name where the peer listens, or allow `receive` only";
                    check.must(!peer.sends(), &at("address"), "is needed to send to the peer", hint);
                }
            }
            let heard = self.link.as_ref().is_none_or(|link| link.listen.is_some());
            let hint = "add `link.listen`, or allow `send` only";
            check.must(!peer.receives() || heard, &at("allow"), "allows to receive, and this plane does not listen", hint);
            let limits = peer.limits;
            for (key, value) in
                [("migrations", limits.migrations), ("messages_per_s", limits.messages_per_s), ("mib_per_s", limits.mib_per_s)]
            {
                let hint = "remove the key for the default, or the peer for none";
                check.must(value > 0, &["peers", &number, "limits", key], "must be at least 1", hint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnostic;
    use crate::migration::link::PeerLimits;

    const LINK: &str = "link: { listen: '0.0.0.0:7401', certificate: tls/a.crt, key: tls/a.key, ca: /ca.crt }\n";

    fn read(rest: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot"))
    }

    #[test]
    fn a_peer_is_allowed_both_ways_unless_something_else_is_said() {
        let config = read(&format!("{LINK}peers: [{{ name: site-b, address: 'b:7401' }}]\n")).unwrap();
        let settings = config.link_settings().unwrap();
        assert_eq!(settings.paths.key, Path::new("/etc/embot/tls/a.key"));
        assert_eq!(settings.paths.ca, Path::new("/ca.crt"));
        let peer = &settings.peers[0];
        assert!(peer.sends() && peer.receives());
        assert_eq!(peer.limits, PeerLimits::default());
        assert!(read("").unwrap().link_settings().is_none());
    }

    #[test]
    fn complaints_about_the_link_name_their_place() {
        let texts = [
            "peers: [{ name: site-b, address: 'b:7401' }]\n".to_owned(),
            "link: { listen: here }\n".to_owned(),
            "link: { listen: here, certificate: a, key: '', ca: c }\n".to_owned(),
            "link: { certificate: a, key: b, ca: c }\npeers: [{ name: site-b, allow: [receive] }]\n".to_owned(),
            format!("{LINK}peers:\n  - {{ name: home, allow: [receive] }}\n  - {{ name: site-b }}\n"),
            format!(
                "{LINK}peers:\n  - {{ name: b, address: b }}\n  - {{ name: b, allow: [receive] }}\n  - {{ name: c, allow: [] }}\n"
            ),
            format!("{LINK}peers: [{{ name: b, allow: [receive, listen], limits: {{ migrations: 0, mib: 3 }} }}]\n"),
            format!("{LINK}peers: [{{ name: b, allow: [receive], limits: {{ migrations: 0, mib_per_s: 0 }} }}]\n"),
        ];
        let all: Vec<String> =
            texts.iter().map(|text| read(text).unwrap_err().iter().map(|one| format!("{one}\n")).collect()).collect();
        insta::assert_snapshot!(all.join("---\n"));
    }
}
