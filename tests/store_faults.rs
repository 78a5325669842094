//! The store on a disk that fails: every single call by which SQLite changes anything, of those that a
//! fixed course of work makes, fails in its turn; once, until the work has noticed, or until the end; as
//! a disk that errs does, and as a full one. Nothing that was acknowledged may be lost, nothing may
//! panic, and once the disk works again, so does the store, and a node on it.
//!
//! By default every call of the small course fails in one of the ways, and of the large one and a node's
//! every so many. All of them, in all ways, and the calls that only read, take some minutes:
//!
//! ```sh
//! cargo test --release --test store_faults -- --include-ignored
//! ```

#[path = "support/client.rs"]
mod client;
#[path = "store_faults/node.rs"]
mod node;
#[path = "support/vfs.rs"]
mod vfs;

#[path = "support/limits.rs"]
mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use khashmir::time::UnixTime;
use khashmir::{Contact, Id, StoreError};
use store::Store;
use tempfile::TempDir;
use vfs::{Call, Kind, Plan, READING, WRITING};

/// All that these tests know of the store's own interface.
mod store {
    use std::ops::ControlFlow;
    use std::path::Path;

    use crate::limits::boundless;
    use khashmir::store::{Database, NewValue, Published, Put, Resident};
    use khashmir::time::UnixTime;
    use khashmir::{Contact, Durability, Id, StoreError};

    /// The durability that syncs most often.
    pub const DURABILITY: Durability = Durability::Machine;

    /// When everything that was ever stored is there, and how many seconds it lives.
    const BEGINNING: UnixTime = UnixTime(i64::MIN);
    const LIFE: i64 = 10_000;

    pub struct Store(Database, Resident);

    impl Store {
        pub fn open(path: &Path) -> Result<Store, StoreError> {
            let mut database = Database::open(path, DURABILITY)?;
            let who = database.move_in(None, Id::of(b"me"), boundless())?;
            Ok(Store(database, who))
        }

        pub fn close(mut self) -> Result<(), StoreError> {
            self.0.move_out(self.1)
        }

        pub fn put(&mut self, key: Id, value: &[u8], now: UnixTime) -> Result<(), StoreError> {
            let sender = Some([192, 0, 2, 1].into());
            let new = NewValue { key: &key, value, time: now, expires: UnixTime(now.0 + LIFE), sender };
            let put = self.0.put(&mut self.1, &new, &BEGINNING.into())?;
            assert!(matches!(put, Put::Added | Put::Renewed { .. }), "{put:?}");
            Ok(())
        }

        /// Deletes what was stored then or earlier.
        pub fn expire(&mut self, stored_until: UnixTime) -> Result<(), StoreError> {
            let now = UnixTime(stored_until.0 + LIFE);
            while self.0.expire(&mut self.1, now, 1000)?.more {}
            Ok(())
        }

        pub fn publish(&mut self, key: Id, value: &[u8], now: UnixTime) -> Result<(), StoreError> {
            let published = self.0.publish(&mut self.1, &key, value, now)?;
            assert!(matches!(published, Published::Kept(_)), "{published:?}");
            Ok(())
        }

        pub fn withdraw(&mut self, key: Id, value: &[u8]) -> Result<bool, StoreError> {
            self.0.withdraw(&mut self.1, &key, value).map(|number| number.is_some())
        }

        pub fn save_contacts(&mut self, contacts: Vec<Contact>) -> Result<(), StoreError> {
            self.0.save_contacts(&self.1, contacts.into_iter().map(|contact| (contact, Some(BEGINNING))))
        }

        pub fn commit(&mut self) -> Result<(), StoreError> {
            self.0.commit()
        }

        pub fn values(&mut self) -> Result<Vec<(Id, Vec<u8>)>, StoreError> {
            let mut found = Vec::new();
            for key in self.0.keys(&self.1)? {
                self.0.values(
                    &mut self.1,
                    &key,
                    &BEGINNING.into(),
                    (&Id::new([0; 20]), &Id::new([0; 20])),
                    |value| {
                        found.push((key, value.to_vec()));
                        ControlFlow::Continue(())
                    },
                )?;
            }
            Ok(found)
        }

