//! An allocator that counts what each thread asks of it.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn note(count: u64, bytes: i64) {
    COUNT.set(COUNT.get() + count);
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: all is passed on as it comes to the system's allocator. Counting allocates nothing: the cells need
// neither initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How many times this thread has asked for memory, or for other room for what it had.
pub fn allocations() -> u64 {
    COUNT.get()
}

/// How many bytes this thread has asked for and not given back.
pub fn live() -> i64 {
    LIVE.get()
}

/// How often `work` asks for memory.
pub fn count<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = allocations();
    let result = work();
    (allocations() - before, result)
}
