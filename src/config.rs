//! Every tweakable, with its unit, its default and the check on it.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::ConfigError;
use crate::validator::Validator;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest KRPC message that peers of 2003 take, in bytes, counted without
/// its netstring frame (Twisted's `NetstringReceiver` of that time).
pub const MAX_NETSTRING: usize = 99_999;

/// The largest Airhook packet that is ever sent, in bytes: what the Khashmir of 2003 sent.
const MAX_PACKET: usize = 1450;

/// What a value that was acknowledged survives, in a node that has a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the program, at any moment: each turn's writes are with the operating system
    /// before they are acknowledged. A power cut may lose the last of them, never the file
    /// (SQLite's `synchronous = NORMAL`). The default.
    #[default]
    Program,
    /// A crash of the machine, too: each turn's writes are on the disk before they are
    /// acknowledged (`synchronous = FULL`), which takes as long as the disk does.
    Machine,
}

/// What a full store does with one more value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It refuses the value. The default.
    #[default]
    Refuse,
    /// It makes room. The block of addresses whose senders hold most gives way first: of its
    /// values that which is farthest from the node's id, and of those the oldest. What would
    /// itself be the one to go is refused. What the owner stored here stays.
    MakeRoom,
}

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// All of it: it answers, and keeps values. The default.
    #[default]
    Full,
    /// It answers, but keeps nothing that others want to store or hand on: they are told so, each
    /// time, since it is one of the nodes nearest to a key as any other. Where these are few, its
    /// refusal may leave too few that accept
    /// ([`store_redundancy`](Config::store_redundancy)).
    /// What its owner stores through it, it keeps if it is one of those to hold it.
    ReadOnly,
    /// It answers each request with an error, and so is in nobody's table: for programs that
    /// come and go, or cannot be reached. It keeps nothing, and what its owner stores is
    /// with others alone.
    Client,
}

