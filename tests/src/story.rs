//! The story that `cargo xtask demo` prints and a test asserts: a contractor's nightly job is followed, held
//! to policy, recorded and, when the contractor leaves, cut off. Every outcome is checked before it is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::{
    command::{Finished, PATIENCE, finish},
    lab::Lab,
    paths,
    server::Server,
    tunnel::Tunnel,
};

/// The subject of the token that the lab's jobs run with.
pub const SUBJECT: &str = "contractor:dana";
/// The job's name.
const JOB: &str = "nightly";
/// The reason that the revocation gives.
const REASON: &str = "dana left the company";
/// How soon after a revocation an open session must be cut.
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// A comment in the outsider's statement, by which the trail is searched for it.
const OUTSIDER_MARK: &str = "outside every job";
/// The SQLSTATE of a denial: insufficient_privilege.
const REFUSED: &str = "42501";

/// One thing that the story tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The title of a new chapter.
    Chapter(&'static str),
    /// What happens in the chapter, and why it matters.
    Explanation(&'static str),
    /// A command or a statement that is run.
    Action(String),
    /// What the action led to, which was checked.
    Outcome(String),
}

/// A function that the story is told to.
pub type Listener<'a> = dyn FnMut(Telling) + 'a;

/// The statements of `report.py` in its order, each with the policy that must deny it.
const STATEMENTS: [(&str, Option<&str>); 7] = [
    ("SELECT count(*) FROM orders", None),
    ("UPDATE orders SET status = 'reviewed' WHERE id = %s", None),
    ("DROP TABLE orders", Some("no-ddl")),
    ("DELETE FROM orders", Some("no-delete-without-where")),
    (
        "WITH gone AS (DELETE FROM orders WHERE id = 18 RETURNING id) SELECT id FROM gone",
        Some("no-hidden-writes"),
    ),
    ("SELECT 1; DELETE FROM orders WHERE id = 19", Some("one-statement-writes")),
    ("SELECT count(*) FROM orders", None),
];

/// Tells the whole story in a lab that nothing else uses: at its end the contractor's access is revoked
/// there.
pub fn tell(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    let ssh = Tunnel::open(lab, &lab.postgres.address())?;
    let mut job = start(lab, &ssh, listener)?;
    statements(&mut job, listener)?;
    helper(&mut job, listener)?;
    tunnel(lab, &mut job, &ssh, listener)?;
    outsider(lab, listener)?;
    trail(lab, listener)?;
    proof(lab, listener)?;
    offboarding(lab, &mut job, listener)?;
    next_night(lab, listener)
}

fn start(lab: &Lab, ssh: &Tunnel, listener: &mut Listener<'_>) -> anyhow::Result<Server> {
    listener(Telling::Chapter("A contractor's nightly job starts"));
    listener(Telling::Explanation(
        "`lineal run` sends the job's OIDC token to the agent. The agent verifies the token and tags the \
         process in the kernel; then the process becomes the job's own program. That program is an ordinary \
         shell script, which knows nothing of lineal. It starts psql, and later a Python program.",
    ));
    listener(Telling::Action("lineal run --token-file token -- ./nightly.sh".to_owned()));
    let script = paths::lab_sources().join("story/nightly.sh");
    let script = script.to_str().context("the project's path is not text")?;
    let mut command = lab.job(JOB, &[script])?;
    command.env("TUNNEL", ssh.address().to_string());
    let mut job = lab.converse("nightly", &command)?;
    let said = hear(&mut job)?;
    ensure!(
        text(&said, "/who") == "nightly.sh" && text(&said, "/value") == "5000",
        "nightly.sh was to count 5000 orders, but printed: {said}"
    );
    listener(Telling::Outcome(format!(
        "nightly.sh runs with the credential {SUBJECT}; its psql counted 5000 orders"
    )));
    Ok(job)
}

fn statements(job: &mut Server, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The job's Python program works on the database"));
    listener(Telling::Explanation(
        "Before a statement reaches the server, lineal parses it by PostgreSQL's own grammar and decides on \
         it by Cedar policies. A denied statement fails with SQLSTATE 42501 and the name of the policy, and \
         the session stays usable. All seven statements run over one session.",
    ));
    for (statement, policy) in STATEMENTS {
        let said = hear(job)?;
        ensure!(text(&said, "/statement") == statement, "instead of {statement}, the job printed {said}");
        listener(Telling::Action(statement.to_owned()));
        match policy {
            None => {
                ensure!(said.get("sqlstate").is_none(), "{statement} was to be allowed, but: {said}");
                let rows = said.get("rows").and_then(Value::as_i64);
                ensure!(rows == Some(1), "{statement} was to touch or return one row, but: {said}");
                listener(Telling::Outcome("allowed".to_owned()));
            }
            Some(policy) => {
                ensure!(text(&said, "/sqlstate") == REFUSED, "{statement} was to be denied, but: {said}");
                let message = text(&said, "/message");
                ensure!(
                    message.contains(policy),
                    "the refusal of {statement} does not name {policy}: {said}"
                );
                listener(Telling::Outcome(format!("denied: {}", first_line(message))));
            }
        }
    }
    Ok(())
}

fn helper(job: &mut Server, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The Python program starts a daemon"));
    listener(Telling::Explanation(
        "The daemon is forked twice, has a session of its own, and its parent has exited: the usual way to \
         get out of a supervisor's sight. The kernel copies the job's tag at every fork, before the child \
         first runs, so the daemon belongs to the job like any other of its processes.",
    ));
    let said = hear(job)?;
    let lines: Vec<&str> = said
        .get("helper")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let [customers, refusal, products] = lines.as_slice() else {
        bail!("the daemon was to print three lines, but: {said}");
    };
    listener(Telling::Action("psql --host 127.0.0.1: SELECT count(*) FROM customers".to_owned()));
    ensure!(*customers == "2000", "the daemon's first SELECT was to be allowed, but: {said}");
    listener(Telling::Outcome("allowed".to_owned()));
    listener(Telling::Action("psql --host 127.0.0.1: DROP TABLE customers".to_owned()));
    ensure!(refusal.starts_with(REFUSED) && refusal.contains("no-ddl"), "DROP was to be denied, but: {said}");
    listener(Telling::Outcome(format!("denied: {}", refusal.trim_start_matches(REFUSED).trim())));
    listener(Telling::Action("psql --host 127.0.0.1: SELECT count(*) FROM products".to_owned()));
    ensure!(*products == "200", "the daemon's session was to stay usable, but: {said}");
    listener(Telling::Outcome("allowed: the session stayed usable".to_owned()));
    Ok(())
}

fn tunnel(lab: &Lab, job: &mut Server, ssh: &Tunnel, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The Python program tries a tunnel"));
    listener(Telling::Explanation(
        "Somebody left an `ssh -L` open on this machine. It leads to the same database server from another \
         address, and works for any process outside the job. The policies declare no upstream at that \
         address, so lineal refuses the job's connection and records it.",
    ));
    let address = ssh.address().to_string();
    let mut psql = Command::new("psql");
    psql.args(["-XAtqc", "SELECT 1"]).env("PGPORT", ssh.address().port().to_string());
    finish(&mut lab.inside(&psql))?.success().context("the tunnel was to lead to PostgreSQL")?;
    ensure!(ssh.connections()? == 1, "ssh's log does not show the connection through the tunnel");
    listener(Telling::Action(format!("connect to {address}, where ssh -L listens")));
    let said = hear(job)?;
    ensure!(text(&said, "/tunnel") == "refused", "the tunnel was to be refused, but: {said}");
    ensure!(ssh.connections()? == 1, "the job got into the tunnel");
    let recorded = lab.audit(&["--job", JOB, "--decision", "deny"])?;
    let recorded = recorded.iter().find(|row| text(row, "/upstream/address") == address);
    let recorded = recorded.context("the refused tunnel is not in the trail")?;
    ensure!(text(recorded, "/credential/subject") == SUBJECT, "the tunnel is recorded as {recorded}");
    listener(Telling::Outcome(format!("refused, and recorded: {}", text(recorded, "/reason"))));
    Ok(())
}

fn outsider(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("A process outside every job"));
    listener(Telling::Explanation(
        "A process that does not descend from a job is neither redirected nor recorded.",
    ));
    let statement = format!("BEGIN; DELETE FROM orders /* {OUTSIDER_MARK} */; ROLLBACK");
    listener(Telling::Action(format!("psql: {statement}")));
    let mut psql = Command::new("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-c", &statement]);
    finish(&mut lab.inside(&psql))?.success().context("a process outside every job was to be left alone")?;
    let trail = read_all(&lab.trail())?;
    ensure!(!contains(&trail, OUTSIDER_MARK.as_bytes()), "the outsider's statement is in the trail");
    listener(Telling::Outcome("the server ran it as ever; the trail does not contain it".to_owned()));
    Ok(())
}

