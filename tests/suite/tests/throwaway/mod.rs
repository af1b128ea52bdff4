mod client;
mod cluster;
mod containers;
mod databases;
mod death;
mod missing;
mod processes;
mod proxies;
mod redis;
mod sharing;
mod tls;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ops_pg::cluster::ClusterOptions;
use ops_testkit::{MAJORS, Missing, local_options, or_skip};

/// How long anything may take to go away.
const SOON: Duration = Duration::from_secs(10);

/// A parent for scratch directories whose name a careless shell would stumble over, and which the unprivileged
/// user can write to. Empty at the end of the test, or it fails.
struct Parent(tempfile::TempDir);

impl Parent {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("it's a $dir ").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        Self(dir)
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// Nothing of it is left, neither a file nor a process that names it.
    fn is_clean(&self) -> bool {
        self.entries().is_empty() && processes::mentioning(self.path()).is_empty()
    }
}

/// The options for a cluster of a test's own, of whichever version is here.
async fn any_local() -> Option<ClusterOptions> {
    let mut found = Err(Missing::new("any PostgreSQL"));
    for major in MAJORS {
        found = local_options(major).await;
        if found.is_ok() {
            break;
        }
    }
    or_skip(found)
}
