//! Answers of a peer of 2003.

use std::net::SocketAddr;
use std::time::Duration;

use super::messages::{Incoming, Poison, arguments, id, sender, sender_of, text};
use super::requests::{MAX_CALLS, Purpose};
use super::{Original, UNKNOWN};
use crate::bencode::Dict;
use crate::config::MAX_NETSTRING;
use crate::contact::Contact;
use crate::id::Id;
use crate::krpc::message::{self, Fault};
use crate::krpc::netstring;
use crate::time::Time;

/// For this long after it was seen a contact is not asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(15 * 60);

impl Original {
    /// Reads the messages in `inbox`, and takes out what it has read.
    pub(super) fn read(&mut self, now: Time, from: SocketAddr, inbox: &mut Vec<u8>) -> Result<(), Poison> {
        let mut used = 0;
        while let Some(taken) = netstring::take(&inbox[used..], MAX_NETSTRING).map_err(|_| Poison)? {
            let body = &inbox[used..][taken.body];
            used += taken.consumed;
            self.hear(now, from, body)?;
        }
        inbox.drain(..used);
        if inbox.is_empty() {
            *inbox = Vec::new();
        }
        Ok(())
    }

    fn hear(&mut self, now: Time, from: SocketAddr, body: &[u8]) -> Result<(), Poison> {
        match Incoming::parse(body)? {
            Incoming::Request { tid, method, arguments } => {
                let mut out = Vec::new();
                match self.serve(now, from, tid, method, arguments, &mut out)? {
                    Ok(()) => {}
                    Err(flaw) => message::error(&mut out, tid, Fault::Text(flaw.as_bytes())),
                }
                self.links.write(now, from, &out, &mut self.rng);
            }
            Incoming::Response { tid, parts } => match self.take_call(from, tid) {
                // It falls over what it cannot name in its log.
                None if sender_of(parts).is_none() => return Err(Poison),
                None => {}
                Some(call) => {
                    // Without any parts it falls over that, and the call never ends.
                    let parts = parts.ok_or(Poison)?;
                    self.answered(now, from, call, parts);
                }
            },
            Incoming::Error { tid, names_a_reason } => {
                if let Some(call) = self.take_call(from, tid) {
                    self.call_failed(now, call);
                    if !names_a_reason {
                        return Err(Poison);
                    }
                }
            }
            Incoming::Unknown { tid } => {
                let call = self.take_call(from, tid).ok_or(Poison)?;
                self.call_failed(now, call);
            }
        }
        Ok(())
    }

    /// Appends an answer to `out`, or says what is wrong with the request.
    fn serve(
        &mut self,
        now: Time,
        from: SocketAddr,
        tid: &[u8],
        method: &[u8],
        given: Option<Dict<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), &'static str>, Poison> {
        if !matches!(method, b"ping" | b"find_node" | b"store_value" | b"find_value") {
            message::error(out, tid, Fault::UNKNOWN_METHOD);
            return Ok(Ok(()));
        }
        let given = given.ok_or(Poison)?;
        Ok(match method {
            b"ping" => self.serve_ping(now, from, tid, given, out),
            b"find_node" => self.serve_find_node(now, from, tid, given, out),
            b"store_value" => self.serve_store_value(now, from, tid, given, out),
            _ => self.serve_find_value(now, from, tid, given, out),
        })
    }

    fn serve_ping(
        &mut self,
        now: Time,
        from: SocketAddr,
        tid: &[u8],
        given: Dict<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let [caller] = arguments(&given, [b"sender"])?;
        self.called(now, sender(caller)?, from);
        message::response_empty(out, tid, &self.own);
        Ok(())
    }

    fn serve_find_node(
        &mut self,
        now: Time,
        from: SocketAddr,
        tid: &[u8],
        given: Dict<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let [caller, target] = arguments(&given, [b"sender", b"target"])?;
        let nodes = self.table.find(&id(target)?);
        self.called(now, sender(caller)?, from);
        message::response_nodes(out, tid, &self.own, &nodes);
        Ok(())
    }

    fn serve_store_value(
        &mut self,
        now: Time,
        from: SocketAddr,
        tid: &[u8],
        given: Dict<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let [key, caller, value] = arguments(&given, [b"key", b"sender", b"value"])?;
        // Stored before it is looked at who asks.
        if !self.values.store(now, text(key)?, text(value)?) {
            return Err("no room");
        }
        self.called(now, sender(caller)?, from);
        message::response_empty(out, tid, &self.own);
        Ok(())
    }

    fn serve_find_value(
        &mut self,
        now: Time,
        from: SocketAddr,
        tid: &[u8],
        given: Dict<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let [key, caller] = arguments(&given, [b"key", b"sender"])?;
        self.called(now, sender(caller)?, from);
        let mut values = self.values.of(text(key)?).peekable();
        if values.peek().is_some() {
            message::response_values(out, tid, &self.own, values);
        } else {
            message::response_nodes(out, tid, &self.own, &self.table.find(&id(key)?));
        }
        Ok(())
    }

    /// Enters a caller. If its bucket is full, the first there is asked whether it still
    /// answers, and makes room if not.
    fn called(&mut self, now: Time, id: Id, addr: SocketAddr) {
        debug_assert!(id != UNKNOWN);
        let new = Contact { id, addr };
        let Some(oldest) = self.table.insert(now, new, false) else { return };
        let seen_lately = oldest.last_seen.is_some_and(|at| now.since(at) <= PING_INTERVAL);
        if !seen_lately && self.calls.len() < MAX_CALLS {
            let old = oldest.contact;
            self.ping(now, old.addr, old.id, Purpose::Oldest { new });
        }
    }
}
