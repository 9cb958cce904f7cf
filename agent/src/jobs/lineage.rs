//! The lineage as the agent knows it: a node for each followed process between two of its execs.
//!
//! The kernel side's maps are the truth; an event only says that there is something to read. A node that is
//! asked for and not known yet is read from the maps then. What can't be found there is unattributable, which
//! denies.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_abi::NODE_RECORDED;
use agent_core::lineage::{Lineage, Process};
use thiserror::Error;

use super::image::ImageText;
use crate::kernel::{Kernel, proc_dir};

/// How long a node is kept after its process has ended or executed another image: the process's last
/// connections may still wait to be accepted.
pub const GRACE: Duration = Duration::from_secs(5);
/// Ancestors above one process; a process with a longer lineage is unattributable.
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
    /// This agent doesn't know the job.
    #[error("process {pid} belongs to a job that this agent does not know")]
    NoJob {
        /// The process.
        pid: u32,
    },
}

/// One process between two of its execs.
#[derive(Debug)]
pub struct Node {
    /// The job.
    pub job: u64,
    /// The node of the process that created this one; 0 for the job's root.
    pub parent: u64,
    /// Host PID.
    pub pid: u32,
    /// User id when the node was made.
    pub uid: u32,
    /// The image's id.
    pub image: u64,
    /// What the process runs.
    pub text: Arc<ImageText>,
    /// Working directory when the agent first read the node; empty if the process had ended. For people,
    /// never for decisions.
    pub cwd: String,
    /// Container id at the same moment; empty outside containers.
    pub container: String,
    /// Known nodes whose parent this is.
    children: u32,
    /// When the process ended or executed another image.
    ended: Option<Instant>,
    /// The trail holds this process.
    recorded: bool,
}

/// Every known node, by its id.
#[derive(Default)]
pub struct Nodes {
    nodes: HashMap<u64, Node>,
    /// Image → its text, and how many nodes run it.
    images: HashMap<u64, (Arc<ImageText>, u32)>,
    /// Job → how many nodes it has.
    jobs: HashMap<u64, usize>,
}

impl Nodes {
    /// A node, read from the maps if it isn't known yet. Its ancestors are read before it, so that each knows
    /// how many nodes descend from it.
    pub fn get(&mut self, kernel: &Kernel, node: u64) -> Option<&mut Node> {
        let mut unknown = Vec::new();
        let mut at = node;
        while at != 0 && !self.nodes.contains_key(&at) && unknown.len() <= DEPTH_MAX {
            let Some(read) = kernel.node(at) else { break };
            unknown.push(at);
            at = read.parent;
        }
        for ancestor in unknown.into_iter().rev() {
            self.read(kernel, ancestor)?;
        }
        self.nodes.get_mut(&node)
    }

    /// Reads one node from the maps.
    fn read(&mut self, kernel: &Kernel, node: u64) -> Option<()> {
        let read = kernel.node(node)?;
        let text = match self.images.get_mut(&read.image) {
            Some((text, users)) => {
                *users += 1;
                Arc::clone(text)
            }
            None => {
                let text = Arc::new(ImageText::of(&*kernel.image(read.image)?));
                self.images.insert(read.image, (Arc::clone(&text), 1));
                text
            }
        };
        if let Some(parent) = self.nodes.get_mut(&read.parent) {
            parent.children += 1;
        }
        let (cwd, container) = surroundings(read.tgid);
        *self.jobs.entry(read.job).or_default() += 1;
        self.nodes.insert(
            node,
            Node {
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

    /// Notes that a node's process has ended, or has another node since its exec.
    pub fn leave(&mut self, node: u64, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.ended.get_or_insert(now);
        }
    }

    /// Makes up for lost events: every node that no live process has is noted as ended, every other as live.
    pub fn reconcile(&mut self, live: &HashSet<u64>, now: Instant) {
        for (id, node) in &mut self.nodes {
            if live.contains(id) {
                // An earlier look at the maps may have missed its process.
                node.ended = None;
            } else {
                node.ended.get_or_insert(now);
            }
        }
    }

    /// Removes nodes, here and in the maps, that ended at least [`GRACE`] ago and that no known node descends
    /// from.
    pub fn prune(&mut self, kernel: &Kernel, now: Instant) {
        let is_over = |node: &Node| {
            node.children == 0
                && node.ended.is_some_and(|ended| now.saturating_duration_since(ended) >= GRACE)
        };
        let mut over: Vec<u64> =
            self.nodes.iter().filter(|(_, node)| is_over(node)).map(|(id, _)| *id).collect();
        // Job → how many of its nodes and images were removed.
        let mut removed: HashMap<u64, (u64, u64)> = HashMap::new();
        while let Some(id) = over.pop() {
            let Some(node) = self.nodes.remove(&id) else { continue };
            kernel.remove_node(id);
            let (nodes, images) = removed.entry(node.job).or_default();
            *nodes += 1;
            if let Some(parent) = self.nodes.get_mut(&node.parent) {
                parent.children = parent.children.saturating_sub(1);
                if is_over(parent) {
                    over.push(node.parent);
                }
            }
            if let Some((_, users)) = self.images.get_mut(&node.image) {
                *users -= 1;
                if *users == 0 {
                    self.images.remove(&node.image);
                    kernel.remove_image(node.image);
                    *images += 1;
                }
            }
        }
        for (job, (nodes, images)) in removed {
            kernel.give_back(job, nodes, images);
            if let Some(left) = self.jobs.get_mut(&job) {
                *left = left.saturating_sub(nodes as usize);
            }
        }
        self.jobs.retain(|_, nodes| *nodes > 0);
    }

    /// Whether a job has any node left.
    pub fn holds(&self, job: u64) -> bool {
        self.jobs.contains_key(&job)
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The chain of processes from the job's root to `node`, and the nodes of it that the trail doesn't hold
    /// yet, root first.
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
            let found = self.get(kernel, at).ok_or(Unattributable::Gap { pid, what: "a process" })?;
            if found.job != job {
                return Err(Unattributable::Gap { pid, what: "a process of this job" });
            }
            chain.push(at);
            at = found.parent;
        }
        chain.reverse();
        let ancestry: Vec<Process> = chain
            .iter()
            .filter_map(|id| self.nodes.get(id))
            .map(|node| Process { pid: node.pid, exe: node.text.exe.clone(), argv: node.text.argv.clone() })
            .collect();
        let (Some(process), Some(last)) = (ancestry.last().cloned(), self.nodes.get(&node)) else {
            return Err(Unattributable::Gap { pid, what: "the process itself" });
        };
        if last.text.exe.is_empty() {
            return Err(Unattributable::Gap { pid, what: "the executable" });
        }
        let (cwd, container) = (last.cwd.clone(), last.container.clone());
        let unrecorded = chain.into_iter().filter(|id| self.is_unrecorded(*id)).collect();
        Ok((Lineage { process, cwd, uid, container, ancestry }, unrecorded))
    }

    /// Whether a node is known and the trail doesn't hold it.
    pub fn is_unrecorded(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| !node.recorded)
    }

    /// Notes, here and in the maps, that the trail holds a node.
    pub fn mark_recorded(&mut self, kernel: &Kernel, node: u64) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.recorded = true;
            kernel.mark_recorded(node);
        }
    }

    /// A node, if it is known already.
    pub fn known(&self, node: u64) -> Option<&Node> {
        self.nodes.get(&node)
    }
}

/// Working directory and container of a process; empty where the process has ended.
fn surroundings(pid: u32) -> (String, String) {
    let cwd = fs::read_link(proc_dir(pid).join("cwd"))
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
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
}
