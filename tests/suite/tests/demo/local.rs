//! Where the demo finds its servers on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ops_core::Context;
use ops_pg::cluster::Binaries;
use ops_runbook::demo::DemoOptions;
use ops_testkit::{MAJORS, Missing, local_options, or_skip, program};

/// Programs of a PostgreSQL and of a Redis.
pub(crate) struct Local {
    postgres_bin: PathBuf,
    path: OsString,
    redis: Option<PathBuf>,
}

/// What is here of the versions that the suite knows, one that has every extension first; or `None` after a loud
/// line.
#[allow(dead_code, reason = "some of it is for other tests")]
pub(crate) async fn local() -> Option<Local> {
    or_skip(find().await).map(|(local, _)| local)
}

/// The same, for what cannot be seen without `pg_stat_statements`.
#[allow(dead_code, reason = "some of it is for other tests")]
pub(crate) async fn complete() -> Option<Local> {
    let complete = find().await.and_then(|(local, complete)| match complete {
        true => Ok(local),
        false => Err(Missing::new("a PostgreSQL with pg_stat_statements")),
    });
    or_skip(complete)
}

/// The servers' programs, and whether all extensions are among them.
async fn find() -> Result<(Local, bool), Missing> {
    let mut found = Err(Missing::new("any PostgreSQL"));
    for major in MAJORS {
        let Ok(options) = local_options(major).await else { continue };
        let Ok(binaries) = Binaries::find(&Context::new(), &options).await else { continue };
        let complete = binaries.has_library("pg_stat_statements");
        if complete || found.is_err() {
            found = Ok((binaries.dir, complete));
        }
        if complete {
            break;
        }
    }
    let (postgres_bin, complete) = found?;
    let redis = std::env::var_os("OPS_REDIS_SERVER").filter(|program| !program.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok((Local { postgres_bin, path, redis: redis.map(PathBuf::from) }, complete))
}

/// What `ops` remembers is this test's own: a test is a process.
fn state_home() -> &'static Path {
    static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
        // Not removed: its owner is a static, which is never dropped. The machine's own cleaning takes it.
        tempfile::Builder::new().prefix("ops-test-state-").tempdir().unwrap().keep()
    });
    &HOME
}

impl Local {
    /// For what starts no server.
    #[allow(dead_code, reason = "some of it is for other tests")]
    pub(crate) fn nothing() -> Self {
        Self { postgres_bin: PathBuf::new(), path: OsString::new(), redis: None }
    }

    /// One of PostgreSQL's own programs.
    #[allow(dead_code, reason = "some of it is for other tests")]
    pub(crate) fn postgres_program(&self, name: &str) -> PathBuf {
        self.postgres_bin.join(name)
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
        ops.env("XDG_STATE_HOME", state_home());
        if let Some(redis) = &self.redis {
            ops.env("OPS_REDIS_SERVER", redis);
        }
        ops
    }
}
