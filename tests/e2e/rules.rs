//! Enrolment by rule: processes that an `[[enrol]]` rule matches are followed without `lineal run`, and
//! granted nothing until they have a credential.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
};

use lineal_tests::{
    Lab, LabOptions, cgroup,
    command::{PATIENCE, finish},
    paths,
    script::PYTHON,
    server::Server,
};
use serde_json::{Value, json};

use crate::{
    opaque,
    shared::{decisions_on, lines, text},
};

/// The name of a systemd unit that no other test and no other lab uses.
fn unit() -> String {
    format!("lineal-test-{}-{:?}.service", process::id(), thread::current().id()).replace(['(', ')'], "")
}

/// A lab whose agent has a rule `runner` that matches the unit.
fn lab(unit: &str, upstreams: String) -> Lab {
    let agent_config = format!("[[enrol]]\nname = \"runner\"\nunit = \"{unit}\"\n");
    Lab::start(&LabOptions { agent_config, upstreams, ..LabOptions::default() }).unwrap()
}

/// Starts a program as systemd would: in the unit's cgroup, which is in the lab's, or in the cgroup `below`
/// that one.
fn in_unit(lab: &Lab, unit: &str, below: &str, program: &[&str]) -> Server {
    let cgroup = lab.cgroup().path().join(unit).join(below);
    fs::create_dir_all(&cgroup).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo $$ > $0/cgroup.procs && exec \"$@\""]).arg(cgroup).args(program);
    lab.converse("runner", &lab.inside(&shell)).unwrap()
}

/// Runs each line it is told as a command, and prints its exit code and its output on one line.
const RUNNER: &str = r#"
import shlex, subprocess, sys
for line in sys.stdin:
    done = subprocess.run(shlex.split(line), capture_output=True, text=True)
    print(done.returncode, " ".join((done.stdout + done.stderr).split()), flush=True)
"#;

/// Tells a long-lived process a line, and returns the line that it answers with.
fn tell(runner: &mut Server, command: &str) -> String {
    runner.say(command).unwrap();
    runner.line(PATIENCE).unwrap()
}

fn jobs(lab: &Lab) -> Vec<Value> {
    lab.ask(&["jobs", "--json"]).unwrap().json().unwrap()
}

/// A `lineal` command line for [`RUNNER`].
fn lineal(lab: &Lab, rest: &str) -> String {
    let (lineal, control) = (paths::lineal().unwrap(), lab.directory().join("control.sock"));
    format!("{} --control {} {rest}", lineal.display(), control.display())
}

/// The reason that a job without a credential is refused with.
const NOTHING: &str = "the job has no verified credential, and is granted nothing until it has one";

#[test]
fn a_pipeline_without_lineal_run_is_granted_nothing_until_it_presents_a_token() {
    let unit = unit();
    let lab = lab(&unit, String::new());
    let mut runner = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    let said = tell(&mut runner, "psql -XAtqc \"SELECT 'left out'\"");
    assert!(said.starts_with('2') && said.contains(NOTHING), "{said}");
    assert!(decisions_on(&lab, "left out").is_empty());
    let [job] = jobs(&lab).try_into().unwrap();
    assert_eq!((text(&job, "/state"), text(&job, "/name")), ("unidentified", "runner"));
    assert!(job["credential"].is_null());
    let denied = lab.audit(&["--decision", "deny"]).unwrap();
    assert_eq!(text(&denied[0], "/job/name"), "runner");
    assert!(denied[0]["credential"].is_null(), "{denied:?}");
    assert_eq!(
        text(&denied[0], "/process/ancestry/0/exe"),
        fs::canonicalize(PYTHON).unwrap().to_str().unwrap()
    );

    // From inside such a job the agent accepts one request only: `lineal run` with a token.
    let pid = job["root_pid"].as_u64().unwrap();
    let token = lab.token_file();
    let refused =
        tell(&mut runner, &lineal(&lab, &format!("enroll --pid {pid} --token-file {}", token.display())));
    assert!(refused.starts_with("125") && refused.contains("inside a job"), "{refused}");
    let refused = tell(&mut runner, &lineal(&lab, "jobs"));
    assert!(refused.starts_with("125"), "{refused}");

    let run = format!("run --token-file {} --name nightly -- ", token.display());
    let said = tell(&mut runner, &lineal(&lab, &format!("{run} psql -XAtqc \"SELECT 'shown'\"")));
    assert_eq!(said, "0 shown");
    let [row] = decisions_on(&lab, "'shown'").try_into().unwrap();
    assert_eq!(text(&row, "/job/name"), "nightly");
    // The credential belongs to the new job alone, and that job cannot take another one.
    let said = tell(&mut runner, "psql -XAtqc \"SELECT 'still left out'\"");
    assert!(said.contains(NOTHING), "{said}");
    let twice = tell(&mut runner, &lineal(&lab, &format!("{run} {}", lineal(&lab, &format!("{run} true")))));
    assert!(twice.starts_with("125") && twice.contains("inside a job"), "{twice}");
}

