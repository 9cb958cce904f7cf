//! Scenarios of the whole session. Most are scripts in the notation of `notation.rs`, which `script.rs` runs
//! with their bytes cut at every place, against the executor in `executor.rs`. `model` and `hostile` drive
//! the executor with random messages instead.

mod copy;
mod denial;
mod executor;
mod extended;
mod faults;
mod hostile;
mod model;
mod notation;
mod script;
mod settings;
mod simple;
mod startup;
