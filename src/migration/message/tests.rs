use super::*;
use crate::migration::ReasonKind;
use crate::migration::testing::{grants, id, offer};
use proptest::prelude::*;

fn reason() -> Reason {
    Reason::new(ReasonKind::Denied, "no room")
}

fn all() -> Vec<Message> {
    let payload = || Payload::from(vec![1, 2, 3]);
    vec![
        Message::Offer(Box::new(offer())),
        Message::Parcel(payload()),
        Message::State(payload()),
        Message::Events(payload()),
        Message::Dirty(Round { round: 1, last: true, payload: payload() }),
        Message::Complete { epoch: 8, rounds: 1 },
        Message::Late(LateFacts { lot: 1, payload: payload() }),
        Message::Abort { epoch: 9, reason: reason(), asks: true },
        Message::Permitted(Box::new(grants())),
        Message::Denied(reason()),
        Message::ModuleRequest(BTreeSet::from([Digest([1; 32])])),
        Message::StateAccepted,
        Message::StateFailed(reason()),
        Message::EventsAccepted,
        Message::EventsFailed(reason()),
        Message::DirtyAccepted(1),
        Message::DirtyFailed(1, reason()),
        Message::CompleteAck { epoch: 8, rounds: 1 },
        Message::CompleteFailed(reason()),
        Message::LateAck(1),
        Message::Aborted(reason()),
        Message::Inquire,
        Message::Status(Record::Unknown),
        Message::Status(Record::Underway("moving".into())),
        Message::Status(Record::Undecided(reason())),
        Message::Status(Record::Open),
        Message::Status(Record::Bound { running: true }),
        Message::Status(Record::Committed { epoch: 8, rounds: 1 }),
        Message::Status(Record::Aborted(reason())),
        Message::Status(Record::Retired),
    ]
}

fn envelope(message: Message) -> Envelope {
    Envelope { id: id(), message }
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    for message in all() {
        let sent = envelope(message);
        assert_eq!(decode(&encode(&sent).unwrap()).unwrap(), sent);
    }
}

/// Planes of different releases meet. Where this fails, the form has changed: raise [`VERSION`], and read the old one, too.
#[test]
fn the_form_of_version_1_stays() {
    let hex = |message: &Message| {
        let bytes = encode(&envelope(message.clone())).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let lines: Vec<String> = all().iter().map(hex).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_is_too_much_is_neither_sent_nor_taken() {
    let long = |length: usize| -> Arc<str> { "x".repeat(length).into() };
    let mut wordy = offer();
    wordy.guest.labels.insert("k".into(), long(TEXT_BYTES + 1));
    let mut many = offer();
    many.modules = vec![many.modules[0].clone(); ENTRIES + 1];
    let mut described = offer();
    described.guest.description = long(DESCRIPTION_BYTES + 1);
    let mut moved = grants();
    moved.rewrites = vec![moved.rewrites[0].clone(); ENTRIES + 1];
    let hashes = (0..=ENTRIES).map(|n| Digest(std::array::from_fn(|at| n.to_le_bytes().get(at).copied().unwrap_or(0))));
    let too_much = [
        Message::Offer(Box::new(wordy)),
        Message::Offer(Box::new(many)),
        Message::Offer(Box::new(described)),
        Message::Permitted(Box::new(moved)),
        Message::ModuleRequest(hashes.collect()),
        Message::Aborted(Reason::new(ReasonKind::Peer, long(TEXT_BYTES + 1))),
        Message::State(vec![0; PAYLOAD_BYTES + 1].into()),
        Message::Dirty(Round { round: 1, last: false, payload: vec![0; PAYLOAD_BYTES + 1].into() }),
    ];
    for message in too_much {
        let sent = envelope(message);
        assert!(matches!(encode(&sent), Err(MessageError::TooLarge { .. })));
        let bytes = postcard::to_extend(&sent, vec![VERSION]).unwrap();
        assert!(matches!(decode(&bytes), Err(MessageError::TooLarge { .. })));
    }
    assert!(encode(&envelope(Message::State(vec![0; PAYLOAD_BYTES].into()))).is_ok());
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(decode(&[]), Err(MessageError::Empty));
    assert_eq!(decode(&[9, 0]), Err(MessageError::Version(9)));
    let mut bytes = encode(&envelope(Message::Inquire)).unwrap();
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(MessageError::Damaged("1 bytes too many".to_owned())));
    for message in all() {
        let bytes = encode(&envelope(message)).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "a part of a message was taken");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[VERSION], &bytes[..]].concat());
    }

    #[test]
    fn no_damage_makes_it_panic(which in 0..30usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&envelope(all().swap_remove(which))).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(taken) = decode(&bytes) {
            prop_assert!(encode(&taken).is_ok(), "what was taken cannot be sent");
        }
    }
}
