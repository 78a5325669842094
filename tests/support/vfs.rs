//! SQLite's way to its files, with failures on order and a clock beside.
//!
//! [`install`] puts a layer over the system's own VFS (<https://sqlite.org/vfs.html>) and makes it the
//! default of this process. It counts the calls that a [`Plan`] names, and fails them when their turn
//! has come; without a plan it only passes them on. Plans belong to the thread that made them, and so
//! tests do not see each other's.
#![allow(dead_code, reason = "each user uses a part of it")]
// How long the disk takes is to be told apart from the rest.
#![allow(clippy::disallowed_methods)]

#[path = "processor.rs"]
pub mod processor;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;
use std::time::{Duration, Instant};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    Open,
    Delete,
    Write,
    Truncate,
    Sync,
    /// Makes room in the shared memory beside the log, which is a file.
    Map,
    Read,
    Size,
    Access,
    Lock,
}

/// Those that change something.
pub const WRITING: [Call; 6] = [Call::Open, Call::Delete, Call::Write, Call::Truncate, Call::Sync, Call::Map];
/// Those that do not.
pub const READING: [Call; 4] = [Call::Read, Call::Size, Call::Access, Call::Lock];

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An error of the disk; nothing is done.
    Disk,
    /// The disk is full. Half of what is to be written is.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub calls: &'static [Call],
    /// Which of these calls fails, from 1 on; 0: none.
    pub at: u64,
    /// Whether all that follow fail as well.
    pub lasting: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy)]
struct Progress {
    plan: Plan,
    made: u64,
    failed: u64,
    last: Option<Call>,
}

thread_local! {
    static PROGRESS: RefCell<Option<Progress>> = const { RefCell::new(None) };
    static IN_SYNC: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WORK_IN_SYNC: Cell<f64> = const { Cell::new(0.0) };
}

/// What became of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many of its calls were made.
    pub made: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Which was the last to fail.
    pub last: Option<Call>,
}

/// From now on calls of this thread fail as planned.
pub fn plan(plan: Plan) {
    PROGRESS.set(Some(Progress { plan, made: 0, failed: 0, last: None }));
}

/// Ends the plan of this thread.
pub fn lift() -> Report {
    let progress = PROGRESS.take();
    progress.map_or(Report { made: 0, failed: 0, last: None }, report)
}

/// How it stands with the plan.
pub fn standing() -> Report {
    PROGRESS.with_borrow(|progress| progress.map_or(Report { made: 0, failed: 0, last: None }, report))
}

/// Does something as if there were no plan.
pub fn without<T>(act: impl FnOnce() -> T) -> T {
    let aside = PROGRESS.take();
    let result = act();
    PROGRESS.set(aside);
    result
}

/// How long this thread has waited for the disk's own sync.
pub fn in_sync() -> Duration {
    IN_SYNC.get()
}

/// For how many seconds of this time it was running.
pub fn work_in_sync() -> f64 {
    WORK_IN_SYNC.get()
}

fn report(progress: Progress) -> Report {
    Report { made: progress.made, failed: progress.failed, last: progress.last }
}

/// Whether this call is to fail, and with which code.
fn fails(call: Call) -> Option<c_int> {
    let kind = PROGRESS.with_borrow_mut(|progress| {
        let progress = progress.as_mut()?;
        if !progress.plan.calls.contains(&call) {
            return None;
        }
        progress.made += 1;
        let Plan { at, lasting, kind, .. } = progress.plan;
        let turn = at > 0 && (progress.made == at || lasting && progress.made > at);
        turn.then(|| {
            progress.failed += 1;
            progress.last = Some(call);
            kind
        })
    })?;
    Some(match call {
        Call::Write if kind == Kind::Full => ffi::SQLITE_FULL,
        Call::Write => ffi::SQLITE_IOERR_WRITE,
        Call::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
        Call::Sync => ffi::SQLITE_IOERR_FSYNC,
        Call::Delete => ffi::SQLITE_IOERR_DELETE,
        Call::Open => ffi::SQLITE_CANTOPEN,
        Call::Map => ffi::SQLITE_IOERR_SHMSIZE,
        Call::Read => ffi::SQLITE_IOERR_READ,
        Call::Size => ffi::SQLITE_IOERR_FSTAT,
        Call::Access => ffi::SQLITE_IOERR_ACCESS,
        Call::Lock => ffi::SQLITE_IOERR_LOCK,
    })
}

/// An open file: SQLite sees the first field, the system's own file lies behind all of it.
#[repr(C, align(16))]
struct File {
    base: sqlite3_file,
}

const HEADER: usize = size_of::<File>();

/// The system's file behind ours.
///
/// # Safety
///
/// `file` is one that [`open`] has filled in: SQLite allocates `szOsFile` bytes for it, which are
/// [`HEADER`] and what the system's VFS asks for.
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: within that allocation, as above; a multiple of 16 keeps the alignment.
    unsafe { file.byte_add(HEADER) }
}

