//! `ops init`.

use std::fs::OpenOptions;
use std::io::Write as _;

use ops_core::{Error, ErrorKind};
use ops_runbook::config;

use super::Failure;
use crate::cli::InitArgs;
use crate::output;
use crate::surroundings::Real;

pub(super) fn run(args: &InitArgs) -> Result<u8, Failure> {
    let text = config::init(&Real);
    if args.file.as_os_str() == "-" {
        output::print(&text)?;
        return Ok(0);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(args.force).create_new(!args.force);
    let write = |mut file: std::fs::File| file.write_all(text.as_bytes());
    options.open(&args.file).and_then(write).map_err(|error| {
        let failed = Error::new(ErrorKind::Precondition, "write").on(args.file.display().to_string());
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failed
                .because("it is there already")
                .with_fix("`ops init --force` replaces it; `ops init -` prints"),
            _ => failed.because(error.to_string()),
        }
    })?;
    output::say(&format!("wrote {}; next: ops config check, then ops check", args.file.display()));
    Ok(0)
}
