//! KRPC messages: what reading and writing them takes, in time and allocations.
//!
//! `cargo bench --bench message`

use std::net::SocketAddr;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use khashmir::krpc::message::{self, Message, Method};
use khashmir::krpc::netstring;
use khashmir::{Contact, Id};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TID: &[u8] = &[b't'; 20];

fn main() {
    divan::main();
}

fn contact(number: u8) -> Contact {
    Contact { id: Id::new([number; 20]), addr: SocketAddr::from(([192, 0, 2, number], 4711)) }
}

fn nodes() -> Vec<Contact> {
    (1..=8).map(contact).collect()
}

const SAMPLES: [&str; 5] = ["ping", "find_node", "store_value", "nodes", "values"];

fn write(sample: &str, value: &[u8], nodes: &[Contact], out: &mut Vec<u8>) {
    let key = Id::new([7; 20]);
    let me = contact(1);
    let method = match sample {
        "ping" => Method::Ping,
        "find_node" => Method::FindNode { target: key },
        "store_value" => Method::StoreValue { key, value, life: None },
        "nodes" => return message::response_nodes(out, TID, &me, nodes),
        _ => {
            message::response_values(out, TID, &me, value.chunks(100));
            return;
        }
    };
    message::request(out, TID, &me, &method).expect("short enough");
}

#[divan::bench(args = SAMPLES)]
fn writing(bencher: Bencher<'_, '_>, sample: &str) {
    let (value, nodes) = (vec![b'v'; 64 * 1024], nodes());
    let mut out = Vec::new();
    write(sample, &value, &nodes, &mut out);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        write(black_box(sample), &value, &nodes, &mut out);
        black_box(out.len())
    });
}

#[divan::bench(args = SAMPLES)]
fn reading(bencher: Bencher<'_, '_>, sample: &str) {
    let mut out = Vec::new();
    write(sample, &[b'v'; 64 * 1024], &nodes(), &mut out);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| read(black_box(&out)));
}

/// Takes the message out of its frame and goes through all of it.
fn read(framed: &[u8]) -> usize {
    let taken = netstring::take(framed, framed.len()).ok().flatten().expect("a netstring");
    match Message::parse(&framed[taken.body]).expect("a message") {
        Message::Request(request) => request.tid.len(),
        Message::Response(response) => {
            response.nodes().map_or(0, |nodes| nodes.map(|node| usize::from(node.addr.port())).sum())
                + response.values().map_or(0, |values| values.map(<[u8]>::len).sum())
        }
        Message::Error(reply) => reply.tid.len(),
    }
}
