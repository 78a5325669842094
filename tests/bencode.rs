//! Bencode: canonical or refused, within its limits, and the same after a round trip.

use khashmir::bencode::{self, BencodeError, Encoder, MAX_DEPTH, MAX_ITEMS, Problem, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A value that owns its parts, to compare with.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Int),
        (-2i64..12).prop_map(Tree::Int),
        vec(any::<u8>(), 0..30).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Tree::List),
            btree_map(vec(any::<u8>(), 0..4), inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

fn write(encoder: &mut Encoder<'_>, tree: &Tree) {
    match tree {
        Tree::Int(number) => {
            encoder.int(*number);
        }
        Tree::Bytes(bytes) => {
            encoder.bytes(bytes);
        }
        Tree::List(items) => {
            encoder.list();
            items.iter().for_each(|item| write(encoder, item));
            encoder.end();
        }
        Tree::Dict(entries) => {
            encoder.dict();
            for (key, value) in entries {
                write(encoder.key(key), value);
            }
            encoder.end();
        }
    }
}

fn encoded(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Encoder::new(&mut out), tree);
    out
}

fn owned(value: Value<'_>) -> Tree {
    match value {
        Value::Int(number) => Tree::Int(number),
        Value::Bytes(bytes) => Tree::Bytes(bytes.to_vec()),
        Value::List(list) => Tree::List(list.iter().map(owned).collect()),
        Value::Dict(dict) => {
            Tree::Dict(dict.iter().map(|(key, value)| (key.to_vec(), owned(value))).collect())
        }
    }
}

/// Canonical means that there is one spelling: what is taken is written the same.
fn refused_or_canonical(bytes: &[u8]) {
    if let Ok(value) = bencode::parse(bytes) {
        assert_eq!(encoded(&owned(value)), bytes);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(tree in tree()) {
        let bytes = encoded(&tree);
        prop_assert_eq!(bencode::parse(&bytes).map(owned), Ok(tree));
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..200)) {
        refused_or_canonical(&bytes);
    }

    #[test]
    fn near_misses_are_refused_or_canonical(text in "[ilde0-9:\\-]{0,40}") {
        refused_or_canonical(text.as_bytes());
    }

    #[test]
    fn damage_is_refused_or_canonical(
        tree in tree(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&tree);
        let at = at.index(bytes.len());
        prop_assert!(bencode::parse(&bytes[..at]).is_err());
        bytes[at] = byte;
        refused_or_canonical(&bytes);
    }

    #[test]
    fn keys_are_found(
        entries in btree_map(vec(0u8..4, 0..3), any::<i64>(), 0..8),
        wanted in vec(0u8..4, 0..3),
    ) {
        let numbers = entries.iter().map(|(key, number)| (key.clone(), Tree::Int(*number)));
        let tree = Tree::Dict(numbers.collect());
        let bytes = encoded(&tree);
        let Ok(Value::Dict(dict)) = bencode::parse(&bytes) else { panic!("a dictionary is one") };
        let expected = entries.get(&wanted).map(|number| Value::Int(*number));
        prop_assert_eq!(dict.get(&wanted), expected);
        prop_assert_eq!(dict.select([&wanted, b"never"]), [expected, None]);
    }
}

#[test]
fn values_read_as_what_they_are() {
    assert_eq!(bencode::parse(b"i0e"), Ok(Value::Int(0)));
    assert_eq!(bencode::parse(b"i-9223372036854775808e"), Ok(Value::Int(i64::MIN)));
    assert_eq!(bencode::parse(b"i9223372036854775807e"), Ok(Value::Int(i64::MAX)));
    assert_eq!(bencode::parse(b"0:"), Ok(Value::Bytes(b"")));
    assert_eq!(bencode::parse(b"3:a\0\xff"), Ok(Value::Bytes(b"a\0\xff")));
    let Ok(Value::Dict(dict)) = bencode::parse(b"d4:listli7el1:xee4:nonelee") else { panic!("a dictionary") };
    let Some(Value::List(list)) = dict.get(b"list") else { panic!("a list") };
    let items: Vec<_> = list.iter().collect();
    assert!(matches!(items[..], [Value::Int(7), Value::List(_)]), "{items:?}");
    let Some(Value::List(none)) = dict.get(b"none") else { panic!("a list") };
    assert_eq!(none.iter().count(), 0);
}

