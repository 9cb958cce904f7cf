//! Enrolment rules: checks those of the configuration, writes them into the maps for the kernel side, and
//! matches processes that ran before the programs were attached.

use std::{
    ffi::OsStr,
    fs, io,
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

use super::{cgroups::cgroup_root, error::KernelError, process::executable};

/// `[[enrol]]` of the configuration: a process that this rule matches when it executes a file begins a job
/// without a credential. Exactly one of `uid`, `unit`, `cgroup` and `exe` says what the rule matches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRule {
    /// Its name, and the name of the jobs that it begins.
    pub name: String,
    /// Processes of this user id; never root's.
    pub uid: Option<u32>,
    /// Processes in this systemd unit: in a cgroup of this name, or in one below it.
    pub unit: Option<String>,
    /// Processes in this cgroup, given as in `/proc/PID/cgroup`, or in one below it.
    pub cgroup: Option<PathBuf>,
    /// Processes that run this file.
    pub exe: Option<PathBuf>,
}

/// A rule of the configuration can't be used.
#[derive(Debug, Error)]
#[error("[[enrol]] \"{rule}\": {reason}")]
pub struct RuleError {
    rule: String,
    reason: String,
}

/// What a rule matches.
enum Matcher {
    User(u32),
    Unit(String),
    Cgroup(PathBuf),
    Executable(PathBuf),
}

/// All rules, checked. A rule's position in the list is its index in the maps.
#[derive(Default)]
pub struct Rules(Vec<(String, Matcher)>);

