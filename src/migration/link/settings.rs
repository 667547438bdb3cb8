//! What an admin says about the link and the peers, and the time limits of the link.

use crate::model::{Peer, Span};
use crate::pki::Paths;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// `link:` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// Where other planes may dial, as `ADDRESS:PORT`; without it, this plane only dials.
    #[serde(default)]
    pub listen: Option<Arc<str>>,
    /// This plane's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates are accepted.
    pub ca: PathBuf,
    /// The certificates they have revoked; without it, none are looked up.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

impl LinkSettings {
    /// The files.
    pub fn paths(&self) -> Paths {
        Paths { certificate: self.certificate.clone(), key: self.key.clone(), ca: self.ca.clone(), crl: self.crl.clone() }
    }
}

/// What may pass between two planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This plane may offer guests to the peer.
    Send,
    /// The peer may offer guests to this plane.
    Receive,
}

/// One of `peers:` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// The plane's name, as its certificate says.
    pub name: Arc<str>,
    /// Where it listens, as `HOST:PORT`; needed where guests may be sent to it.
    #[serde(default)]
    pub address: Option<Arc<str>>,
    /// What is allowed.
    #[serde(default = "both_ways")]
    pub allow: Vec<Direction>,
    /// How much.
    #[serde(default)]
    pub limits: PeerLimits,
}

fn both_ways() -> Vec<Direction> {
    vec![Direction::Send, Direction::Receive]
}

impl PeerSettings {
    /// May this plane offer guests to it?
    pub fn sends(&self) -> bool {
        self.allow.contains(&Direction::Send)
    }

    /// May it offer guests to this plane?
    pub fn receives(&self) -> bool {
        self.allow.contains(&Direction::Receive)
    }

    /// The peer, with nothing known of it yet.
    pub fn peer(&self) -> Peer {
        Peer { migrations: self.limits.migrations, ..Peer::new(&self.name, self.sends(), self.receives()) }
    }
}

/// How much one peer may ask of this plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerLimits {
    /// Guests that may be on their way at a time, both ways together.
    pub migrations: u32,
    /// Messages a second; what is more waits.
    pub messages_per_s: u32,
    /// Bytes of messages a second, in MiB; what is more waits.
    pub mib_per_s: u32,
}

impl Default for PeerLimits {
    fn default() -> PeerLimits {
        PeerLimits { migrations: Peer::MIGRATIONS, messages_per_s: 5_000, mib_per_s: 64 }
    }
}

/// How long things on the link may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connecting, and the TLS handshake.
    pub handshake: Span,
    /// Until the first frame.
    pub hello: Span,
    /// Between two pings.
    pub ping: Span,
    /// A stream on which nothing is heard for this long is lost.
    pub idle: Span,
    /// After a failure, dialling waits first for this, then for twice as long, and so on,
    pub again_first: Span,
    /// up to this.
    pub again_most: Span,
    /// How often the files of certificates are looked at.
    pub reload: Span,
    /// Handshakes at once; further ones wait.
    pub handshakes: usize,
    /// Connections at once of one plane; further ones are refused.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake: Span::seconds(5),
            hello: Span::seconds(5),
            ping: Span::seconds(5),
            idle: Span::seconds(20),
            again_first: Span(250),
            again_most: Span::seconds(15),
            reload: Span::seconds(5),
            handshakes: 64,
            connections: 4,
        }
    }
}