/// Calls a method of the system's file.
macro_rules! inner {
    ($file:ident, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite calls methods only of files that were opened and not yet closed, with arguments
        // as the same method of the system's file takes them; a file of ours was only opened if its inner
        // one was, so that has methods, and all those of its version.
        unsafe {
            let inner = inner($file);
            ((*(*inner).pMethods).$method.expect("a method of this version"))(inner $(, $argument)*)
        }
    }};
}

extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    inner!(file, xClose)
}

extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, length: c_int, at: i64) -> c_int {
    fails(Call::Read).unwrap_or_else(|| inner!(file, xRead, to, length, at))
}

extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    match fails(Call::Write) {
        Some(code) => {
            if code == ffi::SQLITE_FULL && length > 1 {
                let _ = inner!(file, xWrite, from, length / 2, at);
            }
            code
        }
        None => inner!(file, xWrite, from, length, at),
    }
}

extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    fails(Call::Truncate).unwrap_or_else(|| inner!(file, xTruncate, length))
}

extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    fails(Call::Sync).unwrap_or_else(|| {
        let (begun, busy) = (Instant::now(), processor::of_thread());
        let code = inner!(file, xSync, flags);
        IN_SYNC.set(IN_SYNC.get() + begun.elapsed());
        WORK_IN_SYNC.set(WORK_IN_SYNC.get() + processor::of_thread() - busy);
        code
    })
}

extern "C" fn size(file: *mut sqlite3_file, length: *mut i64) -> c_int {
    fails(Call::Size).unwrap_or_else(|| inner!(file, xFileSize, length))
}

extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    fails(Call::Lock).unwrap_or_else(|| inner!(file, xLock, level))
}

extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    inner!(file, xUnlock, level)
}

extern "C" fn reserved(file: *mut sqlite3_file, is: *mut c_int) -> c_int {
    inner!(file, xCheckReservedLock, is)
}

extern "C" fn control(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    inner!(file, xFileControl, operation, argument)
}

extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    inner!(file, xSectorSize)
}

extern "C" fn device(file: *mut sqlite3_file) -> c_int {
    inner!(file, xDeviceCharacteristics)
}

extern "C" fn map(
    file: *mut sqlite3_file,
    n: c_int,
    size: c_int,
    extend: c_int,
    to: *mut *mut c_void,
) -> c_int {
    // Only what extends the file writes.
    let failed = if extend != 0 { fails(Call::Map) } else { None };
    failed.unwrap_or_else(|| inner!(file, xShmMap, n, size, extend, to))
}

extern "C" fn shared_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    inner!(file, xShmLock, offset, n, flags)
}

extern "C" fn barrier(file: *mut sqlite3_file) {
    inner!(file, xShmBarrier)
}

extern "C" fn unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    inner!(file, xShmUnmap, delete)
}

/// Version 2: with shared memory, without mapping the file itself, which the store does not use.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device),
    xShmMap: Some(map),
    xShmLock: Some(shared_lock),
    xShmBarrier: Some(barrier),
    xShmUnmap: Some(unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The system's VFS, of which ours is a copy but for a few methods.
///
/// # Safety
///
/// `vfs` is the one that [`install`] has made.
unsafe fn system(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: as above; it is never freed.
    unsafe { (*vfs).pAppData.cast() }
}

extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in `szOsFile` bytes for `file`, and what else the system's method takes. Files
    // without methods are not closed.
    unsafe {
        (*file).pMethods = std::ptr::null();
        if let Some(code) = fails(Call::Open) {
            return code;
        }
        let system = system(vfs);
        let inner = inner(file);
        (*inner).pMethods = std::ptr::null();
        let code = ((*system).xOpen.expect("every VFS opens"))(system, name, inner, flags, out);
        if !(*inner).pMethods.is_null() {
            (*file).pMethods = &raw const METHODS;
        }
        code
    }
}

extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: the arguments are passed on as they came.
    fails(Call::Delete).unwrap_or_else(|| unsafe {
        let system = system(vfs);
        ((*system).xDelete.expect("every VFS deletes"))(system, name, sync)
    })
}

extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, flags: c_int, result: *mut c_int) -> c_int {
    // SAFETY: the arguments are passed on as they came.
    fails(Call::Access).unwrap_or_else(|| unsafe {
        let system = system(vfs);
        ((*system).xAccess.expect("every VFS looks"))(system, name, flags, result)
    })
}

/// Makes the layer the default of this process, once.
pub fn install() {
    static INSTALLED: Once = Once::new();
    const NAME: &CStr = c"fallible";
    INSTALLED.call_once(|| {
        // SAFETY: the default VFS is there for as long as the process, and so is ours, which is leaked.
        // Of its methods those that are not replaced get ours for a first argument, and read of it no
        // more than what was copied: the system's own data are in `pAppData`, which is why nothing else
        // may be left to it that reads that.
        unsafe {
            let default = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!default.is_null(), "SQLite has no VFS");
            let mut ours = *default;
            ours.pNext = std::ptr::null_mut();
            ours.zName = NAME.as_ptr();
            ours.szOsFile += HEADER as c_int;
            ours.pAppData = default.cast();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            ours.xAccess = Some(access);
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 1);
            assert_eq!(code, ffi::SQLITE_OK, "SQLite takes no VFS");
        }
    });
}
