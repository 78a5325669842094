//! Calls between two nodes, beside what the system's sockets do.

// Benchmarks read the clock.
#![allow(clippy::disallowed_methods)]

#[path = "support/laps.rs"]
mod laps;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use khashmir::reactor::Reactor;
use khashmir::{Id, NodeKey, NodeOptions, Stats};
use laps::{Lap, median, race, ratios};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;

const HELP: &str = "\
Calls per second between two nodes, beside UDP datagrams to and fro.

    cargo bench --bench calls
    cargo bench --bench calls -- --rounds 21 --ms 500

Both nodes stand on one reactor and one thread, with real sockets on the loopback interface. One
asks the other who it is, each time through the whole of an operation, and makes the next call when
it has the answer; with 1 and with 64 calls under way. What it is compared with is the least that a
program with one thread and mio can do: two sockets on one poll, datagrams of the same sizes as those
of a single call, each answered when it comes, every socket read until it has nothing more, as mio asks.
(Nodes that have more calls under way put several into a datagram; `datagrams` is how many of them a call
and its answer take in all.)

The contenders take turns, a round each. `per second` is the median of the rounds; the ratios are
medians of the rounds' own ratios: `time` of the rates, `work` of what a call and a round trip take of
a processor, the system's share included. Where the machine has other things to do, `work` is the surer
one. Wanted are at least 0.5 with 1 under way and 0.6 with 64.

    --rounds N   rounds, 15 by default
    --ms N       milliseconds for a round of one contender, 400 by default
    --only NAME  `nodes` or `sockets` alone and without end, for a profile, with --under-way
    --under-way N

It prints a table, then one line of JSON.";

/// How many calls are under way, and the ratio that is wanted then.
const CASES: [(usize, f64); 2] = [(1, 0.5), (64, 0.6)];

fn main() {
    let mut under_way = 64;
    let usage = "calls [--rounds N] [--ms N] [--only nodes|sockets] [--under-way N] [--help]";
    let options = laps::options(HELP, usage, |option, arguments| {
        if option == "--under-way" {
            under_way = arguments.next()?.parse().ok()?;
            return Some(());
        }
        None
    });
    if let Some(name) = &options.only {
        let mut nodes = Nodes::new();
        let sizes = nodes.sizes();
        let mut sockets = Sockets::new(sizes);
        loop {
            let lap = Lap::of(|| match name.as_str() {
                "nodes" => nodes.run(under_way, options.span),
                _ => sockets.run(under_way, options.span),
            });
            println!("{:>8.0} per second, {:.2} µs of a processor each", lap.per_second(), lap.each());
        }
    }
    let mut nodes = Nodes::new();
    let sizes = nodes.sizes();
    println!("calls between two nodes, and UDP datagrams of {} and {} bytes to and fro", sizes.0, sizes.1);
    println!("{:<14} {:>19} {:>21} {:>16}", "", "per second", "µs of a processor", "ratio");
    println!(
        "{:<14} {:>9} {:>9} {:>10} {:>10} {:>8} {:>7} {:>10}",
        "", "nodes", "sockets", "nodes", "sockets", "time", "work", "datagrams"
    );
    let mut rows = Vec::new();
    for (under_way, wanted) in CASES {
        let mut sockets = Sockets::new(sizes);
        let before = nodes.counts();
        let laps = race(
            options.rounds,
            options.span,
            &mut [Box::new(|span| nodes.run(under_way, span)), Box::new(|span| sockets.run(under_way, span))],
        );
        let [ours, theirs] = [&laps[0], &laps[1]];
        let (time, work) = ratios(ours, theirs);
        let rate = |laps| median(laps, Lap::per_second);
        let each = |laps| median(laps, Lap::each);
        let (calls, datagrams) = nodes.counts();
        let shared = (datagrams - before.1) as f64 / (calls - before.0) as f64;
        let name = format!("{under_way} under way");
        let wish = format!("   wanted: {wanted}");
        println!(
            "{name:<14} {:>9.0} {:>9.0} {:>10.2} {:>10.2} {time:>8.2} {work:>7.2} {shared:>10.2}{wish}",
            rate(ours),
            rate(theirs),
            each(ours),
            each(theirs),
        );
        rows.push(json!({
            "under_way": under_way, "nodes_per_s": rate(ours).round(), "sockets_per_s": rate(theirs).round(),
            "nodes_cpu_us": each(ours), "sockets_cpu_us": each(theirs), "ratio": time, "ratio_cpu": work,
            "datagrams_per_call": shared, "wanted": wanted,
        }));
    }
    let sizes = json!([sizes.0, sizes.1]);
    println!("{}", json!({ "part": "calls", "datagram_bytes": sizes, "rows": rows }));
}

