//! Scenarios that have a name.

use std::sync::Arc;
use std::time::Duration;

use super::{Churn, Cut, Entry, Lookups, Scenario, Session, Values};
use crate::sim::network::Conditions;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What they are called, and what they are about.
const NAMES: [(&str, &str); 19] = [
    ("fault-free", "nothing goes wrong: lookups, then values and searches for them"),
    ("joining", "the same, in a network that nodes have joined one by one"),
    ("seeded", "1,000 lookups, 1,000 values and searches for them: for large networks"),
    ("loss-1", "1 % of all datagrams are lost"),
    ("loss-5", "5 % of all datagrams are lost"),
    ("loss-10", "10 % of all datagrams are lost"),
    ("loss-20", "20 % of all datagrams are lost"),
    ("dead-10", "10 % of the nodes have just crashed when the lookups begin"),
    ("dead-30", "30 % of the nodes have just crashed when the lookups begin"),
    ("churn-60", "nodes stay for 60 minutes on average; an hour"),
    ("churn-15", "nodes stay for 15 minutes on average; an hour"),
    ("churn-5", "nodes stay for 5 minutes on average; an hour"),
    ("churn-60-brief", "the same; 10 minutes"),
    ("churn-15-brief", "the same; 10 minutes"),
    ("churn-5-brief", "the same; 10 minutes"),
    ("churn-heavy", "nodes stay for 60 minutes on average, most for less and a few for long; 3 hours"),
    ("churn-day", "nodes stay for 60 minutes on average; 24 hours, values stored in the first"),
    ("partition", "a third of the nodes is cut off for ten minutes"),
    ("mixture", "half of the nodes are peers as of 2003"),
];

impl Scenario {
    /// The names of all scenarios that have one, and what they are about.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        NAMES.into_iter()
    }

    /// The scenario of that name, with 1,000 nodes and seed 1. `None`: there is none.
    pub fn named(name: &str) -> Option<Scenario> {
        let (name, _) = NAMES.into_iter().find(|(known, _)| *known == name)?;
        let base = Scenario {
            name: name.to_owned(),
            lookups: Lookups { count: 1000, every: Duration::from_millis(50), ..Lookups::default() },
            values: Values {
                count: 100,
                from: 2 * MINUTE,
                over: Duration::from_secs(10),
                searches: 10,
                until: MINUTE,
                ..Values::default()
            },
            ..Scenario::default()
        };
        let lossy = |percent: u32| Conditions { loss: percent * 10_000, ..Conditions::default() };
        Some(match name {
            "fault-free" => base,
            "joining" => Scenario { entry: Entry::Joining(64), ..base },
            "seeded" => {
                let values = Values { count: 1000, searches: 1, ..base.values };
                Scenario { values, ..base }
            }
            "loss-1" => Scenario { conditions: lossy(1), ..base },
            "loss-5" => Scenario { conditions: lossy(5), ..base },
            "loss-10" => Scenario { conditions: lossy(10), ..base },
            "loss-20" => Scenario { conditions: lossy(20), ..base },
            "dead-10" => Scenario { dead: 100_000, ..base },
            "dead-30" => Scenario { dead: 300_000, ..base },
            "churn-60" => churn(base, Session::Exponential(HOUR), HOUR),
            "churn-15" => churn(base, Session::Exponential(15 * MINUTE), HOUR),
            "churn-5" => churn(base, Session::Exponential(5 * MINUTE), HOUR),
            "churn-60-brief" => churn(base, Session::Exponential(HOUR), 10 * MINUTE),
            "churn-15-brief" => churn(base, Session::Exponential(15 * MINUTE), 10 * MINUTE),
            "churn-5-brief" => churn(base, Session::Exponential(5 * MINUTE), 10 * MINUTE),
            "churn-heavy" => churn(base, Session::HeavyTailed(HOUR), 3 * HOUR),
            "churn-day" => {
                let day = churn(base, Session::Exponential(HOUR), 24 * HOUR);
                let until = day.config.value_lifetime;
                let values =
                    Values { count: 1000, over: HOUR, searches: 24, after: MINUTE, until, ..day.values };
                Scenario { values, ..day }
            }
            "partition" => {
                let lookups = Lookups { every: Duration::from_millis(1500), ..base.lookups };
                let values = Values {
                    from: Duration::ZERO,
                    over: 20 * MINUTE,
                    searches: 10,
                    until: 10 * MINUTE,
                    ..base.values
                };
                let cut = Cut { share: 333_333, from: 5 * MINUTE, span: 10 * MINUTE };
                Scenario {
                    entry: Entry::Joining(64),
                    cut: Some(cut),
                    lookups,
                    values,
                    span: 25 * MINUTE,
                    sample: MINUTE,
                    ..base
                }
            }
            _ => Scenario { entry: Entry::Joining(64), originals: 500_000, ..base },
        })
    }

    /// The same with fewer lookups, values and searches, for when there is little time to run it.
    #[must_use]
    pub fn with_share_of_work(mut self, share: u32) -> Scenario {
        let share = share.max(1);
        self.lookups.count = self.lookups.count.div_ceil(share);
        self.lookups.every *= share;
        self.values.count = self.values.count.div_ceil(share);
        self
    }

    /// The same with other settings for all nodes.
    #[must_use]
    pub fn with_config(mut self, config: crate::config::Config) -> Scenario {
        self.config = Arc::new(config);
        self
    }
}

/// A network that was joined, of which nodes come and go for `span`; lookups all the time, values
/// stored in its first quarter and looked for from a minute later on.
fn churn(base: Scenario, session: Session, span: Duration) -> Scenario {
    let lookups = Lookups { every: span / base.lookups.count, ..base.lookups };
    let values = Values {
        from: Duration::ZERO,
        over: span / 4,
        after: MINUTE,
        until: span * 3 / 4,
        ..base.values
    };
    Scenario {
        entry: Entry::Joining(64),
        churn: Some(Churn { session }),
        lookups,
        values,
        span,
        sample: span / 48,
        ..base
    }
}
