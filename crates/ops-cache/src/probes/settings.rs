//! What the server is set to keep in its two logs, the slow log and the latency monitor's.
//!
//! An empty log proves something only where the server keeps one, and that stands in its configuration. The right to
//! read it, `+config|get`, also shows the passwords that stand there, so a user may well lack it; and managed services
//! have no `CONFIG` at all. What cannot be seen there is unseen, and never taken for the default.

use std::time::Duration;

use ops_core::{ErrorKind, Result};
use redis::{Cmd, Value};

use super::reply::field;
use crate::error;

/// The names `slow…` and `late…` as one pattern: several names in one `CONFIG GET` came with Redis 7.0.
pub(super) const PATTERN: &str = "[sl][al][to][we]*";

/// Asks for the settings of both logs.
pub(crate) fn get() -> Cmd {
    redis::cmd("CONFIG").arg("GET").arg(PATTERN).clone()
}

/// Why a setting stays hidden, and what would show it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hidden {
    pub(crate) why: String,
    pub(crate) fix: Option<String>,
}

/// What the server told of its settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings(Result<Value, Hidden>);

impl Settings {
    /// What an answer to [`get`] tells. That the server does not let us ask is an answer.
    ///
    /// # Errors
    /// What fails the connection.
    pub(crate) fn of(answer: Result<(Value, Duration)>) -> Result<Self> {
        let error = match answer {
            Ok((reply, _)) => return Ok(Self(Ok(reply))),
            Err(error) => error,
        };
        let hidden = match error.kind() {
            ErrorKind::PermissionDenied => Hidden {
                why: format!(
                    "{}; the right to ask also shows the passwords that stand in the server's configuration",
                    error.report()
                ),
                fix: error.fix().map(str::to_owned),
            },
            ErrorKind::Unsupported | ErrorKind::Failed if error::code(&error).is_some() => Hidden {
                why: format!(
                    "{}; where there is no CONFIG, as on a managed service, the provider's console shows it",
                    error.report()
                ),
                fix: None,
            },
            _ => return Err(error),
        };
        Ok(Self(Err(hidden)))
    }

    /// A setting that is a number.
    pub(super) fn number(&self, name: &str) -> Result<i64, Hidden> {
        let reply = self.0.as_ref().map_err(Clone::clone)?;
        field(reply, name)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Hidden { why: format!("the server's CONFIG GET does not tell {name}"), fix: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Peer, of_redis};
    use ops_core::Error;

    fn refused(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("an error reply: {value:?}") };
        of_redis(error.into(), "run CONFIG GET", Peer { address: "cache:6379", user: "ops" })
    }

    #[test]
    fn what_is_not_told_is_hidden_and_never_a_default() {
        for (line, words, fix) in [
            (
                "NOPERM this user has no permissions to run the 'config|get' command",
                "also shows the passwords",
                Some("ACL SETUSER ops +config|get"),
            ),
            ("ERR unknown command 'CONFIG', with args beginning with: 'GET'", "the provider's console", None),
            ("ERR unknown subcommand 'GET'. Try CONFIG HELP.", "the provider's console", None),
        ] {
            let hidden = Settings::of(Err(refused(line))).unwrap().number("slowlog-max-len").unwrap_err();
            assert!(hidden.why.contains(words), "{hidden:?}");
            assert_eq!(hidden.fix.as_deref(), fix, "{line}");
        }
        assert!(Settings::of(Err(Error::new(ErrorKind::Timeout, "run CONFIG GET"))).is_err());
        let told = redis::parse_redis_value(b"*2\r\n$15\r\nslowlog-max-len\r\n$3\r\n128\r\n").unwrap();
        let settings = Settings::of(Ok((told, Duration::ZERO))).unwrap();
        assert_eq!(settings.number("slowlog-max-len"), Ok(128));
        assert!(settings.number("latency-monitor-threshold").unwrap_err().why.contains("does not tell"));
    }
}
