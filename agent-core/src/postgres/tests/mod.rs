//! Scenarios of the whole session. Each is a script in the notation of `notation.rs`, run by `script.rs`
//! with its bytes cut at every place; `model.rs` and `hostile.rs` are generated ones.

mod copy;
mod denial;
mod executor;
mod extended;
mod faults;
mod hostile;
mod model;
mod notation;
mod script;
mod simple;
mod startup;
