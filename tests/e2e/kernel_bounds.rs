//! Each bound of the kernel side is reached: what is over it is refused and counted, and other jobs are
//! unaffected.

use std::{
    fs,
    process::{self, Command},
};

use agent_abi::{EVENTS_BYTES, Event};
use lineal_tests::{
    Lab, LabOptions,
    command::{PATIENCE, finish},
    script::PYTHON,
    server::Server,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::shared::{counted, decisions_on, lines, text};

/// A lab with other bounds on its kernel side: `bounds` ends the `[kernel]` table of the lab's configuration.
fn lab(bounds: &'static str, more: &str) -> Lab {
    Lab::start(&LabOptions { kernel: bounds, agent_config: more.to_owned(), ..LabOptions::default() })
        .unwrap()
}

/// A lab like that, with an enrolment rule `runner` that matches the unit.
fn lab_with_rule(bounds: &'static str, unit: &str) -> Lab {
    lab(bounds, &format!("[[enrol]]\nname = \"runner\"\nunit = \"{unit}\"\n"))
}

/// Connects for each line it is told, and prints what a query returned.
const CONNECT: &str = r#"
import psycopg, sys
for line in sys.stdin:
    print(psycopg.connect().execute('SELECT 1').fetchone()[0], flush=True)
"#;

/// Forks so many children, which wait for the end of a pipe, and says `grown`. Ends when it is told a line.
const GROW: &str = r#"
import os, sys
held, holding = os.pipe()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(holding)
        os.read(held, 1)
        os._exit(0)
print('grown', flush=True)
sys.stdin.readline()
"#;

/// How often a bound was reached.
fn reached(lab: &mut Lab, bound: &str) -> u64 {
    counted(lab, &format!("lineal_kernel_bounds_total{{bound=\"{bound}\"}}"))
}

#[test]
fn a_fork_storm_stops_at_the_process_bound_and_leaves_other_jobs_working() {
    let mut lab = lab("processes_max = 64", "");
    let other = r#"
import psycopg, sys
print('ready', flush=True)
sys.stdin.readline()
print(psycopg.connect().execute('SELECT 1').fetchone()[0], flush=True)
"#;
    let mut other = lab.converse("other", &lab.job("other", &[PYTHON, "-c", other]).unwrap()).unwrap();
    assert_eq!(other.line(PATIENCE).unwrap(), "ready");
    // The children stay alive until the pipe ends, so that they reach the bound.
    let storm = r#"
import os
held, holding = os.pipe()
for _ in range(200):
    if os.fork() == 0:
        os.close(holding)
        os.read(held, 1)
        os._exit(0)
print('all')
"#;
    let done = lab.run("storm", &[PYTHON, "-c", storm]).unwrap();
    assert_ne!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout, "");
    assert!(reached(&mut lab, "tasks") >= 1);
    other.say("").unwrap();
    assert_eq!(other.line(PATIENCE).unwrap(), "1");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn no_job_starts_when_the_process_bound_is_reached() {
    let mut lab = lab("processes_max = 64", "");
    // The children wait for the pipe's end, and exit with 0 unless they were woken early.
    let grow = r#"
import os, sys
held, holding = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(holding)
        os._exit(len(os.read(held, 1)))
print("grown", flush=True)
sys.stdin.readline()
os.close(holding)
print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"#;
    let token = lab.token_file();
    let token = token.to_str().unwrap();
    // A tree that has one process too many is not enrolled, and runs on.
    let mut outside = Command::new(PYTHON);
    outside.args(["-c", grow, "64"]);
    let mut outside = lab.converse("outside", &lab.inside(&outside)).unwrap();
    assert_eq!(outside.line(PATIENCE).unwrap(), "grown");
    let pid = outside.pid().to_string();
    let refused = lab.ask(&["enroll", "--pid", &pid, "--token-file", token]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("kernel.processes_max"), "{refused:?}");
    assert_eq!(lab.agent().unwrap().status().unwrap()["processes"], 0);
    outside.say("").unwrap();
    assert_eq!(outside.line(PATIENCE).unwrap(), "0");

    let mut full = lab.converse("full", &lab.job("full", &[PYTHON, "-c", grow, "63"]).unwrap()).unwrap();
    assert_eq!(full.line(PATIENCE).unwrap(), "grown");
    let refused = lab.run("beyond", &["true"]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("kernel.processes_max"), "{refused:?}");
    assert_eq!(counted(&mut lab, "lineal_bounds_total{bound=\"processes\"}"), 2);
    full.say("").unwrap();
    assert_eq!(full.line(PATIENCE).unwrap(), "0");
    assert!(full.wait(PATIENCE).unwrap().success());
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == 0).unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

/// A chain of so many links: with `exec` one process that executes itself again and again, with `fork`
/// processes each of which forks the next and exits. The last link says `there`, and connects when it is told
/// to.
const CHAIN: &str = r#"
import os, sys
kind, left = sys.argv[1], int(sys.argv[2])
if kind == "exec" and left:
    script = open("/proc/self/cmdline").read().split("\0")[-4]
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", script, kind, str(left - 1)])
while kind == "fork" and left:
    left -= 1
    if os.fork():
        os._exit(0)
print("there", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    os.execvp("psql", ["psql", "-XAtqc", "SELECT 'beyond'"])
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"#;

/// Starts a chain, and does not wait for its last link.
fn start_chain(lab: &Lab, kind: &str, links: u32) -> Server {
    let links = links.to_string();
    let job = lab.job("chain", &[PYTHON, "-I", "-S", "-c", CHAIN, kind, &links]).unwrap();
    lab.converse("chain", &job).unwrap()
}

/// Waits for a chain's last link.
fn there(chain: &mut Server) {
    assert_eq!(chain.line(PATIENCE).unwrap(), "there");
}

/// Starts a chain and waits for its last link.
fn chain(lab: &Lab, kind: &str, links: u32) -> Server {
    let mut chain = start_chain(lab, kind, links);
    there(&mut chain);
    chain
}

/// Has a chain's last link connect: the exit status of its psql.
fn connects(chain: &mut Server) -> String {
    chain.say("").unwrap();
    chain.line(PATIENCE).unwrap()
}

/// With a bound of 64 processes there is room for 128 images and 512 nodes of lineage; a job's share is a
/// quarter of each.
#[test]
fn a_job_over_its_share_loses_its_connections_and_others_are_unaffected() {
    let mut lab = lab("processes_max = 64", "");
    let mut other = lab.converse("other", &lab.job("other", &[PYTHON, "-c", CONNECT]).unwrap()).unwrap();
    for (kind, links, share) in [("exec", 80, 1), ("fork", 300, 2)] {
        let mut chain = chain(&lab, kind, links);
        assert_eq!(connects(&mut chain), "2", "{kind}");
        assert!(reached(&mut lab, "share") >= share);
        assert_eq!(reached(&mut lab, "nodes"), 0, "{kind}");
        // A job that runs already continues, and a new one is let in.
        other.say("").unwrap();
        assert_eq!(other.line(PATIENCE).unwrap(), "1");
        assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    }
    assert!(decisions_on(&lab, "beyond").is_empty());
    assert_eq!(counted(&mut lab, "lineal_connections_closed_total{reason=\"unattributable\"}"), 2);
    // The entries that the chains took are given back.
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == 1).unwrap();
    lab.wait_until("there is room again", || Ok(lab.run("new", &[PYTHON, "-c", "pass"])?.code == Some(0)))
        .unwrap();
}

#[test]
fn a_process_that_forks_or_executes_when_the_lineage_maps_are_full_is_refused() {
    for (kind, links) in [("exec", 40), ("fork", 140)] {
        let mut lab = lab("processes_max = 64", "");
        let mut last = chain(&lab, kind, 0);
        // All at once: what ended processes leave in the maps is kept for some seconds.
        let mut full = [(); 4].map(|()| start_chain(&lab, kind, links));
        full.iter_mut().for_each(there);
        assert_eq!(connects(&mut last), "2", "{kind}");
        assert!(reached(&mut lab, "nodes") >= 1, "{kind}");
        assert!(decisions_on(&lab, "beyond").is_empty());
        drop(full);
    }
}

#[test]
fn a_process_that_could_not_be_attributed_once_stays_refused() {
    let mut lab = lab("processes_max = 64", "");
    // The job executes more images than there is room for, so the last one has no place in the lineage. When
    // the maps have room again, it executes once more, and its child must still not be taken for a root.
    let chain = r#"
import os, subprocess, sys
left = int(sys.argv[1])
program = [sys.executable, "-I", "-S", "-c", open("/proc/self/cmdline").read().split("\0")[-3]]
if left > 0:
    os.execv(sys.executable, program + [str(left - 1)])
if left == 0:
    print("beyond", flush=True)
    sys.stdin.readline()
    os.execv(sys.executable, program + ["-1"])
# A child of a process whose image is known again, and whose place in the lineage is not.
psql = ["psql", "-XAtqc", "SELECT 'a root?'"]
print(subprocess.run(psql, stderr=subprocess.DEVNULL).returncode, flush=True)
"#;
    let job = lab.job("chain", &[PYTHON, "-I", "-S", "-c", chain, "80"]).unwrap();
    let mut job = lab.converse("chain", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "beyond");
    // The maps are cleared some seconds later.
    lab.agent().unwrap().wait_for_status(|status| status["places"] == 0).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "2");
    job.wait(PATIENCE).unwrap();
    assert!(decisions_on(&lab, "a root?").is_empty());
    lab.agent().unwrap().wait_for_status(|status| status["jobs"] == 0 && status["places"] == 0).unwrap();
}

