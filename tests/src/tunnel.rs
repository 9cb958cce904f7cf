//! A real `ssh -L` outside every job: another address that leads to a server which policies declare.
//!
//! ssh and sshd speak through a pipe, so there is no sshd for anybody else to reach, and its keys are this
//! lab's.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    command::{PATIENCE, finish},
    lab::Lab,
    postgres,
    server::Server,
};

/// The name of the other end in ssh's configuration; no host has it.
const HOST: &str = "lab";
/// How ssh's log begins the line about each connection through the tunnel; the port's number follows.
const USED: &str = "Connection to port ";
/// What ssh prints once the tunnel is open.
const OPEN: &str = "the tunnel is open";

/// An open tunnel; closed when dropped.
pub struct Tunnel {
    // Closes the tunnel when dropped.
    _ssh: Server,
    log: PathBuf,
    address: SocketAddr,
}

impl Tunnel {
    /// Opens a tunnel to `upstream`, the address and port that sshd connects to.
    pub fn open(lab: &Lab, upstream: &str) -> anyhow::Result<Self> {
        let directory = lab.directory().join("tunnel");
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let daemon = daemon(&directory)?;
        // ssh does not take port 0 for a forward. Its socket sets SO_REUSEADDR, as the reservation does.
        let (reservation, port) = postgres::reserve_port()?;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-N", "-v", "-i"]).arg(directory.join("client"));
        let known = format!("UserKnownHostsFile={}", directory.join("known").display());
        let said = format!("LocalCommand=echo {OPEN}");
        let proxy = format!("ProxyCommand={daemon}");
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            "ExitOnForwardFailure=yes",
            // LocalCommand runs once the forward listens.
            "PermitLocalCommand=yes",
            &known,
            &said,
            &proxy,
        ];
        for option in options {
            ssh.args(["-o", option]);
        }
        ssh.arg("-L")
            .arg(format!("127.0.0.1:{port}:{upstream}"))
            .arg(format!("{}@{HOST}", postgres::ACCOUNT));
        let mut ssh = lab.converse("ssh", &ssh)?;
        let line = ssh.line(PATIENCE)?;
        ensure!(line == OPEN, "ssh did not open the tunnel but printed {line}:\n{}", ssh.log());
        drop(reservation);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { _ssh: ssh, log: lab.logs().join("ssh.log"), address })
    }

    /// The address and port at which ssh listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections went through it so far.
    pub fn connections(&self) -> anyhow::Result<usize> {
        let used = format!("{USED}{} ", self.address.port());
        Ok(fs::read_to_string(&self.log)?.matches(&used).count())
    }
}

/// Makes keys for both ends, and returns the command that is sshd for one connection, on its standard
/// streams.
///
/// It runs as PostgreSQL's account, because sshd without root needs neither /run/sshd nor an account of its
/// own.
fn daemon(directory: &Path) -> anyhow::Result<String> {
    for key in ["client", "host"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f"]).arg(directory.join(key));
        finish(&mut keygen)?.success().context("cannot make a key for ssh")?;
    }
    let (uid, gid) = postgres::account()?;
    chown(directory.join("host"), Some(uid), Some(gid))?;
    let host_key = fs::read_to_string(directory.join("host.pub"))?;
    fs::write(directory.join("known"), format!("{HOST} {host_key}"))?;
    let shown = directory.display();
    let configuration = directory.join("sshd_config");
    let text = format!(
        "HostKey {shown}/host\nAuthorizedKeysFile {shown}/client.pub\nPidFile none\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         AllowTcpForwarding local\n"
    );
    fs::write(&configuration, text)?;
    for readable in [directory, &directory.join("client.pub"), &configuration] {
        let mode = if readable.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(readable, Permissions::from_mode(mode))?;
    }
    let account = postgres::ACCOUNT;
    Ok(format!(
        "setpriv --reuid {account} --regid {account} --init-groups -- /usr/sbin/sshd -i -e -f {}",
        configuration.display()
    ))
}
