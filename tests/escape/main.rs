//! What a hostile job tries, each attempt made for real, as root.
//!
//! A destination that no policy declares stands for the outside world: reaching it is the escape. It counts who
//! reaches it, so that a test never takes the job's word.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out the functions that tests share"
)]

mod control;
mod credential;
mod egress;
mod shared;
