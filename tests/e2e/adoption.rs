//! Adoption: a new agent takes over the jobs that an earlier agent followed, however that one ended.

use std::{
    fs, mem,
    path::{Path, PathBuf},
    process::Command,
};

use lineal_tests::{
    Lab,
    command::{PATIENCE, finish},
    http, paths,
    script::PYTHON,
    server::Server,
    story::SUBJECT,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::shared::{decisions_on, lines, own_lab, text};

/// For each word it is told, connects to the shop, selects the word and prints it, or why it was refused.
/// `spawn` starts another such process, and `child WORD` passes the word on to that one.
const ECHO: &str = r#"
import psycopg, subprocess, sys
def ask(word):
    try:
        with psycopg.connect(connect_timeout=20) as connection:
            return connection.execute("SELECT '%s'" % word).fetchone()[0]
    except psycopg.Error as error:
        return "refused " + str(error).replace("\n", " ")
for line in sys.stdin:
    word = line.strip()
    if word == "spawn":
        program = open("/proc/self/cmdline").read().split("\0")[:-1]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print("spawned", flush=True)
    elif word.startswith("child "):
        print(word[6:], file=child.stdin, flush=True)
        print(child.stdout.readline(), end="", flush=True)
    else:
        print(ask(word), flush=True)
"#;

/// Starts [`ECHO`] as a job.
fn echo(lab: &Lab) -> Server {
    let job = lab.job("nightly", &[PYTHON, "-c", ECHO]).unwrap();
    lab.converse("echo", &job).unwrap()
}

fn say(job: &mut Server, word: &str) -> String {
    job.say(word).unwrap();
    job.line(PATIENCE).unwrap()
}

/// The one recorded decision on `SELECT 'word'`.
fn decided(lab: &Lab, word: &str) -> Value {
    let rows = decisions_on(lab, &format!("SELECT '{word}'"));
    let [row] = rows.as_slice() else { panic!("{word}: {rows:?}") };
    row.clone()
}

fn jobs(lab: &Lab) -> Vec<Value> {
    lab.ask(&["jobs", "--json"]).unwrap().json().unwrap()
}

#[test]
fn a_new_agent_adopts_jobs_with_credential_and_ancestry() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    assert!(say(&mut job, "while").starts_with("refused"));
    // A process that is forked and executes while there is no agent.
    assert_eq!(say(&mut job, "spawn"), "spawned");
    assert!(say(&mut job, "child orphan").starts_with("refused"));
    lab.start_agent().unwrap();
    assert_eq!(say(&mut job, "after"), "after");
    assert_eq!(say(&mut job, "child late"), "late");

    let [listed] = jobs(&lab).try_into().unwrap();
    let (before, after, late) = (decided(&lab, "before"), decided(&lab, "after"), decided(&lab, "late"));
    assert_eq!(text(&listed, "/state"), "valid");
    assert_eq!(text(&listed, "/credential/subject"), SUBJECT);
    assert_eq!(listed["processes"], 2);
    for row in [&after, &late] {
        assert_eq!(row["job"], before["job"]);
        assert_eq!(row["credential"], before["credential"]);
    }
    assert_eq!(after["process"], before["process"]);
    let ancestry = late["process"]["ancestry"].as_array().unwrap();
    assert_eq!(ancestry[..1], before["process"]["ancestry"].as_array().unwrap()[..]);
    assert_eq!(ancestry.len(), 2, "{late}");
    assert_eq!(text(&late, "/process/cwd"), text(&before, "/process/cwd"));
    // The two agents together wrote one record for each process.
    let processes = lab.audit(&["--kind", "process"]).unwrap();
    let mut ids: Vec<u64> = processes.iter().filter_map(|row| row["process"].as_u64()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "{processes:?}");
    let states: Vec<Value> = lab.audit(&["--kind", "job"]).unwrap();
    let states: Vec<&str> = states.iter().map(|row| text(row, "/state")).collect();
    assert_eq!(states, ["enrolled", "adopted"]);

    let revoked = lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap();
    lines(&revoked);
    assert!(say(&mut job, "revoked").contains("access was revoked: offboarded"));
    let verified = lab.ask(&["audit", "verify", "--dir", lab.trail().to_str().unwrap()]).unwrap();
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn a_job_that_ended_while_no_agent_ran_is_recorded_as_ended() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    job.stop(Signal::KILL, PATIENCE).unwrap();
    lab.start_agent().unwrap();
    assert!(jobs(&lab).is_empty());
    let states = lab.audit(&["--kind", "job"]).unwrap();
    let states: Vec<&str> = states.iter().map(|row| text(row, "/state")).collect();
    assert_eq!(states, ["enrolled", "ended"]);
    assert_eq!(fs::read_dir(lab.directory().join("state/jobs")).unwrap().count(), 0);
}

