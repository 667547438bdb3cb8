//! The one queue of events: ordered in time, held and released by element.
//!
//! ```text
//!                      hold(vm)                       release(vm)
//! push -> queue ---------------------> held[vm] -----------------------> queue (merged by time)
//!           |   vm's and dependents'      ^
//!           v                             | push while held
//!          pop
//! ```
//! Guarantees: a fact that was pushed is popped exactly once, unless its element is forgotten; facts of one element are popped
//! in order of time, those of the same instant in order of intake; an unread sample is replaced by a newer one of the same
//! element and kind; what is held is not popped. Durability is the manager's: it writes the facts that stay here into the
//! batch that took them in.
//!
//! Events come nearly in order, so the queue is a ring that is kept sorted by walking back from its end. A replaced sample is
//! not searched for: it is passed over when its turn comes.

use crate::model::{ElementId, Event, EventClass, Lookup, Timestamp};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// Events that an empty queue has room for.
const ROOM: usize = 1_024;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Queue {
    ring: VecDeque<Event>,
    /// The newest unread sample of each element, by kind.
    newest: Lookup<(ElementId, usize), u64>,
    /// What is held, by the element whose hold it is, in order.
    held: BTreeMap<ElementId, VecDeque<Event>>,
    coalesced: u64,
}

/// An event's place in the order.
fn place(event: &Event) -> (Timestamp, u64) {
    (event.at, event.seq)
}

/// Puts an event where it belongs in a sorted ring.
fn insert(ring: &mut VecDeque<Event>, event: Event) {
    let mut at = ring.len();
    while at > 0 && place(&ring[at - 1]) > place(&event) {
        at -= 1;
    }
    ring.insert(at, event);
}

impl Queue {
    /// Takes an event in.
    pub fn push(&mut self, event: Event) {
        if let Some(held) = holder(&event.element).and_then(|holder| self.held.get_mut(&holder)) {
            if event.body.class() == EventClass::Sample {
                let same =
                    |old: &Event| old.element == event.element && old.body.index() == event.body.index() && old.to == event.to;
                if let Some(old) = held.iter().position(same) {
                    held.remove(old);
                    self.coalesced += 1;
                }
            }
            return insert(held, event);
        }
        if event.body.class() == EventClass::Sample
            && self.newest.insert((event.element.clone(), event.body.index()), event.seq).is_some()
        {
            self.coalesced += 1;
        }
        insert(&mut self.ring, event);
    }

    /// The next event, if it was taken in before the event with the number `before`.
    pub fn pop(&mut self, before: u64) -> Option<Event> {
        let mut passed = 0;
        loop {
            let event = self.ring.get(passed)?;
            if event.seq >= before {
                passed += 1;
                continue;
            }
            let event = self.ring.remove(passed)?;
            if self.ring.is_empty() {
                // What a burst has made large would be walked through for ever, out of the processor's cache.
                self.ring.clear();
                self.ring.shrink_to(ROOM);
                self.newest.shrink_to(ROOM);
            }
            if event.body.class() == EventClass::Sample {
                match self.newest.entry((event.element.clone(), event.body.index())) {
                    Entry::Occupied(newest) if *newest.get() == event.seq => drop(newest.remove()),
                    _ => continue,
                }
            }
            return Some(event);
        }
    }

    /// Keeps the events of an element and its dependents back. Returns `false` where they are kept back already.
    pub fn hold(&mut self, element: &ElementId) -> bool {
        if self.held.contains_key(element) {
            return false;
        }
        let mut kept = VecDeque::new();
        for event in std::mem::take(&mut self.ring) {
            if holder(&event.element).as_ref() != Some(element) {
                self.ring.push_back(event);
            } else if event.body.class() == EventClass::Fact
                || self.newest.remove(&(event.element.clone(), event.body.index())) == Some(event.seq)
            {
                kept.push_back(event);
            }
        }
        self.held.insert(element.clone(), kept);
        true
    }

    /// Lets what was held go back into the queue, in order of time.
    pub fn release(&mut self, element: &ElementId) {
        for event in self.held.remove(element).into_iter().flatten() {
            self.push(event);
        }
    }

