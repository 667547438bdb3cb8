//! Every decoder that a peer's bytes reach, fed with bytes that were good once and have been damaged since.
//!
//! In `make test` each decoder gets a few thousand inputs, always the same. `make fuzz` gives each `SECONDS` of new ones, with a
//! seed that is printed. What makes a decoder panic is written to `target/fuzz`; once mended, it belongs in `tests/corpus`.
//!
//! A new decoder takes one line in [`DECODERS`] and good bytes to begin with: from [`seeds`], or files `good-*` in
//! `tests/corpus`. Files `refused-*` there are what it must not take, among them all that once made it panic.

use super::seeds::{self, GUEST};
use embot::embot::package::{Package, Sealed, TrustStore, unpack};
use embot::migration::bundle::{Bundle, Changes, Waiting};
use embot::migration::link::proto::Frame;
use embot::migration::link::wire::{Reader, Speaker};
use embot::migration::message;
use embot::model::{ContentHash, Timestamp};
use embot::pki::Certificate;
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads bytes; says whether it took them. Panics where it took what it must not.
type Decoder = fn(&[u8]) -> bool;
/// Makes good bytes.
type Seeds = fn() -> Vec<Vec<u8>>;

/// Name, decoder, and good bytes made from values.
const DECODERS: &[(&str, Decoder, Seeds)] = &[
    ("bundle", bundle, seeds::bundles),
    ("certificate", certificate, Vec::new),
    ("changes", changes, seeds::rounds),
    ("frame", frame, seeds::frames),
    ("message", migration_message, seeds::messages),
    ("package", package, Vec::new),
    ("parcel", parcel, seeds::parcels),
    ("sealed", sealed, seeds::listings),
    ("waiting", waiting, seeds::waitings),
];

/// What a TLS client presents, before anybody knows who it is.
fn certificate(bytes: &[u8]) -> bool {
    let Ok(read) = Certificate::read(bytes) else { return false };
    assert!(!read.to_string().contains(char::is_control), "it goes to logs: {read}");
    true
}

/// What comes over a stream.
fn frame(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::decode(bytes) else { return false };
    let mut taken = false;
    for speaker in [Speaker::Dialler, Speaker::Listener] {
        let reader = || Reader::new(speaker, "site-a".into(), "site-b".into());
        let frame = Frame { number: 1, ..frame.clone() };
        let hello = reader().hello(&frame);
        let later = reader().read(frame);
        assert!(hello.is_err() || later.is_err(), "a frame is a Hello or it is not");
        for why in [hello.as_ref().err(), later.as_ref().err()].into_iter().flatten() {
            assert!(why.to_string().len() < 2_000, "a peer makes our log long");
        }
        taken |= hello.is_ok() || later.is_ok();
    }
    taken
}

/// What a frame about a migration holds.
fn migration_message(bytes: &[u8]) -> bool {
    let Ok(envelope) = message::decode(bytes) else { return false };
    let again = message::encode(&envelope).expect("what was taken can be sent");
    assert_eq!(message::decode(&again).as_ref(), Ok(&envelope), "and reads back the same");
    true
}

/// What modules that were asked for come in.
fn parcel(bytes: &[u8]) -> bool {
    let asked = seeds::pieces().iter().map(|piece| ContentHash::of(piece)).collect();
    let Ok(pieces) = unpack(&asked, bytes) else { return false };
    assert!(pieces.iter().all(|piece| asked.contains(&ContentHash::of(piece))), "nothing comes that was not asked for");
    true
}

/// The listing of a module on offer.
fn sealed(bytes: &[u8]) -> bool {
    let Ok(sealed) = Sealed::read(bytes) else { return false };
    assert_eq!(&**sealed.bytes(), bytes);
    let nobody = TrustStore::default();
    assert!(sealed.vouch(&nobody, "site-b", Timestamp(0)).is_err(), "nobody is trusted here");
    true
}

/// A package as a file.
fn package(bytes: &[u8]) -> bool {
    Package::read(bytes).is_ok_and(|package| package.check_files().is_ok())
}

/// What a guest's state holds.
fn bundle(bytes: &[u8]) -> bool {
    let Ok(bundle) = Bundle::from_bytes(bytes, GUEST) else { return false };
    assert_eq!(bundle.guest.id, GUEST);
    let again = Bundle::from_bytes(&bundle.to_bytes(), GUEST).expect("what was taken can be sent on");
    assert_eq!(again.to_bytes(), bundle.to_bytes());
    // Times of another plane, whatever they are, are put on our clock.
    let _ = bundle.rebase(i64::MAX).rebase(i64::MIN).fingerprint();
    true
}

