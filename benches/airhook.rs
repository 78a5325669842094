//! Two ends of an Airhook connection in memory, without a network between them.
//!
//! `cargo bench --bench airhook`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use khashmir::Config;
use khashmir::airhook::mux::Mux;
use khashmir::airhook::packet::Packet;
use khashmir::context::{Alarm, Context, Due, Key, Routes};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;

fn main() {
    divan::main();
}

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

struct End {
    mux: Mux,
    config: Config,
    rng: Random,
    wheel: Wheel<Alarm>,
    buffer: Vec<u8>,
    inbox: Vec<u8>,
    /// Answers so many bytes with one byte.
    serves: Option<usize>,
    received: usize,
}

fn with<R>(end: &mut End, now: Time, f: impl FnOnce(&mut Mux, &mut Context<'_>, &mut Vec<u8>) -> R) -> R {
    let mut ctx = Context {
        now,
        unix: UnixTime(0),
        config: &end.config,
        rng: &mut end.rng,
        wheel: &mut end.wheel,
        node: Key::new(0, 0),
        routes: &NoRoutes,
        buffer: &mut end.buffer,
    };
    f(&mut end.mux, &mut ctx, &mut end.inbox)
}

struct Pair {
    ends: [End; 2],
    now: Time,
    buf: Vec<u8>,
    packets: usize,
}

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

impl Pair {
    fn new() -> Self {
        let ends = [0, 1].map(|number| {
            let mut rng = seeded(seed_from_number(number));
            let mux = Mux::new(&mut rng);
            let (config, wheel, inbox) = (Config::default(), Wheel::new(), Vec::new());
            End { mux, config, rng, wheel, buffer: Vec::new(), inbox, serves: None, received: 0 }
        });
        Pair { ends, now: Time::ZERO, buf: Vec::new(), packets: 0 }
    }

    fn send(&mut self, bytes: &[u8]) {
        with(&mut self.ends[0], self.now, |mux, ctx, _| {
            let key = mux.connect(ctx, ADDRESS);
            mux.send(ctx, key, bytes, None).expect("room");
        });
    }

    /// Exchanges packets, letting time pass only when there are none, until `done`.
    fn run(&mut self, done: impl Fn(&[End; 2]) -> bool) {
        while !done(&self.ends) {
            let mut any = false;
            for from in 0..2 {
                let (a, b) = self.ends.split_at_mut(1);
                let (end, other) = if from == 0 { (&mut a[0], &mut b[0]) } else { (&mut b[0], &mut a[0]) };
                let buf = &mut self.buf;
                if with(end, self.now, |mux, ctx, _| mux.poll_transmit(ctx, buf)).is_none() {
                    continue;
                }
                any = true;
                self.packets += 1;
                let serves = other.serves;
                other.received += with(other, self.now, |mux, ctx, inbox| {
                    let Some(key) = mux.receive(ctx, ADDRESS, buf, inbox) else { return 0 };
                    let used = inbox.len();
                    inbox.clear();
                    mux.keep(ctx, key, inbox, 0);
                    if serves == Some(used) {
                        mux.send(ctx, key, &[1], None).expect("room");
                    }
                    used
                });
            }
            if !any {
                let next = self.ends.iter().filter_map(|end| end.wheel.next_deadline()).min();
                self.now = next.expect("something is due").max(self.now);
                for end in &mut self.ends {
                    while let Some(alarm) = end.wheel.expire(self.now) {
                        end.received += with(end, self.now, |mux, ctx, inbox| {
                            let Due::Connection(key) = alarm.due else {
                                mux.handle_idle(ctx);
                                return 0;
                            };
                            let came = mux.handle_timeout(ctx, key, inbox);
                            let used = inbox.len();
                            inbox.clear();
                            came.map_or(0, |key| {
                                mux.keep(ctx, key, inbox, 0);
                                used
                            })
                        });
                    }
                }
            }
        }
    }
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
