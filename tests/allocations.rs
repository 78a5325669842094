//! What is done for each packet, message and timer asks for no memory once it is under way.

#[path = "support/counting.rs"]
mod counting;
#[path = "support/pair.rs"]
mod pair;

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use counting::{Counting, count};
use khashmir::airhook::packet::Packet;
use khashmir::context::Routes;
use khashmir::engine::{Engine, Event, NodeOptions};
use khashmir::krpc::message::{self, Message, Method};
use khashmir::krpc::netstring;
use khashmir::random::{seed_from_number, seeded};
use khashmir::table::Table;
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;
use khashmir::{Contact, Id, NodeKey};
use pair::{ADDRESS, Pair, with};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn contact(number: u8) -> Contact {
    Contact { id: Id::of(&[number]), addr: SocketAddr::from(([192, 0, 2, number], 4000)) }
}

#[test]
fn the_counter_counts() {
    assert_eq!(count(|| drop(black_box(vec![1, 2, 3]))).0, 1);
    assert_eq!(count(|| black_box([1, 2, 3])).0, 0);
}

#[test]
fn reading_a_packet() {
    let mut pair = Pair::new();
    pair.send(&[7; 2000]);
    let mut datagram = Vec::new();
    with(&mut pair.ends[0], pair.now, |mux, ctx, _| mux.poll_transmit(ctx, &mut datagram));
    let (allocations, bytes) = count(|| {
        let packet = Packet::parse(&datagram).expect("a packet");
        packet.messages.iter().map(<[u8]>::len).sum::<usize>()
    });
    assert!(bytes > 0);
    assert_eq!(allocations, 0);
}

/// A stream that always has more to send, over a line on which it takes a while: packets and
/// acknowledgements go to and fro.
#[test]
fn packets_of_a_stream() {
    const ROUNDS: usize = 400;
    let mut pair = Pair::new();
    let (mut made, mut packets) = (0, 0);
    let mut under_way: [Vec<Vec<u8>>; 2] = Default::default();
    for round in 0..ROUNDS {
        let queued = with(&mut pair.ends[0], pair.now, |mux, ctx, _| {
            let key = mux.connect(ctx, ADDRESS);
            mux.unconfirmed(key)
        });
        if queued < 200_000 {
            pair.send(&[7; 50_000]);
        }
        let arriving = std::mem::take(&mut under_way);
        pair.now += Duration::from_millis(5);
        let mut here = fire(&mut pair);
        for (from, datagrams) in arriving.iter().enumerate() {
            for datagram in datagrams {
                here += count(|| {
                    with(&mut pair.ends[1 - from], pair.now, |mux, ctx, inbox| {
                        if let Some(key) = mux.receive(ctx, ADDRESS, datagram, inbox) {
                            inbox.clear();
                            mux.keep(ctx, key, inbox, 0);
                        }
                    });
                })
                .0;
            }
        }
        for (from, sent) in under_way.iter_mut().enumerate() {
            loop {
                let mut datagram = Vec::with_capacity(2048);
                let (allocations, to) = count(|| {
                    with(&mut pair.ends[from], pair.now, |mux, ctx, _| mux.poll_transmit(ctx, &mut datagram))
                });
                here += allocations;
                if to.is_none() {
                    break;
                }
                sent.push(datagram);
            }
        }
        if round > ROUNDS / 2 {
            made += here;
            packets += under_way.iter().map(Vec::len).sum::<usize>();
        }
    }
    assert!(packets > 2000, "{packets}");
    assert_eq!(made, 0, "in {packets} packets");
}

/// Lets timers fire that are due.
fn fire(pair: &mut Pair) -> u64 {
    count(|| pair.fire()).0
}

#[test]
fn reading_messages() {
    let (me, tid, key, value) = (contact(1), [b't'; 20], Id::of(b"key"), [7; 1000]);
    let nodes: Vec<Contact> = (2..10).map(contact).collect();
    let mut messages = Vec::new();
    for method in [
        Method::Ping,
        Method::FindNode { target: key },
        Method::FindValue { key, from: None },
        Method::StoreValue { key, value: &value, life: None },
    ] {
        let mut out = Vec::new();
        message::request(&mut out, &tid, &me, &method).expect("short enough");
        messages.push(out);
    }
    let mut answer = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        messages.push(out);
    };
    answer(&|out| message::response_empty(out, &tid, &me));
    answer(&|out| message::response_nodes(out, &tid, &me, &nodes));
    answer(&|out| {
        message::response_values(out, &tid, &me, value.chunks(100));
    });
    for framed in &messages {
        let (allocations, read) = count(|| {
            let taken = netstring::take(framed, framed.len()).ok().flatten().expect("a netstring");
            match Message::parse(&framed[taken.body]).expect("a message") {
                Message::Request(request) => request.tid.len(),
                Message::Response(response) => {
                    response.nodes().map_or(0, Iterator::count)
                        + response.values().map_or(0, Iterator::count)
                        + response.tid.len()
                }
                Message::Error(error) => panic!("{error:?}"),
            }
        });
        assert!(read >= tid.len());
        assert_eq!(allocations, 0, "{}", String::from_utf8_lossy(&framed[..60]));
    }
}

