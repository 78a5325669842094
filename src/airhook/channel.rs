//! What a connection carries for the layer above: a stream of bytes, or single messages.

use std::collections::VecDeque;

use crate::airhook::connection::Carrier;
use crate::airhook::flight::Fate;

/// Both directions of what one connection carries. [`Stream`](crate::airhook::stream::Stream)
/// and [`Messages`](crate::airhook::messages::Messages) are such.
///
/// What arrives goes into an inbox of the caller's, behind what had come before and was not
/// used up; the caller uses what it can and gives the rest back.
pub trait Channel: Default {
    /// The channel together with where what arrives goes to.
    type Port<'a>: Carrier
    where
        Self: 'a;

    /// The channel as a carrier that puts what arrives into `inbox` and holds at most
    /// `limit` messages that wait for an earlier one.
    fn port<'a>(&'a mut self, inbox: &'a mut Vec<u8>, limit: usize) -> Self::Port<'a>;

    /// Whether so many bytes can be written at once.
    fn fits(length: usize) -> bool;

    /// What stands in an inbox, in the pieces in which it is of use.
    fn pieces(inbox: &[u8]) -> impl Iterator<Item = &[u8]>;

    /// Queues bytes to be sent; what does not [fit](Self::fits) is lost at once. A ticket, a
    /// number of the caller's choice, comes back once from [`poll_fate`](Self::poll_fate):
    /// when the other side has confirmed all of these bytes, or they are lost with the session.
    fn write(&mut self, bytes: &[u8], ticket: Option<u64>);

    /// A ticket whose bytes have been settled, and how.
    fn poll_fate(&mut self) -> Option<(u64, Fate)>;

    /// How many bytes are kept for this channel, both ways, with the places that hold them.
    fn buffered(&self) -> usize;

    /// Bytes that are queued, or sent and not confirmed.
    fn unconfirmed(&self) -> usize;

    /// How many bytes are kept because something before them, or after them, has not come yet.
    fn waiting(&self) -> usize;

    /// If the channel has come to wait for the rest of a message, notes the number under
    /// which it begins to; whether it did. It keeps that number until nothing waits.
    fn begin_waiting(&mut self, number: u32) -> bool;

    /// The number under which the channel began to wait, if it does.
    fn waits_since(&self) -> Option<u32>;

    /// What had arrived before and was not used up goes back in front of what will
    /// arrive now: into `inbox`, which must be empty.
    fn resume(&mut self, inbox: &mut Vec<u8>);

    /// Keeps `inbox` from `used` on, which is not of use yet, and empties it.
    fn keep(&mut self, inbox: &mut Vec<u8>, used: usize);

    /// Whether bytes have been put into an inbox since this was last asked.
    fn take_arrived(&mut self) -> bool;

    /// Whether our numbering has started afresh since this was last asked: what
    /// was on its way is lost.
    fn take_restarted(&mut self) -> bool;

    /// Whether the other side has sent what cannot be.
    fn is_broken(&self) -> bool;
}

/// Tickets that are settled and have not been asked for. Takes no room while there are none.
#[derive(Debug, Default)]
pub struct Settled(Option<Box<VecDeque<(u64, Fate)>>>);

impl Settled {
    /// What this ticket stood for has been settled.
    pub fn push(&mut self, ticket: u64, fate: Fate) {
        self.0.get_or_insert_default().push_back((ticket, fate));
    }

    /// The one that was settled first.
    pub fn pop(&mut self) -> Option<(u64, Fate)> {
        let settled = self.0.as_mut()?.pop_front();
        if settled.is_none() {
            self.0 = None;
        }
        settled
    }
}
