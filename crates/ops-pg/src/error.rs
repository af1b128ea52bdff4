//! One table from what the driver says to what a caller acts on.

use std::io;

use ops_core::{Error, ErrorKind, Retry};
use sqlx::postgres::PgDatabaseError;

/// Translates an error of the driver. Only the primary message and the SQLSTATE are kept: detail and hint can
/// hold rows.
pub(crate) fn translate(operation: &'static str, target: &str, error: sqlx::Error) -> Error {
    let (kind, retry, message) = classify(&error);
    let translated = Error::new(kind, operation).on(target).because(message).retry(retry);
    match full(&error) {
        Some(Full::Role) => {
            translated.with_fix("ALTER ROLE … CONNECTION LIMIT … for the role that ops logs in as")
        }
        Some(Full::Database) => translated.with_fix("ALTER DATABASE … CONNECTION LIMIT …"),
        Some(Full::Server) | None => translated,
    }
}

/// What SQLSTATE 53300 says has no connection left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Server,
    /// By its own CONNECTION LIMIT: nobody gets into it, superusers apart.
    Database,
    /// By the CONNECTION LIMIT of the role that we log in as, which says nothing about the server.
    Role,
}

/// The message is translated; the routine that raised it is not (the same in every version from 14).
fn full(error: &sqlx::Error) -> Option<Full> {
    let postgres = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    (postgres.code() == "53300").then(|| match postgres.routine() {
        Some("InitializeSessionUserId") => Full::Role,
        Some("CheckMyDatabase") => Full::Database,
        _ => Full::Server,
    })
}

fn classify(error: &sqlx::Error) -> (ErrorKind, Retry, String) {
    const SAFE: Retry = Retry::Safe { after: None };
    match error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<PgDatabaseError>() {
            Some(postgres) => {
                let (kind, retry) = match full(error) {
                    Some(Full::Role) => (ErrorKind::Busy, SAFE),
                    Some(Full::Server | Full::Database) | None => of_sqlstate(postgres.code()),
                };
                (kind, retry, format!("{} (SQLSTATE {})", postgres.message(), postgres.code()))
            }
            None => (ErrorKind::Failed, Retry::Never, database.message().to_owned()),
        },
        sqlx::Error::Io(error) => {
            let (kind, message) = of_io(error);
            (kind, SAFE, message)
        }
        sqlx::Error::Tls(error) => (ErrorKind::Tls, Retry::Never, chain(&**error)),
        sqlx::Error::PoolTimedOut => (ErrorKind::Busy, SAFE, "no free connection in the pool".into()),
        sqlx::Error::PoolClosed => (ErrorKind::Cancelled, Retry::Never, "the pool is closed".into()),
        sqlx::Error::Configuration(error) => (ErrorKind::InvalidInput, Retry::Never, chain(&**error)),
        // The driver takes the end of the stream in place of the answer for a zero, which no server sends.
        sqlx::Error::Protocol(words) if words.contains("SSLRequest: 0x00") => {
            (ErrorKind::Unreachable, SAFE, "the server closed the connection".into())
        }
        sqlx::Error::Protocol(_) => (
            ErrorKind::Failed,
            Retry::Never,
            format!("the server does not speak PostgreSQL's protocol: {error}"),
        ),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            (ErrorKind::Bug, Retry::Never, error.to_string())
        }
        other => (ErrorKind::Failed, Retry::Never, other.to_string()),
    }
}

fn of_io(error: &io::Error) -> (ErrorKind, String) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (ErrorKind::Unreachable, "connection refused".into()),
        io::ErrorKind::NotFound => (ErrorKind::Unreachable, "no such socket or host".into()),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, error.to_string()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            (ErrorKind::Unreachable, "the server closed the connection".into())
        }
        io::ErrorKind::TimedOut => (ErrorKind::Timeout, "the network timed out".into()),
        // rustls speaks through io::Error once a handshake runs.
        io::ErrorKind::InvalidData => (ErrorKind::Tls, error.to_string()),
        _ => (ErrorKind::Unreachable, error.to_string()),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

/// What a SQLSTATE means to a caller of a *read*: none of these has written anything. Codes by PostgreSQL's
/// appendix A, "Error Codes"; classes stand for their members where these agree.
pub(crate) fn of_sqlstate(code: &str) -> (ErrorKind, Retry) {
    const SAFE: Retry = Retry::Safe { after: None };
    match code {
        "28P01" | "28000" => (ErrorKind::Unauthenticated, Retry::Never),
        "42501" => (ErrorKind::PermissionDenied, Retry::Never),
        "3D000" | "3F000" | "42P01" | "42704" | "42883" | "42703" => (ErrorKind::NotFound, Retry::Never),
        "53300" => (ErrorKind::Exhausted, SAFE),
        // Starting up, shutting down, recovering; or an administrator, a crash, a dropped database.
        "57P01" | "57P02" | "57P03" | "57P04" => (ErrorKind::Unreachable, SAFE),
        "57P05" | "25P03" => (ErrorKind::Timeout, SAFE),
        "57014" => (ErrorKind::Timeout, SAFE),
        "55P03" | "55006" => (ErrorKind::Busy, SAFE),
        "40001" | "40P01" => (ErrorKind::Busy, SAFE),
        "25006" => (ErrorKind::Refused, Retry::Never),
        "0A000" => (ErrorKind::Unsupported, Retry::Never),
        "XX001" | "XX002" => (ErrorKind::Corrupt, Retry::Never),
        _ => match code.get(..2) {
            Some("08") => (ErrorKind::Unreachable, SAFE),
            Some("28") => (ErrorKind::Unauthenticated, Retry::Never),
            _ => (ErrorKind::Failed, Retry::Never),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlstate_that_matters_has_its_kind() {
        for (code, kind) in [
            ("28P01", ErrorKind::Unauthenticated),
            ("28000", ErrorKind::Unauthenticated),
            ("42501", ErrorKind::PermissionDenied),
            ("3D000", ErrorKind::NotFound),
            ("42P01", ErrorKind::NotFound),
            ("53300", ErrorKind::Exhausted),
            ("53100", ErrorKind::Failed),
            ("57P03", ErrorKind::Unreachable),
            ("57P01", ErrorKind::Unreachable),
            ("57014", ErrorKind::Timeout),
            ("55P03", ErrorKind::Busy),
            ("40P01", ErrorKind::Busy),
            ("25006", ErrorKind::Refused),
            ("XX001", ErrorKind::Corrupt),
            ("08006", ErrorKind::Unreachable),
            ("0A000", ErrorKind::Unsupported),
            ("22012", ErrorKind::Failed),
            ("", ErrorKind::Failed),
        ] {
            assert_eq!(of_sqlstate(code).0, kind, "{code}");
        }
    }

    #[test]
    fn an_end_in_place_of_an_answer_is_no_foreign_protocol() {
        for (byte, kind) in [("0x00", ErrorKind::Unreachable), ("0x48", ErrorKind::Failed)] {
            let words = format!("unexpected response from SSLRequest: {byte}");
            assert_eq!(classify(&sqlx::Error::Protocol(words)).0, kind, "{byte}");
        }
    }

    #[test]
    fn what_the_network_says_has_its_kind() {
        for (error, kind) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unreachable),
            (io::ErrorKind::NotFound, ErrorKind::Unreachable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unreachable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
            (io::ErrorKind::InvalidData, ErrorKind::Tls),
        ] {
            assert_eq!(of_io(&io::Error::from(error)).0, kind, "{error}");
        }
    }
}
