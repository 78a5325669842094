//! Small values from many senders.

use std::net::IpAddr;

use khashmir::Id;
use khashmir::store::{Database, Limits, NewValue, Put, Resident, VALUE_OVERHEAD};
use khashmir::time::UnixTime;

/// The node's own id: keys are as far from it as they are large.
pub const ME: Id = Id::new([0; 20]);
/// What a value of 8 bytes counts for.
pub const EACH: u64 = VALUE_OVERHEAD + 8;
pub const END: i64 = 1000;

pub type Store = (Database, Resident);

pub fn store(limits: Limits) -> Store {
    let mut database = Database::in_memory().expect("memory");
    let who = database.move_in(Some(ME), ME, limits).expect("room");
    (database, who)
}

pub fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// The key at a distance.
pub fn key(far: u8) -> Id {
    let mut bytes = [0; 20];
    bytes[0] = far;
    Id::new(bytes)
}

/// Stores a value of 8 bytes at one time, until another. No sender: the owner.
pub fn put_for(store: &mut Store, key: &Id, value: u64, sender: &str, (now, end): (i64, i64)) -> Put {
    let sender = (!sender.is_empty()).then(|| ip(sender));
    let value = value.to_be_bytes();
    let new = NewValue { key, value: &value, time: UnixTime(now), expires: UnixTime(end), sender };
    store.0.put(&mut store.1, &new, &UnixTime(now).into()).expect("a put")
}

pub fn put(store: &mut Store, key: &Id, value: u64, sender: &str) -> Put {
    put_for(store, key, value, sender, (1, END))
}
