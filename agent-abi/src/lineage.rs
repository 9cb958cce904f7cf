//! Followed processes: tags, lineage nodes, executed images, and what each job holds of them.

/// Bytes kept of an executable's path: its components, leaf first, each ended by NUL.
pub const EXE_BYTES_MAX: usize = 1024;
/// Bytes kept of a process's arguments: as in `/proc/PID/cmdline`, each ended by NUL.
pub const ARGV_BYTES_MAX: usize = 2048;
/// Room for one path component (`NAME_MAX`) and its NUL beyond [`EXE_BYTES_MAX`], so that a bounded read can
/// never overrun.
pub const NAME_BYTES_MAX: usize = 256;
/// Path components walked before the path counts as truncated.
pub const EXE_COMPONENTS_MAX: usize = 32;

/// Value of the map `TASKS`, keyed by tgid (`u32`): the job that a process belongs to, and its node in the
/// lineage.
///
/// Written by the kernel side at fork, exec and exit, and by the agent when it enrols a process that runs
/// already. Read by both. Entries are replaced whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTag {
    /// The job.
    pub job: u64,
    /// The process's current lineage node; 0 when no node could be kept. The process is then unattributable,
    /// and denied.
    pub node: u64,
    /// The image that it runs; 0 when that could not be kept.
    pub image: u64,
    /// When the process was created, nanoseconds since boot (`task_struct.start_boottime`); 0 in a job's root
    /// and in what the agent tagged.
    ///
    /// While one agent's programs replace another's, both sets see a fork. The second set knows by this field
    /// that the first one has handled it.
    pub born_ns: u64,
    /// The process's count of execs (`task_struct.self_exec_id`) when it was tagged or last executed, by
    /// which the second set of programs knows an exec that the first one has handled; [`EXECS_UNKNOWN`] when
    /// the agent wrote the tag.
    pub execs: u32,
    /// Always 0; keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// [`TaskTag::execs`] of a process that the agent tagged: user space cannot read the count.
pub const EXECS_UNKNOWN: u32 = u32::MAX;

/// Words of 64 bits in the array `MARKS`: one bit for each possible tgid (`PID_MAX_LIMIT` of
/// linux/threads.h).
///
/// A process without a mark has no tag. The kernel side sets the mark before it inserts the tag and clears
/// the mark before it removes the tag. The agent sets the mark both before and after it inserts a tag, and
/// never clears one.
pub const MARKS_WORDS: u32 = 4 * 1024 * 1024 / u64::BITS;

/// Value of the map `NODES`, keyed by node id (`u64`): one process between two of its execs. The chain of
/// `parent`s is the ancestry.
///
/// Written by the kernel side at fork and exec, and by the agent when it enrols a process that runs already.
/// Read by both; removed by the agent once nothing descends from it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The job.
    pub job: u64,
    /// Node of the creating process at the time of the fork; 0 for the job's root.
    pub parent: u64,
    /// The image that it runs: its own after an exec, its creator's until then.
    pub image: u64,
    /// The process.
    pub tgid: u32,
    /// The process's user id when the node was made.
    pub uid: u32,
    /// [`NODE_RECORDED`] or 0. The kernel side writes 0 as it makes the node; the agent alone changes it.
    pub flags: u32,
    /// Always 0; keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// The audit trail holds this node's process, or this [`Unidentified`](crate::Unidentified) job's beginning.
pub const NODE_RECORDED: u32 = 1;

/// Value of the map `IMAGES`, keyed by image id (`u64`): what a process executed.
///
/// Written by the kernel side at exec, and by the agent when it enrols a process that runs already. Read by
/// the agent, which removes it when no node names it any more.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Image {
    /// Bytes used of `exe`.
    pub exe_len: u32,
    /// Bytes used of `argv`.
    pub argv_len: u32,
    /// [`IMAGE_EXE_TRUNCATED`] | [`IMAGE_ARGV_TRUNCATED`].
    pub flags: u32,
    /// User id at exec.
    pub uid: u32,
    /// Path of the executable up to the root of its mount namespace: components, leaf first, each ended by
    /// NUL.
    pub exe: [u8; EXE_BYTES_MAX + NAME_BYTES_MAX],
    /// Arguments, each ended by NUL.
    pub argv: [u8; ARGV_BYTES_MAX],
}

/// The path has more components or bytes than are kept, or could not be read to its root.
pub const IMAGE_EXE_TRUNCATED: u32 = 1;
/// The arguments have more bytes than are kept, or could not be read.
pub const IMAGE_ARGV_TRUNCATED: u32 = 2;

/// Value of the map `USES`, keyed by job (`u64`): how many nodes and images the kernel side has made for the
/// job, ever.
///
/// The kernel side alone writes it, by atomic additions, and compares it with [`JobControl`]; the agent
/// removes it with the job.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobUse {
    /// Nodes made.
    pub nodes: u64,
    /// Images made.
    pub images: u64,
}

/// Value of the map `JOBS`, keyed by job (`u64`): what the agent tells the kernel side about the job.
///
/// The agent alone writes it, whole entries at a time; the kernel side reads it. What the job holds now is
/// the difference between [`JobUse`] and the counts in here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobControl {
    /// Nodes of the job that the agent has removed, ever.
    pub nodes: u64,
    /// Images of the job that the agent has removed, ever.
    pub images: u64,
    /// [`JOB_SHUT_OFF`] or 0.
    pub flags: u64,
}

/// The job may begin nothing any more, not even what the kernel side allows without asking the agent.
pub const JOB_SHUT_OFF: u64 = 1;

plain_data!(TaskTag, Node, Image, JobUse, JobControl);
