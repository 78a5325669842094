//! The checks on settings that depend on each other.

use khashmir::Config;

fn refused(config: Config) -> Option<&'static str> {
    config.validate().err().map(|error| error.setting)
}

#[test]
fn a_message_has_room_for_a_value_and_for_k_contacts() {
    let with = |k, max_value_size, max_message_size| {
        refused(Config { k, store_redundancy: 1, max_value_size, max_message_size, ..Config::default() })
    };
    assert_eq!(refused(Config::default()), None);
    assert_eq!(with(8, 99_000, 99_999), None);
    assert_eq!(with(8, 99_000, 99_998), Some("max_message_size"));
    assert_eq!(with(64, 0, 7399), None);
    assert_eq!(with(64, 0, 7398), Some("max_message_size"));
    assert_eq!(with(1, 0, 100_000), Some("max_message_size"));
    assert_eq!(with(usize::MAX, usize::MAX, 99_999), Some("k"));
}

#[test]
fn an_answer_has_room_for_a_value_and_for_k_contacts() {
    let with = |k, max_value_size, max_response| {
        refused(Config { k, store_redundancy: 1, max_value_size, max_response, ..Config::default() })
    };
    assert_eq!(with(8, 99_000, 99_999), None);
    assert_eq!(with(8, 99_000, 99_998), Some("max_response"));
    assert_eq!(with(64, 0, 7399), None);
    assert_eq!(with(64, 0, 7398), Some("max_response"));
    assert_eq!(with(1, 0, 100_000), Some("max_response"));
}

#[test]
fn redundancy_is_at_most_k_and_unproven_senders_at_most_all() {
    assert_eq!(refused(Config { k: 2, ..Config::default() }), Some("store_redundancy"));
    let config = Config { max_connections: 100, ..Config::default() };
    assert_eq!(refused(config), Some("max_unproven"));
    assert_eq!(refused(Config { inbound_loss: f64::NAN, ..Config::default() }), Some("inbound_loss"));
}

#[test]
fn values_may_be_left_to_themselves() {
    use std::time::Duration;
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    let with = |renew_interval, hand_on_interval| {
        refused(Config { renew_interval, hand_on_interval, ..Config::default() })
    };
    assert_eq!(with(zero, zero), None);
    assert_eq!(with(second, second), None);
    assert_eq!(with(second / 2, zero), Some("renew_interval"));
    assert_eq!(with(Duration::MAX, second / 2), Some("hand_on_interval"));
    assert_eq!(with(zero, Duration::from_secs(12 * 3600 + 1)), Some("hand_on_interval"));
    assert_eq!(refused(Config { upkeep_rate: 0, ..Config::default() }), Some("upkeep_rate"));
}
