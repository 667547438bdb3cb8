//! `handover`: how guests go to other planes, how long that may take, and what those that come find under another name here.

use super::{Check, Config};
use crate::migration::message::Rewrite;
use crate::migration::{ResumeBy, Timing};
use crate::model::Span;
use crate::yaml::{Key, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What `handover` may contain.
pub(super) const SHAPE: Shape = Shape::Keys(&[
    Key::optional("resume", Shape::OneOf(&["by-manager", "by-hypervisor"])),
    Key::optional("step_timeout", Shape::Span),
    Key::optional("timeout", Shape::Span),
    Key::optional("lease", Shape::Span),
    Key::optional(
        "names",
        Shape::Keys(&[
            Key::optional("paths", Shape::Named(&Shape::Text)),
            Key::optional("networks", Shape::Named(&Shape::Text)),
            Key::optional("listen", Shape::Text).like("\"10.0.0.2\""),
        ]),
    ),
]);

/// Guests that go to other planes, and guests that come from them. What concerns the move itself (bandwidth, pause, TLS, copies
/// of disks) stands under `migration`, for it holds within the plane as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandoverConfig {
    /// Who lets a guest of this plane run on where it has arrived: the other plane's manager after its commit (whatever breaks,
    /// the guest runs once), or the hypervisor at once (a shorter pause, but only where a lock on its disks keeps a second copy
    /// from running: virtlockd, RBD's exclusive lock).
    pub resume: ResumeBy,
    /// A step that the other plane has not answered for so long is given up; from the move on, it alarms.
    pub step_timeout: Span,
    /// All steps up to the end of the move may take so long, the shutdown and the copy of a cold guest included.
    pub timeout: Span,
    /// Room on a host of this plane is kept so long for a guest that was let in, unless its move begins.
    pub lease: Span,
    /// What guests that come find here under another name.
    pub names: Names,
}

/// What the guests of other planes name, and what it is called here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// Files and devices, by absolute path there. A key that ends in `/` is a folder and all in it; the longest that fits counts.
    /// A guest that comes cold reaches nothing that is not named: what is called the same is mapped to itself.
    pub paths: BTreeMap<Arc<str>, Arc<str>>,
    /// Bridges and libvirt networks, by name there. As with paths, a cold guest reaches only those that are named.
    pub networks: BTreeMap<Arc<str>, Arc<str>>,
    /// The address that consoles listen at; as there where not set.
    pub listen: Option<Arc<str>>,
}

impl Default for HandoverConfig {
    fn default() -> HandoverConfig {
        let Timing { step, whole, .. } = Timing::default();
        HandoverConfig {
            resume: ResumeBy::default(),
            step_timeout: step,
            timeout: whole,
            lease: Span::minutes(10),
            names: Names::default(),
        }
    }
}

impl HandoverConfig {
    /// How long things may take.
    pub fn timing(&self) -> Timing {
        Timing { step: self.step_timeout, whole: self.timeout, ..Timing::default() }
    }
}

impl Names {
    /// The same as an offer is answered with it.
    pub fn rewrites(&self) -> Vec<Rewrite> {
        let pairs = |map: &BTreeMap<Arc<str>, Arc<str>>| map.clone().into_iter();
        let files = pairs(&self.paths).map(|(from, to)| Rewrite::File { from, to });
        let networks = pairs(&self.networks).map(|(from, to)| Rewrite::Network { from, to });
        let listen = self.listen.iter().map(|to| Rewrite::Listen { from: "".into(), to: to.clone() });
        files.chain(networks).chain(listen).collect()
    }
}

impl Config {
    pub(super) fn check_handover(&self, check: &mut Check<'_>) {
        let HandoverConfig { step_timeout, timeout, lease, names, .. } = &self.handover;
        let at = |key| ["handover", key];
        let some = *step_timeout >= Span::seconds(1);
        check.must(some, &at("step_timeout"), "must be at least 1s", "what was sent is repeated every 2s; 20s is the default");
        let longer = timeout > step_timeout;
        check.must(longer, &at("timeout"), "must be longer than a step", "write for example `30m`, the default");
        let longer = lease >= step_timeout;
        check.must(longer, &at("lease"), "must not be shorter than a step", "write for example `10m`, the default");
        for (from, to) in &names.paths {
            let at = ["handover", "names", "paths", from];
            let is_path = |path: &str| path.starts_with('/') && !path.split('/').any(|step| step == "..");
            check.must(
                is_path(from) && is_path(to),
                &at,
                "is not a pair of absolute paths",
                "write `/there: /here`, without `..`",
            );
            let alike = from.ends_with('/') == to.ends_with('/');
            check.must(alike, &at, "maps a folder to a file, or a file to a folder", "end both with `/`, or neither");
        }
        for (from, to) in &names.networks {
            let at = ["handover", "names", "networks", from];
            let named = !from.is_empty() && !to.is_empty();
            check.must(named, &at, "names nothing", "write `there: here`, each the name of a bridge or a libvirt network");
        }
        let address = names.listen.as_ref().is_none_or(|listen| listen.parse::<IpAddr>().is_ok());
        let hint = "write for example `0.0.0.0`, or the host's address in the network of those who look at consoles";
        check.must(address, &["handover", "names", "listen"], "is not an IP address", hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnostic;
    use std::path::Path;

    fn read(rest: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot"))
    }

    #[test]
    fn what_is_written_is_what_offers_are_answered_with() {
        let text = "handover: { resume: by-hypervisor, step_timeout: 5s, timeout: 2h, lease: 3m, \
                    names: { paths: { /a/: /b/ }, networks: { br0: lan }, listen: '::' } }\n";
        let config = read(text).unwrap().handover;
        assert_eq!(config.resume, ResumeBy::Hypervisor);
        assert_eq!((config.timing().step, config.timing().whole), (Span::seconds(5), Span::hours(2)));
        assert_eq!(config.timing().again, Timing::default().again);
        insta::assert_debug_snapshot!(config.names.rewrites());
        let usual = read("").unwrap().handover;
        assert_eq!((usual.timing(), usual.names.rewrites()), (Timing::default(), Vec::new()));
    }

    #[test]
    fn complaints_about_handovers_name_their_place() {
        let texts = [
            "handover: { resume: by-nobody, step_timout: 5s }\n",
            "handover: { step_timeout: 100ms, timeout: 50ms, lease: 1ms }\n",
            "handover:\n  names:\n    paths: { images/: /b/, /a/: /b, /c: /../d }\n    networks: { br0: '' }\n    listen: here\n",
        ];
        let all: Vec<String> =
            texts.iter().map(|text| read(text).unwrap_err().iter().map(|one| format!("{one}\n")).collect()).collect();
        insta::assert_snapshot!(all.join("---\n"));
    }
}
