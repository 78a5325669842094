//! What a scenario has its simulation wake it for.

use crate::sim::simulation::Host;

/// What a scenario has its simulation wake it for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    Lookup,
    Store(u32),
    Search(u32),
    Leave(Host),
    Part,
    Heal,
    Sample,
    /// Whether a peer of 2003 is in the network by now.
    Ask(Host),
    End,
}

impl Alarm {
    pub fn number(self) -> u64 {
        let (kind, which) = match self {
            Alarm::Lookup => (0, 0),
            Alarm::Store(value) => (1, value),
            Alarm::Search(value) => (2, value),
            Alarm::Leave(host) => (3, host.0),
            Alarm::Part => (4, 0),
            Alarm::Heal => (5, 0),
            Alarm::Sample => (6, 0),
            Alarm::Ask(host) => (7, host.0),
            Alarm::End => (8, 0),
        };
        kind << 32 | u64::from(which)
    }

    pub fn of(number: u64) -> Alarm {
        let which = number as u32;
        match number >> 32 {
            0 => Alarm::Lookup,
            1 => Alarm::Store(which),
            2 => Alarm::Search(which),
            3 => Alarm::Leave(Host(which)),
            4 => Alarm::Part,
            5 => Alarm::Heal,
            6 => Alarm::Sample,
            7 => Alarm::Ask(Host(which)),
            _ => Alarm::End,
        }
    }
}
