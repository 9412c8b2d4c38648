//! The keys under which values travel.

use std::collections::BTreeMap;

use super::escape::Place;

/// Hands out the keys of one entry, and the same key for what is the same.
#[derive(Debug, Default)]
pub struct Slots {
    next: usize,
    known: BTreeMap<(Place, String), String>,
}

impl Slots {
    /// A key that nothing has yet.
    pub fn fresh(&mut self) -> String {
        let mut number = self.next;
        self.next += 1;
        let mut letters = Vec::new();
        loop {
            letters.push(b'a' + u8::try_from(number % 26).unwrap_or_default());
            number /= 26;
            if number == 0 {
                break;
            }
            number -= 1;
        }
        letters.iter().rev().map(|letter| char::from(*letter)).collect()
    }

    /// The key of what `identity` names.
    pub fn shared(&mut self, identity: (Place, String)) -> String {
        if let Some(key) = self.known.get(&identity) {
            return key.clone();
        }
        let key = self.fresh();
        self.known.insert(identity, key.clone());
        key
    }
}
