//! A stream over one Airhook connection, beside what the system's sockets carry.

// Benchmarks read the clock.
#![allow(clippy::disallowed_methods)]

#[path = "../examples/airhook/mod.rs"]
mod airhook;
#[path = "support/laps.rs"]
mod laps;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use airhook::Link;
use khashmir::Config;
use khashmir::airhook::{Event, Stream, Traffic};
use khashmir::udp::Socket;
use laps::{Job, Lap, median, race, ratios};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;

const HELP: &str = "\
Bytes per second over one Airhook connection, beside UDP and TCP.

    cargo bench --bench bulk --features offload
    cargo bench --bench bulk -- --rounds 21 --ms 500

All are on the loopback interface, both ends on one thread, which sends and receives in turn.

    Airhook   a stream one way between two endpoints, as `airproxy` drives them: each with its socket,
              both on one poll, with as much queued as `airproxy` queues
    UDP       plain datagrams of 1,450 bytes: 16 are sent, then 16 received, with nothing else between
    UDP, watched
              the same with the sockets on a poll, which is not asked: what each datagram costs any program
              that waits for it
    Airhook, offload
              the same with segmentation offload, by which many datagrams take one call of the system; only
              in a build with `--features offload`
    TCP       one connection, as much written as there is room for and then read, at most 64 KiB at once

Counted are the bytes that have arrived, of Airhook's only those of the stream. The contenders take turns,
a round each. `MB/s` is the median of the rounds; the ratios to UDP are medians of the rounds' own ratios:
`time` of the rates, `work` of what a byte takes of a processor, the system's share included. Where the
machine has other things to do, `work` is the surer one. Wanted are at least 0.6 for Airhook, and 2 with
segmentation offload, where the system has it (Linux).

    --rounds N   rounds, 15 by default
    --ms N       milliseconds for a round of one contender, 400 by default
    --only NAME  one contender alone and without end, for a profile: udp, watched, tcp, airhook, offload

It prints a table, then one line of JSON.";

/// What a datagram of the plain kind carries: as much as the largest of Airhook.
const DATAGRAM: usize = 1450;
/// So many datagrams of the plain kind are on their way at once.
const BURST: usize = 16;
/// What is read and written at once.
const PIECE: usize = 16 * 1024;
/// As much as `airproxy` lets wait.
const QUEUE: usize = 128 * 1024;

/// The contenders, and what ratio to the first is wanted.
const NAMES: [(&str, Option<f64>); 5] = [
    ("UDP", None),
    ("UDP, watched", None),
    ("TCP", None),
    ("Airhook", Some(0.6)),
    ("Airhook, offload", Some(2.0)),
];

fn main() {
    let options = laps::options(HELP, "bulk [--rounds N] [--ms N] [--only NAME] [--help]", |_, _| None);
    let mut udp = Plain::new(false);
    let mut watched = Plain::new(true);
    let mut tcp = Tcp::new();
    let mut stream = Airhook::new(Socket::plain);
    let mut offloaded = Airhook::new(Socket::new);
    if let Some(name) = &options.only {
        let mut job: Job<'_> = match name.as_str() {
            "udp" => Box::new(|span| udp.run(span)),
            "watched" => Box::new(|span| watched.run(span)),
            "tcp" => Box::new(|span| tcp.run(span)),
            "airhook" => Box::new(|span| stream.run(span)),
            "offload" => Box::new(|span| offloaded.run(span)),
            _ => panic!("{name} is no contender"),
        };
        loop {
            let lap = Lap::of(|| job(options.span));
            println!(
                "{:>8.1} MB/s, {:.0} ns of a processor for 1,450 bytes",
                megabytes(&lap),
                nanoseconds(&lap)
            );
        }
    }
    let before = stream.traffic();
    let mut contenders: Vec<Job<'_>> = vec![
        Box::new(|span| udp.run(span)),
        Box::new(|span| watched.run(span)),
        Box::new(|span| tcp.run(span)),
        Box::new(|span| stream.run(span)),
    ];
    if cfg!(feature = "offload") {
        contenders.push(Box::new(|span| offloaded.run(span)));
    }
    let laps = race(options.rounds, options.span, &mut contenders);
    drop(contenders);
    println!("bytes one way, both ends on one thread");
    println!("{:<16} {:>8} {:>22} {:>17}", "", "", "ns of a processor", "ratio to UDP");
    println!("{:<16} {:>8} {:>22} {:>9} {:>7}", "", "MB/s", "for 1,450 bytes", "time", "work");
    let mut rows = Vec::new();
    for ((name, wanted), laps_of) in NAMES.into_iter().zip(&laps) {
        let (time, work) = ratios(laps_of, &laps[0]);
        let (rate, each) = (median(laps_of, megabytes), median(laps_of, nanoseconds));
        let wish = wanted.map_or(String::new(), |wanted| format!("   wanted: {wanted}"));
        println!("{name:<16} {rate:>8.1} {each:>22.0} {time:>9.2} {work:>7.2}{wish}");
        rows.push(json!({
            "name": name, "mb_per_s": rate, "cpu_ns_per_1450": each, "ratio": time, "ratio_cpu": work,
            "wanted": wanted,
        }));
    }
    let after = stream.traffic();
    let counted = |of: fn(&Traffic) -> u64| [0, 1].map(|end: usize| of(&after[end]) - of(&before[end]));
    let packets = counted(|traffic| traffic.packets_out);
    let bytes = counted(|traffic| traffic.bytes_out);
    let size = bytes[0] as f64 / packets[0] as f64;
    let back = packets[1] as f64 / packets[0] as f64;
    println!("Airhook's datagrams: {size:.0} bytes on the average, and {back:.3} back for each");
    let shape = json!({ "bytes": size, "back_for_each": back });
    println!("{}", json!({ "part": "bulk", "rows": rows, "airhook_datagrams": shape }));
}

