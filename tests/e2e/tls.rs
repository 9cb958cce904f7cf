//! TLS on both legs: what clients see and verify, what the agent verifies, and what nobody can slip in between.

use lineal_tests::{Lab, command::Finished, postgres::PASSWORD, script::PYTHON};

use crate::shared::{lab, lines, own_lab, text, verified_lab};

/// Runs one statement as a job, with libpq's own words for how.
fn psql(lab: &Lab, how: &str, statement: &str) -> Finished {
    lab.run("psql", &["psql", "-XAtq", how, "-c", statement]).unwrap()
}

#[test]
fn every_sslmode_gets_the_encryption_it_asks_for_and_a_certificate_that_verifies() {
    let lab = lab();
    for (mode, encrypted) in [
        ("disable", false),
        ("allow", false),
        ("prefer", true),
        ("require", true),
        ("verify-ca", true),
        ("verify-full", true),
    ] {
        let done = psql(lab, &format!("sslmode={mode}"), "\\conninfo");
        assert_eq!(lines(&done).iter().any(|line| line.contains("TLS")), encrypted, "{mode}: {done:?}");
    }
    // By a name, which the certificate then bears.
    let done = psql(lab, "sslmode=verify-full host=shop.example hostaddr=127.0.0.1", "SELECT 1");
    assert_eq!(lines(&done), ["1"]);
}

#[test]
fn a_client_that_trusts_another_authority_refuses_the_agent() {
    let lab = lab();
    let other = lab.directory().join("other-ca.pem");
    let done = psql(lab, &format!("sslmode=verify-ca sslrootcert={}", other.display()), "SELECT 1");
    assert!(done.code == Some(2) && done.stderr.contains("certificate verify failed"), "{done:?}");
}

#[test]
fn direct_tls_is_served_only_to_clients_that_name_postgresql() {
    let done = lab()
        .python(
            r#"
import os, socket, ssl, struct
def begin(protocols):
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
    secured = context.wrap_socket(raw, server_hostname="shop.example")
    try:
        body = b"user\0app\0database\0shop\0\0"
        secured.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
        return secured.recv(1).decode()
    except OSError as error:
        return "broken"
def attempt(protocols):
    try:
        return begin(protocols) or "closed"
    except ssl.SSLError as error:
        return "refused"
print(attempt(["postgresql"]), attempt(None), attempt(["h2"]))
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["R closed refused"]);
}

#[test]
fn plaintext_sent_ahead_of_the_handshake_ends_the_connection() {
    let done = lab()
        .python(
            r#"
import os, socket, struct
raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
startup = struct.pack("!II", 32, 196608) + b"user\0app\0database\0shop\0\0"
raw.sendall(struct.pack("!II", 8, 80877103) + startup)
got = b""
while piece := raw.recv(65536):
    got += piece
print(got[:1].decode(), b"data behind an encryption request" in got)
# In two pieces: the agent has granted TLS by then, and what comes is no handshake.
raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
raw.sendall(struct.pack("!II", 8, 80877103))
print(raw.recv(1).decode())
raw.sendall(startup)
got = b""
try:
    while piece := raw.recv(65536):
        got += piece
except ConnectionResetError:
    pass
print(b"SCRAM" in got)
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["E True", "S", "False"]);
}

#[test]
fn every_authentication_method_is_relayed_with_tls_on_both_legs() {
    let lab = verified_lab();
    for user in ["app", "app_md5", "app_cleartext"] {
        let done = psql(&lab, &format!("user={user} sslmode=verify-full"), "SELECT current_user");
        assert_eq!(lines(&done), [user]);
    }
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(lines(&psql(&lab, "sslmode=disable", encrypted)), ["t"]);
    let rows = lab.audit(&[]).unwrap();
    assert!(rows.iter().any(|row| text(row, "/statement/text") == encrypted));
}

#[test]
fn a_client_that_uses_channel_binding_is_refused_with_both_remedies() {
    let lab = verified_lab();
    for binding in ["prefer", "require"] {
        let done = psql(&lab, &format!("sslmode=require channel_binding={binding}"), "SELECT 1");
        assert_eq!(done.code, Some(2), "{done:?}");
        // With `require` libpq itself refuses what it is offered.
        let told = done.stderr.contains("PGCHANNELBINDING=disable")
            && done.stderr.contains("configure a credential");
        assert!(told || binding == "require" && done.stderr.contains("channel binding"), "{done:?}");
    }
    // Without TLS on its own leg there is nothing to bind to.
    assert_eq!(lines(&psql(&lab, "sslmode=disable channel_binding=prefer", "SELECT 1")), ["1"]);
}

#[test]
fn the_servers_certificate_is_verified_as_the_upstream_configures() {
    let mut lab = own_lab();
    let mut check = |leg: &str, refusal: Option<&str>| {
        lab.set_leg(leg).unwrap();
        let done = psql(&lab, "sslmode=prefer", "SELECT 1");
        match refusal {
            None => assert_eq!(lines(&done), ["1"], "{leg}"),
            Some(reason) => assert!(
                done.code == Some(2)
                    && done.stderr.contains(reason)
                    && done.stderr.contains("cannot reach shop"),
                "{leg}: {done:?}"
            ),
        }
    };
    check("tls.mode = \"require\"", None);
    check("tls.mode = \"prefer\"", None);
    // The server's address is in its certificate, too.
    check("tls.ca = \"LAB/ca.pem\"", None);
    check("tls.ca = \"LAB/ca.pem\"\ntls.mode = \"verify-ca\"", None);
    check("tls.ca = \"LAB/other-ca.pem\"\ntls.mode = \"verify-ca\"", Some("UnknownIssuer"));
    check("tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"other.example\"", Some("not valid for name"));
}

