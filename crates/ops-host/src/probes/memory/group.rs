//! The limits of the control groups that ops runs in.

use std::path::{Component, Path, PathBuf};

use ops_core::{Error, ErrorKind, Result};

use crate::machine::Machine;

/// A control group that has a limit, and what its processes use of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// Its path in the mount that shows it.
    pub(super) name: String,
    pub(super) limit: f64,
    pub(super) used: Option<f64>,
    /// Cache that the kernel drops before it kills anybody.
    pub(super) droppable: f64,
}

impl Group {
    /// What can be had before somebody is killed.
    pub(super) fn left(&self) -> Option<f64> {
        self.used.map(|used| (self.limit - (used - self.droppable).max(0.0)).max(0.0))
    }

    fn share_left(&self) -> f64 {
        self.left().map_or(0.0, |left| left / self.limit)
    }
}

/// The files of one version of control groups.
#[derive(Debug)]
struct Version {
    limit: &'static str,
    used: &'static str,
    /// Where its hierarchy is mounted, under `/sys/fs/cgroup`.
    mount: &'static str,
    remount: &'static str,
}

const FIRST: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    mount: "memory",
    remount: "mount -t cgroup -o memory memory /sys/fs/cgroup/memory",
};
const SECOND: Version = Version {
    limit: "memory.max",
    used: "memory.current",
    mount: "",
    remount: "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
};