        pub fn published(&mut self) -> Result<Vec<(Id, Vec<u8>)>, StoreError> {
            let numbers = self.0.published(&self.1)?;
            numbers
                .into_iter()
                .map(|(number, _)| Ok(self.0.published_value(&self.1, number)?.expect("a value")))
                .collect()
        }

        /// What counts towards the limits.
        pub fn counted(&mut self) -> Result<usize, StoreError> {
            // It counts anew, if at all, when it is asked for something.
            self.0.value(&mut self.1, &Id::of(b"any"), &BEGINNING.into(), &Id::of(b"any"))?;
            Ok(self.1.values() as usize)
        }
    }

    /// Whether this says that the disk failed, and nothing that is not so about the file.
    pub fn is_of_the_disk(error: &StoreError) -> bool {
        matches!(error, StoreError::Failed { .. } | StoreError::Full(_) | StoreError::Denied(_))
    }
}

/// For how long the disk fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Span {
    Once,
    /// Until something has said so.
    Noticed,
    /// To the end of the work.
    Lasting,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    calls: &'static [Call],
    at: u64,
    span: Span,
    kind: Kind,
}

/// All ways to fail.
const WAYS: [(Span, Kind); 6] = [
    (Span::Once, Kind::Disk),
    (Span::Noticed, Kind::Full),
    (Span::Lasting, Kind::Disk),
    (Span::Once, Kind::Full),
    (Span::Lasting, Kind::Full),
    (Span::Noticed, Kind::Disk),
];

impl Fault {
    fn begin(&self) {
        let lasting = self.span != Span::Once;
        vfs::plan(Plan { calls: self.calls, at: self.at, lasting, kind: self.kind });
    }
}

/// How much of all there is to try.
#[derive(Clone, Copy)]
enum Extent {
    /// Every so manieth call, each in one of the ways.
    Some(u64),
    /// Every call in all ways.
    All,
}

/// Lets each call of `course` fail in its turn. Says how many there are.
fn try_all(calls: &'static [Call], extent: Extent, course: impl Fn(Fault)) -> u64 {
    vfs::install();
    let (mut tried, mut seen) = (0, BTreeSet::new());
    let step = if let Extent::Some(step) = extent { step } else { 1 };
    for at in (1..).step_by(step as usize) {
        let turn = (at / step) as usize % WAYS.len();
        let ways = if let Extent::Some(_) = extent { &WAYS[turn..=turn] } else { &WAYS[..] };
        let mut reached = false;
        for &(span, kind) in ways {
            let fault = Fault { calls, at, span, kind };
            let named = Named(fault);
            fault.begin();
            course(fault);
            let report = vfs::lift();
            drop(named);
            reached |= REACHED.take();
            assert_eq!(report.made, 0, "the course has ended the plan");
            seen.extend(LAST.take().map(|call| call as u8));
            tried += 1;
        }
        if !reached {
            println!("{} calls failed in their turn, {tried} courses, kinds {seen:?}", at - 1);
            return at - 1;
        }
    }
    unreachable!("the course never ends")
}

thread_local! {
    /// Whether the last course came to the call that was to fail, and which that was.
    static REACHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static LAST: std::cell::Cell<Option<Call>> = const { std::cell::Cell::new(None) };
}

/// Ends the plan, and remembers what became of it.
fn lift() {
    let report = vfs::lift();
    REACHED.set(REACHED.get() || report.failed > 0);
    LAST.set(report.last.or(LAST.get()));
}

/// Says which fault it was.
struct Named(Fault);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {:?}", self.0);
        }
    }
}

/// A new directory, in memory where there is a place for that: nothing here waits for a disk.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory")
}

