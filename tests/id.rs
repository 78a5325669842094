//! The order of distances.

use khashmir::Id;
use proptest::prelude::*;

proptest! {
    #[test]
    fn distances_order_as_their_bytes(a: [u8; 20], b: [u8; 20], same in 0..20usize) {
        let (mut b, zero) = (b, Id::new([0; 20]));
        // Mostly they would differ in the first byte.
        b[..same].copy_from_slice(&a[..same]);
        let [one, other] = [a, b].map(|bytes| zero.distance(&Id::new(bytes)));
        prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        prop_assert_eq!(one == other, a == b);
    }
}