#[test]
fn a_cancel_works_with_and_without_tls_and_only_from_the_same_job() {
    let lab = verified_lab();
    // Whoever knows the key, by each kind of connection: the job itself, and another one.
    let victim = r#"
import os, socket, ssl, struct, sys
def connect(encrypted):
    raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=60)
    if not encrypted:
        return raw
    raw.sendall(struct.pack("!II", 8, 80877103))
    assert raw.recv(1) == b"S"
    return ssl.create_default_context().wrap_socket(raw, server_hostname="shop.example")
def message(kind, body): return kind + struct.pack("!I", len(body) + 4) + body
def read(stream):
    header = stream.read(5)
    return header[:1], stream.read(struct.unpack("!I", header[1:])[0] - 4)
connection = connect(True)
stream = connection.makefile("rb")
body = b"user\0app_cleartext\0database\0shop\0\0"
connection.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
while (got := read(stream))[0] != b"Z":
    if got == (b"R", struct.pack("!I", 3)):
        connection.sendall(message(b"p", os.environ["PGPASSWORD"].encode() + b"\0"))
    elif got[0] == b"K":
        key = got[1]
print(key.hex(), flush=True)
for encrypted in (True, False):
    connection.sendall(message(b"Q", b"SELECT count(*) FROM generate_series(1, 10000000000)\0"))
    sys.stdin.readline()
    request = connect(encrypted)
    request.sendall(struct.pack("!II", 8 + len(key), 80877102) + key)
    while (got := read(stream))[0] != b"Z":
        if got[0] == b"E":
            print(b"C57014" in got[1], flush=True)
"#;
    let thief = r#"
import os, socket, struct, sys
key = bytes.fromhex(sys.argv[1])
request = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=60)
request.sendall(struct.pack("!II", 8 + len(key), 80877102) + key)
print(request.recv(1))
"#;
    let patience = lineal_tests::command::PATIENCE;
    let job = lab.job("cancelling", &[PYTHON, "-c", victim]).unwrap();
    let mut job = lab.converse("cancelling", &job).unwrap();
    let key = job.line(patience).unwrap();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%10000000000%' \
                   AND usename = 'app_cleartext'";
    let runs = || lab.wait_until("the statement runs", || Ok(lab.postgres.admin("shop", running)? == "1"));
    runs().unwrap();
    assert_eq!(lines(&lab.run("thief", &[PYTHON, "-c", thief, &key]).unwrap()), ["b''"]);
    runs().unwrap();
    for _ in 0..2 {
        runs().unwrap();
        job.say("").unwrap();
        assert_eq!(job.line(patience).unwrap(), "True");
    }
}

#[test]
fn the_agents_authority_can_be_replaced_while_jobs_run() {
    let lab = own_lab();
    let script = r#"
import psycopg
def once():
    with psycopg.connect(sslmode="verify-full") as connection:
        print(connection.execute("SELECT 'verified'").fetchone()[0], flush=True)
once()
input()
once()
"#;
    let job = lab.job("lasting", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("lasting", &job).unwrap();
    let patience = lineal_tests::command::PATIENCE;
    assert_eq!(job.line(patience).unwrap(), "verified");
    let published = || std::fs::read_to_string(lab.directory().join("trust/ca.pem")).unwrap();
    let before = published();
    assert_eq!(lab.ask(&["rotate-authority"]).unwrap().code, Some(0));
    assert!(published() != before && published().ends_with(&before));
    job.say("").unwrap();
    assert_eq!(job.line(patience).unwrap(), "verified");
    assert_eq!(lines(&psql(&lab, "sslmode=verify-full", "SELECT 1")), ["1"]);
    // A job can't do that.
    let inside =
        lab.run("rotating", &[lineal_tests::paths::lineal().unwrap().to_str().unwrap(), "rotate-authority"]);
    assert_eq!(inside.unwrap().code, Some(125));
}

#[test]
fn a_bundle_that_names_a_missing_file_or_credential_is_refused() {
    let mut lab = own_lab();
    let upstreams = lab.policies().join("hosts/lab/upstreams.toml");
    let good = std::fs::read_to_string(&upstreams).unwrap();
    for (leg, reason) in [
        ("tls.ca = \"/nonexistent/ca.pem\"", "/nonexistent/ca.pem: No such file"),
        ("credential = \"nobody\"", "there is no credential \"nobody\""),
    ] {
        std::fs::write(&upstreams, good.replace("tls.mode = \"disable\"", leg)).unwrap();
        let status =
            lab.agent().unwrap().wait_for_status(|status| !status["bundle_error"].is_null()).unwrap();
        assert!(text(&status, "/bundle_error").contains(reason), "{status}");
        std::fs::write(&upstreams, &good).unwrap();
        lab.agent().unwrap().wait_for_status(|status| status["bundle_error"].is_null()).unwrap();
    }
    assert_eq!(lines(&psql(&lab, &format!("password={PASSWORD}"), "SELECT 1")), ["1"]);
}
