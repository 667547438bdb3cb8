//! Frames as they travel, and what is refused in them. Pure: bytes come from a peer and are hostile until shown otherwise.

use super::proto::frame::Body;
use super::proto::{self, Frame, Hello, Kind};
use crate::migration::ReasonKind;
use crate::migration::message::{self, Envelope, MESSAGE_BYTES, Message};
use crate::model::Summary;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A frame's bytes, at most: the largest message, and room for what is around it.
pub const FRAME_BYTES: usize = MESSAGE_BYTES + 4_096;
/// Texts of a summary are cut to this; entries beyond this many are left out.
const SUMMARY_TEXT: usize = 128;
const SUMMARY_ENTRIES: usize = 256;
/// A farewell's words, at most, in characters.
const FAREWELL: usize = 500;

/// Which of the two planes speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The one that dialled: the source of all migrations on the stream.
    Dialler,
    /// The one that listens: their target.
    Listener,
}

/// Versions of the protocol that a plane knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// What this program speaks: the current version; once there is a second one, the previous one as well.
pub const VERSIONS: Versions = Versions { oldest: 1, newest: 1 };

impl Versions {
    /// The highest version that both know.
    pub fn agree(self, theirs: Versions) -> Result<u32, Violation> {
        let version = self.newest.min(theirs.newest);
        let common = version >= self.oldest.max(theirs.oldest) && theirs.oldest <= theirs.newest && version > 0;
        common.then_some(version).ok_or(Violation::Versions { ours: self, theirs })
    }
}

/// Why a peer's frame ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Repeated, or left out.
    #[error("frame {found} came in place of frame {expected}")]
    Number {
        /// The one that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Nothing in it that this version knows.
    #[error("a frame without content")]
    Empty,
    /// No Hello at first, or one later.
    #[error("a Hello must come first, and only once")]
    Order,
    /// Somebody else than its certificate says.
    #[error("it calls itself `{said}`, and its certificate names plane {certified}")]
    Impostor {
        /// What it says.
        said: String,
        /// What the certificate says.
        certified: Arc<str>,
    },
    /// It looks for another plane.
    #[error("it looks for plane `{wanted}`, and this is plane {here}: check the address in its configuration")]
    Misdirected {
        /// Whom it looks for.
        wanted: String,
        /// Who this is.
        here: Arc<str>,
    },
    /// No version in common.
    #[error(
        "it speaks versions {} to {} of the protocol, and this plane speaks {} to {}: bring both to releases that overlap",
        .theirs.oldest, .theirs.newest, .ours.oldest, .ours.newest
    )]
    Versions {
        /// Of this plane.
        ours: Versions,
        /// Of the peer.
        theirs: Versions,
    },
    /// The answer names a version that was not on offer.
    #[error("it answered with version {0} of the protocol, which was not on offer")]
    Version(u32),
    /// Not a message of a migration.
    #[error(transparent)]
    Message(#[from] message::MessageError),
    /// The frame says one thing, its content another.
    #[error("a frame about {said} has content about {found}")]
    Mismatch {
        /// The frame.
        said: String,
        /// The content.
        found: String,
    },
    /// A migration of another plane.
    #[error("it spoke about migration {migration}, and this stream carries migrations of plane {source_plane} only")]
    Foreign {
        /// The migration.
        migration: String,
        /// Whose migrations the stream carries.
        source_plane: Arc<str>,
    },
    /// What only the other side may say.
    #[error("{0} is not for this side to say")]
    Side(&'static str),
}

/// What a frame says after the Hello.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// What time is it?
    Ping(u64),
    /// The time.
    Pong(proto::Pong),
    /// What the plane has to give.
    Summary(Summary),
    /// About a migration.
    Message(Box<Envelope>),
    /// The stream ends.
    Farewell(String),
}

/// Reads a peer's frames in their order.
#[derive(Debug)]
pub struct Reader {
    /// Who speaks.
    speaker: Speaker,
    /// The plane that dialled.
    source: Arc<str>,
    /// The plane that listens.
    target: Arc<str>,
    next: u64,
}

impl Reader {
    /// Reads what `speaker` says on a stream from plane `source` to plane `target`.
    pub fn new(speaker: Speaker, source: Arc<str>, target: Arc<str>) -> Reader {
        Reader { speaker, source, target, next: 1 }
    }

    fn count(&mut self, found: u64) -> Result<(), Violation> {
        let expected = self.next;
        if found != expected {
            return Err(Violation::Number { expected, found });
        }
        self.next += 1;
        Ok(())
    }