fn trail(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("What the audit trail shows"));
    listener(Telling::Explanation(
        "For each statement: the credential that the job was started with, the process ancestry from the \
         job's root to the process that connected, the decision, and the text.",
    ));
    listener(Telling::Action(format!("lineal audit query --job {JOB}")));
    let rows = lab.audit(&["--job", JOB])?;
    let expected: [(&str, &str, &[&str]); 10] = [
        ("SELECT count(*) FROM orders", "allow", &["nightly.sh", "psql"]),
        ("UPDATE orders SET status = 'reviewed' WHERE id = $1", "allow", &["nightly.sh", "report.py"]),
        ("DROP TABLE orders", "deny", &["nightly.sh", "report.py"]),
        ("DELETE FROM orders", "deny", &["nightly.sh", "report.py"]),
        ("WITH gone AS (DELETE", "deny", &["nightly.sh", "report.py"]),
        ("SELECT 1; DELETE FROM orders", "deny", &["nightly.sh", "report.py"]),
        ("SELECT count(*) FROM orders", "allow", &["nightly.sh", "report.py"]),
        ("SELECT count(*) FROM customers", "allow", &["nightly.sh", "report.py", "helper.sh", "psql"]),
        ("DROP TABLE customers", "deny", &["nightly.sh", "report.py", "helper.sh", "psql"]),
        ("SELECT count(*) FROM products", "allow", &["nightly.sh", "report.py", "helper.sh", "psql"]),
    ];
    for (statement, decision, generations) in expected {
        let row = rows
            .iter()
            .find(|row| {
                text(row, "/statement/text").starts_with(statement)
                    && text(row, "/decision") == decision
                    && is_lineage(row, generations)
            })
            .with_context(|| {
                format!(
                    "the trail lacks {statement:?} ({decision}) by {generations:?}; it holds:\n{}",
                    listing(&rows)
                )
            })?;
        ensure!(text(row, "/credential/subject") == SUBJECT, "{statement} is recorded as {row}");
        ensure!(text(row, "/upstream/name") == "shop", "{statement} is recorded as {row}");
        listener(Telling::Outcome(format!(
            "{SUBJECT}  {}  {decision:<5}  {statement}",
            generations.join(" > ")
        )));
    }
    Ok(())
}