#[test]
fn a_unit_rule_matches_the_units_cgroups_and_nothing_else() {
    let unit = unit();
    let lab = lab(&unit, String::new());
    let connect = ["psql", "-XAtqc", "SELECT 'free'"];
    let mut deep = in_unit(&lab, &unit, "payload/step-1", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut deep, "psql -XAtqc \"SELECT 'free'\"").contains(NOTHING));
    // Another unit's processes are left alone.
    let mut other = in_unit(&lab, &format!("not-{unit}"), "", &connect);
    assert_eq!(other.line(PATIENCE).unwrap(), "free");
    assert!(decisions_on(&lab, "'free'").is_empty());
    // A process that leaves the cgroup stays in its job.
    let away = format!(
        "/bin/sh -c 'echo $$ > {}/cgroup.procs && psql -XAtqc \"SELECT 1\"'",
        lab.cgroup().path().display()
    );
    assert!(tell(&mut deep, &away).contains(NOTHING));
}

#[test]
fn a_policy_can_grant_the_runners_own_connection_and_not_its_childrens() {
    let unit = unit();
    let port = opaque::echo();
    let upstreams =
        format!("[[upstream]]\nname = \"ci\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{port}\"]\n");
    let mut lab = lab(&unit, upstreams);
    lab.set_policies(
        "@id(\"runner-control\")\npermit (\n  principal in Group::\"unidentified\",\n  \
         action == Action::\"connect\",\n  \
         resource == Upstream::\"ci\"\n)\nwhen { context.process.depth == 0 };\n",
    )
    .unwrap();
    // Client → lineal → server: plain bytes, from the runner itself or from its child. Back: the same bytes
    // for the runner, the end of the connection for the child.
    let talk = format!(
        r#"
import socket, subprocess, sys
TRY = """
import socket
connection = socket.create_connection(("127.0.0.1", {port}), 20)
connection.sendall(b"x")
print(connection.recv(1) or "ended")
"""
for line in sys.stdin:
    if line.strip() == "child":
        done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True)
        print("ended" if done.returncode or "ended" in done.stdout else "reached", flush=True)
    else:
        connection = socket.create_connection(("127.0.0.1", {port}), 20)
        connection.sendall(line.encode())
        print(connection.recv(4096).decode().strip() or "ended", flush=True)
"#
    );
    let mut runner = in_unit(&lab, &unit, "", &[PYTHON, "-c", &talk]);
    assert_eq!(tell(&mut runner, "child"), "ended");
    assert_eq!(tell(&mut runner, "hello"), "hello");
    let rows = lab.audit(&["--decision", "allow"]).unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row["policies"], json!(["runner-control"]));
}

#[test]
fn processes_started_before_the_agent_or_while_it_was_down_are_followed() {
    let unit = unit();
    let mut lab = lab(&unit, String::new());
    let config = lab.agent_options().config();
    lab.take_agent().unwrap().stop().unwrap();
    // Detached: no program in the kernel sees this process start.
    lines(&lab.ask(&["detach", "--config", config.to_str().unwrap()]).unwrap());
    let mut early = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    assert_eq!(tell(&mut early, "psql -XAtqc \"SELECT 1\""), "0 1");
    lab.start_agent().unwrap();
    let said = tell(&mut early, "psql -XAtqc \"SELECT 'early'\"");
    assert!(said.contains(NOTHING), "{said}");
    // Started while the agent is dead and its pinned programs are not.
    lab.take_agent().unwrap().kill().unwrap();
    let mut orphan = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut orphan, "psql -XAtqc \"SELECT 'orphan'\"").contains("refused"));
    lab.start_agent().unwrap();
    let said = tell(&mut orphan, "psql -XAtqc \"SELECT 'orphan'\"");
    assert!(said.contains(NOTHING), "{said}");
    assert_eq!(jobs(&lab).len(), 2);
    let states = lab.audit(&["--kind", "job"]).unwrap();
    let mut states: Vec<&str> = states.iter().map(|row| text(row, "/state")).collect();
    states.sort_unstable();
    // The second agent enrolled the first process; the third adopted that job and enrolled the second
    // process.
    assert_eq!(states, ["adopted", "enrolled", "enrolled"]);
}

