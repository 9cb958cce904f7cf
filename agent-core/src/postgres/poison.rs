//! Denial by substitution: what stands in a denied message's place, and how the error it provokes is told.
//!
//! A made-up error would leave client and server in different transactions: earlier statements of the same
//! pipeline would commit. So the server itself is given something that it must reject, and its error is
//! rewritten. The substitute parses, for a syntax error is raised before PostgreSQL looks at an aborted
//! transaction; it names a function in `pg_catalog`, where nobody but the server's builders can put one.

use super::wire::{error_response, write_message};

/// What a denied statement becomes.
pub const STATEMENT: &[u8] = b"SELECT pg_catalog.lineal_denied_()";
/// SQLSTATE of a denial: insufficient_privilege.
pub const SQLSTATE: &str = "42501";

/// Appends the substitute of a simple query.
pub fn query(out: &mut Vec<u8>) {
    let mut body = STATEMENT.to_vec();
    body.push(0);
    write_message(out, b'Q', &body);
}

/// Appends the substitute of a Parse of the same name.
pub fn parse(out: &mut Vec<u8>, name: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + STATEMENT.len() + 4);
    body.extend_from_slice(name);
    body.push(0);
    body.extend_from_slice(STATEMENT);
    body.extend_from_slice(&[0, 0, 0]);
    write_message(out, b'P', &body);
}

/// Appends the substitute of an Execute: a portal that doesn't exist.
pub fn execute(out: &mut Vec<u8>, portal: &[u8]) {
    let mut body = portal.to_vec();
    body.extend_from_slice(&[0, 0, 0, 0, 0]);
    write_message(out, b'E', &body);
}

/// Appends the substitute of a FunctionCall: no function has OID 0; no arguments, result as text.
pub fn function_call(out: &mut Vec<u8>) {
    write_message(out, b'F', &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// The name of the portal that denied Executes ask for. It carries the session's nonce, so that no client
/// can make a portal of that name first.
pub fn portal_name(nonce: u64) -> Box<[u8]> {
    format!("lineal_denied_{nonce:016x}").into_bytes().into()
}

/// The error that the client sees: without position, query, file or line, which speak of the substitute.
pub fn error(message: &str) -> Vec<u8> {
    error_response("ERROR", SQLSTATE, message)
}
