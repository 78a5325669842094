//! Two ends of an Airhook connection in memory, without a network between them.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use khashmir::Config;
use khashmir::airhook::mux::Mux;
use khashmir::context::{Alarm, Context, Due, Key, Routes};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

pub struct End {
    pub mux: Mux,
    pub config: Config,
    pub rng: Random,
    pub wheel: Wheel<Alarm>,
    pub buffer: Vec<u8>,
    pub inbox: Vec<u8>,
    /// Answers so many bytes with one byte.
    pub serves: Option<usize>,
    pub received: usize,
}

pub fn with<R>(end: &mut End, now: Time, f: impl FnOnce(&mut Mux, &mut Context<'_>, &mut Vec<u8>) -> R) -> R {
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

pub struct Pair {
    pub ends: [End; 2],
    pub now: Time,
    pub buf: Vec<u8>,
    pub packets: usize,
}

pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

impl Pair {
    pub fn new() -> Self {
        let ends = [0, 1].map(|number| {
            let mut rng = seeded(seed_from_number(number));
            let mux = Mux::new(&mut rng);
            let (config, wheel, inbox) = (Config::default(), Wheel::new(), Vec::new());
            End { mux, config, rng, wheel, buffer: Vec::new(), inbox, serves: None, received: 0 }
        });
        Pair { ends, now: Time::ZERO, buf: Vec::new(), packets: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        with(&mut self.ends[0], self.now, |mux, ctx, _| {
            let key = mux.connect(ctx, ADDRESS);
            mux.send(ctx, key, bytes, None).expect("room");
        });
    }

    /// Exchanges packets, letting time pass only when there are none, until `done`.
    pub fn run(&mut self, done: impl Fn(&[End; 2]) -> bool) {
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
                self.fire();
            }
        }
    }

    /// Lets fire what is due now.
    pub fn fire(&mut self) {
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
