//! The story that the demo prints and a test asserts: a contractor's nightly job is followed, held to policy,
//! recorded and, when the contractor leaves, cut off. Every line told here is checked before it is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    command::{PATIENCE, finish},
    lab::Lab,
    paths,
    server::Server,
    tunnel::Tunnel,
};

/// Under whose credential the job runs.
pub const SUBJECT: &str = "contractor:dana";
/// The job's name.
const JOB: &str = "nightly";
/// Why access ends.
const REASON: &str = "dana left the company";
/// How soon an open session is cut once access has ended.
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// What marks the outsider's statement, to look for it in the trail.
const OUTSIDER_MARK: &str = "outside every job";
/// What SQL calls a refusal: insufficient_privilege.
const REFUSED: &str = "42501";

/// One thing that the story tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A new part begins.
    Chapter(&'static str),
    /// What the part is about.
    Meaning(&'static str),
    /// Who did what.
    Deed(String),
    /// What came of it: checked.
    Outcome(String),
}

/// Who hears the story.
pub type Listener<'a> = dyn FnMut(Telling) + 'a;

/// What the job's Python is expected to come to, in its order: a statement, and the policy that denies it.
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

/// Tells the whole story in a lab of its own: at its end the contractor is revoked there.
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
    listener(Telling::Meaning(
        "`lineal run` shows the agent the job's OIDC token, is tagged in the kernel, and then becomes the job's \
         own program. The program is an ordinary shell script; it knows nothing of lineal.",
    ));
    listener(Telling::Deed("lineal run --token-file token -- ./nightly.sh".to_owned()));
    let script = paths::lab_sources().join("story/nightly.sh");
    let script = script.to_str().context("the project's path is not text")?;
    let mut command = lab.job(JOB, &[script])?;
    command.env("TUNNEL", ssh.address().to_string());
    let mut job = lab.converse("nightly", &command)?;
    let said = hear(&mut job)?;
    ensure!(text(&said, "/who") == "nightly.sh" && text(&said, "/value") == "5000", "the shell said {said}");
    listener(Telling::Outcome(format!("nightly.sh runs as {SUBJECT}; its psql reads 5000 orders")));
    Ok(job)
}

fn statements(job: &mut Server, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("Its Python works on the database"));
    listener(Telling::Meaning(
        "Each statement is read with PostgreSQL's own grammar and decided by Cedar policies before the server \
         sees it. What is denied fails with SQLSTATE 42501 and the policy's name, and the session goes on.",
    ));
    for (statement, policy) in STATEMENTS {
        let said = hear(job)?;
        ensure!(text(&said, "/statement") == statement, "instead of {statement}, the job said {said}");
        listener(Telling::Deed(statement.to_owned()));
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
    listener(Telling::Chapter("It daemonises a helper"));
    listener(Telling::Meaning(
        "Two forks, a session of its own, the parent gone: the usual way out of a supervisor's sight. The tag is \
         inherited in the kernel at every fork, before the child first runs.",
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
        anyhow::bail!("the helper was to say three lines, but: {said}");
    };
    listener(Telling::Deed("psql --host 127.0.0.1: SELECT count(*) FROM customers".to_owned()));
    ensure!(*customers == "2000", "the helper's first SELECT was to be allowed, but: {said}");
    listener(Telling::Outcome("allowed".to_owned()));
    listener(Telling::Deed("psql --host 127.0.0.1: DROP TABLE customers".to_owned()));
    ensure!(refusal.starts_with(REFUSED) && refusal.contains("no-ddl"), "DROP was to be denied, but: {said}");
    listener(Telling::Outcome(format!("denied: {}", refusal.trim_start_matches(REFUSED).trim())));
    listener(Telling::Deed("psql --host 127.0.0.1: SELECT count(*) FROM products".to_owned()));
    ensure!(*products == "200", "the helper's session was to go on, but: {said}");
    listener(Telling::Outcome("allowed: the session went on".to_owned()));
    Ok(())
}

fn tunnel(lab: &Lab, job: &mut Server, ssh: &Tunnel, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("It tries a tunnel"));
    listener(Telling::Meaning(
        "Somebody's `ssh -L` on this machine leads to the same server under another address, and works for whoever \
         connects. No policy declares that address, so the job's connection is refused and recorded.",
    ));
    let address = ssh.address().to_string();
    let mut psql = Command::new("psql");
    psql.args(["-XAtqc", "SELECT 1"]).env("PGPORT", ssh.address().port().to_string());
    finish(&mut lab.inside(&psql))?.success().context("the tunnel was to lead to PostgreSQL")?;
    ensure!(ssh.connections()? == 1, "the tunnel does not tell who used it");
    listener(Telling::Deed(format!("connect to {address}, where ssh -L begins")));
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
    listener(Telling::Chapter("Meanwhile, outside the job"));
    listener(Telling::Meaning("A process that descends from no job is neither redirected nor recorded."));
    let statement = format!("BEGIN; DELETE FROM orders /* {OUTSIDER_MARK} */; ROLLBACK");
    listener(Telling::Deed(format!("psql: {statement}")));
    let mut psql = Command::new("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-c", &statement]);
    finish(&mut lab.inside(&psql))?.success().context("the outsider was to be left alone")?;
    let trail = read_all(&lab.trail())?;
    ensure!(!contains(&trail, OUTSIDER_MARK.as_bytes()), "the outsider's statement is in the trail");
    listener(Telling::Outcome("done by the server as always; the trail holds nothing of it".to_owned()));
    Ok(())
}

