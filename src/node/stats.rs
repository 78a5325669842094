//! What a node has done, and what it holds, in numbers.

use crate::node::Node;
use crate::node::custody::Done;

/// Counts and sizes of a node, since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Contacts in the table.
    pub contacts: usize,
    /// How many nodes the network has, this one included: an estimate from how
    /// close the nearest contacts are. With K = 8 its relative standard error
    /// is about 40 %.
    pub network_size: f64,
    /// Values held.
    pub values: u64,
    /// Their bytes in all, each counted with 384 more for what is kept beside it, as in
    /// [`Config::max_stored_bytes`](crate::Config::max_stored_bytes).
    pub value_bytes: u64,
    /// Values that were not stored, as a limit or the store did not allow it.
    pub values_refused: u64,
    /// Values that made room for others
    /// ([`Config::when_full`](crate::Config::when_full)).
    pub values_displaced: u64,
    /// Airhook connections that are remembered.
    pub connections: usize,
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Bytes received in them, without the headers of UDP and IP.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Of these connections, those to senders who have not shown that they receive our
    /// answers ([`Config::max_unproven`](crate::Config::max_unproven)).
    pub half_open: usize,
    /// Datagrams and messages received that made no sense, or that there was no room for.
    pub dropped: u64,
    /// Of these, datagrams that were no Airhook packets.
    pub packets_malformed: u64,
    /// Of these, packets for sessions that are not, or no longer, this node's.
    pub packets_foreign: u64,
    /// Of these, packets that said what cannot be.
    pub packets_invalid: u64,
    /// Of these, sessions that were given up because what had come over them made no sense, or
    /// took too much room ([`Config::max_buffered`](crate::Config::max_buffered),
    /// [`Config::max_unfinished`](crate::Config::max_unfinished),
    /// [`Config::reorder_limit`](crate::Config::reorder_limit)).
    pub sessions_broken_off: u64,
    /// Packets received that later ones had overtaken, or that came twice. Not in
    /// [`dropped`](Self::dropped).
    pub packets_stale: u64,
    /// Packets of strangers that were answered without keeping anything.
    pub openings_answered: u64,
    /// Packets of strangers that were not answered, as too many answers were waiting.
    pub openings_dropped: u64,
    /// Packets of strangers, and connections of this node's own, that were refused: there were
    /// too many to that block of addresses
    /// ([`Config::max_per_block`](crate::Config::max_per_block)), or there was no room.
    pub connections_refused: u64,
    /// Connections forgotten to make room for others
    /// ([`Config::max_connections`](crate::Config::max_connections)).
    pub connections_evicted: u64,
    /// Bytes queued for peers, or kept because the rest of a message has not come.
    pub buffered: usize,
    /// Of these, bytes of messages of which not all has come.
    pub unfinished: usize,
    /// Requests and answers that were not queued because a queue was full
    /// ([`Config::max_queued`](crate::Config::max_queued)).
    pub queue_full: u64,
    /// Of these, and of those for which there was no connection any more, answers.
    pub answers_dropped: u64,
    /// Requests made.
    pub calls_sent: u64,
    /// Requests that wait for an answer.
    pub calls_pending: usize,
    /// Requests that failed.
    pub calls_failed: u64,
    /// Values of others that [`Config::validator`](crate::Config::validator) refused: which they
    /// wanted to store, or which a search brought.
    pub values_invalid: u64,
    /// Values that the node renews until they are withdrawn.
    pub values_published: u64,
    /// Values that it does not renew, since that would have exceeded
    /// [`Config::max_renewed_bytes`](crate::Config::max_renewed_bytes).
    pub values_not_renewed: u64,
    /// How often it has stored one of them again.
    pub values_renewed: u64,
    /// How often it has asked the nodes nearest to a key what they lack of its values.
    pub hand_on_checks: u64,
    /// Values handed on, each counted for every node that took it.
    pub values_handed_on: u64,
    /// What renewing, asking and handing on have cost in bytes of requests and of answers
    /// to them, as in [`Config::upkeep_rate`](crate::Config::upkeep_rate).
    pub upkeep_bytes: u64,
}

impl Node {
    /// Counts and sizes.
    pub fn stats(&self) -> Stats {
        let traffic = self.peers.mux.traffic();
        let done = self.custody.as_ref().map_or_else(Done::default, |custody| custody.done);
        Stats {
            contacts: self.table.len(),
            network_size: self.table.network_size(),
            values: self.resident.values(),
            value_bytes: self.resident.bytes(),
            values_refused: self.values_refused,
            values_displaced: self.resident.displaced(),
            connections: self.peers.mux.len(),
            packets_in: traffic.packets_in,
            packets_out: traffic.packets_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            half_open: self.peers.mux.half_open(),
            dropped: traffic.dropped + self.dropped,
            packets_malformed: traffic.malformed,
            packets_foreign: traffic.foreign,
            packets_invalid: traffic.invalid,
            sessions_broken_off: traffic.broken_off,
            packets_stale: traffic.stale,
            openings_answered: traffic.openings_answered,
            openings_dropped: traffic.openings_dropped,
            connections_refused: traffic.refused,
            connections_evicted: traffic.evicted,
            buffered: self.peers.mux.buffered(),
            unfinished: self.peers.mux.unfinished(),
            queue_full: traffic.queue_full,
            answers_dropped: self.peers.unanswered(),
            calls_sent: self.peers.calls.started(),
            calls_pending: self.peers.calls.pending(),
            calls_failed: self.peers.calls.failed(),
            values_invalid: self.invalid,
            values_published: self.resident.published(),
            values_not_renewed: done.not_renewed,
            values_renewed: done.renewed,
            hand_on_checks: done.checks,
            values_handed_on: done.handed_on,
            upkeep_bytes: done.bytes,
        }
    }
}
