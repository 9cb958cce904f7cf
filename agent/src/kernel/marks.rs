//! The map of marks, as memory that this process shares with the kernel's programs: both sides change bits of one word
//! at the same time, so the agent needs the atomic operations that a map's update by system call is not.
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

/// A bit for each tgid: see [`MARKS_WORDS`].
pub(super) struct Marks {
    words: NonNull<AtomicU64>,
    /// Held because a program that is loaded later must still find its map open.
    _map: MapData,
}

// SAFETY: the memory is only reached by atomic operations, and unmapped by the one owner.
unsafe impl Send for Marks {}
// SAFETY: as above.
unsafe impl Sync for Marks {}

impl Marks {
    /// Maps the map.
    pub(super) fn of(map: Map) -> io::Result<Self> {
        let Map::Array(data) = map else {
            return Err(io::Error::other("it is no array"));
        };
        let fd = data.fd().as_fd();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            mmap(ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)?
        };
        let words = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { words, _map: data })
    }

    /// Marks a process, before it is tagged. The kernel side alone unmarks, as it alone knows whose a number is meanwhile.
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
