//! Hosts of a simulation: how they come, go, stand still and are found.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::line::{Frozen, Line, Pipe, Translator};
use super::network::Conditions;
use super::place::{Family, HOSTS, PORT, PRIVATE, Place, host_at, ip};
use super::simulation::{Deed, Foreign, Host, Occupant, Peer, Setup, Simulation, Slot};
use crate::config::{Config, Durability};
use crate::contact::Contact;
use crate::engine::{Engine, NodeKey, NodeOptions, Standing, Stats};
use crate::error::{ConfigError, StartError, StoreError};
use crate::id::Id;
use crate::time::UnixTime;

/// Names a partition of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Which of the 32.
    place: u32,
    /// Which that was ever there.
    serial: u64,
}

impl Simulation {
    // -- coming and going

    /// Starts a node on a host of its own.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_node`], when a setting of its [`Place`] is out of bounds, or when there are
    /// 7,602,176 hosts already.
    pub fn add_node(&mut self, setup: Setup) -> Result<Host, StartError> {
        let host = self.add_host(&setup.place)?;
        match self.start(host, setup, None) {
            Ok(()) => Ok(host),
            Err(error) => {
                self.hosts.pop();
                Err(error)
            }
        }
    }

    /// Puts a foreign peer on a host of its own, with an address of IPv4 and a line without limits.
    /// `make` is told the host's address.
    ///
    /// # Panics
    ///
    /// When there are 7,602,176 hosts already.
    pub fn add_peer(&mut self, make: impl FnOnce(SocketAddr) -> Box<dyn Peer>) -> Host {
        self.add_peer_at(Place::default(), make).expect("a place for a host")
    }

    /// As [`add_peer`](Self::add_peer), at a certain place. The peer's clocks are always right.
    ///
    /// # Errors
    ///
    /// When a setting of its place is out of bounds, or there are too many hosts.
    pub fn add_peer_at(
        &mut self,
        place: Place,
        make: impl FnOnce(SocketAddr) -> Box<dyn Peer>,
    ) -> Result<Host, StartError> {
        let host = self.add_host(&place)?;
        self.put_peer(host, make(self.address(host)));
        Ok(host)
    }

    /// Puts another foreign peer on the host of one, in its stead if it still runs: the same program,
    /// started again, or another one at the same address.
    pub fn replace_peer(&mut self, host: Host, make: impl FnOnce(SocketAddr) -> Box<dyn Peer>) {
        if !matches!(self.occupant(host), None | Some(Occupant::Node(_))) {
            self.discard_waiting(host);
            self.put_peer(host, make(self.address(host)));
        }
    }

    /// Stops a node as its program would: its contacts are saved, its operations end, and it says
    /// nothing more. Or takes a foreign peer away. Datagrams to the host are lost from now on. It can
    /// be [restarted](Self::restart).
    ///
    /// # Errors
    ///
    /// When its contacts could not be saved; the node is gone all the same.
    pub fn remove(&mut self, host: Host) -> Result<(), StoreError> {
        self.note(Deed::Stop, host);
        self.stop(host, Engine::remove_node)
    }

    /// Ends a node, or a foreign peer, as a crash does: nothing is saved that was not in its file
    /// already, and its operations end unheard of.
    ///
    /// # Errors
    ///
    /// As [`Engine::crash_node`].
    pub fn crash(&mut self, host: Host) -> Result<(), StoreError> {
        // What it told before is told.
        self.hear();
        self.note(Deed::Crash, host);
        let before = self.happenings.len();
        let crashed = self.stop(host, Engine::crash_node);
        self.happenings.truncate(before);
        crashed
    }

    /// Starts the node of a host again, at the same address and with the same id, and with its file if
    /// it has one (without, it holds nothing and knows nobody). One that still runs is crashed first.
    ///
    /// # Errors
    ///
    /// As [`add_node`](Self::add_node). A host without a node, or one that was
    /// [forgotten](Self::forget), is a [`StartError::Bind`].
    pub fn restart(&mut self, host: Host) -> Result<(), StartError> {
        self.start_again(host, true)
    }