fn proof(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The trail can be verified"));
    listener(Telling::Explanation(
        "Each record holds the hash of the record before it, and checkpoints are signed. Changing a single \
         byte breaks the chain.",
    ));
    let trail = lab.trail();
    listener(Telling::Action("lineal audit verify".to_owned()));
    verify(lab, &trail)?.success().context("the trail was to verify")?;
    listener(Telling::Outcome("the chain is unbroken".to_owned()));
    listener(Telling::Action("lineal audit verify, on a copy with one byte changed".to_owned()));
    let copy = lab.directory().join("forged");
    forge(&trail, &copy)?;
    let verified = verify(lab, &copy)?;
    ensure!(verified.code == Some(1), "the forged copy was to be found broken, but: {verified:?}");
    let said = format!("{}{}", verified.stdout, verified.stderr);
    listener(Telling::Outcome(format!("broken: {}", first_line(&said))));
    Ok(())
}

fn offboarding(lab: &Lab, job: &mut Server, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The contractor is offboarded while the job runs"));
    listener(Telling::Explanation(
        "A revocation ends the access of every job of the subject at once: open sessions are cut, and new \
         ones are refused.",
    ));
    let said = hear(job)?;
    ensure!(
        said.get("waiting") == Some(&Value::Bool(true)),
        "the job was to hold its session open, but: {said}"
    );
    listener(Telling::Action(format!("lineal revoke --subject {SUBJECT} --reason '{REASON}'")));
    let asked = Instant::now();
    lab.ask(&["revoke", "--subject", SUBJECT, "--reason", REASON])?.success()?;
    let said = hear(job)?;
    let took = asked.elapsed();
    ensure!(said.get("cut") == Some(&Value::Bool(true)), "the job's session was to be cut, but: {said}");
    ensure!(took < CUT_WITHIN, "the job's session was cut late, after {took:?}");
    listener(Telling::Outcome("the job's open session is cut within a second".to_owned()));
    let said = hear(job)?;
    ensure!(
        text(&said, "/message").contains(REASON),
        "the next statement was to fail with the reason, but: {said}"
    );
    listener(Telling::Outcome(format!("its next statement fails: {}", first_line(text(&said, "/message")))));
    let said = hear(job)?;
    ensure!(text(&said, "/connect") == "refused", "the next connect was to be refused, but: {said}");
    ensure!(
        text(&said, "/message").contains(REASON),
        "the next connect was to fail with the reason, but: {said}"
    );
    listener(Telling::Outcome(format!("its next connection fails: {}", first_line(text(&said, "/message")))));
    let status = job.wait(PATIENCE)?;
    ensure!(status.success(), "the job was to end by itself, with success: {status}\n{}", job.log());
    Ok(())
}

