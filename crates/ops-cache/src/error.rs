//! The one table from what Redis, its socket and TLS say to what ops says.
//!
//! The driver folds every refused `AUTH` into one error without the server's words, so ops sends `AUTH` itself
//! and maps the reply here like any other.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ops_core::{Error, ErrorKind, Retry};
use redis::{RedisError, ServerErrorKind};
use rustls::{CertificateError, Error as TlsError};

/// Who spoke to whom, for messages and fixes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    /// `host:port`, or the path of a socket.
    pub(crate) address: &'a str,
    /// The ACL user, where one is known.
    pub(crate) user: &'a str,
}

const SAFE: Retry = Retry::Safe { after: None };
const SOON: Retry = Retry::Safe { after: Some(Duration::from_secs(1)) };

/// Maps an error met in `operation`, a verb phrase.
pub(crate) fn of_redis(error: RedisError, operation: impl Into<Cow<'static, str>>, peer: Peer<'_>) -> Error {
    let operation = operation.into();
    let mapped = if let Some(tls) = find::<TlsError>(&error) {
        of_tls(tls, operation)
    } else if let Some(io) = find::<io::Error>(&error) {
        of_io(io, operation)
    } else if let Some(code) = error.code().map(str::to_owned) {
        of_reply(&code, error.detail().unwrap_or_default(), operation, peer)
    } else {
        of_client(&error, operation)
    };
    let words = mapped.message().unwrap_or_default().to_owned();
    let code = error.code().map(str::to_owned);
    mapped.on(peer.address).caused_by(Cause { code, words })
}

/// What the driver met, in the words of the error it causes: a chain that repeats each cause in two spellings
/// helps nobody.
#[derive(Debug)]
struct Cause {
    code: Option<String>,
    words: String,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl StdError for Cause {}

/// The server's own code, such as `LOADING`, where an error came as a reply.
pub(crate) fn code(error: &Error) -> Option<&str> {
    StdError::source(error)?.downcast_ref::<Cause>()?.code.as_deref()
}

/// The reply table: <https://github.com/redis/redis/blob/7.0/src/server.c> names the codes.
fn of_reply(code: &str, detail: &str, operation: Cow<'static, str>, peer: Peer<'_>) -> Error {
    let says = |kind, retry| {
        let words = if code == "ERR" { detail.to_owned() } else { format!("{code} {detail}") };
        Error::new(kind, operation).because(words.trim()).retry(retry)
    };
    match code {
        "NOAUTH" => says(ErrorKind::Unauthenticated, Retry::Never)
            .with_fix("put the password into the URL: redis://USER:PASSWORD@HOST:PORT"),
        "WRONGPASS" => says(ErrorKind::Unauthenticated, Retry::Never)
            .with_fix("check the user and the password in the URL (percent-encode what is special in URLs)"),
        "DENIED" => says(ErrorKind::Unauthenticated, Retry::Never)
            .with_fix("set a password on the server, or connect from its own machine: protected mode is on"),
        "NOPERM" => {
            let error = says(ErrorKind::PermissionDenied, Retry::Never);
            match permission_fix(detail, peer.user) {
                Some(fix) => error.with_fix(fix),
                None => error,
            }
        }
        "LOADING" => says(ErrorKind::Busy, SOON),
        "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => says(ErrorKind::Busy, SOON),
        "OOM" => says(ErrorKind::Exhausted, SAFE),
        "READONLY" | "MISCONF" | "NOREPLICAS" => says(ErrorKind::Precondition, SAFE),
        "NOPROTO" => says(ErrorKind::Unsupported, Retry::Never),
        "ERR" if detail.contains("max number of clients") => says(ErrorKind::Exhausted, SOON),
        "ERR" if detail.contains("without any password configured") => {
            says(ErrorKind::Unauthenticated, Retry::Never)
                .with_fix("leave the password out of the URL: the server asks for none")
        }
        "ERR" if detail.starts_with("invalid password") => says(ErrorKind::Unauthenticated, Retry::Never),
        "ERR" if detail.contains("DB index is out of range") => says(ErrorKind::Configuration, Retry::Never)
            .with_fix("name a database that the server has: they count from 0, and its setting databases is how many"),
        "ERR" if detail.starts_with("SELECT is not allowed") => says(ErrorKind::Configuration, Retry::Never)
            .with_fix("leave the database out of the URL: a cluster has number 0 only"),
        "ERR" if detail.starts_with("unknown command") => says(ErrorKind::Unsupported, Retry::Never),
        _ => says(ErrorKind::Failed, Retry::Never),
    }
}

/// The statement that grants what a NOPERM names. Redis 7.0 writes "this user", later ones name the user.
fn permission_fix(detail: &str, configured: &str) -> Option<String> {
    let named = detail.strip_prefix("User ").and_then(|rest| rest.split(' ').next());
    let user = named.unwrap_or(configured);
    let command = detail.split('\'').nth(1)?;
    Some(format!("ACL SETUSER {user} +{command}"))
}

fn of_io(error: &io::Error, operation: Cow<'static, str>) -> Error {
    use io::ErrorKind as Io;
    let (kind, retry, words) = match error.kind() {
        Io::ConnectionRefused => (ErrorKind::Unreachable, SAFE, "connection refused".to_owned()),
        Io::NotFound => (ErrorKind::Unreachable, SAFE, "there is no such socket".to_owned()),
        Io::PermissionDenied => {
            (ErrorKind::PermissionDenied, Retry::Never, "the socket is closed to us".to_owned())
        }
        Io::TimedOut | Io::WouldBlock => (ErrorKind::Timeout, Retry::Indeterminate, "no answer".to_owned()),
        Io::HostUnreachable | Io::NetworkUnreachable | Io::AddrNotAvailable => {
            (ErrorKind::Unreachable, SAFE, "no route to the host".to_owned())
        }
        Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::BrokenPipe
        | Io::UnexpectedEof
        | Io::NotConnected => {
            (ErrorKind::Unreachable, Retry::Indeterminate, "the server closed the connection".to_owned())
        }
        _ if error.to_string().contains("failed to lookup address") => {
            (ErrorKind::Unreachable, SAFE, "the host name does not resolve".to_owned())
        }
        _ => (ErrorKind::Unreachable, Retry::Indeterminate, error.to_string()),
    };
    Error::new(kind, operation).because(words).retry(retry)
}

fn of_tls(error: &TlsError, operation: Cow<'static, str>) -> Error {
    let tls = |words: String| Error::new(ErrorKind::Tls, operation).because(words);
    let TlsError::InvalidCertificate(problem) = error else {
        return match error {
            TlsError::InvalidMessage(_) => tls("the server does not speak TLS at this port".into())
                .with_fix("use redis:// for a port without TLS"),
            TlsError::AlertReceived(alert) => {
                tls(format!("the server refused the secure channel: {alert:?}"))
            }
            other => tls(other.to_string()),
        };
    };
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => {
            tls(format!("the server's certificate expired on {}", day(not_after.as_secs())))
        }
        CertificateError::Expired => tls("the server's certificate has expired".into()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            tls(format!("the server's certificate is not valid before {}", day(not_before.as_secs())))
        }
        CertificateError::UnknownIssuer => {
            tls("the server's certificate is of an authority not trusted here".into())
                .with_fix("root_certificate = \"/path/to/ca.pem\"")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            tls("the server's certificate is for another host name".into())
        }
        other => tls(other.to_string()),
    }
}

