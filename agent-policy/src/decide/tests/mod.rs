//! Decisions, by topic.

mod access;
mod cache;
mod explain;
mod observe;
mod undeclared;
mod unidentified;
