//! A chain of processes: each forks the next and exits at once, as fast as it can, until SECONDS have passed.
//! Prints `running` first. Its standard output closes when the last link has ended.
//!
//! With a PORT and a FILE, the chain ends when the file exists; the last link asks the PostgreSQL server at
//! that port of the loopback address for a session, and prints the answer. No link executes anything.
//!
//!     chain SECONDS [PORT FILE]
#![allow(unsafe_code, reason = "fork(2) has no safe wrapper here, and each child only forks and ends")]

use std::{
    env,
    error::Error,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args().nth(1).ok_or("usage: chain SECONDS [PORT FILE]")?.parse()?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    println!("running");
    let end = env::args_os().nth(3).map(PathBuf::from);
    while Instant::now() < deadline && !end.as_ref().is_some_and(|end| end.exists()) {
        // SAFETY: one thread; the child continues as its parent would.
        match unsafe { libc::fork() } {
            // A fork can fail when there are too many processes: this link tries again.
            -1 | 0 => {}
            // SAFETY: ends this process at once.
            _ => unsafe { libc::_exit(0) },
        }
    }
    if let Some(port) = env::args().nth(2) {
        println!("{}", answer(port.parse()?).escape_ascii());
    }
    Ok(())
}

/// What a server says to a StartupMessage of the user `nobody`.
fn answer(port: u16) -> Vec<u8> {
    let parameters = b"\0\x03\0\0user\0nobody\0\0";
    let mut said = vec![0; 1024];
    let answered = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut server| {
        server.write_all(&(parameters.len() as u32 + 4).to_be_bytes())?;
        server.write_all(parameters)?;
        server.read(&mut said)
    });
    said.truncate(answered.unwrap_or_default());
    said
}
