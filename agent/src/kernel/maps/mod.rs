//! The kernel side's maps as typed operations of [`Kernel`], by subject.
//!
//! Each map has a lock of its own: an operation is a single system call and waits for no other map.

mod connections;
mod jobs;
mod lineage;
mod statistics;
mod tables;
mod tasks;

pub use tables::Kernel;
