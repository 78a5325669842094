//! What one socket has done, in numbers.

/// What one socket has sent and received, and what it would not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Bytes in them, without the headers of UDP and IP.
    pub bytes_in: u64,
    /// Bytes in those sent.
    pub bytes_out: u64,
    /// Datagrams received that were malformed or had no business here, and sessions that were
    /// given up because what had come over them made no sense or took too much room.
    pub dropped: u64,
    /// Of these, datagrams that were no Airhook packets.
    pub malformed: u64,
    /// Of these, packets for sessions that are not, or no longer, ours.
    pub foreign: u64,
    /// Of these, packets that said what cannot be.
    pub invalid: u64,
    /// Of these, sessions that were given up.
    pub broken_off: u64,
    /// Packets outside the window: overtaken by later ones, or sent twice. Not in `dropped`.
    pub stale: u64,
    /// Packets of strangers that were answered without keeping anything.
    pub openings_answered: u64,
    /// Packets of strangers that were not even answered, as too many answers were waiting.
    pub openings_dropped: u64,
    /// Packets of strangers, and connections of ours, that were refused because their address
    /// block had as many connections as it may, or because there was no room.
    pub refused: u64,
    /// Connections forgotten to make room.
    pub evicted: u64,
    /// Messages that were not queued because a queue was full.
    pub queue_full: u64,
}
