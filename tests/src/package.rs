//! Builds the agent's Debian package from the sources and a binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{command::finish, paths};

/// The package's files beside the binary: the source, the path in the package, and whether it is executable.
const FILES: [(&str, &str, bool); 8] = [
    ("deploy/lineal.service", "usr/lib/systemd/system/lineal.service", false),
    ("deploy/agent.toml", "etc/lineal/agent.toml", false),
    ("policies/default", "etc/lineal/policies/default", false),
    ("docs", "usr/share/doc/lineal", false),
    ("README.md", "usr/share/doc/lineal/README.md", false),
    ("LICENSE", "usr/share/doc/lineal/copyright", false),
    ("deploy/debian/postinst", "DEBIAN/postinst", true),
    ("deploy/debian/prerm", "DEBIAN/prerm", true),
];

/// Builds the package of `binary` in a directory, and returns the package's path.
pub fn build(binary: &Path, into: &Path) -> anyhow::Result<PathBuf> {
    let root = into.join("package");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    put(binary, &root.join("usr/bin/lineal"), true)?;
    for (from, to, executed) in FILES {
        put(&paths::repository().join(from), &root.join(to), executed)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let architecture = finish(Command::new("dpkg").arg("--print-architecture"))?.success()?;
    let architecture = architecture.trim();
    let control = format!(
        "Package: lineal\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: the lineal authors\n\
         Depends: libc6 (>= 2.36), libgcc-s1\nSection: admin\nPriority: optional\n\
         Description: holds CI jobs to policy\n \
         Follows each job's processes in the kernel, attributes what crosses their connections to the\n \
         credential that started the job, and allows, denies and records it.\n"
    );
    fs::write(root.join("DEBIAN/control"), control)?;
    fs::write(root.join("DEBIAN/conffiles"), configuration(&root)?)?;
    let package = into.join(format!("lineal_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).arg(&root).arg(&package);
    finish(&mut build)?.success()?;
    fs::remove_dir_all(root)?;
    Ok(package)
}

/// The paths of all files under /etc, a line each: dpkg keeps an administrator's changes to them.
fn configuration(root: &Path) -> anyhow::Result<String> {
    let mut found = Vec::new();
    let mut unseen = vec![root.join("etc")];
    while let Some(dir) = unseen.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                unseen.push(path);
            } else {
                found.push(format!("/{}\n", path.strip_prefix(root)?.display()));
            }
        }
    }
    found.sort();
    Ok(found.concat())
}

/// Copies a file, or a directory with what is in it.
fn put(from: &Path, to: &Path, executed: bool) -> anyhow::Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            put(&entry.path(), &to.join(entry.file_name()), executed)?;
        }
        return Ok(());
    }
    let above = to.parent().with_context(|| format!("{} has no directory", to.display()))?;
    fs::create_dir_all(above)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    let mode = if executed { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}
