//! Rules of enrolment, as the configuration has them and as the kernel side finds them.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use agent_abi::{
    FILE_NAME_BYTES, RULE_BY_CGROUP, RULE_BY_EXE, RULE_BY_UID, RULE_NAME_BYTES, RULE_PATH_BYTES, RULES_MAX,
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData},
};
use serde::Deserialize;
use thiserror::Error;

use super::{
    living::executable,
    load::{KernelError, cgroup_root},
};

/// `[[enrol]]` of the configuration: a process begins a job without a credential when it executes and this rule means it.
/// One of the four says which it means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRule {
    /// Its name, and that of its jobs.
    pub name: String,
    /// Processes of this user id; never root's.
    pub uid: Option<u32>,
    /// Processes in this systemd unit: in a cgroup of this name, or below.
    pub unit: Option<String>,
    /// Processes in this cgroup, as `/proc/PID/cgroup` has it, or below.
    pub cgroup: Option<PathBuf>,
    /// This executable.
    pub exe: Option<PathBuf>,
}

/// A rule isn't one.
#[derive(Debug, Error)]
#[error("[[enrol]] \"{rule}\": {reason}")]
pub struct RuleError {
    rule: String,
    reason: String,
}

/// Whom a rule means.
enum Means {
    User(u32),
    Unit(String),
    Cgroup(PathBuf),
    Executable(PathBuf),
}

/// All rules, checked.
#[derive(Default)]
pub struct Rules(Vec<(String, Means)>);

impl Rules {
    /// Checks the configuration's rules.
    pub fn new(rules: &[EnrolRule]) -> Result<Self, RuleError> {
        let mut checked: Vec<(String, Means)> = Vec::new();
        for rule in rules {
            let refuse = |reason: String| RuleError { rule: rule.name.clone(), reason };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if rule.name.is_empty() || rule.name.len() >= RULE_NAME_BYTES || !rule.name.chars().all(plain) {
                let most = RULE_NAME_BYTES - 1;
                return Err(refuse(format!("its name must be 1 to {most} letters, digits, '-', '_' or '.'")));
            }
            if checked.iter().any(|(name, _)| *name == rule.name) {
                return Err(refuse("another rule has this name".to_owned()));
            }
            if checked.len() >= RULES_MAX as usize {
                return Err(refuse(format!("it is one of more than {RULES_MAX}")));
            }
            checked.push((rule.name.clone(), means(rule).map_err(refuse)?));
        }
        Ok(Self(checked))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds there are, for the programs that look for them.
    pub(super) fn kinds(&self) -> u32 {
        let kind = |(_, means): &(String, Means)| match means {
            Means::User(_) => RULE_BY_UID,
            Means::Unit(_) | Means::Cgroup(_) => RULE_BY_CGROUP,
            Means::Executable(_) => RULE_BY_EXE,
        };
        self.0.iter().map(kind).fold(0, |kinds, kind| kinds | kind)
    }

    /// Writes the rules into the maps: before the programs run.
    pub(super) fn fill(&self, ebpf: &mut Ebpf) -> Result<(), KernelError> {
        for (index, (name, means)) in (0u32..).zip(&self.0) {
            let map = ebpf.map_mut("RULES").ok_or(KernelError::Missing("RULES"))?;
            let mut names: Array<&mut MapData, [u8; RULE_NAME_BYTES]> =
                Array::try_from(map).map_err(|error| failed("RULES", &error))?;
            names.set(index, padded(name.as_bytes()), 0).map_err(|error| failed("RULES", &error))?;
            match means {
                Means::User(uid) => insert(ebpf, "UIDS", *uid, index)?,
                Means::Unit(unit) => {
                    insert(ebpf, "UNITS", padded::<FILE_NAME_BYTES>(unit.as_bytes()), index)?;
                }
                Means::Cgroup(path) => {
                    let path = path.as_os_str().as_bytes();
                    insert(ebpf, "PATHS", padded::<RULE_PATH_BYTES>(path), index)?;
                }
                Means::Executable(path) => {
                    let leaf = path.file_name().unwrap_or_default().as_bytes();
                    insert(ebpf, "FILE_NAMES", padded::<FILE_NAME_BYTES>(leaf), index)?;
                    insert(ebpf, "EXES", padded::<RULE_PATH_BYTES>(&leaf_first(path)), index)?;
                }
            }
        }
        Ok(())
    }

    /// Tells the cgroups that are there already apart: once the programs see to those that come.
    pub(super) fn fill_cgroups(&self, ebpf: &mut Ebpf) -> Result<(), KernelError> {
        if self.kinds() & RULE_BY_CGROUP == 0 {
            return Ok(());
        }
        let root = cgroup_root()?;
        let mut unseen = vec![(root.clone(), None)];
        while let Some((dir, inherited)) = unseen.pop() {
            let path = Path::new("/").join(dir.strip_prefix(&root).unwrap_or(&dir));
            let rule = inherited.or_else(|| self.of_cgroup(&path));
            if let (Some(rule), Ok(metadata)) = (rule, fs::metadata(&dir)) {
                insert(ebpf, "CGROUPS", metadata.ino(), rule)?;
            }
            // One that has gone has nothing below it.
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    unseen.push((entry.path(), rule));
                }
            }
        }
        Ok(())
    }

    /// The rule of a cgroup by its own name or path.
    fn of_cgroup(&self, path: &Path) -> Option<u32> {
        let meant = |(_, means): &(String, Means)| match means {
            Means::Unit(unit) => path.file_name().is_some_and(|name| name.as_bytes() == unit.as_bytes()),
            Means::Cgroup(cgroup) => cgroup == path,
            Means::User(_) | Means::Executable(_) => false,
        };
        self.0.iter().position(meant).map(|index| index as u32)
    }

    /// The name of the rule that means a process that runs, as it would have meant it when it executed.
    pub fn of_process(&self, pid: u32, uid: u32) -> Option<&str> {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
        let meant = |(_, means): &&(String, Means)| match means {
            Means::User(user) => *user == uid,
            Means::Unit(unit) => {
                cgroup.is_some_and(|path| path.iter().any(|part| part.as_bytes() == unit.as_bytes()))
            }
            Means::Cgroup(above) => cgroup.is_some_and(|path| path.starts_with(above)),
            Means::Executable(path) => executable(pid).is_ok_and(|exe| exe == *path),
        };
        self.0.iter().find(meant).map(|(name, _)| &**name)
    }
}

