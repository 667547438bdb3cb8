//! Attempts with tokens that are not accepted: each address may make a few a second, and the log is told now and then.

use super::locality::place_of;
use super::tokens::Denied;
use crate::migration::link::rate::Rate;
use crate::model::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// So many a second from one address; further ones are not even told what is wrong.
const PER_ADDRESS: u64 = 10;
/// So many a second are written to the log; the others are counted.
const LOGGED: u64 = 1;
/// So many addresses are told apart. Beyond, they share.
const ADDRESSES: usize = 4_096;

#[derive(Debug)]
struct Counts {
    by: BTreeMap<IpAddr, Rate>,
    others: Rate,
    log: Rate,
    unlogged: u64,
}

/// The attempts of late.
#[derive(Debug)]
pub(super) struct Attempts(Mutex<Counts>);

impl Attempts {
    pub(super) fn new(now: Timestamp) -> Attempts {
        let rate = |per_s| Rate::new(per_s, now);
        let counts = Counts { by: BTreeMap::new(), others: rate(PER_ADDRESS), log: rate(LOGGED), unlogged: 0 };
        Attempts(Mutex::new(counts))
    }

    /// Somebody was not let in. `false`: it is too much for this address.
    pub(super) fn note(&self, address: IpAddr, denied: &Denied, now: Timestamp) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { by, others, log, unlogged } = &mut *counts;
        if log.is_empty(now) {
            *unlogged += 1;
        } else {
            log.take(1, now);
            let more = std::mem::take(unlogged);
            tracing::warn!(%address, reason = %denied, not_shown = more, "a token is not accepted");
        }
        let address = place_of(address);
        if by.len() >= ADDRESSES && !by.contains_key(&address) {
            by.retain(|_, rate| !rate.is_full(now));
        }
        let room = by.len() < ADDRESSES || by.contains_key(&address);
        let rate = if room { by.entry(address).or_insert_with(|| Rate::new(PER_ADDRESS, now)) } else { others };
        let within = !rate.is_empty(now);
        if within {
            rate.take(1, now);
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn each_address_has_a_few_attempts_a_second_and_memory_is_bounded() {
        let start = Timestamp(1_790_000_000_000);
        let attempts = Attempts::new(start);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let told = |number, now| attempts.note(address(number), &Denied::Unknown, now);
        assert_eq!((0..100).filter(|_| told(1, start)).count(), 10);
        assert!(told(2, start), "another address is not concerned");
        assert_eq!((0..100).filter(|_| told(1, start + Span::seconds(1))).count(), 10, "it may try again later");
        for number in 0..10_000 {
            told(number, start + Span::seconds(1));
        }
        assert_eq!(attempts.0.lock().unwrap().by.len(), ADDRESSES);
        assert!(told(20_000, start + Span::seconds(5)), "those who gave up make room");
    }
}