#[test]
fn a_chain_of_forks_is_followed_or_the_agent_does_not_start() {
    // Each process forks and ends: a search of /proc may meet none of them. The last one connects.
    let unit = unit();
    let mut lab = lab(&unit, String::new());
    let config = lab.agent_options().config();
    lab.take_agent().unwrap().stop().unwrap();
    lines(&lab.ask(&["detach", "--config", config.to_str().unwrap()]).unwrap());
    let (port, end) = (lab.postgres.port().to_string(), lab.directory().join("end"));
    let chain = [env!("CARGO_BIN_EXE_chain"), "120", &port, end.to_str().unwrap()];
    let mut chain = in_unit(&lab, &unit, "", &chain);
    assert_eq!(chain.line(PATIENCE).unwrap(), "running");
    let started = lab.start_agent();
    fs::write(&end, "").unwrap();
    let said = chain.line(PATIENCE).unwrap();
    match started {
        Ok(()) => assert!(said.contains("lineal"), "{said}"),
        Err(error) => assert!(format!("{error:#}").contains("still forked"), "{error:#}"),
    }
}

#[test]
fn a_job_whose_root_has_ended_is_adopted_by_the_next_agent() {
    let unit = unit();
    let mut lab = lab(&unit, String::new());
    // The shell exits, and its background process stays.
    let leave = "exec 3<&0; \"$0\" -c \"$1\" <&3 &";
    let mut left = in_unit(&lab, &unit, "", &["sh", "-c", leave, PYTHON, RUNNER]);
    let said = tell(&mut left, "psql -XAtqc \"SELECT 1\"");
    assert!(said.contains(NOTHING), "{said}");
    assert!(left.wait(PATIENCE).unwrap().success());
    lab.take_agent().unwrap().kill().unwrap();
    lab.start_agent().unwrap();
    let said = tell(&mut left, "psql -XAtqc \"SELECT 1\"");
    assert!(said.contains(NOTHING), "{said}");
}

#[test]
fn a_rule_can_match_an_executable_or_a_user() {
    let dir = tempfile::tempdir().unwrap();
    let exe: PathBuf = dir.path().join("runner-of-this-test");
    fs::copy("/bin/sh", &exe).unwrap();
    // No account has this user id.
    let uid = 1_000_000 + process::id();
    let agent_config =
        format!("[[enrol]]\nname = \"by-exe\"\nexe = {exe:?}\n[[enrol]]\nname = \"by-uid\"\nuid = {uid}\n");
    let lab = Lab::start(&LabOptions { agent_config, ..LabOptions::default() }).unwrap();
    let select = "psql -XAtqc \"SELECT 'x'\"";
    let run = |program: &mut Command| {
        let done = finish(&mut lab.inside(program)).unwrap();
        done.stdout + &done.stderr
    };
    assert!(run(Command::new(&exe).args(["-c", &format!("{select}; true")])).contains(NOTHING));
    assert_eq!(run(Command::new("/bin/sh").args(["-c", select])), "x\n");
    let user = uid.to_string();
    let setpriv = ["--reuid", &user, "--regid", &user, "--clear-groups", "--", "/bin/sh", "-c", select];
    assert!(run(Command::new("setpriv").args(setpriv)).contains(NOTHING));
    let names: Vec<Value> = lab.audit(&["--kind", "job"]).unwrap();
    let names: Vec<&str> = names
        .iter()
        .filter(|row| text(row, "/state") == "enrolled")
        .map(|row| text(row, "/job/name"))
        .collect();
    assert_eq!(names, ["by-exe", "by-uid"]);
}

#[test]
fn a_running_tree_enrolled_by_rule_can_be_given_a_credential_from_outside() {
    let unit = unit();
    let lab = lab(&unit, String::new());
    let mut runner = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut runner, "psql -XAtqc \"SELECT 1\"").contains(NOTHING));
    let token = lab.token_file();
    let pid = runner.pid().to_string();
    let done = lab.ask(&["enroll", "--pid", &pid, "--token-file", token.to_str().unwrap()]).unwrap();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(tell(&mut runner, "psql -XAtqc \"SELECT 'identified'\""), "0 identified");
    let [job] = jobs(&lab).try_into().unwrap();
    assert_eq!(text(&job, "/state"), "valid");
}

#[test]
fn a_token_gives_a_revoked_job_no_new_access() {
    let unit = unit();
    let lab = lab(&unit, String::new());
    let mut runner = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut runner, "psql -XAtqc \"SELECT 1\"").contains(NOTHING));
    let [job] = jobs(&lab).try_into().unwrap();
    let revoked =
        lab.ask(&["revoke", "--job", text(&job, "/id"), "--reason", "the runner is seized"]).unwrap();
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    let run = format!("run --token-file {} -- true", lab.token_file().display());
    let said = tell(&mut runner, &lineal(&lab, &run));
    assert!(said.starts_with("125") && said.contains("the runner is seized"), "{said}");
}