#[test]
fn connections_waiting_for_a_stopped_agent_are_bounded() {
    let mut lab = lab("flows_max = 8", "");
    // Client → lineal: twenty connections begun while the agent is stopped, then an SSLRequest over each.
    // Back: S (go on with TLS) on the eight that the kernel side had room for, the end on all others.
    let script = r#"
import os, socket, sys
held = []
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    raw = socket.socket()
    raw.setblocking(False)
    raw.connect_ex(("127.0.0.1", int(os.environ["PGPORT"])))
    held.append(raw)
print("begun", flush=True)
sys.stdin.readline()
def greeted(raw):
    raw.settimeout(60)
    try:
        raw.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        return raw.recv(1) == b"S"
    except OSError:
        return False
print(sum(greeted(raw) for raw in held), flush=True)
"#;
    let mut job = lab.converse("many", &lab.job("many", &[PYTHON, "-c", script]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "ready");
    lab.agent().unwrap().signal(Signal::STOP).unwrap();
    job.say("").unwrap();
    let begun = job.line(PATIENCE);
    lab.agent().unwrap().signal(Signal::CONT).unwrap();
    assert_eq!(begun.unwrap(), "begun");
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "8");
    assert_eq!(reached(&mut lab, "flows"), 12);
    assert_eq!(counted(&mut lab, "lineal_connections_closed_total{reason=\"not_redirected\"}"), 12);
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn attribution_survives_events_lost_to_a_full_ring() {
    let mut lab = lab("processes_max = 65536", "");
    // Each of these processes makes at least one event, which takes its own size and a header of 8 bytes in
    // the ring.
    let processes = EVENTS_BYTES as usize / (size_of::<Event>() + 8);
    let script = r#"
echo ready; read go
left=$1; while [ $left -gt 0 ]; do (:); left=$((left - 1)); done
echo forked; read go
(psql -XAtqc "SELECT 'unheard of'")
echo done
"#;
    let job = lab.job("busy", &["sh", "-c", script, "sh", &processes.to_string()]).unwrap();
    let mut job = lab.converse("busy", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "ready");
    lab.agent().unwrap().signal(Signal::STOP).unwrap();
    job.say("").unwrap();
    let forked = job.line(4 * PATIENCE);
    lab.agent().unwrap().signal(Signal::CONT).unwrap();
    assert_eq!(forked.unwrap(), "forked");
    assert!(reached(&mut lab, "events") >= 1);
    // The agent's lease expired while it was stopped.
    lab.wait_until("the agent serves again", || Ok(lab.psql(&["SELECT 1"])?.code == Some(0))).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "unheard of");
    assert_eq!(job.line(PATIENCE).unwrap(), "done");
    let [row] = decisions_on(&lab, "unheard of").try_into().unwrap();
    assert_eq!(row["process"]["ancestry"].as_array().map(Vec::len), Some(2), "{row}");
    lab.wait_until("the gap is on record", || {
        Ok(lab.audit(&["--kind", "agent"])?.iter().any(|row| text(row, "/state") == "gap"))
    })
    .unwrap();
}

