//! Scenarios that have a name.

use std::time::Duration;

use super::{Churn, Cut, Entry, Lookups, Scenario, Session, Values};
use crate::sim::network::{Conditions, Latency, Regions};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What they are called, and what they are about.
const NAMES: [(&str, &str); 18] = [
    ("fault-free", "nothing goes wrong: lookups, then values and searches for them"),
    ("seeded", "the same, with tables that were filled, not joined for"),
    ("loss-1", "1 % of all datagrams are lost"),
    ("loss-5", "5 % of all datagrams are lost"),
    ("loss-10", "10 % of all datagrams are lost"),
    ("loss-20", "20 % of all datagrams are lost"),
    ("dead-10", "10 % of the nodes have just crashed"),
    ("dead-30", "30 % of the nodes have just crashed"),
    ("churn-60", "nodes stay for 60 minutes on average; an hour of it"),
    ("churn-15", "nodes stay for 15 minutes on average; an hour of it"),
    ("churn-5", "nodes stay for 5 minutes on average; an hour of it"),
    ("churn-heavy", "nodes stay for 60 minutes on average, most for less; three hours of it"),
    ("churn-day", "nodes stay for 60 minutes on average; 24 hours, with 1,000 values stored in the first"),
    ("partition", "a third of the nodes is cut off for ten minutes"),
    ("mixture", "half of the nodes are peers as of 2003"),
    ("regions", "nothing goes wrong, and nodes are on several continents"),
    ("regions-loss-20", "and 20 % of all datagrams are lost"),
    ("large", "100,000 nodes: 1,000 lookups, 1,000 values stored, each of them looked for"),
];

/// Behind a name: with less of everything.
const BRIEF: &str = "-brief";

impl Scenario {
    /// The names of all scenarios that have one, and what they are about. With `-brief` behind it, a
    /// name stands for the same with tables that are seeded, a fifth of the lookups and values, and at
    /// most ten minutes of churn.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        NAMES.into_iter()
    }

    /// The scenario of that name, with seed 1 and, unless it says otherwise, 1,000 nodes. `None`: there
    /// is none.
    ///
    /// ```
    /// use khashmir::sim::Scenario;
    ///
    /// assert!(Scenario::names().all(|(name, _)| Scenario::named(name).is_some()));
    /// ```
    pub fn named(name: &str) -> Option<Scenario> {
        let (known, brief) = match name.strip_suffix(BRIEF) {
            Some(known) => (known, true),
            None => (name, false),
        };
        NAMES.into_iter().find(|(name, _)| *name == known)?;
        let share = if brief { 5 } else { 1 };
        let base = Scenario {
            name: name.to_owned(),
            entry: Entry::Joining(64),
            // Nodes that did not find all of their neighbours have looked again by then.
            settle: 4 * MINUTE,
            lookups: Lookups { count: 1000 / share, every: SECOND / 20, ..Lookups::default() },
            values: Values {
                count: 100 / share,
                from: 2 * MINUTE,
                over: 10 * SECOND,
                searches: 10,
                until: MINUTE,
                ..Values::default()
            },
            ..Scenario::default()
        };
        let hours = |hours| if brief { 10 * MINUTE } else { hours * HOUR };
        let far_apart = |percent: u32| Conditions {
            latency: Latency::Regions(Regions::default()),
            jitter: Duration::from_millis(5),
            loss: percent * 10_000,
            ..Conditions::default()
        };
        let lossy = |percent: u32| Conditions { loss: percent * 10_000, ..Conditions::default() };
        let scenario = match known {
            "fault-free" => base,
            "seeded" | "large" => Scenario { entry: Entry::Seeded, settle: MINUTE, ..base },
            "loss-1" => Scenario { conditions: lossy(1), ..base },
            "loss-5" => Scenario { conditions: lossy(5), ..base },
            "loss-10" => Scenario { conditions: lossy(10), ..base },
            "loss-20" => Scenario { conditions: lossy(20), ..base },
            "dead-10" => Scenario { dead: 100_000, ..base },
            "dead-30" => Scenario { dead: 300_000, ..base },
            "churn-60" => base.with_churn(Session::Exponential(HOUR), hours(1)),
            "churn-15" => base.with_churn(Session::Exponential(15 * MINUTE), hours(1)),
            "churn-5" => base.with_churn(Session::Exponential(5 * MINUTE), hours(1)),
            "churn-heavy" => base.with_churn(Session::HeavyTailed(HOUR), hours(3)),
            "churn-day" => {
                let span = hours(24);
                let day = base.with_churn(Session::Exponential(HOUR), span);
                let (count, over) = (1000 / share, span / 24);
                let values = Values { count, over, searches: 24, until: span, ..day.values };
                Scenario { values, ..day }
            }
            "partition" => base.with_partition(),
            "regions" => Scenario { conditions: far_apart(0), ..base },
            "regions-loss-20" => Scenario { conditions: far_apart(20), ..base },
            _ => Scenario { originals: 500_000, ..base },
        };
        let scenario = match known {
            "large" => {
                let values = Values { count: 1000 / share, searches: 1, ..scenario.values };
                Scenario { nodes: 100_000 / share, values, ..scenario }
            }
            _ => scenario,
        };
        if brief {
            return Some(Scenario {
                entry: Entry::Seeded,
                settle: MINUTE,
                sample: Duration::ZERO,
                ..scenario
            });
        }
        Some(scenario)
    }

    /// The same in a network that was joined, of which nodes come and go for `span`, with lookups all
    /// the time, and values that are stored in its first quarter and looked for from a minute later on.
    fn with_churn(self, session: Session, span: Duration) -> Scenario {
        let (churn, over) = (Some(Churn { session }), span / 4);
        let lookups = Lookups { every: span / self.lookups.count, ..self.lookups };
        let values = Values { from: Duration::ZERO, over, after: MINUTE, until: span, ..self.values };
        Scenario { churn, lookups, values, span, sample: span / 48, ..self }
    }

    /// The same with a third cut off after five minutes, for ten, and ten more to go on.
    fn with_partition(self) -> Scenario {
        let span = 25 * MINUTE;
        let lookups = Lookups { every: span / self.lookups.count, ..self.lookups };
        let over = 20 * MINUTE;
        let values = Values { from: Duration::ZERO, over, until: 10 * MINUTE, ..self.values };
        let cut = Some(Cut { share: 333_333, from: 5 * MINUTE, span: 10 * MINUTE });
        Scenario { cut, lookups, values, span, sample: MINUTE, ..self }
    }
}
