//! What a node has said that it renews, it does, on a disk that fails, too.

#[path = "support/network.rs"]
mod network;
#[path = "support/vfs.rs"]
mod vfs;

use khashmir::engine::Outcome;
use khashmir::{Config, Id, NodeOptions};
use network::*;
use std::sync::Arc;
use vfs::{Kind, Plan, WRITING};

#[test]
fn what_is_said_to_be_renewed_is() {
    vfs::install();
    let (mut kept, mut lost) = (0, 0);
    for at in 1.. {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Some(directory.path().join("node.db"));
        let options = NodeOptions { config: Arc::new(Config::default()), id: None, store };
        let mut network = Network::new(at);
        let node = network.node_with(address(0), address(0), options);
        network.run(ms(1));
        vfs::plan(Plan { calls: &WRITING, at, lasting: false, kind: Kind::Disk });
        let outcome = network.store(node, Id::of(b"key"), b"value");
        let report = vfs::lift();
        let said = matches!(&outcome, Outcome::Stored(Ok(stored)) if stored.renewed);
        let is_so = network.engine.withdraw(network.now, node, Id::of(b"key"), b"value");
        assert_eq!(is_so, Ok(said), "write {at} fails: {outcome:?}");
        *(if said { &mut kept } else { &mut lost }) += 1;
        if report.failed == 0 {
            break;
        }
    }
    assert!(kept > 0 && lost > 1, "{kept} renewed, {lost} not");
}
