//! The agent is killed again and again under load, at random moments, also during its own start. Meanwhile no
//! packet goes past the redirect, the server runs no statement that the trail lacks, the trail's chain stays
//! unbroken, and each new agent adopts the live jobs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out functions that tests share"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lineal_tests::{
    Lab, LabOptions,
    command::{PATIENCE, finish},
    postgres::USER,
    script::PYTHON,
    server::Server,
};
use rustix::process::Signal;
use serde_json::Value;

/// How often the agent is killed: in every run, and with `LINEAL_TEST_FULL`.
const KILLS: [u64; 2] = [10, 200];
/// The names of the jobs that load it.
const JOBS: [&str; 3] = ["first", "second", "third"];
/// How long an agent that is ready lives at most before it is killed.
const LIFE_MS: u64 = 150;
/// How long an agent that starts lives at most before it is killed.
const START_MS: u64 = 500;

/// A pseudo-random generator whose numbers a seed determines (Vigna's SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The seed that `LINEAL_TEST_SEED` gives, or the time.
fn seed() -> u64 {
    let given = env::var("LINEAL_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64)
}

/// The path of a script beside this file.
fn script(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crash").join(name).to_str().unwrap().to_owned()
}

#[test]
fn an_agent_killed_at_any_moment_lets_nothing_through_and_loses_no_record() {
    let seed = seed();
    println!("LINEAL_TEST_SEED={seed}");
    let kills = KILLS[usize::from(env::var_os("LINEAL_TEST_FULL").is_some())];
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    lab.postgres.admin("postgres", &format!("ALTER ROLE {USER} SET log_statement = 'all'")).unwrap();
    let outside = Outside::new(&lab);
    let (load, port) = (script("load.py"), outside.port.to_string());
    let mut jobs: Vec<Server> = JOBS
        .iter()
        .map(|name| lab.converse(name, &lab.job(name, &[PYTHON, &load, name, &port]).unwrap()).unwrap())
        .collect();

    kill_again_and_again(&mut lab, &mut jobs, kills, &mut Random(seed));

    for job in &mut jobs {
        job.hang_up();
    }
    for mut job in jobs {
        assert!(job.wait(PATIENCE).unwrap().success(), "{}", job.log());
    }
    nothing_is_left_in_the_maps(&mut lab);
    outside.was_never_reached();
    let executed = every_executed_statement_is_recorded(&lab);
    println!("{kills} kills, {executed} statements executed");
    assert!(executed as u64 > kills * JOBS.len() as u64);
}

/// The outside world: listeners that no policy declares, and a capture of all packets to them. Whatever gets
/// past the redirect arrives here.
struct Outside {
    capture: Server,
    listener: TcpListener,
    // Keeps the port open for datagrams; the capture counts them.
    _datagrams: UdpSocket,
    port: u16,
}

impl Outside {
    fn new(lab: &Lab) -> Self {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let datagrams = UdpSocket::bind(("::", port)).unwrap();
        let mut capture = Command::new(PYTHON);
        capture.args([script("capture.py"), port.to_string()]);
        let mut capture = lab.converse("capture", &capture).unwrap();
        assert_eq!(capture.line(PATIENCE).unwrap(), "capturing");
        Self { capture, listener, _datagrams: datagrams, port }
    }

    fn was_never_reached(mut self) {
        self.capture.hang_up();
        assert_eq!(self.capture.line(PATIENCE).unwrap(), "0", "packets went past the redirect");
        self.listener.set_nonblocking(true).unwrap();
        assert!(self.listener.accept().is_err());
    }
}

/// Kills the agent so often, sometimes again during its start. After each kill every job must be served and
/// adopted.
fn kill_again_and_again(lab: &mut Lab, jobs: &mut [Server], kills: u64, random: &mut Random) {
    serve(jobs, "ready");
    let ids = live(lab);
    assert_eq!(ids.len(), JOBS.len());
    for kill in 0..kills {
        // The load goes on; chance decides when the agent dies.
        live_on(random.below(LIFE_MS));
        lab.take_agent().unwrap().kill().unwrap();
        if random.below(3) == 0 {
            let mut starting = lab.start_agent_unready().unwrap();
            live_on(random.below(START_MS));
            starting.stop(Signal::KILL, PATIENCE).unwrap();
        }
        lab.start_agent().unwrap();
        serve(jobs, &kill.to_string());
        assert_eq!(live(lab), ids, "after {kill} kills");
    }
}

/// Asserts that once all jobs have ended the agent lists none and the kernel's maps hold no entry of theirs.
fn nothing_is_left_in_the_maps(lab: &mut Lab) {
    // What ended processes leave is kept for some seconds.
    let agent = lab.agent().unwrap();
    agent.wait_for_status(|status| status["processes"] == 0 && status["places"] == 0).unwrap();
    assert!(live(lab).is_empty());
    let pins = lab.agent_options().pins.clone();
    let [layout] =
        fs::read_dir(pins).unwrap().map(|dir| dir.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    for map in ["TASKS", "NODES", "IMAGES", "USES", "JOBS", "UNIDENTIFIED"] {
        assert_eq!(entries(&layout.join(map)), 0, "stale entries in {map}");
    }
}

/// Asserts that the trail's chain is unbroken and holds an attributed decision for each statement in the
/// server's log; returns the number of those statements.
fn every_executed_statement_is_recorded(lab: &Lab) -> usize {
    let verified = lab.ask(&["audit", "verify", "--dir", lab.trail().to_str().unwrap()]).unwrap();
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let rows = lab.audit(&[]).unwrap();
    let decided: BTreeSet<&str> = rows
        .iter()
        .filter(|row| row["decision"] == "allow" && attributed(row))
        .filter_map(|row| marks(row["statement"]["text"].as_str()?).next())
        .collect();
    let log = fs::read_to_string(lab.directory().join("logs/postgres.log")).unwrap();
    let executed: BTreeSet<&str> =
        log.lines().filter(|line| line.contains("statement: ")).flat_map(marks).collect();
    let unrecorded: Vec<_> = executed.difference(&decided).collect();
    assert!(unrecorded.is_empty(), "the trail lacks {unrecorded:?}");
    executed.len()
}

/// Lets time pass until the moment that chance has chosen.
#[allow(clippy::disallowed_methods, reason = "no event is waited for: the moment itself is tested")]
fn live_on(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// How many entries a pinned map has, as bpftool counts them.
fn entries(pin: &Path) -> usize {
    let dump = finish(Command::new("bpftool").args(["--json", "map", "dump", "pinned"]).arg(pin)).unwrap();
    let dump: Value = serde_json::from_str(&dump.success().unwrap()).unwrap();
    dump.as_array().unwrap().len()
}

/// Waits until each job was served a statement that began after this call.
fn serve(jobs: &mut [Server], word: &str) {
    for job in &mut *jobs {
        job.say(word).unwrap();
    }
    for job in jobs {
        assert_eq!(job.line(PATIENCE).unwrap(), word);
    }
}

/// The ids of the jobs that are followed and have access.
fn live(lab: &Lab) -> BTreeSet<String> {
    let jobs: Vec<Value> = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
    let valid = jobs.into_iter().filter(|job| job["state"] == "valid");
    valid.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether a decision is attributed to the job and the process that its statement's mark names.
fn attributed(row: &Value) -> bool {
    let Some(mark) = row["statement"]["text"].as_str().and_then(|text| marks(text).next()) else {
        return false;
    };
    let words: Vec<&str> = mark.split(' ').collect();
    let by_itself = words[2] == "self";
    let ancestry = row["process"]["ancestry"].as_array().map_or(0, Vec::len);
    row["job"]["name"] == words[1]
        && row["process"]["pid"].as_u64() == words[3].parse().ok()
        && if by_itself { ancestry == 1 } else { ancestry == 3 }
}

/// The marks in a text: the literals of `SELECT 'crash …'`.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    text.split("SELECT '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .filter(|mark| mark.starts_with("crash "))
}
