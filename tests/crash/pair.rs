//! Two planes that hand guests to each other, over one fleet of which each has hosts of its own.

use crate::fleet::Fleet;
use crate::plane::Plane;
use embot::clock::{Clock, SystemClock};
use embot::model::Timestamp;
use embot::pki::{Authority, Request};
use std::path::Path;
use std::sync::Arc;

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
        let fleet = Arc::new(Fleet::new(fleet));
        let pki = fleet.path("pki");
        let now = SystemClock::start(Timestamp(0)).now();
        let authority = Authority::init(&pki, "authority", now).expect("an authority");
        for name in NAMES {
            authority.issue(&Request::new(name), now).expect("a certificate");
        }
        // No module is there yet.
        let plane = |index: usize| {
            let (name, peer) = (NAMES[index], 1 - index);
            let hosts = ["a", "b"].map(|letter| [1, 2].map(|number| format!("{letter}-{number}")));
            let hosts = hosts[index].each_ref().map(String::as_str);
            Plane::on(&fleet, name, &hosts, &link(&pki, index, peer))
        };
        Pair { planes: [plane(0), plane(1)], fleet }
    }
}

/// An address of this machine that no other run has.
fn address(plane: usize) -> String {
    let id = std::process::id();
    let [high, middle, low] = [id >> 14 & 0xff, id >> 6 & 0xff, (id & 0x3f) << 2 | (plane as u32 + 1)];
    format!("127.{high}.{middle}.{low}:7400")
}

fn link(pki: &Path, own: usize, peer: usize) -> String {
    let path = |file: &str| pki.join("planes").join(NAMES[own]).join(file).display().to_string();
    let [certificate, key, ca, crl] = ["plane.crt", "plane.key", "ca.crt", "crl.pem"].map(path);
    let (listen, name, dial) = (address(own), NAMES[peer], address(peer));
    format!(
        "link: {{ listen: \"{listen}\", certificate: {certificate}, key: {key}, ca: {ca}, crl: {crl} }}
peers: [{{ name: {name}, address: \"{dial}\", limits: {{ migrations: 1000 }} }}]
"
    )
}
