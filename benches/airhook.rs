//! Two ends of an Airhook connection in memory, without a network between them: time and
//! allocations of each.
//!
//! `cargo bench --bench airhook`

#[path = "../tests/support/pair.rs"]
mod pair;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use khashmir::airhook::packet::Packet;
use pair::{Pair, with};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const STREAM: usize = 64 * 1024;

/// Payload through a connection that is open.
#[divan::bench]
fn stream_of_64_kib(bencher: Bencher) {
    let mut pair = Pair::new();
    let payload = vec![7; STREAM];
    bencher.counter(BytesCount::new(STREAM)).bench_local(|| {
        let before = pair.ends[1].received;
        pair.send(black_box(&payload));
        pair.run(|ends| ends[1].received - before == STREAM);
    });
}

/// The same, counted in packets, acknowledgements included.
#[divan::bench]
fn packets_of_a_stream(bencher: Bencher) {
    let payload = vec![7; STREAM];
    let mut pair = Pair::new();
    pair.send(&payload);
    pair.run(|ends| ends[1].received == STREAM);
    bencher.counter(ItemsCount::new(pair.packets)).bench_local(|| {
        let before = pair.ends[1].received;
        pair.send(black_box(&payload));
        pair.run(|ends| ends[1].received - before == STREAM);
    });
}

/// A request of 100 bytes and its answer, to a new peer and back to nothing.
#[divan::bench]
fn first_request(bencher: Bencher) {
    let mut pair = Pair::new();
    pair.ends[1].serves = Some(100);
    bencher.bench_local(|| {
        let before = pair.ends[0].received;
        pair.send(black_box(&[1; 100]));
        pair.run(|ends| ends[0].received > before);
        for end in &mut pair.ends {
            with(end, pair.now, |mux, ctx, _| mux.clear(ctx));
        }
    });
}

/// The same over a connection that is open.
#[divan::bench]
fn request(bencher: Bencher) {
    let mut pair = Pair::new();
    pair.ends[1].serves = Some(100);
    bencher.bench_local(|| {
        let before = pair.ends[0].received;
        pair.send(black_box(&[1; 100]));
        pair.run(|ends| ends[0].received > before);
    });
}

/// Reading a packet of six messages.
#[divan::bench]
fn parse(bencher: Bencher) {
    let mut pair = Pair::new();
    pair.send(&[7; 2000]);
    let mut datagram = Vec::new();
    with(&mut pair.ends[0], pair.now, |mux, ctx, _| mux.poll_transmit(ctx, &mut datagram));
    bencher.bench_local(|| Packet::parse(black_box(&datagram)).map(|packet| packet.messages.count()));
}
