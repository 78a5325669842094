//! Airhook: streams and short messages between UDP addresses, each delivered exactly once.
//!
//! The protocol is Dan Egnor's of 2001; the C library of that time and the Khashmir of 2003
//! understand it. [`Endpoint`] is all there is to use: the connections of one UDP socket, for
//! programs that want Airhook and no distributed hash table. It does no I/O and reads no
//! clock: the program hands in datagrams and the time, and sends what comes out.
//!
//! ```
//! use khashmir::Config;
//! use khashmir::airhook::{Endpoint, Event, Stream};
//! use khashmir::time::Time;
//!
//! let [a, b] = ["192.0.2.1:4000".parse()?, "192.0.2.2:4000".parse()?];
//! // Real programs take their seeds from the system.
//! let mut at_a = Endpoint::<Stream>::new(Config::default(), [1; 32])?;
//! let mut at_b = Endpoint::<Stream>::new(Config::default(), [2; 32])?;
//!
//! let mut now = Time::ZERO;
//! at_a.send(now, b, b"a stream of bytes", Some(7))?;
//!
//! let (mut datagram, mut received, mut confirmed) = (Vec::new(), Vec::new(), false);
//! while !confirmed {
//!     // A wire that loses nothing and takes no time.
//!     while let Some(to) = at_a.poll_transmit(now, &mut datagram) {
//!         assert_eq!(to, b);
//!         at_b.receive(now, a, &datagram);
//!     }
//!     while at_b.poll_transmit(now, &mut datagram).is_some() {
//!         at_a.receive(now, b, &datagram);
//!     }
//!     while let Some(event) = at_b.poll_event() {
//!         if let Event::Received(peer, bytes) = event {
//!             assert_eq!(peer, a);
//!             received.extend(bytes);
//!         }
//!     }
//!     while let Some(event) = at_a.poll_event() {
//!         confirmed |= event == Event::Confirmed(b, 7);
//!     }
//!     // On to whatever is due next.
//!     if let Some(next) = at_a.next_deadline().into_iter().chain(at_b.next_deadline()).min() {
//!         now = now.max(next);
//!     }
//!     at_a.handle_timeout(now);
//!     at_b.handle_timeout(now);
//! }
//! assert_eq!(received, b"a stream of bytes");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With [`Messages`] it carries single messages of 1 to 255 bytes, as the C tools do:
//!
//! ```
//! use khashmir::Config;
//! use khashmir::airhook::{Endpoint, Event, Messages, SendError};
//! use khashmir::time::Time;
//!
//! let [a, b] = ["[2001:db8::1]:4000".parse()?, "[2001:db8::2]:4000".parse()?];
//! let mut at_a = Endpoint::<Messages>::new(Config::default(), [1; 32])?;
//! let mut at_b = Endpoint::<Messages>::new(Config::default(), [2; 32])?;
//!
//! let mut now = Time::ZERO;
//! at_a.send(now, b, b"one", None)?;
//! at_a.send(now, b, b"two", None)?;
//! assert_eq!(at_a.send(now, b, b"", None), Err(SendError::Length));
//!
//! let (mut datagram, mut received) = (Vec::new(), Vec::new());
//! while received.len() < 2 {
//!     while at_a.poll_transmit(now, &mut datagram).is_some() {
//!         at_b.receive(now, a, &datagram);
//!     }
//!     while at_b.poll_transmit(now, &mut datagram).is_some() {
//!         at_a.receive(now, b, &datagram);
//!     }
//!     while let Some(event) = at_b.poll_event() {
//!         if let Event::Received(_, message) = event {
//!             received.push(message);
//!         }
//!     }
//!     if let Some(next) = at_a.next_deadline().into_iter().chain(at_b.next_deadline()).min() {
//!         now = now.max(next);
//!     }
//!     at_a.handle_timeout(now);
//!     at_b.handle_timeout(now);
//! }
//! assert_eq!(received, [b"one", b"two"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! * **Exactly once.** What is sent arrives once, or is lost with its session, which is
//!   reported. A stream arrives in order and whole; messages are in order only while the
//!   network loses none.
//! * **Sessions.** There is no close. A session ends when a peer starts afresh, or is not
//!   heard for long while something is due ([`Config::max_silence`]); [`Event::Reset`] and
//!   [`Event::Forgotten`] say so. Whether the last of what was lost with it had arrived cannot be
//!   known.
//! * **Delivery.** A ticket given to [`Endpoint::send`] comes back exactly once, confirmed or lost.
//!   Confirmed means that the peer's Airhook has it, not that the program there has used it.
//! * **Back pressure.** What is queued for a peer is bounded: [`SendError::Full`], then
//!   [`Event::Writable`]. What has arrived is handed on at once; a program that wants to be
//!   sent less has to say so to its peer.
//! * **Strangers.** Nothing is handed on before its sender has shown that it receives our
//!   answers; until then it is sent no more than three times what it sent. Most strangers are
//!   answered by 13 bytes, and nothing is kept: the session in that answer is a keyed hash of the
//!   address, of the peer's session and of the time, good for 30 to 60 s. Only an opening that
//!   brings messages gets a connection at once, while there are fewer than
//!   [`Config::max_unproven`] such. No datagram makes an endpoint panic.
//! * **Forgeries.** A packet in a peer's name that begins another session changes nothing until
//!   its sender has shown that he receives what goes to that address. Where both sides are of this
//!   kind, each soon takes only packets that bear both sessions, 62 random bits. Peers of 2003
//!   leave them out: for them whoever guesses the number of their next packet can speak.
//! * **Bounds.** What others can make an endpoint keep is bounded by settings in [`Config`].
//! * **Other traffic.** What a connection sends is bounded by a congestion window. It doubles each
//!   round trip, from 16 packets, until something speaks against it, then grows by a packet each
//!   round trip. Where round trips are longer than the shortest ones lately, packets wait in a
//!   queue: then it is cut, once a round trip. A loss while none waits is taken for chance, and
//!   costs less. What is more than a first flight is spread over the round trip. At most 255
//!   packets and 255 messages are on their way: a stream brings no more than 64 kB each
//!   round trip, however fast the line.
//! * **Not promised:** secrecy, or proof of who a peer is. Whoever can read the packets on
//!   their way can read, forge and end what is said.
//!
//! [`Config`]: crate::Config
//! [`Config::max_silence`]: crate::Config::max_silence
//! [`Config::max_unproven`]: crate::Config::max_unproven
//!
//! # For those who read the source
//!
//! From below: `packet` is the format of a datagram; `round_trip`, `flight` (what is on its way)
//! and `window` (how much may be) are parts of `connection`, the machine at one end of a
//! connection: `connection/sessions` agrees on sessions and notices restarts, `early` lets packets
//! wait that came ahead of their turn, `settle` takes in acknowledgements and times ours, `probe`
//! asks after what is missing, `transmit` makes packets. `channel` is what a connection
//! carries, `stream` and `messages` are the two that there are. `opening` makes session ids that
//! need not be kept, `lru` says who was idle longest. `mux` is all the connections of one socket,
//! for nodes as for an `endpoint`: `mux/strangers` meets new addresses, `blocks` counts
//! those of a network, `room` bounds what is kept, `learned` remembers round trips, `patience` says how
//! long answers take, `delivery` tells what became of messages, `calls` belongs to nodes,
//! `traffic` counts.

#[doc(hidden)]
pub mod channel;
#[doc(hidden)]
pub mod connection;
#[doc(hidden)]
pub mod endpoint;
#[doc(hidden)]
pub mod flight;
#[doc(hidden)]
pub mod lru;
#[doc(hidden)]
pub mod messages;
#[doc(hidden)]
pub mod mux;
#[doc(hidden)]
pub mod opening;
#[doc(hidden)]
pub mod packet;
#[doc(hidden)]
pub mod round_trip;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod window;

#[doc(inline)]
pub use channel::Channel;
#[doc(inline)]
pub use endpoint::{Endpoint, Event};
#[doc(inline)]
pub use messages::Messages;
#[doc(inline)]
pub use mux::Traffic;
#[doc(inline)]
pub use stream::Stream;

pub use crate::error::SendError;
