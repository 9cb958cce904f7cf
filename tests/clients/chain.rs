//! A chain of processes that never ends: each makes the next and ends at once, as fast as it can, until SECONDS have passed.
//! Says `running` first; whoever reads its standard output sees the end of it when the last link has gone.
//!
//!     chain SECONDS
#![allow(unsafe_code, reason = "fork(2) has no safe wrapper here, and each child only forks and ends")]

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args().nth(1).ok_or("how many seconds?")?.parse()?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    println!("running");
    while Instant::now() < deadline {
        // SAFETY: one thread; the child goes on as its parent would have.
        match unsafe { libc::fork() } {
            // As when too many processes are about: the chain must not end for that.
            -1 | 0 => {}
            // SAFETY: ends this process at once.
            _ => unsafe { libc::_exit(0) },
        }
    }
    Ok(())
}
