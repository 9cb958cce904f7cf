//! Revocation ends what runs, and what was sent to run next.

use lineal_tests::{command::PATIENCE, script::PYTHON, story::SUBJECT};

use crate::shared::{WIRE, decisions_on, own_lab};

#[test]
fn statements_that_were_sent_ahead_do_not_run_after_a_revocation() {
    let lab = own_lab();
    let script = format!(
        r#"{WIRE}
ahead = [query("UPDATE products SET price = 31337 WHERE id = %d" % id) for id in range(10, 15)]
raw.sendall(query("SELECT pg_sleep(60)") + b"".join(ahead))
print(*told(6), flush=True)
"#
    );
    let job = lab.job("ahead", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("ahead", &job).unwrap();
    lab.wait_until("all is on its way", || Ok(decisions_on(&lab, "31337").len() == 5)).unwrap();
    lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap().success().unwrap();
    let said = job.line(PATIENCE).unwrap();
    assert!(said.contains("28000") && said.contains("offboarded"), "{said}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS NOT NULL";
    lab.wait_until("the server has ended the session", || {
        Ok(lab.postgres.admin("shop", running)?.trim() == "0")
    })
    .unwrap();
    let changed = lab.postgres.admin("shop", "SELECT count(*) FROM products WHERE price = 31337").unwrap();
    assert_eq!(changed.trim(), "0");
}
