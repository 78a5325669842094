//! How large the structures are of which there are many: a hundred thousand nodes, each with its
//! connections, contacts and calls, are to fit into one process.

use khashmir::Contact;
use khashmir::airhook::connection::Connection;
use khashmir::airhook::flight::Flight;
use khashmir::airhook::window::Window;
use khashmir::airhook::{Messages, Stream};
use khashmir::context::Alarm;
use khashmir::krpc::calls::Call;
use khashmir::lookup::Lookup;
use khashmir::node::Node;
use khashmir::node::peers::Waiter;
use khashmir::store::Resident;
use khashmir::table::{Entry, Table};

/// What it takes, in bytes, and what it may.
macro_rules! sizes {
    ($($what:ty: $most:expr),* $(,)?) => { [$((stringify!($what), size_of::<$what>(), $most)),*] };
}

#[test]
fn structures_stay_small() {
    let sizes = sizes! {
        Contact: 52,
        // A table has some ten of them for each doubling of the network.
        Entry: 64,
        Table: 64,
        // The mux's own entry, with a connection and a stream in it, is held by a test beside it.
        Connection: 104,
        Stream: 24,
        Messages: 32,
        // What is there only while something is under way.
        Flight: 128,
        Window: 72,
        Call<Waiter>: 144,
        Lookup: 208,
        // With each timer.
        Alarm: 20,
        // With each node.
        Resident: 240,
        Node: 1500,
    };
    let tell = |(what, is, most): &(&str, usize, usize)| format!("{what}: {is} bytes, at most {most}");
    let table: Vec<String> = sizes.iter().map(tell).collect();
    println!("{}", table.join("\n"));
    assert!(sizes.iter().all(|(_, is, most)| is <= most), "{}", table.join("\n"));
}
