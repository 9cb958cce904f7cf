//! The kernel side, seen from user space: loads and attaches the eBPF programs and reads and writes
//! their maps. The only module that imports aya; everything above it speaks of tags, nodes and flows.

mod addresses;
mod btf;
mod events;
mod living;
mod load;
mod maps;
mod marks;
pub mod netns;
mod pins;
mod probe;
mod rules;
mod sys;

pub use addresses::{address_of, flow_key};
pub use events::EventStream;
pub use living::{executable, living};
pub use load::{KernelConfig, KernelError, load};
pub use maps::{Kernel, exists};
pub use pins::Pins;
pub use probe::probe;
pub use rules::{EnrolRule, Rules};
