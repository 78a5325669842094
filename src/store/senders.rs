//! Who has stored how much: what each address holds, and each block of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::contact::block;

/// Bytes by address and by block, each in an ordered tree: about 35 bytes for each address, and
/// as many for each block, twice that for those that may have to give way.
#[derive(Debug, Default)]
pub(super) struct Senders {
    addresses: BTreeMap<[u8; 16], u64>,
    blocks: BTreeMap<u64, u64>,
    /// The blocks by what they hold, when the store makes room.
    by_bytes: Option<BTreeSet<(u64, u64)>>,
}

impl Senders {
    pub fn new(makes_room: bool) -> Self {
        Senders { by_bytes: makes_room.then(BTreeSet::new), ..Senders::default() }
    }

    /// How many bytes the address holds, and how many its block.
    pub fn held(&self, sender: IpAddr) -> (u64, u64) {
        let of_address = self.addresses.get(&octets(sender)).copied().unwrap_or(0);
        (of_address, self.blocks.get(&block(sender)).copied().unwrap_or(0))
    }

    pub fn add(&mut self, sender: IpAddr, bytes: u64) {
        let held = self.addresses.entry(octets(sender)).or_insert(0);
        *held = held.saturating_add(bytes);
        let (_, before) = self.held(sender);
        self.set_block(block(sender), before, before.saturating_add(bytes));
    }

    pub fn remove(&mut self, sender: IpAddr, bytes: u64) {
        let (of_address, of_block) = self.held(sender);
        if of_address > bytes {
            self.addresses.insert(octets(sender), of_address - bytes);
        } else {
            self.addresses.remove(&octets(sender));
        }
        self.set_block(block(sender), of_block, of_block.saturating_sub(bytes));
    }

    fn set_block(&mut self, block: u64, before: u64, after: u64) {
        if after > 0 {
            self.blocks.insert(block, after);
        } else {
            self.blocks.remove(&block);
        }
        if let Some(by_bytes) = &mut self.by_bytes {
            by_bytes.remove(&(before, block));
            if after > 0 {
                by_bytes.insert((after, block));
            }
        }
    }

    /// Blocks and their bytes, from that which holds most on.
    pub fn largest(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_bytes.iter().flat_map(|by_bytes| by_bytes.iter().rev().map(|&(bytes, block)| (block, bytes)))
    }

    /// How many bytes a block holds.
    pub fn of_block(&self, block: u64) -> u64 {
        self.blocks.get(&block).copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
