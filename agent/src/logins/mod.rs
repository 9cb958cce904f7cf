//! What the agent itself logs in to servers with, so that no job needs to have it.
//!
//! A *login* is the agent's own for a server; a *credential* is a job's verified identity. `[[credential]]`
//! in the configuration says where each login comes from; a policy bundle only names it. Files are read anew
//! for each login, so that a changed password is in force at once. What a helper prints is kept until the
//! expiry that it gives. A password is wiped from memory when it is dropped.
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
