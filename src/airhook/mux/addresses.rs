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

/// The places of connections by the hashes of their addresses: an address is three times as long
/// as its hash, and stands with the connection anyway. Of two addresses with one hash, which nobody
/// can choose and nobody will see, only one may have a connection.
#[derive(Debug)]
pub(super) struct Addresses {
    hasher: Keyed,
    places: HashMap<u64, u32, Hashed>,
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

    /// The place of a connection to an address with the hash of this one.
    pub fn get(&self, addr: &SocketAddr) -> Option<u32> {
        self.places.get(&self.hasher.hash_one(addr)).copied()
    }

    /// The connection at `place` is to this address.
    pub fn insert(&mut self, addr: &SocketAddr, place: u32) {
        self.places.insert(self.hasher.hash_one(addr), place);
    }

    /// There is no connection to this address any more.
    pub fn remove(&mut self, addr: &SocketAddr) {
        self.places.remove(&self.hasher.hash_one(addr));
    }

    /// There are no connections any more.
    pub fn clear(&mut self) {
        self.places.clear();
    }
}

/// What is a hash already needs no other.
#[derive(Clone, Debug, Default)]
struct Hashed;

impl BuildHasher for Hashed {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }
}