    /// Starts the node of a host again as [`restart`](Self::restart) does, but without what it had: its
    /// file is deleted, and its id is another one unless its options name one.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart); a file that cannot be deleted is a [`StartError::Bind`], too.
    pub fn restart_afresh(&mut self, host: Host) -> Result<(), StartError> {
        self.start_again(host, false)
    }

    /// Forgets a host that is not coming back, if nothing runs on it: it costs some 50 bytes from then
    /// on.
    pub fn forget(&mut self, host: Host) {
        if let Some(slot) = self.hosts.get_mut(host.number())
            && matches!(slot.occupant, Occupant::None)
        {
            (slot.setup, slot.id, slot.line) = (None, None, None);
        }
    }

    /// Lets the program on a host stand still for `span`: datagrams wait in its socket's buffer, and
    /// are lost when that is full; its timers do not go off. Then it reads all that came, and does all
    /// that has become due, at once. What is asked of its node in the meantime is begun then as well,
    /// as far as others hear of it. A program that is frozen already stays so for the longer time.
    pub fn freeze(&mut self, host: Host, span: Duration) {
        let until = self.now + span;
        let occupant = self.occupant(host);
        if span.is_zero() || matches!(occupant, None | Some(Occupant::None)) {
            return;
        }
        self.note(Deed::Freeze, host);
        let node = self.node(host);
        let room = self.hosts[host.number()].socket_buffer as usize;
        let Some(line) = self.line_mut(host) else { return };
        match &mut line.frozen {
            Some(frozen) if frozen.until >= until => return,
            Some(frozen) => frozen.until = until,
            None => line.frozen = Some(Frozen { until, waiting: VecDeque::new(), bytes: 0, room }),
        }
        if let Some(node) = node {
            self.engine.freeze_node(node);
        }
        self.schedule_thaw(host, until);
    }

    // -- the network

    /// The conditions for all links that have none of their own.
    pub fn conditions(&self) -> &Conditions {
        &self.network.conditions
    }

    /// Changes them, for all that is sent from now on.
    ///
    /// # Errors
    ///
    /// When one of them is out of bounds; nothing changes.
    pub fn set_conditions(&mut self, conditions: Conditions) -> Result<(), ConfigError> {
        conditions.validate()?;
        self.network.conditions = conditions;
        Ok(())
    }

    /// Sets the conditions for what one host sends to another, in this direction only; `None`: the same
    /// as for all. They cost memory for each link that has its own.
    ///
    /// # Errors
    ///
    /// When one of them is out of bounds; nothing changes.
    pub fn set_link(
        &mut self,
        from: Host,
        to: Host,
        conditions: Option<Conditions>,
    ) -> Result<(), ConfigError> {
        if let Some(conditions) = &conditions {
            conditions.validate()?;
        }
        self.network.set_link(from, to, conditions);
        Ok(())
    }

    /// Cuts some hosts off from all others, in both directions, until the partition is
    /// [healed](Self::heal); among themselves they reach each other. Hosts that are added
    /// later are with the others. What is under way between the two
    /// sides is lost. `None`: there are 32 partitions already, and this one does not come to be.
    pub fn partition(&mut self, hosts: impl IntoIterator<Item = Host>) -> Option<Partition> {
        let hosts: Vec<Host> = hosts.into_iter().filter(|host| host.number() < self.hosts.len()).collect();
        hosts.iter().for_each(|&host| self.note(Deed::Part, host));
        self.network.part(hosts).map(|(place, serial)| Partition { place, serial })
    }

    /// Ends a partition, unless it has ended already.
    pub fn heal(&mut self, Partition { place, serial }: Partition) {
        self.note(Deed::Heal, Host(place));
        self.network.heal(place, serial);
    }

    /// Makes a host dead to the world, or brings it back: its program runs, but nothing gets in or out.
    pub fn cut_off(&mut self, host: Host, off: bool) {
        self.note(if off { Deed::CutOff } else { Deed::BringBack }, host);
        if let Some(line) = self.line_mut(host) {
            line.cut_off = off;
        }
    }

