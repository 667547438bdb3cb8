//! Two planes that hand guests to each other, over one fleet of which each has hosts of its own.

use crate::fleet::Fleet;
use crate::plane::Plane;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The names of the planes.
pub const NAMES: [&str; 2] = ["site-a", "site-b"];

/// Two planes, their fleet, and the authority that vouches for them.
pub struct Pair {
    pub planes: [Plane; 2],
    pub fleet: Arc<Fleet>,
}

impl Pair {
    /// Two planes over a fleet with the hosts `a-1`, `a-2`, `b-1` and `b-2`.
    pub fn new(fleet: &str) -> Pair {
        Pair::wired(fleet, str::to_owned)
    }

    /// The same; where a plane listens at one address, the other dials the one that `wire` makes of it.
    pub fn wired(fleet: &str, mut wire: impl FnMut(&str) -> String) -> Pair {
        let fleet = Arc::new(Fleet::new(fleet));
        let folder = fleet.path("pki");
        pki(&folder, &["init"]);
        for name in NAMES {
            pki(&folder, &["issue", name]);
        }
        let listens = addresses();
        let dials = listens.each_ref().map(|address| wire(address));
        // No module is there yet.
        let plane = |own: usize, letter: &str| {
            let hosts = [1, 2].map(|number| format!("{letter}-{number}"));
            let hosts = hosts.each_ref().map(String::as_str);
            Plane::on(&fleet, NAMES[own], &hosts, &link(&folder, own, &listens[own], &dials[1 - own]))
        };
        let planes = [plane(0, "a"), plane(1, "b")];
        Pair { planes, fleet }
    }
}

/// What `embot pki` does in a folder.
pub fn pki(folder: &Path, words: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
    let output = command.arg("pki").args(words).arg("--folder").arg(folder).output().expect("embot starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two addresses of this machine that no other run, and no other pair of this one, has.
fn addresses() -> [String; 2] {
    static PAIRS: AtomicU32 = AtomicU32::new(0);
    let (id, port) = (std::process::id(), 7400 + PAIRS.fetch_add(1, Ordering::Relaxed));
    let [high, middle, low] = [id >> 14 & 0xff, id >> 6 & 0xff, (id & 0x3f) << 2];
    [1, 2].map(|plane| format!("127.{high}.{middle}.{}:{port}", low | plane))
}

fn link(pki: &Path, own: usize, listen: &str, dial: &str) -> String {
    let path = |file: &str| pki.join("planes").join(NAMES[own]).join(file).display().to_string();
    let [certificate, key, ca, crl] = ["plane.crt", "plane.key", "ca.crt", "crl.pem"].map(path);
    let peer = NAMES[1 - own];
    format!(
        "link: {{ listen: \"{listen}\", certificate: {certificate}, key: {key}, ca: {ca}, crl: {crl} }}
peers: [{{ name: {peer}, address: \"{dial}\", limits: {{ migrations: 1000 }} }}]
"
    )
}
