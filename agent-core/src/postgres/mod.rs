//! The PostgreSQL protocol, version 3, as a state machine without I/O.
//!
//! A [`Session`] stands between a client (the job) and an upstream (the real server). It decides nothing:
//! it finds the commands in the client's bytes, asks about each, and carries the verdict out so that client
//! and server stay in step. It must never forward a Query, Parse, Execute or FunctionCall without the permit of a recorded
//! decision ([`crate::ruling`]).
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
//!             verdict or an upstream step               Replace   client  <- client, drop consumed
//!   Forward   upstream <- buf[..bytes], drop them       Err(v)    as on the left
//!   Replace   upstream <- upstream, drop consumed
//!   Reply     client   <- client,   drop consumed       After every call, BEFORE sending what the step
//!   Judge     decide, record, session.allow(permit)     says: drain session.next_event().
//!   Cancel    pass on if the key is this job's; close     CancelKey: commit it to the key map
//!   End       take no more from the client                Outcome:   audit, by command number
//!   Err(v)    if at_boundary(): client <- v.to_client()   Ready, Parameter, Authenticated, Fatal
//!             close; finish(); drain events
//! ```
//!
//! - **Start of the buffer.** A call's buffer begins where the last step left off. After `Forward`,
//!   `Replace` and `Reply` drop exactly the bytes the step says; after all others, none. Reading more to
//!   the end of it is always fine.
//! - **Order.** Carry a step out before the next call in the same direction. The two directions are
//!   otherwise independent: go on with `upstream` while a verdict is pending.
//! - **Runs.** Messages that need no ruling, and messages that were allowed, gather at the start of the
//!   buffer and come out as one `Forward`. So after `Judge` and [`Session::allow`] call `client` again with
//!   the same buffer. Before a long wait (a hold), [`Session::take_ready`] lets go of what stands in front
//!   of the judged message.
//! - **Buffers.** The client's must be able to grow to a little more than the largest of [`Limits`]; the upstream's has
//!   [`Limits::UPSTREAM_BUFFER_BYTES`] or more and never grows. Longer messages are streamed.
//! - **Encryption.** [`Session::offer_tls`] grants the client's SSLRequest ([`ClientStep::Tls`]), otherwise it is answered
//!   `N`. [`Session::begun_with_tls`] says that TLS came first; [`Session::upstream_encrypted`] that the other leg has it.
//! - **Startup** is a question too ([`Question::Startup`]). Connect upstream before [`Session::admit`]; the next
//!   `Forward` is the StartupMessage. After [`Session::admit_logged_in`] there is none: the executor has logged in.
//!   A denial comes back as `Reply` with a FATAL error, then `End`.
//! - **Wait on upstream.** When the upstream closes: [`Session::finish`], drain the events, close the
//!   client.
//! - **Revocation.** [`Session::terminate`], send what it returns, close both.
//! - **SQL that changes names.** If a judged text contains `PREPARE` or `DECLARE`, or may run code that
//!   does, call [`Session::sql_prepared`] or [`Session::sql_declared`] before the verdict.
//!
//! # Who does what
//!
//! `startup` reads the packets before the command phase, `settings` what they set. `client` and `commands` are the client's half,
//! `upstream` the other. `replies` knows which reply answers which message (`copy_in`: and what COPY does
//! to that); `namespace` which text an Execute will run; `poison` what is sent in place of a denied
//! message.

pub use event::{CancelKey, Ending, Event, Outcome, ServerError, Tag, Transaction};
pub use fault::{ClientFault, Misuse, UpstreamFault, Violation, fatal_error};
pub use poison::Denial;
pub use question::{Candidates, ClientStep, Excess, Question};
pub use session::{Limits, Session};
pub use settings::{OtherSwitch, Setting};
pub use startup::Startup;
pub use statements::{Parameter, Parameters, Statement};
pub use upstream::UpstreamStep;

mod client;
mod commands;
mod copy_in;
mod event;
mod fault;
mod namespace;
mod poison;
mod question;
mod replies;
mod session;
mod settings;
mod startup;
mod statements;
mod upstream;
mod wire;

#[cfg(test)]
mod tests;
