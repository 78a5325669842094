//! Airhook: short messages, delivered exactly once between two UDP addresses.
//!
//! From below: [`packet`] is the format of a datagram, [`connection`] the
//! machine at one end of a connection, [`stream`] an ordered stream of bytes
//! over its messages, [`mux`] all the connections of one socket.
//!
//! The protocol is Dan Egnor's of 2001. What it promises: a message is
//! delivered exactly once or reported lost; order is not kept when messages are
//! lost, which is why there is a stream on top. There is no close: a connection
//! that has been idle for long is forgotten, and comes back when either side speaks.

pub mod channel;
pub mod connection;
pub mod flight;
pub mod lru;
pub mod messages;
pub mod mux;
pub mod packet;
pub mod round_trip;
pub mod stream;
