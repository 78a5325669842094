//! The commands: how they are read, done and answered.

use std::str::FromStr;

use khashmir::{Contact, ContactInfo, Id, Khashmir, Operation, OperationError, Stats};
use serde_json::{Value, json};

pub const HELP: &str = "\
Commands, one a line, and the keys of their answers besides \"command\":
  contact HOST PORT      ask the node there who it is, and keep it as a contact
                         (id, address)
  closest                look for the nodes nearest to this one (nodes)
  find HEXID             look for a node (found, nodes: nearest first)
  store HEXKEY HEXVALUE  store a value beside others of that key (accepted: by
                         which nodes)
  get HEXKEY             look for the values of a key (values)
  table                  show the contacts that it has (contacts)
  stats                  show its counters
  help                   show this
  quit                   save and leave, as the end of the input does
Ids and keys are 40 hexadecimal digits, values any even number of them. An answer
with the key \"error\" says why a command could not be read or done.";

pub enum Command {
    Contact { host: String, port: u16 },
    Closest,
    Find { id: Id },
    Store { key: Id, value: Vec<u8> },
    Get { key: Id },
    Table,
    Stats,
    Help,
    Quit,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let id = |text: &str| text.parse::<Id>().map_err(|e| format!("{text:?}: {e}"));
        Ok(match *words.as_slice() {
            ["contact", host, port] => {
                let port = port.parse().ok().filter(|&port| port != 0);
                let port = port.ok_or("a port is a number from 1 to 65535")?;
                Command::Contact { host: host.to_owned(), port }
            }
            ["closest"] => Command::Closest,
            ["find", target] => Command::Find { id: id(target)? },
            ["store", key, value] => Command::Store { key: id(key)?, value: from_hex(value)? },
            ["get", key] => Command::Get { key: id(key)? },
            ["table"] => Command::Table,
            ["stats"] => Command::Stats,
            ["help"] => Command::Help,
            ["quit"] => Command::Quit,
            [] => return Err("no command".into()),
            [name, ..] => return Err(usage(name)),
        })
    }
}

/// What is wrong with a line whose first word is this.
fn usage(name: &str) -> String {
    let lines = HELP.lines().filter_map(|line| line.strip_prefix("  "));
    let mut usages = lines.filter_map(|line| line.split("  ").next());
    match usages.find(|usage| usage.split(' ').next() == Some(name)) {
        Some(usage) => format!("usage: {usage}"),
        None => format!("unknown command {name:?}; help shows them all"),
    }
}

impl Command {
    /// Starts it, with `answer` to be called once, perhaps on another thread. What
    /// takes longer can be cancelled.
    pub fn start(self, node: &Khashmir, answer: impl FnOnce(Value) + Send + 'static) -> Option<Operation> {
        match self {
            Command::Contact { host, port } => Some(node.add_contact(&host, port, move |result| {
                answer(outcome("contact", result.map(|contact| contact_json(&contact))));
            })),
            Command::Closest => Some(node.find_close_nodes(move |result| {
                answer(outcome("closest", result.map(|nodes| json!({"nodes": list(&nodes)}))));
            })),
            Command::Find { id } => Some(node.find_node(id, move |result| {
                let nodes = result.map(|nodes| {
                    let found = nodes.first().is_some_and(|first| first.id == id);
                    json!({"id": id.to_string(), "found": found, "nodes": list(&nodes)})
                });
                answer(outcome("find", nodes));
            })),
            Command::Store { key, value } => Some(node.store_value_for_key(key, value, move |result| {
                let accepted = |nodes: Vec<_>| json!({"key": key.to_string(), "accepted": list(&nodes)});
                answer(outcome("store", result.map(accepted)));
            })),
            Command::Get { key } => {
                let (mut found, mut answer) = (Vec::new(), Some(answer));
                Some(node.value_for_key(key, move |result| match result {
                    Ok(values) if !values.is_empty() => found.extend(values),
                    last => {
                        // What came before its time was up is an answer too.
                        let last = if found.is_empty() { last } else { Ok(std::mem::take(&mut found)) };
                        let values = last.map(|values| {
                            let values: Vec<_> = values.iter().map(|value| to_hex(value)).collect();
                            json!({"key": key.to_string(), "values": values})
                        });
                        if let Some(answer) = answer.take() {
                            answer(outcome("get", values));
                        }
                    }
                }))
            }
            Command::Table => {
                let contacts =
                    |known: Vec<_>| json!({"contacts": known.iter().map(known_json).collect::<Vec<_>>()});
                answer(outcome("table", node.contacts().map(contacts)));
                None
            }
            Command::Stats => {
                answer(outcome("stats", node.stats().map(|stats| stats_json(&stats))));
                None
            }
            Command::Help => {
                answer(json!({"command": "help", "text": HELP}));
                None
            }
            Command::Quit => {
                answer(json!({"command": "quit"}));
                None
            }
        }
    }
}

/// The answer to the command `name`: what it brought, or why it did not.
fn outcome(name: &str, result: Result<Value, OperationError>) -> Value {
    let mut answer = result.unwrap_or_else(|e| json!({"error": e.to_string()}));
    answer["command"] = name.into();
    answer
}

fn list(contacts: &[Contact]) -> Vec<Value> {
    contacts.iter().map(contact_json).collect()
}

fn contact_json(contact: &Contact) -> Value {
    json!({"id": contact.id.to_string(), "address": contact.addr.to_string()})
}

fn known_json(known: &ContactInfo) -> Value {
    let mut contact = contact_json(&known.contact);
    contact["seconds_since_heard"] = known.last_heard.map(|ago| ago.as_secs()).into();
    contact["failures"] = known.failures.into();
    contact
}

fn stats_json(stats: &Stats) -> Value {
    json!({
        "contacts": stats.contacts,
        "network_size": stats.network_size,
        "values": stats.values,
        "value_bytes": stats.value_bytes,
        "connections": stats.connections,
        "packets_in": stats.packets_in,
        "packets_out": stats.packets_out,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "dropped": stats.dropped,
        "calls_sent": stats.calls_sent,
        "calls_pending": stats.calls_pending,
        "calls_failed": stats.calls_failed,
        "values_published": stats.values_published,
        "values_not_renewed": stats.values_not_renewed,
        "values_renewed": stats.values_renewed,
        "hand_on_checks": stats.hand_on_checks,
        "values_handed_on": stats.values_handed_on,
        "upkeep_bytes": stats.upkeep_bytes,
    })
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |value| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = "a value is an even number of hexadecimal digits";
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or(wrong)?;
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}
