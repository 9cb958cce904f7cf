//! The followed processes as the agent knows them, fed by the kernel side's maps.
//!
//! The maps are the truth: an event only says that there is something to read. Whatever is asked for and
//! not known yet is read from the maps then, and what can't be found there is unattributable, which denies.

use std::{
    collections::HashMap,
    io,
    os::unix::ffi::OsStrExt,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, IMAGE_ARGV_TRUNCATED, IMAGE_EXE_TRUNCATED, Image, NAME_BYTES_MAX,
    NODE_RECORDED,
};
use agent_core::lineage::{Lineage, Process};
use thiserror::Error;

use crate::kernel::{Kernel, executable, proc_dir};

/// How long a process's place is kept after its end: its last connections may still wait to be accepted.
pub const GRACE: Duration = Duration::from_secs(5);
/// Ancestors above one process; a deeper lineage is unattributable.
pub const DEPTH_MAX: usize = 4_096;

/// A process can't be traced back to its job's root.
#[derive(Debug, Error)]
pub enum Unattributable {
    /// A link of the chain is missing.
    #[error("the lineage of process {pid} cannot be established: {what} is missing")]
    Gap {
        /// The process.
        pid: u32,
        /// What is missing.
        what: &'static str,
    },
    /// The chain is longer than [`DEPTH_MAX`].
    #[error("process {pid} stands more than {DEPTH_MAX} processes below its job's root")]
    TooDeep {
        /// The process.
        pid: u32,
    },
    /// The job isn't known to this agent.
    #[error("process {pid} belongs to a job that this agent does not know")]
    NoJob {
        /// The process.
        pid: u32,
    },
}

/// What a process ran, read once from the kernel side.
#[derive(Debug, PartialEq, Eq)]
pub struct ImageText {
    pub exe: String,
    pub argv: Vec<String>,
}

/// One process between two of its execs.
#[derive(Debug)]
pub struct Place {
    pub job: u64,
    pub parent: u64,
    pub pid: u32,
    pub uid: u32,
    pub image: u64,
    pub text: Arc<ImageText>,
    pub cwd: String,
    pub container: String,
    children: u32,
    ended: Option<Instant>,
    recorded: bool,
}

/// Every known place, by node id.
#[derive(Default)]
pub struct Places {
    places: HashMap<u64, Place>,
    /// Image → its text and how many places run it.
    images: HashMap<u64, (Arc<ImageText>, u32)>,
    /// Job → how many places it has.
    jobs: HashMap<u64, usize>,
}

impl Places {
    /// The place of a node, read from the maps when it isn't known yet; its ancestors first, so that each knows
    /// what descends from it.
    pub fn get(&mut self, kernel: &Kernel, node: u64) -> Option<&mut Place> {
        let mut unknown = Vec::new();
        let mut at = node;
        while at != 0 && !self.places.contains_key(&at) && unknown.len() <= DEPTH_MAX {
            let Some(read) = kernel.node(at) else { break };
            unknown.push(at);
            at = read.parent;
        }
        for ancestor in unknown.into_iter().rev() {
            self.read(kernel, ancestor)?;
        }
        self.places.get_mut(&node)
    }

    /// Reads one place from the maps.
    fn read(&mut self, kernel: &Kernel, node: u64) -> Option<()> {
        let read = kernel.node(node)?;
        let text = match self.images.get_mut(&read.image) {
            Some((text, users)) => {
                *users += 1;
                Arc::clone(text)
            }
            None => {
                let text = Arc::new(text_of(&*kernel.image(read.image)?));
                self.images.insert(read.image, (Arc::clone(&text), 1));
                text
            }
        };
        if let Some(parent) = self.places.get_mut(&read.parent) {
            parent.children += 1;
        }
        let (cwd, container) = surroundings(read.tgid);
        *self.jobs.entry(read.job).or_default() += 1;
        self.places.insert(
            node,
            Place {
                job: read.job,
                parent: read.parent,
                pid: read.tgid,
                uid: read.uid,
                image: read.image,
                text,
                cwd,
                container,
                children: 0,
                ended: None,
                recorded: read.flags & NODE_RECORDED != 0,
            },
        );
        Some(())
    }

