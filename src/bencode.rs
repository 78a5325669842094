//! Bencode, the notation of KRPC's messages: integers, byte strings, lists, and
//! dictionaries with sorted keys.
//!
//! [`parse`] checks a whole message once and then hands out views into it, so
//! that everything after the boundary works on input known to be sound and
//! copies nothing. It takes canonical bencode only, which is all that the
//! encoder of 2003 writes and nearly all that its decoder takes.

mod encode;

use std::fmt;

pub(crate) use encode::Decimal;
pub use encode::{Encoder, bytes_len};

/// How many lists and dictionaries may be open at once. Khashmir's messages
/// open four (message, response, list of nodes, contact).
pub const MAX_DEPTH: usize = 16;

/// How many values and keys a message may hold in all. The most that makes
/// sense is a response full of different, non-empty values: of 99,999 bytes
/// such values fill, at three bytes for a short one and four from the 257th on,
/// about 25,000.
pub const MAX_ITEMS: usize = 32_768;

/// A value within a checked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
}

/// A list within a checked message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    /// What stands between its `l` and its `e`.
    raw: &'a [u8],
}

/// A dictionary within a checked message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dict<'a> {
    /// What stands between its `d` and its `e`.
    raw: &'a [u8],
}

/// Why bytes are not canonical bencode, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BencodeError {
    /// The offset in bytes of the value or key at fault; for input that ends
    /// too early, of the one that is cut off.
    pub at: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The input ends in the middle of a value.
    Truncated,
    /// Something follows the value.
    Trailing,
    /// No value begins with this byte, or a list or dictionary ends that was
    /// never begun.
    Unexpected,
    /// An integer that is empty, has a leading zero, is −0 or exceeds 64 bits.
    Integer,
    /// The length of a byte string has a leading zero, is not followed by a
    /// colon or exceeds the address space.
    Length,
    /// The key of a dictionary is not a byte string.
    Key,
    /// A key does not sort after the one before it.
    Order,
    /// A dictionary ends after a key.
    MissingValue,
    /// More than [`MAX_DEPTH`] lists and dictionaries are open.
    TooDeep,
    /// More than [`MAX_ITEMS`] values and keys.
    TooMany,
}

impl fmt::Display for BencodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Truncated => "the input ends in the middle of a value",
            Problem::Trailing => "something follows the value",
            Problem::Unexpected => "no value begins like this",
            Problem::Integer => "not a canonical integer of 64 bits",
            Problem::Length => "not a canonical length",
            Problem::Key => "a key is not a byte string",
            Problem::Order => "the keys are not sorted",
            Problem::MissingValue => "a key has no value",
            Problem::TooDeep => "nested too deeply",
            Problem::TooMany => "too many values",
        };
        write!(f, "byte {}: {problem}", self.at)
    }
}

impl std::error::Error for BencodeError {}

/// Reads `input`, which must be one value and nothing else.
///
/// Takes time linear in the input and no memory, whatever the input is.
///
/// # Errors
///
/// The first thing that is not canonical bencode, or exceeds [`MAX_DEPTH`] or
/// [`MAX_ITEMS`].
pub fn parse(input: &[u8]) -> Result<Value<'_>, BencodeError> {
    let end = check(input)?;
    if end != input.len() {
        return Err(BencodeError { at: end, problem: Problem::Trailing });
    }
    let inside = input.get(1..end.saturating_sub(1)).unwrap_or_default();
    Ok(match token(input, 0)?.0 {
        Token::Int(number) => Value::Int(number),
        Token::Bytes(bytes) => Value::Bytes(bytes),
        Token::List => Value::List(List { raw: inside }),
        Token::Dict => Value::Dict(Dict { raw: inside }),
        Token::End => return Err(BencodeError { at: 0, problem: Problem::Unexpected }),
    })
}

/// The smallest pieces that bencode consists of.
enum Token<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    List,
    Dict,
    End,
}