#[test]
fn a_job_without_a_credential_that_the_revocation_file_ended_stays_ended() {
    let unit = unit();
    let mut lab = lab(&unit, String::new());
    let mut runner = in_unit(&lab, &unit, "", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut runner, "psql -XAtqc \"SELECT 1\"").contains(NOTHING));
    let [job] = jobs(&lab).try_into().unwrap();
    let file = lab.directory().join("revoked.toml");
    let entry =
        format!("[[revocation]]\njob = \"{}\"\nreason = \"the runner is seized\"\n", text(&job, "/id"));
    fs::write(&file, entry).unwrap();
    lab.take_agent().unwrap().stop().unwrap();
    lab.agent_options().more += &format!("[revocations]\nfile = {file:?}\n");
    lab.start_agent().unwrap();
    assert_eq!(text(&jobs(&lab)[0], "/state"), "revoked");
    lab.take_agent().unwrap().kill().unwrap();
    fs::write(&file, "").unwrap();
    lab.start_agent().unwrap();
    assert_eq!(text(&jobs(&lab)[0], "/state"), "revoked");
    assert!(tell(&mut runner, "psql -XAtqc \"SELECT 1\"").contains("the runner is seized"));
}

#[test]
fn a_rule_can_match_a_cgroup_by_its_path() {
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let root = cgroup::root().unwrap();
    let path = Path::new("/").join(lab.cgroup().path().strip_prefix(root).unwrap()).join("ci");
    lab.take_agent().unwrap().stop().unwrap();
    // The cgroup exists when the agent starts; one below it is made later.
    fs::create_dir(lab.cgroup().path().join("ci")).unwrap();
    lab.agent_options().more = format!("[[enrol]]\nname = \"by-path\"\ncgroup = {path:?}\n");
    lab.start_agent().unwrap();
    for below in ["", "later/still"] {
        let mut runner = in_unit(&lab, "ci", below, &[PYTHON, "-c", RUNNER]);
        assert!(tell(&mut runner, "psql -XAtqc \"SELECT 1\"").contains(NOTHING), "{below}");
    }
    // A cgroup of the same name at another path does not match.
    let mut elsewhere = in_unit(&lab, "other/ci", "", &["psql", "-XAtqc", "SELECT 'free'"]);
    assert_eq!(elsewhere.line(PATIENCE).unwrap(), "free");
    // A cgroup that was removed and made again matches again.
    fs::remove_dir(lab.cgroup().path().join("ci/later/still")).unwrap();
    let mut again = in_unit(&lab, "ci", "later/still", &[PYTHON, "-c", RUNNER]);
    assert!(tell(&mut again, "psql -XAtqc \"SELECT 1\"").contains(NOTHING));
}

#[test]
fn processes_that_hide_their_program_are_enrolled_by_rules_too() {
    let unit = unit();
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let config = lab.agent_options().config();
    lab.take_agent().unwrap().stop().unwrap();
    lines(&lab.ask(&["detach", "--config", config.to_str().unwrap()]).unwrap());
    // A process whose first thread has exited shows no program in /proc, while another thread runs on.
    let headless = format!(
        r#"
import ctypes, os, threading
# A zombie in the unit's cgroup, which must not be followed.
if os.fork() == 0:
    os._exit(0)
def run():
    exec("""{RUNNER}""")
threading.Thread(target=run).start()
ctypes.CDLL(None).syscall(60, 0)
"#
    );
    let mut headless = in_unit(&lab, &unit, "", &[PYTHON, "-c", &headless]);
    // A program whose file is replaced while it runs.
    let exe = lab.directory().join("runner-of-this-test");
    fs::copy("/bin/sh", &exe).unwrap();
    let mut replaced = Command::new(&exe);
    replaced.args(["-c", "while read -r line; do $line 2>&1 | tr '\\n' ' '; echo; done"]);
    let mut replaced = lab.converse("replaced", &lab.inside(&replaced)).unwrap();
    assert_eq!(tell(&mut headless, "psql -XAtqc \"SELECT 1\""), "0 1");
    assert_eq!(tell(&mut replaced, "echo before").trim(), "before");
    fs::remove_file(&exe).unwrap();
    fs::copy("/bin/sh", &exe).unwrap();
    lab.agent_options().more = format!(
        "[[enrol]]\nname = \"by-unit\"\nunit = \"{unit}\"\n[[enrol]]\nname = \"by-exe\"\nexe = {exe:?}\n"
    );
    lab.start_agent().unwrap();
    assert!(tell(&mut headless, "psql -XAtqc \"SELECT 1\"").contains(NOTHING));
    assert!(tell(&mut replaced, "psql -XAtql").contains(NOTHING));
    let mut names: Vec<String> = jobs(&lab).iter().map(|job| text(job, "/name").to_owned()).collect();
    names.sort();
    assert_eq!(names, ["by-exe", "by-unit"]);
    headless.hang_up();
}
