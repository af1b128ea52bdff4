//! The one table of exit codes, shared by every binary.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `ops check`: ok |
//! | 1 | failed; for `ops check`: warning |
//! | 2 | for `ops check`: critical |
//! | 3 | for `ops check`: unknown |
//! | 10 | execution asked for and refused |
//! | 20 | rolled back |
//! | 21 | rollback failed, a human is needed |
//! | 22 | verification failed |
//! | 64 | usage |
//! | 69 | target unreachable |
//! | 70 | a bug in ops |
//! | 75 | lock held, try later |
//! | 78 | bad configuration |
//! | 130 | ended early by Ctrl-C, and cleaned up; 3 under `--output nagios` |
//! | 143 | the same by SIGTERM |

use crate::error::ErrorKind;
use crate::status::Status;

/// Usage: the command line makes no sense.
pub const USAGE: u8 = 64;
/// The configuration makes no sense.
pub const CONFIG: u8 = 78;
/// Nagios' word for unknown, also used for a bad configuration under `--output nagios`.
pub const UNKNOWN: u8 = 3;

/// Ctrl-C, by the shell's rule: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 128 + 2;
/// SIGTERM, by the same rule.
pub const TERMINATED: u8 = 128 + 15;

/// The exit code of `ops check`, as monitoring plugins speak it.
pub fn of_status(status: Status) -> u8 {
    match status {
        Status::Ok | Status::NotApplicable => 0,
        Status::Warning => 1,
        Status::Critical => 2,
        Status::Unknown => UNKNOWN,
    }
}

/// The exit code of an error, for every command but `ops check`.
pub fn of_error(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => USAGE,
        ErrorKind::Configuration => CONFIG,
        ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Tls | ErrorKind::Unauthenticated => 69,
        ErrorKind::Bug => 70,
        ErrorKind::Busy => 75,
        ErrorKind::Refused => 10,
        ErrorKind::RolledBack => 20,
        ErrorKind::RollbackFailed => 21,
        ErrorKind::VerificationFailed => 22,
        ErrorKind::Cancelled
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::Precondition
        | ErrorKind::Exhausted
        | ErrorKind::Unsupported
        | ErrorKind::Corrupt
        | ErrorKind::Failed => 1,
    }
}
