//! The table from what a request met to what ops says about it.

use std::error::Error as StdError;
use std::io;

use chrono::{DateTime, Utc};
use ops_core::{Error, ErrorKind, Retry};
use rustls::{CertificateError, Error as TlsError};

/// The certificate's time is over: every client meets that, whatever it trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

impl std::fmt::Display for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the certificate has expired")
    }
}

impl StdError for Expired {}

/// A redirect leads to another origin, where the configured headers must not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherOrigin(pub(crate) String);

impl std::fmt::Display for OtherOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it redirects to {}, where the configured headers do not go", self.0)
    }
}

impl StdError for OtherOrigin {}

/// Maps what a GET met. Asking again is always safe.
pub(crate) fn of_request(error: reqwest::Error, address: &str) -> Error {
    // The driver prints the URL with its query, which may hold a token.
    let error = error.without_url();
    let mapped = if let Some(tls) = find::<TlsError>(&error) {
        of_tls(tls)
    } else if error.is_dns() {
        unreachable_because("the host name does not resolve")
    } else if let Some(io) = find::<io::Error>(&error) {
        of_io(io)
    } else if let Some(other) = find::<OtherOrigin>(&error) {
        Error::new(ErrorKind::Failed, "read the answer")
            .because(other.to_string())
            .with_fix("give the final URL")
    } else if error.is_redirect() {
        Error::new(ErrorKind::Failed, "read the answer").because("more redirects than configured")
    } else if error.is_builder() {
        Error::new(ErrorKind::Configuration, "prepare the request").because(innermost(&error))
    } else if error.is_connect() || error.is_request() || error.is_body() || error.is_decode() {
        unreachable_because(&innermost(&error))
    } else {
        Error::new(ErrorKind::Failed, "read the answer").because(innermost(&error))
    };
    mapped.on(address)
}

fn unreachable_because(why: &str) -> Error {
    Error::new(ErrorKind::Unreachable, "connect").because(why).retry(Retry::Safe { after: None })
}

fn of_io(error: &io::Error) -> Error {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::ConnectionRefused => unreachable_because("connection refused"),
        Io::TimedOut => {
            Error::new(ErrorKind::Timeout, "connect").because("no answer").retry(Retry::Safe { after: None })
        }
        Io::HostUnreachable | Io::NetworkUnreachable => unreachable_because("no route to the host"),
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof => {
            unreachable_because("the server closed the connection")
        }
        _ => unreachable_because(&error.to_string()),
    }
}

fn of_tls(error: &TlsError) -> Error {
    let tls = |why: String| Error::new(ErrorKind::Tls, "connect").because(why);
    let TlsError::InvalidCertificate(problem) = error else {
        return match error {
            TlsError::InvalidMessage(_) => {
                tls("the server does not speak TLS at this port".into()).with_fix("use http:// for it")
            }
            other => tls(other.to_string()),
        };
    };
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => {
            tls(format!("the certificate expired on {}", day(not_after.as_secs()))).caused_by(Expired)
        }
        CertificateError::Expired => tls("the certificate has expired".into()).caused_by(Expired),
        CertificateError::NotValidYetContext { not_before, .. } => {
            tls(format!("the certificate is not valid before {}", day(not_before.as_secs())))
        }
        CertificateError::UnknownIssuer => tls("the certificate is of an authority not trusted here".into())
            .with_fix("root_certificate = \"/path/to/ca.pem\""),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            tls("the certificate is for another host name".into())
        }
        other => tls(other.to_string()),
    }
}

fn day(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| DateTime::<Utc>::from_timestamp(unix, 0))
        .map_or_else(|| format!("{unix} (UNIX time)"), |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
}

fn innermost(error: &dyn StdError) -> String {
    let mut link = error;
    while let Some(source) = link.source() {
        link = source;
    }
    link.to_string()
}

/// The first `T` in an error's chain; an `io::Error` hides what it wraps from `source()`, so it is opened.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = find::<T>(wrapped)
        {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        link = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn only_an_expired_certificate_is_everybodys_trouble() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        for (problem, words, expired) in [
            (
                CertificateError::ExpiredContext { time: at(1_790_000_000), not_after: at(1_780_000_000) },
                "expired on 2026-05-28 20:26 UTC",
                true,
            ),
            (CertificateError::Expired, "has expired", true),
            (CertificateError::UnknownIssuer, "authority not trusted", false),
            (CertificateError::NotValidForName, "another host name", false),
        ] {
            let error = of_tls(&TlsError::InvalidCertificate(problem));
            assert!(error.kind() == ErrorKind::Tls && error.to_string().contains(words), "{error}");
            assert_eq!(StdError::source(&error).is_some_and(|source| source.is::<Expired>()), expired);
        }
    }

    #[test]
    fn sockets_say_why() {
        use io::ErrorKind as Io;
        for (io, kind, words) in [
            (Io::ConnectionRefused, ErrorKind::Unreachable, "refused"),
            (Io::TimedOut, ErrorKind::Timeout, "no answer"),
            (Io::HostUnreachable, ErrorKind::Unreachable, "no route"),
            (Io::ConnectionReset, ErrorKind::Unreachable, "closed the connection"),
            (Io::UnexpectedEof, ErrorKind::Unreachable, "closed the connection"),
        ] {
            let error = of_io(&io::Error::from(io));
            assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
        }
    }
}