#[test]
fn a_revocation_survives_an_agent_restart() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    let id = text(&jobs(&lab)[0], "/id").to_owned();
    lines(&lab.ask(&["revoke", "--job", &id, "--reason", "misused"]).unwrap());
    lab.take_agent().unwrap().kill().unwrap();
    lab.start_agent().unwrap();
    assert!(say(&mut job, "after").contains("access was revoked: misused"));
    assert_eq!(text(&jobs(&lab)[0], "/state"), "revoked");
}

#[test]
fn access_ended_by_the_revocation_file_stays_ended_without_the_entry_and_after_a_restart() {
    let mut lab = own_lab();
    let file = lab.directory().join("revoked.toml");
    fs::write(&file, format!("[[revocation]]\nsubject = {SUBJECT:?}\nreason = \"left the company\"\n"))
        .unwrap();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().stop().unwrap();
    lab.agent_options().more = format!("[revocations]\nfile = {file:?}\n");
    lab.start_agent().unwrap();
    assert!(say(&mut job, "listed").contains("left the company"));
    lab.take_agent().unwrap().kill().unwrap();
    fs::write(&file, "").unwrap();
    lab.start_agent().unwrap();
    assert!(say(&mut job, "forgotten").contains("left the company"));
    assert_eq!(lab.run("new", &["true"]).unwrap().code, Some(0));
}

#[test]
fn processes_of_a_job_whose_saved_state_is_unreadable_stay_refused() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    for kept in fs::read_dir(lab.directory().join("state/jobs")).unwrap() {
        fs::write(kept.unwrap().path(), "{").unwrap();
    }
    lab.start_agent().unwrap();
    assert!(say(&mut job, "after").starts_with("refused"));
}

#[test]
fn a_second_agent_on_the_same_host_does_not_start() {
    let mut lab = own_lab();
    let config = lab.agent_options().config();
    let mut second = Command::new(paths::lineal().unwrap());
    second.args(["agent", "--config"]).arg(config);
    let second = finish(&mut lab.inside(&second)).unwrap();
    assert_eq!(second.code, Some(125), "{second:?}");
    assert!(second.stderr.contains("another agent"), "{second:?}");
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "undisturbed"), "undisturbed");
}

/// The one directory of pins that an agent keeps; it is named after the layout of the maps in it.
fn pinned_layout(pins: &Path) -> PathBuf {
    let entries = fs::read_dir(pins).unwrap().map(|entry| entry.unwrap().path());
    let [layout] = entries.collect::<Vec<_>>().try_into().unwrap();
    layout
}

