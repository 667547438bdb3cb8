//! Things that many states share, kept once: a state then is a few numbers, quick to compare and to copy.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// A table of things, each with a number.
pub struct Table<T> {
    numbers: HashMap<Rc<T>, u32>,
    things: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Table<T> {
    pub fn new() -> Table<T> {
        Table { numbers: HashMap::new(), things: Vec::new() }
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
