//! `lineal audit tail`: prints records as they are written, across segments, woken by inotify.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use agent_core::audit::chain::LINE_BYTES_MAX;
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::error::TrailError;
use super::print;
use super::segments::{self, Segment};

/// How much is read at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// Follows the audit trail.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TailArgs {
    /// The trail's directory [default: the configured one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The records as they are written, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// From the trail's first record on, not from now on
    #[arg(long)]
    pub(crate) from_start: bool,
}

/// Prints the records of the trail in `dir` as they come, until `reader`, the output's descriptor, has no
/// one left to read it; without one, until writing fails.
pub(crate) fn tail(
    dir: &Path,
    args: &TailArgs,
    out: &mut dyn Write,
    reader: Option<BorrowedFd<'_>>,
) -> Result<(), TrailError> {
    // Watched before anything is read, so that nothing is written unseen in between.
    let watch = watch(dir)?;
    let mut follower = Follower::new(dir, args.from_start)?;
    loop {
        let printed = follower.print_new(args.json, out).and_then(|()| Ok(out.flush()?));
        match printed {
            Err(error) if error.is_reader_gone() => return Ok(()),
            printed => printed?,
        }
        if !wait(&watch, reader, dir)? {
            return Ok(());
        }
    }
}

fn watch(dir: &Path) -> Result<OwnedFd, TrailError> {
    let failed = |errno: Errno| TrailError::io("watch", dir)(errno.into());
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&watch, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::ONLYDIR)
        .map_err(failed)?;
    Ok(watch)
}

/// Waits for the directory to change and forgets the events: what they mean is read from the files. False
/// when no one reads the output any more.
fn wait(watch: &OwnedFd, reader: Option<BorrowedFd<'_>>, dir: &Path) -> Result<bool, TrailError> {
    let failed = |errno: Errno| TrailError::io("watch", dir)(errno.into());
    let mut fds = vec![PollFd::new(watch, PollFlags::IN)];
    // A descriptor is polled for errors without asking: a pipe whose reader left has one.
    fds.extend(reader.map(|reader| PollFd::from_borrowed_fd(reader, PollFlags::empty())));
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(failed(errno)),
    }
    if fds.get(1).is_some_and(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
    {
        return Ok(false);
    }
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    loop {
        match events.next() {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(true),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

struct Follower<'a> {
    dir: &'a Path,
    current: Option<Current>,
}

struct Current {
    segment: Segment,
    file: File,
    /// Bytes of whole lines printed. What follows is read anew each time: the writer may cut an unfinished
    /// line off again.
    done: u64,
}

impl Current {
    fn open(segment: Segment, done: u64) -> Result<Self, TrailError> {
        let file = File::open(&segment.file).map_err(TrailError::io("open", &segment.file))?;
        Ok(Self { segment, file, done })
    }
}

impl<'a> Follower<'a> {
    fn new(dir: &'a Path, from_start: bool) -> Result<Self, TrailError> {
        let segments = segments::list(dir).map_err(TrailError::io("list", dir))?;
        let first = if from_start { segments.into_iter().next() } else { segments.into_iter().next_back() };
        let current = match first {
            Some(segment) => {
                let end =
                    segments::last_line(&segment.file).map_err(TrailError::io("read", &segment.file))?;
                let done = if from_start { 0 } else { end.whole_bytes };
                Some(Current::open(segment, done)?)
            }
            None => None,
        };
        Ok(Self { dir, current })
    }

    fn print_new(&mut self, json: bool, out: &mut dyn Write) -> Result<(), TrailError> {
        loop {
            // Listed before the current one is read to its end: a segment is begun only when the one before
            // is complete.
            let next = self.next_segment()?;
            if let Some(current) = &mut self.current {
                print_lines(current, json, out)?;
            }
            match next {
                Some(segment) => self.current = Some(Current::open(segment, 0)?),
                None => return Ok(()),
            }
        }
    }

    fn next_segment(&self) -> Result<Option<Segment>, TrailError> {
        let after = self.current.as_ref().map_or(0, |current| current.segment.first_seq);
        let segments = segments::list(self.dir).map_err(TrailError::io("list", self.dir))?;
        Ok(segments.into_iter().find(|segment| segment.first_seq > after))
    }
}

fn print_lines(current: &mut Current, json: bool, out: &mut dyn Write) -> Result<(), TrailError> {
    let mut step = STEP_BYTES;
    loop {
        let failed = TrailError::io("read", &current.segment.file);
        let mut bytes = Vec::new();
        let read = current
            .file
            .seek(SeekFrom::Start(current.done))
            .and_then(|_| (&current.file).take(step).read_to_end(&mut bytes));
        let read = read.map_err(failed)? as u64;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = bytes.get(..whole).unwrap_or_default();
        if json {
            out.write_all(lines)?;
        } else {
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                print::line(line.strip_suffix(b"\n").unwrap_or(line), out)?;
            }
        }
        current.done += whole as u64;
        if read < step {
            return Ok(());
        }
        // A line longer than a step: a longer step.
        step = if whole == 0 { step * 2 } else { STEP_BYTES };
        if step > 2 * LINE_BYTES_MAX as u64 {
            let reason = "longer than any record".to_owned();
            return Err(TrailError::Line { file: current.segment.file.clone(), line: 0, reason });
        }
    }
}