/// The settings of a node, or of an [`airhook::Endpoint`](crate::airhook::Endpoint), which
/// uses some of them.
///
/// Start from the default, which is what the Khashmir of 2003 used where it had
/// such a setting, and change what you need:
///
/// ```
/// use khashmir::Config;
/// use std::time::Duration;
///
/// let config = Config { value_lifetime: Duration::from_secs(3600), ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    // Kademlia
    /// Contacts in a bucket, and nodes that keep a value: Kademlia's K.
    /// Contacts, 1 to 64; default 8.
    pub k: usize,
    /// Requests that one lookup has in flight: Kademlia's α. 1 to 64; default 4.
    pub concurrent_requests: usize,
    /// How many of the K nearest nodes must accept a value for storing it to succeed. All K are
    /// asked; where fewer accept, storing fails with
    /// [`TooFew`](crate::OperationError::TooFew), and the value is not renewed. Nodes, 1 to
    /// [`k`](Self::k); default 3. In a network of fewer nodes, all of them must.
    pub store_redundancy: usize,
    /// How many requests in a row a contact may leave unanswered before it is
    /// dropped. One is enough if another contact waits for its place, and others have
    /// answered meanwhile. 1 to 255; default 3.
    pub max_failures: u8,
    /// A contact heard of more recently than this is taken to be alive, and not
    /// pinged to make room for another. Default 15 min.
    pub min_ping_interval: Duration,
    /// A bucket that no lookup has touched for this long is refreshed. At least
    /// 1 s; default 1 h.
    pub bucket_staleness: Duration,

    // Requests and operations
    /// How long a request may go unanswered. At least 1 ms; default 10 s (2003
    /// peers wait 60 s for ours).
    pub request_timeout: Duration,
    /// The deadline of an operation that is not given one. At least 1 ms;
    /// default 60 s.
    pub operation_timeout: Duration,
    /// How many operations of a node may be under way at once; one more fails at once with
    /// [`QueueFull`](crate::OperationError::QueueFull). At least 1; default 10,000.
    pub max_operations: usize,
    /// The address that peers are told to reach this node at; the port is
    /// always the socket's own. Default: none, which says to each peer the
    /// local address of the route to it. Never 0.0.0.0 or `::`.
    pub advertised_address: Option<IpAddr>,

    /// What the node does for others. Default: all of it.
    pub role: Role,

    // Values
    /// The largest value, in bytes, that is taken from others and from the
    /// program. 0 to 99,000 (a value must fit into a message of 99,999 bytes
    /// beside its key); default 64 KiB.
    pub max_value_size: usize,
    /// The longest KRPC message that is taken in, in bytes without its frame. A
    /// longer one ends its sender's session, so peers that hold many values of a
    /// key cannot be heard with less than the default, 99,999: what they may send.
    /// Never more than that; at least 999 more than
    /// [`max_value_size`](Self::max_value_size) and than 100 times [`k`](Self::k).
    pub max_message_size: usize,
    /// How many bytes one answer has at the most, its frame included. Of more values of a key
    /// than fit it brings others each time; nodes that understand it are told how to ask for
    /// the rest. At most and by default 99,999, what peers of 2003 take; at
    /// least 999 more than [`max_value_size`](Self::max_value_size) and than 100 times
    /// [`k`](Self::k).
    pub max_response: usize,
    /// Decides which values are taken, from others and from the program. Default: none, they
    /// all are.
    pub validator: Option<Validator>,
    /// How long a value is kept after its publisher stored it last; a value that was handed
    /// on comes with its age. It goes for what is stored from then on. Time counts while the node
    /// runs; what it was away, or its clock jumped ahead, is credited up to half of this.
    /// At least 1 s; default 24 h.
    pub value_lifetime: Duration,
    /// How many values one key may have. At least 1; default 1,024. One more is
    /// refused with an error.
    pub max_values_per_key: usize,
    /// How many bytes of values one key may have, each value counted with
    /// 384 more for its row, its indices and what is remembered of its key, as in all that
    /// follow. At most 4 GiB less 1;
    /// default 1 MiB.
    pub max_bytes_per_key: u64,
    /// How many of a key's values may come from one block of addresses, a /24 of IPv4 or a /64 of
    /// IPv6, so that nobody takes the room of all others. At least 1; default 128, an eighth of
    /// what a key may have: [`k`](Self::k) holders can hand on all of it. One more is refused with an
    /// error. Neither this nor the next one goes for loopback addresses, but with
    /// [`limit_loopback`](Self::limit_loopback). Where all nodes are in one block, give it as many
    /// as the key.
    pub max_values_per_key_and_block: usize,
    /// How many of a key's bytes, likewise. Default 256 KiB: three of the largest values.
    pub max_bytes_per_key_and_block: u64,
    /// How many bytes of values a node keeps in all. Default 64 MiB. What would exceed it is
    /// treated as [`when_full`](Self::when_full) says.
    pub max_stored_bytes: u64,
    /// How many values a node keeps in all. Default 1,000,000. Likewise.
    pub max_stored_values: u64,
    /// How many bytes of values a node keeps that came from one address. Default 8 MiB. What
    /// would exceed it is refused with an error, as with the next one.
    pub max_bytes_per_address: u64,
    /// How many bytes from one block of addresses, a /24 of IPv4 or a /64 of IPv6. Default
    /// 16 MiB. Neither goes for loopback addresses, but with
    /// [`limit_loopback`](Self::limit_loopback).
    pub max_bytes_per_block: u64,
    /// What a full store does with one more value. Default: it refuses it.
    pub when_full: WhenFull,

    // Values that stay
    /// How often a node stores again what its owner stored through it, give or take 10 %, so
    /// that it stays for as long as the node lives; zero: never. No less often than twice in
    /// [`value_lifetime`](Self::value_lifetime). Zero, or at least 1 s; default 1 h (as
    /// BEP 44 advises its publishers).
    pub renew_interval: Duration,
    /// How many bytes of values are renewed, each counted with 384 more. A value
    /// beyond that is stored once, and counted in
    /// [`Stats::values_not_renewed`](crate::Stats::values_not_renewed). Default 8 MiB: what
    /// [`upkeep_rate`](Self::upkeep_rate) allows to be renewed in a day, in values of 1 kB.
    pub max_renewed_bytes: u64,
    /// How long, at the most, a holder of values waits until it looks whether the K nodes
    /// nearest to their key hold them, too, and hands them to those that do not, with their
    /// age; zero: it never does. Where holders come and go it looks more often by itself,
    /// down to every minute. A node with more keys than [`upkeep_rate`](Self::upkeep_rate) allows
    /// for (each look costs about 9 kB, and one of K holders is enough) is late with them; then the
    /// blocks of addresses that stored them take turns, so that who stores under very many keys
    /// delays his own. Zero, or 1 s to 12 h; default 15 min.
    pub hand_on_interval: Duration,
    /// What renewing and handing on may cost on average, in bytes per second of requests made
    /// and answers to them, without the headers of Airhook, UDP and IP. Whatever exceeds
    /// it is put off. At least 1; default 2,000.
    pub upkeep_rate: u64,

    // Upkeep
    /// How often contacts are saved to the store, give or take 10 % so that the
    /// nodes of a machine do not all write at once. At least 1 s; default 15 min.
    pub checkpoint_interval: Duration,
    /// When expired values are first deleted after the start. Default 15 s.
    pub first_expiry: Duration,
    /// How often after that. At least 1 s; default 1 h. Expired values are not
    /// given out in between.
    pub expiry_interval: Duration,
    /// What a store in a file survives. Default: a crash of the program.
    pub durability: Durability,

    // Airhook
    /// How long an acknowledgement may wait for something to ride on, or a quarter of the round
    /// trip, if that is less. Less than 1 s (after that a 2003 peer speaks up by itself);
    /// default 20 ms.
    pub ack_delay: Duration,
    /// How long the first packet to a peer may go unanswered before it is
    /// repeated, as long as it is not known what is usual for the node's peers, or if that
    /// is longer; doubled for each further one. What is usual is repeated three times at
    /// the same distance first, but never sooner than after 50 ms. Also the measure for how
    /// long lookups wait while no round trip is known: after twice this time another peer
    /// is asked beside, and after eight times they go on without; never longer, however
    /// long round trips are. 1 ms to 60 s; default 300 ms.
    pub initial_probe: Duration,
    /// The longest that a repetition waits while an answer is awaited, or a round trip, if that
    /// is longer; four times that for openings, and forty times while no answer is awaited. At
    /// least [`initial_probe`](Self::initial_probe); default 600 ms, so that after
    /// an outage of the network all goes on within a second.
    pub max_probe: Duration,
    /// How often an opening is repeated before the peer counts as unreachable.
    /// 1 to 255; default 6.
    pub max_openings: u8,
    /// How long a peer may leave probes unanswered before its session is given up, and what
    /// was on its way reported lost. At least 1 s; default 60 s.
    pub max_silence: Duration,
    /// How many probes in a row a peer of 2003 may leave unanswered before its session is given
    /// up and a new one opened, which alone revives some of them. 1 to 255; default 10.
    pub max_heartbeats: u8,
    /// The largest packet, in bytes, without the headers of UDP and IP. At least
    /// [`narrow_packet`](Self::narrow_packet); at most and by default 1,450, as in 2003.
    pub max_packet: usize,
    /// The largest packet where larger ones get lost while small ones pass, as in tunnels, and
    /// of those that ask whether a peer is there. 512 to 1,450 bytes; default 1,200 (what every
    /// path carries that carries QUIC: RFC 9000, section 14).
    pub narrow_packet: usize,
    /// Connections of one node. 16 to 1,000,000; default 4,096. Beyond it one is
    /// forgotten: of unproven ones, or else of all others, that which was idle longest, those
    /// to peers that leave out session ids last.
    pub max_connections: usize,
    /// Of these, how many may be open to senders who have not shown that they
    /// receive our answers. 1 to `max_connections`; default 256. Others are answered without
    /// keeping anything, and their requests taken when they have shown it.
    pub max_unproven: usize,
    /// Connections to one block of addresses, a /24 of IPv4 or a /64 of IPv6. A stranger from
    /// there is not answered beyond it; to half of it, one that has not shown that he receives
    /// our answers is remembered. Those that this node opens are counted, and go on to four
    /// times as many. 1 to 1,000,000; default 256.
    pub max_per_block: usize,
    /// Whether that goes for loopback addresses, too, and so do
    /// [`max_values_per_key_and_block`](Self::max_values_per_key_and_block),
    /// [`max_bytes_per_key_and_block`](Self::max_bytes_per_key_and_block),
    /// [`max_bytes_per_address`](Self::max_bytes_per_address) and
    /// [`max_bytes_per_block`](Self::max_bytes_per_block). Default: no.
    pub limit_loopback: bool,
    /// An idle connection is forgotten after this long. At least 1 s; default
    /// 10 min.
    pub connection_idle: Duration,
    /// The same for peers that leave out session ids, as those of 2003 do:
    /// such a peer loses a request when it is forgotten. At least
    /// [`connection_idle`](Self::connection_idle); default 24 h.
    pub lasting_idle: Duration,
    /// Messages of a stream that may wait for one before them, from one peer.
    /// 255 to 32,768; default 1,024. More resets the session.
    pub reorder_limit: usize,

    /// Bytes queued for one peer, or sent and not confirmed; what would exceed it is refused. At
    /// least room for two of the longest messages, twice
    /// [`max_message_size`](Self::max_message_size) and 14 bytes; default 1 MiB.
    pub max_queued: usize,
    /// Bytes that a node keeps for the streams of all its peers: queued answers,
    /// and messages of which not all has come. At least 256 KiB; default 16 MiB.
    /// Beyond it, what would add to it is given up: of what is to be sent, only up to 2 KiB
    /// are queued for each peer for whom nothing is.
    pub max_buffered: usize,
    /// Of these, bytes of messages of which not all has come; beyond it, that which has been
    /// incomplete for longest is given up. At least 128 KiB; default 8 MiB.
    pub max_unfinished: usize,
    /// The same for one sender who has not shown that it receives our answers. At least
    /// 1 KiB; default 16 KiB, more than anybody sends before he has an answer.
    pub max_unfinished_unproven: usize,

    // For tests
    /// The share of arriving datagrams that are thrown away, from 0 to 1, to see
    /// how a network does with losses. Default 0.
    pub inbound_loss: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            k: 8,
            concurrent_requests: 4,
            store_redundancy: 3,
            max_failures: 3,
            min_ping_interval: 15 * MINUTE,
            bucket_staleness: HOUR,
            request_timeout: Duration::from_secs(10),
            operation_timeout: MINUTE,
            max_operations: 10_000,
            advertised_address: None,
            role: Role::default(),
            max_value_size: 64 * 1024,
            max_message_size: MAX_NETSTRING,
            max_response: MAX_NETSTRING,
            validator: None,
            value_lifetime: DAY,
            max_values_per_key: 1024,
            max_bytes_per_key: 1024 * 1024,
            max_values_per_key_and_block: 128,
            max_bytes_per_key_and_block: 256 * 1024,
            max_stored_bytes: 64 * 1024 * 1024,
            max_stored_values: 1_000_000,
            max_bytes_per_address: 8 * 1024 * 1024,
            max_bytes_per_block: 16 * 1024 * 1024,
            when_full: WhenFull::default(),
            renew_interval: HOUR,
            max_renewed_bytes: 8 * 1024 * 1024,
            hand_on_interval: 15 * MINUTE,
            upkeep_rate: 2000,
            checkpoint_interval: 15 * MINUTE,
            first_expiry: Duration::from_secs(15),
            expiry_interval: HOUR,
            durability: Durability::default(),
            ack_delay: Duration::from_millis(20),
            initial_probe: Duration::from_millis(300),
            max_probe: Duration::from_millis(600),
            max_openings: 6,
            max_silence: MINUTE,
            max_heartbeats: 10,
            max_packet: MAX_PACKET,
            narrow_packet: 1200,
            max_connections: 4096,
            max_unproven: 256,
            max_per_block: 256,
            limit_loopback: false,
            connection_idle: 10 * MINUTE,
            lasting_idle: DAY,
            reorder_limit: 1024,
            max_queued: 1024 * 1024,
            max_buffered: 16 * 1024 * 1024,
            max_unfinished: 8 * 1024 * 1024,
            max_unfinished_unproven: 16 * 1024,
            inbound_loss: 0.0,
        }
    }
}

