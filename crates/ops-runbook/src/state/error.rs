//! What the two engines' errors mean to whoever keeps a state.

use ops_core::{Error, ErrorKind, Retry};

use super::SqlState;

const SAFE: Retry = Retry::Safe { after: None };

impl SqlState {
    pub(super) fn failed(&self, operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
        let place = self.place.clone();
        move |error| translate(operation, &place, &error)
    }
}

pub(super) fn translate(operation: &'static str, place: &str, error: &sqlx::Error) -> Error {
    let (kind, retry, why) = classify(error);
    Error::new(kind, operation).on(place).because(why).retry(retry)
}

fn classify(error: &sqlx::Error) -> (ErrorKind, Retry, String) {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // SQLite's codes are numbers below 10000, an SQLSTATE has five characters.
            let (kind, retry) = match code.parse::<u32>() {
                Ok(number) if code.len() < 5 => of_sqlite(number),
                _ => of_sqlstate(&code),
            };
            (kind, retry, format!("{} (code {code})", database.message()))
        }
        sqlx::Error::Io(error) => (ErrorKind::Unreachable, SAFE, error.to_string()),
        sqlx::Error::PoolTimedOut => (ErrorKind::Busy, SAFE, "no free connection".to_owned()),
        sqlx::Error::Tls(error) => (ErrorKind::Tls, Retry::Never, error.to_string()),
        sqlx::Error::Configuration(error) => (ErrorKind::Configuration, Retry::Never, error.to_string()),
        other => (ErrorKind::Failed, Retry::Never, other.to_string()),
    }
}

/// By the primary result code, the low byte of an extended one (sqlite.org/rescode.html).
fn of_sqlite(code: u32) -> (ErrorKind, Retry) {
    match code & 0xff {
        5 | 6 => (ErrorKind::Busy, SAFE),
        3 | 8 | 14 | 23 => (ErrorKind::PermissionDenied, Retry::Never),
        7 | 13 => (ErrorKind::Exhausted, SAFE),
        // A write that the disk refused may be there or not.
        10 => (ErrorKind::Failed, Retry::Indeterminate),
        11 | 26 => (ErrorKind::Corrupt, Retry::Never),
        19 => (ErrorKind::Precondition, Retry::Never),
        _ => (ErrorKind::Failed, Retry::Never),
    }
}

/// By class (PostgreSQL's appendix A).
fn of_sqlstate(code: &str) -> (ErrorKind, Retry) {
    match code {
        "42501" => (ErrorKind::PermissionDenied, Retry::Never),
        "40001" | "40P01" | "55P03" => (ErrorKind::Busy, SAFE),
        "25006" => (ErrorKind::Precondition, Retry::Never),
        _ => match code.get(..2).unwrap_or_default() {
            "28" => (ErrorKind::Unauthenticated, Retry::Never),
            "23" => (ErrorKind::Precondition, Retry::Never),
            "53" => (ErrorKind::Exhausted, SAFE),
            "57" | "08" => (ErrorKind::Unreachable, Retry::Indeterminate),
            "XX" => (ErrorKind::Corrupt, Retry::Never),
            _ => (ErrorKind::Failed, Retry::Never),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_a_caller_acts_on() {
        for (code, kind) in [
            (5, ErrorKind::Busy),
            (517, ErrorKind::Busy),
            (13, ErrorKind::Exhausted),
            (8, ErrorKind::PermissionDenied),
            (14, ErrorKind::PermissionDenied),
            (26, ErrorKind::Corrupt),
            (2067, ErrorKind::Precondition),
            (1, ErrorKind::Failed),
        ] {
            assert_eq!(of_sqlite(code).0, kind, "{code}");
        }
        for (code, kind) in [
            ("42501", ErrorKind::PermissionDenied),
            ("28P01", ErrorKind::Unauthenticated),
            ("23505", ErrorKind::Precondition),
            ("53100", ErrorKind::Exhausted),
            ("55P03", ErrorKind::Busy),
            ("42P01", ErrorKind::Failed),
        ] {
            assert_eq!(of_sqlstate(code).0, kind, "{code}");
        }
    }
}
