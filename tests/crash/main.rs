//! The agent is killed again and again under load, at random moments, its own start included: no packet goes past the
//! redirect, no statement reaches the server that the trail lacks, the chain holds, and live jobs are adopted each time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out the functions that tests share"
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

/// How often the agent is killed with every change, and with full sizes.
const KILLS: [u64; 2] = [10, 200];
/// The jobs that load it.
const JOBS: [&str; 3] = ["first", "second", "third"];
/// How long an agent lives at most before it is killed, milliseconds: once ready, or from its very start.
const LIFE_MS: u64 = 150;
const START_MS: u64 = 500;

/// Numbers that a seed determines (Vigna's SplitMix64).
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

fn seed() -> u64 {
    let given = env::var("LINEAL_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64)
}

fn script(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crash").join(name).to_str().unwrap().to_owned()
}

#[test]
fn an_agent_killed_at_any_moment_lets_nothing_through_and_loses_no_record() {
    let seed = seed();
    println!("LINEAL_TEST_SEED={seed}");
    let mut random = Random(seed);
    let kills = KILLS[usize::from(env::var_os("LINEAL_TEST_FULL").is_some())];
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    lab.postgres.admin("postgres", &format!("ALTER ROLE {USER} SET log_statement = 'all'")).unwrap();

    // The outside world: listens, so that whoever gets there succeeds.
    let outside = TcpListener::bind("[::]:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    let datagrams = UdpSocket::bind(("::", port)).unwrap();
    let mut capture = Command::new(PYTHON);
    capture.args([script("capture.py"), port.to_string()]);
    let mut capture = lab.converse("capture", &capture).unwrap();
    assert_eq!(capture.line(PATIENCE).unwrap(), "capturing");

    let (load, to) = (script("load.py"), port.to_string());
    let mut jobs: Vec<Server> = JOBS
        .iter()
        .map(|name| lab.converse(name, &lab.job(name, &[PYTHON, &load, name, &to]).unwrap()).unwrap())
        .collect();
    serve(&mut jobs, "ready");
    let ids = live(&lab);
    assert_eq!(ids.len(), JOBS.len());

    for kill in 0..kills {
        // Load goes on; when the agent dies is chance.
        live_on(random.below(LIFE_MS));
        lab.take_agent().unwrap().kill().unwrap();
        if random.below(3) == 0 {
            let mut starting = lab.start_agent_unready().unwrap();
            live_on(random.below(START_MS));
            starting.stop(Signal::KILL, PATIENCE).unwrap();
        }
        lab.start_agent().unwrap();
        serve(&mut jobs, &kill.to_string());
        assert_eq!(live(&lab), ids, "after {kill} kills");
    }

    for job in &mut jobs {
        job.hang_up();
    }
    for mut job in jobs {
        assert!(job.wait(PATIENCE).unwrap().success(), "{}", job.log());
    }
    let agent = lab.agent().unwrap();
    // Places are kept for a while after their processes have ended.
    agent.wait_for_status(|status| status["processes"] == 0 && status["places"] == 0).unwrap();
    assert!(live(&lab).is_empty());
    let pins = lab.agent_options().pins.clone();
    let [layout] =
        fs::read_dir(pins).unwrap().map(|dir| dir.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    for map in ["TASKS", "NODES", "IMAGES", "USES", "JOBS", "UNIDENTIFIED"] {
        assert_eq!(entries(&layout.join(map)), 0, "stale entries in {map}");
    }

    capture.hang_up();
    assert_eq!(capture.line(PATIENCE).unwrap(), "0", "packets went past the redirect");
    outside.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    assert!(outside.accept().is_err());

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
    let unaudited: Vec<_> = executed.difference(&decided).collect();
    assert!(unaudited.is_empty(), "the trail lacks {unaudited:?}");
    println!("{kills} kills, {} statements executed", executed.len());
    assert!(executed.len() as u64 > kills * JOBS.len() as u64);
}

/// Lets time pass until the moment that chance has set.
#[allow(clippy::disallowed_methods, reason = "nothing is waited for: the moment itself is what is tested")]
fn live_on(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// How many entries a pinned map has, by another program's count.
fn entries(pin: &Path) -> usize {
    let dump = finish(Command::new("bpftool").args(["--json", "map", "dump", "pinned"]).arg(pin)).unwrap();
    let dump: Value = serde_json::from_str(&dump.success().unwrap()).unwrap();
    dump.as_array().unwrap().len()
}

/// Returns when each job has had a statement served that began after this call.
fn serve(jobs: &mut [Server], word: &str) {
    for job in &mut *jobs {
        job.say(word).unwrap();
    }
    for job in jobs {
        assert_eq!(job.line(PATIENCE).unwrap(), word);
    }
}

/// Ids of the jobs that are followed and may act.
fn live(lab: &Lab) -> BTreeSet<String> {
    let jobs: Vec<Value> = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
    let valid = jobs.into_iter().filter(|job| job["state"] == "valid");
    valid.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether a decision names the job that its statement says it is of, down to the process.
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

/// The marks in a text: what stands in `SELECT '…'`.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    text.split("SELECT '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .filter(|mark| mark.starts_with("crash "))
}
