//! Reads a trail: `lineal audit query`, `tail` and `verify`. Nothing here writes, and no running agent is
//! needed: a reader works on the trail's directory, or on a copy of it.

mod error;
mod index;
mod keys;
mod pending;
mod print;
mod query;
mod reader;
mod row;
mod summary;
mod tail;
mod verify;

pub(crate) use query::{QueryArgs, query};
pub(crate) use reader::holds_a_trail;
pub(crate) use tail::{TailArgs, tail};
pub(crate) use verify::{VerifyArgs, verify};
