//! Copies bytes that nobody reads, both ways.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::side::BUFFER_BYTES;

/// Copies until both ends have closed their directions. What was read before an end broke has been written
/// to the other end by then.
///
/// # Errors
/// One of the connections broke: the other one must be reset.
pub async fn copy_both_ways(a: &mut TcpStream, b: &mut TcpStream) -> io::Result<()> {
    let (mut from_a, mut to_a) = a.split();
    let (mut from_b, mut to_b) = b.split();
    tokio::try_join!(copy(&mut from_a, &mut to_b), copy(&mut from_b, &mut to_a)).map(drop)
}

/// Copies to the end of one direction, and closes it on the other side.
async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<()> {
    // On the heap: inside the future, every session would hold it from its first moment on.
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..bytes).unwrap_or_default()).await?;
    }
}
