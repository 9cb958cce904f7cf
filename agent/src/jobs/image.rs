//! What a process runs, as text: from the kernel side's images, or from /proc for a process that isn't
//! followed yet.

use std::{fs, io, os::unix::ffi::OsStrExt};

use agent_abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, IMAGE_ARGV_TRUNCATED, IMAGE_EXE_TRUNCATED, Image, NAME_BYTES_MAX,
};

use crate::kernel::{executable, proc_dir};

/// What a process runs. Secrets in the arguments are redacted.
#[derive(Debug, PartialEq, Eq)]
pub struct ImageText {
    /// Path of the executable; begins with `…` if truncated, empty if unknown.
    pub exe: String,
    /// Arguments; ends with `…` if truncated.
    pub argv: Vec<String>,
}

impl ImageText {
    /// Turns the kernel side's bytes into text: there the path's components stand leaf first.
    pub fn of(image: &Image) -> Self {
        let used = image.exe.get(..image.exe_len as usize).unwrap_or_default();
        let mut components: Vec<&[u8]> =
            used.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        components.reverse();
        let mut exe = String::new();
        if image.flags & IMAGE_EXE_TRUNCATED != 0 {
            exe.push('…');
        }
        for component in &components {
            exe.push('/');
            exe.push_str(&String::from_utf8_lossy(component));
        }
        if components.is_empty() {
            exe.clear();
        }
        let argv = image.argv.get(..image.argv_len as usize).unwrap_or_default();
        let mut argv = split_argv(argv);
        if image.flags & IMAGE_ARGV_TRUNCATED != 0 {
            argv.push("…".to_owned());
        }
        Self { exe, argv }
    }

    /// What a process runs now, according to /proc.
    pub fn of_process(pid: u32, uid: u32) -> io::Result<Self> {
        image_of_process(pid, uid).map(|image| Self::of(&image))
    }
}

/// What a process runs that isn't followed yet: the image that the kernel side would have recorded.
pub fn image_of_process(pid: u32, uid: u32) -> io::Result<Image> {
    let exe = executable(pid)?;
    let argv = fs::read(proc_dir(pid).join("cmdline"))?;
    let mut image = Image {
        exe_len: 0,
        argv_len: argv.len().min(ARGV_BYTES_MAX) as u32,
        flags: 0,
        uid,
        exe: [0; EXE_BYTES_MAX + NAME_BYTES_MAX],
        argv: [0; ARGV_BYTES_MAX],
    };
    let components = exe.as_os_str().as_bytes().rsplit(|byte| *byte == b'/');
    let bytes = components.flat_map(|component| component.iter().chain(&[0]));
    for byte in bytes {
        let Some(to) = image.exe.get_mut(image.exe_len as usize) else {
            image.flags |= IMAGE_EXE_TRUNCATED;
            break;
        };
        *to = *byte;
        image.exe_len += 1;
    }
    if argv.len() > ARGV_BYTES_MAX {
        image.flags |= IMAGE_ARGV_TRUNCATED;
    }
    for (to, from) in image.argv.iter_mut().zip(argv) {
        *to = from;
    }
    Ok(image)
}

/// Splits NUL-ended arguments and redacts secrets in them.
fn split_argv(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let argv: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    agent_core::audit::redact::argv(&argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_and_the_kernel_side_describe_a_process_alike() {
        let text = ImageText::of_process(std::process::id(), 0).unwrap();
        assert_eq!(text.exe, std::env::current_exe().unwrap().to_string_lossy());
        assert_eq!(text.argv.len(), std::env::args_os().count());
    }

    #[test]
    fn the_kernel_sides_components_become_a_path() {
        let mut image = Image {
            exe_len: 0,
            argv_len: 0,
            flags: 0,
            uid: 0,
            exe: [0; EXE_BYTES_MAX + NAME_BYTES_MAX],
            argv: [0; ARGV_BYTES_MAX],
        };
        let exe = b"psql\0bin\0usr\0";
        image.exe[..exe.len()].copy_from_slice(exe);
        image.exe_len = exe.len() as u32;
        let argv = b"psql\0-c\0select 1\0";
        image.argv[..argv.len()].copy_from_slice(argv);
        image.argv_len = argv.len() as u32;
        let text = ImageText::of(&image);
        assert_eq!(
            (text.exe.as_str(), text.argv),
            ("/usr/bin/psql", vec!["psql".into(), "-c".into(), "select 1".into()])
        );
    }
}
