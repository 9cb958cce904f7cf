//! A long-lived process of the lab: started in the lab's cgroup, logging to a file, ended with the lab.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::cgroup::Cgroup;

/// What of a log an error shows.
const LOG_BYTES_SHOWN: usize = 4_000;

/// How to start a server.
pub struct Start<'a> {
    /// What errors call it.
    pub name: &'static str,
    /// Where it stands.
    pub cgroup: &'a Cgroup,
    /// Where its log goes: `NAME.log` in here.
    pub logs: &'a Path,
    /// Its standard output is read by the lab instead of logged.
    pub talks: bool,
}

/// A running server; killed when dropped.
pub struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    stdin: Option<ChildStdin>,
    lines: Option<Mutex<mpsc::Receiver<String>>>,
}

impl Start<'_> {
    /// Starts `command`.
    pub fn run(&self, command: &Command) -> anyhow::Result<Server> {
        let log = self.logs.join(format!("{}.log", self.name));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut inside = self.cgroup.inside(command);
        inside.stdin(Stdio::piped()).stderr(file.try_clone()?);
        inside.stdout(if self.talks { Stdio::piped() } else { file.into() });
        let mut child = inside
            .spawn()
            .with_context(|| format!("cannot start {} ({:?})", self.name, command.get_program()))?;
        let lines = child.stdout.take().map(|stdout| {
            let (sender, lines) = mpsc::channel();
            // Ends with the server: its end of the pipe closes.
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
            Mutex::new(lines)
        });
        Ok(Server { name: self.name, stdin: child.stdin.take(), child, log, lines })
    }
}

impl Server {
    /// What errors call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let shown = log.get(log.len().saturating_sub(LOG_BYTES_SHOWN)..).unwrap_or_default();
        String::from_utf8_lossy(shown).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The next line of its standard output.
    pub fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        let lines = self.lines.as_mut().with_context(|| format!("nobody listens to {}", self.name))?;
        let lines = lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        match lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(anyhow!("{} said nothing for {patience:?}:\n{}", self.name, self.log()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let ended = self.wait(patience).map(|status| status.to_string());
                let status = ended.unwrap_or_else(|_| "still running".to_owned());
                Err(anyhow!("{} has nothing more to say ({status}):\n{}", self.name, self.log()))
            }
        }
    }

    /// Waits until nobody can say anything more: it, and all that had its standard output from it, have ended.
    pub fn silence(&mut self, patience: Duration) -> anyhow::Result<()> {
        let lines = self.lines.as_mut().with_context(|| format!("nobody listens to {}", self.name))?;
        let lines = lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        match lines.recv_timeout(patience) {
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("{} is not silent after {patience:?}", self.name),
            Ok(line) => bail!("{} says {line:?}", self.name),
        }
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().with_context(|| format!("{} listens no more", self.name))?;
        writeln!(stdin, "{line}")
            .with_context(|| format!("{} listens no more:\n{}", self.name, self.log.display()))
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(pid(self.pid())?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        wait(&mut self.child, patience)?
            .with_context(|| format!("{} did not end within {patience:?}", self.name))
    }

    /// Asks it to end by `signal` and waits.
    pub fn stop(&mut self, signal: Signal, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.hang_up();
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(signal)?;
        self.wait(patience)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hang_up();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child's end, for at most `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let handle = pidfd_open(pid(child.id())?, PidfdFlags::empty()).context("cannot watch a child process")?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("cannot wait for a child process: {error}"),
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(child.wait()?)),
        }
    }
}

fn pid(number: u32) -> anyhow::Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).with_context(|| format!("{number} is no process id"))
}

/// A command run as another user, whose environment is what is given and a plain PATH.
pub fn as_user(user: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}
