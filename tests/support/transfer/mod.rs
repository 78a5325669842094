//! How fast Airhook is on bad networks, and how polite on full ones: the multiplexers that ship, on a
//! model of a network, in virtual time. Everything follows from the seed and is counted in integers, so
//! a table is the same on every machine.
#![allow(dead_code)]

pub mod lossy;
pub mod network;
