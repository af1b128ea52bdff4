//! The ops daemon.

use std::io::Write as _;
use std::process::ExitCode;

/// Says that it does nothing yet, and fails: whoever put it into a unit file or a setting must not believe otherwise.
fn main() -> ExitCode {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "opsd: not built yet, see CHANGELOG.md");
    ExitCode::from(70)
}