    /// The first frame. The speaker must be who its certificate says, and must mean this plane. Says which versions it knows,
    /// and which one it chose.
    pub fn hello(&mut self, frame: &Frame) -> Result<(Versions, u32), Violation> {
        self.count(frame.number)?;
        let Some(Body::Hello(hello)) = &frame.body else { return Err(Violation::Order) };
        let (certified, here) = match self.speaker {
            Speaker::Dialler => (&self.source, &self.target),
            Speaker::Listener => (&self.target, &self.source),
        };
        if hello.plane != **certified {
            return Err(Violation::Impostor { said: words(&hello.plane, 80), certified: certified.clone() });
        }
        if hello.to != **here {
            return Err(Violation::Misdirected { wanted: words(&hello.to, 80), here: here.clone() });
        }
        Ok((Versions { oldest: hello.oldest, newest: hello.newest }, hello.version))
    }

    /// A later frame.
    pub fn read(&mut self, frame: Frame) -> Result<Said, Violation> {
        self.count(frame.number)?;
        Ok(match frame.body.ok_or(Violation::Empty)? {
            Body::Hello(_) => return Err(Violation::Order),
            Body::Ping(ping) => Said::Ping(ping.id),
            Body::Pong(pong) => Said::Pong(pong),
            Body::Summary(summary) => Said::Summary(summary.into()),
            Body::Farewell(farewell) => Said::Farewell(words(&farewell.reason, FAREWELL)),
            Body::Message(message) => Said::Message(Box::new(self.message(&message)?)),
        })
    }

    fn message(&self, message: &proto::Message) -> Result<Envelope, Violation> {
        let envelope = message::decode(&message.content)?;
        let found = envelope.id.to_string();
        if message.migration != found {
            return Err(Violation::Mismatch { said: words(&message.migration, 120), found });
        }
        if envelope.id.plane != self.source {
            return Err(Violation::Foreign { migration: words(&found, 120), source_plane: self.source.clone() });
        }
        let kind = kind(&envelope.message);
        if message.kind != i32::from(kind) {
            let said =
                Kind::try_from(message.kind).map_or_else(|number| number.to_string(), |kind| kind.as_str_name().to_owned());
            return Err(Violation::Mismatch { said, found: kind.as_str_name().to_owned() });
        }
        if speaker(kind).is_some_and(|speaker| speaker != self.speaker) {
            return Err(Violation::Side(kind.as_str_name()));
        }
        if let Message::Offer(offer) = &envelope.message
            && (offer.from != self.source || offer.to != self.target)
        {
            let said = format!("an offer by plane {} to plane {}", words(&offer.from, 80), words(&offer.to, 80));
            return Err(Violation::Mismatch { said, found: format!("a stream from {} to {}", self.source, self.target) });
        }
        Ok(envelope)
    }
}

/// Numbers the frames of one side.
#[derive(Debug, Default)]
pub struct Numbers(u64);

impl Numbers {
    /// The next frame.
    pub fn frame(&mut self, body: Body) -> Frame {
        self.0 += 1;
        Frame { number: self.0, body: Some(body) }
    }
}

/// A first frame's content.
pub fn hello(plane: &str, to: &str, versions: Versions, version: u32) -> Body {
    let Versions { oldest, newest } = versions;
    Body::Hello(Hello { plane: plane.to_owned(), to: to.to_owned(), oldest, newest, version })
}

/// A message's frame. Fails on what the peer would refuse.
pub fn message(envelope: &Envelope) -> Result<proto::Message, message::MessageError> {
    let content = message::encode(envelope)?.into();
    Ok(proto::Message { migration: envelope.id.to_string(), kind: kind(&envelope.message).into(), content })
}

/// A farewell's content.
pub fn farewell(reason: &str) -> Body {
    Body::Farewell(proto::Farewell { reason: words(reason, FAREWELL) })
}

/// The document's name of a message.
pub fn kind(message: &Message) -> Kind {
    let or_instantiation = |reason: &crate::migration::Reason, kind| match reason.kind {
        ReasonKind::Instantiation => Kind::ManagedObjectInstantiationError,
        _ => kind,
    };
    match message {
        Message::Offer(_) => Kind::StartMigration,
        Message::Parcel(_) => Kind::ModuleParcel,
        Message::State(_) => Kind::ManagementState,
        Message::Events(_) => Kind::ManagementEventState,
        Message::Dirty(_) => Kind::DirtyState,
        Message::Complete { .. } => Kind::MigrationComplete,
        Message::Late(_) => Kind::LateEvents,
        Message::Abort { .. } => Kind::MigrationAbort,
        Message::Permitted(_) => Kind::MigrationPermitted,
        Message::Denied(_) => Kind::MigrationDenied,
        Message::ModuleRequest(_) => Kind::ModuleRequest,
        Message::StateAccepted => Kind::ManagementStateSuccess,
        Message::StateFailed(reason) => or_instantiation(reason, Kind::ManagementStateFailed),
        Message::EventsAccepted => Kind::ManagementEventStateSuccess,
        Message::EventsFailed(reason) => or_instantiation(reason, Kind::ManagementEventStateFailed),
        Message::DirtyAccepted(_) => Kind::MigrationStateSuccess,
        Message::DirtyFailed(..) => Kind::MigrationStateFailed,
        Message::CompleteAck { .. } => Kind::MigrationCompleteAck,
        Message::CompleteFailed(_) => Kind::MigrationCompleteFailed,
        Message::LateAck(_) => Kind::LateEventsSuccess,
        Message::Aborted(_) => Kind::MigrationAborted,
        Message::Inquire => Kind::Inquire,
        Message::Status(_) => Kind::Status,
    }
}