// -- nodes

/// Two nodes that know each other.
struct Nodes {
    reactor: Reactor<Progress>,
    nodes: [NodeKey; 2],
    progress: Progress,
}

#[derive(Default)]
struct Progress {
    answered: u64,
    under_way: usize,
    /// No more calls are made.
    ending: bool,
}

impl Nodes {
    fn new() -> Nodes {
        let mut reactor = Reactor::with_seed([1; 32]).expect("a reactor");
        let nodes = ["one", "other"].map(|name| {
            let options = NodeOptions { id: Some(Id::of(name.as_bytes())), ..NodeOptions::default() };
            reactor.listen(([127, 0, 0, 1], 0).into(), options).expect("a node")
        });
        Nodes { reactor, nodes, progress: Progress::default() }
    }

    /// Calls for so long; how many were answered.
    fn run(&mut self, under_way: usize, span: Duration) -> u64 {
        let [from, to] = self.nodes;
        let to = self.reactor.local_addr(to).expect("an address");
        self.progress = Progress { under_way, ..Progress::default() };
        for _ in 0..under_way {
            call(&mut self.reactor, from, to);
        }
        let begun = Instant::now();
        while self.progress.under_way > 0 {
            self.reactor.turn(&mut self.progress, None).expect("a turn");
            self.progress.ending = begun.elapsed() >= span;
        }
        self.progress.answered
    }

    fn stats(&self) -> [Stats; 2] {
        self.nodes.map(|node| self.reactor.stats(node).expect("a node"))
    }

    /// Calls made and datagrams sent, of both.
    fn counts(&self) -> (u64, u64) {
        let [from, to] = self.stats();
        (from.calls_sent + to.calls_sent, from.packets_out + to.packets_out)
    }

    /// How large datagrams there and back are, on the average.
    fn sizes(&mut self) -> (usize, usize) {
        self.run(1, Duration::from_millis(20));
        let before = self.stats();
        self.run(1, Duration::from_millis(20));
        let mut average = before.iter().zip(self.stats()).map(|(before, after)| {
            (after.bytes_out - before.bytes_out).div_ceil(after.packets_out - before.packets_out) as usize
        });
        (average.next().unwrap_or(0), average.next().unwrap_or(0))
    }
}

fn call(reactor: &mut Reactor<Progress>, from: NodeKey, to: SocketAddr) {
    reactor.add_contact(from, to, None, move |reactor, progress, outcome| {
        outcome.expect("an answer");
        progress.answered += 1;
        if progress.ending {
            progress.under_way -= 1;
        } else {
            call(reactor, from, to);
        }
    });
}

// -- sockets

/// Two sockets and no protocol.
struct Sockets {
    poll: Poll,
    events: Events,
    sockets: [UdpSocket; 2],
    addresses: [SocketAddr; 2],
    sizes: (usize, usize),
}

impl Sockets {
    fn new(sizes: (usize, usize)) -> Sockets {
        let poll = Poll::new().expect("a poll");
        let sockets = [0, 1].map(|number| {
            let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
            poll.registry().register(&mut socket, Token(number), Interest::READABLE).expect("to watch it");
            socket
        });
        let addresses = [0, 1].map(|number: usize| sockets[number].local_addr().expect("an address"));
        Sockets { poll, events: Events::with_capacity(256), sockets, addresses, sizes }
    }

    fn run(&mut self, under_way: usize, span: Duration) -> u64 {
        let out = [7; 2048];
        let mut buffer = [0; 2048];
        let begun = Instant::now();
        let [first, second] = &self.sockets;
        for _ in 0..under_way {
            first.send_to(&out[..self.sizes.0], self.addresses[1]).expect("to send");
        }
        let (mut answered, mut under_way) = (0, under_way);
        let mut ending = false;
        while under_way > 0 {
            self.poll.poll(&mut self.events, None).expect("to wait");
            for event in &self.events {
                let is_first = event.token() == Token(0);
                let socket = if is_first { first } else { second };
                loop {
                    let from = match socket.recv_from(&mut buffer) {
                        Ok((_, from)) => from,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    };
                    if !is_first {
                        socket.send_to(&out[..self.sizes.1], from).expect("to send");
                        continue;
                    }
                    answered += 1;
                    if ending {
                        under_way -= 1;
                    } else {
                        socket.send_to(&out[..self.sizes.0], from).expect("to send");
                    }
                }
            }
            ending = begun.elapsed() >= span;
        }
        answered
    }
}
