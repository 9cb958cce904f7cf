//! Byte offsets of fields in the running kernel's structures.
//!
//! The loader reads the offsets from the kernel's own BTF, writes them over the zeros below, and refuses to
//! load the programs when a field is missing. The verifier takes frozen read-only data for constants, so
//! `pointer + offset` stays a typed load. `agent/src/kernel/object.rs` has the structure and field behind
//! each name.

use aya_ebpf::Global;

macro_rules! offsets {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub static $name: Global<u32> = Global::new(0);
    )*};
}

offsets! {
    OFF_TASK_PID
    OFF_TASK_TGID
    OFF_TASK_SIGNAL
    OFF_TASK_MM
    OFF_TASK_BORN
    OFF_TASK_EXECS
    OFF_SIGNAL_LIVE
    OFF_MM_ARG_START
    OFF_MM_ARG_END
    OFF_BPRM_FILE
    OFF_FILE_PATH
    OFF_PATH_MNT
    OFF_PATH_DENTRY
    OFF_DENTRY_PARENT
    OFF_DENTRY_NAME
    OFF_QSTR_NAME
    OFF_VFSMOUNT_ROOT
    OFF_MOUNT_MNT
    OFF_MOUNT_PARENT
    OFF_MOUNT_MOUNTPOINT
    OFF_CGROUP_KN
    OFF_CGROUP_ROOT
    OFF_CSS_PARENT
    OFF_ROOT_HIERARCHY
    OFF_KN_ID
    OFF_KN_NAME
}

/// A field behind a typed kernel pointer, by a load that the verifier follows.
///
/// # Safety
///
/// `base` must be a pointer that the kernel handed to this program, `T` the field's type.
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
    // SAFETY: the verifier proves the load; volatile keeps it one load of the field's width.
    unsafe { base.add(offset.load() as usize).cast::<T>().read_volatile() }
}

/// A field behind any kernel pointer, by a checked read; `None` when the address can't be read.
///
/// # Safety
///
/// `T` must be the field's type.
#[inline(always)]
pub unsafe fn read<T: Copy>(base: *const u8, offset: &Global<u32>) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(base.wrapping_add(offset.load() as usize).cast::<T>()) }
        .ok()
}