/// The token at `at`, and the offset of the next.
#[inline]
fn token(input: &[u8], at: usize) -> Result<(Token<'_>, usize), BencodeError> {
    let error = |problem| BencodeError { at, problem };
    match input.get(at) {
        None => Err(error(Problem::Truncated)),
        Some(b'l') => Ok((Token::List, at + 1)),
        Some(b'd') => Ok((Token::Dict, at + 1)),
        Some(b'e') => Ok((Token::End, at + 1)),
        Some(b'i') => {
            let (number, next) = integer(input, at + 1).map_err(error)?;
            Ok((Token::Int(number), next))
        }
        Some(b'0'..=b'9') => {
            let (length, start) = length(input, at).map_err(error)?;
            let end = start.checked_add(length).ok_or(error(Problem::Length))?;
            let bytes = input.get(start..end).ok_or(error(Problem::Truncated))?;
            Ok((Token::Bytes(bytes), end))
        }
        Some(_) => Err(error(Problem::Unexpected)),
    }
}

/// The integer whose sign or first digit is at `at`, and the offset after its `e`.
fn integer(input: &[u8], mut at: usize) -> Result<(i64, usize), Problem> {
    let negative = input.get(at) == Some(&b'-');
    at += usize::from(negative);
    let first = at;
    // Counted downwards: the lowest number has no positive counterpart.
    let mut number = 0i64;
    loop {
        match input.get(at) {
            Some(&digit @ b'0'..=b'9') => {
                if at > first && number == 0 {
                    return Err(Problem::Integer);
                }
                let digit = i64::from(digit - b'0');
                number = number.checked_mul(10).and_then(|n| n.checked_sub(digit)).ok_or(Problem::Integer)?;
                at += 1;
            }
            Some(b'e') if at > first && !(negative && number == 0) => {
                let number = if negative { Some(number) } else { number.checked_neg() };
                return Ok((number.ok_or(Problem::Integer)?, at + 1));
            }
            Some(_) => return Err(Problem::Integer),
            None => return Err(Problem::Truncated),
        }
    }
}

/// The length whose first digit is at `at`, and the offset after its colon.
#[inline]
fn length(input: &[u8], at: usize) -> Result<(usize, usize), Problem> {
    // Nearly all are of one digit or two.
    match *input.get(at..).unwrap_or_default() {
        [one @ b'0'..=b'9', b':', ..] => Ok((usize::from(one - b'0'), at + 2)),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9', b':', ..] => {
            Ok((usize::from(ten - b'0') * 10 + usize::from(one - b'0'), at + 3))
        }
        _ => any_length(input, at),
    }
}

fn any_length(input: &[u8], mut at: usize) -> Result<(usize, usize), Problem> {
    let first = at;
    let mut length = 0usize;
    loop {
        match input.get(at) {
            Some(&digit @ b'0'..=b'9') => {
                if at > first && length == 0 {
                    return Err(Problem::Length);
                }
                let digit = usize::from(digit - b'0');
                length = length.checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or(Problem::Length)?;
                at += 1;
            }
            Some(b':') => return Ok((length, at + 1)),
            Some(_) => return Err(Problem::Length),
            None => return Err(Problem::Truncated),
        }
    }
}

