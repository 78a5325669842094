//! The random source that the core is given.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The generator of a whole engine. Session ids and transaction ids are drawn
/// from it, and an outsider who has seen some must not guess the next: so it is
/// a cipher (ChaCha12), not a fast statistical generator.
pub type Random = StdRng;

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
