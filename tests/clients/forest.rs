//! A tree of many processes: BRANCHES children with LEAVES children each, all of which wait. Prints `grown`
//! when all are there. When standard input closes, all of them end, and it prints `gone`.
//!
//!     forest BRANCHES LEAVES
#![allow(
    unsafe_code,
    reason = "fork(2) and pipe(2) have no safe wrapper here, and each child only waits and ends"
)]

use std::{
    env,
    error::Error,
    io::{self, Read},
};

/// A pipe's two ends.
#[derive(Clone, Copy)]
struct Pipe {
    reading: i32,
    writing: i32,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two descriptors.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let [reading, writing] = ends;
        Ok(Self { reading, writing })
    }

    /// Waits for a byte, or for the end when nobody can write any more.
    fn wait(self) {
        let mut byte = 0u8;
        // SAFETY: the kernel writes at most one byte.
        unsafe { libc::read(self.reading, (&raw mut byte).cast(), 1) };
    }

    /// Writes a byte.
    fn tell(self) {
        // SAFETY: the kernel reads one byte.
        unsafe { libc::write(self.writing, b"x".as_ptr().cast(), 1) };
    }

    fn close_writing(self) {
        // SAFETY: closes a descriptor that nothing here uses afterwards.
        unsafe { libc::close(self.writing) };
    }
}

/// Forks: true in the child, false in the parent.
fn fork() -> io::Result<bool> {
    // SAFETY: one thread; the child only waits, forks and ends.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid == 0),
    }
}

fn end(status: i32) -> ! {
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(status) }
}

/// Waits for every child to end; false if one failed.
fn reap() -> bool {
    let mut well = true;
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes the status.
        if unsafe { libc::waitpid(-1, &raw mut status, 0) } < 0 {
            return well;
        }
        well &= status == 0;
    }
}

/// A child of the root: forks its leaves, reports that they are there, waits for the end of `held`, and ends
/// with them.
fn branch(leaves: usize, held: Pipe, grown: Pipe) -> ! {
    held.close_writing();
    for _ in 0..leaves {
        match fork() {
            Ok(true) => {
                held.wait();
                end(0);
            }
            Ok(false) => {}
            Err(_) => end(1),
        }
    }
    grown.tell();
    held.wait();
    end(if reap() { 0 } else { 1 })
}

fn main() -> Result<(), Box<dyn Error>> {
    let sizes: Vec<usize> = env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    let [branches, leaves] = sizes[..] else { return Err("usage: forest BRANCHES LEAVES".into()) };
    let (held, grown) = (Pipe::new()?, Pipe::new()?);
    for _ in 0..branches {
        if fork()? {
            branch(leaves, held, grown);
        }
    }
    for _ in 0..branches {
        grown.wait();
    }
    println!("grown");
    io::stdin().read_to_end(&mut Vec::new())?;
    held.close_writing();
    println!("{}", if reap() { "gone" } else { "not all" });
    Ok(())
}
