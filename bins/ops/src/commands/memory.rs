//! What a check remembers: the last samples of counters, and what was measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ops_core::state::{History, Point};
use ops_core::{Context, HealthReport, Result};
use ops_runbook::SqlState;
use ops_runbook::config::Config;

use super::config_path;
use crate::cli::Global;
use crate::output;

/// The state that `config` names, and `cx` with its samples. A check goes on without it, and says so: it must work
/// when nothing else does.
pub(super) async fn recalling(cx: Context, global: &Global, config: &Config) -> (Context, Option<SqlState>) {
    match open(&cx, global, config).await {
        Ok(state) => {
            let kept = Arc::new(state.clone());
            (cx.with_baselines(kept.clone()).with_history(kept), Some(state))
        }
        Err(error) => {
            output::complain(&error);
            output::say("ops: the check goes on without what it remembers: rates are of this run alone");
            (cx, None)
        }
    }
}

/// The state that `config` names.
pub(super) async fn open(cx: &Context, global: &Global, config: &Config) -> Result<SqlState> {
    let path = config_path(global);
    let directory = path.parent().unwrap_or(Path::new(""));
    SqlState::of_config(cx, config, directory, default_file().as_deref()).await
}

/// Keeps what a report measured, forgets what is too old, and closes the state.
pub(super) async fn remember(cx: &Context, state: &SqlState, config: &Config, report: &HealthReport) {
    let kept = async {
        state.record(&Point::of_report(report)).await?;
        state.prune(&config.state.config.retention(), cx.now()).await
    };
    if let Err(error) = kept.await {
        output::complain(&error);
    }
    state.close().await;
}

/// `state.db` where the XDG base directory specification puts state.
fn default_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    Some(absolute("XDG_STATE_HOME").or_else(home)?.join("ops/state.db"))
}