    /// Notes that a process has left this place, by exec or exit.
    pub fn leave(&mut self, node: u64, now: Instant) {
        if let Some(place) = self.places.get_mut(&node) {
            place.ended.get_or_insert(now);
        }
    }

    /// Ends every place that no live process is at; for what lost events would have told.
    pub fn reconcile(&mut self, live: &std::collections::HashSet<u64>, now: Instant) {
        for (node, place) in &mut self.places {
            if live.contains(node) {
                // An earlier look may have missed it.
                place.ended = None;
            } else {
                place.ended.get_or_insert(now);
            }
        }
    }

    /// Lets go of places that ended long enough ago and that nothing known descends from.
    pub fn prune(&mut self, kernel: &Kernel, now: Instant) {
        let is_over = |place: &Place| {
            place.children == 0
                && place.ended.is_some_and(|ended| now.saturating_duration_since(ended) >= GRACE)
        };
        let mut over: Vec<u64> =
            self.places.iter().filter(|(_, place)| is_over(place)).map(|(node, _)| *node).collect();
        // Job → nodes and images that it has less.
        let mut freed: HashMap<u64, (u64, u64)> = HashMap::new();
        while let Some(node) = over.pop() {
            let Some(place) = self.places.remove(&node) else { continue };
            kernel.remove_node(node);
            let (nodes, images) = freed.entry(place.job).or_default();
            *nodes += 1;
            if let Some(parent) = self.places.get_mut(&place.parent) {
                parent.children = parent.children.saturating_sub(1);
                if is_over(parent) {
                    over.push(place.parent);
                }
            }
            if let Some((_, users)) = self.images.get_mut(&place.image) {
                *users -= 1;
                if *users == 0 {
                    self.images.remove(&place.image);
                    kernel.remove_image(place.image);
                    *images += 1;
                }
            }
        }
        for (job, (nodes, images)) in freed {
            kernel.give_back(job, nodes, images);
            if let Some(places) = self.jobs.get_mut(&job) {
                *places = places.saturating_sub(nodes as usize);
            }
        }
        self.jobs.retain(|_, places| *places > 0);
    }

    /// Whether a job has any place yet.
    pub fn holds(&self, job: u64) -> bool {
        self.jobs.contains_key(&job)
    }

    /// How many places are kept.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The chain from the job's root to `node`, and what of it the trail doesn't hold yet, root first.
    pub fn trace(
        &mut self,
        kernel: &Kernel,
        job: u64,
        node: u64,
        pid: u32,
        uid: u32,
    ) -> Result<(Lineage, Vec<u64>), Unattributable> {
        let mut chain = Vec::new();
        let mut at = node;
        while at != 0 {
            if chain.len() > DEPTH_MAX {
                return Err(Unattributable::TooDeep { pid });
            }
            let place = self.get(kernel, at).ok_or(Unattributable::Gap { pid, what: "a process" })?;
            if place.job != job {
                return Err(Unattributable::Gap { pid, what: "a process of this job" });
            }
            chain.push(at);
            at = place.parent;
        }
        chain.reverse();
        let ancestry: Vec<Process> = chain
            .iter()
            .filter_map(|node| self.places.get(node))
            .map(|place| Process {
                pid: place.pid,
                exe: place.text.exe.clone(),
                argv: place.text.argv.clone(),
            })
            .collect();
        let (Some(process), Some(place)) = (ancestry.last().cloned(), self.places.get(&node)) else {
            return Err(Unattributable::Gap { pid, what: "the process itself" });
        };
        if place.text.exe.is_empty() {
            return Err(Unattributable::Gap { pid, what: "the executable" });
        }
        let (cwd, container) = (place.cwd.clone(), place.container.clone());
        let unrecorded = chain.into_iter().filter(|node| self.is_unrecorded(*node)).collect();
        Ok((Lineage { process, cwd, uid, container, ancestry }, unrecorded))
    }