type Contents = BTreeSet<(Id, Vec<u8>)>;

/// What there should be.
#[derive(Clone, Default, PartialEq)]
struct Model {
    /// With the time of each.
    values: BTreeMap<(Id, Vec<u8>), i64>,
    published: Contents,
}

impl Model {
    fn contents(&self) -> Contents {
        self.values.keys().cloned().collect()
    }

    /// What is in both.
    fn common(&self, other: &Model) -> Model {
        let mut both = self.clone();
        both.values.retain(|value, _| other.values.contains_key(value));
        both.published.retain(|value| other.published.contains(value));
        both
    }

    /// What is in either.
    fn joined(&self, other: &Model) -> Model {
        let mut either = other.clone();
        either.values.extend(self.values.clone());
        either.published.extend(self.published.clone());
        either
    }
}

/// One run of a course: the store, and what it has said.
struct Run<'a> {
    path: &'a Path,
    fault: Fault,
    store: Option<Store>,
    /// What was committed, and what that is with what was written since.
    kept: Model,
    written: Model,
    /// What a program that starts now must find, and may find: a commit that failed can have reached
    /// the log as a whole before it did, and counts then, unless another one was made since.
    certain: Model,
    possible: Model,
    /// Whether anything has failed yet.
    noticed: bool,
}

impl<'a> Run<'a> {
    fn new(path: &'a Path, fault: Fault) -> Self {
        let none = Model::default;
        let (kept, written, certain, possible) = (none(), none(), none(), none());
        Run { path, fault, store: None, kept, written, certain, possible, noticed: false }
    }
}

fn key(number: u32) -> Id {
    Id::of(&[(number % 7) as u8])
}

fn value(number: u32, length: usize) -> Vec<u8> {
    let mut value = vec![number as u8; length];
    value.extend(number.to_be_bytes());
    value
}

impl Run<'_> {
    /// Does a piece of the work; what it wrote counts when it has committed.
    fn step(&mut self, work: impl FnOnce(&mut Store, &mut Model) -> Result<(), StoreError>) {
        if self.store.is_none() {
            match Store::open(self.path) {
                Ok(store) => self.store = Some(store),
                Err(error) => return self.note(error),
            }
            vfs::without(|| self.take_stock());
        }
        let store = self.store.as_mut().expect("a store");
        match work(store, &mut self.written) {
            Ok(()) => self.keep(),
            Err(error) => self.note(error),
        }
    }

    fn keep(&mut self) {
        // Where there was nothing to do, nothing may have been committed.
        if self.written != self.kept {
            self.kept = self.written.clone();
            (self.certain, self.possible) = (self.kept.clone(), self.kept.clone());
        }
    }

    fn note(&mut self, error: StoreError) {
        assert!(store::is_of_the_disk(&error), "{error}");
        assert!(vfs::standing().failed > 0, "{error}, and nothing was wrong");
        self.certain = self.certain.common(&self.written);
        self.possible = self.possible.joined(&self.written);
        self.written = self.kept.clone();
        if !std::mem::replace(&mut self.noticed, true) {
            if self.fault.span == Span::Noticed {
                lift();
            }
            // The program dies of it.
            vfs::without(|| self.examine_copy());
        }
        vfs::without(|| self.examine());
    }

    /// What is there is what was committed.
    fn examine(&mut self) {
        if let Some(store) = &mut self.store {
            let (values, published) = contents(store);
            assert!(values == self.kept.contents(), "{}", differ(&values, &self.kept.contents()));
            assert_eq!(store.counted(), Ok(values.len()));
            assert!(published == self.kept.published, "{}", differ(&published, &self.kept.published));
        }
    }

    /// After a start: what is there is what must be, and perhaps what may be.
    fn take_stock(&mut self) {
        let store = self.store.as_mut().expect("a store");
        let (values, published) = contents(store);
        check(&values, &self.certain.contents(), &self.possible.contents());
        check(&published, &self.certain.published, &self.possible.published);
        self.written = self.possible.clone();
        self.written.values.retain(|value, _| values.contains(value));
        self.written.published = published;
        self.kept = self.written.clone();
        (self.certain, self.possible) = (self.kept.clone(), self.kept.clone());
    }

    /// What a program finds that starts now, when this one was killed.
    fn examine_copy(&self) {
        let copy = directory();
        let path = copy.path().join("node.db");
        let mut found = (Contents::new(), Contents::new());
        if copied(self.path, &path) {
            found = contents(&mut Store::open(&path).expect("a sound file"));
        }
        check(&found.0, &self.certain.contents(), &self.possible.contents());
        check(&found.1, &self.certain.published, &self.possible.published);
    }

    /// The program ends in order, or without a word.
    fn restart(&mut self, in_order: bool) {
        if let Some(store) = self.store.take()
            && in_order
            && let Err(error) = store.close()
        {
            self.note(error);
        }
    }

    /// The disk works again.
    fn recover(mut self) {
        lift();
        self.step(|store, model| put_all(store, model, 900..910, 300, 5000));
        self.examine();
        self.examine_copy();
        self.restart(true);
        self.step(|_, _| Ok(()));
        self.examine();
    }
}

