//! The loop: one thread, one UDP socket, any number of TCP connections.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use khashmir::Config;
use khashmir::airhook::{Event, Stream};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::airhook::{Link, now, watch_signals};
use crate::flow::Flow;
use crate::frame::{Broken, Frame, MAX_DATA, Parser, emit_hello};

const SOCKET: Token = Token(0);
const LISTENER: Token = Token(1);
const SIGNAL: Token = Token(2);
/// The token of the first TCP connection.
const FIRST: usize = 3;

/// No data is added to this much that the peer has not confirmed: twice what Airhook has under way.
/// The rest of its queue is for frames without data.
const QUEUE: usize = 128 * 1024;
/// A peer with TCP connections hears of us this often, so that the connection to it is not
/// taken to be idle, and its loss is noticed.
const PING: Duration = Duration::from_secs(30);
/// How long new TCP connections are left alone when the system has no room for another.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
pub enum Role {
    /// Accepts TCP connections and has the other side open them.
    Accepts { tcp: SocketAddr, remote: SocketAddr },
    /// Opens TCP connections, for everybody or for one address.
    Connects { tcp: SocketAddr, from: Option<SocketAddr> },
}

/// What is between us and one other proxy, for one session of Airhook.
#[derive(Default)]
struct Session {
    parser: Parser,
    greeted: bool,
    /// It has been ended, and its own end has yet to be told of.
    broken: bool,
    /// The queue is full; an event will say when it is not.
    full: bool,
    /// TCP connections by their numbers.
    flows: BTreeMap<u32, usize>,
    /// Those that have something to read, in turn.
    readers: VecDeque<usize>,
}

pub struct Proxy {
    role: Role,
    poll: Poll,
    link: Link<Stream>,
    listener: Option<TcpListener>,
    /// Connections may be waiting to be accepted.
    acceptable: bool,
    accept_after: Option<Instant>,
    sessions: BTreeMap<SocketAddr, Session>,
    flows: Slab<Flow>,
    max_flows: usize,
    next_number: u32,
    next_ping: Instant,
    buffer: Box<[u8]>,
    frame: Vec<u8>,
    _signals: Box<dyn std::any::Any>,
}

impl Proxy {
    pub fn start(role: Role, bind: SocketAddr, max_flows: usize, config: Config) -> io::Result<Proxy> {
        let poll = Poll::new()?;
        let signals = watch_signals(poll.registry(), SIGNAL)?;
        let link = Link::bind(bind, config, poll.registry(), SOCKET)?;
        let listener = match role {
            Role::Accepts { tcp, .. } => {
                let mut listener = TcpListener::bind(tcp)?;
                poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
                Some(listener)
            }
            Role::Connects { .. } => None,
        };
        Ok(Proxy {
            role,
            poll,
            link,
            listener,
            acceptable: true,
            accept_after: None,
            sessions: BTreeMap::new(),
            flows: Slab::new(),
            max_flows,
            next_number: 0,
            next_ping: now() + PING,
            buffer: vec![0; MAX_DATA].into(),
            frame: Vec::new(),
            _signals: Box::new(signals),
        })
    }

    /// Where it listens, a line each.
    pub fn addresses(&self) -> io::Result<String> {
        let udp = format!("udp {}", self.link.local_addr()?);
        match &self.listener {
            Some(listener) => Ok(format!("{udp}\ntcp {}", listener.local_addr()?)),
            None => Ok(udp),
        }
    }

