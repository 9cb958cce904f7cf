//! What the tests of this crate share, and the tests of the shipped policies.

pub(crate) mod fixtures;
mod pack;
