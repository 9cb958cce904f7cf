//! A new agent takes over what an earlier one followed, however that one ended.

use std::{fs, process::Command};

use lineal_tests::{
    Lab,
    command::{PATIENCE, finish},
    http, paths,
    script::PYTHON,
    server::Server,
    story::SUBJECT,
};
use serde_json::Value;

use crate::shared::{decisions_on, lines, own_lab, text};

/// Asks the shop for each word it is told, and answers with it or with why not; `spawn` has it start another such process,
/// which is told what follows `child`.
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

fn echo(lab: &Lab) -> Server {
    let job = lab.job("nightly", &[PYTHON, "-c", ECHO]).unwrap();
    lab.converse("echo", &job).unwrap()
}

fn say(job: &mut Server, word: &str) -> String {
    job.say(word).unwrap();
    job.line(PATIENCE).unwrap()
}

/// The one decision on a statement.
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
    // Forked and executed while there is no agent.
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
    // One record for each process, whoever wrote it.
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
fn what_ended_while_there_was_no_agent_is_on_record() {
    let mut lab = own_lab();
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    job.stop(rustix::process::Signal::KILL, PATIENCE).unwrap();
    lab.start_agent().unwrap();
    assert!(jobs(&lab).is_empty());
    let states = lab.audit(&["--kind", "job"]).unwrap();
    let states: Vec<&str> = states.iter().map(|row| text(row, "/state")).collect();
    assert_eq!(states, ["enrolled", "ended"]);
    assert_eq!(fs::read_dir(lab.directory().join("state/jobs")).unwrap().count(), 0);
}

#[test]
fn a_revocation_holds_over_a_restart() {
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
fn what_a_list_ended_stays_ended_when_the_list_and_the_agent_have_changed() {
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
fn processes_of_a_job_that_nothing_is_known_of_stay_shut_off() {
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
fn one_agent_follows_a_hosts_processes() {
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

#[test]
fn jobs_of_another_layout_stay_shut_off_until_they_end() {
    let mut lab = own_lab();
    let mut old = echo(&lab);
    assert_eq!(say(&mut old, "before"), "before");
    lab.take_agent().unwrap().kill().unwrap();
    // As an agent of another release would have left it.
    let pins = lab.agent_options().pins.clone();
    let [layout] = fs::read_dir(&pins)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let other = pins.join("v1");
    fs::rename(layout, &other).unwrap();
    // One that fails to start frees nobody.
    let too_many: Vec<String> = (1..=65).map(|last| format!("\"127.0.0.{last}:53\"")).collect();
    let kernel = std::mem::replace(
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
    lab.wait_until("they are counted", || {
        let metrics = http::get(&scrape, "/metrics")?;
        Ok(metrics.contains("lineal_kernel_orphans 1"))
    })
    .unwrap();
    old.stop(rustix::process::Signal::KILL, PATIENCE).unwrap();
    lab.wait_until("the old programs are gone", || Ok(!other.exists())).unwrap();
    assert_eq!(say(&mut new, "still"), "still");
}

/// The ports at which something listens, as a process in there sees them (proc_pid_net(5)).
const LISTENING: &str = r#"
def listening():
    rows = [line.split() for line in open("/proc/self/net/tcp")][1:]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}
"#;

#[test]
fn a_dead_agents_port_is_nobodys() {
    let mut lab = own_lab();
    // A network namespace of its own, in which the kernel hands out one port alone to those that name none.
    let script = format!(
        r#"
import socket, subprocess, sys
{LISTENING}
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
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write(f"{{port}} {{port}}")
thief = socket.socket()
thief.listen()
assert thief.getsockname()[1] == port
thief.setblocking(False)
# At once, while the dead agent's lease may still hold.
print(say("x").split()[0], flush=True)
try:
    thief.accept()
    print("stolen", flush=True)
except BlockingIOError:
    print("safe", flush=True)
"#
    );
    // Each connection is over before the answer: nothing of the agent's is left at its port when it is killed.
    let connect = r#"
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
    let job = lab.job("alone", &[PYTHON, "-c", connect]).unwrap();
    let mut outside = Command::new("unshare");
    outside.args(["-n", PYTHON, "-c", &script]);
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
fn the_glass_can_be_broken_and_that_is_on_record() {
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
    // And put together again.
    lab.start_agent().unwrap();
    assert!(jobs(&lab).is_empty());
    let mut job = echo(&lab);
    assert_eq!(say(&mut job, "again"), "again");
    decided(&lab, "again");
}

#[test]
fn what_cannot_be_recorded_is_detached_only_if_that_is_said() {
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
fn a_job_that_is_a_new_process_at_every_moment_is_adopted() {
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

/// What another program says of a pinned link: its own id, and its program's.
fn link(pins: &std::path::Path, name: &str) -> (u64, u64) {
    let [layout] = fs::read_dir(pins)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let mut show = Command::new("bpftool");
    show.args(["--json", "link", "show", "pinned"]).arg(layout.join(name));
    let shown: Value = serde_json::from_str(&finish(&mut show).unwrap().success().unwrap()).unwrap();
    (shown["id"].as_u64().unwrap(), shown["prog_id"].as_u64().unwrap())
}

#[test]
fn programs_are_exchanged_in_their_links_and_not_one_after_the_other() {
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
    // Tracing links can't be updated: the new one is attached before the old one goes.
    assert!(before[4].0 != after[4].0 && before[4].1 != after[4].1, "{before:?} {after:?}");
}