    /// Until a signal comes.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let only = match self.role {
            Role::Accepts { remote, .. } => Some(remote),
            Role::Connects { from, .. } => from,
        };
        loop {
            self.accept();
            self.link.transmit(self.poll.registry());
            match self.poll.poll(&mut events, self.timeout()) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SOCKET => self.link.handle(event, self.poll.registry()),
                    LISTENER => self.acceptable = true,
                    SIGNAL => {
                        self.leave();
                        return Ok(());
                    }
                    Token(token) => self.handle_flow(token - FIRST, event),
                }
            }
            self.link.receive(only);
            self.take_events();
            self.link.endpoint.handle_timeout(self.link.now());
            self.take_events();
            self.ping();
        }
    }

    /// Has all connections end at the other sides, too.
    fn leave(&mut self) {
        let flows: Vec<_> = self.flows.iter().map(|(_, flow)| (flow.peer, flow.number)).collect();
        for (peer, number) in flows {
            self.say(peer, Frame::Reset(number));
        }
        self.link.transmit(self.poll.registry());
    }

    fn timeout(&self) -> Option<Duration> {
        let flows = (!self.flows.is_empty()).then_some(self.next_ping);
        let own = [flows, self.accept_after].into_iter().flatten().min();
        let own = own.map(|at| at.saturating_duration_since(now()));
        self.link.timeout().into_iter().chain(own).min()
    }

    /// Shows peers that we are there.
    fn ping(&mut self) {
        if now() < self.next_ping {
            return;
        }
        self.next_ping = now() + PING;
        let with_flows = self.sessions.iter().filter(|(_, session)| !session.flows.is_empty());
        for peer in with_flows.map(|(&peer, _)| peer).collect::<Vec<_>>() {
            self.say(peer, Frame::Ping);
        }
    }

    // -- the other proxy

    fn take_events(&mut self) {
        while let Some(event) = self.link.endpoint.poll_event() {
            match event {
                Event::Connected(peer) => log::info!("{peer}: connected"),
                Event::Received(peer, bytes) => self.take_bytes(peer, &bytes),
                Event::Writable(peer) => {
                    if let Some(session) = self.sessions.get_mut(&peer) {
                        session.full = false;
                    }
                    self.read_flows(peer);
                }
                Event::Reset(peer) | Event::Forgotten(peer) => self.end_session(peer),
                _ => {}
            }
        }
    }

    fn take_bytes(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let session = self.sessions.entry(peer).or_default();
        if session.broken {
            return;
        }
        let mut parser = std::mem::take(&mut session.parser);
        let result = parser.feed(bytes, |frame| self.take_frame(peer, frame));
        match (result, self.sessions.get_mut(&peer)) {
            (Ok(()), Some(session)) => session.parser = parser,
            (Err(Broken), _) => {
                log::warn!("{peer}: it does not speak as an airproxy does");
                self.break_off(peer);
            }
            (Ok(()), None) => {}
        }
    }

    fn take_frame(&mut self, peer: SocketAddr, frame: Frame<'_>) -> Result<(), Broken> {
        let number = match frame {
            Frame::Open(number) => return self.open_flow(peer, number),
            Frame::Ping => return Ok(()),
            Frame::Data(number, _) | Frame::Credit(number, _) | Frame::End(number) | Frame::Reset(number) => {
                number
            }
        };
        let Some(&key) = self.sessions.get(&peer).and_then(|session| session.flows.get(&number)) else {
            // It has ended here in the meantime.
            return Ok(());
        };
        let Some(flow) = self.flows.get_mut(key) else {
            return Ok(());
        };
        match frame {
            Frame::Data(_, bytes) => flow.take(bytes)?,
            Frame::Credit(_, more) => flow.add_credit(more)?,
            Frame::End(_) => flow.take_end()?,
            _ => {
                self.drop_flow(key);
                return Ok(());
            }
        }
        self.serve_flow(key);
        Ok(())
    }

    /// The other side has accepted a TCP connection.
    fn open_flow(&mut self, peer: SocketAddr, number: u32) -> Result<(), Broken> {
        let Role::Connects { tcp, .. } = self.role else {
            return Err(Broken);
        };
        if self.sessions.get(&peer).is_some_and(|session| session.flows.contains_key(&number)) {
            return Err(Broken);
        }
        let stream = if self.flows.len() < self.max_flows {
            TcpStream::connect(tcp)
        } else {
            Err(io::Error::other("there are too many connections"))
        };
        if let Err(e) = stream.and_then(|stream| self.add_flow(stream, peer, number, true)) {
            log::info!("{peer} {number}: {tcp}: {e}");
            self.say(peer, Frame::Reset(number));
        }
        Ok(())
    }

    /// Sends a frame. When there is no room for it the peer has not taken for long what it must.
    fn say(&mut self, peer: SocketAddr, frame: Frame<'_>) {
        let session = self.sessions.entry(peer).or_default();
        if session.broken {
            return;
        }
        self.frame.clear();
        if !std::mem::replace(&mut session.greeted, true) {
            emit_hello(&mut self.frame);
        }
        frame.emit(&mut self.frame);
        if let Err(e) = self.link.endpoint.send(self.link.now(), peer, &self.frame, None) {
            log::warn!("{peer}: {e}");
            self.break_off(peer);
        }
    }

    /// Ends the session with a peer. What it was about ends when that event comes.
    fn break_off(&mut self, peer: SocketAddr) {
        self.sessions.entry(peer).or_default().broken = true;
        self.link.endpoint.reset(self.link.now(), peer);
    }

    /// All TCP connections of a session are lost with it.
    fn end_session(&mut self, peer: SocketAddr) {
        let Some(session) = self.sessions.remove(&peer) else { return };
        if !session.flows.is_empty() {
            log::info!("{peer}: the session has ended, and {} connections with it", session.flows.len());
        }
        for key in session.flows.into_values() {
            self.drop_flow(key);
        }
    }

    // -- TCP

    /// Takes new TCP connections.
    fn accept(&mut self) {
        let Role::Accepts { remote, .. } = self.role else { return };
        if self.accept_after.is_some_and(|at| now() < at) {
            return;
        }
        self.accept_after = None;
        while self.acceptable && self.flows.len() < self.max_flows {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, from)) => {
                    // Numbers come round after four billion connections.
                    let taken =
                        |number| self.sessions.get(&remote).is_some_and(|s| s.flows.contains_key(&number));
                    while taken(self.next_number) {
                        self.next_number = self.next_number.wrapping_add(1);
                    }
                    let number = self.next_number;
                    self.next_number = number.wrapping_add(1);
                    log::info!("{remote} {number}: from {from}");
                    match self.add_flow(stream, remote, number, false) {
                        Ok(()) => self.say(remote, Frame::Open(number)),
                        Err(e) => log::warn!("{remote} {number}: {e}"),
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    log::warn!("accepting: {e}");
                    self.accept_after = Some(now() + PAUSE);
                    return;
                }
            }
        }
    }

    fn add_flow(
        &mut self,
        mut tcp: TcpStream,
        peer: SocketAddr,
        number: u32,
        connecting: bool,
    ) -> io::Result<()> {
        let entry = self.flows.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut tcp, Token(FIRST + entry.key()), interest)?;
        self.sessions.entry(peer).or_default().flows.insert(number, entry.key());
        entry.insert(Flow::new(tcp, peer, number, connecting));
        Ok(())
    }

    /// Mio says something about a TCP connection, or about one that had its place.
    fn handle_flow(&mut self, key: usize, event: &mio::event::Event) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        match flow.handle(event) {
            Ok(()) => self.serve_flow(key),
            Err(e) => self.fail_flow(key, &e),
        }
    }

    /// Does what can be done for a TCP connection now.
    fn serve_flow(&mut self, key: usize) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let (peer, number) = (flow.peer, flow.number);
        match flow.write() {
            Ok(None) => {}
            Ok(Some(credit)) => self.say(peer, Frame::Credit(number, credit)),
            Err(e) => return self.fail_flow(key, &e),
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.is_done() {
            log::info!("{peer} {number}: done");
            return self.close_flow(key);
        }
        if flow.wants_to_read()
            && !flow.lined_up
            && let Some(session) = self.sessions.get_mut(&peer)
        {
            flow.lined_up = true;
            session.readers.push_back(key);
            self.read_flows(peer);
        }
    }

    /// Sends what TCP connections to this peer have brought, a piece of each in turn, as much
    /// as there is room for.
    fn read_flows(&mut self, peer: SocketAddr) {
        loop {
            let Some(session) = self.sessions.get_mut(&peer) else { return };
            if session.full || session.broken || session.readers.is_empty() {
                return;
            }
            if self.link.endpoint.unconfirmed(peer) + MAX_DATA > QUEUE {
                session.full = true;
                self.link.endpoint.want_room(self.link.now(), peer, QUEUE / 2);
                return;
            }
            let Some(key) = session.readers.pop_front() else { return };
            // Another may have its place, and what it wants to is asked below.
            let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.peer == peer) else { continue };
            flow.lined_up = false;
            if !flow.wants_to_read() {
                continue;
            }
            let number = flow.number;
            let mut buffer = std::mem::take(&mut self.buffer);
            match flow.read(&mut buffer) {
                Ok(Some(0)) => self.say(peer, Frame::End(number)),
                Ok(Some(length)) => self.say(peer, Frame::Data(number, &buffer[..length])),
                Ok(None) => {}
                Err(e) => self.fail_flow(key, &e),
            }
            self.buffer = buffer;
            let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.number == number) else { continue };
            if flow.is_done() {
                self.close_flow(key);
            } else if flow.wants_to_read() && !flow.lined_up {
                flow.lined_up = true;
                if let Some(session) = self.sessions.get_mut(&peer) {
                    session.readers.push_back(key);
                }
            }
        }
    }

    /// A TCP connection has failed here: it shall at the other side, too.
    fn fail_flow(&mut self, key: usize, error: &io::Error) {
        if let Some(flow) = self.flows.get(key) {
            let (peer, number) = (flow.peer, flow.number);
            log::info!("{peer} {number}: {error}");
            self.drop_flow(key);
            self.say(peer, Frame::Reset(number));
        }
    }

    /// Ends a TCP connection so that its program sees that it failed.
    fn drop_flow(&mut self, key: usize) {
        self.take_flow(key);
    }

    /// Closes a TCP connection that has come to its end.
    fn close_flow(&mut self, key: usize) {
        if let Some(flow) = self.take_flow(key) {
            flow.close();
        }
    }

    fn take_flow(&mut self, key: usize) -> Option<Flow> {
        let mut flow = self.flows.try_remove(key)?;
        if let Some(session) = self.sessions.get_mut(&flow.peer) {
            session.flows.remove(&flow.number);
        }
        let _ = self.poll.registry().deregister(&mut flow.tcp);
        Some(flow)
    }
}