/// Who may say it; `None`: both.
fn speaker(kind: Kind) -> Option<Speaker> {
    match i32::from(kind) {
        1..20 => Some(Speaker::Dialler),
        20..40 => Some(Speaker::Listener),
        _ => None,
    }
}

/// What a stranger wrote, as it may go to a log.
pub(super) fn words(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<proto::Summary> for Summary {
    /// What is too much is left out: a summary is for choosing among peers, and nothing depends on it.
    fn from(said: proto::Summary) -> Summary {
        let texts = |texts: Vec<String>| -> BTreeSet<Arc<str>> {
            texts.iter().take(SUMMARY_ENTRIES).map(|text| words(text, SUMMARY_TEXT).into()).collect()
        };
        Summary {
            hosts: said.hosts,
            vms: said.vms,
            cpus: said.cpus,
            cpu_cores: if said.cpu_cores.is_finite() { said.cpu_cores.max(0.0) } else { 0.0 },
            memory_mib: said.memory_mib,
            free_memory_mib: said.free_memory_mib,
            largest_free_mib: said.largest_free_mib,
            free_vcpus: said.free_vcpus,
            cpu_models: texts(said.cpu_models),
            classes: texts(said.classes),
        }
    }
}

impl From<&Summary> for proto::Summary {
    fn from(of: &Summary) -> proto::Summary {
        let texts = |texts: &BTreeSet<Arc<str>>| texts.iter().take(SUMMARY_ENTRIES).map(|text| text.to_string()).collect();
        proto::Summary {
            hosts: of.hosts,
            vms: of.vms,
            cpus: of.cpus,
            cpu_cores: of.cpu_cores,
            memory_mib: of.memory_mib,
            free_memory_mib: of.free_memory_mib,
            largest_free_mib: of.largest_free_mib,
            free_vcpus: of.free_vcpus,
            cpu_models: texts(&of.cpu_models),
            classes: texts(&of.classes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn versions() -> impl Strategy<Value = Versions> {
        (0_u32..9, 0_u32..9).prop_map(|(oldest, newest)| Versions { oldest, newest })
    }

    proptest! {
        /// Both sides come to the same version: the highest that both know; or both refuse.
        #[test]
        fn both_sides_agree(ours in versions(), theirs in versions()) {
            let knows = |versions: Versions, version: u32| version > 0 && versions.oldest <= version && version <= versions.newest;
            let common = (0..9).filter(|version| knows(ours, *version) && knows(theirs, *version)).max();
            prop_assert_eq!(ours.agree(theirs).ok(), common);
            prop_assert_eq!(theirs.agree(ours).ok(), common);
        }

        /// What strangers write is bounded before it is logged.
        #[test]
        fn words_are_bounded_and_printable(text in "\\PC{0,50}[\\x00-\\x1f]{0,5}.{0,600}", most in 0_usize..500) {
            let shown = words(&text, most);
            prop_assert!(shown.chars().count() <= most && !shown.contains(char::is_control));
        }
    }

    #[test]
    fn a_summary_keeps_within_its_bounds() {
        let long = || (0..1_000).map(|at| format!("{at:0>400}")).collect::<Vec<String>>();
        let said = proto::Summary { cpu_cores: f32::NAN, cpu_models: long(), classes: long(), ..proto::Summary::default() };
        let read = Summary::from(said);
        assert_eq!(read.cpu_cores, 0.0);
        assert!(read.classes.len() <= SUMMARY_ENTRIES && read.cpu_models.iter().all(|text| text.len() <= SUMMARY_TEXT));
    }

    #[test]
    fn kinds_belong_to_one_side_or_both() {
        for (kind, expected) in [
            (Kind::StartMigration, Some(Speaker::Dialler)),
            (Kind::MigrationAbort, Some(Speaker::Dialler)),
            (Kind::MigrationPermitted, Some(Speaker::Listener)),
            (Kind::MigrationAborted, Some(Speaker::Listener)),
            (Kind::Inquire, None),
            (Kind::Status, None),
        ] {
            assert_eq!(speaker(kind), expected, "{kind:?}");
        }
    }
}
