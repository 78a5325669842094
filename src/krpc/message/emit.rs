//! Writing messages: each function appends one, netstring frame and all.

use super::contacts::write as contact;
use super::{Fault, MAX_NODES, MAX_OFFERED, MAX_TID, Method, Page};
use crate::bencode::{Encoder, bytes_len};
use crate::config::MAX_NETSTRING;
use crate::contact::Contact;
use crate::krpc::netstring::{self, TooLong};

/// The longest message that is written, in bytes without its frame. With the
/// frame (five digits, colon and comma) it has the length that peers of 2003
/// allow without, so that it is taken however the length is counted.
pub const MAX_BODY: usize = MAX_NETSTRING - 7;

/// The longest text of an error that is written, in bytes. More is cut off.
pub const MAX_ERROR_TEXT: usize = 1024;

/// What a request is padded with; as much as ever fits into a first packet.
const PADDING: [u8; 1400] = [0; 1400];

/// About what everything but values and nodes takes, what a node takes, and what values do.
const USUAL_BODY: usize = 150;
const USUAL_NODE: usize = 60;
const USUAL_VALUE: usize = 100;

/// Appends a request from `sender` to `out`. `tid` has 1 to [`MAX_TID`] bytes.
///
/// # Errors
///
/// When the value is so long that the message would exceed [`MAX_BODY`];
/// `out` is then as it was.
pub fn request(out: &mut Vec<u8>, tid: &[u8], sender: &Contact, method: &Method<'_>) -> Result<(), TooLong> {
    padded_request(out, tid, sender, method, 0)
}

/// As [`request`], made up to at least `least` bytes without its frame by a key that
/// means nothing: an answer to a stranger may be only so many times as long as what he
/// sent.
///
/// # Errors
///
/// As for [`request`].
pub fn padded_request(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    method: &Method<'_>,
    least: usize,
) -> Result<(), TooLong> {
    let start = out.len();
    write_request(out, tid, sender, method, None)?;
    // The frame of so short a message: three digits, colon and comma.
    let length = out.len().saturating_sub(start + 5);
    if length < least {
        out.truncate(start);
        let key = b"3:pad1:".len();
        write_request(out, tid, sender, method, Some(least.saturating_sub(length + key)))?;
    }
    Ok(())
}

fn write_request(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    method: &Method<'_>,
    padding: Option<usize>,
) -> Result<(), TooLong> {
    let (key, target, value) = match *method {
        Method::Ping => (None, None, None),
        Method::FindNode { target } | Method::OfferValues { key: target, .. } => (None, Some(target), None),
        Method::StoreValue { key, value, .. } | Method::HandOn { key, value, .. } => {
            (Some(key), None, Some(value))
        }
        Method::FindValue { key, .. } => (Some(key), None, None),
    };
    let length = value.map_or(0, <[u8]>::len);
    if length > MAX_BODY {
        return Err(TooLong { limit: MAX_BODY });
    }
    message(out, length, |message| {
        if let Method::HandOn { age, .. } = method {
            message.key(b"age").int((*age).into());
        }
        message.key(b"arg").dict();
        if let Some(key) = key {
            message.key(b"key").bytes(key.as_bytes());
        }
        contact(message.key(b"sender"), sender);
        if let Some(target) = target {
            message.key(b"target").bytes(target.as_bytes());
        }
        if let Some(value) = value {
            message.key(b"value").bytes(value);
        }
        message.end();
        if let Method::FindValue { from: Some(page), .. } = method {
            message.key(b"from").bytes(page.as_bytes());
        }
        if let Method::StoreValue { life: Some(life), .. } | Method::HandOn { life: Some(life), .. } = method
        {
            message.key(b"life").int((*life).into());
        }
        if let Method::OfferValues { offer, .. } = method {
            message.key(b"offer").bytes(offer.as_bytes());
        }
        if let Some(length) = padding {
            message.key(b"pad").bytes(&PADDING[..length.min(PADDING.len())]);
        }
        message.key(b"req").bytes(method.name().as_bytes());
        envelope(message, tid, b"req");
    })
}

/// Appends to `out` a response that says nothing but who answers: to a ping, or, as peers of
/// 2003 do, that a value is stored.
pub fn response_empty(out: &mut Vec<u8>, tid: &[u8], sender: &Contact) {
    bounded(message(out, 0, |message| {
        contact(message.key(b"rsp").dict().key(b"sender"), sender);
        envelope(message.end(), tid, b"rsp");
    }));
}

/// Appends to `out` a response that a value is stored, and kept for `life` seconds more at the
/// longest.
pub fn response_stored(out: &mut Vec<u8>, tid: &[u8], sender: &Contact, life: u32) {
    bounded(message(out, 0, |message| {
        message.key(b"rsp").dict().key(b"life").int(life.into());
        contact(message.key(b"sender"), sender);
        envelope(message.end(), tid, b"rsp");
    }));
}

/// Appends to `out` a response that names `nodes`, nearest first. Of more than
/// [`MAX_NODES`] the first go in.
pub fn response_nodes(out: &mut Vec<u8>, tid: &[u8], sender: &Contact, nodes: &[Contact]) {
    response_nodes_beside(out, tid, sender, nodes, NodesAnswer::default());
}

