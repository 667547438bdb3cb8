//! `embot init`: a folder with all that a plane needs, to start from.

use super::context::Context;
use super::failure::Failure;
use crate::api::stamp::Stamp;
use crate::clock::{Clock, SystemClock};
use crate::embot::SHIPPED;
use crate::model::{Mode, Span, Timestamp};
use crate::pki::{Authority, Certificate, PkiError, Request};
use std::path::{Path, PathBuf};

/// The modules that a new plane begins with, each of one policy of the same name.
const MODULES: [&str; 6] =
    ["relieve-hot-host", "restart-crashed", "evacuate-maintenance", "keep-apart", "admit-offers", "share-load"];

/// Their manifests, their policies, and the tests of these: path and text.
pub(super) fn first_files() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let is_first = |path: &str| {
        let (_, name) = path.split_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".yaml").trim_end_matches(".rhai").trim_end_matches("_test");
        MODULES.contains(&stem)
    };
    SHIPPED.iter().filter(move |(path, _)| is_first(path))
}

const REAL: &str = include_str!("init/plane.yaml");
const DEMO: &str = include_str!("init/demo.yaml");
const PAIR: &str = include_str!("init/pair.yaml");

/// The two planes of a demo, with the ports they listen at: each has the hosts of its site.
const PLANES: [(&str, u16); 2] = [("north", 7401), ("south", 7402)];
/// Certificates that end within this are made anew.
const SOON: Span = Span::hours(14 * 24);
/// Hosts of a site of the fleet that ships.
const HOSTS: usize = 4;

/// Make a folder with a configuration, the modules that ship and their policies. Files that are there already are kept.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot init plane                          for this machine's libvirt, modules in mode advise\n  embot init demo --demo --mode act         for the embedded simulated fleet, modules act at once\n  embot init demo --demo --two-planes       two planes that share the fleet and hand guests to each other\n  embot run --config demo/plane.yaml --follow"
)]
pub struct Init {
    /// The folder; made where it is not there.
    directory: PathBuf,
    /// For the simulated fleet that ships, in place of this machine's libvirt.
    #[arg(long)]
    demo: bool,
    /// Two planes that share the simulated fleet, with certificates for each other.
    #[arg(long, requires = "demo")]
    two_planes: bool,
    /// The mode that the modules start in.
    #[arg(long, default_value = "advise", value_parser = mode)]
    mode: Mode,
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Observe, Mode::Advise, Mode::Act]
        .into_iter()
        .find(|mode| mode.to_string() == text)
        .ok_or_else(|| "write observe, advise or act".to_owned())
}

impl Init {
    /// Writes the files, and says which.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let (mut written, mut kept) = (Vec::new(), Vec::new());
        for (name, text) in self.files() {
            let path = self.directory.join(name);
            match write_new(&path, &text) {
                Ok(true) => written.push(path.display().to_string()),
                Ok(false) => kept.push(path.display().to_string()),
                Err(error) => return Err(Failure::wrong(format!("cannot write {}: {error}", path.display()))),
            }
        }
        let until = if self.two_planes { Some(self.vouch().map_err(|error| Failure::of(&error))?) } else { None };
        let certificates_until = until.map(Stamp::from);
        let report = serde_json::json!({ "written": written, "kept": kept, "certificates_until": certificates_until });
        let next = self.next();
        context.show(&report, |screen| {
            let kept = if kept.is_empty() { String::new() } else { format!(", {} kept as they were", kept.len()) };
            let until = certificates_until.map(|until| {
                format!("the certificates end on {}; the same command again makes fresh ones\n", screen.date(until))
            });
            let (folder, until) = (self.directory.display(), until.unwrap_or_default());
            format!("{} files written in {folder}{kept}\n{until}next: {next}\n", written.len())
        })
    }

    /// What to type next.
    fn next(&self) -> String {
        let folder = self.directory.display();
        if !self.two_planes {
            return format!("embot run --config {folder}/plane.yaml --follow");
        }
        let runs = PLANES.map(|(plane, _)| format!("embot run --config {folder}/{plane}/plane.yaml"));
        format!("embot hypervisor --listen unix:{folder}/fleet.sock --fleet demo, {}", runs.join(", "))
    }

    fn files(&self) -> Vec<(String, String)> {
        let new_modules = format!("new_modules: {}", self.mode);
        let mode = format!("mode: {}", self.mode);
        let mut changes = vec![("mode: advise", mode.as_str())];
        if self.demo {
            // Quicker than a real plane should be, so that there is something to see.
            changes.extend([("wait: 2m", "wait: 20s"), ("cooldown: 10m", "cooldown: 1m")]);
        }
        let changed = |text: &str| changes.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
        let mut files = Vec::new();
        for (folder, plane) in self.planes() {
            files.push((format!("{folder}plane.yaml"), plane.replace("new_modules: advise", &new_modules)));
            files.extend(first_files().map(|(name, text)| (format!("{folder}{name}"), changed(text))));
        }
        files
    }

    /// The configurations, with the folders they belong in.
    fn planes(&self) -> Vec<(String, String)> {
        if !self.two_planes {
            return vec![(String::new(), if self.demo { DEMO } else { REAL }.to_owned())];
        }
        let plane = |own: usize| {
            let ((name, port), (peer, peer_port)) = (PLANES[own], PLANES[1 - own]);
            let host =
                |number| format!("  - {{ name: {name}-{number}, uri: \"simulated:unix:../fleet.sock\", site: {name} }}\n");
            let hosts: String = (1..=HOSTS).map(host).collect();
            let text = PAIR.replace("{own}", name).replace("{peer}", peer);
            let text = text.replace("{port}", &port.to_string()).replace("{peer_port}", &peer_port.to_string());
            (format!("{name}/"), text.replace("{hosts}\n", &hosts))
        };
        vec![plane(0), plane(1)]
    }

    /// An authority, and a certificate for each plane that has none yet, or one that ends soon. When the first of them ends.
    fn vouch(&self) -> Result<Timestamp, PkiError> {
        self.vouch_at(SystemClock::start(Timestamp(0)).now())
    }

    fn vouch_at(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        let folder = self.directory.join("pki");
        let authority = match Authority::open(&folder) {
            Err(PkiError::NoAuthority(_)) => Authority::init(&folder, "demo", now)?,
            opened => opened?,
        };
        let mut ends = Vec::new();
        for (plane, _) in PLANES {
            let (path, request) = (folder.join("planes").join(plane).join("plane.crt"), Request::new(plane));
            let certificate = match path.exists() {
                false => authority.issue(&request, now)?.certificate,
                true => match Certificate::read_file(&path)? {
                    old if old.until <= now + SOON => authority.renew(&request, false, now)?.certificate,
                    good => good,
                },
            };
            ends.push(certificate.until);
        }
        Ok(ends.into_iter().min().unwrap_or(now))
    }
}

