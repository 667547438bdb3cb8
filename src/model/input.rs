//! All that can reach the manager. Closed, so that a journal of inputs is a complete account of what it knew.

use super::action::{ActionId, ActionUpdate, Progress};
use super::command::{Command, Ticket};
use super::element::HostId;
use super::host::Abilities;
use super::migration::MigrationId;
use super::peer::Summary;
use super::report::{HostReport, Notice};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A poll of a host was answered.
    Report(HostId, HostReport),
    /// A host said something between polls.
    Notice(HostId, Notice),
    /// A host was lost; why.
    HostLost(HostId, Arc<str>),
    /// An effector tells of an action.
    Update(ActionId, ActionUpdate),
    /// An admin asks.
    Command {
        /// What.
        command: Command,
        /// Who.
        by: Arc<str>,
        /// Where the answer goes.
        ticket: Option<Ticket>,
    },
    /// Nothing but time has passed; timers may be due.
    Tick,
    /// A peer, or a host of this plane, tells of migrations between planes.
    Migration(MigrationInput),
    /// What a host can give guests beside room: once it answers, and when it changes.
    Abilities(HostId, Abilities),
}

/// What reaches the manager about migrations between planes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationInput {
    /// A peer says something.
    Message {
        /// Who, as its certificate says.
        peer: Arc<str>,
        /// By how much this plane's clock is ahead of the peer's, in milliseconds, as the link measured it.
        ahead_ms: i64,
        /// What, as it stands on the wire.
        bytes: Bytes,
    },
    /// The link to a peer came up, or went down.
    Link {
        /// To whom.
        peer: Arc<str>,
        /// Up?
        up: bool,
    },
    /// A peer tells what it has to give.
    Summary {
        /// Who.
        peer: Arc<str>,
        /// What.
        summary: Summary,
    },
    /// A host describes a guest that is to go; or says why it cannot.
    Described {
        /// For which migration.
        migration: MigrationId,
        /// The guest as a peer must know it, in the form of `migration`.
        guest: Result<Bytes, Arc<str>>,
    },
    /// A host answers an order.
    Answer {
        /// Of which migration.
        migration: MigrationId,
        /// The order's number.
        order: u32,
        /// How, in the form of `migration`.
        answer: Bytes,
    },
    /// How far the hypervisor's job is.
    Progress {
        /// Of which migration.
        migration: MigrationId,
        /// How far.
        progress: Progress,
    },
}

/// Bytes that others understand. People see them as hexadecimal digits; cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Arc<[u8]>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes.into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        let hex = self.0.iter().fold(String::with_capacity(self.0.len() * 2), |mut hex, byte| {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            hex.extend([digit(byte >> 4), digit(byte & 15)]);
            hex
        });
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::<u8>::deserialize(deserializer).map(Bytes::from);
        }
        let hex = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = hex.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits = digits.ok_or_else(|| D::Error::custom("bytes are written as pairs of hexadecimal digits"))?;
        Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>().into())
    }
}

impl Input {
    /// Is it only samples, so that a crash may lose it?
    pub fn is_sample(&self) -> bool {
        use MigrationInput::{Progress, Summary};
        matches!(
            self,
            Input::Report(..)
                | Input::Abilities(..)
                | Input::Tick
                | Input::Update(_, ActionUpdate::Progress(_))
                | Input::Migration(Progress { .. } | Summary { .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_as_they_print() {
        let bytes = Bytes::from(vec![0, 1, 0x9f, 255]);
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(text, "\"00019fff\"");
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        assert_eq!(postcard::from_bytes::<Bytes>(&postcard::to_stdvec(&bytes).unwrap()).unwrap(), bytes);
        for text in ["\"0\"", "\"zz\"", "7"] {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }
}
