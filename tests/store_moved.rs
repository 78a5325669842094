//! What becomes of a node whose file is taken away, replaced or cut while it runs: what it acknowledges
//! must be found by who opens the file next.
#![cfg(unix)]

#[path = "support/network.rs"]
mod network;
#[path = "support/store.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use khashmir::krpc::message::{Fault, Message, Method};
use khashmir::store::{Database, Refusal, Resident};
use khashmir::time::UnixTime;
use khashmir::{Config, Durability, Id, NodeOptions, StoreError};
use network::{Network, address, secs, silent};
use rusqlite::Connection;
use support::*;

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn store(database: &mut Database, who: &mut Resident, number: u32) -> Result<(), StoreError> {
    put(database, who, &Id::of(b"new"), &value(number), UnixTime(2_000_000))?;
    database.commit()
}

fn is_moved(stored: &Result<(), StoreError>, path: &Path, which: &str) -> bool {
    let Err(StoreError::Moved { path: of, what }) = stored else { return false };
    of == path && what.starts_with(which) && Refusal::from(&stored.clone().unwrap_err()) == Refusal::Moved
}

/// All that the files have, and no more.
fn opened_again(path: &Path) -> Vec<Vec<u8>> {
    let (mut database, mut who) = open(path).expect("a sound file");
    assert_eq!(values(&mut database, &mut who, &key(0)).len(), 10);
    values(&mut database, &mut who, &Id::of(b"new"))
}

#[test]
fn what_is_taken_away_is_missed_until_it_is_back() {
    for end in ["", "-wal"] {
        for replaced in [false, true] {
            let (directory, path) = filled();
            let (mut database, mut who) = open(&path).expect("it is ours");
            store(&mut database, &mut who, 1).expect("all is well");
            let totals = (who.values(), who.bytes());

            let (file, aside) = (beside(&path, end), directory.path().join("aside"));
            fs::rename(&file, &aside).expect("a rename");
            if replaced {
                fs::copy(&aside, &file).expect("a copy");
            }
            for number in 2..5 {
                let stored = store(&mut database, &mut who, number);
                let name = file.file_name().expect("a name").to_str().expect("in ASCII");
                assert!(is_moved(&stored, &path, &format!("{name} has ")), "{end} {replaced}: {stored:?}");
                assert!(matches!(database.last_failure(), Some(StoreError::Moved { .. })));
            }
            // It gives out what it has.
            assert_eq!(values(&mut database, &mut who, &Id::of(b"new")), [value(1)]);
            assert_eq!((who.values(), who.bytes()), totals);

            fs::rename(&aside, &file).expect("a rename");
            store(&mut database, &mut who, 5).expect("it is back");
            drop((database, who));
            assert_eq!(opened_again(&path).len(), 2);
        }
    }
}

/// A file that is gone for good: the node says so to the end, and leaves alone what others put there.
#[test]
fn what_is_in_the_place_of_the_file_stays() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    store(&mut database, &mut who, 1).expect("all is well");
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&path, end)).expect("a file");
    }
    assert!(is_moved(&store(&mut database, &mut who, 2), &path, "node.db has been removed"));
    fs::write(&path, b"another's").expect("a file");
    fs::write(beside(&path, "-wal"), b"another's as well").expect("a file");
    assert!(is_moved(&store(&mut database, &mut who, 2), &path, "node.db has another"));
    assert!(matches!(database.move_out(who), Ok(())), "nothing was to be written");
    drop(database);
    assert_eq!(fs::read(&path).expect("a file"), b"another's");
    assert_eq!(fs::read(beside(&path, "-wal")).expect("a file"), b"another's as well");
}

/// By which way the node was told to come to its file.
#[test]
fn links_and_directories_lead_to_the_same_file() {
    let (directory, path) = filled();
    let (house, link) = (directory.path().join("house"), directory.path().join("link.db"));
    fs::create_dir(&house).expect("a directory");
    let real = house.join("node.db");
    fs::rename(&path, &real).expect("a rename");
    std::os::unix::fs::symlink("house/node.db", &link).expect("a link");

    let (mut database, mut who) = open(&link).expect("it is ours");
    store(&mut database, &mut who, 1).expect("all is well");
    // The link leads elsewhere.
    fs::remove_file(&link).expect("a link");
    fs::write(directory.path().join("other.db"), b"").expect("a file");
    std::os::unix::fs::symlink("other.db", &link).expect("a link");
    assert!(is_moved(&store(&mut database, &mut who, 2), &link, "link.db has another"));
    fs::remove_file(&link).expect("a link");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    store(&mut database, &mut who, 3).expect("it leads there again");
    // The whole directory goes.
    let moved = directory.path().join("moved");
    fs::rename(&house, &moved).expect("a rename");
    assert!(is_moved(&store(&mut database, &mut who, 4), &link, "link.db has been removed"));
    fs::rename(&moved, &house).expect("a rename");
    store(&mut database, &mut who, 5).expect("it is back");
    drop((database, who));
    assert_eq!(opened_again(&real).len(), 3);

    // The program goes elsewhere. (No other test here uses a path from where it stands.)
    std::env::set_current_dir(&house).expect("a directory");
    let (mut database, mut who) = open(Path::new("node.db")).expect("it is ours");
    std::env::set_current_dir("/").expect("a directory");
    store(&mut database, &mut who, 6).expect("the file has not moved");
    fs::remove_file(&real).expect("a file");
    assert!(is_moved(&store(&mut database, &mut who, 7), Path::new("node.db"), "node.db has been removed"));
}

