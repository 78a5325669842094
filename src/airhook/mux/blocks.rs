//! How many connections there are to each block of addresses, so that whoever has one block
//! does not have them all.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use super::addresses::{Hashed, Keyed};
use crate::config::Config;
use crate::contact::block;

/// As many times what strangers of a block may have, we may open to it.
const OWN: usize = 4;

/// The counts. They are only made once there are so many connections that a block may have
/// too many of them: a small node has none.
#[derive(Debug, Default)]
pub struct Blocks(Option<Counts>);

/// By a hash of the block, which nobody can choose: where two have the same, they share what one may have.
#[derive(Debug)]
struct Counts {
    hasher: Keyed,
    counts: HashMap<u32, u32, Hashed>,
}

impl Counts {
    fn name(&self, addr: &SocketAddr) -> u32 {
        self.hasher.hash_one(block(addr.ip())) as u32
    }
}

impl Blocks {
    /// Whether a sender from there who has not shown that he receives our answers may have a
    /// connection. Half of what a block may have is left for those who have: addresses that
    /// somebody makes up do not keep them out.
    pub fn has_room_for_unproven(&self, addr: &SocketAddr, config: &Config) -> bool {
        self.count(addr, config) < config.max_per_block.div_ceil(2)
    }

    /// Whether anybody else from there may have one.
    pub fn has_room(&self, addr: &SocketAddr, config: &Config) -> bool {
        self.count(addr, config) < config.max_per_block
    }

    /// Whether we may open one.
    pub fn has_room_for_own(&self, addr: &SocketAddr, config: &Config) -> bool {
        self.count(addr, config) < config.max_per_block.saturating_mul(OWN)
    }

    /// Whether there must be counts, with so many connections.
    pub fn is_missing(&self, connections: usize, config: &Config) -> bool {
        self.0.is_none() && connections >= config.max_per_block.div_ceil(2)
    }

    /// Begins to count.
    pub fn begin(&mut self, hasher: Keyed) {
        self.0 = Some(Counts { hasher, counts: HashMap::default() });
    }

    /// There is one more.
    pub fn add(&mut self, addr: &SocketAddr) {
        if let Some(counts) = &mut self.0 {
            *counts.counts.entry(counts.name(addr)).or_default() += 1;
        }
    }

    /// There is one less; so many are left in all.
    pub fn remove(&mut self, addr: &SocketAddr, left: usize, config: &Config) {
        if left < config.max_per_block / 4 {
            self.0 = None;
        }
        let Some(counts) = &mut self.0 else {
            return;
        };
        let name = counts.name(addr);
        if let Some(count) = counts.counts.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                counts.counts.remove(&name);
            }
        }
    }

    fn count(&self, addr: &SocketAddr, config: &Config) -> usize {
        match &self.0 {
            Some(counts) if config.limit_loopback || !addr.ip().to_canonical().is_loopback() => {
                counts.counts.get(&counts.name(addr)).map_or(0, |&count| count as usize)
            }
            _ => 0,
        }
    }
}