fn megabytes(lap: &Lap) -> f64 {
    lap.per_second() / 1e6
}

fn nanoseconds(lap: &Lap) -> f64 {
    lap.each() * 1e3 * DATAGRAM as f64
}

// -- UDP

struct Plain {
    sockets: [UdpSocket; 2],
    to: SocketAddr,
    _poll: Poll,
}

impl Plain {
    fn new(watched: bool) -> Plain {
        let poll = Poll::new().expect("a poll");
        let sockets = [0, 1].map(|number| {
            let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
            if watched {
                let token = Token(number);
                poll.registry().register(&mut socket, token, Interest::READABLE).expect("to watch it");
            }
            socket
        });
        let to = sockets[1].local_addr().expect("an address");
        Plain { sockets, to, _poll: poll }
    }

    fn run(&mut self, span: Duration) -> u64 {
        let out = [7; DATAGRAM];
        let mut buffer = [0; 2048];
        let begun = Instant::now();
        let mut bytes = 0;
        while begun.elapsed() < span {
            for _ in 0..BURST {
                self.sockets[0].send_to(&out, self.to).expect("to send");
            }
            for _ in 0..BURST {
                bytes += self.sockets[1].recv_from(&mut buffer).expect("what was sent").0 as u64;
            }
        }
        bytes
    }
}

// -- TCP

struct Tcp {
    ends: [TcpStream; 2],
}

impl Tcp {
    fn new() -> Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let first = TcpStream::connect(listener.local_addr().expect("an address")).expect("to connect");
        let ends = [first, listener.accept().expect("a connection").0];
        for end in &ends {
            end.set_nonblocking(true).expect("a socket that does not block");
        }
        Tcp { ends }
    }

    fn run(&mut self, span: Duration) -> u64 {
        let out = vec![7; 4 * PIECE];
        let mut buffer = vec![0; 4 * PIECE];
        let begun = Instant::now();
        let mut bytes = 0;
        while begun.elapsed() < span {
            match self.ends[0].write(&out) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
            loop {
                match self.ends[1].read(&mut buffer) {
                    Ok(length) => bytes += length as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        bytes
    }
}

// -- Airhook

/// Two endpoints on one poll.
struct Airhook {
    poll: Poll,
    events: Events,
    links: [Link<Stream>; 2],
    to: SocketAddr,
    /// The queue is full; an event will say when it is not.
    full: bool,
    piece: Vec<u8>,
}

impl Airhook {
    fn new(socket: fn(UdpSocket) -> Socket) -> Airhook {
        let poll = Poll::new().expect("a poll");
        let links = [0, 1].map(|number| {
            let udp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
            Link::over(socket(udp), Config::default(), poll.registry(), Token(number)).expect("to watch it")
        });
        let to = links[1].local_addr().expect("an address");
        Airhook { poll, events: Events::with_capacity(16), links, to, full: false, piece: vec![7; PIECE] }
    }

    fn traffic(&self) -> [Traffic; 2] {
        [0, 1].map(|end: usize| self.links[end].endpoint.traffic())
    }

    fn run(&mut self, span: Duration) -> u64 {
        let begun = Instant::now();
        let mut bytes = 0;
        while begun.elapsed() < span {
            bytes += self.turn(span);
        }
        bytes
    }

    /// One turn of the loop, as `airproxy` makes them; how many bytes have come.
    fn turn(&mut self, longest: Duration) -> u64 {
        self.write();
        for link in &mut self.links {
            link.transmit(self.poll.registry());
        }
        let due = self.links.iter().filter_map(Link::timeout).min().unwrap_or(longest).min(longest);
        self.poll.poll(&mut self.events, Some(due)).expect("to wait");
        for event in &self.events {
            self.links[event.token().0].handle(event, self.poll.registry());
        }
        let mut bytes = 0;
        for link in &mut self.links {
            link.receive(None);
            bytes += take_events(link, &mut self.full);
            link.endpoint.handle_timeout(link.now());
            bytes += take_events(link, &mut self.full);
        }
        bytes
    }

    fn write(&mut self) {
        let link = &mut self.links[0];
        while !self.full {
            if link.endpoint.unconfirmed(self.to) + PIECE > QUEUE {
                self.full = true;
                link.endpoint.want_room(link.now(), self.to, QUEUE / 2);
                return;
            }
            link.endpoint.send(link.now(), self.to, &self.piece, None).expect("room");
        }
    }
}

fn take_events(link: &mut Link<Stream>, full: &mut bool) -> u64 {
    let mut bytes = 0;
    while let Some(event) = link.endpoint.poll_event() {
        match event {
            Event::Received(_, piece) => bytes += piece.len() as u64,
            Event::Writable(_) => *full = false,
            Event::Reset(_) | Event::Forgotten(_) => panic!("the session has ended"),
            _ => {}
        }
    }
    bytes
}
