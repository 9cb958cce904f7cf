//! The few bpf(2) commands that aya has no call for.
#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

// Commands: `enum bpf_cmd` of linux/bpf.h.
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
/// Where a program is attached: `enum bpf_attach_type` of linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum AttachType {
    Egress = 1,
    SockCreate = 2,
    Setsockopt = 22,
}

/// Runs a command, and returns what the system call returns: a new descriptor if the command makes or opens
/// an object, otherwise 0. `attribute` is the member of `union bpf_attr` that the command takes; whatever
/// `attribute` points to must live until this returns.
fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `attribute`, and checks every address in
    // it.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Opens the map, program or link that is pinned at `path`; `None` if nothing is pinned there.
pub fn pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Get {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    match bpf(BPF_OBJ_GET, &mut Get { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 }) {
        // SAFETY: a fresh descriptor that nobody else knows.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a program to a cgroup, and returns the link. The kernel detaches the program when the link's last
/// descriptor is closed, unless the link is pinned.
pub fn link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: AttachType) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        prog_fd: i32,
        target_fd: i32,
        attach_type: u32,
        flags: u32,
    }
    let mut create = Create {
        prog_fd: program.as_raw_fd(),
        target_fd: cgroup.as_raw_fd(),
        attach_type: attach_type as u32,
        flags: 0,
    };
    // SAFETY: a fresh descriptor that nobody else knows.
    bpf(BPF_LINK_CREATE, &mut create).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Pins the map, program or link behind a descriptor at `path`, which must be on a bpffs and not exist yet.
pub fn pin(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Pin {
        pathname: u64,
        bpf_fd: i32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { pathname: path.as_ptr() as u64, bpf_fd: fd.as_raw_fd(), file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut pin).map(|_| ())
}

/// Replaces a cgroup link's program atomically: each event runs either the old program or the new one.
pub fn update_link(link: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Update {
        link_fd: i32,
        new_prog_fd: i32,
        flags: u32,
        old_prog_fd: u32,
    }
    let mut update =
        Update { link_fd: link.as_raw_fd(), new_prog_fd: program.as_raw_fd(), flags: 0, old_prog_fd: 0 };
    bpf(BPF_LINK_UPDATE, &mut update).map(|_| ())
}

/// Detaches a cgroup link's program, which does not run any more when this returns. Maps and tracing links
/// have no such command: for them this fails.
pub fn detach_link(link: &OwnedFd) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut link.as_raw_fd()).map(|_| ())
}

/// Id of the cgroup that a cgroup link is attached to: the inode number of the cgroup's directory; 0 once the
/// cgroup has been removed.
pub fn cgroup_of(link: &OwnedFd) -> io::Result<u64> {
    /// `struct bpf_link_info`, with its cgroup member.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        gap: u32,
        cgroup: u64,
        rest: [u64; 8],
    }
    #[repr(C)]
    struct Get {
        bpf_fd: i32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let at = std::ptr::from_mut(&mut info) as u64;
    bpf(
        BPF_OBJ_GET_INFO_BY_FD,
        &mut Get { bpf_fd: link.as_raw_fd(), info_len: size_of::<Info>() as u32, info: at },
    )?;
    Ok(info.cgroup)
}

/// How many entries a map has; its keys must have four bytes, its values may have any size. The number is too
/// high if an entry is removed meanwhile, because the kernel may then begin again at the first key.
pub fn entries(map: &OwnedFd) -> io::Result<usize> {
    #[repr(C)]
    struct Next {
        map_fd: i32,
        gap: u32,
        key: u64,
        next_key: u64,
    }
    let mut key = 0u32;
    let mut found = 0;
    loop {
        let mut next = 0u32;
        let from = if found == 0 { 0 } else { std::ptr::from_ref(&key) as u64 };
        let to = std::ptr::from_mut(&mut next) as u64;
        match bpf(
            BPF_MAP_GET_NEXT_KEY,
            &mut Next { map_fd: map.as_raw_fd(), gap: 0, key: from, next_key: to },
        ) {
            Ok(_) => found += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        }
        key = next;
    }
}
