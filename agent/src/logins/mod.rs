//! What the agent itself logs in to servers with, so that no job needs to have it.
//!
//! A *login* is the agent's own for a server; a *credential* is a job's verified identity. `[[credential]]`
//! in the configuration says where each login comes from; a policy bundle only names it. Secrets are read
//! anew for each use, so that a changed one is in force at once, and are wiped from memory after it.
//!
//! - [`config`]: what a `[[credential]]` may say.
//! - [`store`]: all logins, by name.
//! - [`file`]: passwords in files.
//! - [`helper`]: passwords printed by programs.
//! - [`secret`]: a password in memory.

mod config;
mod error;
mod file;
mod helper;
mod secret;
mod store;

pub use self::{
    config::LoginConfig,
    error::LoginsError,
    store::{Login, Logins},
};
