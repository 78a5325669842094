//! Whole networks in simulated time: the nodes that ship, on hosts that are not there.
//!
//! A [`Simulation`] drives an [`Engine`](crate::engine::Engine) as the reactor does, but with a clock
//! that jumps from event to event, and with a model in the place of sockets. Hours pass in seconds, any
//! number of nodes share one thread, and all that happens follows from a seed. It is there for
//! experiments with networks of up to hundreds of thousands of nodes, and for tests of programs that
//! embed this crate: what does mine do when every tenth datagram is lost, when a third of its peers
//! vanish, when its host sleeps for a minute?
//!
//! It takes the crate's feature `sim`, best for tests alone: name the crate once more under
//! `dev-dependencies`, from where `dependencies` has it:
//!
//! ```toml
//! [dependencies]
//! khashmir = { git = "…" }
//!
//! [dev-dependencies]
//! khashmir = { git = "…", features = ["sim"] }
//! ```
//!
//! # A test
//!
//! ```
//! use khashmir::Id;
//! use khashmir::sim::{Conditions, Latency, Setup, Simulation, seed_or};
//! use std::time::Duration;
//!
//! let mut sim = Simulation::new(seed_or(1))?;
//! sim.set_conditions(Conditions {
//!     latency: Latency::LogNormal { median: Duration::from_millis(60), sigma: 400 },
//!     loss: 100_000, // of a million: every tenth
//!     ..Conditions::default()
//! })?;
//! let first = sim.add_node(Setup::default())?;
//! let mut hosts = vec![first];
//! for _ in 1..20 {
//!     let host = sim.add_node(Setup::default())?;
//!     sim.join(host, first)?;
//!     hosts.push(host);
//! }
//!
//! let key = Id::of(b"the answer");
//! sim.put(hosts[7], key, "42")?;
//! sim.crash(hosts[7])?;
//! sim.run(Duration::from_secs(3600));
//! assert_eq!(sim.get(hosts[13], key)?, [b"42"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`join`](Simulation::join), [`put`](Simulation::put) and [`get`](Simulation::get) let time go on
//! until they are done. A program that does several things at once begins operations with
//! [`store_value`](Simulation::store_value) and its like, asks for alarms with
//! [`schedule`](Simulation::schedule), and hears of both, in order, from [`next`](Simulation::next);
//! [`wait`](Simulation::wait) and [`run_until`](Simulation::run_until) stand between the two. The
//! example `simulated_program` tests the logic of a small program that way.
//!
//! # What can be made to happen
//!
//! * To datagrams: [`Conditions`], for [all](Simulation::set_conditions) or for
//!   [one link](Simulation::set_link): latency, jitter, losses one by one and in bursts, duplicates,
//!   reordering, a largest size.
//! * To hosts, by their [`Place`]: lines of limited bandwidth, address translation, regions, IPv6,
//!   clocks that are wrong.
//! * In the course of time: nodes are [added](Simulation::add_node) and [leave](Simulation::remove),
//!   [crash](Simulation::crash) and are [restarted](Simulation::restart), with their file or
//!   [without](Simulation::restart_afresh); programs [stand still](Simulation::freeze);
//!   [partitions](Simulation::partition) come and [heal](Simulation::heal), hosts are
//!   [cut off](Simulation::cut_off). How long sessions last and when things happen is drawn from
//!   [`quantile`].
//! * [Foreign peers](Peer): programs that are no nodes of this crate, on hosts like any others.
//!
//! A host takes some 220 bytes beside its node, some 50 when it is [forgotten](Simulation::forget); a
//! datagram under way takes 100 and its bytes. The simulator itself handles about a million datagrams
//! per second; nodes take ten times as long to make sense of them.
//!
//! # Whole experiments
//!
//! A [`Scenario`] says what a network is, what befalls it and what is asked of it meanwhile; its
//! [`Report`] has what was found, what that took and how long, and what the tables look like. The example
//! `sim` runs those that have a [name](Scenario::named), and any that its options describe.
//!
//! # The same every time
//!
//! The same calls with the same seed bring the same events, on every machine: time is counted in
//! microseconds, all arithmetic is in integers, distributions are drawn through committed
//! [tables](quantile), the generator is ChaCha with 12 rounds, whose output is defined, and nothing
//! depends on the order of a hash map. [`Simulation::digest`] sums up all that has happened, so two runs
//! can be compared. What may differ from machine to machine is what the operating system says when a
//! node's file cannot be used.
//!
//! When a thread panics that has a simulation at hand, its seed is printed with a command that repeats
//! the run; [`seed_or`] takes the seed from there.

mod digest;
mod event;
mod hosts;
mod line;
mod link;
mod network;
mod operations;
pub mod original;
mod outcome;
mod place;
pub mod quantile;
mod report;
mod scenario;
mod seed;
mod simulation;
mod tables;
mod way;

pub use hosts::Partition;
pub use network::{ALL, Bursts, Conditions, Latency, Regions};
pub use operations::Ended;
pub use place::{Bandwidth, Family, Place, Reach, Translation};
pub use report::{Depth, Phase, Report, Sample, Tally, Traffic};
pub use scenario::{Churn, Cut, Entry, Lookups, Scenario, Session, Values};
pub use seed::{SEED_VARIABLE, seed_or};
pub use simulation::{Happening, Host, Losses, Peer, START, Setup, Simulation};
