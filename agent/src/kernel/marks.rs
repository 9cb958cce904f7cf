//! The map of marks as memory that this process shares with the eBPF programs. Both sides change bits of the
//! same word at the same time, which takes atomic operations; updating a map by system call is not atomic.
#![allow(unsafe_code, reason = "memory that is shared with the kernel")]

use std::{
    io,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use agent_abi::MARKS_WORDS;
use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const BYTES: usize = MARKS_WORDS as usize * size_of::<u64>();

/// A bit for each tgid, as [`MARKS_WORDS`] describes.
pub(super) struct Marks {
    words: NonNull<AtomicU64>,
    /// Held because a program that is loaded later must still find its map open.
    _map: MapData,
}

// SAFETY: the memory is only reached by atomic operations, and unmapped by its one owner.
unsafe impl Send for Marks {}
// SAFETY: the memory is only reached by atomic operations.
unsafe impl Sync for Marks {}

impl Marks {
    /// Maps the array `MARKS` into memory.
    pub(super) fn of(map: Map) -> io::Result<Self> {
        let Map::Array(data) = map else {
            return Err(io::Error::other("it is not an array"));
        };
        let fd = data.fd().as_fd();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            mmap(ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)?
        };
        let words = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { words, _map: data })
    }

    /// Marks a process that is about to be tagged. Only the kernel side clears marks: it alone knows which
    /// process has the PID by then.
    pub(super) fn set(&self, tgid: u32) {
        if let Some(word) = self.word(tgid) {
            word.fetch_or(1 << (tgid % u64::BITS), Ordering::SeqCst);
        }
    }

    fn word(&self, tgid: u32) -> Option<&AtomicU64> {
        let index = tgid / u64::BITS;
        // SAFETY: within the mapping, aligned, and alive as long as `self`.
        (index < MARKS_WORDS).then(|| unsafe { self.words.add(index as usize).as_ref() })
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // SAFETY: what `of` mapped, to which no reference is left.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), BYTES) };
    }
}