fn contents(store: &mut Store) -> (Contents, Contents) {
    let values = store.values().expect("values").into_iter().collect();
    (values, store.published().expect("values").into_iter().collect())
}

fn check(found: &Contents, certain: &Contents, possible: &Contents) {
    assert!(found.is_superset(certain), "{}", differ(found, certain));
    assert!(found.is_subset(possible), "{}", differ(found, possible));
}

fn differ(found: &Contents, expected: &Contents) -> String {
    let lost = expected.difference(found).count();
    let gained = found.difference(expected).count();
    format!("{lost} of {} values lost, {gained} that should not be there", expected.len())
}

/// Whether there was a file.
fn copied(from: &Path, to: &Path) -> bool {
    for end in ["", "-wal", "-journal"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            name
        };
        if Path::new(&name(from)).exists() {
            fs::copy(name(from), name(to)).expect("a copy");
        }
    }
    to.exists()
}

/// Stores these in one transaction.
fn put_all(
    store: &mut Store,
    model: &mut Model,
    numbers: std::ops::Range<u32>,
    length: usize,
    time: i64,
) -> Result<(), StoreError> {
    for number in numbers {
        let (key, value) = (key(number), value(number, length * (1 + number as usize % 4)));
        store.put(key, &value, UnixTime(time))?;
        model.values.insert((key, value), time);
    }
    store.commit()
}

fn contacts() -> Vec<Contact> {
    (1..40u16).map(|n| Contact { id: Id::of(&n.to_be_bytes()), addr: ([10, 0, 0, 1], n).into() }).collect()
}

/// Everything that a store is asked to do, on a few values.
fn small_course(fault: Fault) {
    let directory = directory();
    let path = directory.path().join("node.db");
    let mut run = Run::new(&path, fault);
    run.step(|store, model| put_all(store, model, 0..6, 300, 1000));
    run.step(|store, model| put_all(store, model, 6..9, 3000, 2000));
    run.step(|store, model| {
        // Renewals, of those that are there.
        let some: Vec<_> = model.values.keys().step_by(2).cloned().collect();
        for (key, value) in some {
            store.put(key, &value, UnixTime(3000))?;
            model.values.insert((key, value), 3000);
        }
        store.commit()
    });
    run.step(|store, model| {
        for number in 20..23 {
            store.publish(key(number), &value(number, 500), UnixTime(3000))?;
            model.published.insert((key(number), value(number, 500)));
        }
        store.commit()
    });
    run.step(|store, _| {
        store.save_contacts(contacts())?;
        store.commit()
    });
    run.step(|store, model| {
        store.expire(UnixTime(1500))?;
        model.values.retain(|_, time| *time > 1500);
        store.commit()
    });
    run.restart(true);
    run.step(|store, model| {
        let withdrawn = store.withdraw(key(21), &value(21, 500))?;
        assert_eq!(withdrawn, model.published.remove(&(key(21), value(21, 500))));
        store.commit()
    });
    run.step(|store, model| put_all(store, model, 30..33, 2000, 4000));
    run.restart(false);
    run.step(|store, model| put_all(store, model, 40..42, 100, 4000));
    run.recover();
}

