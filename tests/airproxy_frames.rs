//! What two proxies say to each other.

#[path = "../examples/airproxy/frame.rs"]
mod frame;

use frame::{Broken, Frame, MAX_DATA, Parser, WINDOW, emit_hello};

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    emit_hello(&mut bytes);
    bytes
}

fn all(bytes: &[u8], step: usize) -> Result<Vec<String>, Broken> {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for piece in bytes.chunks(step) {
        parser.feed(piece, |frame| {
            found.push(format!("{frame:?}"));
            Ok(())
        })?;
    }
    Ok(found)
}

#[test]
fn frames_come_back_however_they_are_cut() {
    let data = [7; MAX_DATA];
    let frames = [
        Frame::Open(1),
        Frame::Data(u32::MAX, &data),
        Frame::Credit(2, WINDOW),
        Frame::End(3),
        Frame::Data(4, b"x"),
        Frame::Reset(5),
        Frame::Ping,
    ];
    let mut bytes = hello();
    frames.iter().for_each(|frame| frame.emit(&mut bytes));
    let wanted: Vec<_> = frames.iter().map(|frame| format!("{frame:?}")).collect();
    for step in [1, 2, 9, 1000, bytes.len()] {
        assert_eq!(all(&bytes, step).expect("good frames"), wanted);
    }
}

#[test]
fn what_no_proxy_says_is_broken() {
    let head = |kind: u8, number: u32, value: u32| {
        let mut bytes = hello();
        bytes.push(kind);
        bytes.extend(number.to_be_bytes());
        bytes.extend(value.to_be_bytes());
        bytes
    };
    for (kind, number, value) in [
        (0, 0, 0),
        (1, 1, 1),
        (2, 1, 0),
        (2, 1, MAX_DATA as u32 + 1),
        (2, 1, u32::MAX),
        (3, 1, 0),
        (3, 1, WINDOW + 1),
        (4, 1, 1),
        (5, 1, 9),
        (6, 1, 0),
        (6, 0, 1),
        (7, 0, 0),
        (255, 0, 0),
    ] {
        assert!(all(&head(kind, number, value), 5).is_err(), "{kind} {number} {value}");
    }
    assert!(all(b"GET / HTTP/1.1", 3).is_err());
    assert!(all(b"airprox2", 8).is_err());
}
