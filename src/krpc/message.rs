//! KRPC's messages as the Khashmir of 2003 spoke them: a request names a method
//! and its arguments, and is answered by a response or an error that bears the
//! same transaction id.
//!
//! Reading borrows from the message and ends all malformed input at one
//! boundary, [`Message::parse`]; writing ([`request`], [`response_nodes`], …)
//! appends to the caller's buffer what peers of 2003 would write, byte for byte.

mod contacts;
mod emit;
mod offer;
mod page;

use std::fmt;
use std::fmt::Write;

use contacts::contact;
pub use emit::response_nodes_and_wants;
pub use emit::{MAX_BODY, MAX_ERROR_TEXT, error, padded_request, request};
pub use emit::{NodesAnswer, response_nodes_beside};
pub use emit::{ValuesAnswer, response_page, response_stored};
pub use emit::{response_empty, response_nodes, response_values, response_values_and_closer};
pub use offer::{MAX_OFFERED, Offer, OfferedValue};
pub use page::{MAX_PAGE, Page};

use crate::bencode::{self, BencodeError, List, Value};
use crate::contact::Contact;
use crate::id::Id;

/// The longest transaction id that is taken, in bytes. Peers of 2003 send 20,
/// and send back whatever they are given.
pub const MAX_TID: usize = 255;

/// How many entries of a response's list of nodes are read and written: as many
/// as the largest K that the settings allow.
pub const MAX_NODES: usize = 64;

/// How many bytes of a peer's error text are shown.
const SHOWN_TEXT: usize = 200;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A peer asks.
    Request(Request<'a>),
    /// A peer answers.
    Response(Response<'a>),
    /// A peer answers that it cannot.
    Error(ErrorReply<'a>),
}

/// A request, with everything its method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The transaction id that the answer must bear: 1 to [`MAX_TID`] bytes.
    pub tid: &'a [u8],
    /// Who asks. The host and port that a request gives beside this are not
    /// read: the datagram's own are the ones that work.
    pub sender: Id,
    /// What is asked.
    pub method: Method<'a>,
}

/// The methods, with their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Are you there?
    Ping,
    /// Which nodes do you know nearest to this point?
    FindNode {
        /// The point.
        target: Id,
    },
    /// Keep this value.
    StoreValue {
        /// Its key.
        key: Id,
        /// The value.
        value: &'a [u8],
        /// For how many seconds at the longest, if that is less than the peer would keep it.
        /// Goes beside the arguments: a peer of 2003 keeps it for as long as any.
        life: Option<u32>,
    },
    /// Which values do you hold for this key, or else which nodes nearest to it
    /// do you know?
    FindValue {
        /// The key.
        key: Id,
        /// Where to go on: what an answer with some of them has named. Goes beside the
        /// arguments, and is only for who has named it.
        from: Option<Page<'a>>,
    },
    /// As [`FindNode`](Self::FindNode), of the key as target, and says which values the
    /// asker holds for it: which of them are lacking there? For a peer of 2003 it is a
    /// `find_node`; what is offered goes beside the arguments, where such a peer looks at
    /// nothing that it does not know.
    OfferValues {
        /// The key.
        key: Id,
        /// The values.
        offer: Offer<'a>,
    },
    /// As [`StoreValue`](Self::StoreValue), of a value that was published some time ago. Only
    /// for peers that have shown that they look at the age: for one of 2003 it would be new.
    HandOn {
        /// Its key.
        key: Id,
        /// The value.
        value: &'a [u8],
        /// How long ago it was published, in seconds.
        age: u32,
        /// For how many seconds more it is to live at the longest, where its publisher said so.
        life: Option<u32>,
    },
}

/// A response. Which parts it must have depends on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The transaction id of the request: 1 to [`MAX_TID`] bytes.
    pub tid: &'a [u8],
    /// Who answers.
    pub sender: Id,
    nodes: Option<List<'a>>,
    closer: Option<List<'a>>,
    values: Option<List<'a>>,
    wants: Option<&'a [u8]>,
    life: Option<u32>,
    more: Option<Page<'a>>,
}

