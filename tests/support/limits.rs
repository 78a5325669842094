//! Limits of a store, for tests and benchmarks that are not about them.
#![allow(dead_code)]

use khashmir::WhenFull;
use khashmir::store::Limits;

/// Room for what a test stores.
pub const LIMITS: Limits = Limits {
    max_values_per_key: 1000,
    max_bytes_per_key: u32::MAX as u64,
    max_values_per_key_and_block: 1000,
    max_bytes_per_key_and_block: 1 << 30,
    max_stored_bytes: 1 << 30,
    max_stored_values: 1_000_000,
    max_bytes_per_address: 1 << 30,
    max_bytes_per_block: 1 << 30,
    limit_loopback: false,
    when_full: WhenFull::Refuse,
    max_renewed_bytes: 1 << 20,
};

/// Room for whatever comes.
pub fn boundless() -> Limits {
    Limits {
        max_values_per_key: 1 << 30,
        max_bytes_per_key: 1 << 31,
        max_values_per_key_and_block: 1 << 30,
        max_bytes_per_key_and_block: 1 << 40,
        max_stored_bytes: 1 << 40,
        max_stored_values: 1 << 40,
        max_bytes_per_address: 1 << 40,
        max_bytes_per_block: 1 << 40,
        ..Limits::default()
    }
}
