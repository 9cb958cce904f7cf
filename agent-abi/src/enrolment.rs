//! Enrolment rules, and the jobs that they begin.

/// Enrolment rules at most, and entries of each map that finds them.
pub const RULES_MAX: u32 = 64;
/// Room for a rule's name and a NUL.
pub const RULE_NAME_BYTES: usize = 32;
/// Room for the file name of an executable or a cgroup that a rule names, and a NUL.
pub const FILE_NAME_BYTES: usize = 128;
/// Room for the path of an executable (as in [`Image::exe`](crate::Image::exe)) or a cgroup that a rule
/// names, and a NUL.
pub const RULE_PATH_BYTES: usize = 256;

/// Bit of the programs' `RULE_KINDS`: there are rules that match by user.
pub const RULE_BY_UID: u32 = 1;
/// Bit of the programs' `RULE_KINDS`: there are rules that match by cgroup.
pub const RULE_BY_CGROUP: u32 = 2;
/// Bit of the programs' `RULE_KINDS`: there are rules that match by executable.
pub const RULE_BY_EXE: u32 = 4;

/// Value of the map `UNIDENTIFIED`, keyed by job (`u64`): a live job that a rule began and that has shown no
/// token.
///
/// Written by the kernel side when a process executes what a rule matches, and by the agent when it enrols a
/// process that ran before. Read and removed by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unidentified {
    /// The rule's name, ended by NUL.
    pub rule: [u8; RULE_NAME_BYTES],
    /// The job's root process.
    pub tgid: u32,
    /// [`NODE_RECORDED`](crate::NODE_RECORDED) once the audit trail holds the job's beginning, else 0. The
    /// agent alone sets it.
    pub flags: u32,
}

/// Scratch space in which the kernel side builds the keys of the rule maps: larger than its stack. The agent
/// never uses it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RuleKeys {
    /// File name of an executable or a cgroup; zeros after it.
    pub name: [u8; FILE_NAME_BYTES],
    /// Path of an executable or a cgroup; zeros after it.
    pub path: [u8; RULE_PATH_BYTES],
}

plain_data!(Unidentified);