/// An answer that the request could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// The transaction id of the request: 1 to [`MAX_TID`] bytes.
    pub tid: &'a [u8],
    /// What went wrong.
    pub error: Fault<'a>,
}

/// What an error message says. Displays as text that is safe to show whatever
/// the peer sent: printable ASCII, the rest escaped, cut after 200 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    /// One of the agreed numbers, or any other.
    Number(i64),
    /// A text for people.
    Text(&'a [u8]),
}

/// Why a message was not taken, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected<'a> {
    /// Nothing: there is nobody to tell.
    Silent(Garbage),
    /// Send this error back: it is a request with a flaw, or of no known kind.
    Answer {
        /// The transaction id to answer under.
        tid: &'a [u8],
        /// What to say.
        error: Fault<'a>,
    },
    /// Fail the call with this transaction id: it is a response or an error,
    /// but without what every one of them has.
    BadResponse {
        /// The transaction id of the request.
        tid: &'a [u8],
    },
}

/// Bytes that are no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Not canonical bencode.
    Bencode(BencodeError),
    /// Not a dictionary.
    NotADictionary,
    /// No transaction id of 1 to [`MAX_TID`] bytes.
    NoTransaction,
}

impl<'a> Message<'a> {
    /// Reads one message, without its netstring frame.
    ///
    /// Top-level keys, and keys of a response and of contacts, that are not
    /// known here are ignored; further arguments of a request are not, as with
    /// peers of 2003.
    ///
    /// # Errors
    ///
    /// What is to be done with a message that is not one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Rejected<'a>> {
        let message = match bencode::parse(bytes) {
            Ok(Value::Dict(message)) => message,
            Ok(_) => return Err(Rejected::Silent(Garbage::NotADictionary)),
            Err(error) => return Err(Rejected::Silent(Garbage::Bencode(error))),
        };
        let keys: [&[u8]; 10] =
            [b"arg", b"err", b"req", b"rsp", b"tid", b"typ", b"age", b"from", b"life", b"offer"];
        let [arg, err, req, rsp, tid, typ, beside @ ..] = message.select(keys);
        let tid = match tid {
            Some(Value::Bytes(tid)) if (1..=MAX_TID).contains(&tid.len()) => tid,
            _ => return Err(Rejected::Silent(Garbage::NoTransaction)),
        };
        match typ {
            Some(Value::Bytes(b"req")) => match Request::read(tid, req, arg, beside) {
                Ok(request) => Ok(Message::Request(request)),
                Err(error) => Err(Rejected::Answer { tid, error }),
            },
            Some(Value::Bytes(b"rsp")) => {
                Response::read(tid, rsp).map(Message::Response).ok_or(Rejected::BadResponse { tid })
            }
            Some(Value::Bytes(b"err")) => match err {
                Some(Value::Int(number)) => Ok(Fault::Number(number)),
                Some(Value::Bytes(text)) => Ok(Fault::Text(text)),
                _ => Err(Rejected::BadResponse { tid }),
            }
            .map(|error| Message::Error(ErrorReply { tid, error })),
            // Answered, although peers of 2003 do not: if it was a question of a
            // later generation, its sender need not wait for a timeout. No loop
            // can come of it, since an error is never answered.
            _ => Err(Rejected::Answer { tid, error: Fault::UNKNOWN_KIND }),
        }
    }
}

