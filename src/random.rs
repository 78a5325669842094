//! The random source that the core is given.

use rand::SeedableRng;
use rand::rngs::ChaCha12Rng;

/// The generator of a whole engine. Session ids and transaction ids are drawn
/// from it, and an outsider who has seen some must not guess the next: so it is
/// a cipher, not a fast statistical generator. Its output for a seed is fixed (ChaCha with 12
/// rounds), so that a simulation goes the same way everywhere.
pub type Random = ChaCha12Rng;

/// A 32-byte seed: the same seed, the same behaviour.
pub type Seed = [u8; 32];

/// The generator started from `seed`.
pub fn seeded(seed: Seed) -> Random {
    Random::from_seed(seed)
}

/// A seed spelled as one number, for tests and command lines.
pub fn seed_from_number(number: u64) -> Seed {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}
