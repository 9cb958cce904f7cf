//! Very many processes, and very many connections, in one job's tree at once.

use std::{env, fs, process::Command};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, script::PYTHON};

use crate::shared::{lines, own_lab};

/// How many branches the tree of processes has: in every run, and with `LINEAL_TEST_FULL`.
const BRANCHES: [usize; 2] = [5, 100];
/// How many leaves each branch has.
const LEAVES: usize = 499;

/// Raises the host's bound on process ids where it is too low, until this is dropped; holds the old bound.
struct PidMax(Option<String>);

impl PidMax {
    const FILE: &'static str = "/proc/sys/kernel/pid_max";

    fn at_least(wanted: usize) -> Self {
        let before = fs::read_to_string(Self::FILE).unwrap();
        if before.trim().parse::<usize>().unwrap() >= wanted {
            return Self(None);
        }
        fs::write(Self::FILE, wanted.to_string()).unwrap();
        Self(Some(before))
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(Self::FILE, before);
        }
    }
}

#[test]
fn every_process_of_a_large_tree_is_followed() {
    let branches = BRANCHES[usize::from(env::var_os("LINEAL_TEST_FULL").is_some())];
    let all = 1 + branches * (1 + LEAVES);
    let _room = PidMax::at_least(all * 2);
    let mut lab = own_lab();
    let (branches, leaves) = (branches.to_string(), LEAVES.to_string());
    let forest = env!("CARGO_BIN_EXE_forest");
    let mut job = lab.converse("forest", &lab.job("forest", &[forest, &branches, &leaves]).unwrap()).unwrap();
    let patience = 4 * PATIENCE;
    assert_eq!(job.line(patience).unwrap(), "grown");
    lab.agent().unwrap().wait_for_status(|status| status["processes"] == all).unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    job.hang_up();
    assert_eq!(job.line(patience).unwrap(), "gone");
    assert!(job.wait(patience).unwrap().success());
    let agent = lab.agent().unwrap();
    agent.wait_for_status(|status| status["processes"] == 0).unwrap();
    agent.wait_for_status(|status| status["places"] == 0 && status["jobs"] == 0).unwrap();
}

/// How many connections are open at once.
const FLOWS: usize = 5_000;

#[test]
fn five_thousand_connections_of_one_tree_are_served_at_once() {
    let server = r#"
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
async def echo(reader, writer):
    while piece := await reader.read(64):
        writer.write(piece)
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"#;
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let mut python = Command::new(PYTHON);
    let mut server = lab.converse("echo", python.args(["-c", server])).unwrap();
    let port = server.line(PATIENCE).unwrap();
    let shop =
        format!("[[upstream]]\nname = \"echo\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{port}\"]\n");
    lab.set_upstreams(&shop).unwrap();
    lab.set_policies("@id(\"open\")\npermit (principal, action == Action::\"connect\", resource);\n")
        .unwrap();
    // Client → lineal → server: from each of two processes, half of the connections, with a number over each.
    // Back: on every connection its own number.
    let script = format!(
        r#"
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
child = os.fork()
held = []
for number in range({FLOWS} // 2):
    held.append(socket.create_connection(("127.0.0.1", {port}), timeout=60))
    held[-1].sendall(b"%d" % number)
echoed = sum(raw.recv(64) == b"%d" % number for number, raw in enumerate(held))
if child == 0:
    sys.stdin.readline()
    os._exit(0 if echoed == {FLOWS} // 2 else 1)
print(echoed, flush=True)
_, status = os.waitpid(child, 0)
print(status, flush=True)
"#
    );
    let mut job = lab.converse("many", &lab.job("many", &[PYTHON, "-c", &script]).unwrap()).unwrap();
    let patience = 4 * PATIENCE;
    let served = job.line(patience);
    let served = served.unwrap_or_else(|error| panic!("{error}\n{}", lab.agent().unwrap().log()));
    assert_eq!(served, (FLOWS / 2).to_string());
    lab.agent().unwrap().wait_for_status(|status| status["sessions"] == FLOWS).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(patience).unwrap(), "0");
    let agent = lab.agent().unwrap();
    agent.wait_for_status(|status| status["sessions"] == 0 && status["jobs"] == 0).unwrap();
    assert_eq!(agent.status().unwrap()["events_lost"], 0);
}
