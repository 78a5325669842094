//! For how long a processor was busy with this program, in it or for it in the system: what takes of a
//! machine that has other things to do, too.
#![allow(dead_code, reason = "each user uses a part of it")]

const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

/// With this thread, in seconds; 0 where the system does not tell.
pub fn of_thread() -> f64 {
    seconds(CLOCK_THREAD_CPUTIME_ID)
}

/// With all threads of this process, in seconds; 0 where the system does not tell.
pub fn of_process() -> f64 {
    seconds(CLOCK_PROCESS_CPUTIME_ID)
}

fn seconds(clock: i32) -> f64 {
    if cfg!(not(all(target_os = "linux", target_pointer_width = "64"))) {
        return 0.0;
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: on 64-bit Linux, `timespec` is two numbers of 64 bits, which is what the call writes.
    unsafe { clock_gettime(clock, &raw mut time) };
    time[0] as f64 + time[1] as f64 / 1e9
}
