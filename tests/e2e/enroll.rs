//! `lineal enroll`: a process tree that runs already becomes a job.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use lineal_tests::{
    Lab,
    command::{Finished, PATIENCE, finish},
    paths,
    script::PYTHON,
    server::Server,
};
use serde_json::Value;

use crate::shared::{decisions_on, lab, own_lab, text};

/// Starts a script outside every job.
fn start(lab: &Lab, script: &str) -> Server {
    let mut python = Command::new(PYTHON);
    python.args(["-c", script]);
    lab.converse("running", &lab.inside(&python)).unwrap()
}

fn enroll(lab: &Lab, pid: u32) -> Finished {
    let token = lab.token_file();
    lab.ask(&[
        "enroll",
        "--pid",
        &pid.to_string(),
        "--token-file",
        token.to_str().unwrap(),
        "--name",
        "late",
        "--json",
    ])
    .unwrap()
}

#[test]
fn a_running_tree_becomes_a_job_with_its_whole_ancestry() {
    // A child, a grandchild and a child that is stopped by a signal; the first two connect when they are told
    // to.
    let script = r#"
import os, psycopg, signal, sys
def talk(name):
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("SELECT 'by the %s'" % name)
def wait_for(pipe):
    os.read(pipe[0], 1)
child, grandchild = os.pipe(), os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        wait_for(grandchild)
        talk("grandchild")
        os._exit(0)
    wait_for(child)
    talk("child")
    os.write(grandchild[1], b"x")
    os.wait()
    os._exit(0)
sleeper = os.fork()
if sleeper == 0:
    signal.pause()
os.kill(sleeper, signal.SIGSTOP)
os.waitpid(sleeper, os.WUNTRACED)
print(sleeper, flush=True)
sys.stdin.readline()
state = open(f"/proc/{sleeper}/stat").read().rsplit(")", 1)[1].split()[0]
os.write(child[1], b"x")
os.waitpid(-1, 0)
os.kill(sleeper, signal.SIGKILL)
print(state, flush=True)
"#;
    let mut lab = own_lab();
    let agent = lab.agent().unwrap().pid();
    let refused = enroll(&lab, agent);
    assert!(refused.code == Some(125) && refused.stderr.contains("cannot follow itself"), "{refused:?}");
    let mut running = start(&lab, script);
    running.line(PATIENCE).unwrap();
    let done = enroll(&lab, running.pid());
    let job: Vec<Value> = done.json().unwrap();
    assert_eq!(job[0]["processes"].as_u64(), Some(4), "{job:?}");
    running.say("").unwrap();
    // Enrolment stops and continues processes; one that was stopped before stays stopped.
    assert_eq!(running.line(PATIENCE).unwrap(), "T");
    for (name, depth) in [("by the child", 2), ("by the grandchild", 3)] {
        let rows = decisions_on(&lab, name);
        let [row] = rows.as_slice() else { panic!("{name}: {rows:?}") };
        assert_eq!(text(row, "/job/name"), "late");
        assert_eq!(
            row.pointer("/process/ancestry").and_then(Value::as_array).map(Vec::len),
            Some(depth),
            "{row}"
        );
    }
}

#[test]
fn enrolling_is_refused_to_other_users_and_jobs_and_for_a_process_enrolled_before() {
    let lab = lab();
    let mut running = start(lab, "input()");
    let pid = running.pid();
    // Another user may not enrol it, and nobody may enrol it twice.
    let token = lab.directory().join("token.everyone");
    fs::copy(lab.token_file(), &token).unwrap();
    fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let lineal = paths::lineal().unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&lineal);
    nobody.args(["enroll", "--pid", &pid.to_string(), "--token-file"]).arg(&token);
    nobody.env(
        "LINEAL_CONTROL",
        lab.lineal(&["status"])
            .unwrap()
            .get_envs()
            .find_map(|(name, value)| (name == "LINEAL_CONTROL").then_some(value).flatten())
            .unwrap(),
    );
    let refused = finish(&mut lab.inside(&nobody)).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("another user's"), "{refused:?}");
    assert_eq!(enroll(lab, pid).code, Some(0));
    let again = enroll(lab, pid);
    assert!(again.code == Some(125) && again.stderr.contains("already belongs to job"), "{again:?}");
    // A job may enrol nobody.
    let inside = lab.run(
        "inside",
        &[
            lineal.to_str().unwrap(),
            "enroll",
            "--pid",
            &pid.to_string(),
            "--token-file",
            token.to_str().unwrap(),
        ],
    );
    assert_eq!(inside.unwrap().code, Some(125));
    running.say("").unwrap();
}

#[test]
fn a_tree_that_grows_during_enrolment_is_enrolled_completely() {
    // Each child forks six more, four generations deep, while the tree is enrolled; all wait for the pipe's
    // end.
    let script = r#"
import os, sys
held, holding = os.pipe()
def grow(depth):
    for _ in range(6):
        if os.fork() == 0:
            if depth == 0:
                os.close(holding)
            if depth < 3:
                grow(depth + 1)
            os.read(held, 1)
            os._exit(0)
print("growing", flush=True)
grow(0)
print("grown", flush=True)
sys.stdin.readline()
"#;
    const ALL: usize = 1 + 6 + 36 + 216 + 1_296;
    let mut lab = own_lab();
    let mut running = start(&lab, script);
    assert_eq!(running.line(PATIENCE).unwrap(), "growing");
    let done = enroll(&lab, running.pid());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(running.line(PATIENCE).unwrap(), "grown");
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == ALL).unwrap();
    assert_eq!(lab.cgroup().processes().unwrap().iter().filter(|pid| is_of(**pid, "growing")).count(), ALL);
    running.say("").unwrap();
    assert!(running.wait(PATIENCE).unwrap().success());
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == 0).unwrap();
}

/// Whether a process runs a script with this word in it.
fn is_of(pid: u32, word: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word))
}

#[test]
fn a_tree_that_cannot_be_enrolled_completely_is_left_untouched() {
    // One process of the tree is in another network namespace, which refuses the whole tree; the others can
    // still reach the shop afterwards.
    let script = r#"
import os, psycopg, subprocess, sys
apart = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo apart; read x"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
apart.stdout.readline()
print("ready", flush=True)
sys.stdin.readline()
print(psycopg.connect().execute("SELECT 'as it was'").fetchone()[0], flush=True)
apart.communicate(b"x")
"#;
    let mut lab = own_lab();
    let mut running = start(&lab, script);
    assert_eq!(running.line(PATIENCE).unwrap(), "ready");
    let refused = enroll(&lab, running.pid());
    assert!(refused.code == Some(125) && refused.stderr.contains("another network namespace"), "{refused:?}");
    assert_eq!(lab.agent().unwrap().status().unwrap()["processes"], 0);
    running.say("").unwrap();
    assert_eq!(running.line(PATIENCE).unwrap(), "as it was");
    assert!(running.wait(PATIENCE).unwrap().success());
    assert!(decisions_on(&lab, "as it was").is_empty());
    // The refusal came before anything else, so no job is recorded.
    assert!(lab.audit(&["--kind", "job"]).unwrap().is_empty());
}