#[test]
fn a_network_namespace_over_the_bound_is_refused() {
    let mut lab = lab("namespaces_max = 1", "");
    let mut waiting =
        lab.converse("first", &lab.job("first", &["sh", "-c", "echo up; read x"]).unwrap()).unwrap();
    assert_eq!(waiting.line(PATIENCE).unwrap(), "up");
    let job = lab.job("second", &["true"]).unwrap();
    let mut apart = Command::new("unshare");
    apart.arg("-n").arg(job.get_program()).args(job.get_args());
    apart.envs(job.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let refused = finish(&mut lab.inside(&apart)).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("kernel.namespaces_max"), "{refused:?}");
    assert_eq!(counted(&mut lab, "lineal_bounds_total{bound=\"namespaces\"}"), 1);
    // The first namespace is still served.
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn jobs_of_enrolment_rules_over_their_bound_are_followed_and_granted_nothing() {
    let unit = format!("lineal-test-bound-{}.service", process::id());
    // With a bound of 8 processes there is room for two jobs without a credential, and for eight cgroups.
    let mut lab = lab_with_rule("processes_max = 8", &unit);
    let cgroup = lab.cgroup().path().join(&unit);
    fs::create_dir(&cgroup).unwrap();
    let start = |below: &str| {
        let cgroup = cgroup.join(below);
        fs::create_dir_all(&cgroup).unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo $$ > $0/cgroup.procs && exec sh -c 'read x; exec psql -XAtqc \"SELECT 1\"'"]);
        lab.converse("runner", &lab.inside(shell.arg(cgroup))).unwrap()
    };
    let mut jobs: Vec<_> = (0..3).map(|_| start("")).collect();
    lab.wait_until("the agent knows two jobs", || {
        let known: Vec<Value> = lab.ask(&["jobs", "--json"])?.json()?;
        Ok(known.len() == 2)
    })
    .unwrap();
    for job in &mut jobs {
        job.say("").unwrap();
        assert!(!job.wait(PATIENCE).unwrap().success());
    }
    for index in 0..9 {
        fs::create_dir(cgroup.join(index.to_string())).unwrap();
    }
    assert_eq!(reached(&mut lab, "unidentified"), 1);
    assert_eq!(reached(&mut lab, "cgroups"), 2);
}

#[test]
fn a_process_that_a_rule_matches_is_killed_when_the_process_bound_is_reached() {
    let unit = format!("lineal-test-full-{}.service", process::id());
    let mut lab = lab_with_rule("processes_max = 8", &unit);
    let mut full = lab.converse("full", &lab.job("full", &[PYTHON, "-c", GROW, "7"]).unwrap()).unwrap();
    assert_eq!(full.line(PATIENCE).unwrap(), "grown");
    let cgroup = lab.cgroup().path().join(&unit);
    fs::create_dir(&cgroup).unwrap();
    let start = || {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo $$ > $0/cgroup.procs && exec true"]).arg(&cgroup);
        finish(&mut lab.inside(&shell)).unwrap()
    };
    // No exit code: a signal ended it.
    assert_eq!(start().code, None);
    full.say("").unwrap();
    assert!(full.wait(PATIENCE).unwrap().success());
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == 0).unwrap();
    assert!(reached(&mut lab, "tasks") >= 1);
}

