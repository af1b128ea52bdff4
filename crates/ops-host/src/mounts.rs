//! Which file systems are mounted, and how full one is.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use ops_core::{Error, ErrorKind, Result};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: String,
    pub(crate) read_only: bool,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    pub(crate) used: u64,
    /// For users without privileges: what root keeps to itself is neither used nor available.
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
    pub(crate) read_only: bool,
}

/// Reads a mount's figures. Blocks for as long as its server is silent.
pub(crate) fn usage(mount: &Path) -> nix::Result<Usage> {
    let stat = statvfs(mount)?;
    let block = stat.fragment_size();
    Ok(Usage {
        used: used(stat.blocks(), stat.blocks_free(), block),
        available: stat.blocks_available().saturating_mul(block),
        inodes: stat.files(),
        inodes_free: stat.files_free(),
        read_only: stat.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// The bytes in use. Some FUSE file systems report more free blocks than blocks, or counts beyond all bounds.
fn used(blocks: u64, free: u64, block: u64) -> u64 {
    blocks.saturating_sub(free).saturating_mul(block)
}

impl Usage {
    /// The share in use, as `df` computes it: of what is used and what may still be.
    pub(crate) fn percent(&self) -> Option<f64> {
        share(self.used, self.used.saturating_add(self.available))
    }

    /// The share of inodes in use; `None` where the file system makes them as it goes (btrfs, zfs, vfat).
    pub(crate) fn inode_percent(&self) -> Option<f64> {
        share(self.inodes.saturating_sub(self.inodes_free), self.inodes)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

/// What is mounted now.
#[cfg(target_os = "linux")]
pub(crate) fn list() -> Result<Vec<Mount>> {
    const TABLE: &str = "/proc/self/mounts";
    let table = std::fs::read_to_string(TABLE).map_err(|error| {
        Error::new(ErrorKind::Unsupported, "list the mounts").on(TABLE).because(error.to_string())
    })?;
    Ok(parse(&table))
}

/// What is mounted now.
#[cfg(not(target_os = "linux"))]
pub(crate) fn list() -> Result<Vec<Mount>> {
    let disks = sysinfo::Disks::new_with_refreshed_list().map_err(|error| {
        Error::new(ErrorKind::Unsupported, "list the mounts").because(format!("{error:?}"))
    })?;
    Ok(disks
        .list()
        .iter()
        .map(|disk| Mount {
            source: disk.name().to_string_lossy().into_owned(),
            path: disk.mount_point().to_owned(),
            kind: disk.file_system().to_string_lossy().into_owned(),
            read_only: disk.is_read_only(),
        })
        .collect())
}

/// The mounts that `/etc/fstab` wants writable. A machine without one wants nothing.
pub(crate) fn wanted_writable() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/etc/fstab").unwrap_or_default();
    parse(&table).into_iter().filter(|mount| !mount.read_only).map(|mount| mount.path).collect()
}

/// Parses the format that `/proc/self/mounts` and `/etc/fstab` share: source, path, kind, options.
pub(crate) fn parse(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (source, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            let read_only = fields.next().unwrap_or_default().split(',').any(|option| option == "ro");
            Some(Mount {
                source: unescape(source),
                path: unescape(path).into(),
                kind: kind.to_owned(),
                read_only,
            })
        })
        .collect()
}

/// Blanks and backslashes are written in octal: `\040`.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

/// The mounts worth watching where none are configured: devices and network file systems, each once, under its
/// shortest path. Left out are file systems in memory, those that are full and read-only by nature (images), and
/// the layers of containers other than one's own root.
pub(crate) fn worth_watching(mounts: Vec<Mount>) -> Vec<Mount> {
    const IMAGES: [&str; 6] = ["squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"];
    const LAYERS: [&str; 3] = ["overlay", "aufs", "fuse.fuse-overlayfs"];
    const MEMORY: [&str; 4] = ["tmpfs", "ramfs", "devtmpfs", "rootfs"];
    const NETWORK: [&str; 9] =
        ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs", "fuse.sshfs", "9p", "virtiofs"];
    let root = Path::new("/");
    let mut kept: Vec<Mount> = Vec::new();
    // What is mounted over something hides it: the later line of a path counts.
    let mut visible: Vec<Mount> = Vec::new();
    for mount in mounts {
        visible.retain(|earlier| earlier.path != mount.path);
        visible.push(mount);
    }
    visible.sort_by_key(|mount| mount.path.as_os_str().len());
    for mount in visible {
        let kind = mount.kind.as_str();
        let watched = if mount.path == root {
            !MEMORY.contains(&kind) && !IMAGES.contains(&kind)
        } else {
            let a_device = mount.source.starts_with('/') || kind == "zfs" || NETWORK.contains(&kind);
            a_device && ![&IMAGES[..], &LAYERS, &MEMORY].iter().any(|left_out| left_out.contains(&kind))
        };
        if watched && !kept.iter().any(|earlier| earlier.source == mount.source) {
            kept.push(mount);
        }
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
proc /proc proc rw,relatime 0 0
/dev/vda / ext4 rw,relatime,errors=remount-ro 0 0
tmpfs /run tmpfs rw,nosuid 0 0
/dev/vda /var/lib/docker ext4 rw 0 0
/dev/loop3 /snap/core/1 squashfs ro,nodev 0 0
overlay /var/lib/docker/overlay2/ab/merged overlay rw 0 0
/dev/sdb1 /mnt/my\\040data xfs ro,relatime 0 0
nas:/export /srv/nas nfs4 rw 0 0
tank/pg /pg zfs rw 0 0
tank/wal /pg/wal zfs rw 0 0
gvfsd-fuse /run/user/1000/gvfs fuse.gvfsd-fuse rw 0 0
";

    fn watched(table: &str) -> Vec<String> {
        worth_watching(parse(table)).iter().map(|mount| mount.path.display().to_string()).collect()
    }

    #[test]
    fn devices_and_network_file_systems_are_watched_once() {
        assert_eq!(watched(TABLE), ["/", "/mnt/my data", "/pg", "/pg/wal", "/srv/nas"]);
    }

    #[test]
    fn a_containers_own_root_is_watched() {
        let table = "overlay / overlay rw,lowerdir=/a 0 0\n/dev/vda1 /etc/hosts ext4 rw 0 0\n";
        assert_eq!(watched(table), ["/", "/etc/hosts"]);
    }

    #[test]
    fn what_is_mounted_over_counts() {
        let table = "/dev/sda1 /data ext4 rw 0 0\ntmpfs /data tmpfs rw 0 0\n";
        assert_eq!(watched(table), Vec::<String>::new());
    }

    #[test]
    fn ro_is_an_option_and_not_a_part_of_one() {
        let read_only: Vec<_> = parse(TABLE).into_iter().filter(|m| m.read_only).map(|m| m.path).collect();
        assert_eq!(read_only, [PathBuf::from("/snap/core/1"), PathBuf::from("/mnt/my data")]);
    }

    #[test]
    fn absurd_figures_do_no_harm() {
        assert_eq!((used(10, 11, 4096), used(u64::MAX, 0, 4096), used(10, 4, 4096)), (0, u64::MAX, 6 * 4096));
        let huge = Usage { used: u64::MAX, available: 1, inodes: 0, inodes_free: 0, read_only: false };
        assert_eq!(huge.percent(), Some(100.0));
    }

    #[test]
    fn the_share_is_that_of_df() {
        // 100 blocks, 10 free, 5 of them kept by root.
        let usage = Usage { used: 90, available: 5, inodes: 0, inodes_free: 0, read_only: false };
        assert_eq!(usage.percent().map(|p| (p * 10.0).round() / 10.0), Some(94.7));
        assert_eq!(usage.inode_percent(), None);
        assert_eq!(Usage { used: 0, available: 0, ..usage }.percent(), None);
        assert_eq!(Usage { inodes: 8, inodes_free: 2, ..usage }.inode_percent(), Some(75.0));
    }
}
