//! A whole network on one thread: creates peers, gives each three random
//! contacts, has each find its closest nodes, and then looks for peers and values
//! at random, as the script that came with the Khashmir of 2003 did.

// It measures how long things take.
#![allow(clippy::disallowed_methods)]

mod network;
mod report;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use khashmir::random::{seed_from_number, seeded};
use khashmir::reactor::Reactor;
use khashmir::{Config, Id};
use rand::rngs::SysRng;
use rand::{RngExt, TryRng};

use network::{Job, Network, Phase};
use show::{Show, say};

/// Nodes that join at the same time: more would overflow each other's sockets,
/// as a real network never would.
const JOINING_AT_ONCE: usize = 32;
const CONTACTS_EACH: usize = 3;
const ROUNDS: usize = 10;
const SEARCHERS: usize = 3;

/// Builds a network of Khashmir peers on this machine and tries it out.
///
/// All peers run on one thread, each with a UDP socket of its own on 127.0.0.1.
/// The exit status is 0 when everything was found, 1 when something was not, and
/// 2 when the network could not be set up or
/// the summary not be printed.
#[derive(Parser)]
#[command(name = "khashmir", version)]
struct Options {
    /// How many peers to create; at least 2.
    #[arg(value_name = "NUM_PEERS", value_parser = peer_count, allow_negative_numbers = true)]
    peers: usize,

    /// Make the random choices (ids, contacts, keys) of an earlier run again.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Throw away this share of the datagrams that arrive, 0 to 100.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, allow_negative_numbers = true)]
    loss: f64,

    /// Keep each peer's values and contacts in a file in this directory, instead
    /// of in memory.
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,

    /// The first peer's UDP port, the next one's being one higher, and so on. 0:
    /// any free ports.
    #[arg(long, value_name = "BASE", default_value_t = 0)]
    port: u16,

    /// When all is done, leave the network alone for so long, and say how much of a
    /// processor that took.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u64,

    /// Log what each peer looks for and what comes of it; twice: when it begins, too.
    /// (RUST_LOG says it in detail.)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let level = ["warn", "debug", "trace"][usize::from(options.verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("khashmir: {why}");
            ExitCode::from(2)
        }
    }
}

fn peer_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a number of peers is wanted, at least 2".into())
}

/// Says whether everything was found; an error is why it could not be tried.
fn run(options: &Options) -> Result<bool, String> {
    check(options)?;
    let seed = match options.seed {
        Some(seed) => seed,
        None => SysRng.try_next_u64().map_err(|e| format!("no random numbers: {e}"))?,
    };
    let mut choices_seed = seed_from_number(seed);
    choices_seed[31] = 1; // Other numbers than the nodes draw.
    let mut rng = seeded(choices_seed);
    let show = Show::new(options.verbose > 0);
    let n = options.peers;
    let loss =
        if options.loss > 0.0 { format!(", {} % of datagrams lost", options.loss) } else { String::new() };
    say!("{n} peers on 127.0.0.1 (--seed {seed}){loss}");

    let reactor = Reactor::with_seed(seed_from_number(seed)).map_err(|e| e.to_string())?;
    let config = Config { inbound_loss: options.loss / 100.0, ..Config::default() };
    let mut network = Network::new(reactor, Arc::new(config));
    network.create(n, options.port, options.db.as_deref(), show)?;

    let mut contacts = Phase::new("add three contacts");
    let jobs = (0..n).flat_map(|from| {
        others(&mut rng, n, from, CONTACTS_EACH).into_iter().map(move |to| Job::Contact { from, to })
    });
    let jobs: Vec<_> = jobs.collect();
    let progress = show.begin(contacts.name, jobs.len());
    network.run(&mut contacts, jobs, JOINING_AT_ONCE, &progress)?;
    progress.end(&[&contacts]);

    let mut close = Phase::new("find close nodes");
    let progress = show.begin(close.name, n);
    network.run(&mut close, (0..n).map(|from| Job::Close { from }).collect(), JOINING_AT_ONCE, &progress)?;
    progress.end(&[&close]);
    say!("  {}", report::beside_2003(n, options.loss, &close));

    let mut peers = Phase::new("find a peer");
    let progress = show.begin(peers.name, ROUNDS);
    for _ in 0..ROUNDS {
        let from = rng.random_range(0..n);
        let to = others(&mut rng, n, from, 1)[0];
        network.run(&mut peers, vec![Job::Find { from, to }], 1, &progress)?;
    }
    progress.end(&[&peers]);

    let (mut stores, mut values) = (Phase::new("store a value"), Phase::new("find a value"));
    let progress = show.begin("store and find values", ROUNDS * (1 + SEARCHERS));
    for _ in 0..ROUNDS {
        let key = Id::random(&mut rng);
        let value = Id::random(&mut rng).to_string().into_bytes();
        let from = rng.random_range(0..n);
        let job = Job::Store { from, key, value: value.clone() };
        network.run(&mut stores, vec![job], 1, &progress)?;
        // In a network of two there is only one to search, who does so thrice.
        let searchers = others(&mut rng, n, from, SEARCHERS).into_iter().cycle().take(SEARCHERS);
        let jobs = searchers.map(|from| Job::Get { from, key, value: value.clone() }).collect();
        network.run(&mut values, jobs, SEARCHERS, &progress)?;
    }
    progress.end(&[&stores, &values]);

    let phases = [contacts, close, peers, stores, values];
    network.finish();
    report::print(&phases, &network);
    if options.idle > 0 {
        say!("{}", report::idle(options.idle, network.idle(Duration::from_secs(options.idle))?));
    }
    Ok(phases.iter().all(Phase::is_complete))
}

/// Refuses what cannot work, before anything is started.
fn check(options: &Options) -> Result<(), String> {
    let Options { peers, loss, port, ref db, .. } = *options;
    if peers < 2 {
        return Err("a network needs at least two peers".into());
    }
    if !(0.0..=100.0).contains(&loss) {
        return Err(format!("--loss {loss}: a share in percent is from 0 to 100"));
    }
    if port != 0 && peers.saturating_add(port.into()) > usize::from(u16::MAX) + 1 {
        return Err(format!("--port {port}: there are not {peers} ports from there up to 65535"));
    }
    // A socket each; a store of SQLite's has a file, a log and an index to it.
    let files = if db.is_some() { 4 } else { 1 };
    const OTHERS: u64 = 32;
    let needed = (peers as u64).saturating_mul(files).saturating_add(OTHERS);
    let cannot = |e| format!("the limit of file descriptors cannot be raised: {e}");
    let allowed = rlimit::increase_nofile_limit(needed).map_err(cannot)?;
    if allowed < needed {
        let most = allowed.saturating_sub(OTHERS) / files;
        return Err(format!(
            "{peers} peers need {needed} file descriptors, and this process may have {allowed}: \
             enough for {most} peers (`ulimit -Hn` shows the limit)"
        ));
    }
    Ok(())
}

/// Up to `count` different peers of `0..n`, at random, without `except`.
fn others(rng: &mut impl RngExt, n: usize, except: usize, count: usize) -> Vec<usize> {
    if n - 1 <= count {
        return (0..n).filter(|&peer| peer != except).collect();
    }
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let peer = rng.random_range(0..n);
        if peer != except && !chosen.contains(&peer) {
            chosen.push(peer);
        }
    }
    chosen
}