#[test]
fn an_agent_that_finds_more_matching_cgroups_than_its_bound_does_not_start() {
    let unit = format!("lineal-test-many-{}.service", process::id());
    let mut lab = lab_with_rule("processes_max = 8", &unit);
    lab.take_agent().unwrap().stop().unwrap();
    for index in 0..9 {
        fs::create_dir_all(lab.cgroup().path().join(&unit).join(index.to_string())).unwrap();
    }
    let mut starting = lab.start_agent_unready().unwrap();
    assert_eq!(starting.wait(PATIENCE).unwrap().code(), Some(125));
    assert!(starting.log().contains("CGROUPS"), "{}", starting.log());
}

#[test]
fn an_agent_that_cannot_follow_every_process_a_rule_matches_does_not_start() {
    let unit = format!("lineal-test-crowd-{}.service", process::id());
    let mut lab = lab("processes_max = 8", "");
    lab.take_agent().unwrap().stop().unwrap();
    let cgroup = lab.cgroup().path().join(&unit);
    fs::create_dir(&cgroup).unwrap();
    let crowd = "echo $$ > $0/cgroup.procs; exec 3<&0; \
                 for i in 1 2 3 4 5 6 7 8 9; do (read x) <&3 & done; echo up; wait";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", crowd]).arg(&cgroup);
    let mut crowd = lab.converse("crowd", &lab.inside(&shell)).unwrap();
    assert_eq!(crowd.line(PATIENCE).unwrap(), "up");
    lab.agent_options().more = format!("[[enrol]]\nname = \"runner\"\nunit = \"{unit}\"\n");
    let mut starting = lab.start_agent_unready().unwrap();
    let ended = starting.wait(PATIENCE);
    assert_eq!(ended.ok().and_then(|status| status.code()), Some(125), "{}", starting.log());
    assert!(starting.log().contains("which rule runner matches"), "{}", starting.log());
    crowd.hang_up();
}

