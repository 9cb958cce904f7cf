//! `lineal audit tail`: prints records as they are written, across segments, woken by inotify.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use agent_core::audit::chain::LINE_BYTES_MAX;
use clap::Args;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};

use super::{error::ReadError, print};
use crate::audit::trail::{Segment, last_line, list_segments};

/// Bytes read at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// Follows the audit trail.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TailArgs {
    /// The trail's directory, or a copy of it [default: the running agent's trail]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The records as they are written, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// From the trail's first record on, not from now on
    #[arg(long)]
    pub(crate) from_start: bool,
}

/// Prints the records of the trail in `dir` as they are written, until nobody reads the output any more.
/// `reader` is the output's descriptor, watched for that; without it, the end is noticed when writing fails.
pub(crate) fn tail(
    dir: &Path,
    args: &TailArgs,
    out: &mut dyn Write,
    reader: Option<BorrowedFd<'_>>,
) -> Result<(), ReadError> {
    // Watched before anything is read, so that no record written in between is missed.
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

fn watch(dir: &Path) -> Result<OwnedFd, ReadError> {
    let failed = |errno: Errno| ReadError::io("watch", dir)(errno.into());
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&watch, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::ONLYDIR)
        .map_err(failed)?;
    Ok(watch)
}

/// Waits for a change of the directory. Which file changed does not matter: all new lines are read from the
/// files. False once nobody reads the output any more.
fn wait(watch: &OwnedFd, reader: Option<BorrowedFd<'_>>, dir: &Path) -> Result<bool, ReadError> {
    let failed = |errno: Errno| ReadError::io("watch", dir)(errno.into());
    let mut fds = vec![PollFd::new(watch, PollFlags::IN)];
    // With no events asked for, poll still reports an error: a pipe without a reader has one.
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
    /// Bytes of complete lines that were printed. Bytes after them are read again each time: the writer may
    /// cut an unfinished line off.
    done: u64,
}

impl Current {
    fn open(segment: Segment, done: u64) -> Result<Self, ReadError> {
        let file = File::open(&segment.file).map_err(ReadError::io("open", &segment.file))?;
        Ok(Self { segment, file, done })
    }
}

impl<'a> Follower<'a> {
    fn new(dir: &'a Path, from_start: bool) -> Result<Self, ReadError> {
        let segments = list_segments(dir).map_err(ReadError::io("list", dir))?;
        let first = if from_start { segments.into_iter().next() } else { segments.into_iter().next_back() };
        let current = match first {
            Some(segment) => {
                let end = last_line(&segment.file).map_err(ReadError::io("read", &segment.file))?;
                let done = if from_start { 0 } else { end.whole_bytes };
                Some(Current::open(segment, done)?)
            }
            None => None,
        };
        Ok(Self { dir, current })
    }

    fn print_new(&mut self, json: bool, out: &mut dyn Write) -> Result<(), ReadError> {
        loop {
            // Listed before the current segment is read to its end: a segment is complete when the next one
            // begins, so nothing is missed at the change from one to the next.
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

    fn next_segment(&self) -> Result<Option<Segment>, ReadError> {
        let after = self.current.as_ref().map_or(0, |current| current.segment.first_seq);
        let segments = list_segments(self.dir).map_err(ReadError::io("list", self.dir))?;
        Ok(segments.into_iter().find(|segment| segment.first_seq > after))
    }
}

fn print_lines(current: &mut Current, json: bool, out: &mut dyn Write) -> Result<(), ReadError> {
    let mut step = STEP_BYTES;
    loop {
        let failed = ReadError::io("read", &current.segment.file);
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
        // The line is longer than a step.
        step = if whole == 0 { step * 2 } else { STEP_BYTES };
        if step > 2 * LINE_BYTES_MAX as u64 {
            let reason = "longer than any record".to_owned();
            return Err(ReadError::Line { file: current.segment.file.clone(), line: 0, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::fd::AsFd,
    };

    use serde_json::Value;

    use super::*;
    use crate::audit::samples::*;

    #[test]
    fn tail_prints_each_record_once_across_segments_and_ends_when_its_reader_does() {
        let home = TrailHome::new();
        let trail = home.open_with(|config| config.rotate_bytes = 4096).unwrap();
        trail.append(&bundle("before")).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let dir = home.dir();
        let following = std::thread::spawn(move || {
            let args = TailArgs { json: true, from_start: true, dir: None };
            let output = writer.try_clone().unwrap();
            tail(&dir, &args, &mut writer, Some(output.as_fd()))
        });
        let mut reader = BufReader::new(reader);
        let mut next = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            serde_json::from_str::<Value>(&line).unwrap()
        };
        assert_eq!(next()["kind"], "checkpoint");
        assert_eq!(next()["version"], "before");
        let mut versions = Vec::new();
        for number in 0..100 {
            let version = number.to_string();
            trail.append(&bundle(&version)).unwrap();
            // A checkpoint may come first, at the beginning of a segment.
            let mut line = next();
            while line["kind"] == "checkpoint" {
                line = next();
            }
            versions.push(line["version"].as_str().unwrap().to_owned());
        }
        assert!(home.segments().len() > 2);
        assert_eq!(versions, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
        drop(reader);
        following.join().unwrap().unwrap();
    }
}