fn means(rule: &EnrolRule) -> Result<Means, String> {
    let EnrolRule { name, uid, unit, cgroup, exe } = rule;
    match (uid, unit, cgroup, exe) {
        (Some(0), None, None, None) => Err("uid 0 would follow the host itself".to_owned()),
        (Some(uid), None, None, None) => Ok(Means::User(*uid)),
        (None, Some(unit), None, None) => {
            if unit.is_empty() || unit.len() >= FILE_NAME_BYTES || unit.contains('/') {
                return Err(format!("unit \"{unit}\" must be a unit's name, e.g. \"gitlab-runner.service\""));
            }
            Ok(Means::Unit(unit.clone()))
        }
        (None, None, Some(cgroup), None) => {
            if !cgroup.is_absolute()
                || cgroup == Path::new("/")
                || cgroup.as_os_str().len() >= RULE_PATH_BYTES
            {
                let shown = cgroup.display();
                return Err(format!("cgroup \"{shown}\" must be a path below the root, e.g. \"/ci.slice\""));
            }
            Ok(Means::Cgroup(cgroup.components().collect()))
        }
        (None, None, None, Some(exe)) => {
            if !exe.is_absolute() {
                return Err(format!("exe \"{}\" must be an absolute path", exe.display()));
            }
            // The kernel side sees what a link leads to. One that is not there yet may come.
            let exe = exe.canonicalize().unwrap_or_else(|error| {
                tracing::warn!(%error, rule = name, exe = %exe.display(), "the executable of a rule is not there");
                exe.clone()
            });
            let leaf = exe.file_name().map_or(0, |name| name.len());
            if leaf >= FILE_NAME_BYTES || leaf_first(&exe).len() >= RULE_PATH_BYTES {
                return Err(format!("exe \"{}\" has too long a path", exe.display()));
            }
            Ok(Means::Executable(exe))
        }
        _ => Err("it needs exactly one of uid, unit, cgroup and exe".to_owned()),
    }
}

