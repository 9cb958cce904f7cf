//! The redactor as tables: arguments in, arguments out.

use proptest::prelude::*;

use super::*;

fn check(arguments: &[&str], expect: &[&str]) {
    assert_eq!(argv(arguments), expect, "from {arguments:?}");
}

/// Checks that no argument is changed.
fn kept(arguments: &[&str]) {
    check(arguments, arguments);
}

#[test]
fn options_named_after_secrets_lose_their_values() {
    check(&["tool", "--password=hunter2", "--x=1"], &["tool", "--password=***", "--x=1"]);
    check(&["tool", "--password", "hunter2", "db"], &["tool", "--password", "***", "db"]);
    check(&["tool", "--password", "-hunter2"], &["tool", "--password", "***"]);
    check(&["tool", "--password=two words = one"], &["tool", "--password=***"]);
    check(&["tool", "--db-passwd=x", "--apiKey=y"], &["tool", "--db-passwd=***", "--apiKey=***"]);
    check(&["tool", "--auth-token", "t"], &["tool", "--auth-token", "***"]);
    check(&["tool", "--access-key=k", "--secret=s"], &["tool", "--access-key=***", "--secret=***"]);
    check(&["java", "-Dspring.datasource.password=p"], &["java", "-Dspring.datasource.password=***"]);
    check(&["curl", "--oauth2-bearer", "abc"], &["curl", "--oauth2-bearer", "***"]);
}

#[test]
fn options_about_secrets_keep_their_values() {
    kept(&["lineal", "run", "--token-file", "/run/token", "--", "psql"]);
    kept(&["tool", "--password-file=/etc/p", "--no-password", "db"]);
    kept(&["docker", "login", "--password-stdin", "registry"]);
    kept(&[
        "psql",
        "-h",
        "10.0.0.5",
        "-U",
        "app",
        "-d",
        "shop",
        "-c",
        "SELECT id FROM tokenizers WHERE key = 1",
    ]);
    kept(&["python3", "-m", "pytest", "tests/test_keys.py::test_pass_through", "-p", "no:cacheprovider"]);
    kept(&["sh", "-c", "cd /srv && ./nightly.sh --since 2026-01-01 > out.log 2>&1"]);
    kept(&["env", "PWD=/home/ci", "HOME=/home/ci", "make", "-j2"]);
    kept(&["docker", "run", "-p", "8080:80", "nginx:1.27"]);
    kept(&["ssh", "-L", "5432:db:5432", "git@host"]);
}

#[test]
fn assignments_and_settings_lose_their_values() {
    check(&["env", "PGPASSWORD=p w", "psql"], &["env", "PGPASSWORD=***", "psql"]);
    check(&["docker", "run", "-e", "DB_PASS=x", "img"], &["docker", "run", "-e", "DB_PASS=***", "img"]);
    check(&["docker", "run", "--env=API_TOKEN=x", "img"], &["docker", "run", "--env=API_TOKEN=***", "img"]);
    check(&["psql", "host=h password=p dbname=d"], &["psql", "host=h password=*** dbname=d"]);
    check(&["psql", "password=p host=h"], &["psql", "password=*** host=h"]);
    check(&["psql", r"password='it\'s p' host=h"], &["psql", "password='***' host=h"]);
    check(&["app", "Server=s;Pwd=p;Database=d"], &["app", "Server=s;Pwd=***;Database=d"]);
    check(&["app", "AccountKey=abc==;EndpointSuffix=x"], &["app", "AccountKey=***"]);
    check(
        &["app", "Name=n;AccountKey=abc==;EndpointSuffix=x"],
        &["app", "Name=n;AccountKey=***;EndpointSuffix=x"],
    );
}

#[test]
fn urls_lose_their_passwords_and_keep_their_hosts() {
    check(&["psql", "postgres://u:p@h:5432/db"], &["psql", "postgres://u:***@h:5432/db"]);
    check(&["psql", "--dsn=postgres://u:p@h/db"], &["psql", "--dsn=postgres://u:***@h/db"]);
    check(&["psql", "postgres://u:p@ss@h/db"], &["psql", "postgres://u:***@h/db"]);
    check(&["psql", "postgres://u:p/w@h/db"], &["psql", "postgres://u:***@h/db"]);
    check(&["git", "clone", "https://abcdef@github.com/x"], &["git", "clone", "https://***@github.com/x"]);
    check(
        &["psql", "postgresql://h/db?user=u&password=p&sslmode=require"],
        &["psql", "postgresql://h/db?user=u&password=***&sslmode=require"],
    );
    kept(&["git", "clone", "ssh://git@github.com/x/y.git"]);
    kept(&["curl", "http://host:8080/path?email=a@b.c"]);
    kept(&["curl", "http://secret:8200/v1/sys/health"]);
}

