//! The routing table: finding the contacts nearest to a target, hearing of one, a failure; time and
//! allocations of each.
//!
//! `cargo bench --bench table`

use std::net::SocketAddr;

use divan::{AllocProfiler, Bencher, black_box};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::table::Table;
use khashmir::time::Time;
use khashmir::{Contact, Id};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// How many nodes have been heard of; the table keeps some of them.
const HEARD: [u32; 3] = [20, 1000, 100_000];
const K: usize = 8;

fn table(heard: u32) -> (Table, Vec<Contact>, Random) {
    let mut rng = seeded(seed_from_number(1));
    let mut table = Table::new(Id::random(&mut rng), K, Time::ZERO);
    for number in 0..heard {
        let addr = SocketAddr::from((number.to_be_bytes(), 4000));
        table.heard(Contact { id: Id::random(&mut rng), addr }, Time::ZERO);
    }
    let contacts = table.iter().map(|entry| entry.contact).collect();
    (table, contacts, rng)
}

#[divan::bench(args = HEARD)]
fn nearest(bencher: Bencher, heard: u32) {
    let (table, _, mut rng) = table(heard);
    let targets: Vec<Id> = (0..1024).map(|_| Id::random(&mut rng)).collect();
    let (mut nth, mut out) = (0, Vec::with_capacity(4 * K));
    bencher.bench_local(|| {
        nth = (nth + 1) % targets.len();
        table.nearest(black_box(&targets[nth]), K, &mut out);
        out.len()
    });
}

#[divan::bench(args = HEARD)]
fn heard_again(bencher: Bencher, heard: u32) {
    let (mut table, contacts, _) = table(heard);
    let mut nth = 0;
    bencher.bench_local(|| {
        nth = (nth + 1) % contacts.len();
        table.heard(black_box(contacts[nth]), Time::ZERO)
    });
}
