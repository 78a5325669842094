//! How long an answer takes: a smoothed round trip and its variation (RFC 6298).

use std::time::Duration;

/// The least that an opening waits before it is repeated: an answer may take this long on a
/// busy host, however near it is.
const LEAST_OPENING: Duration = Duration::from_millis(50);

/// A longer one is taken for this long, and nobody waits longer (RFC 6298, 2.5): a datagram that was
/// held up for minutes says little about the next.
const LONGEST: Duration = Duration::from_secs(60);

/// The smoothed round trip to one peer, in microseconds; 8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrip {
    smoothed: u32,
    variation: u32,
}

impl RoundTrip {
    /// Takes in one measurement.
    pub fn measure(&mut self, sample: Duration) {
        let sample = sample.min(LONGEST).as_micros().max(1) as u32;
        if self.smoothed == 0 {
            // RFC 6298, 2.2, has a half: too careful for those who exchange no more than a
            // few packets.
            self.smoothed = sample;
            self.variation = sample / 8;
        } else {
            // RFC 6298, 2.3: beta 1/4, alpha 1/8.
            let error = self.smoothed.abs_diff(sample);
            self.variation = self.variation - self.variation / 4 + error / 4;
            self.smoothed = self.smoothed - self.smoothed / 8 + sample / 8;
        }
    }

    /// The smoothed round trip; `None` before the first measurement.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.smoothed != 0).then(|| Duration::from_micros(self.smoothed.into()))
    }

    /// How much it varies.
    pub fn variation(&self) -> Duration {
        Duration::from_micros(self.variation.into())
    }

    /// How long an answer may take of somebody of whom nothing is known, given what is usual
    /// for others: two variations above it, as these are differences between peers.
    pub fn patience_for_others(&self, ack_delay: Duration, initial: Duration) -> Duration {
        match self.smoothed() {
            Some(smoothed) => smoothed + Duration::from_micros(u64::from(self.variation) * 2) + ack_delay,
            None => initial,
        }
    }

    /// How long to wait for the answer to an opening before it is repeated, given what is
    /// usual for others: one variation above it, since an answer comes at once and a
    /// repetition is only a dozen bytes. `initial` if nothing is known, or that is longer.
    pub fn opening(&self, initial: Duration) -> Duration {
        match self.smoothed() {
            Some(smoothed) => {
                let variation = Duration::from_micros(self.variation.into());
                (smoothed + variation).max(LEAST_OPENING).min(initial)
            }
            None => initial,
        }
    }

    /// How long to wait for an answer before asking after it (RFC 9002, 6.2.1): four
    /// variations (a millisecond at least) above the smoothed round trip, and
    /// the time that the other side may sit on an acknowledgement. `initial` before
    /// the first measurement.
    pub fn patience(&self, ack_delay: Duration, initial: Duration) -> Duration {
        match self.smoothed() {
            Some(smoothed) => {
                let variation = Duration::from_micros(u64::from(self.variation) * 4);
                (smoothed + variation.max(Duration::from_millis(1)) + ack_delay).min(LONGEST)
            }
            None => initial,
        }
    }
}
