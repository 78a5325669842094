//! A node among peers that do as those of 2003 did.

mod support;

use std::net::SocketAddr;

use khashmir::airhook::mux::Mux;
use khashmir::engine::{Engine, Event, Outcome, Routes};
use khashmir::krpc::message::{self, Message, Method};
use khashmir::krpc::netstring;
use khashmir::time::UnixTime;
use khashmir::{Contact, Id, NodeKey, NodeOptions};
use support::World;

struct Loopback;

impl Routes for Loopback {
    fn local_address(&self, _: std::net::IpAddr) -> Option<std::net::IpAddr> {
        Some([127, 0, 0, 1].into())
    }
}

/// A peer that knows who asks, and some others. Asked for one whom it knows, it
/// names that one alone.
struct Peer {
    world: World,
    mux: Mux,
    own: Contact,
    known: Vec<Contact>,
}

impl Peer {
    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut inbox = Vec::new();
        let Some(key) = self.mux.receive(&mut self.world.context(), from, datagram, &mut inbox) else {
            return;
        };
        let mut used = 0;
        while let Ok(Some(taken)) = netstring::take(&inbox[used..], 99_999) {
            let body = &inbox[used..][taken.body];
            used += taken.consumed;
            let Ok(Message::Request(request)) = Message::parse(body) else { continue };
            let mut out = Vec::new();
            match request.method {
                Method::FindNode { target } => {
                    let found = self.known.iter().position(|known| known.id == target);
                    let named = found.map_or(&self.known[..], |at| &self.known[at..=at]);
                    message::response_nodes(&mut out, request.tid, &self.own, named);
                }
                _ => message::response_empty(&mut out, request.tid, &self.own),
            }
            self.mux.send(&mut self.world.context(), key, &out, None).unwrap();
        }
        self.mux.keep(&mut self.world.context(), key, &mut inbox, used);
    }
}

/// Lets the node and the peer speak until neither has more to say.
fn drain(engine: &mut Engine, node: NodeKey, addr: SocketAddr, peers: &mut [Peer]) {
    let mut buf = Vec::new();
    loop {
        let mut quiet = true;
        while engine.poll_ready().is_some() {}
        while let Some(to) = engine.poll_transmit(khashmir::time::Time::ZERO, node, &mut buf) {
            quiet = false;
            if let Some(peer) = peers.iter_mut().find(|peer| peer.own.addr == to) {
                peer.receive(addr, &buf);
            }
        }
        for peer in &mut *peers {
            while peer.mux.poll_transmit(&mut peer.world.context(), &mut buf).is_some() {
                quiet = false;
                engine.receive(peer.world.now, node, peer.own.addr, &buf);
            }
        }
        if quiet {
            return;
        }
    }
}

#[test]
fn close_nodes_are_found_through_a_peer_that_knows_us() {
    let mut world = World::new(3);
    let now = world.now;
    let mut engine = Engine::new([7; 32], UnixTime(1_000_000), Box::new(Loopback)).unwrap();
    let addr: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let node = engine.add_node(now, addr, NodeOptions::default()).unwrap();
    let own = Contact { id: engine.id(node).unwrap(), addr };
    let contacts: Vec<Contact> = (1..4)
        .map(|i| Contact { id: Id::random(&mut world.rng), addr: SocketAddr::new(addr.ip(), 4000 + i) })
        .collect();
    let mut peers: Vec<Peer> = contacts
        .iter()
        .map(|&contact| {
            let mut world = World::new(u64::from(contact.addr.port()));
            let mux = Mux::new(&mut world.rng);
            let known = contacts.iter().copied().filter(|c| *c != contact).chain([own]).collect();
            Peer { world, mux, own: contact, known }
        })
        .collect();
    engine.add_contact(now, node, contacts[0].addr, None);
    drain(&mut engine, node, addr, &mut peers);
    engine.find_close_nodes(now, node, None);
    drain(&mut engine, node, addr, &mut peers);
    let found = std::iter::from_fn(|| engine.poll_event()).find_map(|event| match event {
        Event::Operation { outcome: Outcome::Nodes(result), .. } => Some(result.unwrap().nodes),
        Event::Operation { .. } => None,
    });
    let mut expected = contacts.clone();
    expected.sort_by_key(|contact| contact.id.distance(&own.id));
    assert_eq!(found, Some(expected));
}
