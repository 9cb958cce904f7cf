//! Prepared statements and portals have names that SQL and the protocol share. Whatever runs by a name is
//! decided and recorded as the statement that the name stands for.

use lineal_tests::{
    command::{Finished, PATIENCE},
    script::PYTHON,
};
use serde_json::Value;

use crate::shared::{WIRE, decisions_on, lab, lines, own_lab, text};

/// Runs a script that speaks the protocol by hand; see [`WIRE`].
fn wire(script: &str) -> Finished {
    lab().python(&format!("{WIRE}{script}")).unwrap()
}

/// The strings of an array in a record.
fn list(row: &Value, key: &str) -> Vec<String> {
    let values = row.get(key).and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn a_sql_fetch_from_a_protocol_portal_is_recorded_as_what_the_portal_runs() {
    // Client → lineal → server: an UPDATE bound to the portal `hidden` by the protocol, and fetched from by
    // SQL. Back: the row; the trail must show the FETCH as an update of orders.
    let done = wire(
        r#"
raw.sendall(query("BEGIN"))
raw.sendall(parse("", "UPDATE orders SET status = 'fetched' WHERE id = 11 RETURNING id")
            + bind("hidden", "") + SYNC)
raw.sendall(query("FETCH ALL FROM hidden") + query("ROLLBACK"))
print(*replies(4), sep="\n")
"#,
    );
    assert_eq!(lines(&done), ["BEGIN", "row", "FETCH 1", "ROLLBACK"]);
    let bound = decisions_on(lab(), "status = 'fetched'");
    assert_eq!(bound.len(), 1, "{bound:?}");
    let fetched = decisions_on(lab(), "FETCH ALL FROM hidden");
    assert!(list(&fetched[0], "actions").contains(&"sql:update".to_owned()), "{fetched:?}");
    assert!(list(&fetched[0], "resources").iter().any(|name| name.ends_with(".orders")), "{fetched:?}");
}

#[test]
fn a_sql_fetch_from_a_protocol_portal_is_decided_under_the_current_policies() {
    let mut lab = own_lab();
    // Client → lineal → server: an UPDATE bound to the portal `early`. Then policies change, and SQL fetches
    // from the portal. Back: a denial by the new policy.
    let script = format!(
        r#"{WIRE}
raw.sendall(query("BEGIN"))
raw.sendall(parse("", "UPDATE orders SET status = 'late' WHERE id = 12 RETURNING id")
            + bind("early", "") + SYNC)
replies(2)
print("bound", flush=True)
sys.stdin.readline()
raw.sendall(query("FETCH ALL FROM early"))
print(*replies(1), flush=True)
"#
    );
    let job = lab.job("early", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("early", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "bound");
    let freeze = "@id(\"freeze\") forbid (principal, action == Action::\"sql:update\", resource);";
    lab.set_policies(freeze).unwrap();
    job.say("").unwrap();
    let said = job.line(PATIENCE).unwrap();
    assert!(said.starts_with("42501") && said.contains("freeze"), "{said}");
}

#[test]
fn a_protocol_prepared_statement_run_by_sql_execute_is_recorded() {
    // Client → lineal → server: a Parse that names a statement, and an SQL EXECUTE of that name. Back: its
    // row.
    let done = wire(
        r#"
raw.sendall(parse("shared", "SELECT 'shared name'") + SYNC + query("EXECUTE shared"))
print(*replies(2), sep="\n")
"#,
    );
    assert_eq!(lines(&done), ["row", "SELECT 1"]);
    assert_eq!(decisions_on(lab(), "'shared name'").len(), 1);
}

#[test]
fn a_statement_name_that_sql_redefined_is_recorded_as_what_sql_prepared() {
    // Client → lineal → server: a Parse names a SELECT `twice`; SQL drops it and prepares an UPDATE under
    // that name; the protocol binds and executes the name. Back: the UPDATE's command tag.
    let done = wire(
        r#"
raw.sendall(parse("twice", "SELECT id FROM orders WHERE id = 13") + SYNC)
raw.sendall(query("DEALLOCATE twice") + query("PREPARE twice AS UPDATE products SET price = 5 WHERE id = 13"))
print(*replies(3), sep="\n")
raw.sendall(query("BEGIN") + bind("", "twice") + execute("") + SYNC + query("ROLLBACK"))
print(*replies(3), sep="\n")
"#,
    );
    assert_eq!(lines(&done), ["DEALLOCATE", "PREPARE", "BEGIN", "UPDATE 1", "ROLLBACK"]);
    let rows = decisions_on(lab(), "(the statement that PREPARE named twice)");
    assert_eq!(rows.len(), 1, "{rows:?}");
    // While the server might still have the SELECT, both would be named.
    assert_eq!(text(&rows[0], "/statement/text"), "(the statement that PREPARE named twice)", "{rows:?}");
    assert!(list(&rows[0], "actions").contains(&"sql:update".to_owned()), "{rows:?}");
}

#[test]
fn a_statement_that_sql_made_by_executing_a_parsed_prepare_is_no_other() {
    // Client → lineal → server: Parses name a SELECT `victim`, its DEALLOCATE and a PREPARE of an UPDATE
    // under its name; SQL executes the two; the protocol binds and executes the name. Back: the UPDATE's tag.
    let done = wire(
        r#"
for name, text in (("victim", "SELECT 1"), ("drop", "DEALLOCATE victim"),
                   ("make", "PREPARE victim AS UPDATE products SET price = 6 WHERE id = 13")):
    raw.sendall(parse(name, text) + SYNC)
replies(3)
raw.sendall(query("EXECUTE drop") + query("EXECUTE make"))
print(*replies(2), sep="\n")
raw.sendall(query("BEGIN") + bind("", "victim") + execute("") + SYNC + query("ROLLBACK"))
print(*replies(3), sep="\n")
"#,
    );
    assert_eq!(lines(&done), ["DEALLOCATE", "PREPARE", "BEGIN", "UPDATE 1", "ROLLBACK"]);
    let rows = decisions_on(lab(), "(the statement that PREPARE named victim)");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(list(&rows[0], "actions").contains(&"sql:update".to_owned()), "{rows:?}");
}

#[test]
fn what_a_parsed_execute_or_fetch_runs_is_what_its_name_stands_for_by_then() {
    // Client → lineal → server: Parses of a SELECT `first` and of an EXECUTE of it, `second`; `first` becomes
    // an UPDATE; SQL executes `second`. Then the same with a portal and a parsed FETCH. Back: the UPDATEs'
    // tags.
    let done = wire(
        r#"
raw.sendall(parse("first", "SELECT 1") + SYNC + parse("second", "EXECUTE first /* 77a1 */") + SYNC)
raw.sendall(query("DEALLOCATE first"))
raw.sendall(parse("first", "UPDATE products SET price = 7 WHERE id = 13") + SYNC)
raw.sendall(query("EXECUTE second /* 77a2 */"))
print(*replies(5), sep="\n")
raw.sendall(query("BEGIN") + parse("get", "FETCH ALL FROM moving") + SYNC)
raw.sendall(parse("", "UPDATE products SET price = 8 WHERE id = 13 RETURNING id") + bind("moving", "") + SYNC)
raw.sendall(query("EXECUTE get /* 77a3 */") + query("ROLLBACK"))
print(*replies(5), sep="\n")
"#,
    );
    // An EXECUTE within an EXECUTE reports no rows.
    assert_eq!(lines(&done), ["DEALLOCATE", "UPDATE 0", "BEGIN", "row", "FETCH 1", "ROLLBACK"]);
    for mark in ["77a2", "77a3"] {
        let rows = decisions_on(lab(), mark);
        assert!(list(&rows[0], "actions").contains(&"sql:update".to_owned()), "{mark}: {rows:?}");
    }
}

#[test]
fn names_that_were_used_and_closed_leave_room_for_execute_by_sql() {
    // Client → lineal → server: more names than a session keeps at once, each parsed, bound and closed, and
    // as many that SQL prepares and deallocates; then one more, which SQL executes. Back: its row.
    let done = wire(
        r#"
def close(kind, name): return message(b"C", kind + name.encode() + b"\0")
for number in range(1200):
    name = f"s{number}"
    raw.sendall(parse(name, "SELECT 1") + bind(name, name) + close(b"P", name) + close(b"S", name) + SYNC)
    replies(1)
for number in range(1200):
    raw.sendall(query(f"PREPARE q{number} AS SELECT 1") + query(f"DEALLOCATE q{number}"))
    replies(2)
raw.sendall(parse("last", "SELECT 'the last'") + SYNC + query("EXECUTE last"))
raw.sendall(query("BEGIN; DECLARE c CURSOR FOR SELECT 1") + query("FETCH c") + query("COMMIT"))
print(*replies(5), sep="\n")
"#,
    );
    let expect = ["row", "SELECT 1", "BEGIN", "DECLARE CURSOR", "row", "FETCH 1", "COMMIT"];
    assert_eq!(lines(&done), expect);
}

#[test]
fn a_function_called_in_field_notation_is_denied_as_a_function() {
    for statement in [
        "SELECT (s.pid).pg_terminate_backend FROM pg_stat_activity s WHERE s.pid = pg_backend_pid()",
        "SELECT ('select 1'::text).ts_stat",
        "SELECT x.lo_creat FROM generate_series(-1, -1) x",
    ] {
        let done = lab().psql(&[statement]).unwrap();
        assert!(done.stderr.contains("42501") && done.stderr.contains("lineal: denied"), "{done:?}");
    }
}

#[test]
fn explain_analyze_with_a_number_is_denied_only_if_it_runs_the_statement() {
    let planned = "EXPLAIN (ANALYZE 0) DELETE FROM orders";
    let run = "EXPLAIN (ANALYZE 1) DELETE FROM orders";
    let done = lab().psql(&[planned, run]).unwrap();
    assert!(done.stdout.contains("Delete on orders"), "{done:?}");
    assert!(done.stderr.contains("42501"), "{done:?}");
}
