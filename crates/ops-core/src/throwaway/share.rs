//! One server for several processes: it ends when the last of them is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::failed;
use crate::error::Result;

/// A share in a server that another process started: it lives at least as long as this does.
#[derive(Debug)]
pub struct Share {
    _users: File,
}

impl Share {
    /// Joins the server in `dir`; `None` where it is ending, or gone.
    ///
    /// # Errors
    /// `Failed` where the directory is there and closed to this user.
    pub fn join(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("users");
        let fail = |error| failed(&path, "join a server").caused_by(error);
        // Without O_NONBLOCK, opening waits for a reader, and a reaper that was killed is none.
        let opened = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let mut users = match opened {
            Ok(users) => users,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let ours = users.metadata().map_err(fail)?;
        // The reaper moves the pipe away before it looks for users a last time: who sees it in its place after
        // opening it is seen.
        match std::fs::metadata(&path) {
            Ok(there) if there.ino() == ours.ino() => {}
            _ => return Ok(None),
        }
        users.write_all(b"\n").map_err(fail)?;
        Ok(Some(Self { _users: users }))
    }
}