/// What a dirty round holds.
fn changes(bytes: &[u8]) -> bool {
    Changes::from_bytes(bytes, GUEST).is_ok()
}

/// What the held facts are in.
fn waiting(bytes: &[u8]) -> bool {
    let Ok(waiting) = Waiting::from_bytes(bytes, GUEST) else { return false };
    assert!(waiting.events.iter().all(|event| event.element.vm() == Some(GUEST)));
    let _ = waiting.rebase(i64::MAX).rebase(i64::MIN);
    true
}

/// The files of a decoder, where it has any.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Bytes as another mistake, or another attacker, would have made them.
fn damage(from: &[Vec<u8>], chance: &mut ChaCha8Rng) -> Vec<u8> {
    let mut pick = |below: usize| usize::try_from(chance.next_u64() % below.max(1) as u64).unwrap();
    let mut bytes = from[pick(from.len())].clone();
    for _ in 0..=pick(4) {
        let at = pick(bytes.len() + 1);
        match pick(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << pick(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(pick(256)).unwrap(),
            // Lengths and numbers at their limits.
            2 => bytes.splice(at..at, [0xff; 10].into_iter().take(pick(10) + 1)).for_each(drop),
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][pick(6)],
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..(at + pick(16)).min(bytes.len()))),
            6 => {
                let piece = bytes[at..(at + pick(64)).min(bytes.len())].to_vec();
                let to = pick(bytes.len() + 1);
                bytes.splice(to..to, piece).for_each(drop);
            }
            7 => {
                let other = &from[pick(from.len())];
                let cut = pick(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[cut..]);
            }
            _ => bytes.insert(at, u8::try_from(pick(256)).unwrap()),
        }
    }
    bytes
}

/// Feeds a decoder until `done`; how many inputs, and how many it took.
fn feed(name: &str, decoder: Decoder, good: Vec<Vec<u8>>, seed: u64, mut done: impl FnMut(u64) -> bool) -> (u64, u64) {
    let corpus: Vec<Vec<u8>> = good.into_iter().chain(corpus(name).into_iter().map(|(_, bytes)| bytes)).collect();
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let (mut fed, mut taken) = (0, 0);
    while !done(fed) {
        let bytes = damage(&corpus, &mut chance);
        match catch_unwind(|| decoder(&bytes)) {
            Ok(took) => taken += u64::from(took),
            Err(_) => {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
                let file = folder.join(format!("{name}-{seed}-{fed}"));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &bytes).unwrap();
                panic!("the decoder `{name}` panicked at {}, input {fed} of seed {seed}", file.display());
            }
        }
        fed += 1;
    }
    (fed, taken)
}

#[test]
fn damaged_bytes_are_refused_and_nothing_panics() {
    let seconds: Option<u64> = std::env::var("SECONDS_EACH").ok().map(|text| text.parse().expect("SECONDS_EACH is a number"));
    for (name, decoder, good) in DECODERS {
        let Some(seconds) = seconds else {
            let (_, taken) = feed(name, *decoder, good(), 1, |fed| fed == 3_000);
            assert!(taken > 0, "`{name}` took nothing: damage that is too great tests little");
            continue;
        };
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let started = Instant::now();
        let (fed, taken) = feed(name, *decoder, good(), seed, |_| started.elapsed() >= Duration::from_secs(seconds));
        println!("{name}: {fed} inputs in {seconds} s from seed {seed}, {taken} of them taken, none panicked");
    }
}

#[test]
fn good_bytes_are_taken_and_the_others_are_not() {
    for (name, decoder, good) in DECODERS {
        let (good, files) = (good(), corpus(name));
        let some = !good.is_empty() || files.iter().any(|(path, _)| is_good(path));
        assert!(some, "`{name}` has no good bytes");
        for (at, bytes) in good.iter().enumerate() {
            assert!(decoder(bytes), "`{name}` refuses seed {at}");
        }
        for (path, bytes) in files {
            assert_eq!(decoder(&bytes), is_good(&path), "{}", path.display());
        }
    }
}

#[test]
fn values_too_deep_are_refused_before_the_stack_ends() {
    assert!(!bundle(&seeds::deep_bundle()));
}

#[test]
fn values_too_many_are_refused_before_they_fill_the_memory() {
    assert!(bundle(&seeds::broad_bundle(1_000)));
    assert!(!bundle(&seeds::broad_bundle(1_000_000)));
}

fn is_good(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("good-")
}