#[test]
fn errors_say_what_and_where() {
    use Problem::*;
    for (input, at, problem) in [
        (&b""[..], 0, Truncated),
        (b"i", 0, Truncated),
        (b"i12", 0, Truncated),
        (b"i-", 0, Truncated),
        (b"12", 0, Truncated),
        (b"9999:x", 0, Truncated),
        (b"l0:", 3, Truncated),
        (b"d", 1, Truncated),
        (b"d1:a", 4, Truncated),
        (b"d1:ai1e", 7, Truncated),
        (b"i1ex", 3, Trailing),
        (b"0:0:", 2, Trailing),
        (b"dee", 2, Trailing),
        (b"e", 0, Unexpected),
        (b"x", 0, Unexpected),
        (b"-1:", 0, Unexpected),
        (b"l x", 1, Unexpected),
        (b"ie", 0, Integer),
        (b"i-e", 0, Integer),
        (b"i-0e", 0, Integer),
        (b"i00e", 0, Integer),
        (b"i03e", 0, Integer),
        (b"i-03e", 0, Integer),
        (b"i+1e", 0, Integer),
        (b"i1 e", 0, Integer),
        (b"i--1e", 0, Integer),
        (b"i9223372036854775808e", 0, Integer),
        (b"i-9223372036854775809e", 0, Integer),
        (b"li99999999999999999999999999e", 1, Integer),
        (b"00:", 0, Length),
        (b"02:xy", 0, Length),
        (b"1;x", 0, Length),
        (b"l01:ae", 1, Length),
        (b"18446744073709551615:x", 0, Length),
        (b"99999999999999999999999:x", 0, Length),
        (b"di1e0:e", 1, Key),
        (b"dle0:e", 1, Key),
        (b"d1:b0:1:a0:e", 6, Order),
        (b"d1:a0:1:a0:e", 6, Order),
        (b"d1:a0:0:0:e", 6, Order),
        (b"d1:ae", 4, MissingValue),
        (b"d1:ale1:be", 9, MissingValue),
    ] {
        let found = bencode::parse(input);
        assert_eq!(found, Err(BencodeError { at, problem }), "{}", input.escape_ascii());
    }
}

#[test]
fn keys_are_compared_as_bytes_at_every_level() {
    assert!(bencode::parse(b"d0:i1e1:Ai1e1:ai1e2:aai1e1:\xffi1ee").is_ok());
    // The keys of an inner dictionary do not count for the outer.
    assert!(bencode::parse(b"d1:ad1:zi1ee1:bi1ee").is_ok());
    assert_eq!(bencode::parse(b"d1:bd1:zi1ee1:ai1ee"), Err(BencodeError { at: 12, problem: Problem::Order }));
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
    assert!(bencode::parse(&nested(MAX_DEPTH)).is_ok());
    let too_deep = Err(BencodeError { at: MAX_DEPTH, problem: Problem::TooDeep });
    assert_eq!(bencode::parse(&nested(MAX_DEPTH + 1)), too_deep);
    assert_eq!(bencode::parse(&b"l".repeat(1_000_000)), too_deep);
    let dicts = b"d1:a".repeat(1_000_000);
    assert_eq!(bencode::parse(&dicts), Err(BencodeError { at: MAX_DEPTH * 4, problem: Problem::TooDeep }));
    // Open at once, not in all.
    assert!(bencode::parse(&[b"l".to_vec(), b"le".repeat(1000), b"e".to_vec()].concat()).is_ok());
}

#[test]
fn items_are_limited() {
    let list = |items: usize| [b"l".to_vec(), b"0:".repeat(items), b"e".to_vec()].concat();
    let full = list(MAX_ITEMS - 1);
    let Ok(Value::List(items)) = bencode::parse(&full) else { panic!("a list that is full") };
    assert_eq!(items.iter().count(), MAX_ITEMS - 1);
    let too_many = Err(BencodeError { at: 1 + 2 * (MAX_ITEMS - 1), problem: Problem::TooMany });
    assert_eq!(bencode::parse(&list(MAX_ITEMS)), too_many);
    assert_eq!(bencode::parse(&list(1_000_000)), too_many);
}

#[test]
fn keys_count_as_items() {
    let entries = |pairs: usize| {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        encoder.dict();
        (0..pairs as u32).for_each(|pair| {
            encoder.key(&pair.to_be_bytes()).int(0);
        });
        encoder.end();
        out
    };
    // The dictionary is an item too, so that one is left over.
    assert!(bencode::parse(&entries((MAX_ITEMS - 1) / 2)).is_ok());
    let over = entries(MAX_ITEMS / 2 + 1);
    assert_eq!(bencode::parse(&over).map_err(|error| error.problem), Err(Problem::TooMany));
}

#[test]
fn numbers_are_written_in_full() {
    for number in [0, 9, 10, 99, 100, -1, -10, i64::MAX, i64::MIN] {
        let mut out = b"before".to_vec();
        Encoder::new(&mut out).int(number);
        assert_eq!(out, format!("beforei{number}e").into_bytes());
    }
    for length in [0, 9, 10, 99, 100, 99_999, 100_000] {
        let mut out = Vec::new();
        Encoder::new(&mut out).bytes(&vec![b'x'; length]);
        assert_eq!(out.len(), bencode::bytes_len(length));
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "in order")]
fn unsorted_keys_are_a_mistake() {
    let mut out = Vec::new();
    Encoder::new(&mut out).dict().key(b"b").int(1).key(b"a").int(2).end();
}
