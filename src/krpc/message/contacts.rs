//! Contacts in messages: `{host: text, id: 20 bytes, port: integer}`.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use crate::bencode::{Decimal, Encoder, Value};
use crate::contact::Contact;
use crate::id::{ID_BYTES, Id};

/// The longest text of an IP address: an IPv6 address that ends in an IPv4 one.
const MAX_HOST: usize = 45;

/// The contact that an entry of a list is, if a datagram could be sent to it.
pub(super) fn contact(entry: Value<'_>) -> Option<Contact> {
    let Value::Dict(entry) = entry else { return None };
    let (host, id, port) = match usual(entry.raw()) {
        Some(parts) => parts,
        None => match entry.select([b"host", b"id", b"port"]) {
            [Some(Value::Bytes(host)), Some(Value::Bytes(id)), Some(Value::Int(port))] => {
                (host, id.try_into().ok()?, port)
            }
            _ => return None,
        },
    };
    let addr = SocketAddr::new(ip_address(host)?, u16::try_from(port).ok()?);
    let contact = Contact { id: Id::new(*id), addr };
    contact.is_reachable().then_some(contact)
}

/// The parts of a contact without any further keys, as nearly all are: most of what nodes read is
/// contacts.
fn usual(entry: &[u8]) -> Option<(&[u8], &[u8; ID_BYTES], i64)> {
    let (length, rest) = match entry.strip_prefix(b"4:host")? {
        [one @ b'1'..=b'9', b':', rest @ ..] => (usize::from(one - b'0'), rest),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9', b':', rest @ ..] => {
            (usize::from(ten - b'0') * 10 + usize::from(one - b'0'), rest)
        }
        _ => return None,
    };
    let (host, rest) = rest.split_at_checked(length)?;
    let (id, rest) = rest.strip_prefix(b"2:id20:")?.split_first_chunk()?;
    let digits = rest.strip_prefix(b"4:porti")?.strip_suffix(b"e")?;
    let is_short = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_short.then(|| (host, id, digits.iter().fold(0, |port, digit| port * 10 + i64::from(digit - b'0'))))
}

/// The address that `text` spells, an IPv4 one as such: were it kept in two
/// forms, a table would hold its node twice.
fn ip_address(text: &[u8]) -> Option<IpAddr> {
    if text.len() > MAX_HOST {
        return None;
    }
    let ip: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(ip.to_canonical())
}

/// Writes a contact.
pub(super) fn write(message: &mut Encoder<'_>, contact: &Contact) {
    let mut host = Host { text: [0; MAX_HOST], length: 0 };
    // An IPv4 address in an IPv6 socket's spelling means nothing to IPv4 peers.
    let fits = match contact.addr.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().into_iter().enumerate().try_for_each(|(place, octet)| {
            let dot: &[u8] = if place > 0 { b"." } else { b"" };
            host.add(dot).and_then(|()| host.add(Decimal::new(octet.into()).as_bytes()))
        }),
        IpAddr::V6(ip) => write!(host, "{ip}"),
    };
    debug_assert!(fits.is_ok());
    message.dict().key(b"host").bytes(host.text.get(..host.length).unwrap_or_default());
    message.key(b"id").bytes(contact.id.as_bytes());
    message.key(b"port").int(contact.addr.port().into()).end();
}

/// The text of an IP address, put together on the stack because its length goes
/// in front of it.
struct Host {
    text: [u8; MAX_HOST],
    length: usize,
}

impl Host {
    fn add(&mut self, part: &[u8]) -> fmt::Result {
        let end = self.length + part.len();
        self.text.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(part);
        self.length = end;
        Ok(())
    }
}

impl Write for Host {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.add(part.as_bytes())
    }
}
