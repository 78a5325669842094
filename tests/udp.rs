//! Datagrams that go out and come in many at a time: none is lost, none comes twice, all in order.
//! With `--features offload` the system's own means are tried; without, the same holds.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::udp::{LARGEST, Outbox, Received, Sent, Socket, Wire};
use rand::{Rng, RngExt};

type Datagram = (SocketAddr, Vec<u8>);

fn address(number: u16) -> SocketAddr {
    ([192, 0, 2, 1], 4000 + number).into()
}

fn bytes(rng: &mut Random, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Runs of datagrams of one size to one address, as a stream makes them, and others between.
fn datagrams(rng: &mut Random, to: &[SocketAddr], count: usize) -> Vec<Datagram> {
    let mut all = Vec::new();
    while all.len() < count {
        let to = to[rng.random_range(0..to.len())];
        let size = if rng.random_bool(0.1) { 0 } else { rng.random_range(1..=1450) };
        for _ in 0..rng.random_range(1..=80) {
            all.push((to, bytes(rng, size)));
        }
        let last = rng.random_range(0..=1450);
        all.push((to, bytes(rng, last)));
    }
    all.truncate(count);
    all
}

/// A system that does as it likes.
struct Moody {
    rng: Random,
    segments: usize,
    /// What it has taken and what it has refused, in order.
    seen: Vec<Datagram>,
    calls: usize,
    refused: usize,
}

impl Wire for Moody {
    fn segments(&self) -> usize {
        self.segments
    }

    fn send(&mut self, to: SocketAddr, datagrams: &[u8], size: usize) -> io::Result<()> {
        let parts: Vec<&[u8]> = if size == 0 { vec![&[]] } else { datagrams.chunks(size).collect() };
        assert!(!parts.is_empty() && parts.len() <= self.segments, "{} by one call", parts.len());
        assert!(datagrams.len() <= 65_507, "{} bytes are no datagram", datagrams.len());
        let fails = |kind| Err(io::Error::from(kind));
        match self.rng.random_range(0..100) {
            0..10 => return fails(ErrorKind::WouldBlock),
            10..15 => return fails(ErrorKind::Interrupted),
            15..20 if parts.len() > 1 => {
                if self.rng.random() {
                    self.segments = 1;
                }
                return fails(ErrorKind::InvalidInput);
            }
            20..23 if parts.len() == 1 => {
                self.seen.push((to, parts[0].into()));
                return fails(ErrorKind::ConnectionRefused);
            }
            _ => {}
        }
        self.calls += 1;
        self.seen.extend(parts.into_iter().map(|part| (to, part.to_vec())));
        Ok(())
    }

    fn refused(&mut self, error: &io::Error) {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        self.refused += 1;
    }
}

#[test]
fn each_goes_once_and_in_order_whatever_the_system_does() {
    for number in 0..100 {
        let mut rng = seeded(seed_from_number(number));
        let all = datagrams(&mut rng, &[address(0), address(1)], 300);
        let segments = if number % 4 == 0 { 1 } else { 64 };
        let seed = seed_from_number(1000 + number);
        let mut system = Moody { rng: seeded(seed), segments, seen: Vec::new(), calls: 0, refused: 0 };
        let mut outbox = Outbox::new();
        let mut next = 0;
        let mut poll = |buffer: &mut Vec<u8>| {
            buffer.clear();
            let (to, datagram) = all.get(next)?;
            next += 1;
            buffer.extend_from_slice(datagram);
            Some(*to)
        };
        while outbox.send(&mut system, &mut poll) == Sent::Blocked {
            assert!(!outbox.is_empty(), "seed {number}");
            if system.rng.random() {
                let rest = outbox.rest();
                assert!(outbox.is_empty(), "seed {number}");
                outbox = rest;
            }
        }
        assert!(outbox.is_empty(), "seed {number}");
        assert!(system.seen == all, "seed {number}: others were sent, or in another order");
        assert!(system.calls + system.refused <= all.len(), "seed {number}");
    }
}

/// What a system that sends up to 64 by one call is asked to.
struct Counting(Vec<(SocketAddr, usize, usize)>);

impl Wire for Counting {
    fn segments(&self) -> usize {
        64
    }

    fn send(&mut self, to: SocketAddr, datagrams: &[u8], size: usize) -> io::Result<()> {
        self.0.push((to, datagrams.len(), size));
        Ok(())
    }

    fn refused(&mut self, error: &io::Error) {
        panic!("{error}");
    }
}

#[test]
fn those_of_one_size_to_one_address_go_by_one_call() {
    let calls = |datagrams: &[(u16, usize)]| {
        let mut system = Counting(Vec::new());
        let mut rest = datagrams.iter();
        let poll = |buffer: &mut Vec<u8>| {
            let &(to, size) = rest.next()?;
            buffer.clear();
            buffer.resize(size, 7);
            Some(address(to))
        };
        assert_eq!(Outbox::new().send(&mut system, poll), Sent::Done);
        system.0.into_iter().map(|(to, length, size)| (to.port() - 4000, length, size)).collect::<Vec<_>>()
    };
    assert_eq!(calls(&[]), []);
    // The last one of a call may be shorter, but not longer, and none follows it.
    assert_eq!(calls(&[(0, 100), (0, 100), (0, 40), (0, 40)]), [(0, 240, 100), (0, 40, 40)]);
    assert_eq!(calls(&[(0, 100), (0, 101), (0, 101)]), [(0, 100, 100), (0, 202, 101)]);
    assert_eq!(calls(&[(0, 9), (1, 9), (1, 9), (0, 9)]), [(0, 9, 9), (1, 18, 9), (0, 9, 9)]);
    assert_eq!(calls(&[(0, 9), (0, 0), (0, 0)]), [(0, 9, 9), (0, 0, 0), (0, 0, 0)]);
    // No more than one call may send, in number and in bytes.
    assert_eq!(calls(&[(0, 13); 130]), [(0, 832, 13), (0, 832, 13), (0, 26, 13)]);
    assert_eq!(calls(&[(0, 1450); 45]), [(0, 44 * 1450, 1450), (0, 1450, 1450)]);
}

// -- real sockets

fn pair() -> (Socket, Socket) {
    let socket = || Socket::new(mio::net::UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket"));
    (socket(), socket())
}

/// Sends all in portions that the receivers' buffers have room for, and has `receive` empty them.
fn send_all(all: &[Datagram], wire: &mut Socket, mut receive: impl FnMut()) {
    let mut outbox = Outbox::new();
    for portion in all.chunks(60) {
        let mut rest = portion.iter();
        let poll = |buffer: &mut Vec<u8>| {
            let (to, datagram) = rest.next()?;
            buffer.clear();
            buffer.extend_from_slice(datagram);
            Some(*to)
        };
        assert_eq!(outbox.send(wire, poll), Sent::Done);
        receive();
    }
    assert_eq!(wire.errors(), 0);
}

fn by_address(all: &[Datagram]) -> BTreeMap<SocketAddr, Vec<Vec<u8>>> {
    let mut sorted = BTreeMap::<_, Vec<_>>::new();
    for (to, datagram) in all {
        sorted.entry(*to).or_default().push(datagram.clone());
    }
    sorted
}

#[test]
fn what_a_plain_socket_receives_is_what_was_polled() {
    let (mut from, _) = pair();
    let receivers = [0, 1].map(|_| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket
    });
    let to = [0, 1].map(|number: usize| receivers[number].local_addr().expect("an address"));
    let all = datagrams(&mut seeded(seed_from_number(1)), &to, 2000);
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    send_all(&all, &mut from, || {
        for (socket, to) in receivers.iter().zip(to) {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                seen.push((to, buffer[..length].to_vec()));
            }
        }
    });
    assert!(by_address(&seen) == by_address(&all), "other datagrams have come");
}

