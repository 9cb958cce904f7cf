//! One side of a session, the client or the upstream: its stream, the bytes that came from it and those that
//! go to it, within bounds.
//!
//! The client's side takes any answer. The upstream's takes only what the session's machine hands out, a
//! [`Forward`] or a [`Replace`]: there is no other way to its output.

use std::{
    io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use agent_core::onward::{Forward, Replace};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::linger::{linger, reset};
use crate::tls::Stream;

/// How much is read at once to begin with. A message that must be read whole makes the buffer grow for a
/// while.
pub const BUFFER_BYTES: usize = 8 << 10;
/// How much is read at once at most.
const READ_BYTES_MAX: usize = 64 << 10;
/// How much capacity an empty buffer keeps while the session is idle.
const IDLE_BYTES: usize = 1 << 10;

/// The client's side, as a parameter of [`Side`].
pub enum Client {}
/// The upstream's side, as a parameter of [`Side`].
pub enum Upstream {}

/// One side of a session: the [`Client`]'s or the [`Upstream`]'s.
pub struct Side<S> {
    side: PhantomData<S>,
    /// Its connection.
    stream: Stream,
    /// What was read from it and not consumed.
    input: Vec<u8>,
    /// What is to be written to it.
    output: Vec<u8>,
    written: usize,
    /// Bytes were written to the stream and not flushed: TLS buffers records that the socket has no room for.
    unflushed: bool,
    /// Something was written since [`Self::take_progress`] was last called.
    progressed: bool,
    /// How much room the next read makes.
    read_bytes: usize,
    /// Its last byte has been read.
    pub ended: bool,
    /// Our direction has been shut down: it has been told that nothing more comes.
    closed: bool,
    /// It takes nothing more: a write failed.
    pub deaf: bool,
}

/// What was read from the client, taken out of its side while the machine looks at it.
pub struct Taken(Vec<u8>);

impl Taken {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Side<Client> {
    /// Takes the input out, to be put back by [`Self::put_back`].
    pub fn take_input(&mut self) -> Taken {
        Taken(std::mem::take(&mut self.input))
    }

    /// Puts the input back, without the bytes at its start that are done with.
    pub fn put_back(&mut self, input: Taken, done: usize) {
        self.input = input.0;
        self.consume(done);
    }

    /// Adds an answer to what is to be written.
    pub fn answer(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Adds `bytes` bytes of the upstream's input, from `done` on, to what is to be written. Returns how many
    /// bytes at the input's start are done with then.
    pub fn pass(&mut self, upstream: &mut Side<Upstream>, done: usize, bytes: usize) -> usize {
        self.take_over(&mut upstream.input, done, bytes)
    }
}

impl Side<Upstream> {
    /// Adds what the machine hands out to what is to be written. The machine was shown what follows the first
    /// `done` bytes of the client's input. Returns how many bytes at the input's start are done with then.
    pub fn forward(&mut self, forward: Forward, client: &mut Taken, done: usize) -> usize {
        self.take_over(&mut client.0, done, forward.bytes())
    }

    /// Adds what the machine hands out in place of the client's bytes to what is to be written. Returns how
    /// many bytes of the client's it replaces.
    pub fn replace(&mut self, replace: Replace<'_>) -> usize {
        self.output.extend_from_slice(replace.bytes());
        replace.consumed()
    }
}

impl<S> Side<S> {
    /// A side from which `input` has already been read.
    pub fn new(stream: Stream, input: Vec<u8>) -> Self {
        Self {
            side: PhantomData,
            stream,
            input,
            output: Vec::new(),
            written: 0,
            unflushed: false,
            progressed: false,
            read_bytes: BUFFER_BYTES,
            ended: false,
            closed: false,
            deaf: false,
        }
    }

    /// What was read from it and not consumed.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Whether something waits to be written.
    pub fn has_output(&self) -> bool {
        self.unflushed || self.written < self.output.len()
    }

    /// Whether something was written since this was last called.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Drops what waits to be written.
    pub fn drop_output(&mut self) {
        self.output.clear();
        self.written = 0;
    }

    /// A write has failed. What waits to be written is dropped; what the other end sent before can be read.
    pub fn give_up_writing(&mut self) {
        self.drop_output();
        self.unflushed = false;
        self.closed = true;
        self.deaf = true;
    }

    /// Whether at least this many bytes wait in the input.
    pub fn holds(&self, bytes: usize) -> bool {
        !self.input.is_empty() && self.input.len() >= bytes
    }

    /// Writes what waits to be written; ready once all of it is flushed.
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

    /// Shuts our direction down, for which nothing may wait to be written; what the other end still sends can
    /// be read. Does nothing the second time.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.closed {
            // An end that is gone shows when it is read from.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.closed = true;
        }
        Poll::Ready(())
    }

    /// Writes what can be written without waiting; the rest is lost.
    pub fn flush_last(&mut self) {
        let rest = self.output.get(self.written..).unwrap_or_default();
        self.stream.write_now(rest);
    }

    /// Reads what is there. A side that fills the room it is given gets twice as much, up to
    /// [`READ_BYTES_MAX`].
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
            // TLS that ends without close_notify: the protocol inside says itself where it ends.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = true,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Frees the capacity of empty buffers: most sessions are idle most of the time.
    pub fn rest(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > IDLE_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Moves or copies `bytes` bytes of `input`, from `done` on, to the output. Returns how many bytes at the
    /// input's start are done with then.
    fn take_over(&mut self, input: &mut Vec<u8>, done: usize, bytes: usize) -> usize {
        if done == 0 && self.output.is_empty() {
            hand_over(input, &mut self.output, bytes);
            return 0;
        }
        self.output.extend_from_slice(input.get(done..done + bytes).unwrap_or_default());
        done + bytes
    }

    /// Lets the other end read what was written, and closes.
    pub async fn linger(&mut self) {
        linger(&mut self.stream).await;
    }

    /// Closes with a reset: the other end must not go on with what it was sent.
    pub fn reset(self) {
        reset(self.stream.tcp());
    }

    /// Drops consumed bytes from the input's start.
    pub fn consume(&mut self, bytes: usize) {
        if bytes >= self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..bytes);
        }
    }
}

/// Moves the first `bytes` of one side's input to the other side's output, which must be empty. The buffers
/// change places, so that only the bytes which stay behind are copied.
fn hand_over(input: &mut Vec<u8>, output: &mut Vec<u8>, bytes: usize) {
    std::mem::swap(input, output);
    input.extend_from_slice(output.get(bytes..).unwrap_or_default());
    output.truncate(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_handed_over_and_the_rest_stays() {
        for bytes in 0..=5 {
            let (mut input, mut output) = (b"hello".to_vec(), Vec::with_capacity(1));
            hand_over(&mut input, &mut output, bytes);
            assert_eq!((output.as_slice(), input.as_slice()), b"hello".split_at(bytes));
        }
    }
}