#[test]
fn writing_messages() {
    let (me, tid, key, value) = (contact(1), [b't'; 20], Id::of(b"key"), [7; 1000]);
    let nodes: Vec<Contact> = (2..10).map(contact).collect();
    let mut out = Vec::with_capacity(4096);
    let (allocations, ()) = count(|| {
        for method in [
            Method::Ping,
            Method::FindNode { target: key },
            Method::StoreValue { key, value: &value, life: None },
        ] {
            out.clear();
            message::request(&mut out, &tid, &me, &method).expect("short enough");
        }
        out.clear();
        message::response_nodes(&mut out, &tid, &me, &nodes);
        out.clear();
        message::response_values(&mut out, &tid, &me, value.chunks(100));
    });
    // A debug build notes which lists and dictionaries are open, and checks the order of their keys.
    assert_eq!(allocations, if cfg!(debug_assertions) { 5 } else { 0 });
}

#[test]
fn nearest_contacts() {
    let mut rng = seeded(seed_from_number(1));
    let mut table = Table::new(Id::random(&mut rng), 8, Time::ZERO);
    for number in 0..2000u32 {
        let addr = SocketAddr::from((number.to_be_bytes(), 4000));
        table.heard(Contact { id: Id::random(&mut rng), addr }, Time::ZERO);
    }
    let mut failed: Vec<Contact> = table.iter().map(|entry| entry.contact).step_by(5).collect();
    for contact in failed.drain(..) {
        table.note_failure(&contact, 3, false);
    }
    // Room for the result and a bucket: all that is ever needed.
    let mut out = Vec::with_capacity(16);
    for _ in 0..1000 {
        let target = Id::random(&mut rng);
        assert_eq!(count(|| table.nearest(&target, 8, &mut out)).0, 0);
        assert_eq!(out.len(), 8);
    }
    let known: Vec<Contact> = table.iter().map(|entry| entry.contact).collect();
    for contact in known {
        assert_eq!(count(|| table.heard(contact, Time::ZERO)).0, 0);
    }
}

#[test]
fn timers() {
    let mut wheel = Wheel::new();
    let at = |number: u64| Time::from_micros(number * 7919 % 600_000_000);
    let mut armed: Vec<_> = (0..1000).map(|number| wheel.arm(at(number), number)).collect();
    for number in 1000..10_000u64 {
        let place = number as usize % armed.len();
        let (allocations, ()) = count(|| {
            wheel.cancel(armed[place]);
            armed[place] = wheel.arm(at(number), number);
            wheel.move_to(armed[place], at(number + 1));
            wheel.next_deadline();
        });
        assert_eq!(allocations, 0);
    }
    assert_eq!(count(|| while wheel.expire(Time::from_micros(u64::MAX)).is_some() {}).0, 0);
}

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// One request and its answer, from the command to its outcome, between nodes that know each other.
#[test]
fn a_request_and_its_answer() {
    /// As many as there are today, for both ends together. What queues, segments and the operation itself
    /// take goes when they are done: connections at rest keep none of it.
    const AT_MOST: u64 = 14;
    let mut engine =
        Engine::new(seed_from_number(1), UnixTime(1_000_000_000), Box::new(NoRoutes)).expect("an engine");
    let [a, b] = [1, 2].map(|number| contact(number).addr);
    let nodes = [a, b].map(|addr| engine.add_node(Time::ZERO, addr, NodeOptions::default()).expect("a node"));
    let mut now = Time::ZERO;
    let mut least = u64::MAX;
    for _ in 0..20 {
        let mut made = 0;
        let mut buffer = Vec::with_capacity(2048);
        made += count(|| engine.add_contact(now, nodes[0], b, None)).0;
        let mut ended = false;
        while !ended {
            while let Some(node) = engine.poll_ready() {
                loop {
                    let (allocations, to) = count(|| engine.poll_transmit(now, node, &mut buffer));
                    made += allocations;
                    if to.is_none() {
                        break;
                    }
                    let (to, from) = if node == nodes[0] { (nodes[1], a) } else { (nodes[0], b) };
                    made += count(|| engine.receive(now, to, from, &buffer)).0;
                }
            }
            while let Some(Event::Operation { .. }) = engine.poll_event() {
                ended = true;
            }
            if !ended {
                now = engine.next_deadline().expect("something is due").max(now);
                made += count(|| engine.handle_timeout(now)).0;
            }
        }
        least = least.min(made);
        rest(&mut engine, &mut now, nodes);
    }
    println!("{least} allocations for a request and its answer");
    assert!(least <= AT_MOST, "{least}");
}

/// Lets what is due within a second happen.
fn rest(engine: &mut Engine, now: &mut Time, nodes: [NodeKey; 2]) {
    let [a, b] = [1, 2].map(|number| contact(number).addr);
    let end = *now + Duration::from_secs(1);
    let mut buffer = Vec::new();
    while let Some(next) = engine.next_deadline().filter(|&next| next < end) {
        *now = next.max(*now);
        engine.handle_timeout(*now);
        while let Some(node) = engine.poll_ready() {
            while engine.poll_transmit(*now, node, &mut buffer).is_some() {
                let (to, from) = if node == nodes[0] { (nodes[1], a) } else { (nodes[0], b) };
                engine.receive(*now, to, from, &buffer);
            }
        }
    }
    *now = end;
    engine.handle_timeout(end);
}
