//! The URL of a server, taken apart once: where it is, and who we are there.

use ops_core::redact::ExposeSecret;
use ops_core::{Error, ErrorKind, Result, Secret};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

/// Where a server is, and who we are there. Prints its address only.
#[derive(Clone)]
pub(crate) struct Address {
    /// Without credentials, database or protocol: the driver would otherwise send `HELLO` and `CLIENT SETINFO`, which
    /// a locked-down user may not run and a health check does not need, and keep the server's words to itself.
    pub(crate) info: ConnectionInfo,
    pub(crate) credentials: Option<Credentials>,
    /// The number in the URL; 0, where every connection begins, when it names none.
    pub(crate) database: i64,
    display: String,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Secret,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.display).finish()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display)
    }
}

impl Address {
    /// Takes a URL apart. The message never repeats any of it.
    pub(crate) fn parse(url: &Secret) -> Result<Self> {
        let info = url.expose_secret().trim().into_connection_info().map_err(|error| {
            let why = match error.kind() {
                redis::ErrorKind::InvalidClientConfig => {
                    error.to_string().replace(" - InvalidClientConfig", "")
                }
                _ => "the URL does not parse".to_owned(),
            };
            Error::new(ErrorKind::InvalidInput, "read the Redis URL").because(why).with_fix(
                "redis://USER:PASSWORD@HOST:6379/0, rediss:// for TLS, or redis+unix:///path/to.sock; \
                 percent-encode what is special in the password",
            )
        })?;
        let settings = info.redis_settings();
        let user = settings.username().map(str::to_owned);
        let password = settings.password().map(|password| Secret::from(password.to_owned()));
        // A user without a password logs in with an empty one, which is what `nopass` users accept.
        let credentials = match (user, password) {
            (None, None) => None,
            (user, password) => {
                Some(Credentials { user, password: password.unwrap_or_else(|| Secret::from(String::new())) })
            }
        };
        let bare =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let (display, database) = (display(info.addr()), settings.db());
        Ok(Self { info: info.set_redis_settings(bare), credentials, database, display })
    }

    /// The user that the server's ACL knows us by.
    pub(crate) fn user(&self) -> &str {
        self.credentials.as_ref().and_then(|who| who.user.as_deref()).unwrap_or("default")
    }

    /// `redis-cli` with what reaches the server, for a person to type. Who they are there is theirs to say: the user
    /// of a check may read no key, and a password has no place on a command line.
    pub(crate) fn cli(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("redis-cli -h {} -p {port}", quoted(host)),
            ConnectionAddr::TcpTls { host, port, .. } => {
                format!("redis-cli --tls -h {} -p {port}", quoted(host))
            }
            ConnectionAddr::Unix(path) => format!("redis-cli -s {}", quoted(&path.to_string_lossy())),
            _ => "redis-cli".to_owned(),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:".contains(letter);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn display(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        }
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an address of unknown kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address> {
        Address::parse(&Secret::from(url.to_owned()))
    }

    #[test]
    fn an_address_prints_without_its_password() {
        for (url, shown, user) in [
            ("redis://cache", "cache:6379", "default"),
            ("redis://:hunter2@cache:7000/3", "cache:7000", "default"),
            ("rediss://ops:hunter2@cache", "cache:6379", "ops"),
            ("redis://ops@[::1]:6380", "[::1]:6380", "ops"),
            ("redis+unix:///run/redis.sock?user=ops&pass=hunter2", "/run/redis.sock", "ops"),
        ] {
            let address = parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.user()), (shown, user), "{url}");
            assert!(!format!("{address:?} {:?}", address.info).contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn a_person_reaches_the_server_by_the_same_way() {
        for (url, command) in [
            ("redis://:hunter2@cache:7000/3", "redis-cli -h cache -p 7000"),
            ("redis://ops@[::1]", "redis-cli -h ::1 -p 6379"),
            ("rediss://ops:hunter2@cache", "redis-cli --tls -h cache -p 6379"),
            ("redis+unix:///run/redis.sock?pass=hunter2", "redis-cli -s /run/redis.sock"),
            ("redis+unix:///run/a b.sock", "redis-cli -s '/run/a b.sock'"),
        ] {
            assert_eq!(parse(url).unwrap().cli(), command, "{url}");
        }
    }

    #[test]
    fn a_wrong_url_says_so_and_keeps_its_secret() {
        for url in
            ["http://u:hunter2@cache", "hunter2", "redis://u:hunter2@", "redis://u:hunter2@cache/x", ""]
        {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(!format!("{error:?} {}", error.report()).contains("hunter2"), "{url}");
        }
    }
}
