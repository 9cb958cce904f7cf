//! The kernel side's maps as typed operations of [`Kernel`], by subject.
//!
//! Each map that needs a lock has its own. No operation holds two of them at once. A walk over a map holds
//! its lock to the end; so does [`Kernel::visit`], whose callback must therefore not use the map of followed
//! processes.

mod connections;
mod holds;
mod jobs;
mod lineage;
mod statistics;
mod tables;
mod tasks;

pub use holds::Verdict;
pub use tables::Kernel;