impl<'a> Request<'a> {
    fn read(
        tid: &'a [u8],
        req: Option<Value<'a>>,
        arg: Option<Value<'a>>,
        [age, from, life, offer]: [Option<Value<'a>>; 4],
    ) -> Result<Self, Fault<'static>> {
        let Some(Value::Bytes(name)) = req else {
            return Err(Fault::Text(b"`req`: the name of a method is needed"));
        };
        // The names of a method's arguments, and what to say to any other.
        let (known, additional): (&[&[u8]], &[u8]) = match name {
            b"ping" => (&[b"sender"], b"ping takes `sender` and nothing else"),
            b"find_node" => (&[b"sender", b"target"], b"find_node takes `sender`, `target` and nothing else"),
            b"store_value" => (
                &[b"key", b"sender", b"value"],
                b"store_value takes `key`, `sender`, `value` and nothing else",
            ),
            b"find_value" => (&[b"key", b"sender"], b"find_value takes `key`, `sender` and nothing else"),
            _ => return Err(Fault::UNKNOWN_METHOD),
        };
        let Some(Value::Dict(arguments)) = arg else {
            return Err(Fault::Text(b"`arg`: a dictionary of arguments is needed"));
        };
        let [mut key, mut sender, mut target, mut value] = [None; 4];
        for (name, argument) in arguments.iter() {
            let place = match name {
                _ if !known.contains(&name) => return Err(Fault::Text(additional)),
                b"key" => &mut key,
                b"sender" => &mut sender,
                b"target" => &mut target,
                _ => &mut value,
            };
            *place = Some(argument);
        }
        let key = || id(key).ok_or(Fault::Text(b"argument `key`: 20 bytes are needed"));
        let target = || id(target).ok_or(Fault::Text(b"argument `target`: 20 bytes are needed"));
        let sender = sender_id(sender)
            .ok_or(Fault::Text(b"argument `sender`: a dictionary with an `id` of 20 bytes is needed"))?;
        let method = match name {
            b"find_node" => match (target()?, offer) {
                // Whatever else others mean by the key, they want to know nodes.
                (key, Some(Value::Bytes(bytes))) if Offer::new(bytes).is_some() => {
                    Method::OfferValues { key, offer: Offer::new(bytes).unwrap_or_default() }
                }
                (target, _) => Method::FindNode { target },
            },
            b"store_value" => {
                let key = key()?;
                let Some(Value::Bytes(value)) = value else {
                    return Err(Fault::Text(b"argument `value`: a byte string is needed"));
                };
                // An age or a life that is not understood must not make the value live longer.
                let age =
                    optional_seconds(age).ok_or(Fault::Text(b"`age`: a number of seconds is needed"))?;
                let life =
                    optional_seconds(life).ok_or(Fault::Text(b"`life`: a number of seconds is needed"))?;
                match age {
                    None => Method::StoreValue { key, value, life },
                    Some(age) => Method::HandOn { key, value, age, life },
                }
            }
            b"find_value" => {
                let key = key()?;
                let from = match from {
                    None => None,
                    Some(Value::Bytes(bytes)) if let Some(page) = Page::new(bytes) => Some(page),
                    // From the start it would be what the asker has already.
                    Some(_) => return Err(Fault::Text(b"`from`: what an answer gave as `more` is needed")),
                };
                Method::FindValue { key, from }
            }
            _ => Method::Ping,
        };
        Ok(Request { tid, sender, method })
    }
}

impl<'a> Response<'a> {
    fn read(tid: &'a [u8], rsp: Option<Value<'a>>) -> Option<Self> {
        let Some(Value::Dict(parts)) = rsp else { return None };
        let [closer, life, more, nodes, sender, values, wants] =
            parts.select([b"closer", b"life", b"more", b"nodes", b"sender", b"values", b"wants"]);
        // Keys of ours, which may mean anything to others: never a reason to fail.
        let closer = list(closer).flatten();
        let wants = match wants {
            Some(Value::Bytes(wants)) => Some(wants),
            _ => None,
        };
        let life = optional_seconds(life).flatten();
        let more = match more {
            Some(Value::Bytes(more)) => Page::new(more),
            _ => None,
        };
        let (nodes, values) = (list(nodes)?, list(values)?);
        Some(Response { tid, sender: sender_id(sender)?, nodes, closer, values, wants, life, more })
    }

    /// For how many seconds more the peer keeps at the longest what it was given. `None`: it
    /// does not say.
    pub fn life(&self) -> Option<u32> {
        self.life
    }

