//! PostgreSQL's URLs: read without repeating them, and shown without their secrets.

use std::str::FromStr;

use ops_core::redact::ExposeSecret;
use ops_core::{Error, ErrorKind, Result, Secret};
use sqlx::postgres::PgConnectOptions;

/// # Errors
/// `InvalidInput` when it is none of PostgreSQL's; the message never repeats it.
pub(crate) fn parse_url(name: &str, url: &Secret) -> Result<PgConnectOptions> {
    let invalid = |why: &str| {
        Error::new(ErrorKind::InvalidInput, "read the URL").on(name).because(why).with_fix(
            "postgres://USER@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/socket/directory; \
             a password with special characters must be percent-encoded",
        )
    };
    let text = url.expose_secret();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(invalid("it does not start with postgres:// or postgresql://"));
    }
    if let Some(key) = unknown_parameter(text) {
        return Err(invalid(&format!("it has a parameter that PostgreSQL's clients do not know: {key:?}")));
    }
    // The driver's own message can quote parts of the URL, and so of the password.
    let options =
        PgConnectOptions::from_str(text).map_err(|_| invalid("it is not a valid PostgreSQL URL"))?;
    match options.get_host().contains(',') {
        true => Err(invalid("it names several hosts; give each a target of its own")),
        false => Ok(options),
    }
}

/// The name of a parameter that the driver would pass over, with its value logged: a typo such as `sslmod` would
/// mean less than was asked for, and the value may be a secret.
fn unknown_parameter(url: &str) -> Option<&str> {
    const KNOWN: &[&str] = &[
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "statement-cache-capacity",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
    ];
    let (_, query) = url.split_once('?')?;
    let keys = query.split('#').next()?.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    let mut unknown =
        keys.filter(|key| !key.is_empty() && !KNOWN.contains(key) && !key.starts_with("options["));
    unknown.next()
}

pub(crate) fn address_of(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}:{}/{database}", socket.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PgConfig, PgTarget};

    #[test]
    fn a_wrong_url_is_told_without_repeating_it() {
        for text in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h:notaport/d",
            "hunter2",
            "",
            "postgres://u@a,b/d?",
            "postgres://u@h/d?sslmod=require&password=hunter2",
        ] {
            let url = Secret::from(text.to_owned());
            let error = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
