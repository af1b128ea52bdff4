//! PostgreSQL's URLs: read without repeating them, and shown without their secrets.

use std::borrow::Cow;
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
    let options = PgConnectOptions::from_str(&with_host(text))
        .map_err(|_| invalid("it is not a valid PostgreSQL URL"))?;
    match options.get_host().contains(',') {
        true => Err(invalid("it names several hosts; give each a target of its own")),
        false => Ok(options),
    }
}

/// With a host where a user or a port stands before none, as in `postgres://user@/db?host=/run/postgresql`: libpq takes
/// that (its manual, "Connection URIs"), and the driver's parser of URLs does not. A parameter overrides the host; where
/// there is none, it is the one that the driver takes by default.
fn with_host(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if authority.is_empty() || !(host.is_empty() || host.starts_with(':')) {
        return Cow::Borrowed(url);
    }
    let default = PgConnectOptions::new_without_pgpass();
    let default = default.get_host().replace('/', "%2F");
    let (at, after) = (if authority.contains('@') { "@" } else { "" }, &rest[authority.len()..]);
    Cow::Owned(format!("{scheme}://{user}{at}{default}{host}{after}"))
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
    fn a_user_needs_no_host_before_a_socket() {
        let parsed = |url: &str| parse_url("main", &Secret::from(url.to_owned())).unwrap();
        for (url, address, user) in [
            ("postgres://app@/shop?host=/run/pg", "/run/pg:5432/shop", "app"),
            ("postgres://app:a%40b@/shop?host=/run/pg&port=5433", "/run/pg:5433/shop", "app"),
            ("postgresql://app@:5433/shop?host=/run/pg", "/run/pg:5433/shop", "app"),
            ("postgres://app@?host=db.internal&dbname=shop", "db.internal:5432/shop", "app"),
            ("postgres://app@db/shop", "db:5432/shop", "app"),
        ] {
            let options = parsed(url);
            assert_eq!((address_of(&options).as_str(), options.get_username()), (address, user), "{url}");
        }
        // Without any host, it is whatever is meant without a user, too.
        let hostless = ["postgres://app@/shop", "postgres://app@:5432/shop", "postgres:///shop?user=app"];
        assert!(hostless.windows(2).all(|pair| address_of(&parsed(pair[0])) == address_of(&parsed(pair[1]))));
    }

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
