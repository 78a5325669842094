//! A node on such a disk, and who stores with it, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use khashmir::context::Routes;
use khashmir::engine::{Engine, Event, Outcome};
use khashmir::krpc::message::Method;
use khashmir::random::seed_from_number;
use khashmir::time::Time;
use khashmir::{Config, NodeKey, NodeOptions, StartError};

use super::client::{Answer, Client};
use super::*;

/// The time of day at the start.
const START: i64 = 1_000_000_000;
const LIFETIME: Duration = Duration::from_secs(3600);

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// A node with a file, and who stores with it, in virtual time.
struct House<'a> {
    path: &'a Path,
    engine: Engine,
    node: Option<NodeKey>,
    now: Time,
    clients: u16,
    /// What was acknowledged, and when that was last.
    acknowledged: BTreeMap<(Id, Vec<u8>), Time>,
}

fn home() -> SocketAddr {
    ([10, 0, 0, 1], 4000).into()
}

impl House<'_> {
    /// Whether the node runs, perhaps now again.
    fn start(&mut self) -> bool {
        if self.node.is_none() {
            let config = Config {
                value_lifetime: LIFETIME,
                expiry_interval: Duration::from_secs(60),
                checkpoint_interval: Duration::from_secs(60),
                durability: store::DURABILITY,
                ..Config::default()
            };
            let options = NodeOptions { config: Arc::new(config), id: None, store: Some(self.path.into()) };
            match self.engine.add_node(self.now, home(), options) {
                Ok(node) => self.node = Some(node),
                Err(StartError::Store(error)) => {
                    assert!(store::is_of_the_disk(&error), "{error}");
                    assert!(vfs::standing().failed > 0, "{error}, and nothing was wrong");
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.node.is_some()
    }

    /// Lets time go on, for the node alone.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.drain(None);
            match self.engine.next_deadline().filter(|&due| due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Brings what the node says to a client, or nowhere; whether there was anything.
    fn drain(&mut self, mut client: Option<(&mut Client, SocketAddr)>) -> bool {
        let mut buffer = Vec::new();
        let mut any = false;
        while let Some(node) = self.engine.poll_ready() {
            while let Some(to) = self.engine.poll_transmit(self.now, node, &mut buffer) {
                any = true;
                if let Some((client, addr)) = &mut client
                    && to == *addr
                {
                    client.receive(self.now, home(), &buffer);
                }
            }
        }
        while self.engine.poll_event().is_some() {}
        any
    }

    /// Somebody stores these values, all at once; each is answered. How many are taken.
    fn store(&mut self, numbers: std::ops::Range<u32>, length: usize) -> usize {
        if !self.start() {
            return 0;
        }
        let node = self.node.expect("a node");
        self.clients += 1;
        let addr = SocketAddr::from(([10, 0, 1, 1], self.clients));
        let own = Contact { id: Id::of(&self.clients.to_be_bytes()), addr };
        let mut client = Client::new(self.now, own, home(), self.clients.into());
        let mut asked = false;
        let (mut taken, mut answered) = (0, 0);
        let deadline = self.now + Duration::from_secs(30);
        let mut buffer = Vec::new();
        while answered < numbers.len() {
            if client.is_connected() && !asked {
                asked = true;
                for number in numbers.clone() {
                    let value = value(number, length);
                    let method = Method::StoreValue { key: key(number), value: &value, life: None };
                    assert!(client.ask(self.now, number.into(), &method));
                }
            }
            // All that comes at once is one turn of the loop.
            let mut any = false;
            while let Some(to) = client.poll_transmit(self.now, &mut buffer) {
                assert_eq!(to, home());
                any = true;
                self.engine.receive(self.now, node, addr, &buffer);
            }
            any |= self.drain(Some((&mut client, addr)));
            while let Some((number, answer)) = client.answers.pop_front() {
                answered += 1;
                match answer {
                    Answer::Done => {
                        taken += 1;
                        let number = number as u32;
                        self.acknowledged.insert((key(number), value(number, length)), self.now);
                    }
                    Answer::Refused(why) => {
                        assert!(vfs::standing().failed > 0 || REACHED.get(), "{why}, and nothing was wrong");
                    }
                    other => panic!("{other:?}"),
                }
            }
            if !any {
                let due = client.next_deadline().into_iter().chain(self.engine.next_deadline()).min();
                self.now = self.now.max(due.expect("somebody waits"));
                assert!(self.now < deadline, "the node does not answer");
                client.handle_timeout(self.now);
                self.engine.handle_timeout(self.now);
            }
        }
        taken
    }

    fn stop(&mut self, crash: bool) {
        if let Some(node) = self.node.take() {
            let stopped = if crash {
                self.engine.crash_node(self.now, node)
            } else {
                self.engine.remove_node(self.now, node)
            };
            if let Err(error) = stopped {
                assert!(store::is_of_the_disk(&error), "{error}");
            }
        }
    }

    /// What was acknowledged and has time left is in the file, or in a copy of it.
    fn examine(&self) {
        let copy = directory();
        let path = copy.path().join("node.db");
        let values: Contents = if copied(self.path, &path) {
            Store::open(&path).expect("a sound file").values().expect("values").into_iter().collect()
        } else {
            Contents::new()
        };
        for (value, at) in &self.acknowledged {
            let lives = self.now - *at + Duration::from_secs(2) < LIFETIME;
            assert!(!lives || values.contains(value), "a value that was acknowledged is lost");
        }
    }
}

/// A day in the life of a node.
pub fn life(fault: Fault) {
    let directory = directory();
    let path = directory.path().join("node.db");
    let engine = vfs::without(|| Engine::new(seed_from_number(1), UnixTime(START), Box::new(NoRoutes)));
    let engine = engine.expect("an engine");
    let acknowledged = BTreeMap::new();
    let mut house = House { path: &path, engine, node: None, now: Time::ZERO, clients: 0, acknowledged };
    let mut examined = false;
    let look = |house: &mut House<'_>, examined: &mut bool| {
        if vfs::standing().failed > 0 && !*examined {
            *examined = true;
            if fault.span == Span::Noticed {
                lift();
            }
            vfs::without(|| house.examine());
        }
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    house.store(0..5, 700);
    look(&mut house, &mut examined);
    house.store(5..25, 2500);
    look(&mut house, &mut examined);
    house.run(minutes(40));
    look(&mut house, &mut examined);
    // Some of them again.
    house.store(0..3, 700);
    house.store(25..30, 100);
    look(&mut house, &mut examined);
    house.stop(false);
    look(&mut house, &mut examined);
    house.store(30..35, 1000);
    look(&mut house, &mut examined);
    // The second lot expires.
    house.run(minutes(30));
    look(&mut house, &mut examined);
    house.store(35..38, 10);
    look(&mut house, &mut examined);
    house.stop(true);
    house.store(40..43, 10);
    look(&mut house, &mut examined);
    lift();
    vfs::without(|| house.examine());
    assert_eq!(house.store(50..55, 1000), 5, "the disk works again, and the node does not");
    house.examine();
    house.stop(false);
    house.examine();
    assert_eq!(house.store(60..62, 1000), 2);
}

/// A node alone, whose owner is told of each value whether it is kept and renewed; and then crashes.
fn owner(_: Fault) {
    let directory = directory();
    let path = directory.path().join("node.db");
    let engine = vfs::without(|| Engine::new(seed_from_number(1), UnixTime(START), Box::new(NoRoutes)));
    let engine = engine.expect("an engine");
    let acknowledged = BTreeMap::new();
    let mut house = House { path: &path, engine, node: None, now: Time::ZERO, clients: 0, acknowledged };
    let mut renewed = Vec::new();
    for number in 0..8 {
        if !house.start() {
            continue;
        }
        let (key, value) = (key(number), value(number, 900));
        house.engine.store_value(house.now, house.node.expect("a node"), key, value.clone(), None, None);
        let mut told = 0;
        while let Some(Event::Operation { outcome, .. }) = house.engine.poll_event() {
            told += 1;
            if let Outcome::Stored(Ok(stored)) = outcome {
                assert_eq!(stored.accepted().count(), 1);
                house.acknowledged.insert((key, value.clone()), house.now);
                if stored.renewed {
                    renewed.push((key, value.clone()));
                }
            }
        }
        assert_eq!(told, 1);
    }
    assert!(vfs::standing().failed > 0 || renewed.len() == 8);
    lift();
    house.stop(true);
    vfs::without(|| {
        house.examine();
        if !renewed.is_empty() {
            let published = Store::open(&path).expect("a sound file").published().expect("values");
            assert!(renewed.iter().all(|value| published.contains(value)), "one will not be renewed");
        }
    });
}

#[test]
fn what_the_owner_is_told_holds() {
    try_all(&WRITING, Extent::All, owner);
}

#[test]
fn a_node_on_a_disk_that_fails_lives_on() {
    assert!(try_all(&WRITING, Extent::Some(7), life) > 100);
}

#[test]
#[ignore = "takes a while without optimisation"]
fn a_node_lives_on_whatever_fails_in_every_way() {
    try_all(&WRITING, Extent::All, life);
    try_all(&READING, Extent::All, life);
}
