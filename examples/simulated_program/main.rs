//! How to test the logic of a program of your own on simulated nodes: a meeting place, where members
//! announce themselves under a common key and look who else is there.
//!
//! The logic, [`Member`], knows nothing of nodes and clocks: it is told what happened, and says what it
//! wants done. A program hands that to a `Khashmir`; here a simulation does it, for an hour, while a
//! fifth of all datagrams are lost for a while and a member's host crashes.
//!
//! ```text
//! cargo run --features sim --example simulated_program
//! KHASHMIR_SEED=2 cargo run --features sim --example simulated_program
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::sim::{Conditions, Happening, Host, Latency, Setup, Simulation, seed_or};
use khashmir::time::Time;
use khashmir::{Config, Id, NodeOptions};

const MEMBERS: usize = 12;
const ROUND: Duration = Duration::from_secs(60);
/// Members that are gone are to be forgotten soon.
const LIFETIME: Duration = Duration::from_secs(600);

/// The program under test: what one member knows and does.
#[derive(Default)]
struct Member {
    name: String,
    present: BTreeSet<String>,
    found: BTreeSet<String>,
    rounds: u32,
}

/// What a member wants done.
enum Wish {
    Announce(String),
    Look,
}

impl Member {
    /// Another minute has gone by.
    fn tick(&mut self) -> Vec<Wish> {
        self.rounds += 1;
        let mut wishes = vec![Wish::Look];
        // Often enough that one announcement may fail.
        if self.rounds % 4 == 1 {
            wishes.push(Wish::Announce(self.name.clone()));
        }
        wishes
    }

    /// A search has brought names, or ended, well or not.
    fn heard(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Values(names) => {
                self.found.extend(names.values.iter().map(|name| String::from_utf8_lossy(name).into_owned()));
            }
            Outcome::ValuesEnd(Ok(_)) => self.present = std::mem::take(&mut self.found),
            Outcome::ValuesEnd(Err(_)) => self.found.clear(),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut sim = Simulation::new(seed_or(1))?;
    sim.set_command(format!(
        "KHASHMIR_SEED={} cargo run --features sim --example simulated_program",
        sim.seed()
    ));
    let latency = Latency::LogNormal { median: Duration::from_millis(50), sigma: 500 };
    let usual = Conditions { latency, loss: 10_000, ..Conditions::default() };
    let bad = Conditions { loss: 200_000, ..usual.clone() };
    sim.set_conditions(usual.clone())?;

    let place = Id::of(b"meeting place");
    let config = Config { value_lifetime: LIFETIME, ..Config::default() };
    let options = NodeOptions { config: config.into(), ..NodeOptions::default() };
    let mut hosts: Vec<Host> = Vec::new();
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        let host = sim.add_node(Setup { options: options.clone(), ..Setup::default() })?;
        if n > 0 {
            sim.join(host, hosts[0])?;
        }
        hosts.push(host);
        members.push(Member { name: format!("member {n}"), ..Member::default() });
        // An alarm bears a number: here, whose it is.
        sim.schedule(sim.now(), n as u64);
    }

    let start = sim.now();
    let minute = |n: u64| start + Duration::from_secs(60) * n as u32;
    run(&mut sim, minute(20), &mut members, &hosts, place);
    assert!(members.iter().all(|member| member.present.len() == MEMBERS), "all know all");

    sim.set_conditions(bad)?;
    run(&mut sim, minute(30), &mut members, &hosts, place);
    assert!(members.iter().all(|member| member.present.len() == MEMBERS), "losses do not matter");

    sim.set_conditions(usual)?;
    sim.crash(hosts[7])?;
    run(&mut sim, minute(60), &mut members, &hosts, place);
    let gone = members.remove(7).name;
    assert!(members.iter().all(|member| member.present.len() == MEMBERS - 1), "all know all that are left");
    assert!(members.iter().all(|member| !member.present.contains(&gone)), "who is gone is forgotten");

    let (datagrams, bytes) = sim.traffic();
    println!("{MEMBERS} members, one hour: {datagrams} datagrams, {bytes} bytes");
    println!("digest: {}", sim.digest());
    Ok(())
}

/// Lets the members act until a certain time.
fn run(sim: &mut Simulation, until: Time, members: &mut [Member], hosts: &[Host], place: Id) {
    while let Some(happening) = sim.next(until) {
        match happening {
            Happening::Alarm(n) => {
                let host = hosts[n as usize];
                for wish in members[n as usize].tick() {
                    // None: its host has crashed.
                    let _ = match wish {
                        Wish::Announce(name) => sim.store_value(host, place, name.into_bytes(), None),
                        Wish::Look => sim.find_values(host, place),
                    };
                }
                sim.schedule(sim.now() + ROUND, n);
            }
            Happening::Operation { host, outcome, .. } => members[host.number()].heard(&outcome),
        }
    }
}
