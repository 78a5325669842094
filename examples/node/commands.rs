//! The commands: how they are read, done and answered.

use std::str::FromStr;
use std::time::Duration;

use khashmir::{
    Contact, ContactInfo, Effort, Found, FoundValues, Id, Khashmir, Operation, OperationError, Receipt,
    Stats, StoreReply, Stored,
};
use serde_json::{Value, json};

pub const HELP: &str = "\
Commands, one a line, and the keys of their answers besides \"command\":
  contact HOST PORT      ask the node there who it is, and keep it as a contact
                         (id, address)
  closest                look for the nodes nearest to this one (nodes; hops,
                         asked, answered, failed: what it took)
  find HEXID             look for a node (found, nodes: nearest first; what it
                         took)
  store HEXKEY HEXVALUE [SECONDS]
                         store a value beside others of that key, and again
                         every hour; or once, for so long (accepted: by how many
                         nodes, needed: how many had to, until: when so many
                         still have it, renewed: if it is stored again, receipts:
                         what each said, reply and until, reason or nothing; what
                         finding them took)
  withdraw HEXKEY HEXVALUE
                         store a value no more: in time it is forgotten
                         (withdrawn: false if it was not this node's)
  get HEXKEY             look for the values of a key (values, by: which node
                         brought which, and known: how many more that others had
                         brought before; what it took)
  table                  show the contacts that it has (contacts)
  stats                  show its counters
  help                   show this
  quit                   save and leave, as the end of the input does
Ids and keys are 40 hexadecimal digits, values any even number of them; until is in
seconds since 1970. An answer with the key \"error\" says why a command could not be
read or done, and \"kind\" says so in one word, \"input\" where it could not be read; too
few that took a value have left their receipts.";

pub enum Command {
    Contact { host: String, port: u16 },
    Closest,
    Find { id: Id },
    Store { key: Id, value: Vec<u8>, life: Option<Duration> },
    Withdraw { key: Id, value: Vec<u8> },
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
            ["store", key, value] => Command::Store { key: id(key)?, value: from_hex(value)?, life: None },
            ["store", key, value, seconds] => {
                let seconds = seconds.parse().map_err(|_| "a life is a whole number of seconds")?;
                let life = Some(Duration::from_secs(seconds));
                Command::Store { key: id(key)?, value: from_hex(value)?, life }
            }
            ["withdraw", key, value] => Command::Withdraw { key: id(key)?, value: from_hex(value)? },
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
                answer(outcome("closest", result.map(|found| with(found_json(&found), found.effort))));
            })),
            Command::Find { id } => Some(node.find_node(id, move |result| {
                let found = result.map(|nodes| {
                    let mut found = with(found_json(&nodes), nodes.effort);
                    found["id"] = id.to_string().into();
                    found["found"] = nodes.first().is_some_and(|first| first.id == id).into();
                    found
                });
                answer(outcome("find", found));
            })),
            Command::Store { key, value, life } => {
                let node = life.map_or_else(|| node.clone(), |life| node.with_life(life));
                Some(node.store_value_for_key(key, value, move |result| {
                    let mut answered = outcome("store", result.map(|stored| stored_json(&stored)));
                    answered["key"] = key.to_string().into();
                    answer(answered);
                }))
            }
            Command::Withdraw { key, value } => {
                let withdrawn = |was: bool| json!({"key": key.to_string(), "withdrawn": was});
                answer(outcome("withdraw", node.withdraw(key, value).map(withdrawn)));
                None
            }
            Command::Get { key } => {
                let (mut by, mut answer) = (Vec::new(), Some(answer));
                Some(node.value_for_key(key, move |result| {
                    let end = match result {
                        Ok(Found::Values(found)) => return by.push(found),
                        Ok(Found::End(search)) => Ok(search.effort),
                        Err(error) => Err(error),
                    };
                    if let Some(answer) = answer.take() {
                        answer(got("get", key, &by, end));
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
    let mut answer = result.unwrap_or_else(|error| error_json(&error));
    answer["command"] = name.into();
    answer
}

/// What a search has brought. What came before it failed is an answer, too.
fn got(name: &str, key: Id, by: &[FoundValues], end: Result<Effort, OperationError>) -> Value {
    let end = end.map(|effort| with(json!({}), effort));
    let mut answer = outcome(name, end);
    if by.is_empty() && answer.get("error").is_some() {
        return answer;
    }
    let values = |found: &FoundValues| found.values.iter().map(|value| to_hex(value)).collect::<Vec<_>>();
    let brought = |found: &FoundValues| {
        let mut brought = contact_json(&found.by);
        brought["values"] = values(found).into();
        brought["known"] = found.known.into();
        brought
    };
    answer["key"] = key.to_string().into();
    answer["values"] = by.iter().flat_map(values).collect::<Vec<_>>().into();
    answer["by"] = by.iter().map(brought).collect::<Vec<_>>().into();
    answer
}

/// What became of a value.
fn stored_json(stored: &Stored) -> Value {
    let receipt = |receipt: &Receipt| {
        let mut json = contact_json(&receipt.contact);
        json["reply"] = match &receipt.reply {
            StoreReply::Accepted { until } => {
                json["until"] = until.0.into();
                "accepted".into()
            }
            StoreReply::Refused(reason) => {
                json["reason"] = reason.as_str().into();
                "refused".into()
            }
            StoreReply::NoAnswer(why) => {
                json["reason"] = why.to_string().into();
                "no answer".into()
            }
            StoreReply::Silent => "silent".into(),
        };
        json
    };
    let json = json!({
        "accepted": stored.accepted().count(),
        "needed": stored.needed,
        "until": stored.until().map(|until| until.0),
        "renewed": stored.renewed,
        "receipts": stored.receipts.iter().map(receipt).collect::<Vec<_>>(),
    });
    with(json, stored.effort)
}

/// Why it could not be done: in words, in one word, and with the receipts that there are.
fn error_json(error: &OperationError) -> Value {
    let kind = match error {
        OperationError::Deadline => "deadline",
        OperationError::Cancelled => "cancelled",
        OperationError::Closed => "closed",
        OperationError::QueueFull { .. } => "queue_full",
        OperationError::NoContacts => "no_contacts",
        OperationError::NobodyAnswered { .. } => "nobody_answered",
        OperationError::Resolve(_) => "resolve",
        OperationError::Call(_) => "call",
        OperationError::ValueTooLarge { .. } => "value_too_large",
        OperationError::ValueEmpty => "value_empty",
        OperationError::LifeOutOfBounds { .. } => "life_out_of_bounds",
        OperationError::ValueInvalid(_) => "value_invalid",
        OperationError::TooFew(_) => "too_few",
        OperationError::WouldBlock => "would_block",
        OperationError::Store(_) => "store",
    };
    let mut json = match error {
        OperationError::TooFew(stored) => stored_json(stored),
        _ => json!({}),
    };
    json["error"] = error.to_string().into();
    json["kind"] = kind.into();
    json
}

fn found_json(nodes: &[Contact]) -> Value {
    json!({"nodes": nodes.iter().map(contact_json).collect::<Vec<_>>()})
}

/// Adds what it took.
fn with(mut json: Value, effort: Effort) -> Value {
    json["hops"] = effort.hops.into();
    json["asked"] = effort.asked.into();
    json["answered"] = effort.answered.into();
    json["failed"] = effort.failed.into();
    json
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
        "values_refused": stats.values_refused,
        "values_displaced": stats.values_displaced,
        "values_invalid": stats.values_invalid,
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
