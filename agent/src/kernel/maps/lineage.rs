//! Lineage nodes, and the images that processes executed.

use agent_abi::{Image, NODE_RECORDED, Node};

use super::{
    super::error::KernelError,
    tables::{Kernel, locked},
};

impl Kernel {
    /// A lineage node.
    pub fn node(&self, id: u64) -> Option<Node> {
        locked(&self.nodes).get(&id, 0).ok()
    }

    /// Ids of every lineage node that the kernel side still holds.
    pub fn node_ids(&self) -> Vec<u64> {
        locked(&self.nodes).keys().filter_map(Result::ok).collect()
    }

    /// Adds a lineage node.
    pub fn add_node(&self, id: u64, node: Node) -> Result<(), KernelError> {
        locked(&self.nodes).insert(id, node, 0).map_err(KernelError::map("add to", "NODES"))
    }

    /// Notes in a node that the trail holds it, so that the next agent knows.
    pub fn mark_recorded(&self, id: u64) {
        let mut nodes = locked(&self.nodes);
        if let Ok(node) = nodes.get(&id, 0) {
            let _ = nodes.insert(id, Node { flags: node.flags | NODE_RECORDED, ..node }, 0);
        }
    }

    /// Removes a lineage node.
    pub fn remove_node(&self, id: u64) {
        let _ = locked(&self.nodes).remove(&id);
    }

    /// What was executed.
    pub fn image(&self, id: u64) -> Option<Box<Image>> {
        locked(&self.images).get(&id, 0).ok().map(Box::new)
    }

    /// Adds an image that a process ran before it was followed.
    pub fn add_image(&self, id: u64, image: &Image) -> Result<(), KernelError> {
        locked(&self.images).insert(id, image, 0).map_err(KernelError::map("add to", "IMAGES"))
    }

    /// Removes an image.
    pub fn remove_image(&self, id: u64) {
        let _ = locked(&self.images).remove(&id);
    }
}
