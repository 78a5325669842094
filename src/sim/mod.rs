//! Whole networks in simulated time: the nodes that ship, on hosts that are not there.
//!
//! A [`Simulation`] drives an [`Engine`](crate::engine::Engine) as the reactor does, but with a
//! clock that jumps from event to event and with a model in the place of sockets.

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
