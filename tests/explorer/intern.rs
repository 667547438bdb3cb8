//! Things that many states share, kept once: a state then is a few numbers, quick to compare and to copy.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// A table of things, each with a number.
pub struct Table<T> {
    numbers: Map<Rc<T>, u32>,
    things: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Table<T> {
    pub fn new() -> Table<T> {
        Table { numbers: Map::default(), things: Vec::new() }
    }

    /// The number of a thing.
    pub fn put(&mut self, thing: T) -> u32 {
        if let Some(number) = self.numbers.get(&thing) {
            return *number;
        }
        let (number, thing) = (self.things.len() as u32, Rc::new(thing));
        self.numbers.insert(thing.clone(), number);
        self.things.push(thing);
        number
    }

    /// The thing of a number.
    pub fn get(&self, number: u32) -> Rc<T> {
        self.things[number as usize].clone()
    }

    pub fn len(&self) -> usize {
        self.things.len()
    }
}

/// A map with [`Quick`].
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// A hash for many small numbers that is quick without optimisation, too.
#[derive(Default)]
pub struct Quick(u64);

impl Quick {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93_a5a3_564e_27f8_8655);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_i64(&mut self, number: i64) {
        self.mix(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }
}