#[test]
fn what_a_socket_receives_is_what_was_polled() {
    let (mut from, mut to) = pair();
    let address = to.local_addr().expect("an address");
    let sender = from.local_addr().expect("an address");
    let all = datagrams(&mut seeded(seed_from_number(2)), &[address], 2000);
    let mut seen = Vec::new();
    let mut calls = 0;
    let mut buffer = vec![0; LARGEST];
    send_all(&all, &mut from, || {
        loop {
            let before = seen.len();
            let received = to.receive(&mut buffer, |from, datagram| {
                assert_eq!(from, sender);
                seen.push((address, datagram.to_vec()));
            });
            match received {
                Received::Some(count) => assert_eq!(seen.len() - before, count),
                Received::Nothing => return,
                Received::Failed => panic!("it failed"),
            }
            calls += 1;
        }
    });
    assert!(seen == all, "other datagrams have come");
    assert!(calls <= all.len());
    if from.segments() > 1 {
        assert!(calls < all.len() / 4, "{calls} calls");
    }
}

/// A socket without checksums: the system cuts nothing up for it (Linux, `udp_send_skb`).
#[test]
#[cfg(target_os = "linux")]
fn where_the_system_refuses_them_together_they_go_by_one_call_each() {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    const SOL_SOCKET: i32 = 1;
    const SO_NO_CHECK: i32 = 11;
    unsafe extern "C" {
        fn setsockopt(socket: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.set_nonblocking(true).expect("a socket that does not block");
    // SAFETY: the option is a number, and so large.
    let done = unsafe { setsockopt(udp.as_raw_fd(), SOL_SOCKET, SO_NO_CHECK, &1, 4) };
    assert_eq!(done, 0);
    let mut from = Socket::new(mio::net::UdpSocket::from_std(udp));
    let before = from.segments();
    let to = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    to.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let address = to.local_addr().expect("an address");
    let all: Vec<Datagram> = (0..60).map(|number| (address, vec![number; 500])).collect();
    let mut buffer = [0; 2048];
    let mut next = 0;
    send_all(&all, &mut from, || {
        for (_, expected) in &all {
            let length = to.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], expected);
            next += 1;
        }
    });
    assert_eq!((next, from.segments()), (60, 1), "by one call before: {before}");
    // And for good.
    send_all(&all[..2], &mut from, || {});
    assert_eq!(from.segments(), 1);
}