    /// Whether a place is known and the trail doesn't hold it.
    pub fn is_unrecorded(&self, node: u64) -> bool {
        self.places.get(&node).is_some_and(|place| !place.recorded)
    }

    /// Notes that the trail holds a place.
    pub fn mark_recorded(&mut self, kernel: &Kernel, node: u64) {
        if let Some(place) = self.places.get_mut(&node) {
            place.recorded = true;
            kernel.mark_recorded(node);
        }
    }

    /// A known place.
    pub fn known(&self, node: u64) -> Option<&Place> {
        self.places.get(&node)
    }
}

/// What a process runs that is not followed yet, as the kernel side would have recorded it.
pub fn image_of(pid: u32, uid: u32) -> io::Result<Image> {
    let exe = executable(pid)?;
    let argv = std::fs::read(proc_dir(pid).join("cmdline"))?;
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

/// The same as the trail has it.
pub fn text_now(pid: u32, uid: u32) -> io::Result<ImageText> {
    image_of(pid, uid).map(|image| text_of(&image))
}

/// Turns the kernel side's bytes into text: the path's components stand leaf first.
fn text_of(image: &Image) -> ImageText {
    let used = image.exe.get(..image.exe_len as usize).unwrap_or_default();
    let mut components: Vec<&[u8]> = used.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
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
    ImageText { exe, argv }
}

/// Splits NUL-ended arguments and takes secrets out of them.
fn split_argv(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let argv: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    agent_core::audit::redact::argv(&argv)
}

/// Working directory and container of a process, where it still exists: for people, never for decisions.
fn surroundings(pid: u32) -> (String, String) {
    let cwd = std::fs::read_link(proc_dir(pid).join("cwd"))
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    (cwd, container_of(&cgroup))
}

/// The container id in a cgroup path: the last run of 64 hex digits, as containerd, CRI-O and Docker name it.
fn container_of(cgroup: &str) -> String {
    cgroup
        .split(|character: char| !character.is_ascii_hexdigit())
        .rfind(|run| run.len() == 64)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_found_wherever_the_runtime_puts_it() {
        let id = "ab".repeat(32);
        for path in [
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("0::/docker/{id}"),
        ] {
            assert_eq!(container_of(&path), id);
        }
        assert_eq!(container_of("0::/user.slice/session-1.scope"), "");
    }

    #[test]
    fn what_proc_says_of_a_process_reads_like_what_the_kernel_side_records() {
        let text = text_of(&image_of(std::process::id(), 0).unwrap());
        assert_eq!(text.exe, std::env::current_exe().unwrap().to_string_lossy());
        assert_eq!(text.argv.len(), std::env::args_os().count());
    }

    #[test]
    fn the_kernels_components_become_a_path() {
        let mut image = Image {
            exe_len: 0,
            argv_len: 0,
            flags: 0,
            uid: 0,
            exe: [0; agent_abi::EXE_BYTES_MAX + agent_abi::NAME_BYTES_MAX],
            argv: [0; agent_abi::ARGV_BYTES_MAX],
        };
        let exe = b"psql\0bin\0usr\0";
        image.exe[..exe.len()].copy_from_slice(exe);
        image.exe_len = exe.len() as u32;
        let argv = b"psql\0-c\0select 1\0";
        image.argv[..argv.len()].copy_from_slice(argv);
        image.argv_len = argv.len() as u32;
        let text = text_of(&image);
        assert_eq!(
            (text.exe.as_str(), text.argv),
            ("/usr/bin/psql", vec!["psql".into(), "-c".into(), "select 1".into()])
        );
    }
}