/// A path as the kernel side walks it: its components, leaf first, each ended by NUL.
fn leaf_first(path: &Path) -> Vec<u8> {
    let mut components: Vec<&[u8]> =
        path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    components.reverse();
    components.into_iter().flat_map(|part| part.iter().copied().chain([0])).collect()
}

/// What fits, the rest zero.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    padded
}

fn insert<K: Pod>(ebpf: &mut Ebpf, name: &'static str, key: K, rule: u32) -> Result<(), KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
    let mut map: HashMap<&mut MapData, K, u32> =
        HashMap::try_from(map).map_err(|error| failed(name, &error))?;
    map.insert(key, rule, 0).map_err(|error| failed(name, &error))
}

fn failed(map: &'static str, error: &dyn std::error::Error) -> KernelError {
    KernelError::Map { action: "add to", map, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        #[derive(Deserialize)]
        struct File {
            enrol: Vec<EnrolRule>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Rules::new(&file.enrol).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_means_one_thing() {
        for (text, told) in [
            ("name = \"a\"", "exactly one of"),
            ("name = \"a\"\nuid = 5\nunit = \"b.service\"", "exactly one of"),
            ("name = \"a\"\nuid = 0", "the host itself"),
            ("name = \"a b\"\nuid = 5", "its name must be"),
            ("name = \"a\"\nunit = \"system.slice/b\"", "must be a unit's name"),
            ("name = \"a\"\ncgroup = \"/\"", "must be a path below the root"),
            ("name = \"a\"\ncgroup = \"ci.slice\"", "must be a path below the root"),
            ("name = \"a\"\nexe = \"runner\"", "must be an absolute path"),
            ("name = \"a\"\nuser = \"x\"", "unknown field"),
            ("name = \"a\"\nuid = 5\n[[enrol]]\nname = \"a\"\nuid = 6", "another rule has this name"),
        ] {
            let refused = rules(&format!("[[enrol]]\n{text}")).err().unwrap_or_default();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        let kinds = |text: &str| rules(&format!("[[enrol]]\nname = \"a\"\n{text}")).unwrap().kinds();
        assert_eq!(kinds("uid = 998"), RULE_BY_UID);
        assert_eq!(kinds("unit = \"gitlab-runner.service\""), RULE_BY_CGROUP);
        assert_eq!(kinds("cgroup = \"/ci.slice/\""), RULE_BY_CGROUP);
        assert_eq!(kinds("exe = \"/bin/sh\""), RULE_BY_EXE);
    }

    #[test]
    fn there_are_as_many_rules_as_there_is_room_for() {
        let many = |count: u32| -> String {
            (1..=count).map(|uid| format!("[[enrol]]\nname = \"r{uid}\"\nuid = {uid}\n")).collect()
        };
        assert!(rules(&many(RULES_MAX)).is_ok());
        let refused = rules(&many(RULES_MAX + 1)).err().unwrap_or_default();
        assert_eq!(refused, "[[enrol]] \"r65\": it is one of more than 64");
    }

    #[test]
    fn a_process_that_runs_is_meant_as_when_it_executed() {
        let own = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let by = |text: &str| rules(&format!("[[enrol]]\nname = \"a\"\n{text}")).unwrap();
        assert_eq!(by("uid = 7").of_process(own, 7), Some("a"));
        assert_eq!(by("uid = 7").of_process(own, 8), None);
        assert_eq!(by(&format!("exe = {exe:?}")).of_process(own, 0), Some("a"));
        assert_eq!(by("unit = \"no-such.service\"").of_process(own, 0), None);
    }

    #[test]
    fn a_path_reads_as_the_kernel_side_walks_it() {
        assert_eq!(leaf_first(Path::new("/usr/bin/x")), b"x\0bin\0usr\0");
    }
}
