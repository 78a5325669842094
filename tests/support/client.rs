//! A peer that asks one node, over an Airhook endpoint of its own: as many requests at a time as its
//! queue takes, and no word about what was answered twice. Time is its driver's.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;

use khashmir::airhook::{Endpoint, Event};
use khashmir::krpc::message::{self, Fault, Message, Method};
use khashmir::krpc::netstring;
use khashmir::random::seed_from_number;
use khashmir::time::Time;
use khashmir::{Config, Contact};

/// What the node said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response without values or nodes, as to a ping and to a value that was stored.
    Done,
    /// An error, in words.
    Refused(String),
    Values(Vec<Vec<u8>>),
    Nodes,
}

pub struct Client {
    own: Contact,
    node: SocketAddr,
    endpoint: Endpoint,
    /// Whether the node has shown that it receives what is sent.
    connected: bool,
    /// Whether the session was lost in between.
    pub interrupted: bool,
    stream: Vec<u8>,
    /// The numbers of requests, and what was said to them.
    pub answers: VecDeque<(u64, Answer)>,
    out: Vec<u8>,
}

impl Client {
    /// It opens its connection at once.
    pub fn new(now: Time, own: Contact, node: SocketAddr, seed: u64) -> Self {
        let config = Config { max_queued: 4 << 20, ..Config::default() };
        let mut endpoint = Endpoint::new(config, seed_from_number(seed)).expect("settings as they may be");
        endpoint.connect(now, node);
        Client {
            own,
            node,
            endpoint,
            connected: false,
            interrupted: false,
            stream: Vec::new(),
            answers: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Whether requests may be sent: the node takes no values from whoever may be elsewhere.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Sends a request under a number; false when there is no room now.
    pub fn ask(&mut self, now: Time, number: u64, method: &Method<'_>) -> bool {
        self.out.clear();
        message::request(&mut self.out, &number.to_be_bytes(), &self.own, method).expect("short enough");
        self.endpoint.send(now, self.node, &self.out, None).is_ok()
    }

    /// Bytes that the node has not confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.endpoint.unconfirmed(self.node)
    }

    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if from == self.node {
            self.endpoint.receive(now, from, datagram);
            self.hear(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Time) {
        self.endpoint.handle_timeout(now);
        self.hear(now);
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.endpoint.next_deadline()
    }

    pub fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.endpoint.poll_transmit(now, buf)
    }

    fn hear(&mut self, now: Time) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Connected(_) => self.connected = true,
                Event::Received(_, bytes) => {
                    self.stream.extend_from_slice(&bytes);
                    self.read(now);
                }
                Event::Reset(_) | Event::Forgotten(_) => {
                    (self.connected, self.interrupted) = (false, true);
                    self.stream.clear();
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, now: Time) {
        let mut used = 0;
        self.out.clear();
        while let Some(taken) = netstring::take(&self.stream[used..], 100_000).expect("netstrings") {
            let body = &self.stream[used..][taken.body];
            match Message::parse(body).expect("a message") {
                Message::Request(request) => match request.method {
                    Method::Ping | Method::StoreValue { .. } | Method::HandOn { .. } => {
                        message::response_empty(&mut self.out, request.tid, &self.own);
                    }
                    _ => message::response_nodes(&mut self.out, request.tid, &self.own, &[]),
                },
                Message::Response(response) => {
                    let answer = if let Some(values) = response.values() {
                        Answer::Values(values.map(<[u8]>::to_vec).collect())
                    } else if response.nodes().is_some() {
                        Answer::Nodes
                    } else {
                        Answer::Done
                    };
                    self.answers.push_back((number(response.tid), answer));
                }
                Message::Error(reply) => {
                    let text = match reply.error {
                        Fault::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        Fault::Number(number) => number.to_string(),
                    };
                    self.answers.push_back((number(reply.tid), Answer::Refused(text)));
                }
            }
            used += taken.consumed;
        }
        self.stream.drain(..used);
        if !self.out.is_empty() {
            // Without room the node does without it.
            let _ = self.endpoint.send(now, self.node, &self.out, None);
        }
    }
}

fn number(tid: &[u8]) -> u64 {
    u64::from_be_bytes(tid.try_into().expect("a number that was sent"))
}
