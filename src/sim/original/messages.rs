//! Reading messages as strictly, and as loosely, as the Python Khashmir of 2003 did.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::bencode::{self, Dict, Value};
use crate::contact::Contact;
use crate::id::Id;
use crate::krpc::message::{MAX_NODES, MAX_TID};

/// A message, as far as it is looked at before it is known what it answers.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    Request { tid: &'a [u8], method: &'a [u8], arguments: Option<Dict<'a>> },
    Response { tid: &'a [u8], parts: Option<Value<'a>> },
    Error { tid: &'a [u8], names_a_reason: bool },
    Unknown { tid: &'a [u8] },
}

/// A message that the original fell over, and on whose connection it took nothing any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poison;

impl<'a> Incoming<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Poison> {
        let Ok(Value::Dict(message)) = bencode::parse(body) else { return Err(Poison) };
        let [arg, err, req, rsp, tid, typ] = message.select([b"arg", b"err", b"req", b"rsp", b"tid", b"typ"]);
        // The original took a `tid` of any kind; none but these are known to be sent.
        let tid = match tid {
            Some(Value::Bytes(tid)) if (1..=MAX_TID).contains(&tid.len()) => tid,
            _ => return Err(Poison),
        };
        Ok(match (typ, req) {
            (Some(Value::Bytes(b"req")), Some(Value::Bytes(method))) => {
                let arguments = if let Some(Value::Dict(arguments)) = arg { Some(arguments) } else { None };
                Incoming::Request { tid, method, arguments }
            }
            (Some(Value::Bytes(b"req")), _) | (None, _) => return Err(Poison),
            (Some(Value::Bytes(b"rsp")), _) => Incoming::Response { tid, parts: rsp },
            (Some(Value::Bytes(b"err")), _) => Incoming::Error { tid, names_a_reason: err.is_some() },
            (Some(_), _) => Incoming::Unknown { tid },
        })
    }
}

/// The arguments of a request, in the order of `names`; or, when others are there or one is
/// missing, what to say to that.
pub(super) fn arguments<'a, const N: usize>(
    given: &Dict<'a>,
    names: [&[u8]; N],
) -> Result<[Value<'a>; N], &'static str> {
    if given.iter().any(|(name, _)| !names.contains(&name)) {
        return Err("TypeError: an argument that is not expected");
    }
    let found = given.select(names);
    if found.iter().any(Option::is_none) {
        return Err("TypeError: an argument is missing");
    }
    Ok(found.map(|value| value.unwrap_or(Value::Int(0))))
}

pub(super) fn text(value: Value<'_>) -> Result<&[u8], &'static str> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err("AttributeError: a string is needed"),
    }
}

pub(super) fn id(value: Value<'_>) -> Result<Id, &'static str> {
    match value {
        Value::Bytes(bytes) => Id::from_slice(bytes).ok_or("AssertionError: 20 bytes are needed"),
        _ => Err("TypeError: a string is needed"),
    }
}

/// The id of who asks: its `sender`.
pub(super) fn sender(value: Value<'_>) -> Result<Id, &'static str> {
    let Value::Dict(sender) = value else { return Err("TypeError: a dictionary is needed") };
    let sender = id(sender.get(b"id").ok_or("KeyError: id")?)?;
    // The table has no room for what stands for an id that is not known.
    if sender == super::UNKNOWN { Err("AssertionError: no id") } else { Ok(sender) }
}

/// The `sender` of a response.
pub(super) fn sender_of<'a>(parts: Option<Value<'a>>) -> Option<Dict<'a>> {
    let Some(Value::Dict(parts)) = parts else { return None };
    if let Some(Value::Dict(sender)) = parts.get(b"sender") { Some(sender) } else { None }
}

/// The host that a contact names. Names are not resolved here: nobody is at what stands for one.
pub(super) fn host(contact: &Dict<'_>) -> Option<IpAddr> {
    let Value::Bytes(host) = contact.get(b"host")? else { return None };
    let spelled = std::str::from_utf8(host).ok().and_then(|host| host.parse().ok());
    Some(spelled.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// The contacts of a list of nodes; `None` when one of them is not whole.
pub(super) fn nodes(list: Value<'_>) -> Option<Vec<Contact>> {
    let Value::List(list) = list else { return None };
    let contact = |entry| {
        let Value::Dict(entry) = entry else { return None };
        let Value::Int(port) = entry.get(b"port")? else { return None };
        let addr = SocketAddr::new(host(&entry)?, u16::try_from(port).unwrap_or(0));
        Some(Contact { id: id(entry.get(b"id")?).ok()?, addr })
    };
    list.iter().take(MAX_NODES).map(contact).collect()
}

/// The values of a list of values that are none of `known`; empty ones do not count.
pub(super) fn new_values(list: Value<'_>, known: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let Value::List(list) = list else { return Vec::new() };
    let mut new = Vec::new();
    for value in list {
        if let Value::Bytes(value) = value
            && !value.is_empty()
            && !known.iter().any(|known| known == value)
        {
            known.push(value.to_vec());
            new.push(value.to_vec());
        }
    }
    new
}