#[test]
fn jobs_left_by_another_release_stay_refused_until_they_end() {
    let mut lab = own_lab();
    let mut old = echo(&lab);
    assert_eq!(say(&mut old, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    // Pins under another layout's name are what an agent of another release would have left.
    let pins = lab.agent_options().pins.clone();
    let other = pins.join("v1");
    fs::rename(pinned_layout(&pins), &other).unwrap();
    // An agent that fails to start releases no process.
    let too_many: Vec<String> = (1..=65).map(|last| format!("\"127.0.0.{last}:53\"")).collect();
    let kernel = mem::replace(
        &mut lab.agent_options().kernel,
        format!("resolvers = [{}]", too_many.join(", ")).leak(),
    );
    let failed = lab.start_agent_unready().unwrap().wait(PATIENCE).unwrap();
    assert!(!failed.success(), "{failed}");
    assert!(say(&mut old, "unfollowed").starts_with("refused"));
    lab.agent_options().kernel = kernel;
    lab.start_agent().unwrap();
    let mut new = echo(&lab);
    for _ in 0..3 {
        assert!(say(&mut old, "after").starts_with("refused"));
        assert_eq!(say(&mut new, "new"), "new");
    }
    let scrape = lab.agent().unwrap().metrics().to_owned();
    lab.wait_until("the old job's process is counted", || {
        let metrics = http::get(&scrape, "/metrics")?;
        Ok(metrics.contains("lineal_kernel_orphans 1"))
    })
    .unwrap();
    old.stop(Signal::KILL, PATIENCE).unwrap();
    lab.wait_until("the old programs are gone", || Ok(!other.exists())).unwrap();
    assert_eq!(say(&mut new, "still"), "still");
}

/// Starts its arguments as a job in this network namespace, has it connect once, and waits for the agent's
/// death. Then tries to take the dead agent's port: by a bind to each address, and by a listener that names
/// no port where the kernel has no other port to give (`ip_local_port_range`). Prints how each went, then how
/// the job's next connect went and whether the listener got it.
const THIEF: &str = r#"
import socket, subprocess, sys
# proc_pid_net(5): state 0A is LISTEN.
def listening():
    rows = [line.split() for line in open("/proc/self/net/tcp")][1:]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
job = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
def say(word):
    print(word, file=job.stdin, flush=True)
    return job.stdout.readline()
say("x")
[port] = listening()
print(port, flush=True)
sys.stdin.readline()
assert port not in listening(), "the agent still listens"
for address in ["127.0.0.1", "0.0.0.0"]:
    try:
        socket.socket().bind((address, port))
        print("bound", address, flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
try:
    socket.socket(socket.AF_INET6).bind(("::", port))
    print("bound ::", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write(f"{port} {port}")
thief = socket.socket()
thief.listen()
assert thief.getsockname()[1] == port
thief.setblocking(False)
# At once, while the dead agent's lease may not have expired yet.
print(say("x").split()[0], flush=True)
try:
    thief.accept()
    print("stolen", flush=True)
except BlockingIOError:
    print("safe", flush=True)
"#;

/// For each line it is told, connects to a port that no policy declares, and waits for the agent to close the
/// connection: when the agent is killed, no connection at its port is left.
const CONNECT_AND_WAIT: &str = r#"
import socket, sys
for line in sys.stdin:
    with socket.socket() as stream:
        try:
            stream.connect(("127.0.0.1", 9))
        except OSError as error:
            print(error.errno, flush=True)
            continue
        try:
            stream.recv(1)
        except ConnectionResetError:
            pass
    print("connected", flush=True)
"#;

#[test]
fn the_port_of_a_dead_agent_cannot_be_taken_over() {
    let mut lab = own_lab();
    let job = lab.job("alone", &[PYTHON, "-c", CONNECT_AND_WAIT]).unwrap();
    let mut outside = Command::new("unshare");
    outside.args(["-n", PYTHON, "-c", THIEF]);
    outside.args([job.get_program()]).args(job.get_args());
    outside.envs(job.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut outside = lab.converse("outside", &lab.inside(&outside)).unwrap();
    outside.line(PATIENCE).unwrap();
    lab.take_agent().unwrap().kill().unwrap();
    outside.say("").unwrap();
    let said: Vec<String> = (0..5).map(|_| outside.line(PATIENCE).unwrap()).collect();
    assert_eq!(said[..3], ["Address already in use"; 3], "{said:?}");
    assert_eq!(said[3..], ["111", "safe"]);
}

#[test]
fn detach_releases_every_followed_process_and_is_recorded() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    let config = lab.agent_options().config();
    let detach = ["detach", "--config", config.to_str().unwrap(), "--reason", "the build must go on"];
    let early = lab.ask(&detach).unwrap();
    assert!(early.code == Some(125) && early.stderr.contains("stop the agent first"), "{early:?}");
    lab.take_agent().unwrap().kill().unwrap();
    assert!(say(&mut job, "while").starts_with("refused"));
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    nobody.arg(paths::lineal().unwrap()).args(detach);
    let refused = finish(&mut lab.inside(&nobody)).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("only root"), "{refused:?}");
    assert!(say(&mut job, "while").starts_with("refused"));
    assert_eq!(lines(&lab.ask(&detach).unwrap()), ["detached: 1 processes are no longer followed"]);
    assert_eq!(say(&mut job, "free"), "free");
    assert!(decisions_on(&lab, "SELECT 'free'").is_empty());
    let agent = lab.audit(&["--kind", "agent"]).unwrap();
    let last = agent.last().unwrap();
    assert_eq!((text(last, "/state"), text(last, "/reason")), ("detach", "the build must go on"));
    let states = lab.audit(&["--kind", "job"]).unwrap();
    assert_eq!(text(states.last().unwrap(), "/state"), "ended");
    assert!(!lab.agent_options().pins.exists());
    // A new agent follows new jobs again.
    lab.start_agent().unwrap();
    assert!(jobs(&lab).is_empty());
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "again"), "again");
    decided(&lab, "again");
}

#[test]
fn a_detach_that_cannot_be_recorded_needs_the_unrecorded_option() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    let config = lab.agent_options().config();
    fs::remove_dir_all(lab.trail()).unwrap();
    fs::write(lab.trail(), "in the way").unwrap();
    let detach = ["detach", "--config", config.to_str().unwrap()];
    let refused = lab.ask(&detach).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("nothing was detached"), "{refused:?}");
    assert!(say(&mut job, "while").starts_with("refused"));
    let done = lab.ask(&["detach", "--unrecorded", "--config", config.to_str().unwrap()]).unwrap();
    assert!(done.code == Some(0) && done.stderr.contains("not on record"), "{done:?}");
    assert_eq!(say(&mut job, "free"), "free");
}