fn trail(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("What the audit trail says"));
    listener(Telling::Meaning(
        "Each statement, under the credential that started the job, with the ancestry from the job's root to the \
         process that connected.",
    ));
    listener(Telling::Deed(format!("lineal audit query --job {JOB}")));
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
    listener(Telling::Chapter("The trail proves itself"));
    listener(Telling::Meaning("Each record holds the hash of the one before; checkpoints are signed."));
    let trail = lab.trail();
    listener(Telling::Deed("lineal audit verify".to_owned()));
    verify(lab, &trail)?.success().context("the trail was to verify")?;
    listener(Telling::Outcome("unbroken".to_owned()));
    listener(Telling::Deed("the same on a copy with one byte changed".to_owned()));
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
    listener(Telling::Meaning("Access ends now, for sessions that are open as well as for new ones."));
    let said = hear(job)?;
    ensure!(
        said.get("waiting") == Some(&Value::Bool(true)),
        "the job was to hold its session open, but: {said}"
    );
    listener(Telling::Deed(format!("lineal revoke --subject {SUBJECT} --reason '{REASON}'")));
    let asked = Instant::now();
    lab.ask(&["revoke", "--subject", SUBJECT, "--reason", REASON])?.success()?;
    let said = hear(job)?;
    let took = asked.elapsed();
    ensure!(said.get("cut") == Some(&Value::Bool(true)), "the job's session was to be cut, but: {said}");
    ensure!(took < CUT_WITHIN, "the job's session was cut after {took:?} only");
    listener(Telling::Outcome("its open session is cut within a second".to_owned()));
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
    listener(Telling::Outcome(format!("its next connect fails: {}", first_line(text(&said, "/message")))));
    let status = job.wait(PATIENCE)?;
    ensure!(status.success(), "the job was to end by itself: {status}\n{}", job.log());
    Ok(())
}

fn next_night(lab: &Lab, listener: &mut Listener<'_>) -> anyhow::Result<()> {
    listener(Telling::Chapter("The next night"));
    listener(Telling::Meaning(
        "The CI system still issues tokens to the contractor's job. The agent refuses them.",
    ));
    listener(Telling::Deed("lineal run --token-file new-token -- ./nightly.sh".to_owned()));
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

/// The job's next word.
fn hear(job: &mut Server) -> anyhow::Result<Value> {
    let line = job.line(PATIENCE)?;
    serde_json::from_str(&line).with_context(|| format!("not a JSON object: {line}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

/// Whether the ancestry runs through these programs: the first at its root, the last at its end.
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

/// Rows as an error shows them.
fn listing(rows: &[Value]) -> String {
    let row = |row: &Value| {
        let ancestry = row.pointer("/process/ancestry").cloned().unwrap_or_default();
        format!("  {} {} {ancestry}", text(row, "/decision"), text(row, "/statement/text"))
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn verify(lab: &Lab, trail: &Path) -> anyhow::Result<crate::command::Finished> {
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