fn next_night(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The next night"));
    listener(Telling::Explanation(
        "The CI system still issues tokens for the contractor's job. The agent refuses to start a job with \
         them.",
    ));
    listener(Telling::Action("lineal run --token-file new-token -- ./nightly.sh".to_owned()));
    let token = lab.directory().join("next-token");
    fs::write(&token, lab.issuer.token("nightly")?)?;
    let started = lab.directory().join("started");
    let arguments =
        [Path::new("run"), "--token-file".as_ref(), &token, "--".as_ref(), "touch".as_ref(), &started];
    let refused = lab.ask(&arguments)?;
    ensure!(refused.code == Some(125), "the next night's job was to be refused, but: {refused:?}");
    ensure!(refused.stderr.contains(REASON), "the refusal does not give the reason: {refused:?}");
    ensure!(!started.exists(), "the refused job's program was started");
    listener(Telling::Outcome(format!("refused to start (exit 125): {}", first_line(&refused.stderr))));
    Ok(())
}

/// The next JSON object that the job prints.
fn hear(job: &mut Server) -> anyhow::Result<Value> {
    let line = job.line(PATIENCE)?;
    serde_json::from_str(&line).with_context(|| format!("not a JSON object: {line}"))
}

/// The string at a JSON pointer; empty if the value has no string there.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

/// Whether a record's ancestry contains these programs in this order, the first as its root and the last as
/// its end.
fn is_lineage(row: &Value, generations: &[&str]) -> bool {
    let Some(ancestry) = row.pointer("/process/ancestry").and_then(Value::as_array) else { return false };
    let is = |process: &Value, program: &str| {
        let arguments = process.get("argv").and_then(Value::as_array);
        arguments.into_iter().flatten().filter_map(Value::as_str).any(|argument| argument.ends_with(program))
    };
    let ends = generations.first().zip(generations.last()).zip(ancestry.first().zip(ancestry.last()));
    let placed = ends.is_some_and(|((root, leaf), (first, last))| is(first, root) && is(last, leaf));
    let mut left = ancestry.iter();
    placed && generations.iter().all(|program| left.by_ref().any(|process| is(process, program)))
}

/// Records as an error shows them, a line each.
fn listing(rows: &[Value]) -> String {
    let row = |row: &Value| {
        let ancestry = row.pointer("/process/ancestry").cloned().unwrap_or_default();
        format!("  {} {} {ancestry}", text(row, "/decision"), text(row, "/statement/text"))
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn verify(lab: &Lab, trail: &Path) -> anyhow::Result<Finished> {
    lab.ask(&[Path::new("audit"), "verify".as_ref(), "--dir".as_ref(), trail])
}

/// Copies a trail and changes one byte in the middle of its first segment.
fn forge(trail: &Path, copy: &Path) -> anyhow::Result<()> {
    fs::create_dir(copy)?;
    let mut segments: Vec<PathBuf> = Vec::new();
    for file in fs::read_dir(trail)? {
        let from = file?.path();
        let to = copy.join(from.file_name().context("a file without a name")?);
        fs::copy(&from, &to)?;
        if to.extension().is_some_and(|extension| extension == "jsonl") {
            segments.push(to);
        }
    }
    segments.sort();
    let segment = segments.first().context("the trail has no segment")?;
    let mut bytes = fs::read(segment)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("the trail is empty")? ^= 1;
    fs::write(segment, bytes)?;
    Ok(())
}

/// The bytes of all files in a directory.
fn read_all(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for file in fs::read_dir(directory)? {
        all.extend(fs::read(file?.path())?);
    }
    Ok(all)
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
