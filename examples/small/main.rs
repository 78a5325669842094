//! A node for a small host: a file, a socket, a thread, and nothing else in the program.
//!
//! ```sh
//! cargo build --profile small --example small
//! target/small/examples/small node.db 0.0.0.0:4711 203.0.113.7:4711
//! ```
//!
//! Joins the network through the contacts given after its own address, if any, says where it is
//! reached, and serves until it is told to end (SIGTERM, SIGINT).
//! The README's section "Small hosts" says what it takes and how to make it smaller.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use khashmir::NodeOptions;
use khashmir::reactor::Reactor;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Stack of the thread that waits for signals, in bytes: it does nothing else.
const STACK: usize = 64 * 1024;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(store), Some(address)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: small FILE ADDRESS:PORT [CONTACT:PORT]...");
        return ExitCode::from(2);
    };
    match serve(&store, &address, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("small: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(store: &str, address: &str, contacts: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let address = socket_address(address)?;
    let contacts = contacts.map(|contact| socket_address(&contact)).collect::<Result<Vec<_>, _>>()?;
    let mut reactor = Reactor::new()?;
    let options = NodeOptions { store: Some(store.into()), ..NodeOptions::default() };
    let node = reactor.listen(address, options)?;
    let mut waiting = contacts.len();
    for contact in contacts {
        reactor.add_contact(node, contact, None, move |reactor, waiting: &mut usize, added| {
            if let Err(error) = added {
                eprintln!("small: {contact}: {error}");
            }
            *waiting -= 1;
            if *waiting == 0 {
                reactor.find_close_nodes(node, None, |_, _, _| ());
            }
        });
    }
    println!("{}", reactor.local_addr(node).unwrap_or(address));
    std::io::stdout().flush()?;
    let handle = reactor.handle();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().stack_size(STACK).spawn(move || {
        if signals.forever().next().is_some() {
            // An error: it has stopped.
            let _ = handle.call_from_thread(|reactor, _| reactor.stop());
        }
    })?;
    reactor.run(&mut waiting)?;
    Ok(reactor.close(node)?)
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text}: not an address and a port, like 192.0.2.1:4711 or [::]:4711"))
}
