//! As much of an HTTP/1.1 client as the lab needs for its own servers: one request a connection, on loopback.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, bail};

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a POST request and returns the body of its 2xx response. `address` is `host:port`.
pub fn post(address: &str, path: &str, content_type: &str, body: &str) -> anyhow::Result<String> {
    let length = body.len();
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// Sends a GET request and returns the body of its 2xx response. `address` is `host:port`.
pub fn get(address: &str, path: &str) -> anyhow::Result<String> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn exchange(address: &str, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("nothing listens at {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{address} broke off its response"))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("{address} does not answer in HTTP"))?;
    let body = if head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
        unchunk(body).with_context(|| format!("{address}'s chunked response is cut short"))?
    } else {
        body.to_owned()
    };
    if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        return Ok(body);
    }
    bail!("{address} answers {}: {body}", head.lines().next().unwrap_or_default())
}

/// Joins the chunks of a body, RFC 9112 section 7.1; `None` if the last chunk is missing.
fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_missing_end_is_an_error() {
        assert_eq!(unchunk("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_deref(), Some("abcde"));
        assert_eq!(unchunk("3\r\nabc\r\n"), None);
        assert_eq!(unchunk("5\r\nabc"), None);
    }
}