fn of_client(error: &RedisError, operation: Cow<'static, str>) -> Error {
    match error.kind() {
        // Half an answer, and then nothing: the driver calls both this and a foreign protocol a parse error.
        redis::ErrorKind::Parse if error.to_string().contains("end of input") => {
            Error::new(ErrorKind::Unreachable, operation)
                .because("the server closed the connection in the middle of an answer")
                .retry(Retry::Indeterminate)
        }
        redis::ErrorKind::Parse => Error::new(ErrorKind::Configuration, operation)
            .because("what answers there does not speak the Redis protocol")
            .with_fix("check the host and the port in the URL"),
        redis::ErrorKind::InvalidClientConfig => Error::new(ErrorKind::Configuration, operation)
            .because(error.to_string().replace(" - InvalidClientConfig", "")),
        redis::ErrorKind::AuthenticationFailed => {
            Error::new(ErrorKind::Unauthenticated, operation).because("the server refused the password")
        }
        redis::ErrorKind::Server(ServerErrorKind::NoPerm) => {
            Error::new(ErrorKind::PermissionDenied, operation)
        }
        _ => Error::new(ErrorKind::Failed, operation).because(error.to_string()),
    }
}

fn day(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| DateTime::<Utc>::from_timestamp(unix, 0))
        .map_or_else(|| format!("{unix} (UNIX time)"), |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// The first `T` in an error's chain. The driver keeps causes in an `Arc`, and an `io::Error` hides what it
/// wraps from `source()`, so both are opened on the way.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        link = if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
            Some(&**shared)
        } else if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped)
        } else {
            error.source()
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;

    const PEER: Peer<'static> = Peer { address: "cache:6379", user: "ops" };

    fn reply(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else { panic!("an error reply: {value:?}") };
        of_redis(error.into(), "run INFO", PEER)
    }

    #[test]
    fn every_reply_has_its_kind_and_retry_class() {
        use ErrorKind::*;
        for (line, kind, retry) in [
            ("NOAUTH Authentication required.", Unauthenticated, Retry::Never),
            ("WRONGPASS invalid username-password pair or user is disabled.", Unauthenticated, Retry::Never),
            ("DENIED Redis is running in protected mode", Unauthenticated, Retry::Never),
            ("ERR invalid password", Unauthenticated, Retry::Never),
            ("ERR AUTH <password> called without any password configured", Unauthenticated, Retry::Never),
            ("NOPERM this user has no permissions to run the 'info' command", PermissionDenied, Retry::Never),
            ("LOADING Redis is loading the dataset in memory", Busy, SOON),
            ("BUSY Redis is busy running a script", Busy, SOON),
            ("MASTERDOWN Link with MASTER is down", Busy, SOON),
            ("CLUSTERDOWN Hash slot not served", Busy, SOON),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Busy, SOON),
            ("OOM command not allowed when used memory > 'maxmemory'.", Exhausted, SAFE),
            ("READONLY You can't write against a read only replica.", Precondition, SAFE),
            ("MISCONF Redis is configured to save RDB snapshots", Precondition, SAFE),
            ("NOREPLICAS Not enough good replicas to write.", Precondition, SAFE),
            ("ERR max number of clients reached", Exhausted, SOON),
            ("ERR unknown command 'INFO', with args beginning with: ", Unsupported, Retry::Never),
            ("ERR DB index is out of range", Configuration, Retry::Never),
            ("ERR SELECT is not allowed in cluster mode", Configuration, Retry::Never),
            ("ERR syntax error", Failed, Retry::Never),
            ("WRONGTYPE Operation against a key", Failed, Retry::Never),
        ] {
            let error = reply(line);
            assert_eq!((error.kind(), error.retry_class()), (kind, retry), "{line}");
            assert!(error.to_string().contains("cache:6379"), "{error}");
        }
    }

    #[test]
    fn every_socket_error_has_its_kind_and_retry_class() {
        use io::ErrorKind as Io;
        for (io, kind, retry) in [
            (Io::ConnectionRefused, ErrorKind::Unreachable, SAFE),
            (Io::NotFound, ErrorKind::Unreachable, SAFE),
            (Io::HostUnreachable, ErrorKind::Unreachable, SAFE),
            (Io::PermissionDenied, ErrorKind::PermissionDenied, Retry::Never),
            (Io::TimedOut, ErrorKind::Timeout, Retry::Indeterminate),
            (Io::ConnectionReset, ErrorKind::Unreachable, Retry::Indeterminate),
            (Io::BrokenPipe, ErrorKind::Unreachable, Retry::Indeterminate),
            (Io::UnexpectedEof, ErrorKind::Unreachable, Retry::Indeterminate),
            (Io::Other, ErrorKind::Unreachable, Retry::Indeterminate),
        ] {
            let error = of_redis(io::Error::from(io).into(), "connect", PEER);
            assert_eq!((error.kind(), error.retry_class()), (kind, retry), "{io:?}");
        }
    }

    #[test]
    fn tls_says_what_is_wrong_with_the_certificate() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let certificate = |problem| TlsError::InvalidCertificate(problem);
        for (tls, words) in [
            (
                certificate(CertificateError::ExpiredContext {
                    time: at(1_790_000_000),
                    not_after: at(1_780_000_000),
                }),
                "expired on 2026-05-28 20:26 UTC",
            ),
            (certificate(CertificateError::UnknownIssuer), "authority not trusted"),
            (certificate(CertificateError::NotValidForName), "another host name"),
            (TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "does not speak TLS"),
        ] {
            let error = of_redis(io::Error::new(io::ErrorKind::InvalidData, tls).into(), "connect", PEER);
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_refused_command_names_the_statement_that_grants_it() {
        for (line, fix) in [
            ("NOPERM this user has no permissions to run the 'info' command", "ACL SETUSER ops +info"),
            (
                "NOPERM User low has no permissions to run the 'client|list' command",
                "ACL SETUSER low +client|list",
            ),
        ] {
            assert_eq!(reply(line).fix(), Some(fix));
        }
    }

    #[test]
    fn half_an_answer_is_no_foreign_protocol() {
        for (words, kind) in [
            ("Parse error at 9\nUnexpected end of input", ErrorKind::Unreachable),
            ("Parse error at 0\nUnexpected `H`", ErrorKind::Configuration),
        ] {
            let parse = RedisError::from((redis::ErrorKind::Parse, "parse error", words.to_owned()));
            assert_eq!(of_redis(parse, "run INFO", PEER).kind(), kind, "{words}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let refused = of_redis(io::Error::from(io::ErrorKind::ConnectionRefused).into(), "connect", PEER);
        assert_eq!(refused.report(), "failed to connect to cache:6379: connection refused");
        assert_eq!(
            reply("NOAUTH Authentication required.").report(),
            "failed to run INFO on cache:6379: NOAUTH Authentication required."
        );
    }

    #[test]
    fn the_servers_code_can_be_asked_for() {
        assert_eq!(code(&reply("LOADING Redis is loading the dataset in memory")), Some("LOADING"));
        assert_eq!(code(&Error::new(ErrorKind::Bug, "x")), None);
    }
}