/// What was cut off cannot come back by itself: nothing is taken any more.
#[test]
fn a_file_that_was_cut_takes_nothing() {
    let cuts = [("", 0), ("", 8192), ("-wal", 0), ("-wal", 3000)];
    for ((end, length), garbled) in cuts.into_iter().flat_map(|cut| [(cut, false), (cut, true)]) {
        let (_directory, path) = filled();
        let (mut database, mut who) = open(&path).expect("it is ours");
        store(&mut database, &mut who, 1).expect("all is well");
        let file = beside(&path, end);
        let whole = fs::read(&file).expect("a file");
        fs::write(&file, &whole[..length]).expect("cut");
        for number in 2..4 {
            let stored = store(&mut database, &mut who, number);
            assert!(matches!(stored, Err(StoreError::Damaged { .. })), "{end} {length}: {stored:?}");
        }
        assert_eq!(database.last_failure().map(Refusal::from), Some(Refusal::Failed));
        if garbled {
            fs::write(&file, vec![7; whole.len()]).expect("written");
            for number in 4..6 {
                let stored = store(&mut database, &mut who, number);
                assert!(matches!(stored, Err(StoreError::Damaged { .. })), "{end} {length}: {stored:?}");
            }
            continue;
        }
        // Unless it is put back by whoever cut it.
        fs::write(&file, &whole).expect("written");
        store(&mut database, &mut who, 6).expect("it is whole again");
        drop((database, who));
        assert_eq!(opened_again(&path).len(), 2);
    }
}

/// Not even the last commit alone can be cut off unseen.
#[test]
fn a_log_that_lost_its_end_takes_nothing() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    let log = beside(&path, "-wal");
    for number in 1..4 {
        store(&mut database, &mut who, number).expect("all is well");
    }
    let before = fs::metadata(&log).expect("a log").len();
    store(&mut database, &mut who, 4).expect("all is well");
    let file = fs::File::options().write(true).open(&log).expect("the log");
    assert!(file.metadata().expect("a log").len() > before);
    file.set_len(before).expect("cut");
    let stored = store(&mut database, &mut who, 5);
    assert!(matches!(stored, Err(StoreError::Damaged { .. })), "{stored:?}");
}

/// The log can be copied and cut by whoever may read and write the file, and the file be shrunk.
#[test]
fn what_sqlite_allows_others_is_no_harm() {
    for sql in ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)"] {
        let (_directory, path) = filled();
        tamper(&path, "DELETE FROM value WHERE number > 100");
        let (mut database, mut who) = open(&path).expect("it is ours");
        store(&mut database, &mut who, 1).expect("all is well");
        let other = Connection::open(&path).expect("a database");
        other.execute_batch(&format!("PRAGMA busy_timeout = 0; {sql}")).expect(sql);
        let second = store(&mut database, &mut who, 2);
        assert!(matches!(second, Ok(()) | Err(StoreError::Busy(_))), "{second:?}");
        store(&mut database, &mut who, 3).expect("that is over");
        let found = values(&mut database, &mut who, &Id::of(b"new")).len();
        drop((other, database, who));
        let (mut database, mut who) = open(&path).expect("a sound file");
        assert_eq!(values(&mut database, &mut who, &Id::of(b"new")).len(), found);
    }
}

