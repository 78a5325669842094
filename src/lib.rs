//! A distributed hash table to embed.
//!
//! Nodes find each other by XOR distance ([Kademlia]), keep several values under
//! each 160-bit key, forget them after 24 hours, and keep what they hold in
//! SQLite, in memory or in a file. They speak over Airhook, a reliable datagram
//! protocol with many connections on one UDP socket, so a value may be larger
//! than a datagram, and a network that loses packets costs little. It is the
//! Khashmir of 2003 brought back: nodes of that time can join.
//!
//! [Kademlia]: https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf
//!
//! ```
//! use khashmir::{Id, Khashmir};
//!
//! let a = Khashmir::new("127.0.0.1", 0)?;
//! let b = Khashmir::new("127.0.0.1", 0)?;
//! b.join("127.0.0.1", a.local_addr().port())?;
//!
//! let key = Id::of(b"the answer");
//! b.put(key, "42")?;
//! assert_eq!(a.get(key)?, [b"42"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Three ways in
//!
//! * [`Khashmir`]: a node on a thread of the crate's own, which all nodes of a
//!   process share. Callbacks, or calls that block. `Clone + Send + Sync`.
//! * [`reactor::Reactor`]: the event loop itself, on a thread of yours or inside a
//!   loop of yours (it has a file descriptor and a next deadline). Closures get your
//!   data as an argument; nothing needs a lock.
//! * [`engine::Engine`]: the core without any I/O: bytes, time and a seed go in;
//!   bytes, deadlines and events come out. For drivers of your own.
//!
//! Airhook serves programs that want no hash table, too: [`airhook::Endpoint`].
//!
//! And one more for tests: with the feature `sim`, `sim::Simulation` runs whole networks of
//! nodes in simulated time, the same way for the same seed, under losses, delays, crashes and
//! partitions as you ask for them.
//!
//! # Features
//!
//! * `bundled` (on by default): builds the SQLite that rusqlite ships; without it the system's
//!   library is linked.
//! * `sim`: the simulator, for tests of programs that embed this crate and for experiments.
//!   Without it nothing of it is compiled.
//! * `offload`: many datagrams by one call of the system, where it can (Linux); for programs that move
//!   much by [`airhook::Endpoint`]. See [`udp`] for what it changes. It brings the crates `quinn-udp` and
//!   `socket2`.
//!
//! # What you can rely on
//!
//! * **Threads.** One, with one event loop, for as many nodes as you like. None at
//!   all with a [`reactor::Reactor`] of your own. No async runtime.
//! * **Values.** [`Khashmir::put`] succeeds when at least
//!   [`Config::store_redundancy`] nodes have the value in their stores (committed,
//!   before they say so), or all that could be found, if those are fewer; the node
//!   itself counts when it is among the [`Config::k`] nearest to the key, but is not
//!   enough when it knows others and reaches none. Whether it succeeds or not, there is a
//!   [`Receipt`] from each node that was asked. The value is stored
//!   again every [`Config::renew_interval`] while the node lives, until it is
//!   [withdrawn](Khashmir::withdraw), or once only,
//!   [with a life of its own](Khashmir::with_life); after that it lives for [`Config::value_lifetime`],
//!   handed on with its age when its holders leave.
//!   A search brings every value that the nearest nodes hold, each once. Values of a key have no order.
//! * **The store.** What a node has said that it keeps it has until the value's time is up, unless its
//!   owner lets it make room for others ([`WhenFull`]); in a file through crashes of the program, too,
//!   or of the machine ([`Durability`]). Values age by a clock of the node's own: a jump of
//!   the time of day, or a restart, credits half of [`Config::value_lifetime`] at the most, and nothing
//!   lives for more than all of that while the node runs. A file that cannot be used is a
//!   [`StoreError`] at the start; with a full disk values are refused, and the node lives on.
//! * **Anybody may store anything under any key.** Nodes check the size, and what a
//!   [`Validator`] of yours looks at, who sees each value before it is stored or found: if it
//!   matters who wrote a value, sign it.
//! * **Roles.** A node may keep nothing for others, or answer nobody ([`Role`]).
//! * **Dead contacts.** A lookup does not wait for them: past the usual round trip another
//!   peer is asked beside, and after three the lookup goes on without. A contact that failed
//!   is not asked again for five minutes because others name it, is not named to others, and
//!   leaves its place in the table to one that has answered. A node whose host has slept, or
//!   that nobody answers any more, looks for its neighbours by itself.
//! * **IPv4 and IPv6.** A node that reaches both looks for and stores with
//!   [`Config::k`] nodes of each; peers name contacts only of the family that they are asked over.
//! * **Errors.** [`OperationError`] tells what happened and what to do; nothing fails silently. A
//!   search that reaches nobody is an error, one that finds nothing is not.
//! * **Time.** Every operation ends: with its outcome, at its deadline
//!   ([`Config::operation_timeout`], or one of its own), when it is cancelled or
//!   when the node is closed; its callback is called exactly once at the end.
//! * **Strangers.** What arrives is hostile until shown otherwise. No input makes the crate
//!   panic; what others can make a node keep is bounded by settings in [`Config`], each with a
//!   counter in [`Stats`]; a sender that has not shown that it receives our answers is sent no
//!   more than three times what it sent, and nothing is kept for most of them; a contact is
//!   believed to be where it is once it has answered a request from there.
//! * **Names on the wire.** None: hosts are IP literals, and a name from the network is
//!   never resolved.
//!
//! # Limits
//!
//! | what | default | setting |
//! | --- | --- | --- |
//! | a value | 64 KiB, at most 99,000 bytes | [`Config::max_value_size`] |
//! | a message | 99,999 bytes | [`Config::max_message_size`] |
//! | an answer | 99,999 bytes | [`Config::max_response`] |
//! | answers to one search from one peer | 65 | |
//! | values under one key | 1,024 | [`Config::max_values_per_key`] |
//! | values under one key | 1 MiB | [`Config::max_bytes_per_key`] |
//! | of these, from one block of addresses | 128 | [`Config::max_values_per_key_and_block`] |
//! | of these, from one block of addresses | 256 KiB | [`Config::max_bytes_per_key_and_block`] |
//! | values of one node | 64 MiB | [`Config::max_stored_bytes`] |
//! | values of one node | 1,000,000 | [`Config::max_stored_values`] |
//! | values from one address | 8 MiB | [`Config::max_bytes_per_address`] |
//! | values from one block of addresses | 16 MiB (/24, /64) | [`Config::max_bytes_per_block`] |
//! | life of a value | 24 h after its publisher stored it last | [`Config::value_lifetime`] |
//! | what one node renews | 8 MiB of values | [`Config::max_renewed_bytes`] |
//! | renewing and handing on | 2,000 bytes per second | [`Config::upkeep_rate`] |
//! | operations of one node under way | 10,000 | [`Config::max_operations`] |
//! | connections of one node | 4,096 | [`Config::max_connections`] |
//! | of these, to senders who have not shown that they are there | 256 | [`Config::max_unproven`] |
//! | connections to one block of addresses | 256 (/24, /64) | [`Config::max_per_block`] |
//! | bytes queued for one peer | 1 MiB | [`Config::max_queued`] |
//! | bytes queued and kept for all | 16 MiB | [`Config::max_buffered`] |
//! | bytes of unfinished messages | 8 MiB | [`Config::max_unfinished`] |
//! | the same of one who has not shown that he is there | 16 KiB | [`Config::max_unfinished_unproven`] |
//! | an idle connection | 10 min | [`Config::connection_idle`] |
//! | an idle connection to a peer of 2003 | 24 h | [`Config::lasting_idle`] |
//! | silence of a peer of whom something is due | 60 s | [`Config::max_silence`] |
//! | a datagram | 1,450 bytes | [`Config::max_packet`] |
//! | a datagram where larger ones get lost | 1,200 bytes | [`Config::narrow_packet`] |
//! | contacts that wait for a place in a bucket | half of K, at most 8 | [`Config::k`] |
//! | failed contacts remembered | 64, for 5 minutes | |
//!
//! # The map
//!
//! For those who read the source. A file imports only from rows above its own; the
//! core (all but the last two rows) does no I/O, reads no clock, draws no randomness that
//! it was not given, and calls no user code but a [`Validator`].
//!
//! | layer | files |
//! | --- | --- |
//! | ground | `id`, `contact`, `time`, `random`, `validator`, `config`, `error`, `outcome` |
//! | of these | `wheel` (timers), `context` (the world) |
//! | formats | `bencode`, `airhook/packet`, `krpc/netstring`, `krpc/message` |
//! | a connection | `airhook/{round_trip, window, flight, connection, channel, stream, messages}` |
//! | machines | `airhook/{lru, opening}`, `krpc/calls`, `table`, `lookup`, `store` |
//! | of these | `airhook/{mux, endpoint}`, `publish` |
//! | node | `node/{serve, client, storing, paging, peers, operation, schedule, failed, stats}` |
//! | its upkeep | `node/{upkeep, custody, renewal, handing}` |
//! | engine | `engine` |
//! | drivers | `udp` (sockets), `reactor`, `sim` |
//! | face | `khashmir` |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod airhook;
// The machinery: public so that tests and benchmarks reach it, not part of the crate's promise.
#[doc(hidden)]
pub mod bencode;
pub mod config;
mod contact;
#[doc(hidden)]
pub mod context;
pub mod engine;
mod error;
pub mod id;
mod khashmir;
#[doc(hidden)]
pub mod krpc;
#[doc(hidden)]
pub mod lookup;
#[doc(hidden)]
pub mod node;
mod outcome;
#[doc(hidden)]
pub mod publish;
pub mod random;
pub mod reactor;
#[cfg(feature = "sim")]
pub mod sim;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod table;
pub mod time;
pub mod udp;
mod validator;
#[doc(hidden)]
pub mod wheel;

pub use self::khashmir::{Khashmir, Operation, test_one};
pub use config::{Config, Durability, Role, WhenFull};
pub use contact::Contact;
pub use engine::{ContactInfo, NodeKey, NodeOptions, OperationKey, Stats};
pub use error::{CallError, ConfigError, OperationError, SendError, StartError, StoreError};
pub use id::{Distance, Id, ParseIdError};
pub use outcome::{Effort, Found, FoundNodes, FoundValues, Receipt, Search, StoreReply, Stored};
pub use time::UnixTime;
pub use validator::Validator;

/// The examples in the README, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