/// What a response says beside its nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodesAnswer<'a> {
    /// Which of the offered values would be taken: their places, a byte each, of which the first
    /// [`MAX_OFFERED`] go in.
    pub wants: Option<&'a [u8]>,
    /// Where the asker for values may go on, when none were found so far.
    pub more: Option<Page<'a>>,
}

/// As [`response_nodes`], and says which of the offered values would be taken: their places,
/// a byte each, of which the first [`MAX_OFFERED`] go in.
pub fn response_nodes_and_wants(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    nodes: &[Contact],
    wants: Option<&[u8]>,
) {
    response_nodes_beside(out, tid, sender, nodes, NodesAnswer { wants, more: None });
}

/// As [`response_nodes`], with what else there is to say.
pub fn response_nodes_beside(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    nodes: &[Contact],
    NodesAnswer { wants, more }: NodesAnswer<'_>,
) {
    bounded(message(out, nodes.len().min(MAX_NODES) * USUAL_NODE, |message| {
        message.key(b"rsp").dict();
        if let Some(page) = more {
            message.key(b"more").bytes(page.as_bytes());
        }
        message.key(b"nodes").list();
        for node in nodes.iter().take(MAX_NODES) {
            contact(message, node);
        }
        contact(message.end().key(b"sender"), sender);
        if let Some(wants) = wants {
            message.key(b"wants").bytes(&wants[..wants.len().min(MAX_OFFERED)]);
        }
        envelope(message.end(), tid, b"rsp");
    }));
}

/// Appends to `out` a response that brings `values`: of these, in order, each
/// one that still fits into [`MAX_BODY`]. Returns how many went in.
pub fn response_values(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    values: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> usize {
    response_values_and_closer(out, tid, sender, values, &[])
}

/// As [`response_values`], and names nodes that may hold others. Not under `nodes`: a peer of
/// 2003 would look no further; what it does not know it passes over.
pub fn response_values_and_closer(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    values: impl IntoIterator<Item = impl AsRef<[u8]>>,
    closer: &[Contact],
) -> usize {
    response_page(out, tid, sender, values, ValuesAnswer { closer, more: None })
}

/// What a response says beside its values.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValuesAnswer<'a> {
    /// Nodes that may hold others.
    pub closer: &'a [Contact],
    /// Where the asker may go on, when there are more of them than these.
    pub more: Option<Page<'a>>,
}

/// As [`response_values`], with what else there is to say.
pub fn response_page(
    out: &mut Vec<u8>,
    tid: &[u8],
    sender: &Contact,
    values: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ValuesAnswer { closer, more }: ValuesAnswer<'_>,
) -> usize {
    // Mostly there is one value, and a short one.
    let expected = closer.len().min(MAX_NODES) * USUAL_NODE + USUAL_VALUE;
    let written = message(out, expected, |message| {
        // The opening `d` is there already.
        let start = message.buffered() - 1;
        message.key(b"rsp").dict();
        if !closer.is_empty() {
            message.key(b"closer").list();
            closer.iter().take(MAX_NODES).for_each(|node| contact(message, node));
            message.end();
        }
        if let Some(page) = more {
            message.key(b"more").bytes(page.as_bytes());
        }
        contact(message.key(b"sender"), sender);
        message.key(b"values").list();
        let after = b"ee3:tid3:typ3:rspe".len() + bytes_len(tid.len());
        let end = (start + MAX_BODY).saturating_sub(after);
        let mut count = 0;
        for value in values {
            let value = value.as_ref();
            if message.buffered() + bytes_len(value.len()) <= end {
                message.bytes(value);
                count += 1;
            }
        }
        envelope(message.end().end(), tid, b"rsp");
        count
    });
    debug_assert!(written.is_ok());
    written.unwrap_or(0)
}

/// Appends to `out` the answer that a request could not be served. A text is
/// cut after [`MAX_ERROR_TEXT`] bytes.
pub fn error(out: &mut Vec<u8>, tid: &[u8], error: Fault<'_>) {
    bounded(message(out, 0, |message| {
        message.key(b"err");
        match error {
            Fault::Number(number) => message.int(number),
            Fault::Text(text) => message.bytes(text.get(..MAX_ERROR_TEXT).unwrap_or(text)),
        };
        envelope(message, tid, b"err");
    }));
}

/// One framed dictionary; `expected` is about what it has beyond the usual.
fn message<T>(
    out: &mut Vec<u8>,
    expected: usize,
    write: impl FnOnce(&mut Encoder<'_>) -> T,
) -> Result<T, TooLong> {
    netstring::frame(out, MAX_BODY, USUAL_BODY + expected, |out| {
        let mut message = Encoder::new(out);
        message.dict();
        let result = write(&mut message);
        message.end();
        result
    })
}

/// For messages whose every part is bounded: not even the largest is too long.
fn bounded(written: Result<(), TooLong>) {
    debug_assert!(written.is_ok());
}

/// The keys that all messages have, and that sort last.
fn envelope(message: &mut Encoder<'_>, tid: &[u8], typ: &[u8]) {
    debug_assert!((1..=MAX_TID).contains(&tid.len()), "a transaction id has 1 to 255 bytes");
    message.key(b"tid").bytes(tid).key(b"typ").bytes(typ);
}