/// What the node itself makes shorter is nothing to wonder about.
#[test]
fn a_store_that_shrinks_goes_on() {
    let (_directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    for round in 0..3 {
        for number in 0..2000u32 {
            let value = number.to_be_bytes().repeat(250);
            put(&mut database, &mut who, &Id::of(&number.to_be_bytes()), &value, UnixTime(round))
                .expect("a put");
        }
        database.commit().expect("a commit of two megabytes");
        store(&mut database, &mut who, 1).expect("a commit");
        let longest = fs::metadata(&path).expect("a file").len();
        while database.expire(&mut who, UnixTime(round + LIFE), 100).expect("expiry").more {
            database.commit().expect("a commit");
        }
        database.commit().expect("a commit");
        // So that the log is copied.
        for number in 0..300 {
            store(&mut database, &mut who, number).expect("a commit");
        }
        assert!(fs::metadata(&path).expect("a file").len() < longest);
    }
}

/// Nor is what it had begun to make shorter when it was killed.
#[test]
fn a_store_that_had_begun_to_shrink_goes_on() {
    let (directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    for number in 0..2000u32 {
        let value = number.to_be_bytes().repeat(250);
        put(&mut database, &mut who, &Id::of(&number.to_be_bytes()), &value, UnixTime(0)).expect("a put");
    }
    database.commit().expect("a commit of two megabytes");
    store(&mut database, &mut who, 1).expect("a commit");
    let longest = fs::metadata(&path).expect("a file").len();
    // That pages were given back stands in the log, and not in the file yet.
    let crashed = directory.path().join("crashed.db");
    while database.expire(&mut who, UnixTime(LIFE), 25).expect("expiry").more {
        database.commit().expect("a commit");
        if fs::metadata(&path).expect("a file").len() == longest {
            for end in ["", "-wal"] {
                fs::copy(beside(&path, end), beside(&crashed, end)).expect("a copy");
            }
        }
    }
    let (mut database, mut who) = open(&crashed).expect("it is ours");
    assert_eq!(fs::metadata(&crashed).expect("a file").len(), longest);
    for number in 0..300 {
        store(&mut database, &mut who, number).expect("a commit");
    }
    assert!(fs::metadata(&crashed).expect("a file").len() < longest);
}

/// Others find the lock again as soon as something is committed.
#[test]
fn a_lock_that_was_taken_away_is_taken_anew() {
    for replaced in [false, true] {
        let (_directory, path) = filled();
        let lock = beside(&path, "-lock");
        let (mut database, mut who) = open(&path).expect("it is ours");
        fs::remove_file(&lock).expect("a file");
        if replaced {
            fs::write(&lock, b"").expect("a file");
        }
        store(&mut database, &mut who, 1).expect("nobody came");
        assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
        drop((database, who));
        assert!(!lock.exists());
        assert_eq!(opened_again(&path).len(), 1);
    }
}

/// Of two nodes that got one file that way, the first gives way: the second knows what it has stored.
#[test]
fn who_comes_while_the_lock_is_away_has_the_file() {
    for stays in [true, false] {
        let (_directory, path) = filled();
        let (mut database, mut who) = open(&path).expect("it is ours");
        store(&mut database, &mut who, 1).expect("all is well");
        fs::remove_file(beside(&path, "-lock")).expect("a file");
        let (mut second, mut also) = open(&path).expect("nobody has it, as it seems");
        store(&mut second, &mut also, 2).expect("it has the lock");
        let mut second = Some((second, also));
        if !stays {
            second = None;
        }
        for number in 3..6 {
            assert_eq!(
                store(&mut database, &mut who, number),
                Err(StoreError::InUse(path.clone())),
                "{stays}"
            );
        }
        if let Some((second, also)) = &mut second {
            store(second, also, 6).expect("it has the lock");
        }
        // Nor when the other is gone.
        second = None;
        assert_eq!(store(&mut database, &mut who, 7), Err(StoreError::InUse(path.clone())));
        drop((database, who, second));
        assert_eq!(opened_again(&path).len(), 2 + usize::from(stays));
    }
}

/// A peer is told, and the node goes on.
#[test]
fn peers_are_refused_while_the_file_is_away() {
    let (_directory, path) = place();
    let mut network = Network::new(1);
    let config = Config { durability: Durability::Machine, ..Config::default() };
    let options = NodeOptions { store: Some(path.clone()), config: config.into(), id: None };
    let node = network.node_with(address(0), address(0), options);
    network.peer(address(1), Id::of(b"peer"), silent());
    let aside = beside(&path, "-aside");
    for (number, away) in [false, true, true, false].into_iter().enumerate() {
        if away && !aside.exists() {
            fs::rename(&path, &aside).expect("a rename");
        } else if !away && aside.exists() {
            fs::rename(&aside, &path).expect("a rename");
        }
        let key = Id::of(&[number as u8]);
        let method = Method::StoreValue { key, value: b"a value", life: None };
        network.ask(address(1), address(0), b"1", &method);
        network.run(secs(2));
        let answers = network.at(address(1)).take(|message| match message {
            Message::Response(_) => Some(None),
            Message::Error(reply) => Some(Some(format!("{:?}", reply.error))),
            Message::Request(_) => None,
        });
        let refused = Refusal::Moved.to_string();
        assert_eq!(answers, [away.then(|| format!("{:?}", Fault::Text(refused.as_bytes())))], "{number}");
        // What it has is found all the while.
        assert_eq!(network.find_values(node, Id::of(&[0])), [b"a value"]);
    }
    let stats = network.stats(node);
    assert_eq!((stats.values, stats.values_refused), (2, 2));
    network.remove(node);
    assert_eq!(open(&path).expect("a sound file").1.values(), 2);
}
