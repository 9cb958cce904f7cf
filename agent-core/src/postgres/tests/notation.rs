//! Messages as short text. Items are separated by ` / `; each is a tag, then what belongs to it.
//!
//! A tag is a message's type byte (`Q select 1`, `Z I`), or a word for what has no type byte or is wanted
//! often: `START`, `SSL`, `FATAL`, `DENIED`. `Q!`, `P!`, `B!`, `E!` and `F!` are poison. `RAW` is followed by
//! the bytes themselves.

use crate::postgres::{
    poison,
    wire::{self, Severity},
};

/// A message with a type byte.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put(&mut out, tag, &[body]);
    out
}

/// A packet without a type byte.
fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap();
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A `String` of the protocol: it ends with a NUL.
fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// An ErrorResponse; `text` is the SQLSTATE, then the message.
fn error(severity: Severity, text: &str) -> Vec<u8> {
    let (code, message) = text.split_once(' ').unwrap();
    let mut out = Vec::new();
    wire::put_error(&mut out, severity, code.as_bytes().try_into().unwrap(), message, None, None);
    out
}

/// The bytes of the client's messages.
pub(super) fn client(text: &str) -> Vec<u8> {
    text.split(" / ").map(str::trim).filter(|item| !item.is_empty()).flat_map(client_item).collect()
}

fn client_item(item: &str) -> Vec<u8> {
    let (tag, rest) = item.split_once(' ').unwrap_or((item, ""));
    match tag {
        "SSL" => untyped(80_877_103, b""),
        "GSS" => untyped(80_877_104, b""),
        "CANCEL" => {
            let (pid, secret) = rest.split_once(' ').unwrap();
            untyped(80_877_102, &[&pid.parse::<u32>().unwrap().to_be_bytes(), secret.as_bytes()].concat())
        }
        "START" | "START9" => {
            let mut body = rest.replace(['=', ' '], "\0").into_bytes();
            body.extend(b"\0\0");
            untyped(if tag == "START" { 3 << 16 } else { (3 << 16) + 9 }, &body)
        }
        "Q!" | "P!" | "B!" | "E!" | "F!" => poison_item(tag, rest),
        // name=text
        "P" => {
            let (name, text) = rest.split_once('=').unwrap();
            message(b'P', &[string(name), string(text), vec![0, 0]].concat())
        }
        // portal<statement value
        "B" => {
            let (portal, rest) = rest.split_once('<').unwrap();
            let (statement, value) = rest.split_once(' ').unwrap_or((rest, ""));
            let length = u32::try_from(value.len()).unwrap().to_be_bytes();
            let values = [&[0, 0, 0, 1][..], &length, value.as_bytes(), &[0, 0]].concat();
            message(b'B', &[string(portal), string(statement), values].concat())
        }
        "E" => message(b'E', &[string(rest), vec![0; 4]].concat()),
        "F" => message(b'F', &[&rest.parse::<u32>().unwrap().to_be_bytes()[..], &[0; 6]].concat()),
        // s or p, then the name
        "D" | "C" => {
            let mut body = string(rest);
            body[0] = body[0].to_ascii_uppercase();
            message(tag.as_bytes()[0], &body)
        }
        // mechanism, then data
        "SASL" => {
            let (mechanism, data) = rest.split_once(' ').unwrap();
            let length = u32::try_from(data.len()).unwrap().to_be_bytes();
            message(b'p', &[string(mechanism), length.to_vec(), data.as_bytes().to_vec()].concat())
        }
        "Q" | "f" | "p" => message(tag.as_bytes()[0], &string(rest)),
        "d" | "S" | "H" | "c" | "X" => message(tag.as_bytes()[0], rest.as_bytes()),
        "RAW" => rest.as_bytes().to_vec(),
        other => panic!("no client message {other:?}"),
    }
}

fn poison_item(tag: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match tag {
        "Q!" => poison::put_query(&mut out),
        "P!" => poison::put_parse(&mut out, name.as_bytes()),
        "B!" => poison::put_bind(&mut out),
        "E!" => poison::put_execute(&mut out),
        "F!" => poison::put_function_call(&mut out),
        other => panic!("no poison {other:?}"),
    }
    out
}

/// The bytes of the upstream's messages.
pub(super) fn upstream(text: &str) -> Vec<u8> {
    text.split(" / ").map(str::trim).filter(|item| !item.is_empty()).flat_map(upstream_item).collect()
}

fn upstream_item(item: &str) -> Vec<u8> {
    let (tag, rest) = item.split_once(' ').unwrap_or((item, ""));
    match tag {
        "NO" => b"N".to_vec(),
        "DENIED" => error(Severity::Error, "42501 lineal: denied by policy test: no"),
        "R" => {
            let (code, data) = rest.split_once(' ').unwrap_or((rest, ""));
            message(b'R', &[&code.parse::<u32>().unwrap().to_be_bytes(), data.as_bytes()].concat())
        }
        // mechanisms
        "SASL" => {
            let names: Vec<Vec<u8>> = rest.split(' ').map(string).collect();
            message(b'R', &[&[0, 0, 0, 10], &names.concat()[..], &[0]].concat())
        }
        "K" => {
            let (pid, secret) = rest.split_once(' ').unwrap();
            message(b'K', &[&pid.parse::<u32>().unwrap().to_be_bytes(), secret.as_bytes()].concat())
        }
        // minor version, then the options turned down
        "v" => {
            let mut words = rest.split(' ');
            let minor = words.next().unwrap().parse::<u32>().unwrap();
            let options: Vec<Vec<u8>> = words.map(string).collect();
            let count = u32::try_from(options.len()).unwrap().to_be_bytes();
            let version = ((3 << 16) + minor).to_be_bytes();
            message(b'v', &[&version[..], &count, &options.concat()].concat())
        }
        "PS" => message(b'S', &[rest.replace('=', "\0").as_bytes(), &[0]].concat()),
        "E" => error(Severity::Error, rest),
        "FATAL" => error(Severity::Fatal, rest),
        "C" => message(b'C', &string(rest)),
        "1" | "2" | "3" | "n" | "s" | "I" | "c" | "t" | "T" | "D" | "d" | "Z" | "G" | "H" | "W" | "V"
        | "N" | "A" => message(tag.as_bytes()[0], rest.as_bytes()),
        "RAW" => rest.as_bytes().to_vec(),
        other => panic!("no upstream message {other:?}"),
    }
}