    /// Where to go on, when the peer has more values than these. `None`: it has not, or knows
    /// nothing of that.
    pub fn more(&self) -> Option<Page<'a>> {
        self.more
    }

    /// Whether the peer names nodes instead of values, and says where it may have some all the
    /// same: it has not looked at all of them.
    pub fn has_none_so_far(&self) -> bool {
        self.values.is_none() && self.nodes.is_some() && self.more.is_some()
    }

    /// Which of the `offered` values the peer would take: a bit for each, the lowest for the
    /// first. `None`: the peer knows nothing of offers, nor of ages. What it says of others
    /// than were offered counts for nothing.
    pub fn wants(&self, offered: usize) -> Option<u64> {
        let places = self.wants?.iter().take(MAX_OFFERED);
        let places = places.filter(|&&place| usize::from(place) < offered.min(MAX_OFFERED));
        Some(places.fold(0, |wanted, place| wanted | 1 << place))
    }

    /// The contacts that the response names, when it has a list of nodes at all.
    ///
    /// Entries that no datagram could be sent to are left out: those whose host
    /// is not an IP address (a name is never resolved), whose id or port has the
    /// wrong size, or that fail [`Contact::is_reachable`]. Only the first
    /// [`MAX_NODES`] entries are looked at.
    pub fn nodes(&self) -> Option<impl Iterator<Item = Contact> + use<'a>> {
        Some(self.nodes?.iter().take(MAX_NODES).filter_map(contact))
    }

    /// The same for the contacts that a peer of our own kind names beside values.
    pub fn closer(&self) -> Option<impl Iterator<Item = Contact> + use<'a>> {
        Some(self.closer?.iter().take(MAX_NODES).filter_map(contact))
    }

    /// The values that the response brings, when it has a list of values at
    /// all. What is not a byte string is left out.
    pub fn values(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        Some(self.values?.iter().filter_map(|value| match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }))
    }
}

impl Method<'_> {
    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Ping => "ping",
            Method::FindNode { .. } | Method::OfferValues { .. } => "find_node",
            Method::StoreValue { .. } | Method::HandOn { .. } => "store_value",
            Method::FindValue { .. } => "find_value",
        }
    }
}

impl Fault<'_> {
    /// Something went wrong.
    pub const GENERAL: Fault<'static> = Fault::Number(1);
    /// The method is not known.
    pub const UNKNOWN_METHOD: Fault<'static> = Fault::Number(2);
    /// The kind of message is not known.
    pub const UNKNOWN_KIND: Fault<'static> = Fault::Number(3);
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Fault::Number(number) => return number.fmt(f),
            Fault::Text(text) => text,
        };
        for &byte in text.iter().take(SHOWN_TEXT) {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        if text.len() > SHOWN_TEXT { f.write_str("…") } else { Ok(()) }
    }
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbage::Bencode(error) => error.fmt(f),
            Garbage::NotADictionary => f.write_str("a message must be a dictionary"),
            Garbage::NoTransaction => write!(f, "a message needs a `tid` of 1 to {MAX_TID} bytes"),
        }
    }
}

fn id(value: Option<Value<'_>>) -> Option<Id> {
    match value {
        Some(Value::Bytes(bytes)) => Id::from_slice(bytes),
        _ => None,
    }
}

fn sender_id(sender: Option<Value<'_>>) -> Option<Id> {
    match sender {
        Some(Value::Dict(sender)) => id(sender.get(b"id")),
        _ => None,
    }
}

/// A number of seconds that may be missing, but be nothing else.
fn optional_seconds(value: Option<Value<'_>>) -> Option<Option<u32>> {
    match value {
        None => Some(None),
        Some(Value::Int(seconds)) => u32::try_from(seconds).ok().map(Some),
        Some(_) => None,
    }
}

/// A list that may be missing, but be nothing else.
fn list(value: Option<Value<'_>>) -> Option<Option<List<'_>>> {
    match value {
        None => Some(None),
        Some(Value::List(list)) => Some(Some(list)),
        Some(_) => None,
    }
}
