//! A long-lived process of the lab: started in the lab's cgroup, with a log file, and killed with the lab.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::cgroup::Cgroup;

/// How much of a log's end an error shows.
const LOG_BYTES_SHOWN: usize = 4_000;

/// How to start a long-lived process.
pub struct Start<'a> {
    /// Its name in errors and of its log.
    pub name: &'static str,
    /// The cgroup that it is started in.
    pub cgroup: &'a Cgroup,
    /// The directory of its log, `NAME.log`.
    pub logs: &'a Path,
    /// Whether its standard output is read line by line, instead of going to its log.
    pub talks: bool,
}

/// A long-lived process; killed when dropped.
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
            // The thread ends when the process, and all that inherited its output, have ended.
            thread::spawn(move || {
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
    /// Its name in errors.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let shown = log.get(log.len().saturating_sub(LOG_BYTES_SHOWN)..).unwrap_or_default();
        String::from_utf8_lossy(shown).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The next line of its standard output, which it must print within `patience`.
    pub fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        match self.lines()?.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(anyhow!("{} printed nothing for {patience:?}:\n{}", self.name, self.log()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let ended = self.wait(patience).map(|status| status.to_string());
                let status = ended.unwrap_or_else(|_| "still running".to_owned());
                Err(anyhow!("{} closed its output ({status}):\n{}", self.name, self.log()))
            }
        }
    }

    /// Waits until it and every process that inherited its standard output have ended; fails if one prints a
    /// line.
    pub fn silence(&mut self, patience: Duration) -> anyhow::Result<()> {
        match self.lines()?.recv_timeout(patience) {
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("a process holds {}'s output open after {patience:?}", self.name)
            }
            Ok(line) => bail!("{} printed {line:?}", self.name),
        }
    }

    fn lines(&mut self) -> anyhow::Result<&mut mpsc::Receiver<String>> {
        let lines =
            self.lines.as_mut().with_context(|| format!("the output of {} goes to its log", self.name))?;
        Ok(lines.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .with_context(|| format!("the standard input of {} is closed already", self.name))?;
        writeln!(stdin, "{line}")
            .with_context(|| format!("{} closed its input; its log: {}", self.name, self.log.display()))
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(pid(self.pid())?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for it to end, and fails if it takes longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        wait(&mut self.child, patience)?
            .with_context(|| format!("{} did not end within {patience:?}", self.name))
    }

    /// Closes its standard input, sends it `signal` and waits for it to end.
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

/// Waits for a child process to end; `None` if that takes longer than `patience`.
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
            Err(Errno::INTR) => {}
            Err(error) => bail!("cannot wait for a child process: {error}"),
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(child.wait()?)),
        }
    }
}

fn pid(number: u32) -> anyhow::Result<Pid> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.with_context(|| format!("{number} is not a process id"))
}

/// A command that runs a program as another user, with that user's groups.
pub fn as_user(user: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}