/// Writes a file that is not there yet; `false`: it is there, and was left alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<bool> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::hypervisor::simulated::FleetPlan;
    use crate::pki::Credentials;

    fn init(folder: &Path, demo: bool, two_planes: bool, mode: Mode) -> Init {
        let init = Init { directory: folder.to_owned(), demo, two_planes, mode };
        for (name, text) in init.files() {
            assert!(write_new(&folder.join(&name), &text).unwrap(), "{name}");
        }
        init
    }

    #[test]
    fn modules_go_as_far_as_was_asked() {
        for demo in [false, true] {
            for mode in [Mode::Observe, Mode::Advise, Mode::Act] {
                let folder = tempfile::tempdir().unwrap();
                init(folder.path(), demo, false, mode);
                let config = Config::load(&folder.path().join("plane.yaml")).unwrap();
                assert_eq!(config.new_modules, mode, "demo: {demo}");
            }
        }
    }

    #[test]
    fn two_planes_share_the_fleet_that_ships_and_know_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let init = init(folder.path(), true, true, Mode::Act);
        init.vouch().unwrap();
        // A second time what is there stays.
        let before = std::fs::read(folder.path().join("pki/planes/north/plane.crt")).unwrap();
        init.vouch().unwrap();
        let certificate = || std::fs::read(folder.path().join("pki/planes/north/plane.crt")).unwrap();
        assert_eq!(certificate(), before);
        // Once it ends soon, or has ended, there is a fresh one.
        for days in [80, 2_000] {
            let (old, now) = (certificate(), SystemClock::start(Timestamp(0)).now() + Span::hours(24 * days));
            assert!(init.vouch_at(now).unwrap() > now + SOON);
            assert_ne!(certificate(), old, "after {days} days");
        }
        let fleet = FleetPlan::named(FleetPlan::DEMO_NAME).unwrap();
        let mut hosts = Vec::new();
        for (own, peer) in [("north", "south"), ("south", "north")] {
            let config = Config::load(&folder.path().join(own).join("plane.yaml")).unwrap();
            assert_eq!((&*config.plane, &*config.peers[0].name), (own, peer));
            let link = config.link_settings().unwrap();
            Credentials::load(&link.paths, own, SystemClock::start(Timestamp(0)).now()).unwrap();
            // Nothing in the folder names where it is, so it may be moved.
            let socket = format!("simulated:unix:{}", folder.path().join(own).join("../fleet.sock").display());
            assert!(config.hosts.iter().all(|host| *host.uri == *socket), "{:?}", config.hosts);
            hosts.extend(config.hosts.iter().map(|host| host.name.to_string()));
        }
        let shipped =
            fleet.hosts.iter().flat_map(|host| (1..=host.count).map(|number| host.name.replace("{n}", &number.to_string())));
        assert_eq!(hosts, shipped.collect::<Vec<_>>());
    }
}
