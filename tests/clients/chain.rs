//! A chain of processes: each forks the next and exits at once, as fast as it can, until SECONDS have passed.
//! Prints `running` first. Its standard output closes when the last link has ended.
//!
//!     chain SECONDS
#![allow(unsafe_code, reason = "fork(2) has no safe wrapper here, and each child only forks and ends")]

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args().nth(1).ok_or("usage: chain SECONDS")?.parse()?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    println!("running");
    while Instant::now() < deadline {
        // SAFETY: one thread; the child continues as its parent would.
        match unsafe { libc::fork() } {
            // A fork can fail when there are too many processes: this link tries again.
            -1 | 0 => {}
            // SAFETY: ends this process at once.
            _ => unsafe { libc::_exit(0) },
        }
    }
    Ok(())
}
