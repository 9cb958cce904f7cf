//! Unchanged clients, psql and psycopg 3: every authentication method, and transactions and pipelines around
//! denials.

use std::process::Command;

use lineal_tests::{
    command::{PATIENCE, finish},
    postgres::PASSWORD,
    script::PYTHON,
};
use serde_json::Value;

use crate::shared::{decisions_on, lab, lines, own_lab, text};

#[test]
fn psql_continues_after_a_denial() {
    let done = lab().psql(&["SELECT 1", "DROP TABLE orders", "SELECT 2"]).unwrap();
    assert_eq!(done.stdout, "1\n2\n", "{done:?}");
    assert!(done.stderr.contains("ERROR:  42501: lineal: denied by policy no-ddl"), "{done:?}");
}

#[test]
fn a_denial_aborts_the_clients_transaction_and_rollback_ends_it() {
    let done = lab()
        .python(
            r#"
import psycopg
with psycopg.connect() as connection:
    connection.execute("UPDATE orders SET status = 'lost' WHERE id = 3001")
    try:
        connection.execute("DELETE FROM orders")
    except psycopg.errors.InsufficientPrivilege as error:
        print(error.sqlstate)
    print(connection.info.transaction_status.name)
    try:
        connection.execute("SELECT 1")
    except psycopg.errors.InFailedSqlTransaction as error:
        print(error.sqlstate)
    connection.rollback()
    print(connection.execute("SELECT status FROM orders WHERE id = 3001").fetchone()[0] != 'lost')
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["42501", "INERROR", "25P02", "True"]);
}

#[test]
fn writes_before_a_denied_statement_of_a_pipeline_do_not_commit() {
    let done = lab()
        .python(
            r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    try:
        with connection.pipeline():
            connection.execute("UPDATE orders SET status = %s WHERE id = 3002", ("lost",))
            connection.execute("DROP TABLE orders")
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        print(error.sqlstate)
    print(connection.execute("SELECT status FROM orders WHERE id = 3002").fetchone()[0] != 'lost')
    print(connection.info.transaction_status.name)
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["42501", "True", "IDLE"]);
}

#[test]
fn prepared_statements_cursors_binary_results_and_copy_out_work() {
    let done = lab()
        .python(
            r#"
import psycopg
with psycopg.connect() as connection:
    for _ in range(7):
        row = connection.execute("SELECT id FROM orders WHERE id = %s", (42,), prepare=True).fetchone()
    print(row[0])
    with connection.cursor(binary=True) as cursor:
        print(cursor.execute("SELECT total FROM orders WHERE id = %s", (42,)).fetchone()[0] > 0)
    with connection.cursor(name="many") as cursor:
        cursor.itersize = 100
        print(sum(1 for _ in cursor.execute("SELECT id FROM orders")))
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE orders SET status = %s WHERE id = %s", [("paid", n) for n in range(1, 20)])
        print(cursor.rowcount)
    with connection.cursor().copy("COPY (SELECT id FROM products) TO STDOUT") as copy:
        print(sum(1 for _ in copy.rows()))
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["42", "True", "5000", "19", "200"]);
}

#[test]
fn a_notification_reaches_an_idle_client() {
    let script = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    connection.execute("LISTEN news")
    print("listening", flush=True)
    for notification in connection.notifies():
        print(notification.channel, notification.payload, flush=True)
        break
    print(connection.execute("SELECT 'goes on'").fetchone()[0], flush=True)
"#;
    let mut lab = own_lab();
    let listen = "@id(\"listen\")\npermit (principal, action == Action::\"sql:notify\", resource);\n";
    lab.set_policies(listen).unwrap();
    let job = lab.job("listening", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("listening", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "listening");
    lab.postgres.admin("shop", "NOTIFY news, 'of the day'").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "news of the day");
    assert_eq!(job.line(PATIENCE).unwrap(), "goes on");
}

#[test]
fn notices_reach_the_client() {
    let done = lab()
        .python(
            r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    connection.add_notice_handler(lambda notice: print("notice", notice.sqlstate))
    connection.execute("ROLLBACK")
    print(connection.info.transaction_status.name)
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["notice 25P01", "IDLE"]);
}

#[test]
fn every_authentication_method_is_relayed_and_the_server_refuses_a_wrong_password() {
    for (user, password, expect) in [
        ("app", PASSWORD, Ok(())),
        ("app_md5", PASSWORD, Ok(())),
        ("app_cleartext", PASSWORD, Ok(())),
        ("app", "wrong", Err("password authentication failed")),
        ("app_md5", "wrong", Err("password authentication failed")),
        ("app_cleartext", "wrong", Err("password authentication failed")),
    ] {
        let mut job = lab().job("login", &["psql", "-XAtqc", "SELECT current_user"]).unwrap();
        let done = finish(job.env("PGUSER", user).env("PGPASSWORD", password)).unwrap();
        match expect {
            Ok(()) => assert_eq!(lines(&done), [user]),
            Err(reason) => assert!(done.code == Some(2) && done.stderr.contains(reason), "{user}: {done:?}"),
        }
    }
}

#[test]
fn a_job_sees_the_peer_address_that_it_connected_to() {
    let done = lab()
        .python(
            r#"
import os, socket
to = ("127.0.0.1", int(os.environ["PGPORT"]))
with socket.create_connection(to) as connection:
    print(connection.getpeername() == to)
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["True"]);
}

#[test]
fn a_process_outside_every_job_is_neither_decided_on_nor_recorded() {
    let lab = lab();
    let mut psql = Command::new("psql");
    psql.args(["-XAtqc", "SELECT 'an outsider 7f3a'"]);
    assert_eq!(lines(&finish(&mut lab.inside(&psql)).unwrap()), ["an outsider 7f3a"]);
    assert!(decisions_on(lab, "7f3a").is_empty());
}

#[test]
fn a_recorded_outcome_holds_the_row_count_or_the_servers_error() {
    let lab = lab();
    let done = lab.psql(&[
        "SELECT id /* 51d0 */ FROM orders WHERE id < 4",
        "SELECT 1 / (id - id) /* 51d0 */ FROM orders",
    ]);
    let done = done.unwrap();
    assert_eq!(done.code, Some(1), "{done:?}");
    let rows = decisions_on(lab, "51d0");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0].pointer("/outcome/rows").and_then(Value::as_u64), Some(3), "{}", rows[0]);
    assert_eq!(text(&rows[1], "/outcome/error/code"), "22012", "{}", rows[1]);
}
