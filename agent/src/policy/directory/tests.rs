//! Which files of a policy directory are read, and which are refused.

use std::os::unix::fs::symlink;

use super::*;

/// A policy directory with these files, and an empty `default/` if none is in it.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("default")).unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The names of the files that are read on the host `ci-7`.
fn names(dir: &tempfile::TempDir) -> Result<Vec<String>, String> {
    let sources = read(dir.path(), "ci-7").map_err(|error| error.to_string())?;
    let inside = |source: Source| {
        Path::new(&source.path).strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned()
    };
    Ok(sources.into_iter().map(inside).collect())
}

fn refused_for(dir: &tempfile::TempDir, reason: &str) {
    let error = names(dir).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn files_are_sorted_and_the_host_s_own_come_last() {
    let dir = directory(&[
        ("hosts/ci-7/a.cedar", ""),
        ("hosts/other/z.cedar", ""),
        ("default/b.cedar", ""),
        ("default/a/z.cedar", ""),
        ("default/upstreams.toml", ""),
        ("default/README.md", ""),
        ("default/.b.cedar.swp", ""),
        ("default/.hidden.cedar", ""),
        ("notes.md", ""),
    ]);
    let expect = ["default/a/z.cedar", "default/b.cedar", "default/upstreams.toml", "hosts/ci-7/a.cedar"];
    assert_eq!(names(&dir).unwrap(), expect);
}

#[test]
fn a_directory_without_default_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    refused_for(&dir, "default: No such file");
}

#[test]
fn a_policy_that_no_host_would_read_is_refused() {
    for name in ["freeze.cedar", "hosts/freeze.cedar", "upstreams.toml"] {
        refused_for(&directory(&[(name, "")]), "no host would read it");
    }
}

#[test]
fn files_mounted_as_kubernetes_mounts_them_are_read() {
    let dir = directory(&[("default/..2026_01/a.cedar", "")]);
    let inside = dir.path().join("default");
    symlink("..2026_01", inside.join("..data")).unwrap();
    symlink("..data/a.cedar", inside.join("a.cedar")).unwrap();
    assert_eq!(names(&dir).unwrap(), ["default/a.cedar"]);
}

#[test]
fn loops_and_links_to_directories_are_refused() {
    let dir = directory(&[]);
    symlink("loop.cedar", dir.path().join("default/loop.cedar")).unwrap();
    refused_for(&dir, "symbolic links");
    let dir = directory(&[]);
    symlink("../default", dir.path().join("default/again")).unwrap();
    refused_for(&dir, "links to a directory");
    let dir = directory(&[("default/1/2/3/4/5/a.cedar", "")]);
    refused_for(&dir, "directories deep");
}

#[test]
fn files_that_are_too_large_or_not_text_are_refused() {
    let at_bound = " ".repeat(FILE_BYTES_MAX as usize);
    assert!(names(&directory(&[("default/a.cedar", &at_bound)])).is_ok());
    refused_for(&directory(&[("default/a.cedar", &format!("{at_bound} "))]), "larger than");
    let dir = directory(&[]);
    fs::write(dir.path().join("default/a.cedar"), [0xff]).unwrap();
    refused_for(&dir, "UTF-8");
    let dir = directory(&[("default/a.cedar/b.cedar", "")]);
    assert_eq!(names(&dir).unwrap(), ["default/a.cedar/b.cedar"]);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let dir = directory(&[]);
    let path = dir.path().join("default/a.cedar");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    refused_for(&dir, "is not a regular file");
}

#[test]
fn files_and_directories_that_everyone_may_write_are_refused() {
    for name in ["default/a.cedar", "default", "hosts", ""] {
        let dir = directory(&[("default/a.cedar", ""), ("hosts/ci-7/a.cedar", "")]);
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o777)).unwrap();
        refused_for(&dir, "everyone may write");
    }
}

#[test]
fn a_hostname_cannot_leave_the_directory() {
    let dir = directory(&[]);
    for hostname in ["", ".", "..", "../x", "a/b", "a\0"] {
        assert!(matches!(read(dir.path(), hostname), Err(DirectoryError::Hostname(_))), "{hostname:?}");
    }
}
