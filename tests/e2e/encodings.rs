//! Databases in other encodings than UTF8. The server converts a statement to its own encoding before it cuts
//! and folds the names in it, so a name can become another than it is in UTF-8.

use lineal_tests::{command::Finished, lab::Lab};

use crate::shared::{WIRE, lines, own_lab};

/// A lab with a database in an encoding, in which the table `secret` may not be read.
fn lab_in(encoding: &str, secret: &str) -> Lab {
    let mut lab = own_lab();
    let create = format!("CREATE DATABASE other ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'");
    lab.postgres.admin("shop", &create).unwrap();
    // The administrator's client uses the database's encoding: the names go as escapes. SQL_ASCII has none.
    let spelled = |name: &str| match encoding {
        "SQL_ASCII" => format!("\"{name}\""),
        _ => format!("U&\"{}\"", name.replace('é', "\\00e9").replace('ñ', "\\00f1")),
    };
    let (secret_name, year) = (spelled(secret), spelled("año"));
    let tables = format!(
        "CREATE TABLE {secret_name} AS SELECT 'a secret' AS told; \
         CREATE TABLE {year} AS SELECT 'a year' AS told; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO app"
    );
    lab.postgres.admin("other", &tables).unwrap();
    let forbid = format!(
        "@id(\"secret\") forbid (principal, action in Action::\"sql\", resource is Table)\n\
         when {{ resource.name == \"{secret}\" }};\n"
    );
    lab.set_policies(&forbid).unwrap();
    lab
}

fn psql(lab: &Lab, statements: &[&str]) -> Finished {
    let mut command = vec!["psql", "-XAtq", "other"];
    for statement in statements {
        command.extend(["-c", statement]);
    }
    let mut job = lab.job("psql", &command).unwrap();
    lineal_tests::command::finish(job.env("PGCLIENTENCODING", "UTF8")).unwrap()
}

#[test]
fn a_table_whose_name_the_server_does_not_cut_is_not_read_under_the_name_that_lineal_cuts() {
    // 64 bytes in UTF-8, which are cut, and 32 in LATIN1.
    let secret = "é".repeat(32);
    let lab = lab_in("LATIN1", &secret);
    for spelling in [secret.clone(), format!("\"{secret}\""), format!("U&\"{}\"", "\\00e9".repeat(32))] {
        let done = psql(&lab, &[&format!("SELECT told FROM {spelling}")]);
        assert!(done.stderr.contains("ERROR:  lineal: denied"), "{spelling}: {done:?}");
        assert_eq!(done.stdout, "");
    }
    let done = psql(&lab, &["SELECT told FROM año", "SELECT told FROM \"año\""]);
    assert_eq!(lines(&done), ["a year", "a year"]);
}

#[test]
fn a_name_that_the_server_cuts_within_a_character_is_denied() {
    let secret = "s".repeat(62);
    let lab = lab_in("SQL_ASCII", &secret);
    let done = psql(&lab, &[&format!("SELECT told FROM \"{}\"", "é".repeat(40)), "SELECT told FROM año"]);
    assert_eq!(done.stderr.matches("ERROR:  lineal: denied").count(), 2, "{done:?}");
    assert_eq!(lines(&psql(&lab, &["SELECT told FROM \"año\""])), ["a year"]);
}

#[test]
fn a_protocol_name_that_the_server_reads_as_another_ends_the_session() {
    let lab = lab_in("LATIN1", "secret");
    // Client → lineal → server: a Parse under a name of 64 bytes here and 32 there. Back: the end.
    let script = format!(
        "import os\nos.environ.update(PGDATABASE='other', PGCLIENTENCODING='UTF8')\n{WIRE}\n{}",
        r#"
raw.sendall(parse("é" * 31, "SELECT 1") + SYNC)
print(*replies(1), sep="\n")
raw.sendall(parse("é" * 32, "SELECT 1") + SYNC)
print(*replies(1), sep="\n")
"#
    );
    let done = lab.python(&script).unwrap();
    let said = lines(&done);
    assert!(said[0].is_empty() || said[0].starts_with("08P01"), "{said:?}");
    let refused =
        "08P01 lineal: client: message of type P has a name that the database's encoding may change";
    assert!(done.stdout.contains(&refused.replace("client: ", "")), "{said:?}");
    assert!(said.last().is_some_and(|last| *last == "CLOSED"), "{said:?}");
}
