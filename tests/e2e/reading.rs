//! The server must read SQL text exactly as lineal's analysis does. Whatever would change that is denied, no
//! matter what policies say, and the session continues.

use crate::shared::{WIRE, decisions_on, lab, lines, own_lab};

#[test]
fn every_way_to_change_how_the_server_reads_text_is_denied() {
    let mut lab = own_lab();
    lab.allow_all().unwrap();
    // Client → lineal: each way to change the setting that decides how string literals are read, as a query,
    // a Parse with a bound value, and what is called later. Back: an error each; harmless spellings reach the
    // server and succeed.
    let script = format!(
        r#"{WIRE}
def bind_text(*values): return message(b"B", b"\0\0" + struct.pack("!HH", 0, len(values))
    + b"".join(struct.pack("!I", len(value)) + value for value in values) + bytes(2))
for attempt in (
    query("SET standard_conforming_strings = off"),
    query("SET client_encoding TO sjis"),
    query("SELECT set_config('standard_conforming_strings', 'off', false)"),
    query("SELECT set_config(name, 'off', false) FROM pg_settings "
          "WHERE name = 'standard_conforming_strings'"),
    parse("", "SELECT set_config($1, $2, false)")
        + bind_text(b"standard_conforming_strings", b"off") + execute("") + SYNC,
    query("PREPARE q AS SELECT set_config('client_encoding', $1, false)"),
    query("DECLARE c CURSOR WITH HOLD FOR SELECT set_config(lower('X'), 'off', false)"),
    query("CREATE TEMP VIEW v AS SELECT set_config(lower('X'), 'off', false)"),
    query("SET standard_conforming_strings TO on; SET client_encoding = 'UTF-8'; RESET client_encoding"),
    query("SHOW standard_conforming_strings"),
):
    raw.sendall(attempt)
    print(*replies(1), flush=True)
"#
    );
    let done = lab.python(&script).unwrap();
    let said = lines(&done);
    assert_eq!(said.len(), 10, "{done:?}");
    for denied in said.iter().take(8) {
        assert!(denied.starts_with("42501 lineal: denied: "), "{done:?}");
    }
    assert_eq!(&said[8..], ["SET SET RESET", "row SHOW"], "{done:?}");
}

#[test]
fn a_setting_that_cannot_be_told_ends_the_session_if_it_changes_how_text_is_read() {
    let mut lab = own_lab();
    lab.allow_all().unwrap();
    for attempt in [
        "query(\"SELECT set_config('standard_conforming_' || 'strings', 'off', false)\")",
        "query(\"SELECT set_config(name, 'off', false) FROM pg_settings WHERE name LIKE 'standard_conf%'\")",
        "query(\"UPDATE pg_settings SET setting = 'off' WHERE name LIKE 'standard_conf%'\")",
        "query(\"PREPARE q AS SELECT set_config($1, $2, false)\") \
         + query(\"EXECUTE q('standard_conforming_strings', 'off')\")",
        "query(\"SELECT set_config(lower('Client_Encoding'), 'sjis', false)\")",
        "call(2078)",
    ] {
        // Client → lineal, in one send: the change, and a text that would be two statements after it. Back:
        // the end of the session.
        let script = format!(
            r#"{WIRE}
def call(oid): return message(b"F", struct.pack("!IHHH", oid, 1, 0, 3) + struct.pack("!I", 27)
    + b"standard_conforming_strings" + struct.pack("!I", 3) + b"off" + struct.pack("!I", 1) + b"f" + bytes(2))
raw.sendall({attempt} + query(r"SELECT '\'; CREATE TEMP TABLE mark (); --'"))
try:
    print(*replies(3), flush=True)
except ConnectionResetError:
    print("CLOSED", flush=True)
"#
        );
        let done = lab.python(&script).unwrap();
        let said = lines(&done);
        assert!(said.last().unwrap().ends_with("CLOSED"), "{attempt}: {done:?}");
        assert!(!done.stdout.contains("CREATE TABLE"), "{attempt}: {done:?}");
    }
    assert!(decisions_on(&lab, "TABLE mark").is_empty());
}

#[test]
fn a_role_whose_settings_change_how_text_is_read_is_refused() {
    let lab = own_lab();
    lab.postgres.admin("shop", "ALTER ROLE app SET standard_conforming_strings = off").unwrap();
    let done = lab.psql(&["SELECT 1"]).unwrap();
    assert!(
        done.code == Some(2)
            && done.stderr.contains("setting standard_conforming_strings is off: lineal reads"),
        "{done:?}"
    );
}

#[test]
fn drivers_may_set_the_required_reading_settings_themselves() {
    let done =
        lab().psql(&["SET client_encoding TO 'utf8'", "SET standard_conforming_strings = on", "SELECT 1"]);
    assert_eq!(lines(&done.unwrap()), ["1"]);
    // An alias that the server reports as it was written.
    let done = lab().psql(&["SET client_encoding TO 'UNICODE'", "SHOW client_encoding"]);
    assert_eq!(lines(&done.unwrap()), ["UNICODE"]);
}
