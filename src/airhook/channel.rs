//! What a connection carries for the layer above: a stream of bytes, or single messages.

use std::collections::VecDeque;

use crate::airhook::connection::Carrier;
use crate::airhook::flight::Fate;

/// Both directions of what one connection carries: [`Stream`](crate::airhook::Stream) or
/// [`Messages`](crate::airhook::Messages).
///
/// Its methods are for the machinery, and not part of what the crate promises: programs name it
/// where they are to work with either kind of [`Endpoint`](crate::airhook::Endpoint).
///
/// What arrives goes into an inbox of the caller's, behind what had come before and was not
/// used up; the caller uses what it can and gives the rest back.
pub trait Channel: Default {
    /// The channel together with where what arrives goes to.
    #[doc(hidden)]
    type Port<'a>: Carrier
    where
        Self: 'a;

    /// The channel as a carrier that puts what arrives into `inbox` and holds at most
    /// `limit` messages that wait for an earlier one.
    #[doc(hidden)]
    fn port<'a>(&'a mut self, inbox: &'a mut Vec<u8>, limit: usize) -> Self::Port<'a>;

    /// Whether so many bytes can be written at once.
    #[doc(hidden)]
    fn fits(length: usize) -> bool;

    /// What stands in an inbox, in the pieces in which it is of use.
    #[doc(hidden)]
    fn pieces(inbox: &[u8]) -> impl Iterator<Item = &[u8]>;

    /// The same, where each is to be kept; nothing need be left in the inbox.
    #[doc(hidden)]
    fn take_pieces(inbox: &mut Vec<u8>, take: impl FnMut(Vec<u8>)) {
        Self::pieces(inbox).map(<[u8]>::to_vec).for_each(take);
    }

    /// Queues bytes to be sent; what does not [fit](Self::fits) is lost at once. A ticket, a
    /// number of the caller's choice, comes back once from [`poll_fate`](Self::poll_fate):
    /// when the other side has confirmed all of these bytes, or they are lost with the session.
    #[doc(hidden)]
    fn write(&mut self, bytes: &[u8], ticket: Option<u64>);

    /// A ticket whose bytes have been settled, and how.
    #[doc(hidden)]
    fn poll_fate(&mut self) -> Option<(u64, Fate)>;

    /// How many bytes are kept for this channel, both ways, with the places that hold them.
    #[doc(hidden)]
    fn buffered(&self) -> usize;

    /// Bytes that are queued, or sent and not confirmed.
    #[doc(hidden)]
    fn unconfirmed(&self) -> usize;

    /// How many bytes are kept because something before them, or after them, has not come yet.
    #[doc(hidden)]
    fn waiting(&self) -> usize;

    /// If the channel has come to wait for the rest of a message, notes the number under
    /// which it begins to; whether it did. It keeps that number until nothing waits.
    #[doc(hidden)]
    fn begin_waiting(&mut self, number: u32) -> bool;

    /// The number under which the channel began to wait, if it does.
    #[doc(hidden)]
    fn waits_since(&self) -> Option<u32>;

    /// What had arrived before and was not used up goes back in front of what will
    /// arrive now: into `inbox`, which must be empty.
    #[doc(hidden)]
    fn resume(&mut self, inbox: &mut Vec<u8>);

    /// Keeps `inbox` from `used` on, which is not of use yet, and empties it.
    #[doc(hidden)]
    fn keep(&mut self, inbox: &mut Vec<u8>, used: usize);

    /// Whether bytes have been put into an inbox since this was last asked.
    #[doc(hidden)]
    fn take_arrived(&mut self) -> bool;

    /// Whether our numbering has started afresh since this was last asked: what
    /// was on its way is lost.
    #[doc(hidden)]
    fn take_restarted(&mut self) -> bool;

    /// Whether the other side has sent what cannot be.
    #[doc(hidden)]
    fn is_broken(&self) -> bool;
}

/// Tickets that are settled and have not been asked for. Takes no room while there are none.
// There are many channels and few tickets: a pointer is all that each channel spends on them.
#[derive(Debug, Default)]
#[expect(clippy::box_collection)]
pub struct Settled(Option<Box<VecDeque<(u64, Fate)>>>);

impl Settled {
    /// What this ticket stood for has been settled.
    pub fn push(&mut self, ticket: u64, fate: Fate) {
        self.0.get_or_insert_default().push_back((ticket, fate));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The one that was settled first.
    pub fn pop(&mut self) -> Option<(u64, Fate)> {
        let settled = self.0.as_mut()?.pop_front();
        self.0.take_if(|settled| settled.is_empty());
        settled
    }
}
