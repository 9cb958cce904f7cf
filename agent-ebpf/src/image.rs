//! Records what a process executed: the path of its executable and its arguments.
//!
//! The path is walked from the opened file upwards, across mounts, to the root of the file's mount namespace:
//! the path that was given to `execve` proves nothing. `bpf_d_path` is not allowed in tracepoints.

use agent_abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, EXE_COMPONENTS_MAX, IMAGE_ARGV_TRUNCATED, IMAGE_EXE_TRUNCATED, Image,
    NAME_BYTES_MAX, stat,
};
use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_uid_gid,
        generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    },
};

use crate::{
    maps::{IMAGE_SCRATCH, IMAGES},
    offsets::{
        OFF_BPRM_FILE, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_FILE_PATH, OFF_MM_ARG_END, OFF_MM_ARG_START,
        OFF_MOUNT_MNT, OFF_MOUNT_MOUNTPOINT, OFF_MOUNT_PARENT, OFF_PATH_DENTRY, OFF_PATH_MNT, OFF_QSTR_NAME,
        OFF_TASK_MM, OFF_VFSMOUNT_ROOT, read,
    },
    shares::Shared,
    words::{count, next_id},
};

/// Records the image that `task` has just executed from `bprm` as part of a job's share; returns its id, 0 if
/// it can't be kept.
#[inline(always)]
pub fn record(task: *const u8, bprm: *const u8, job: u64) -> u64 {
    if !Shared::Image.take(job) {
        return 0;
    }
    let image = record_first(task, bprm);
    if image == 0 {
        Shared::Image.give_back(job);
    }
    image
}

/// Removes an image of a job that got no node: the agent removes images by their nodes, and would never find
/// it.
#[inline(always)]
pub fn forget(image: u64, job: u64) {
    if image != 0 && IMAGES.remove(image).is_ok() {
        Shared::Image.give_back(job);
    }
}

/// Records the image of a process that may begin a job: no share is taken. Returns its id, 0 if it can't be
/// kept.
#[inline(always)]
pub fn record_first(task: *const u8, bprm: *const u8) -> u64 {
    let Some(image) = IMAGE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's scratch slot; the whole value is written before it is copied into the map.
    let image = unsafe { &mut *image };
    image.flags = 0;
    image.uid = bpf_get_current_uid_gid() as u32;
    if walk(image, bprm).is_none() {
        image.flags |= IMAGE_EXE_TRUNCATED;
    }
    image.argv_len = arguments(image, task).unwrap_or(0);
    let id = next_id();
    if IMAGES.insert(id, &*image, BPF_ANY.into()).is_err() {
        count(stat::NODES_FULL);
        return 0;
    }
    id
}

/// Copies the arguments in one read; returns their length, `None` if they can't be read.
#[inline(always)]
fn arguments(image: &mut Image, task: *const u8) -> Option<u32> {
    // SAFETY: fields of the kernel's own structures at their BTF offsets, by checked reads.
    let (start, end) = unsafe {
        let mm: *const u8 = read(task, &OFF_TASK_MM)?;
        (read::<u64>(mm, &OFF_MM_ARG_START)?, read::<u64>(mm, &OFF_MM_ARG_END)?)
    };
    let mut len = end.saturating_sub(start);
    if len > ARGV_BYTES_MAX as u64 {
        len = ARGV_BYTES_MAX as u64;
        image.flags |= IMAGE_ARGV_TRUNCATED;
    }
    // SAFETY: `len` is at most the buffer's length, which the verifier checks.
    let failed = unsafe {
        bpf_probe_read_user(image.argv.as_mut_ptr().cast(), len as u32, start as *const core::ffi::c_void)
    };
    if failed != 0 {
        image.flags |= IMAGE_ARGV_TRUNCATED;
        return None;
    }
    Some(len as u32)
}

/// Writes the path's components, leaf first, each ended by NUL, and their length to `exe_len`; `None` if the
/// path can't be read to its root.
///
/// The length lives in the map value, not in a register. The verifier then knows nothing about it and finds
/// each iteration's state equal to the one before, instead of following every possible length.
#[inline(always)]
fn walk(image: &mut Image, bprm: *const u8) -> Option<()> {
    let used = &raw mut image.exe_len;
    // SAFETY: fields of the kernel's own structures at their BTF offsets, by checked reads; `used` is part
    // of `image`.
    unsafe {
        used.write_volatile(0);
        let file: *const u8 = read(bprm, &OFF_BPRM_FILE)?;
        let path = file.wrapping_add(OFF_FILE_PATH.load() as usize);
        let mut dentry: *const u8 = read(path, &OFF_PATH_DENTRY)?;
        let mut vfsmount: *const u8 = read(path, &OFF_PATH_MNT)?;
        for _ in 0..EXE_COMPONENTS_MAX {
            let root: *const u8 = read(vfsmount, &OFF_VFSMOUNT_ROOT)?;
            let parent: *const u8 = read(dentry, &OFF_DENTRY_PARENT)?;
            if dentry == root || dentry == parent {
                // The root of a mount: go on at the mount point.
                let mount = vfsmount.wrapping_sub(OFF_MOUNT_MNT.load() as usize);
                let above: *const u8 = read(mount, &OFF_MOUNT_PARENT)?;
                if above == mount {
                    return Some(());
                }
                dentry = read(mount, &OFF_MOUNT_MOUNTPOINT)?;
                vfsmount = above.wrapping_add(OFF_MOUNT_MNT.load() as usize);
                continue;
            }
            let name: *const u8 = read(dentry.wrapping_add(OFF_DENTRY_NAME.load() as usize), &OFF_QSTR_NAME)?;
            let at = used.read_volatile() as usize;
            if at >= EXE_BYTES_MAX {
                break;
            }
            let written = bpf_probe_read_kernel_str(
                image.exe.as_mut_ptr().add(at & (EXE_BYTES_MAX - 1)).cast(),
                NAME_BYTES_MAX as u32,
                name.cast(),
            );
            if written <= 0 {
                return None;
            }
            used.write_volatile(at as u32 + written as u32);
            dentry = parent;
        }
    }
    image.flags |= IMAGE_EXE_TRUNCATED;
    Some(())
}
