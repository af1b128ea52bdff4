//! The reply of `INFO`, in which every field is optional.
//!
//! Versions, forks and managed services leave fields out and add their own. What is absent is absent: a probe
//! that needs it says so, and never takes it for zero.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use ops_core::{Error, ErrorKind, Result};

/// One parsed `INFO`.
///
/// ```
/// let info = ops_cache::Info::parse("# Memory\r\nused_memory:1024\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\n");
/// assert_eq!(info.number::<u64>("used_memory"), Some(1024));
/// assert_eq!(info.databases().unwrap()[0].without_ttl(), 2);
/// assert_eq!(info.text("maxmemory"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    fields: BTreeMap<String, String>,
    sections: BTreeSet<String>,
}

/// What the keyspace section says about one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// The database's number.
    pub database: u32,
    /// Its keys.
    pub keys: u64,
    /// Those of its keys that have a TTL.
    pub expires: u64,
}

impl Keyspace {
    /// Keys that live until somebody deletes or evicts them.
    pub fn without_ttl(&self) -> u64 {
        // The two counters are not read in one instant on every fork.
        self.keys.saturating_sub(self.expires)
    }
}

impl Info {
    /// Parses a reply. Lines that are neither a field nor a section are left out.
    pub fn parse(reply: &str) -> Self {
        let mut info = Self::default();
        for line in reply.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('#') {
                info.sections.insert(section.trim().to_ascii_lowercase());
            } else if let Some((field, value)) = line.split_once(':') {
                info.fields.insert(field.to_owned(), value.to_owned());
            }
        }
        info
    }

    /// A field as the server wrote it.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// A field as a number; `None` also where it is not one.
    pub fn number<T: FromStr>(&self, field: &str) -> Option<T> {
        self.text(field)?.parse().ok()
    }

    /// A field as a number that the caller cannot do without.
    ///
    /// # Errors
    /// `Unsupported`, which makes a probe `Unknown`.
    pub fn need<T: FromStr>(&self, field: &str) -> Result<T> {
        self.number(field).ok_or_else(|| missing(field))
    }

    /// Whether the reply has a section, if only an empty one.
    pub fn has_section(&self, section: &str) -> bool {
        self.sections.contains(&section.to_ascii_lowercase())
    }

    /// The databases that hold keys. A server without keys shows an empty section.
    ///
    /// # Errors
    /// `Unsupported` where the section is missing.
    pub fn databases(&self) -> Result<Vec<Keyspace>> {
        let mut databases: Vec<_> =
            self.fields.iter().filter_map(|(name, value)| keyspace(name, value)).collect();
        if databases.is_empty() && !self.has_section("keyspace") {
            return Err(missing("# Keyspace"));
        }
        databases.sort_by_key(|keyspace| keyspace.database);
        Ok(databases)
    }

    /// The kind of server and its own version, such as `Redis 7.0.15` or `Valkey 8.1.0`.
    pub fn server(&self) -> String {
        let unknown = "of unknown version";
        match self.text("server_name") {
            Some("valkey") => format!("Valkey {}", self.text("valkey_version").unwrap_or(unknown)),
            Some("redis") | None => format!("Redis {}", self.text("redis_version").unwrap_or(unknown)),
            Some(other) => {
                let version = self.text(&format!("{other}_version")).unwrap_or(unknown);
                format!("{other} {version}")
            }
        }
    }

    /// The version as Redis counts it, `70015` for 7.0.15; `None` on forks, whose `redis_version` is frozen at
    /// the release they left from and proves nothing.
    pub fn redis_version(&self) -> Option<u32> {
        if self.text("server_name").is_some_and(|name| name != "redis") {
            return None;
        }
        let mut parts = self.text("redis_version")?.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        Some(major * 10_000 + minor * 100 + patch)
    }

    /// The server's identity since its start.
    ///
    /// # Errors
    /// `Unsupported` where it is hidden: then no two samples can be told to be of one server.
    pub fn run_id(&self) -> Result<&str> {
        self.text("run_id").ok_or_else(|| missing("run_id"))
    }
}

fn keyspace(name: &str, value: &str) -> Option<Keyspace> {
    let database = name.strip_prefix("db")?.parse().ok()?;
    let part = |key: &str| {
        value.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    Some(Keyspace { database, keys: part("keys")?, expires: part("expires")? })
}

fn missing(field: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "read INFO").because(format!("the reply has no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_real_reply_is_read() {
        let info = Info::parse(fixtures::REDIS_7);
        assert_eq!(info.server(), "Redis 7.0.15");
        assert_eq!(info.redis_version(), Some(70_015));
        let databases: Vec<_> =
            info.databases().unwrap().iter().map(|d| (d.database, d.without_ttl())).collect();
        assert_eq!(databases, [(0, 5), (3, 1)]);
        assert_eq!(info.run_id().unwrap().len(), 40);
    }

    #[test]
    fn a_forks_frozen_version_proves_nothing() {
        let info = Info::parse(fixtures::VALKEY_8);
        assert_eq!(info.text("redis_version"), Some("7.2.4"));
        assert_eq!((info.server().as_str(), info.redis_version()), ("Valkey 8.1.1", None));
    }

    #[test]
    fn what_is_hidden_is_not_zero() {
        let info = Info::parse("# Server\r\nredis_version:7.0.15\r\n");
        assert_eq!(info.databases().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(info.need::<u64>("used_memory").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(Info::parse("# Keyspace\r\n").databases().unwrap(), []);
    }

    #[test]
    fn what_looks_like_a_database_and_is_none_is_left_out() {
        let info =
            Info::parse("# Keyspace\ndbsize:4\ndb1:keys=x,expires=0\ndb2:keys=4,expires=9,subexpiry=1\n");
        let databases = info.databases().unwrap();
        assert_eq!(databases.len(), 1);
        assert_eq!((databases[0].database, databases[0].without_ttl()), (2, 0));
    }
}
