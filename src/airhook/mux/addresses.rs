//! Which connection is to which address.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;

/// A keyed hash, so that nobody can choose addresses that collide.
#[derive(Clone, Debug)]
pub(super) struct Keyed(pub u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// The places of connections by halves of the hashes of their addresses: 9 bytes each instead of 37, as
/// the address itself stands with the connection. Where the first half is taken by another one, the
/// second is used; where both are, once in 10¹¹ times with 10,000 connections, there is no room.
#[derive(Debug)]
pub(super) struct Addresses {
    hasher: Keyed,
    places: HashMap<u32, u32, Hashed>,
}

impl Addresses {
    /// None yet; the hash has this key.
    pub fn new(key: u64) -> Self {
        Addresses { hasher: Keyed(key), places: HashMap::default() }
    }

    /// The keyed hash.
    pub fn hasher(&self) -> &Keyed {
        &self.hasher
    }

    /// The place of the connection to this address, if `is_there` finds that it is to it.
    pub fn find(&self, addr: &SocketAddr, is_there: impl Fn(u32) -> bool) -> Option<u32> {
        let places = self.names(addr).into_iter().filter_map(|name| self.places.get(&name));
        places.copied().find(|&place| is_there(place))
    }

    /// Whether there is room for a connection to this address, to which there is none.
    pub fn has_room_for(&self, addr: &SocketAddr) -> bool {
        self.names(addr).iter().any(|name| !self.places.contains_key(name))
    }

    /// The connection at `place` is to this address, for which there is room.
    pub fn insert(&mut self, addr: &SocketAddr, place: u32) {
        let [first, second] = self.names(addr);
        let name = if self.places.contains_key(&first) { second } else { first };
        self.places.insert(name, place);
    }

    /// The connection at `place`, to this address, is gone.
    pub fn remove(&mut self, addr: &SocketAddr, place: u32) {
        for name in self.names(addr) {
            if self.places.get(&name) == Some(&place) {
                self.places.remove(&name);
            }
        }
    }

    /// There are no connections any more.
    pub fn clear(&mut self) {
        self.places.clear();
    }

    fn names(&self, addr: &SocketAddr) -> [u32; 2] {
        let hash = self.hasher.hash_one(addr);
        [hash as u32, (hash >> 32) as u32]
    }
}

/// What is a hash already needs no other, but spread over 64 bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashed;

impl BuildHasher for Hashed {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(0)
    }
}

#[derive(Debug)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing (Knuth, volume 3, 6.4): the table uses the lowest and the highest bits.
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }
}
