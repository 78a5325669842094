//! The format of a packet: what is read, what is refused, what is written.

use khashmir::airhook::packet::{Messages, Packet, PacketError};
use proptest::prelude::*;

fn messages_bytes(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.push((message.len() - 1) as u8);
        bytes.extend_from_slice(message);
    }
    bytes
}

fn emit(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0xaa];
    packet.emit(&mut bytes);
    assert_eq!(bytes.remove(0), 0xaa, "emit appends");
    bytes
}

prop_compose! {
    fn any_packet()(
        header in any::<(u8, u16, u32, u32, Option<u8>)>(),
        has in any::<(bool, bool)>(),
        missed in prop::collection::vec(any::<u8>(), 0..=256),
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=256), 0..8),
    ) -> (u8, u16, u32, u32, Option<u8>, Vec<u8>, Vec<Vec<u8>>) {
        let (observed_sequence, sequence, o, s, next) = header;
        let (o, s) = (if has.0 { o } else { 0 }, if has.1 { s } else { 0 });
        (observed_sequence, sequence, o, s, next, missed, messages)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read((o_seq, sequence, o, s, next, missed, messages) in any_packet()) {
        let bytes = messages_bytes(&messages);
        let packet = Packet {
            observed_sequence: o_seq,
            sequence,
            observed_session: o,
            session: s,
            next,
            missed: &missed,
            messages: Messages::parse(&bytes).unwrap(),
        };
        let written = emit(&packet);
        let read = Packet::parse(&written).unwrap();
        prop_assert_eq!(read, packet);
        let read: Vec<Vec<u8>> = read.messages.iter().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(usize::from(packet.messages.count()), messages.len());
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1600), flags in 0u8..0x20) {
        let _ = Packet::parse(&bytes);
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = flags;
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            // Id 0 and the reserved interval are not written again.
            let written = emit(&packet);
            prop_assert_eq!(Packet::parse(&written), Ok(packet));
            prop_assert!(written.len() <= bytes.len());
        }
    }
}

/// Every field there is, one message of three bytes.
const FULL: [u8; 22] = [0x1f, 9, 1, 2, 0, 0, 0, 5, 0, 0, 0, 6, 0xee, 7, 1, 3, 4, 2, b'a', b'b', b'c', 0];

#[test]
fn every_field_has_its_place() {
    let packet = Packet::parse(&FULL[..21]).unwrap();
    assert_eq!((packet.observed_sequence, packet.sequence), (9, 0x0102));
    assert_eq!((packet.observed_session, packet.session), (5, 6));
    assert_eq!((packet.next, packet.missed), (Some(7), &[3, 4][..]));
    assert_eq!(packet.messages.iter().collect::<Vec<_>>(), [b"abc"]);
    // We write no interval.
    let mut expected = FULL[..21].to_vec();
    expected[0] &= !1;
    expected.remove(12);
    assert_eq!(emit(&packet), expected);
}

#[test]
fn a_packet_ends_between_fields_or_messages() {
    for length in 0..FULL.len() {
        let whole = [17, 21].contains(&length);
        assert_eq!(Packet::parse(&FULL[..length]).is_ok(), whole, "{length} bytes");
        if !whole {
            assert_eq!(Packet::parse(&FULL[..length]), Err(PacketError::Truncated));
        }
    }
    assert_eq!(Packet::parse(&FULL), Err(PacketError::Truncated));
}

#[test]
fn each_flag_takes_its_bytes() {
    for flags in 0..=255u8 {
        let size = 4
            + if flags & 0x10 != 0 { 4 } else { 0 }
            + if flags & 0x08 != 0 { 4 } else { 0 }
            + usize::from(flags & 0x01)
            + usize::from(flags & 0x02 != 0)
            + if flags & 0x04 != 0 { 2 } else { 0 };
        let mut bytes = vec![0; size];
        bytes[0] = flags;
        if flags & 0xe0 != 0 {
            assert_eq!(Packet::parse(&bytes), Err(PacketError::NotAirhook));
            continue;
        }
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.next.is_some(), flags & 0x02 != 0);
        assert_eq!(packet.missed.len(), usize::from(flags & 0x04 != 0));
        bytes.pop();
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Truncated));
    }
    assert_eq!(Packet::parse(&[]), Err(PacketError::Truncated));
}

#[test]
fn missed_lists_of_every_length() {
    let all: Vec<u8> = (0..=255).rev().collect();
    for length in 1..=256 {
        let packet = Packet {
            observed_sequence: 0,
            sequence: 0,
            observed_session: 0,
            session: 1,
            next: Some(0),
            missed: &all[..length],
            messages: Messages::default(),
        };
        let bytes = emit(&packet);
        assert_eq!(Packet::parse(&bytes).unwrap().missed, &all[..length]);
        assert_eq!(bytes.len(), 4 + 4 + 1 + 1 + length);
    }
}

#[test]
fn no_more_messages_than_can_be_unconfirmed() {
    let one = [0, b'x'];
    let header = [0x02, 0, 0, 0, 0];
    let most = [&header[..], &one.repeat(255)].concat();
    assert_eq!(Packet::parse(&most).unwrap().messages.count(), 255);
    let more = [&header[..], &one.repeat(256)].concat();
    assert_eq!(Packet::parse(&more), Err(PacketError::TooManyMessages));
}
