//! Where the demo finds its servers on this machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use ops_runbook::demo::DemoOptions;
use ops_testkit::{MAJORS, Missing, local_options, or_skip, program};

/// Programs of a PostgreSQL and of a Redis.
pub(crate) struct Local {
    postgres_bin: PathBuf,
    path: OsString,
    redis: Option<PathBuf>,
}

/// What is here of the versions that the suite knows; or `None` after a loud line.
pub(crate) async fn local() -> Option<Local> {
    let mut found = Err(Missing::new("any PostgreSQL"));
    for major in MAJORS {
        found = local_options(major).await;
        if found.is_ok() {
            break;
        }
    }
    let postgres_bin = or_skip(found)?.bin_dir.expect("local options name the programs");
    let redis = std::env::var_os("OPS_REDIS_SERVER").filter(|program| !program.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    Some(Local { postgres_bin, path, redis: redis.map(PathBuf::from) })
}

impl Local {
    /// For what starts no server.
    #[allow(dead_code, reason = "some of it is for other tests")]
    pub(crate) fn nothing() -> Self {
        Self { postgres_bin: PathBuf::new(), path: OsString::new(), redis: None }
    }

    pub(crate) fn options(&self) -> DemoOptions {
        let options = DemoOptions::default().with_path(&self.path).with_postgres_bin(&self.postgres_bin);
        match &self.redis {
            Some(redis) => options.with_redis_program(redis),
            None => options,
        }
    }

    /// `ops` with nothing else in its environment than where the servers are.
    pub(crate) fn ops(&self, arguments: &[&str]) -> Command {
        let mut ops = Command::new(program("ops"));
        ops.env_clear().env("PATH", &self.path).env("OPS_PG_BIN", &self.postgres_bin).args(arguments);
        if let Some(redis) = &self.redis {
            ops.env("OPS_REDIS_SERVER", redis);
        }
        ops
    }
}
