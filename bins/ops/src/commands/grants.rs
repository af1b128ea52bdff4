//! `ops grants`.

use ops_core::Context;
use ops_runbook::config::Check;
use ops_runbook::grants::{TargetGrants, grants, grants_of_urls};
use serde_json::json;

use super::{Failure, block_on, read_config, urls};
use crate::cli::{Global, GrantsArgs, Output};
use crate::output;

pub(super) fn run(global: &Global, args: &GrantsArgs) -> Result<u8, Failure> {
    let cx = Context::new().with_deadline(Check::default().probe_timeout);
    let role = args.role.as_deref();
    let urls = match args.targets.is_empty() {
        true => urls(global, &args.postgres, &args.redis),
        false => (None, None),
    };
    let (grants, configured) = match &urls {
        (None, None) => {
            let config = read_config(global)?;
            (block_on(grants(&cx, &config, &args.targets, role))??, true)
        }
        (postgres, redis) => {
            (block_on(grants_of_urls(&cx, postgres.as_ref(), redis.as_ref(), role))??, false)
        }
    };
    output::print(&match global.output {
        Output::Json => format!("{:#}", json!({ "schema": "ops.grants/1", "targets": grants })),
        _ => grants.iter().map(|grants| page(grants, configured)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(0)
}

/// A script that its program takes as it is: what is not for it stands in comments.
fn page(grants: &TargetGrants, configured: bool) -> String {
    let TargetGrants { target, address, program, administrator, role, script, .. } = grants;
    let which = if configured { target } else { "--postgres URL" };
    let (comment, how) = match *program {
        "psql" => ("--", format!("ops grants {which} | psql -X -v ON_ERROR_STOP=1 URL, as {administrator}")),
        _ => ("#", "with redis-cli as an administrator; ACL SAVE or CONFIG REWRITE keeps it".to_owned()),
    };
    // A comment ends with its line, and a database's name is part of the address.
    let address = address.replace(char::is_control, "?");
    format!(
        "{comment} {target} ({address}): what {role} needs to see everything that ops checks\n\
         {comment} {how}\n{}\n",
        script.trim_end()
    )
}