#[test]
fn a_job_that_forks_and_exits_without_pause_is_adopted() {
    let mut lab = own_lab();
    let chain = env!("CARGO_BIN_EXE_chain");
    let mut job = lab.converse("chain", &lab.job("chain", &[chain, "120"]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "running");
    let [before] = jobs(&lab).try_into().unwrap();
    for _ in 0..5 {
        lab.take_agent().unwrap().kill().unwrap();
        lab.start_agent().unwrap();
        let [after] = jobs(&lab).try_into().unwrap();
        assert_eq!((&after["id"], text(&after, "/state")), (&before["id"], "valid"));
    }
    let id = text(&before, "/id");
    lines(&lab.ask(&["revoke", "--job", id, "--kill"]).unwrap());
    job.silence(PATIENCE).unwrap();
}

/// The ids of a pinned link and of its program, as bpftool reports them.
fn link(pins: &Path, name: &str) -> (u64, u64) {
    let mut show = Command::new("bpftool");
    show.args(["--json", "link", "show", "pinned"]).arg(pinned_layout(pins).join(name));
    let shown: Value = serde_json::from_str(&finish(&mut show).unwrap().success().unwrap()).unwrap();
    (shown["id"].as_u64().unwrap(), shown["prog_id"].as_u64().unwrap())
}

#[test]
fn a_new_agent_updates_cgroup_links_in_place_and_replaces_tracing_links() {
    let mut lab = own_lab();
    let pins = lab.agent_options().pins.clone();
    let all = || {
        let names =
            ["lineal_connect4", "lineal_connect6", "lineal_sock_create", "lineal_publish", "lineal_fork"];
        names.map(|name| link(&pins, name))
    };
    let before = all();
    lab.take_agent().unwrap().stop().unwrap();
    lab.start_agent().unwrap();
    let after = all();
    for (before, after) in before.iter().zip(&after).take(4) {
        assert!(before.0 == after.0 && before.1 != after.1, "{before:?} {after:?}");
    }
    // The kernel cannot update a tracing link: the new agent attaches another one, and then removes the old
    // one.
    assert!(before[4].0 != after[4].0 && before[4].1 != after[4].1, "{before:?} {after:?}");
}
