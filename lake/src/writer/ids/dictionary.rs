//! Ids → their numbers in a dictionary.

use std::hash::{BuildHasher, RandomState};

/// Rows that are looked up at once: their places in memory do not depend on each other, so that the processor waits for
/// all of them together.
const TOGETHER: usize = 64;
/// Room for as many ids at least.
const ROOM_MIN: u64 = 512;
/// Room for as many ids at most before any has come, whatever is expected.
const ROOM_MAX: u64 = 1 << 20;
/// A place without an id.
const EMPTY: u32 = u32::MAX;

/// The ids of a row group in the order of their first rows, each with its number.
///
/// A table with open addressing, at most half full. Where an id is looked for depends on two secret numbers, or clients
/// could send ids that are all looked for in the same places.
pub(super) struct IdDictionary {
    ids: Vec<u128>,
    /// The number of an id or [`EMPTY`]; a power of two of them.
    places: Vec<u32>,
    secrets: [u64; 2],
}

impl IdDictionary {
    /// An empty one that need not grow before it has about so many ids.
    pub(super) fn with_room_for(ids: u64) -> Self {
        let room = ids.clamp(ROOM_MIN, ROOM_MAX).next_power_of_two() as usize;
        let secret = RandomState::new();
        Self {
            ids: Vec::with_capacity(room),
            places: vec![EMPTY; 2 * room],
            secrets: [secret.hash_one(0), secret.hash_one(1)],
        }
    }

    /// How many different ids there are.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All of them, in the order of their numbers.
    pub(super) fn ids(&self) -> &[u128] {
        &self.ids
    }

    /// Appends the number of each id. Those that are not known yet get the next ones.
    pub(super) fn look_up(&mut self, ids: &[[u8; 16]], numbers: &mut Vec<u32>) {
        let mut found = [0; TOGETHER];
        for together in ids.chunks(TOGETHER) {
            for (id, found) in together.iter().zip(&mut found) {
                *found = self.places[self.first_place(u128::from_be_bytes(*id))];
            }
            for (id, found) in together.iter().zip(&found) {
                let id = u128::from_be_bytes(*id);
                // What was found stays true when the table grows meanwhile.
                let number = match self.ids.get(*found as usize) {
                    Some(known) if *known == id => *found,
                    _ => self.look_further(id),
                };
                numbers.push(number);
            }
        }
    }

    /// Goes from place to place until the id or an empty one is there.
    fn look_further(&mut self, id: u128) -> u32 {
        let mut place = self.first_place(id);
        loop {
            let found = self.places[place];
            if found == EMPTY {
                break;
            }
            if self.ids[found as usize] == id {
                return found;
            }
            place = (place + 1) & (self.places.len() - 1);
        }
        // Less than `EMPTY`: a row group has fewer rows.
        let number = self.ids.len() as u32;
        self.places[place] = number;
        self.ids.push(id);
        if self.ids.len() * 2 > self.places.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let room = self.places.len() * 2;
        self.places = vec![EMPTY; room];
        for (number, id) in (0..).zip(&self.ids) {
            let mut place = first_place(*id, self.secrets, room);
            while self.places[place] != EMPTY {
                place = (place + 1) & (room - 1);
            }
            self.places[place] = number;
        }
    }

    fn first_place(&self, id: u128) -> usize {
        first_place(id, self.secrets, self.places.len())
    }
}

/// Where an id is looked for first, among a power of two of places: the halves of the id, each changed by a secret,
/// multiplied, and the halves of that put together.
fn first_place(id: u128, secrets: [u64; 2], places: usize) -> usize {
    let (high, low) = ((id >> 64) as u64 ^ secrets[0], id as u64 ^ secrets[1]);
    let product = u128::from(high).wrapping_mul(u128::from(low));
    ((product >> 64) as u64 ^ product as u64) as usize & (places - 1)
}