/// Enough for SQLite to copy its log into the file in the midst of it, and to shrink the file at its end.
fn large_course(fault: Fault) {
    let directory = directory();
    let path = directory.path().join("node.db");
    let mut run = Run::new(&path, fault);
    for first in [0, 30, 60] {
        run.step(|store, model| put_all(store, model, first..first + 30, 20_000, i64::from(first)));
    }
    run.step(|store, model| {
        store.expire(UnixTime(59))?;
        model.values.retain(|_, time| *time > 59);
        store.commit()
    });
    run.step(|store, model| put_all(store, model, 100..103, 1000, 100));
    run.recover();
}

#[test]
fn every_write_fails_in_its_turn() {
    assert!(try_all(&WRITING, Extent::Some(1), small_course) > 100);
}

#[test]
fn writes_of_much_fail_in_their_turn() {
    assert!(try_all(&WRITING, Extent::Some(397), large_course) > 2000);
}

#[test]
fn reads_fail_in_their_turn() {
    assert!(try_all(&READING, Extent::Some(3), small_course) > 100);
}

#[test]
#[ignore = "takes a while without optimisation"]
fn every_write_fails_in_every_way() {
    try_all(&WRITING, Extent::All, small_course);
}

#[test]
#[ignore = "takes minutes"]
fn every_write_of_much_fails_in_its_turn() {
    try_all(&WRITING, Extent::Some(1), large_course);
}

#[test]
#[ignore = "takes a while without optimisation"]
fn every_read_fails_in_every_way() {
    try_all(&READING, Extent::All, small_course);
}

#[test]
fn without_a_fault_nothing_is_refused() {
    vfs::install();
    let none = Fault { calls: &WRITING, at: 0, span: Span::Once, kind: Kind::Disk };
    for course in [small_course, large_course, node::life] {
        none.begin();
        course(none);
        assert!(!REACHED.get());
    }
}

/// A disk that fails while a file is examined that others have shrunk does not make it a damaged one.
#[test]
fn a_disk_that_fails_while_the_file_is_examined_says_nothing_about_it() {
    vfs::install();
    for at in [1, 2, 5, 10, 20] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.db");
        let mut store = Store::open(&path).expect("a new file");
        for number in 0..100u8 {
            store.put(Id::of(&[number]), &[number; 4000], UnixTime(number.into())).expect("a put");
        }
        store.commit().expect("a commit");
        let other = rusqlite::Connection::open(&path).expect("a database");
        other.execute_batch("PRAGMA wal_checkpoint").expect("all in the file");
        store.expire(UnixTime(30)).expect("a part of it");
        store.commit().expect("a commit");
        other.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").expect("a shorter file");
        drop(other);
        vfs::plan(Plan { calls: &[Call::Read], at, lasting: true, kind: Kind::Disk });
        let put = |store: &mut Store, n: u8| {
            store.put(Id::of(&[n]), b"another", UnixTime(100)).and_then(|()| store.commit())
        };
        let failed = (put(&mut store, 101), put(&mut store, 102));
        let report = vfs::lift();
        assert!(failed.0.is_err(), "it was to be examined");
        // The first time it may still be examined.
        let (first, second) = (put(&mut store, 103), put(&mut store, 104));
        assert!(first.is_ok() || matches!(first, Err(StoreError::Busy(_))), "{at}: {first:?} {failed:?}");
        assert!(second.is_ok(), "{at}, {report:?}: {second:?} after {failed:?}");
    }
}
