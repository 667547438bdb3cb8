//! What is asked of a fleet and what it answers, also across a socket.
//!
//! A frame is one byte of version, four bytes of length (little-endian) and that many bytes of postcard. The client asks, the
//! server answers, in turn; after [`Call::Listen`] the server sends a [`Said`] whenever there is something to say, and an
//! empty one now and then, so that either side notices when the other is gone.

use super::fault::Fault;
use super::fleet::{Begun, JobId, OrderState, Seen};
use crate::hypervisor::{Definition, Handover, HypervisorError, Order};
use crate::model::{HostId, HostReport, Mark, Notice, Sighting, Timestamp, VmId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};

/// The version of the frames and of what is in them.
const VERSION: u8 = 2;

/// No frame is longer.
const LONGEST: usize = 64 << 20;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Call {
    Hosts,
    Report {
        host: HostId,
        asked_at: Timestamp,
        seen: Option<Seen>,
    },
    Mark {
        host: HostId,
        vm: VmId,
    },
    Begin {
        host: HostId,
        order: Box<Order>,
    },
    Poll {
        host: HostId,
        job: JobId,
    },
    Cancel {
        job: JobId,
    },
    Inject(Fault),
    Listen,
    /// From now on an order of this number is not begun any more, where it was not begun yet: its manager died, and what it
    /// had sent may still be on its way.
    Fence {
        job: JobId,
    },
    Look {
        host: HostId,
        vm: VmId,
    },
    Definition {
        host: HostId,
        vm: VmId,
    },
    HandOver {
        host: HostId,
        handover: Box<Handover>,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    Hosts(Vec<HostId>),
    Report(Box<HostReport>, Seen),
    Mark(Option<Mark>),
    State {
        state: Option<OrderState>,
        /// The host hangs.
        stalled: bool,
    },
    Done,
    Sighting(Option<Sighting>),
    Definition(Definition),
    Begun(Begun),
    /// The host hangs; ask again.
    Stalled,
}

/// What a fleet says between answers; `None`: nothing, it is merely there.
pub(super) type Said = Option<(HostId, Notice)>;

/// An answer, or why there is none.
pub(super) type Reply = Result<Answer, HypervisorError>;

/// Sends a frame.
pub(super) fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a message too long to send"))?;
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.push(VERSION);
    frame.extend(length.to_le_bytes());
    frame.extend(body);
    stream.write_all(&frame)
}

/// Receives a frame.
pub(super) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let bad = |what: String| io::Error::new(ErrorKind::InvalidData, what);
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [version, length @ ..] = head;
    if version != VERSION {
        return Err(bad(format!("the other side speaks version {version}, this one version {VERSION}")));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(bad(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(|error| bad(format!("a message that cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ActionId;
    use proptest::prelude::*;

    #[test]
    fn frames_read_back_and_their_bytes_are_fixed() {
        let call = Call::Poll { host: "north-1".into(), job: JobId::Action("home".into(), ActionId(300)) };
        let mut bytes = Vec::new();
        send(&mut bytes, &call).unwrap();
        assert_eq!(bytes, b"\x02\x11\x00\x00\x00\x04\x07north-1\x00\x04home\xac\x02");
        assert_eq!(receive::<Call>(&mut bytes.as_slice()).unwrap(), call);
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let error = receive::<Call>(&mut [1, 0, 0, 0, 0].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "the other side speaks version 1, this one version 2");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = vec![VERSION];
            framed.extend((bytes.len() as u32).to_le_bytes());
            framed.extend(&bytes);
            let _ = receive::<Call>(&mut framed.as_slice());
            let _ = receive::<Call>(&mut bytes.as_slice());
        }
    }
}
