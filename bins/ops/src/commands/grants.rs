//! `ops grants`.

use ops_core::Context;
use ops_runbook::config::Check;
use ops_runbook::grants::{TargetGrants, grants};
use serde_json::json;

use super::{Failure, block_on, read_config};
use crate::cli::{Global, GrantsArgs, Output};
use crate::output;

pub(super) fn run(global: &Global, args: &GrantsArgs) -> Result<u8, Failure> {
    let config = read_config(global)?;
    let cx = Context::new().with_deadline(Check::default().probe_timeout);
    let grants = block_on(grants(&cx, &config, &args.targets, args.role.as_deref()))??;
    output::print(&match global.output {
        Output::Json => format!("{:#}", json!({ "schema": "ops.grants/1", "targets": grants })),
        _ => grants.iter().map(page).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(0)
}

/// A script that its program takes as it is: what is not for it stands in comments.
fn page(grants: &TargetGrants) -> String {
    let TargetGrants { target, address, program, role, script, .. } = grants;
    let (comment, how) = match *program {
        "psql" => ("--", format!("ops grants {target} | psql -X -v ON_ERROR_STOP=1 URL, as a superuser")),
        _ => ("#", "with redis-cli as an administrator; ACL SAVE or CONFIG REWRITE keeps it".to_owned()),
    };
    format!(
        "{comment} {target} ({address}): what {role} needs to see everything that ops checks\n\
         {comment} {how}\n{}\n",
        script.trim_end()
    )
}
