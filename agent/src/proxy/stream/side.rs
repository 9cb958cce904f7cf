//! One peer of a session: its stream, what came from it and what goes to it, within bounds.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncReadExt, AsyncWrite};

use super::linger::reset;
use crate::tls::Stream;

/// What is read at once, to begin with: messages that are read whole may need more for a while.
pub const BUFFER_BYTES: usize = 8 << 10;
/// Most bytes read at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// What an idle session's buffers keep.
const IDLE_BYTES: usize = 1 << 10;

/// One peer: what came from it, and what goes to it.
pub struct Side {
    /// Its connection.
    pub stream: Stream,
    /// Read from it and not dealt with.
    pub input: Vec<u8>,
    /// To be written to it.
    pub output: Vec<u8>,
    written: usize,
    /// Written, and not yet on its way: TLS keeps records that the connection has no room for.
    unflushed: bool,
    /// Something has been written since this was last asked.
    progressed: bool,
    /// Room to make before a read.
    read_bytes: usize,
    /// It has sent its last byte.
    pub ended: bool,
}

impl Side {
    /// A peer that has sent `input` already.
    pub fn new(stream: Stream, input: Vec<u8>) -> Self {
        Self {
            stream,
            input,
            output: Vec::new(),
            written: 0,
            unflushed: false,
            progressed: false,
            read_bytes: BUFFER_BYTES,
            ended: false,
        }
    }

    /// Whether something waits to be written.
    pub fn has_output(&self) -> bool {
        self.unflushed || self.written < self.output.len()
    }

    /// Whether the peer has taken something since this was last asked.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Forgets what waits to be written.
    pub fn drop_output(&mut self) {
        self.output.clear();
        self.written = 0;
    }

    /// Whether so much has been read.
    pub fn holds(&self, bytes: usize) -> bool {
        !self.input.is_empty() && self.input.len() >= bytes
    }

    /// Writes what waits; ready when nothing does.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    self.written += bytes;
                    self.unflushed = true;
                    self.progressed = true;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what can be written at once; the rest is the peer's loss.
    pub fn flush_last(&mut self) {
        let rest = self.output.get(self.written..).unwrap_or_default();
        self.stream.write_now(rest);
    }

    /// Reads what is there. A peer that fills the room it is given gets more, within [`READ_BYTES_MAX`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity() - self.input.len();
        let polled = {
            let future = std::pin::pin!(self.stream.read_buf(&mut self.input));
            future.poll(cx)
        };
        match polled {
            Poll::Ready(Ok(0)) => self.ended = true,
            Poll::Ready(Ok(bytes)) => {
                self.read_bytes =
                    if bytes == room { (2 * self.read_bytes).min(READ_BYTES_MAX) } else { BUFFER_BYTES };
            }
            // TLS that ends without saying so: the protocol inside has its own ends.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = true,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back the room of empty buffers: most sessions are idle most of the time.
    pub fn rest(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > IDLE_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Closes with a reset: the peer is to go no further with what it was sent.
    pub fn reset(self) {
        reset(self.stream.tcp());
    }

    /// Drops what has been dealt with.
    pub fn consume(&mut self, bytes: usize) {
        if bytes >= self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..bytes);
        }
    }
}

/// Moves the first `bytes` of what one peer sent to what goes to the other, of which there is nothing yet. The buffers
/// change places; what stays behind is copied.
pub fn hand_over(input: &mut Vec<u8>, output: &mut Vec<u8>, bytes: usize) {
    std::mem::swap(input, output);
    input.extend_from_slice(output.get(bytes..).unwrap_or_default());
    output.truncate(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_the_beginning_and_the_rest_stays() {
        for bytes in 0..=5 {
            let (mut input, mut output) = (b"hello".to_vec(), Vec::with_capacity(1));
            hand_over(&mut input, &mut output, bytes);
            assert_eq!((output.as_slice(), input.as_slice()), b"hello".split_at(bytes));
        }
    }
}
