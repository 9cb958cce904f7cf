//! The Debian package, installed and removed by dpkg in a private copy of this machine's file system.

use std::process::Command;

use lineal_tests::{Lab, command::PATIENCE, package, paths, script::PYTHON, server::Server};

use crate::shared::{decisions_on, own_lab, text};

/// Runs each line it is told in the copy and prints its exit code. An overlay in memory takes what is written
/// there; processes, the kernel's file systems and the lab's directory are this machine's own.
const COPY: &str = r#"set -eu
mount --make-rprivate /
mkdir "$1/layer" "$1/root"
mount -t tmpfs none "$1/layer"
mkdir "$1/layer/upper" "$1/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layer/upper,workdir=$1/layer/work" "$1/root"
for shared in proc sys dev tmp; do mount --rbind "/$shared" "$1/root/$shared"; done
exec chroot "$1/root" /bin/sh -c '
while read -r line; do status=0; /bin/sh -c "$line" >&2 </dev/null || status=$?; echo $status; done'
"#;

/// For each word it is told, connects to the shop, selects the word and prints it, or `refused`.
const CONNECT: &str = r#"
import psycopg, sys
for line in sys.stdin:
    try:
        print(psycopg.connect().execute("SELECT '%s'" % line.strip()).fetchone()[0], flush=True)
    except psycopg.Error:
        print('refused', flush=True)
"#;

/// Starts a copy that runs commands.
fn copy(lab: &Lab) -> Server {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "/bin/sh", "-c", COPY, "copy"]).arg(lab.directory());
    lab.converse("copy", &unshare).unwrap()
}

/// Runs a command in the copy, and returns its exit code as text.
fn tell(copy: &mut Server, command: &str) -> String {
    copy.say(command).unwrap();
    let status = copy.line(2 * PATIENCE).unwrap();
    println!("{command}: {status}");
    status
}

#[test]
fn removing_the_package_detaches_and_records_it_and_replacing_it_does_not() {
    let mut lab = own_lab();
    let package = package::build(&paths::lineal().unwrap(), lab.directory()).unwrap();
    let package = package.to_str().unwrap();
    let mut copy = copy(&lab);
    assert_eq!(tell(&mut copy, &format!("dpkg --install {package}")), "0", "{}", copy.log());
    // The policies and the unit that it ships are valid.
    assert_eq!(tell(&mut copy, "lineal policy test /etc/lineal/policies"), "0", "{}", copy.log());
    assert_eq!(tell(&mut copy, "systemd-analyze verify /usr/lib/systemd/system/lineal.service"), "0");
    let config = lab.agent_options().config();
    assert_eq!(tell(&mut copy, &format!("cp {} /etc/lineal/agent.toml", config.display())), "0");

    let mut job = lab.converse("job", &lab.job("job", &[PYTHON, "-c", CONNECT]).unwrap()).unwrap();
    let mut say = |word: &str| {
        job.say(word).unwrap();
        job.line(PATIENCE).unwrap()
    };
    assert_eq!(say("followed"), "followed");
    // While the agent runs, the package cannot be removed and no process is released.
    assert_ne!(tell(&mut copy, "dpkg --remove lineal"), "0");
    assert_eq!(say("still followed"), "still followed");
    assert_eq!(decisions_on(&lab, "still followed").len(), 1);
    lab.take_agent().unwrap().kill().unwrap();
    assert_eq!(tell(&mut copy, &format!("dpkg --install {package}")), "0", "{}", copy.log());
    assert_eq!(say("replaced"), "refused");
    assert_eq!(tell(&mut copy, "dpkg --remove lineal"), "0", "{}", copy.log());
    assert_eq!(say("let go"), "let go");
    let agent = lab.audit(&["--kind", "agent"]).unwrap();
    let last = agent.last().unwrap();
    assert_eq!((text(last, "/state"), text(last, "/reason")), ("detach", "the package was removed"));
}
