//! Netstrings: whole or in pieces, and refused as early as can be told.

use khashmir::krpc::netstring::{NetstringError, Taken, TooLong, frame, take};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 99_999;

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, LIMIT, body.len(), |out| out.extend_from_slice(body)).expect("short enough");
    out
}

/// What a reader makes of a stream that arrives in these pieces.
fn received<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, NetstringError> {
    let mut buffer = Vec::new();
    let mut bodies = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(Taken { body, consumed }) = take(&buffer, LIMIT)? {
            bodies.push(buffer[body].to_vec());
            buffer.drain(..consumed);
        }
    }
    assert!(buffer.is_empty(), "{} bytes are left", buffer.len());
    Ok(bodies)
}

proptest! {
    #[test]
    fn a_stream_reads_the_same_in_any_pieces(
        bodies in vec(vec(any::<u8>(), 0..300), 0..8),
        piece in 1usize..400,
    ) {
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        prop_assert_eq!(received(stream.chunks(piece)), Ok(bodies.clone()));
        prop_assert_eq!(received(stream.chunks(1)), Ok(bodies));
    }

    #[test]
    fn the_expected_length_does_not_matter(body in vec(any::<u8>(), 0..2000), expected in 0usize..200_000) {
        let mut out = b"before".to_vec();
        let result = frame(&mut out, LIMIT, expected, |out| {
            out.extend_from_slice(&body);
            7
        });
        prop_assert_eq!(result, Ok(7));
        let plain = [format!("before{}:", body.len()).into_bytes(), body.clone(), b",".to_vec()].concat();
        prop_assert_eq!(out, plain);
    }

    #[test]
    fn more_bytes_never_change_the_answer(bytes in "[0-9]{0,3}:?[a-c,]{0,8}", limit in 0usize..20) {
        let bytes = bytes.as_bytes();
        let mut settled = None;
        for end in 0..=bytes.len() {
            let answer = take(&bytes[..end], limit);
            if let Some(settled) = &settled {
                prop_assert_eq!(&answer, settled);
            } else if answer != Ok(None) {
                settled = Some(answer);
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..40), limit in any::<usize>()) {
        if let Ok(Some(Taken { body, consumed })) = take(&bytes, limit) {
            prop_assert!(body.end < consumed && consumed <= bytes.len());
            prop_assert_eq!(bytes[consumed - 1], b',');
        }
    }
}

#[test]
fn what_is_no_netstring_is_refused_at_once() {
    let long = NetstringError::TooLong { limit: LIMIT };
    for (input, error) in [
        (&b","[..], NetstringError::Length),
        (b":", NetstringError::Length),
        (b":,", NetstringError::Length),
        (b"-1:", NetstringError::Length),
        (b" 1:", NetstringError::Length),
        (b"1 ", NetstringError::Length),
        (b"zz:garbage", NetstringError::Length),
        (b"d1:t", NetstringError::Length),
        (b"00000000001:", NetstringError::Length),
        (b"3:abcd", NetstringError::Comma),
        (b"0:0", NetstringError::Comma),
        (b"100000", long),
        (b"999999", long),
        (b"9999999999", long),
    ] {
        assert_eq!(take(input, LIMIT), Err(error), "{}", input.escape_ascii());
    }
}

#[test]
fn more_is_waited_for() {
    for input in [&b""[..], b"1", b"12", b"99999", b"5:", b"5:abcde", b"0:", b"0000000000"] {
        assert_eq!(take(input, LIMIT), Ok(None), "{}", input.escape_ascii());
    }
}

#[test]
fn zeros_before_a_length_are_harmless() {
    assert_eq!(take(b"003:abc,rest", LIMIT), Ok(Some(Taken { body: 4..7, consumed: 8 })));
    assert_eq!(take(b"00:,", LIMIT), Ok(Some(Taken { body: 3..3, consumed: 4 })));
}

#[test]
fn the_limit_is_on_the_body() {
    let body = vec![b'x'; LIMIT];
    let whole = framed(&body);
    assert_eq!(take(&whole, LIMIT), Ok(Some(Taken { body: 6..LIMIT + 6, consumed: LIMIT + 7 })));
    assert_eq!(take(&whole, LIMIT - 1), Err(NetstringError::TooLong { limit: LIMIT - 1 }));
    // Told by the length alone.
    assert_eq!(take(b"11", 10), Err(NetstringError::TooLong { limit: 10 }));
    assert_eq!(take(b"10", 10), Ok(None));
}

#[test]
fn what_is_too_long_leaves_no_trace() {
    let mut out = b"before".to_vec();
    let exact = frame(&mut out, 3, 3, |out| out.extend_from_slice(b"abc"));
    assert_eq!((exact, &out[..]), (Ok(()), &b"before3:abc,"[..]));
    let over = frame(&mut out, 3, 3, |out| out.extend_from_slice(b"abcd"));
    assert_eq!((over, &out[..]), (Err(TooLong { limit: 3 }), &b"before3:abc,"[..]));
}
