//! Outcomes as numbers, for the digest.

use super::digest::Digest;
use super::simulation::Host;
use crate::contact::Contact;
use crate::engine::Outcome;
use crate::error::OperationError;
use crate::outcome::FoundValues;
use crate::time::Time;

/// Enters an outcome of an operation of a host's node.
pub(super) fn enter(digest: &mut Digest, now: Time, host: Host, outcome: &Outcome) {
    // Who has brought what others had is no result.
    if matches!(outcome, Outcome::Values(found) if found.values.is_empty()) {
        return;
    }
    digest.number(now.as_micros());
    digest.number(host.number() as u64);
    match outcome {
        Outcome::Contact(Ok(contact)) => enter_contacts(digest, 1, std::slice::from_ref(contact)),
        Outcome::Nodes(Ok(contacts)) => enter_contacts(digest, 2, contacts),
        Outcome::Stored(Ok(stored)) => {
            let accepted: Vec<Contact> = stored.accepted().copied().collect();
            enter_contacts(digest, 3, &accepted);
        }
        Outcome::Values(FoundValues { values, .. }) => {
            digest.number(4);
            digest.number(values.len() as u64);
            values.iter().for_each(|value| digest.bytes(value));
        }
        Outcome::ValuesEnd(Ok(_)) => digest.number(5),
        Outcome::Contact(Err(error)) => enter_error(digest, 6, error),
        Outcome::Nodes(Err(error)) => enter_error(digest, 7, error),
        Outcome::Stored(Err(error)) => enter_error(digest, 8, error),
        Outcome::ValuesEnd(Err(error)) => enter_error(digest, 9, error),
    }
}

fn enter_contacts(digest: &mut Digest, kind: u64, contacts: &[Contact]) {
    digest.number(kind);
    digest.number(contacts.len() as u64);
    for contact in contacts {
        digest.bytes(contact.id.as_bytes());
        match contact.addr.ip() {
            std::net::IpAddr::V4(ip) => digest.bytes(&ip.octets()),
            std::net::IpAddr::V6(ip) => digest.bytes(&ip.octets()),
        }
        digest.number(contact.addr.port().into());
    }
}

fn enter_error(digest: &mut Digest, kind: u64, error: &OperationError) {
    digest.number(kind);
    digest.bytes(error.to_string().as_bytes());
}