    /// Takes what is held out of the queue: it is handled elsewhere now.
    pub fn take_held(&mut self, element: &ElementId) -> Vec<Event> {
        self.held.remove(element).into_iter().flatten().collect()
    }

    /// Takes a fact in that is popped although its element is held: it stands before what is held.
    pub fn push_past(&mut self, fact: Event) {
        insert(&mut self.ring, fact);
    }

    /// What is held of an element and its dependents, in order.
    pub fn held(&self, element: &ElementId) -> impl Iterator<Item = &Event> {
        self.held.get(element).into_iter().flatten()
    }

    /// Elements of which something is held.
    pub fn with_held(&self) -> impl Iterator<Item = &ElementId> {
        self.held.iter().filter(|(_, held)| !held.is_empty()).map(|(element, _)| element)
    }

    /// Takes some of what is held out of the queue; the rest stays, and the hold with it.
    pub fn take_of_held(&mut self, element: &ElementId, which: impl Fn(&Event) -> bool) -> Vec<Event> {
        let Some(held) = self.held.get_mut(element) else { return Vec::new() };
        let (taken, kept): (VecDeque<Event>, VecDeque<Event>) = std::mem::take(held).into_iter().partition(which);
        *held = kept;
        taken.into()
    }

    /// Is the element held?
    pub fn is_held(&self, element: &ElementId) -> bool {
        holder(element).is_some_and(|holder| self.held.contains_key(&holder))
    }

    /// Facts that wait, held ones included.
    pub fn waiting_facts(&self) -> impl Iterator<Item = &Event> {
        let all = self.ring.iter().chain(self.held.values().flatten());
        all.filter(|event| event.body.class() == EventClass::Fact)
    }

