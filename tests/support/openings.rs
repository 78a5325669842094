//! Packets that open a session, as somebody sends them who forges their sender.
#![allow(dead_code)]

use std::net::SocketAddr;

use khashmir::airhook::packet::{MAX_PACKET, Messages, Packet};
use khashmir::airhook::stream::MAX_SEGMENT;
use khashmir::krpc::message::{self, Method};
use khashmir::{Contact, Id};

/// What is in an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Bare,
    /// The beginning of a request, in one message.
    Begun,
    /// A whole request, made long enough that its answer may be long.
    Whole,
    /// The same, and a guess at the session that it would have been answered with.
    Guess,
    /// Nothing, as from somebody with whom there is a session: as short as packets are.
    Stray,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Bare, Kind::Begun, Kind::Whole, Kind::Guess, Kind::Stray];
}

/// The datagrams, ready to be given their sessions, and where the id of who seems to ask is.
pub struct Openings([(Vec<u8>, Option<usize>); 5]);

/// Where in a packet the sessions are: the other side's, if it is there, and the sender's.
const SESSIONS: usize = 4;

/// The id of who seems to ask.
const NOBODY: &[u8; 20] = b"nobody in particular";

impl Openings {
    pub fn new() -> Self {
        let sender = Contact { id: Id::new(*NOBODY), addr: SocketAddr::from(([10, 1, 2, 3], 4000)) };
        let mut request = Vec::new();
        let method = Method::FindNode { target: Id::of(b"anybody") };
        message::padded_request(&mut request, b"1", &sender, &method, 1200).expect("short enough");
        Openings(Kind::ALL.map(|kind| {
            let bytes = match kind {
                Kind::Bare | Kind::Stray => &[],
                Kind::Begun => &request[..100],
                Kind::Whole | Kind::Guess => &request[..],
            };
            let mut messages = Vec::new();
            for (number, segment) in bytes.chunks(MAX_SEGMENT).enumerate() {
                messages.push(segment.len() as u8 + 1);
                messages.extend_from_slice(&(number as u16).to_be_bytes());
                messages.extend_from_slice(segment);
            }
            let mut datagram = Vec::new();
            Packet {
                observed_sequence: 0,
                sequence: 0,
                observed_session: u32::from(kind == Kind::Guess),
                session: u32::from(kind != Kind::Stray),
                next: (kind != Kind::Stray).then_some(0),
                missed: &[],
                messages: Messages::parse(&messages).expect("whole messages"),
            }
            .emit(&mut datagram);
            assert!(datagram.len() <= MAX_PACKET);
            let id = datagram.windows(NOBODY.len()).position(|bytes| bytes == NOBODY);
            (datagram, id)
        }))
    }

    /// Puts an opening into `buf`, in a session and with a guess that follow from `number`.
    pub fn put(&self, kind: Kind, number: u32, buf: &mut Vec<u8>) {
        buf.clear();
        let (datagram, at) = &self.0[kind as usize];
        buf.extend_from_slice(datagram);
        if kind == Kind::Stray {
            return;
        }
        buf[SESSIONS..SESSIONS + 4].copy_from_slice(&number.max(1).to_be_bytes());
        // Everybody has another name.
        if let Some(at) = at {
            buf[*at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        if kind == Kind::Guess {
            let session = number.wrapping_mul(0x9e37_79b9).max(1);
            buf[SESSIONS + 4..SESSIONS + 8].copy_from_slice(&session.to_be_bytes());
        }
    }
}
