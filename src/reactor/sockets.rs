//! The UDP sockets of the nodes, between the system and the engine.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::engine::{Engine, NodeKey};
use crate::time::Time;
use crate::udp::{self, LARGEST, Outbox, Received, Sent, Wire};

/// A socket that has handed in so many datagrams in a turn waits for the next one, so that a busy one
/// does not keep the others and the timers waiting.
const BATCH: usize = 64;

/// All sockets of a reactor. The number under which a socket is kept is also its
/// token with mio.
pub(super) struct Sockets {
    sockets: Slab<Socket>,
    by_node: HashMap<NodeKey, usize>,
    /// Sockets that may have more to read. Mio tells only of new arrivals, so
    /// what a turn leaves unread has to be remembered.
    readable: VecDeque<usize>,
    input: Box<[u8]>,
    output: Outbox,
}

struct Socket {
    udp: udp::Socket,
    node: NodeKey,
    local: SocketAddr,
    /// Whether it is in `readable`.
    readable: bool,
    /// What the system had no room for. It goes out first; until then the rest waits
    /// in the engine.
    stash: Option<Box<Outbox>>,
}

impl Sockets {
    pub fn new() -> Self {
        Sockets {
            sockets: Slab::new(),
            by_node: HashMap::new(),
            readable: VecDeque::new(),
            input: vec![0; LARGEST].into_boxed_slice(),
            output: Outbox::new(),
        }
    }

    /// Watches the socket of a node; `local` is where it is bound.
    pub fn add(
        &mut self,
        registry: &Registry,
        udp: UdpSocket,
        local: SocketAddr,
        node: NodeKey,
    ) -> io::Result<()> {
        let mut udp = udp::Socket::new(udp);
        let entry = self.sockets.vacant_entry();
        registry.register(&mut udp, Token(entry.key()), Interest::READABLE)?;
        self.by_node.insert(node, entry.key());
        entry.insert(Socket { udp, node, local, readable: false, stash: None });
        Ok(())
    }

    /// Closes the socket of a node.
    pub fn remove(&mut self, registry: &Registry, node: NodeKey) {
        let Some(slot) = self.by_node.remove(&node) else { return };
        let mut socket = self.sockets.remove(slot);
        if socket.readable {
            self.readable.retain(|&other| other != slot);
        }
        if let Err(e) = registry.deregister(&mut socket.udp) {
            log::debug!("{}: closing: {e}", socket.local);
        }
    }

    /// The nodes that have a socket.
    pub fn nodes(&self) -> Vec<NodeKey> {
        self.sockets.iter().map(|(_, socket)| socket.node).collect()
    }

    pub fn local_addr(&self, node: NodeKey) -> Option<SocketAddr> {
        Some(self.get(node)?.local)
    }

    /// How often the system refused to send or receive.
    pub fn errors(&self, node: NodeKey) -> Option<u64> {
        Some(self.get(node)?.udp.errors())
    }

    /// Whether datagrams are known to wait.
    pub fn any_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Mio says that there may be something to read.
    pub fn set_readable(&mut self, token: Token) {
        if let Some(socket) = self.sockets.get_mut(token.0)
            && !socket.readable
        {
            socket.readable = true;
            self.readable.push_back(token.0);
        }
    }

    /// Hands what has arrived to the engine, a batch from each socket.
    pub fn receive(&mut self, now: Time, engine: &mut Engine) {
        for _ in 0..self.readable.len() {
            let Some(slot) = self.readable.pop_front() else { break };
            let Some(socket) = self.sockets.get_mut(slot) else { continue };
            if socket.receive_batch(now, engine, &mut self.input) {
                self.readable.push_back(slot);
            } else {
                socket.readable = false;
            }
        }
    }

    /// Sends all that the engine has to send, except on sockets that are blocked.
    pub fn transmit(&mut self, now: Time, engine: &mut Engine, registry: &Registry) {
        while let Some(node) = engine.poll_ready() {
            if let Some(&slot) = self.by_node.get(&node) {
                self.drain(slot, now, engine, registry);
            }
        }
    }

    /// Mio says that there may be room for more output.
    pub fn set_writable(&mut self, token: Token, now: Time, engine: &mut Engine, registry: &Registry) {
        let Some(socket) = self.sockets.get_mut(token.0) else { return };
        let Some(mut rest) = socket.stash.take() else { return };
        if rest.send(&mut socket.udp, |_| None) == Sent::Blocked {
            socket.stash = Some(rest);
            return;
        }
        if let Err(e) = registry.reregister(&mut socket.udp, token, Interest::READABLE) {
            log::warn!("{}: {e}", socket.local);
        }
        self.drain(token.0, now, engine, registry);
    }

    fn drain(&mut self, slot: usize, now: Time, engine: &mut Engine, registry: &Registry) {
        let socket = &mut self.sockets[slot];
        if socket.stash.is_some() {
            return;
        }
        let node = socket.node;
        let mut poll = |datagram: &mut Vec<u8>| engine.poll_transmit(now, node, datagram);
        while self.output.send(&mut socket.udp, &mut poll) == Sent::Blocked {
            let rest = self.output.rest();
            // To be told of room all the time would cost a wakeup for each
            // datagram sent, so that is asked for only now.
            let interest = Interest::READABLE | Interest::WRITABLE;
            match registry.reregister(&mut socket.udp, Token(slot), interest) {
                Ok(()) => {
                    socket.stash = Some(Box::new(rest));
                    return;
                }
                // It is lost, and what comes next may find room.
                Err(e) => socket.udp.refused(&e),
            }
        }
    }

    fn get(&self, node: NodeKey) -> Option<&Socket> {
        self.sockets.get(*self.by_node.get(&node)?)
    }
}

impl Socket {
    /// Hands in at most a batch; says whether there may be more.
    fn receive_batch(&mut self, now: Time, engine: &mut Engine, buffer: &mut [u8]) -> bool {
        let (mut received, mut calls) = (0, 0);
        while received < BATCH && calls < BATCH {
            calls += 1;
            let node = self.node;
            match self.udp.receive(buffer, |from, datagram| engine.receive(now, node, from, datagram)) {
                Received::Some(count) => received += count,
                Received::Nothing => return false,
                Received::Failed => {}
            }
        }
        // A socket that has nothing but errors is left alone until mio names it
        // again, or one that is broken for good would keep the loop busy.
        received > 0
    }
}
