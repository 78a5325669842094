//! Whole networks in simulated time: the nodes that ship, on hosts that are not there.
//!
//! A [`Simulation`] drives an [`Engine`](crate::engine::Engine) as the reactor does, but with a
//! clock that jumps from event to event and with a model in the place of sockets.

mod digest;
mod event;
mod network;
pub mod quantile;
mod report;
mod scenario;
mod simulation;
mod tables;

pub use network::{Conditions, Latency};
pub use simulation::{Happening, Host, Peer, Setup, Simulation};
pub use report::{Depth, Phase, Report, Sample, Tally, Traffic};
pub use scenario::{Churn, Entry, Lookups, Partition, Scenario, Session, Values};