    /// How many events wait, replaced samples included.
    pub fn len(&self) -> usize {
        self.ring.len() + self.held.values().map(VecDeque::len).sum::<usize>()
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Does anything wait that is not held?
    pub fn is_ready(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Elements that are held.
    pub fn holds(&self) -> impl Iterator<Item = &ElementId> {
        self.held.keys()
    }

    /// Samples that were replaced before they were read.
    pub fn coalesced(&self) -> u64 {
        self.coalesced
    }
}

/// The element whose hold concerns this one: a guest's for its dependents, else its own.
fn holder(element: &ElementId) -> Option<ElementId> {
    element.vm().map(ElementId::Vm).or_else(|| Some(element.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventBody, VmId};
    use proptest::prelude::*;

    const ALL: u64 = u64::MAX;

    fn vm(number: u8) -> ElementId {
        ElementId::Vm(VmId(uuid::Uuid::from_u128(u128::from(number))))
    }

    fn event(seq: u64, at: i64, element: ElementId, body: EventBody) -> Event {
        Event { seq, at: Timestamp(at), element, to: None, body }
    }

    fn drain(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop(ALL)).map(|event| event.seq).collect()
    }

    #[test]
    fn order_is_that_of_time() {
        let mut queue = Queue::default();
        queue.push(event(1, 30, vm(1), EventBody::Changed));
        queue.push(event(2, 10, vm(2), EventBody::Changed));
        queue.push(event(3, 10, vm(3), EventBody::Changed));
        assert_eq!(drain(&mut queue), [2, 3, 1]);
    }

    #[test]
    fn samples_coalesce_and_facts_do_not() {
        let mut queue = Queue::default();
        queue.push(event(1, 1, vm(1), EventBody::Load));
        queue.push(event(2, 2, vm(1), EventBody::Changed));
        queue.push(event(3, 3, vm(1), EventBody::Load));
        queue.push(event(4, 4, vm(2), EventBody::Load));
        queue.push(event(5, 5, vm(1), EventBody::Changed));
        assert_eq!(drain(&mut queue), [2, 3, 4, 5]);
        assert_eq!(queue.coalesced(), 1);
    }

    #[test]
    fn a_hold_covers_dependents_and_merges_back() {
        let mut queue = Queue::default();
        let disk = ElementId::Disk(VmId(uuid::Uuid::from_u128(1)), "vda".into());
        queue.push(event(1, 1, vm(1), EventBody::Changed));
        assert!(queue.hold(&vm(1)));
        assert!(!queue.hold(&vm(1)));
        queue.push(event(2, 2, disk.clone(), EventBody::IoError { reason: "".into() }));
        queue.push(event(3, 3, vm(2), EventBody::Changed));
        assert!(queue.is_held(&disk));
        assert_eq!(drain(&mut queue), [3]);
        queue.push(event(4, 4, vm(2), EventBody::Changed));
        queue.release(&vm(1));
        assert_eq!(drain(&mut queue), [1, 2, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_stands_before_a_hold_passes_it() {
        let mut queue = Queue::default();
        queue.hold(&vm(1));
        for seq in 1..4 {
            queue.push(event(seq, seq as i64, vm(1), EventBody::Changed));
        }
        queue.push_past(event(4, 9, vm(1), EventBody::Changed));
        assert_eq!(drain(&mut queue), [4]);
        assert_eq!(queue.take_of_held(&vm(1), |event| event.seq == 2).len(), 1);
        assert_eq!(queue.held(&vm(1)).map(|event| event.seq).collect::<Vec<_>>(), [1, 3]);
        queue.release(&vm(1));
        assert_eq!(drain(&mut queue), [1, 3]);
    }

    #[test]
    fn what_came_later_waits_for_its_turn() {
        let mut queue = Queue::default();
        queue.push(event(1, 5, vm(1), EventBody::Changed));
        queue.push(event(2, 1, vm(2), EventBody::Changed));
        assert_eq!(queue.pop(2).map(|event| event.seq), Some(1));
        assert_eq!(queue.pop(2), None);
        assert!(queue.is_ready());
    }

    #[derive(Debug, Clone)]
    enum Move {
        Push { element: u8, at: i64, sample: bool },
        Hold(u8),
        Release(u8),
        Pop,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            4 => (0u8..4, 0i64..50, any::<bool>()).prop_map(|(element, at, sample)| Move::Push { element, at, sample }),
            1 => (0u8..4).prop_map(Move::Hold),
            1 => (0u8..4).prop_map(Move::Release),
            2 => Just(Move::Pop),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        /// Whatever is pushed, held, released and popped: each fact comes out exactly once, and of those of one element that
        /// wait together the earlier comes out first.
        #[test]
        fn no_fact_is_lost_doubled_or_overtaken(moves in moves()) {
            let mut queue = Queue::default();
            let mut waiting: BTreeMap<u64, (u8, i64)> = BTreeMap::new();
            let mut seq = 0;
            let take = |event: Event, waiting: &mut BTreeMap<u64, (u8, i64)>| {
                if event.body.class() == EventClass::Sample {
                    return Ok(());
                }
                let (element, at) = waiting.remove(&event.seq).ok_or("popped twice or never pushed")?;
                let overtaken = waiting.iter().any(|(seq, (e, t))| *e == element && (*t, *seq) < (at, event.seq));
                if overtaken { Err("overtaken") } else { Ok(()) }
            };
            for step in moves {
                match step {
                    Move::Push { element, at, sample } => {
                        seq += 1;
                        let body = if sample { EventBody::Load } else { EventBody::Changed };
                        if !sample {
                            waiting.insert(seq, (element, at));
                        }
                        queue.push(event(seq, at, vm(element), body));
                    }
                    Move::Hold(element) => {
                        queue.hold(&vm(element));
                    }
                    Move::Release(element) => queue.release(&vm(element)),
                    Move::Pop => {
                        if let Some(event) = queue.pop(ALL) {
                            prop_assert!(!queue.is_held(&event.element));
                            prop_assert_eq!(take(event, &mut waiting), Ok(()));
                        }
                    }
                }
                prop_assert_eq!(queue.waiting_facts().count(), waiting.len());
            }
            for element in 0..4 {
                queue.release(&vm(element));
            }
            while let Some(event) = queue.pop(ALL) {
                prop_assert_eq!(take(event, &mut waiting), Ok(()));
            }
            prop_assert!(waiting.is_empty());
            prop_assert!(queue.is_empty());
        }
    }
}
