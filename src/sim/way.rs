//! The way of a datagram, from its sender's socket to its receiver's.

use std::net::SocketAddr;

use super::event::{End, Event};
use super::line::BOOKKEEPING;
use super::link::Loss;
use super::place::{PORT, host_at, ip};
use super::simulation::{Host, Occupant, Simulation};

impl Simulation {
    /// Sends what is in `bytes`, and leaves an empty buffer.
    pub(super) fn send(&mut self, from: Host, to: SocketAddr, bytes: &mut Vec<u8>) {
        let goal = host_at(&to);
        self.sent += 1;
        self.bytes += bytes.len() as u64;
        self.digest.number(self.now.as_micros());
        let goal_number = goal.map_or(u32::MAX, |(goal, _)| goal.0);
        self.digest.number(u64::from(from.0) << 32 | u64::from(goal_number));
        self.digest.number(u64::from(to.port()));
        self.digest.bytes(bytes);
        if let Err(loss) = self.set_out(from, goal, to.port(), bytes) {
            self.lose(loss);
        }
    }

    fn set_out(
        &mut self,
        from: Host,
        goal: Option<(Host, bool)>,
        port: u16,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Loss> {
        let slot = &mut self.hosts[from.number()];
        let (region, family) = (slot.region, slot.family);
        let mut source = PORT;
        let mut off = self.now;
        if let Some(line) = &mut slot.line {
            if let Some(translator) = &mut line.translator {
                translator.call(self.now, goal.map(|(host, _)| End { host, port }), self.network.rng());
                source = translator.port;
            }
            if let Some(upload) = &mut line.upload {
                let v6 = goal.is_some_and(|(_, v6)| v6);
                off = upload.take(self.now, bytes.len(), v6).ok_or(Loss::Upload)?;
            }
            if line.cut_off {
                return Err(Loss::Cut);
            }
        }
        let (to, v6) = goal.filter(|&(_, v6)| family.has(v6)).ok_or(Loss::Nowhere)?;
        let there = self.hosts.get(to.number()).ok_or(Loss::Nowhere)?;
        if !there.family.has(v6) {
            return Err(Loss::Nowhere);
        }
        let (to_region, to) = (there.region, End { host: to, port });
        if self.network.is_cut(from, to.host) {
            return Err(Loss::Cut);
        }
        if bytes.len() > self.network.conditions(from, to.host).max_datagram {
            return Err(Loss::TooLarge);
        }
        let (first, second) = self.network.pass(off, (from, region), (to.host, to_region))?;
        let from = End { host: from, port: source };
        if let Some(second) = second {
            let copy = self.flights.insert(from, to, v6, &mut bytes.clone());
            self.events.insert(second, Event::Arrival(copy));
        }
        let flight = self.flights.insert(from, to, v6, bytes);
        self.events.insert(first, Event::Arrival(flight));
        Ok(())
    }

    pub(super) fn arrive(&mut self, place: u32) {
        let flight = self.flights.get(place);
        let (from, to, v6, size) = (flight.from, flight.to, flight.v6, flight.bytes.len());
        let slot = &mut self.hosts[to.host.number()];
        let cut = self.network.is_cut(from.host, to.host);
        let taken = match &mut slot.line {
            _ if cut => Err(Loss::Cut),
            None if to.port == PORT => Ok(self.now),
            None => Err(Loss::Down),
            Some(line) if line.cut_off => Err(Loss::Cut),
            Some(line) => match &mut line.download {
                Some(download) => download.take(self.now, size, v6).ok_or(Loss::Download),
                None => Ok(self.now),
            }
            .and_then(|at| match &line.translator {
                Some(translator) if translator.lets_in(self.now, from, to.port) => Ok(at),
                Some(_) => Err(Loss::Translation),
                None if to.port == PORT => Ok(at),
                None => Err(Loss::Down),
            }),
        };
        match taken {
            Ok(at) if at > self.now => self.events.insert(at, Event::Delivery(place)),
            Ok(_) => self.deliver(place),
            Err(loss) => {
                self.lose(loss);
                self.flights.remove(place);
            }
        }
    }

    pub(super) fn deliver(&mut self, place: u32) {
        let flight = self.flights.get(place);
        let (host, size) = (flight.to.host, flight.bytes.len() + BOOKKEEPING);
        let slot = &mut self.hosts[host.number()];
        if let Some(frozen) = slot.line.as_mut().and_then(|line| line.frozen.as_mut()) {
            if frozen.bytes + size > frozen.room {
                self.lose(Loss::Frozen);
                self.flights.remove(place);
            } else {
                frozen.bytes += size;
                frozen.waiting.push_back(place);
            }
            return;
        }
        self.hand_over(host, place);
    }

    pub(super) fn hand_over(&mut self, host: Host, place: u32) {
        let flight = self.flights.get(place);
        let from = SocketAddr::new(ip(flight.from.host, flight.v6), flight.from.port);
        match &mut self.hosts[host.number()].occupant {
            Occupant::Node(node) => self.engine.receive(self.now, *node, from, &flight.bytes),
            Occupant::Peer(foreign) => {
                foreign.peer.receive(self.now, from, &flight.bytes);
                self.awake.push_back(host);
            }
            Occupant::None => self.lose(Loss::Down),
        }
        self.flights.remove(place);
    }

    pub(super) fn lose(&mut self, loss: Loss) {
        let losses = &mut self.losses;
        let (count, number) = match loss {
            Loss::TooLarge => (&mut losses.too_large, 1),
            Loss::Nowhere => (&mut losses.nowhere, 2),
            Loss::Cut => (&mut losses.cut, 3),
            Loss::Upload => (&mut losses.upload, 4),
            Loss::Random => (&mut losses.chance, 5),
            Loss::Burst => (&mut losses.burst, 6),
            Loss::Download => (&mut losses.download, 7),
            Loss::Down => (&mut losses.down, 8),
            Loss::Translation => (&mut losses.translation, 9),
            Loss::Frozen => (&mut losses.frozen, 10),
        };
        *count += 1;
        self.digest.number(self.now.as_micros());
        self.digest.number(number);
    }
}
