//! The upstream's messages that answer something, and what an entry has been answered so far.

use crate::postgres::event::{Tag, UpstreamError};

/// A message of the upstream's that answers something.
#[derive(Debug)]
pub(in crate::postgres) enum Reply {
    ParseComplete,
    BindComplete,
    CloseComplete,
    ParameterDescription,
    RowDescription,
    NoData,
    DataRow,
    CommandComplete(Tag),
    Empty,
    Suspended,
    CopyIn,
    CopyOut,
    CopyData,
    CopyDone,
    FunctionResult,
    /// An error of severity ERROR. After a FATAL error nothing more is awaited.
    Error(UpstreamError),
    Ready,
}

/// What the front entry has been answered so far.
#[derive(Debug)]
pub(in crate::postgres) struct Answered {
    /// Rows that tags reported.
    rows_tagged: u64,
    /// Rows seen since the last tag.
    pub(super) rows_seen: u64,
    /// Bytes of the answer.
    pub(super) bytes: u64,
    pub(super) tag: Tag,
    pub(in crate::postgres) error: Option<UpstreamError>,
    pub(super) copy: Copying,
    /// The first of two replies has come: a FunctionCall's result, or a Describe's ParameterDescription.
    pub(super) first_of_two: bool,
}

impl Answered {
    /// Rows by tag, or as seen if a result has no tag.
    pub(super) fn rows(&self) -> u64 {
        self.rows_tagged.saturating_add(self.rows_seen)
    }

    /// A result ended with this tag.
    pub(super) fn tagged(&mut self, tag: Tag) {
        self.rows_tagged = self.rows_tagged.saturating_add(tag.rows().unwrap_or(self.rows_seen));
        self.rows_seen = 0;
        self.tag = tag;
        self.copy = Copying::No;
    }
}

impl Default for Answered {
    fn default() -> Self {
        Self {
            rows_tagged: 0,
            rows_seen: 0,
            bytes: 0,
            tag: Tag::EMPTY,
            error: None,
            copy: Copying::No,
            first_of_two: false,
        }
    }
}

/// Which COPY the front entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    No,
    /// From the client.
    In,
    /// To the client.
    Out,
    /// To the client, which has been sent CopyDone.
    OutDone,
}

/// How an entry left the queue. Whether it failed is in [`Answered::error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Fate {
    Answered,
    Suspended,
    /// The upstream skipped it.
    Skipped,
}