impl Config {
    /// Checks every setting, alone and against the others.
    ///
    /// # Errors
    ///
    /// The first setting that is out of bounds, and what is allowed for it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let millisecond = Duration::from_millis(1);
        let second = Duration::from_secs(1);
        let least_message = self.max_value_size.max(self.k.saturating_mul(100)).saturating_add(999);
        let checks = [
            ((1..=64).contains(&self.k), "k", "1 to 64"),
            ((1..=64).contains(&self.concurrent_requests), "concurrent_requests", "1 to 64"),
            ((1..=self.k).contains(&self.store_redundancy), "store_redundancy", "1 to k"),
            (self.max_failures >= 1, "max_failures", "1 to 255"),
            (self.bucket_staleness >= second, "bucket_staleness", "at least 1 s"),
            (self.request_timeout >= millisecond, "request_timeout", "at least 1 ms"),
            (self.operation_timeout >= millisecond, "operation_timeout", "at least 1 ms"),
            (self.max_operations >= 1, "max_operations", "at least 1"),
            (
                self.advertised_address.is_none_or(|ip| !ip.is_unspecified()),
                "advertised_address",
                "an address that others can reach, or none",
            ),
            (self.max_value_size <= 99_000, "max_value_size", "at most 99,000 bytes"),
            (
                (least_message..=MAX_NETSTRING).contains(&self.max_message_size),
                "max_message_size",
                "at most 99,999 bytes, and 999 more than max_value_size and than 100 for each of k",
            ),
            (
                (least_message..=MAX_NETSTRING).contains(&self.max_response),
                "max_response",
                "at most 99,999 bytes, and 999 more than max_value_size and than 100 for each of k",
            ),
            (self.value_lifetime >= second, "value_lifetime", "at least 1 s"),
            (self.max_values_per_key >= 1, "max_values_per_key", "at least 1"),
            (self.max_bytes_per_key <= u32::MAX.into(), "max_bytes_per_key", "at most 4,294,967,295 bytes"),
            (self.max_values_per_key_and_block >= 1, "max_values_per_key_and_block", "at least 1"),
            (
                self.renew_interval.is_zero() || self.renew_interval >= second,
                "renew_interval",
                "zero, or at least 1 s",
            ),
            (
                self.hand_on_interval.is_zero() || (second..=12 * HOUR).contains(&self.hand_on_interval),
                "hand_on_interval",
                "zero, or 1 s to 12 h",
            ),
            (self.upkeep_rate >= 1, "upkeep_rate", "at least 1 byte per second"),
            (self.checkpoint_interval >= second, "checkpoint_interval", "at least 1 s"),
            (self.expiry_interval >= second, "expiry_interval", "at least 1 s"),
            (self.ack_delay < second, "ack_delay", "less than 1 s"),
            ((millisecond..=MINUTE).contains(&self.initial_probe), "initial_probe", "1 ms to 60 s"),
            (self.max_probe >= self.initial_probe, "max_probe", "at least initial_probe"),
            (self.max_openings >= 1, "max_openings", "1 to 255"),
            (self.max_silence >= second, "max_silence", "at least 1 s"),
            ((512..=MAX_PACKET).contains(&self.narrow_packet), "narrow_packet", "512 to 1,450 bytes"),
            (
                (self.narrow_packet..=MAX_PACKET).contains(&self.max_packet),
                "max_packet",
                "at least narrow_packet, at most 1,450 bytes",
            ),
            (self.max_heartbeats >= 1, "max_heartbeats", "1 to 255"),
            ((16..=1_000_000).contains(&self.max_connections), "max_connections", "16 to 1,000,000"),
            ((1..=self.max_connections).contains(&self.max_unproven), "max_unproven", "1 to max_connections"),
            ((1..=1_000_000).contains(&self.max_per_block), "max_per_block", "1 to 1,000,000"),
            (self.connection_idle >= second, "connection_idle", "at least 1 s"),
            (self.lasting_idle >= self.connection_idle, "lasting_idle", "at least connection_idle"),
            ((255..=32_768).contains(&self.reorder_limit), "reorder_limit", "255 to 32,768"),
            (
                self.max_queued / 2 >= self.max_message_size.saturating_add(7),
                "max_queued",
                "at least twice max_message_size and 14 bytes",
            ),
            (self.max_buffered >= 256 * 1024, "max_buffered", "at least 256 KiB"),
            (self.max_unfinished >= 128 * 1024, "max_unfinished", "at least 128 KiB"),
            (self.max_unfinished_unproven >= 1024, "max_unfinished_unproven", "at least 1 KiB"),
            ((0.0..=1.0).contains(&self.inbound_loss), "inbound_loss", "0 to 1"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, allowed)) => Err(ConfigError { setting, allowed }),
            None => Ok(()),
        }
    }
}
