//! A host that lacks something lineal needs: `lineal doctor` and `lineal agent` name what is missing.

use std::{fs, process::Command};

use lineal_tests::{command::finish, paths};

use crate::shared::{lab, own_lab};

/// Runs a command without the capabilities to load eBPF programs.
const UNPRIVILEGED: [&str; 3] = ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-all"];
/// Runs a command without the capability to mount, to pin and to enter namespaces.
const UNMOUNTING: [&str; 3] = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"];
/// Runs a command as if the kernel had no BTF type information: an empty mount, which only the command sees,
/// hides it.
const WITHOUT_BTF: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\""];

/// A `lineal` command that a wrapper runs.
fn under(wrapper: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(paths::lineal().unwrap()).args(arguments);
    command
}

#[test]
fn doctor_finds_nothing_missing_here() {
    let findings = finish(&mut under(&["env"], &["doctor", "--json"])).unwrap().json().unwrap();
    assert!(findings.len() > 10, "{findings:?}");
    for finding in findings {
        assert_eq!(finding["ok"], true, "{finding}");
    }
}

#[test]
fn doctor_names_what_is_missing() {
    for (wrapper, named) in [
        (&UNPRIVILEGED[..], "CAP_BPF"),
        (&UNMOUNTING[..], "CAP_SYS_ADMIN"),
        (&WITHOUT_BTF[..], "CONFIG_DEBUG_INFO_BTF"),
    ] {
        let done = finish(&mut under(wrapper, &["doctor"])).unwrap();
        assert_eq!(done.code, Some(1), "{done:?}");
        let missing = done.stdout.lines().find(|line| line.starts_with("MISSING")).unwrap_or_default();
        assert!(missing.contains(named), "{done:?}");
    }
}

#[test]
fn an_agent_that_cannot_enforce_does_not_start() {
    let mut lab = own_lab();
    lab.take_agent().unwrap().stop().unwrap();
    let config = lab.agent_options().config();
    for (wrapper, named) in [(&UNPRIVILEGED[..], "CAP_BPF"), (&WITHOUT_BTF[..], "CONFIG_DEBUG_INFO_BTF")] {
        let mut agent = under(wrapper, &["agent", "--config", config.to_str().unwrap()]);
        let done = finish(&mut lab.inside(agent.env("LINEAL_LOG", "error"))).unwrap();
        assert_eq!(done.code, Some(125), "{done:?}");
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("lineal: ") && last.contains(named), "{done:?}");
    }
}

#[test]
fn an_unknown_field_of_the_configuration_is_refused_by_file_and_name() {
    let path = lab().directory().join("unknown.toml");
    fs::write(&path, "[limits]\nsessions_mx = 3\n").unwrap();
    let done = finish(&mut under(&["env"], &["agent", "--config", path.to_str().unwrap()])).unwrap();
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.stderr.contains("unknown.toml") && done.stderr.contains("sessions_mx"), "{done:?}");
}
