//! One number for all that happened.

/// A digest of 128 bits over everything that was sent and everything that came of it.
///
/// A day of a thousand nodes is some tens of gigabytes, so this is no cryptographic hash: it tells two
/// runs apart that differ by accident, and costs a fraction of a nanosecond per byte. What goes in is
/// a sequence of words of 64 bits; for each word w, with wrapping arithmetic,
///
/// ```text
/// a = rotate_left(a ^ w, 29) * 0x9e37_79b9_7f4a_7c15
/// b = rotate_left(b + a, 31)
/// ```
///
/// from a = 0x243f_6a88_85a3_08d3 and b = 0x1319_8a2e_0370_7344 on (the first digits of π). Each step
/// can be undone, so that no word takes anything back that earlier ones left. Bytes go in as their
/// number, then eight at a time, the first one lowest; the last word is filled up with zeros. At the
/// end a + b and b - a are finished as in SplitMix64 (Steele and others, 2014).
#[derive(Clone, Debug)]
pub(super) struct Digest {
    a: u64,
    b: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Digest { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344 }
    }
}

impl Digest {
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.a = (self.a ^ number).rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.b = self.b.wrapping_add(self.a).rotate_left(31);
    }

    /// Bytes behind their length, so that no two sequences of them look alike.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        for &word in words {
            self.number(u64::from_le_bytes(word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// The digest so far, in hexadecimal.
    pub fn text(&self) -> String {
        format!("{:016x}{:016x}", mix(self.a.wrapping_add(self.b)), mix(self.b.wrapping_sub(self.a)))
    }
}

/// SplitMix64's finish: every bit of the result depends on every bit of the number.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formulas above, worked out by another program.
    #[test]
    fn the_result_is_fixed() {
        let mut digest = Digest::default();
        digest.number(7);
        digest.bytes(b"khashmir, at a distance");
        assert_eq!(digest.text(), "672e7e1d6fd3508da8e70a9170846e04");
    }
}