    // -- who is where

    /// How many hosts there are, those included on which nothing runs any more.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Where others see a host: its address of IPv4, if it has one. Behind a translator, the port is the
    /// one that it had last.
    pub fn address(&self, host: Host) -> SocketAddr {
        self.address_of(host, self.family(host) == Family::V6)
    }

    /// A host's address of IPv6, if it has one.
    pub fn address_v6(&self, host: Host) -> Option<SocketAddr> {
        (self.family(host) != Family::V4).then(|| self.address_of(host, true))
    }

    /// The host at an address, if there is one.
    pub fn host_at(&self, addr: &SocketAddr) -> Option<Host> {
        let (host, v6) = host_at(addr)?;
        (host.number() < self.hosts.len() && self.family(host).has(v6)).then_some(host)
    }

    /// The node that runs on a host.
    pub fn node(&self, host: Host) -> Option<NodeKey> {
        match self.occupant(host) {
            Some(Occupant::Node(node)) => Some(*node),
            _ => None,
        }
    }

    /// The node on a host, as others know it.
    pub fn contact(&self, host: Host) -> Option<Contact> {
        Some(Contact { id: self.engine.id(self.node(host)?)?, addr: self.address(host) })
    }

    /// The foreign peer that runs on a host, to be asked or told something; what it then has to
    /// say goes out as time goes on. `None`: there is none, or it is not a `P`.
    pub fn peer_mut<P: Peer>(&mut self, host: Host) -> Option<&mut P> {
        let slot = self.hosts.get_mut(host.number())?;
        let Occupant::Peer(foreign) = &mut slot.occupant else { return None };
        let peer: &mut dyn std::any::Any = foreign.peer.as_mut();
        let peer = peer.downcast_mut()?;
        self.awake.push_back(host);
        Some(peer)
    }

    /// Counts and sizes of a host's node.
    pub fn stats(&self, host: Host) -> Option<Stats> {
        self.engine.stats(self.node(host)?)
    }

    /// The nodes themselves.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The time of day on a host's clock.
    pub fn unix(&self, host: Host) -> UnixTime {
        let place = self.setup(host).map(|setup| setup.place).unwrap_or_default();
        standing(host, &place).unix(self.now, self.engine.unix(self.now))
    }

    /// Puts a contact into the table of a host's node, if there is room, as if it had answered.
    pub fn assume_contact(&mut self, host: Host, contact: Contact) {
        self.assume_contacts(host, [contact]);
    }

    /// Puts contacts into the table of a host's node, where there is room, as if they had answered.
    pub fn assume_contacts(&mut self, host: Host, contacts: impl IntoIterator<Item = Contact>) {
        if let Some(node) = self.node(host) {
            self.engine.assume_contacts(self.now, node, contacts);
        }
    }

    // -- inside

    fn occupant(&self, host: Host) -> Option<&Occupant> {
        Some(&self.hosts.get(host.number())?.occupant)
    }

    fn setup(&self, host: Host) -> Option<&Setup> {
        self.hosts.get(host.number())?.setup.as_deref()
    }

    fn family(&self, host: Host) -> Family {
        self.hosts.get(host.number()).map_or(Family::V4, |slot| slot.family)
    }

    fn address_of(&self, host: Host, v6: bool) -> SocketAddr {
        let line = self.hosts.get(host.number()).and_then(|slot| slot.line.as_ref());
        let translator = line.and_then(|line| line.translator.as_ref());
        SocketAddr::new(ip(host, v6), translator.map_or(PORT, |translator| translator.port))
    }