#[test]
fn more_resolvers_than_the_bound_are_refused_at_startup() {
    let mut lab = lab("resolvers = []", "");
    lab.take_agent().unwrap().stop().unwrap();
    let many: Vec<String> = (1..=65).map(|host| format!("\"192.0.2.{host}:53\"")).collect();
    let config = fs::read_to_string(lab.agent_options().config()).unwrap();
    let changed = lab.directory().join("many.toml");
    fs::write(&changed, config.replace("resolvers = []", &format!("resolvers = [{}]", many.join(", "))))
        .unwrap();
    let refused = lab.ask(&["agent", "--config", changed.to_str().unwrap()]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("RESOLVERS"), "{refused:?}");
}

#[test]
fn bounds_of_pinned_maps_stay_when_a_new_agent_takes_over() {
    let mut lab = lab("processes_max = 64", "");
    lab.take_agent().unwrap().stop().unwrap();
    lab.agent_options().kernel = "processes_max = 128";
    lab.start_agent().unwrap();
    assert!(lab.agent().unwrap().log().contains("the maps in use keep their size"));
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn an_agent_with_room_for_only_part_of_a_matched_tree_does_not_start() {
    let mut lab = lab("processes_max = 8", "");
    let mut job = lab.converse("job", &lab.job("job", &[PYTHON, "-c", GROW, "4"]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "grown");
    lab.take_agent().unwrap().stop().unwrap();
    // The rule matches the tree's first process alone; there is room for that one and two of its five
    // children.
    let lead = lab.directory().join("lead-of-this-test");
    fs::copy("/bin/sh", &lead).unwrap();
    let mut tree = Command::new(&lead);
    tree.args(["-c", "exec 3<&0; for i in 1 2 3 4 5; do sh -c 'read x' <&3 & done; echo up; wait"]);
    let mut tree = lab.converse("tree", &lab.inside(&tree)).unwrap();
    assert_eq!(tree.line(PATIENCE).unwrap(), "up");
    lab.agent_options().more += &format!("[[enrol]]\nname = \"lead\"\nexe = {lead:?}\n");
    let mut starting = lab.start_agent_unready().unwrap();
    let ended = starting.wait(PATIENCE);
    assert_eq!(ended.ok().and_then(|status| status.code()), Some(125), "{}", starting.log());
    assert!(starting.log().contains("which rule lead matches"), "{}", starting.log());
    tree.hang_up();
    job.say("").unwrap();
}