#[test]
fn headers_json_and_bodies_lose_their_secrets() {
    check(&["curl", "-H", "Authorization: Bearer abc.def"], &["curl", "-H", "Authorization: ***"]);
    check(&["curl", "-HX-Api-Key: k1"], &["curl", "-HX-Api-Key: ***"]);
    check(&["curl", "-H", "Accept: text/html"], &["curl", "-H", "Accept: text/html"]);
    check(
        &["curl", "-d", r#"{"user":"u","password":"p\"q","n":1}"#],
        &["curl", "-d", r#"{"user":"u","password":"***","n":1}"#],
    );
    check(&["curl", "-d", "user=u&password=p&n=1"], &["curl", "-d", "user=u&password=***&n=1"]);
    check(&["openssl", "rsa", "-passin", "pass:hunter2"], &["openssl", "rsa", "-passin", "pass:***"]);
}

#[test]
fn known_programs_lose_the_secrets_of_their_short_options() {
    check(&["/usr/bin/mysql", "-uroot", "-phunter2", "db"], &["/usr/bin/mysql", "-uroot", "-p***", "db"]);
    check(&["mysql", "-p", "db"], &["mysql", "-p", "db"]);
    check(&["sudo", "mysqldump", "-px"], &["sudo", "mysqldump", "-p***"]);
    check(&["sshpass", "-p", "x", "ssh", "h"], &["sshpass", "-p", "***", "ssh", "h"]);
    check(&["sshpass", "-px", "ssh", "h"], &["sshpass", "-p***", "ssh", "h"]);
    check(&["curl", "-u", "me:x", "http://h"], &["curl", "-u", "me:***", "http://h"]);
    check(&["curl", "-ume:x", "--proxy-user=a:b"], &["curl", "-ume:***", "--proxy-user=a:***"]);
    check(&["curl", "--user", "me", "--user-agent", "a:b"], &["curl", "--user", "me", "--user-agent", "a:b"]);
    check(&["curl", "--user", "me:x", "http://h"], &["curl", "--user", "me:***", "http://h"]);
    check(&["curl", "--proxy-user", "a:b"], &["curl", "--proxy-user", "a:***"]);
    check(&["curl", "--user=me:x"], &["curl", "--user=me:***"]);
    check(&["redis-cli", "-a", "x", "ping"], &["redis-cli", "-a", "***", "ping"]);
    check(&["docker", "login", "-u", "me", "-p", "x"], &["docker", "login", "-u", "me", "-p", "***"]);
    check(&["sqlcmd", "-U", "sa", "-Px"], &["sqlcmd", "-U", "sa", "-P***"]);
}

#[test]
fn scripts_are_read_word_by_word() {
    check(&["sh", "-c", "mysql -uroot -phunter2 db"], &["sh", "-c", "mysql -uroot -p*** db"]);
    check(&["bash", "-lc", "tool --password hunter2; ls"], &["bash", "-lc", "tool --password ***; ls"]);
    check(&["sh", "-c", "PGPASSWORD='a b' psql -h db"], &["sh", "-c", "PGPASSWORD=*** psql -h db"]);
    check(&["sh", "-c", "export TOKEN=abc && run"], &["sh", "-c", "export TOKEN=*** && run"]);
    check(
        &["sh", "-c", r#"curl -H "Authorization: Bearer x" http://h"#],
        &["sh", "-c", r#"curl -H "Authorization: ***" http://h"#],
    );
    check(
        &["psql", "-c", "ALTER ROLE app PASSWORD 'hunter2' LOGIN"],
        &["psql", "-c", "ALTER ROLE app PASSWORD '***' LOGIN"],
    );
    check(
        &["mysql", "-e", "CREATE USER u IDENTIFIED BY 'it''s'"],
        &["mysql", "-e", "CREATE USER u IDENTIFIED BY '***'"],
    );
}

#[test]
fn tokens_known_by_their_form_are_masked_anywhere() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
    check(&["run", jwt], &["run", "***"]);
    check(&["run", "--x", &format!("a={jwt},b=1")], &["run", "--x", "a=***,b=1"]);
    check(&["run", "ghp_0123456789abcdefghij"], &["run", "***"]);
    check(&["run", "Bearer 0123456789abcdef0123"], &["run", "Bearer ***"]);
    check(&["run", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"], &["run", "***"]);
    kept(&["run", "eyJ", "sk-1", "bearer of news"]);
}

#[test]
fn a_script_nested_too_deep_is_masked_whole() {
    let nested = "sh -c 'a b'";
    let mut words = Words::new(SCRIPT_DEPTH_MAX);
    words.next = Next::Script;
    assert_eq!(words.redact(nested), MASK);
}

proptest! {
    #[test]
    fn any_arguments_come_out_one_for_one(
        arguments in prop::collection::vec("[ -~é]{0,24}", 0..6),
    ) {
        let once = argv(&arguments);
        prop_assert_eq!(once.len(), arguments.len());
    }

    #[test]
    fn a_password_never_survives(secret in "[A-Za-z0-9!#%+/]{6,20}S3cr3t", form in 0_usize..8) {
        let arguments = match form {
            0 => vec![format!("--password={secret}")],
            1 => vec!["--password".to_owned(), secret.clone()],
            2 => vec![format!("PGPASSWORD={secret}")],
            3 => vec![format!("postgres://u:{}@h/d", secret.replace(['/', '#'], "x"))],
            4 => vec![format!("host=h password={secret} user=u")],
            5 => vec![format!("Authorization: Bearer {secret}")],
            6 => vec!["mysql".to_owned(), format!("-p{secret}")],
            _ => vec!["psql".to_owned(), "-c".to_owned(), format!("ALTER ROLE r PASSWORD '{secret}'")],
        };
        prop_assert!(argv(&arguments).iter().all(|argument| !argument.contains("S3cr3t")), "{arguments:?}");
    }
}
