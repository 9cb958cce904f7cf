//! The PostgreSQL protocol, version 3, as a state machine without I/O.
//!
//! A [`Session`] stands between a *client* (the job) and an *upstream* (the real server). It decides nothing.
//! It finds the commands in the client's bytes, asks its *executor* (the code that owns the sockets) about
//! each, and carries the ruling out so that client and upstream stay in step. It must never forward a Query,
//! Parse, Execute or FunctionCall without the permit of a recorded decision ([`crate::ruling`]). A denied
//! message is replaced by *poison*: a message that the upstream is certain to refuse. Comments say PostgreSQL
//! where they rely on what its server does by documentation or source.
//!
//! # How the executor drives it
//!
//! ```text
//!            client's buffer                                       upstream's buffer
//!                  |                                                       |
//!        session.client(&buf)                                   session.upstream(&buf)
//!                  |                                                       |
//!   NeedMore  read until the buffer holds bytes_min     NeedMore  read until the buffer holds bytes_min
//!   Wait      read nothing; call again after a          Forward   client  <- buf[..bytes], drop them
//!             ruling or an upstream step                Replace   client  <- client, drop consumed
//!   Forward   upstream <- buf[..bytes], drop them       Err(v)    as on the left
//!   Replace   upstream <- bytes,    drop consumed
//!   Reply     client   <- client,   drop consumed       After every call, BEFORE sending what the step
//!   Judge     decide, record, session.allow(permit)     says: drain session.next_event().
//!   Cancel    pass on if the key is this job's; close     CancelKey:     enter it in the key map
//!   End       take no more from the client                Outcome:       audit, by command number
//!   Err(v)    if at_boundary(): client <- v.to_client()   UpstreamFatal: log the upstream's reason
//!             close; finish(); drain events               Ready
//! ```
//!
//! - **Postponing.** What SQL `EXECUTE` or `FETCH` runs may depend on what the upstream has not answered yet
//!   ([`Unsettled`]). The executor then calls [`Session::postpone`] in place of a ruling, and is asked again
//!   after the upstream has sent something.
//! - **Start of the buffer.** The buffer passed to a call begins where the last step left off. After
//!   `Forward`, `Replace`, `Reply` and `Tls` remove exactly the bytes that the step names; after all other
//!   steps, none. Appending more bytes at the end is always allowed.
//! - **Order.** Carry a step out before the next call in the same direction. The two directions are otherwise
//!   independent: go on with `upstream` while a ruling is pending.
//! - **Runs.** Messages that need no ruling, and messages that were allowed, gather at the start of the
//!   buffer and come out as one `Forward`. So after `Judge` and [`Session::allow`] call `client` again with
//!   the same buffer.
//! - **Buffers.** The client's must be able to grow to a little more than the largest of [`Limits`]. The
//!   upstream's has [`Limits::UPSTREAM_BUFFER_BYTES`] or more, and never grows. Longer messages are streamed.
//! - **Encryption.** [`Session::offer_tls`] makes the session grant the client's SSLRequest
//!   ([`ClientStep::Tls`]); otherwise it answers `N`. [`Session::begun_with_tls`] says that the client began
//!   with TLS, [`Session::upstream_encrypted`] that the connection to the upstream is encrypted.
//! - **Startup** is a question too ([`Question::Startup`]). Connect upstream before [`Session::admit`]; the
//!   next `Forward` is the StartupMessage. After [`Session::admit_logged_in`] there is no such `Forward`,
//!   because the executor has logged in. A denial comes back as `Reply` with a FATAL error, then `End`.
//! - **End of the upstream.** When the upstream closes: [`Session::finish`], drain the events, close the
//!   client.
//! - **Revocation.** [`Session::terminate`], send what it returns, close both.
//! - **SQL that changes names.** If a text under judgement contains `PREPARE` or `DECLARE`, or may run code
//!   that does, call [`Session::sql_prepared`] or [`Session::sql_declared`] before the ruling.
//!
//! # Where things are
//!
//! `session` is the interface that the executor drives, with `question` and `step` for what it is asked and
//! told, `event` for what it learns, `fault` for how a session fails, and `limits` for its bounds. `state` is
//! what the two halves share: `client` takes the client's bytes, `upstream` the upstream's. `startup` reads
//! the packets before the command phase. `replies` knows which reply answers which message, `namespace` which
//! text an Execute will run (`meanings` shows it to the executor, with the
//! upstream's `encoding`), `statements` what Parse and Bind leave behind, `poison` what is sent in place of
//! a denied message, `cancel` what a CancelRequest presents. `wire` reads and writes the format of messages.

pub use cancel::CancelKey;
pub use encoding::Encoding;
pub use event::{Ending, Event, Outcome, Tag, Transaction, UpstreamError};
pub use fault::{ClientFault, Misuse, UpstreamFault, Violation, fatal_error};
pub use limits::Limits;
pub use meanings::{Meanings, Unsettled};
pub use poison::Denial;
pub use question::{Excess, Question};
pub use reading::{decides_reading, keeps_reading};
pub use startup::{Setting, Startup, UnsupportedOption};
pub use state::Session;
pub use statements::{Candidates, Parameter, Parameters, Statement};
pub use step::{ClientStep, UpstreamStep};

mod cancel;
mod client;
mod deallocations;
mod encoding;
mod event;
mod fault;
mod limits;
mod meanings;
mod namespace;
mod poison;
mod question;
mod reading;
mod replies;
mod session;
mod startup;
mod state;
mod statements;
mod step;
mod upstream;
mod wire;

#[cfg(test)]
mod tests;
