//! Writing bencode.

#[cfg(debug_assertions)]
use std::ops::Range;

/// Appends bencode to a buffer.
///
/// Who writes a dictionary calls [`key`](Self::key) before each value, in
/// ascending order; a debug build checks the order.
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    /// Where in `out` the last key of each open list and dictionary is.
    #[cfg(debug_assertions)]
    open: Vec<Option<Range<usize>>>,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Encoder {
            out,
            #[cfg(debug_assertions)]
            open: Vec::new(),
        }
    }

    /// How many bytes the buffer holds, those before the encoder's included.
    pub fn buffered(&self) -> usize {
        self.out.len()
    }

    /// Writes an integer.
    pub fn int(&mut self, number: i64) -> &mut Self {
        self.out.push(b'i');
        if number < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(Decimal::new(number.unsigned_abs()).as_bytes());
        self.out.push(b'e');
        self
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(Decimal::new(bytes.len() as u64).as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
        self
    }

    /// Writes the key of the value that comes next.
    pub fn key(&mut self, key: &[u8]) -> &mut Self {
        self.bytes(key);
        #[cfg(debug_assertions)]
        if let Some(last) = self.open.last_mut() {
            let now = self.out.len() - key.len()..self.out.len();
            let ascends = last.take().is_none_or(|last| self.out[last] < *key);
            debug_assert!(ascends, "keys must be written in order");
            *last = Some(now);
        }
        self
    }

    /// Begins a list.
    pub fn list(&mut self) -> &mut Self {
        self.begin(b'l')
    }

    /// Begins a dictionary.
    pub fn dict(&mut self) -> &mut Self {
        self.begin(b'd')
    }

    /// Ends the list or dictionary that was begun last.
    pub fn end(&mut self) -> &mut Self {
        #[cfg(debug_assertions)]
        debug_assert!(self.open.pop().is_some(), "nothing is open");
        self.out.push(b'e');
        self
    }

    fn begin(&mut self, letter: u8) -> &mut Self {
        #[cfg(debug_assertions)]
        self.open.push(None);
        self.out.push(letter);
        self
    }
}

/// How many bytes a byte string of `length` takes.
pub fn bytes_len(length: usize) -> usize {
    Decimal::new(length as u64).as_bytes().len() + 1 + length
}

/// A number's decimal digits, without an allocation.
pub(crate) struct Decimal {
    digits: [u8; 20],
    first: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut decimal = Decimal { digits: [b'0'; 20], first: 20 };
        if number < 100 {
            // Nearly all are.
            let (ten, one) = (number as u8 / 10, number as u8 % 10);
            [decimal.digits[18], decimal.digits[19]] = [b'0' + ten, b'0' + one];
            decimal.first = if ten > 0 { 18 } else { 19 };
            return decimal;
        }
        for (place, digit) in decimal.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            decimal.first = place;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.first..).unwrap_or_default()
    }
}