/// Of this process's own group and of all around it, the one with the least left of its limit: whichever is full
/// first has its processes killed. `None` where no group has a limit.
///
/// # Errors
/// Where the group that the kernel names is not shown, or closed.
pub(super) fn tightest(machine: &Machine) -> Result<Option<Group>> {
    let own = match machine.proc("self/cgroup") {
        Ok(own) => own,
        // A kernel without control groups limits nothing by them.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((version, path)) = of_memory(&own) else { return Ok(None) };
    let root = mount(machine, version);
    let named = inside(&root, path);
    // A container has its own group mounted as the root, and in version 1 its host's path for a name.
    let dir = named.filter(|dir| dir.is_dir()).unwrap_or_else(|| root.clone());
    let fell_back = dir == root && path != "/";
    // Of every group's files; the mount point without a mount has none.
    let mut shown = dir.join("cgroup.procs").exists() && !fell_back;
    let mut tightest: Option<Group> = None;
    for dir in dir.ancestors().take_while(|dir| dir.starts_with(&root)) {
        let Some(limit) = number(machine, &dir.join(version.limit))? else { continue };
        shown = true;
        // Without one, version 2 says max, and version 1 a number near the largest.
        if limit < 2_f64.powi(60) {
            let group = group(machine, dir, &root, version, limit)?;
            tightest = match tightest {
                Some(before) if before.share_left() <= group.share_left() => Some(before),
                _ => Some(group),
            };
        }
    }
    if shown {
        return Ok(tightest);
    }
    Err(Error::new(ErrorKind::Unsupported, "read the limit of the control group")
        .on(path)
        .because(format!("{} does not show it", root.display()))
        .with_fix(version.remount))
}

/// Where the hierarchy is mounted: beside the first version's, the second has a place of its own.
fn mount(machine: &Machine, version: &Version) -> PathBuf {
    let root = machine.sys.join("fs/cgroup");
    let beside = root.join("unified");
    if version.mount.is_empty() && beside.is_dir() { beside } else { root.join(version.mount) }
}

/// The version that governs memory, and the path that the kernel names.
fn of_memory(own: &str) -> Option<(&'static Version, &str)> {
    let lines = || {
        own.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
    };
    let first = lines().find(|(_, controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let first = first.map(|(_, _, path)| (&FIRST, path));
    first.or_else(|| lines().find(|(id, ..)| *id == "0").map(|(_, _, path)| (&SECOND, path)))
}

/// The directory of a group; `None` for one outside of what this namespace shows, which the kernel names by `..`.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| root.join(path))
}

fn group(machine: &Machine, dir: &Path, root: &Path, version: &Version, limit: f64) -> Result<Group> {
    let droppable = machine.read(&dir.join("memory.stat")).ok().and_then(|stat| {
        let field =
            |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        field("total_inactive_file ").or_else(|| field("inactive_file "))
    });
    let name = format!("/{}", dir.strip_prefix(root).unwrap_or(dir).display());
    let used = number(machine, &dir.join(version.used))?;
    Ok(Group { name, limit, used, droppable: droppable.unwrap_or(0.0) })
}

/// What a file says; endless for `max`, `None` where there is no such file: a group whose controller is off has none.
fn number(machine: &Machine, file: &Path) -> Result<Option<f64>> {
    match machine.read(file) {
        Ok(text) if text.trim() == "max" => Ok(Some(f64::INFINITY)),
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found on a machine of these files.
    fn found(files: &[(&str, &str)]) -> Result<Option<(String, f64, Option<f64>)>> {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::default().with_proc(dir.path().join("proc")).with_sys(dir.path().join("sys"));
        for (file, text) in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Ok(tightest(&machine)?.map(|group| (group.name.clone(), group.limit, group.left())))
    }

    fn some(name: &str, limit: f64, left: Option<f64>) -> Option<(String, f64, Option<f64>)> {
        Some((name.to_owned(), limit, left))
    }

    const OWN: &str = "proc/self/cgroup";

    #[test]
    fn both_versions_are_read() {
        assert_eq!(found(&[]).unwrap(), None);
        let second = |max| [(OWN, "0::/app\n"), ("sys/fs/cgroup/app/memory.max", max)];
        assert_eq!(found(&second("max\n")).unwrap(), None);
        assert_eq!(found(&second("1048576\n")).unwrap(), some("/app", 1_048_576.0, None));
        let first = |limit| {
            [
                (OWN, "9:name=systemd:/\n4:cpu,memory:/app\n0::/\n"),
                ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/app/memory.usage_in_bytes", "900"),
                ("sys/fs/cgroup/memory/app/memory.stat", "inactive_file 10\ntotal_inactive_file 200\n"),
            ]
        };
        assert_eq!(found(&first("1000\n")).unwrap(), some("/app", 1000.0, Some(300.0)));
        assert_eq!(found(&first("9223372036854771712\n")).unwrap(), None);
        // The root of the machine, and a group whose controller is off, have no limit.
        assert_eq!(found(&[(OWN, "0::/\n"), ("sys/fs/cgroup/cgroup.procs", "1")]).unwrap(), None);
        assert_eq!(found(&[(OWN, "0::/app\n"), ("sys/fs/cgroup/app/cgroup.procs", "1")]).unwrap(), None);
    }

    #[test]
    fn the_group_that_is_full_first_counts() {
        let files = |inner, outer| {
            [
                (OWN, "0::/a.slice/b.service\n"),
                ("sys/fs/cgroup/a.slice/memory.max", outer),
                ("sys/fs/cgroup/a.slice/memory.current", "900"),
                ("sys/fs/cgroup/a.slice/b.service/memory.max", inner),
                ("sys/fs/cgroup/a.slice/b.service/memory.current", "500"),
            ]
        };
        assert_eq!(found(&files("max", "1000")).unwrap(), some("/a.slice", 1000.0, Some(100.0)));
        assert_eq!(found(&files("5000", "1000")).unwrap(), some("/a.slice", 1000.0, Some(100.0)));
        assert_eq!(found(&files("510", "1000")).unwrap(), some("/a.slice/b.service", 510.0, Some(10.0)));
        // The inner limit is the lower one, and the outer group is the fuller one.
        assert_eq!(found(&files("700", "1000")).unwrap(), some("/a.slice", 1000.0, Some(100.0)));
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        let limited = found(&[
            (OWN, "4:memory:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "400"),
        ]);
        assert_eq!(limited.unwrap(), some("/", 1000.0, Some(600.0)));
        let outside = found(&[
            (OWN, "0::/../abc\n"),
            ("sys/fs/cgroup/memory.max", "10"),
            ("sys/fs/cgroup/memory.current", "4"),
        ]);
        assert_eq!(outside.unwrap(), some("/", 10.0, Some(6.0)));
    }

    #[test]
    fn a_group_that_is_named_and_not_shown_is_unseen() {
        for files in [
            &[(OWN, "0::/app\n")][..],
            &[(OWN, "0::/\n")],
            &[(OWN, "0::/\n"), ("sys/fs/cgroup/a mount point", "")],
            &[(OWN, "0::/docker/abc\n"), ("sys/fs/cgroup/cgroup.procs", "1")],
            &[(OWN, "4:memory:/docker/abc\n"), ("sys/fs/cgroup/memory/cgroup.procs", "1")],
        ] {
            let error = found(files).unwrap_err();
            assert!(error.to_string().contains("does not show it") && error.fix().is_some(), "{error}");
        }
    }
}
