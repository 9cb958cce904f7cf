//! Finds the byte offsets of fields in the running kernel's structures, from the kernel's own type
//! information (BTF).
//!
//! aya and rustc emit no CO-RE relocations, so the loader looks the offsets up and passes them to the
//! programs as read-only data. A field that isn't found is an error, never a guess. The format:
//! Documentation/bpf/btf.rst of the kernel.

use std::{collections::HashMap, path::Path};

use thiserror::Error;

/// Why the kernel's type information can't be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file can't be read; it is missing where the kernel was built without `CONFIG_DEBUG_INFO_BTF`.
    #[error(
        "cannot read the kernel's type information, {path}: {source}; \
         lineal needs a kernel built with CONFIG_DEBUG_INFO_BTF"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file doesn't have the format that btf.rst describes.
    #[error(
        "the kernel's type information is malformed at byte {0}: \
         this version of lineal does not know this kernel"
    )]
    Malformed(usize),
    /// A field that the programs read doesn't exist in this kernel.
    #[error(
        "this kernel's struct {structure} has no field {field}, which lineal reads: \
         lineal needs Linux 6.1 or later, and this version of lineal does not know this kernel"
    )]
    NoField {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// One member of a structure: its name, its type and where it starts.
#[derive(Clone, Copy)]
struct Member {
    name: u32,
    type_id: u32,
    offset_bits: u32,
}

/// The structures of the running kernel.
pub struct Structures {
    strings: Vec<u8>,
    /// Structures and unions by type id; anonymous ones are reached through their parents.
    members: HashMap<u32, Vec<Member>>,
    /// `const`, `volatile`, `typedef`… by type id → the type that they stand for.
    aliases: HashMap<u32, u32>,
    /// Name of a structure → its type id.
    named: HashMap<Vec<u8>, u32>,
}

const MAGIC: u16 = 0xeb9f;
/// Anonymous structures inside one another.
const NESTING_MAX: u32 = 16;

/// `BTF_KIND_…` of linux/btf.h.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

impl Structures {
    /// Reads `/sys/kernel/btf/vmlinux`.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = std::fs::read(path)
            .map_err(|source| BtfError::Unreadable { path: path.display().to_string(), source })?;
        Self::parse(&bytes)
    }

    /// Parses a BTF blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let at = |offset: usize| word(bytes, offset);
        if bytes.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes) != Some(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let header = at(4)? as usize;
        let (types, types_len) = (header + at(8)? as usize, at(12)? as usize);
        let (strings, strings_len) = (header + at(16)? as usize, at(20)? as usize);
        let strings = bytes.get(strings..strings + strings_len).ok_or(BtfError::Malformed(16))?.to_vec();
        let mut parsed =
            Self { strings, members: HashMap::new(), aliases: HashMap::new(), named: HashMap::new() };
        let mut offset = types;
        let mut id = 0u32;
        while offset < types + types_len {
            id += 1;
            let (name, info, target) = (at(offset)?, at(offset + 4)?, at(offset + 8)?);
            let (count, kind, bitfields) = ((info & 0xffff) as usize, (info >> 24) & 0x1f, info >> 31 == 1);
            let body = offset + 12;
            offset = body + body_bytes(kind, count).ok_or(BtfError::Malformed(body))?;
            match kind {
                kind::STRUCT | kind::UNION => {
                    parsed.members.insert(id, members(bytes, body, count, bitfields)?);
                    if kind == kind::STRUCT && name != 0 {
                        let name = parsed.string(name).to_vec();
                        parsed.named.entry(name).or_insert(id);
                    }
                }
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    parsed.aliases.insert(id, target);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Byte offset of `field` in `structure`. Fields of anonymous members count as the structure's own.
    pub fn offset(&self, structure: &'static str, field: &'static str) -> Result<u32, BtfError> {
        self.named
            .get(structure.as_bytes())
            .and_then(|id| self.find(*id, field.as_bytes(), 0))
            .map(|bits| bits / 8)
            .ok_or(BtfError::NoField { structure, field })
    }

    /// Bit offset of a field in the structure of this type id.
    fn find(&self, id: u32, field: &[u8], depth: u32) -> Option<u32> {
        let mut id = id;
        while let Some(target) = self.aliases.get(&id) {
            id = *target;
        }
        let members = self.members.get(&id).filter(|_| depth < NESTING_MAX)?;
        members.iter().find_map(|member| match self.string(member.name) {
            name if name == field => Some(member.offset_bits),
            [] => self.find(member.type_id, field, depth + 1).map(|bits| bits + member.offset_bits),
            _ => None,
        })
    }

    /// The string at an offset of the string section.
    fn string(&self, offset: u32) -> &[u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow the 12 of a type's head; `None` for a kind that btf.rst doesn't list.
fn body_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::PTR | kind::FWD | kind::FUNC | kind::FLOAT => 0,
        kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => 0,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
        kind::ENUM | kind::FUNC_PROTO => 8 * count,
        _ => return None,
    })
}

/// The members of a structure or union, whose list begins at `body`.
fn members(bytes: &[u8], body: usize, count: usize, bitfields: bool) -> Result<Vec<Member>, BtfError> {
    (0..count)
        .map(|index| {
            let member = body + 12 * index;
            let raw = word(bytes, member + 8)?;
            let offset_bits = if bitfields { raw & 0x00ff_ffff } else { raw };
            Ok(Member { name: word(bytes, member)?, type_id: word(bytes, member + 4)?, offset_bits })
        })
        .collect()
}

/// The 32-bit word at a byte offset.
fn word(bytes: &[u8], offset: usize) -> Result<u32, BtfError> {
    bytes
        .get(offset..offset + 4)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_ne_bytes)
        .ok_or(BtfError::Malformed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_offsets_are_plausible() {
        let kernel = Structures::of_running_kernel().unwrap();
        let pid = kernel.offset("task_struct", "pid").unwrap();
        assert_eq!(kernel.offset("task_struct", "tgid").unwrap(), pid + 4, "pid and tgid are neighbours");
        assert_eq!(kernel.offset("path", "mnt").unwrap(), 0);
        assert_eq!(kernel.offset("path", "dentry").unwrap(), 8);
    }

    #[test]
    fn a_field_inside_an_anonymous_struct_is_found() {
        let kernel = Structures::of_running_kernel().unwrap();
        let start = kernel.offset("mm_struct", "arg_start").unwrap();
        assert_eq!(kernel.offset("mm_struct", "arg_end").unwrap(), start + 8);
    }

    #[test]
    fn a_missing_field_is_an_error_that_names_it() {
        let kernel = Structures::of_running_kernel().unwrap();
        let error = kernel.offset("task_struct", "no_such_field").unwrap_err().to_string();
        assert!(error.contains("task_struct") && error.contains("no_such_field"), "{error}");
    }

    #[test]
    fn truncated_type_information_is_refused_at_every_length() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        for len in (0..4096).step_by(7) {
            assert!(Structures::parse(&bytes[..len]).is_err(), "{len} bytes were accepted");
        }
    }
}
