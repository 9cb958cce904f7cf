//! Where a trail ended when it was last written, and the state from which the writer goes on.
//!
//! An unfinished last line is cut off: its command was never forwarded. A complete last line that is not a
//! record is never touched: it is evidence, and the trail is refused.

use std::{fs::OpenOptions, path::Path};

use agent_core::audit::{Chain, chain::end_of_line};

use super::{
    segments::{self, LastLine, Segment},
    state::{OpenSegment, State},
};
use crate::audit::error::AuditError;

/// Where a trail stopped.
#[derive(Debug)]
pub(super) struct End {
    /// The chain after the last complete line.
    pub(super) chain: Chain,
    /// The segment to continue, with the bytes of its complete lines; `None` if there is no segment yet.
    segment: Option<(Segment, u64)>,
    /// Bytes after the last newline, left by an interrupted write.
    torn_bytes: u64,
}

/// Finds the trail's end, cuts off an unfinished line, and returns the writer's state from there on.
pub(super) fn recover(dir: &Path) -> Result<State, AuditError> {
    let End { chain, segment, torn_bytes } = find_end(dir)?;
    let segment = match segment {
        Some((segment, bytes)) => {
            let path = segment.file;
            let file = OpenOptions::new()
                .append(true)
                .open(&path)
                .map_err(AuditError::io("open the audit segment", &path))?;
            if torn_bytes > 0 {
                file.set_len(bytes).map_err(AuditError::io("cut the torn end of", &path))?;
            }
            Some(OpenSegment::continued(file, path, bytes))
        }
        None => None,
    };
    Ok(State::after(chain, segment, torn_bytes))
}

/// Finds a trail's end.
pub(super) fn find_end(dir: &Path) -> Result<End, AuditError> {
    let segments = segments::list(dir).map_err(AuditError::io("list", dir))?;
    let mut end = End { chain: Chain::GENESIS, segment: None, torn_bytes: 0 };
    for segment in segments.into_iter().rev() {
        let LastLine { line, whole_bytes, torn_bytes } =
            segments::last_line(&segment.file).map_err(AuditError::io("read the end of", &segment.file))?;
        if end.segment.is_none() {
            end.torn_bytes = torn_bytes;
            end.segment = Some((segment.clone(), whole_bytes));
        }
        // A segment without a complete line was begun just before a crash: the chain ends in an earlier
        // segment.
        if let Some(line) = line {
            end.chain = end_of_line(&line).map_err(|reason| AuditError::End {
                file: segment.file.clone(),
                reason: reason.to_string(),
            })?;
            break;
        }
    }
    if let Some((segment, 0)) = &end.segment
        && segment.first_seq != end.chain.seq + 1
    {
        let reason = format!(
            "its name says that it begins with record {}, but record {} is next",
            segment.first_seq,
            end.chain.seq + 1
        );
        return Err(AuditError::End { file: segment.file.clone(), reason });
    }
    Ok(end)
}