/// What an open list or dictionary takes next.
#[derive(Clone, Copy)]
enum Expects<'a> {
    Item,
    /// A key that sorts after this one.
    Key(Option<&'a [u8]>),
    /// The value of this key.
    ValueOf(&'a [u8]),
}

/// Whether `key` sorts after `last`. Mostly the first letters tell.
fn sorts(last: &[u8], key: &[u8]) -> bool {
    match (last.first(), key.first()) {
        (Some(a), Some(b)) if a != b => a < b,
        _ => last < key,
    }
}

/// Checks the value at the start of `input` and returns where it ends.
fn check(input: &[u8]) -> Result<usize, BencodeError> {
    let mut open = [Expects::Item; MAX_DEPTH];
    let mut depth = 0usize;
    let mut items = 0usize;
    let mut at = 0;
    loop {
        let error = |problem| Err(BencodeError { at, problem });
        let (token, next) = token(input, at)?;
        items += usize::from(!matches!(token, Token::End));
        if items > MAX_ITEMS {
            return error(Problem::TooMany);
        }
        match (depth.checked_sub(1).and_then(|top| open.get_mut(top)), &token) {
            (None, Token::End) => return error(Problem::Unexpected),
            (Some(Expects::Key(last)), Token::Bytes(key)) if last.is_some_and(|last| !sorts(last, key)) => {
                return error(Problem::Order);
            }
            (Some(expects @ Expects::Key(_)), Token::Bytes(key)) => {
                *expects = Expects::ValueOf(key);
                at = next;
                continue;
            }
            (Some(Expects::Key(_)), Token::End) => {}
            (Some(Expects::Key(_)), _) => return error(Problem::Key),
            (Some(Expects::ValueOf(_)), Token::End) => return error(Problem::MissingValue),
            (Some(expects), _) => {
                if let Expects::ValueOf(key) = *expects {
                    *expects = Expects::Key(Some(key));
                }
            }
            (None, _) => {}
        }
        match token {
            Token::List | Token::Dict => {
                let Some(level) = open.get_mut(depth) else {
                    return error(Problem::TooDeep);
                };
                *level = if matches!(token, Token::Dict) { Expects::Key(None) } else { Expects::Item };
                depth += 1;
            }
            Token::End => depth -= 1,
            Token::Int(_) | Token::Bytes(_) => {}
        }
        at = next;
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Takes the first value off `rest`, which was checked before. A list or a
/// dictionary is walked through to find its end, so a walk over everything in a
/// message passes each byte at most once per level, [`MAX_DEPTH`] times.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Value<'a>> {
    let input = *rest;
    let (value, next) = match *input.first()? {
        first @ (b'l' | b'd') => {
            let next = end_of_open(input)?;
            let raw = input.get(1..next - 1)?;
            (if first == b'd' { Value::Dict(Dict { raw }) } else { Value::List(List { raw }) }, next)
        }
        b'i' => {
            let (number, next) = integer(input, 1).ok()?;
            (Value::Int(number), next)
        }
        _ => {
            let (length, start) = length(input, 0).ok()?;
            let next = start.checked_add(length)?;
            (Value::Bytes(input.get(start..next)?), next)
        }
    };
    *rest = input.get(next..)?;
    Some(value)
}

/// Where the list or dictionary at the start of `input` ends, which was checked before: so it is
/// enough to tell values apart.
fn end_of_open(input: &[u8]) -> Option<usize> {
    let mut depth = 1usize;
    let mut at = 1;
    while depth > 0 {
        match *input.get(at)? {
            b'l' | b'd' => depth += 1,
            b'e' => depth -= 1,
            b'i' => at += input.get(at..)?.iter().position(|&byte| byte == b'e')?,
            _ => {
                let (length, start) = length(input, at).ok()?;
                at = start.checked_add(length)?;
                continue;
            }
        }
        at += 1;
    }
    Some(at)
}

/// The items of a [`List`], in order.
#[derive(Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
}

/// The keys and values of a [`Dict`], in ascending order of the keys.
#[derive(Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> List<'a> {
    /// The items in order.
    pub fn iter(&self) -> Items<'a> {
        Items { rest: self.raw }
    }
}

impl<'a> Dict<'a> {
    /// What stands between its `d` and its `e`.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The keys and values, in ascending order of the keys.
    pub fn iter(&self) -> Entries<'a> {
        Entries { rest: self.raw }
    }

    /// The value of `key`. Walks through what comes before it.
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        let (found, value) = self.iter().find(|(other, _)| *other >= key)?;
        (found == key).then_some(value)
    }

    /// The values of several keys, found in one walk.
    pub fn select<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<Value<'a>>; N] {
        let mut found = [None; N];
        for (key, value) in self.iter() {
            // Mostly the first letters tell.
            let is_it = |wanted: &[u8]| wanted.first() == key.first() && wanted == key;
            if let Some((_, slot)) = keys.iter().zip(&mut found).find(|(wanted, _)| is_it(wanted)) {
                *slot = Some(value);
            }
        }
        found
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        take(&mut self.rest)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match take(&mut self.rest)? {
            Value::Bytes(key) => Some((key, take(&mut self.rest)?)),
            _ => None,
        }
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(key, value)| (key.escape_ascii().to_string(), value)))
            .finish()
    }
}