    fn add_host(&mut self, place: &Place) -> Result<Host, StartError> {
        place.validate()?;
        if self.hosts.len() >= HOSTS as usize {
            let why = io::Error::new(io::ErrorKind::AddrNotAvailable, "a simulation has no more addresses");
            return Err(StartError::Bind(why));
        }
        let host = Host(self.hosts.len() as u32);
        let line = Line {
            upload: place.upload.map(Pipe::new),
            download: place.download.map(Pipe::new),
            translator: place.translation.map(Translator::new),
            ..Line::default()
        };
        let is_plain = line.upload.is_none() && line.download.is_none() && line.translator.is_none();
        self.hosts.push(Slot {
            occupant: Occupant::None,
            setup: None,
            id: None,
            line: (!is_plain).then(|| Box::new(line)),
            region: place.region,
            family: place.family,
            socket_buffer: u32::try_from(place.socket_buffer).unwrap_or(u32::MAX),
        });
        Ok(host)
    }

    fn put_peer(&mut self, host: Host, peer: Box<dyn Peer>) {
        self.note(Deed::Start, host);
        self.hosts[host.number()].occupant = Occupant::Peer(Box::new(Foreign { peer, armed: None }));
        self.awake.push_back(host);
    }

    fn start(&mut self, host: Host, setup: Setup, id: Option<Id>) -> Result<(), StartError> {
        // What nodes that are gone had to tell, before their places are used again.
        self.hear();
        let place = &setup.place;
        let local = match place.family {
            Family::V4 if place.translation.is_some() => IpAddr::V4(PRIVATE),
            Family::V4 => ip(host, false),
            Family::V6 => ip(host, true),
            Family::Both => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut options = setup.options.clone();
        // A file knows the node's id.
        options.id = options.id.or(id.filter(|_| options.store.is_none()));
        if options.store.is_some() && options.config.durability != Durability::Program {
            options.config =
                Arc::new(Config { durability: Durability::Program, ..(*options.config).clone() });
        }
        let standing = standing(host, place);
        let local = SocketAddr::new(local, PORT);
        let node = self.engine.add_node_standing(self.now, local, options, standing)?;
        let slot = &mut self.hosts[host.number()];
        (slot.occupant, slot.setup, slot.id) = (Occupant::Node(node), Some(Box::new(setup)), None);
        self.note_host(node, host);
        self.note(Deed::Start, host);
        Ok(())
    }

    fn stop(
        &mut self,
        host: Host,
        how: impl FnOnce(&mut Engine, crate::time::Time, NodeKey) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(slot) = self.hosts.get_mut(host.number()) else { return Ok(()) };
        let Occupant::Node(node) = std::mem::replace(&mut slot.occupant, Occupant::None) else {
            self.discard_waiting(host);
            return Ok(());
        };
        slot.id = self.engine.id(node).map(Box::new);
        self.discard_waiting(host);
        let stopped = how(&mut self.engine, self.now, node);
        self.hear();
        stopped
    }

    fn start_again(&mut self, host: Host, with_what_it_had: bool) -> Result<(), StartError> {
        if self.node(host).is_some() {
            self.crash(host)?;
        }
        let Some((setup, id)) =
            self.hosts.get_mut(host.number()).and_then(|slot| Some((slot.setup.take()?, slot.id.take())))
        else {
            let why = io::Error::new(io::ErrorKind::NotFound, "the host has no node to start again");
            return Err(StartError::Bind(why));
        };
        let deleted = if with_what_it_had { Ok(()) } else { delete_file(&setup.options) };
        let known = id.as_deref().copied().filter(|_| with_what_it_had);
        let started = deleted.and_then(|()| self.start(host, (*setup).clone(), known));
        if started.is_err() {
            let slot = &mut self.hosts[host.number()];
            (slot.setup, slot.id) = (Some(setup), id);
        }
        started
    }
}

fn standing(host: Host, place: &Place) -> Standing {
    let addresses = match (ip(host, false), ip(host, true)) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) if place.family == Family::Both => Some((v4, v6)),
        _ => None,
    };
    Standing { clock_offset: place.clock_offset, clock_drift: place.clock_drift, addresses }
}

/// Deletes a node's file, and what SQLite keeps beside it.
fn delete_file(options: &NodeOptions) -> Result<(), StartError> {
    let Some(path) = &options.store else { return Ok(()) };
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StartError::Bind(error)),
            _ => {}
        }
    }
    Ok(())
}