impl Rules {
    /// Checks the configuration's rules.
    pub fn new(rules: &[EnrolRule]) -> Result<Self, RuleError> {
        let mut checked: Vec<(String, Matcher)> = Vec::new();
        for rule in rules {
            let refuse = |reason: String| RuleError { rule: rule.name.clone(), reason };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if rule.name.is_empty() || rule.name.len() >= RULE_NAME_BYTES || !rule.name.chars().all(plain) {
                let most = RULE_NAME_BYTES - 1;
                return Err(refuse(format!("its name must be 1 to {most} letters, digits, '-', '_' or '.'")));
            }
            if checked.iter().any(|(name, _)| *name == rule.name) {
                return Err(refuse("another rule has this name: each needs its own".to_owned()));
            }
            if checked.len() >= RULES_MAX as usize {
                return Err(refuse(format!("there are more than {RULES_MAX} rules")));
            }
            checked.push((rule.name.clone(), matcher(rule).map_err(refuse)?));
        }
        Ok(Self(checked))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds of rules there are, as bits `RULE_BY_…`.
    pub(super) fn kinds(&self) -> u32 {
        let kind = |(_, matcher): &(String, Matcher)| match matcher {
            Matcher::User(_) => RULE_BY_UID,
            Matcher::Unit(_) | Matcher::Cgroup(_) => RULE_BY_CGROUP,
            Matcher::Executable(_) => RULE_BY_EXE,
        };
        self.0.iter().map(kind).fold(0, |kinds, kind| kinds | kind)
    }

    /// Writes the rules into the maps, before the programs are attached.
    pub(super) fn fill(&self, ebpf: &mut Ebpf) -> Result<(), KernelError> {
        for (index, (name, matcher)) in (0u32..).zip(&self.0) {
            let map = ebpf.map_mut("RULES").ok_or(KernelError::Missing("RULES"))?;
            let mut names: Array<&mut MapData, [u8; RULE_NAME_BYTES]> =
                Array::try_from(map).map_err(KernelError::map("add to", "RULES"))?;
            names.set(index, padded(name.as_bytes()), 0).map_err(KernelError::map("add to", "RULES"))?;
            match matcher {
                Matcher::User(uid) => insert(ebpf, "UIDS", *uid, index)?,
                Matcher::Unit(unit) => {
                    insert(ebpf, "UNITS", padded::<FILE_NAME_BYTES>(unit.as_bytes()), index)?;
                }
                Matcher::Cgroup(path) => {
                    let path = path.as_os_str().as_bytes();
                    insert(ebpf, "PATHS", padded::<RULE_PATH_BYTES>(path), index)?;
                }
                Matcher::Executable(path) => {
                    let leaf = path.file_name().unwrap_or_default().as_bytes();
                    insert(ebpf, "FILE_NAMES", padded::<FILE_NAME_BYTES>(leaf), index)?;
                    insert(ebpf, "EXES", padded::<RULE_PATH_BYTES>(&leaf_first(path)), index)?;
                }
            }
        }
        Ok(())
    }

    /// Matches the cgroups that exist already, once the programs match new ones.
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
            // A cgroup that was removed meanwhile has nothing below it.
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    unseen.push((entry.path(), rule));
                }
            }
        }
        Ok(())
    }

    /// The rule that names a cgroup, or its path.
    fn of_cgroup(&self, path: &Path) -> Option<u32> {
        let matching = |(_, matcher): &(String, Matcher)| match matcher {
            Matcher::Unit(unit) => path.file_name().is_some_and(|name| name.as_bytes() == unit.as_bytes()),
            Matcher::Cgroup(cgroup) => cgroup == path,
            Matcher::User(_) | Matcher::Executable(_) => false,
        };
        self.0.iter().position(matching).map(|index| index as u32)
    }

    /// The name of the rule that matches a process which runs already, as if it executed its file now.
    ///
    /// # Errors
    /// The process has ended; or it can't be read, as when descriptors run out, and no rule can be ruled out.
    pub fn of_process(&self, pid: u32, uid: u32) -> io::Result<Option<&str>> {
        // The names of cgroups need not be UTF-8.
        let cgroups = fs::read(format!("/proc/{pid}/cgroup"))?;
        let cgroup = cgroups.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
        let cgroup = cgroup.map(|path| Path::new(OsStr::from_bytes(path)));
        for (name, matcher) in &self.0 {
            let matches = match matcher {
                Matcher::User(user) => *user == uid,
                Matcher::Unit(unit) => {
                    cgroup.is_some_and(|path| path.iter().any(|part| part.as_bytes() == unit.as_bytes()))
                }
                Matcher::Cgroup(above) => cgroup.is_some_and(|path| path.starts_with(above)),
                Matcher::Executable(path) => match executable(pid) {
                    Ok(exe) => exe == *path,
                    Err(error) if is_shortage(&error) => return Err(error),
                    // A kernel thread has none, and some hosts hide that of a few processes even from root.
                    Err(_) => false,
                },
            };
            if matches {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// Whether an error says that the agent, or the host, has run out of something.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// What a rule of the configuration matches, or why it can't be used.
fn matcher(rule: &EnrolRule) -> Result<Matcher, String> {
    let EnrolRule { name, uid, unit, cgroup, exe } = rule;
    match (uid, unit, cgroup, exe) {
        (Some(0), None, None, None) => {
            Err("uid 0 would follow the host itself: name the user that runs the jobs".to_owned())
        }
        (Some(uid), None, None, None) => Ok(Matcher::User(*uid)),
        (None, Some(unit), None, None) => {
            if unit.is_empty() || unit.len() >= FILE_NAME_BYTES || unit.contains('/') {
                return Err(format!("unit \"{unit}\" must be a unit's name, e.g. \"gitlab-runner.service\""));
            }
            Ok(Matcher::Unit(unit.clone()))
        }
        (None, None, Some(cgroup), None) => {
            if !cgroup.is_absolute()
                || cgroup == Path::new("/")
                || cgroup.as_os_str().len() >= RULE_PATH_BYTES
            {
                let shown = cgroup.display();
                return Err(format!("cgroup \"{shown}\" must be a path below the root, e.g. \"/ci.slice\""));
            }
            Ok(Matcher::Cgroup(cgroup.components().collect()))
        }
        (None, None, None, Some(exe)) => {
            if !exe.is_absolute() {
                return Err(format!("exe \"{}\" must be an absolute path", exe.display()));
            }
            // The kernel side sees the file that a symbolic link leads to. A file that is missing may be
            // installed later.
            let exe = exe.canonicalize().unwrap_or_else(|error| {
                let path = exe.display();
                tracing::warn!(%error, rule = name, exe = %path, "the executable of a rule does not exist");
                exe.clone()
            });
            let leaf = exe.file_name().map_or(0, |name| name.len());
            if leaf >= FILE_NAME_BYTES || leaf_first(&exe).len() >= RULE_PATH_BYTES {
                return Err(format!(
                    "exe \"{}\" is too long: its file name must be shorter than {FILE_NAME_BYTES} bytes, \
                     its path shorter than {RULE_PATH_BYTES}",
                    exe.display()
                ));
            }
            Ok(Matcher::Executable(exe))
        }
        _ => Err("it needs exactly one of uid, unit, cgroup and exe".to_owned()),
    }
}

/// A path as the kernel side records it: its components, leaf first, each ended by NUL.
fn leaf_first(path: &Path) -> Vec<u8> {
    let mut components: Vec<&[u8]> =
        path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    components.reverse();
    components.into_iter().flat_map(|part| part.iter().copied().chain([0])).collect()
}

/// As many bytes as fit, zeros after them.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    padded
}

/// Adds a rule under a key to one of the maps that find rules.
fn insert<K: Pod>(ebpf: &mut Ebpf, name: &'static str, key: K, rule: u32) -> Result<(), KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
    let mut map: HashMap<&mut MapData, K, u32> =
        HashMap::try_from(map).map_err(KernelError::map("add to", name))?;
    map.insert(key, rule, 0).map_err(KernelError::map("add to", name))
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
    fn a_rule_matches_exactly_one_kind_of_thing() {
        for (text, reason) in [
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
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let kinds = |text: &str| rules(&format!("[[enrol]]\nname = \"a\"\n{text}")).unwrap().kinds();
        assert_eq!(kinds("uid = 998"), RULE_BY_UID);
        assert_eq!(kinds("unit = \"gitlab-runner.service\""), RULE_BY_CGROUP);
        assert_eq!(kinds("cgroup = \"/ci.slice/\""), RULE_BY_CGROUP);
        assert_eq!(kinds("exe = \"/bin/sh\""), RULE_BY_EXE);
    }

    #[test]
    fn more_rules_than_the_maps_have_room_for_are_refused() {
        let many = |count: u32| -> String {
            (1..=count).map(|uid| format!("[[enrol]]\nname = \"r{uid}\"\nuid = {uid}\n")).collect()
        };
        assert!(rules(&many(RULES_MAX)).is_ok());
        let refused = rules(&many(RULES_MAX + 1)).err().unwrap_or_default();
        assert_eq!(refused, "[[enrol]] \"r65\": there are more than 64 rules");
    }

    #[test]
    fn a_running_process_is_matched_as_if_it_executed_now() {
        let own = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let by = |text: &str| rules(&format!("[[enrol]]\nname = \"a\"\n{text}")).unwrap();
        assert_eq!(by("uid = 7").of_process(own, 7).unwrap(), Some("a"));
        assert_eq!(by("uid = 7").of_process(own, 8).unwrap(), None);
        assert_eq!(by(&format!("exe = {exe:?}")).of_process(own, 0).unwrap(), Some("a"));
        assert_eq!(by("unit = \"no-such.service\"").of_process(own, 0).unwrap(), None);
    }

    #[test]
    fn a_path_is_written_as_the_kernel_side_records_it() {
        assert_eq!(leaf_first(Path::new("/usr/bin/x")), b"x\0bin\0usr\0");
    }
}
