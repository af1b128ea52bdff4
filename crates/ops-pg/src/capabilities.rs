//! What the server is and what we may see there: read once per connection, before anything is judged.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ops_core::{Requirement, Result};
use serde::Deserialize;

use crate::grants;
use crate::provider::{Managed, Provider};
use crate::quote;
use crate::row::Row;

/// Serves PostgreSQL 14 and later. `pg_has_role(…, 'USAGE')` is true for a superuser too. What `ops grants` makes
/// counts only where a superuser owns it and its schema: anybody else's view could call functions with our rights, and
/// the schema's owner could put one in its place.
pub(crate) const SQL: &str = "
SELECT current_setting('server_version_num')::int4                       AS version_num,
       current_setting('server_version')::text                           AS version,
       current_database()::text                                          AS database,
       current_user::text                                                AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)      AS superuser,
       (SELECT json_agg(rolname) FROM pg_roles
         WHERE left(rolname, 3) = 'pg_' AND pg_has_role(current_user, oid, 'USAGE'))::text AS roles,
       (SELECT json_agg(rolname) FROM pg_roles WHERE rolname IN (
          'rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin', 'supabase_admin', 'neon_superuser'))::text AS provider_roles,
       pg_is_in_recovery()                                               AS in_recovery,
       CASE WHEN current_setting('compute_query_id') = 'off' THEN 'off'
            ELSE current_setting('pg_stat_statements.track', true) END   AS statements_tracked,
       pg_postmaster_start_time()                                        AS started_at,
       EXISTS (SELECT FROM pg_stat_get_activity(NULL) WHERE state = 'disabled') AS activity_hidden,
       current_setting('standard_conforming_strings')::bool              AS conforming_strings,
       has_table_privilege('pg_statistic', 'SELECT')                     AS statistics_readable,
       has_function_privilege('pg_ls_dir(text)', 'EXECUTE')              AS lists_directories,
       (SELECT coalesce(json_agg(o.name), '[]') FROM (
          SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_roles r ON r.oid = c.relowner AND r.rolsuper JOIN pg_roles s ON s.oid = n.nspowner AND s.rolsuper
           WHERE n.nspname = 'ops' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
           UNION ALL
          SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            JOIN pg_roles r ON r.oid = p.proowner AND r.rolsuper JOIN pg_roles s ON s.oid = n.nspowner AND s.rolsuper
           WHERE n.nspname = 'ops' AND p.prosecdef AND has_schema_privilege(n.oid, 'USAGE')
             AND (p.proname, p.proargtypes::text) IN (('sequence_last_value', '26'), ('multixact_member_segments', ''))
             AND has_function_privilege(p.oid, 'EXECUTE')) o)::text       AS granted,
       (SELECT json_object_agg(e.extname, json_build_object('version', e.extversion, 'schema', quote_ident(n.nspname),
                                                        'usable', has_schema_privilege(n.oid, 'USAGE')))
          FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace)::text AS extensions";

/// An installed extension.
#[derive(Clone, Debug, Deserialize)]
pub struct Extension {
    /// Its version, as `CREATE EXTENSION` took it: not the server's.
    pub version: String,
    /// Its schema, quoted where it must be.
    pub schema: String,
    /// Whether the current role may use that schema.
    pub usable: bool,
}

impl Extension {
    /// Whether its version is at least `major.minor`.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }
}

/// What the server is and what the current role may see there.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// As `server_version_num` has it: 150018 for 15.18.
    pub version_num: u32,
    /// As the server writes it.
    pub version: String,
    /// The database connected to.
    pub database: String,
    /// The current role.
    pub role: String,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// Who runs the server; never [`Provider::Auto`].
    pub provider: Provider,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// What `pg_stat_statements` tracks: `off` without query ids, `None` where its library is not loaded.
    pub statements_tracked: Option<String>,
    /// When the server was started.
    pub started_at: DateTime<Utc>,
    /// Whether some session says nothing about what it does (`track_activities` is off for it).
    activity_hidden: bool,
    /// Whether a backslash in a string is a backslash.
    pub(crate) conforming_strings: bool,
    /// Whether `pg_statistic` itself may be read.
    statistics_readable: bool,
    /// Whether `pg_ls_dir(text)` may be called: by superusers, and whom one let.
    lists_directories: bool,
    /// What `ops grants` made in schema `ops` and we may use.
    granted: Vec<String>,
    /// Predefined roles whose rights the current role has.
    roles: Vec<String>,
    extensions: BTreeMap<String, Extension>,
}

impl Capabilities {
    pub(crate) fn read(row: &Row, provider: Provider) -> Result<Self> {
        let json = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        let roles: Option<Vec<String>> = serde_json::from_str(&json(row.get("roles")?)).unwrap_or_default();
        let extensions: Option<BTreeMap<String, Extension>> =
            serde_json::from_str(&json(row.get("extensions")?)).unwrap_or_default();
        let marks: Option<Vec<String>> =
            serde_json::from_str(&json(row.get("provider_roles")?)).unwrap_or_default();
        let superuser = row.get("superuser")?;
        Ok(Self {
            version_num: u32::try_from(row.get::<i32>("version_num")?).unwrap_or(0),
            version: row.get("version")?,
            database: row.get("database")?,
            role: row.get("role")?,
            superuser,
            provider: provider.resolve(&marks.unwrap_or_default(), superuser),
            in_recovery: row.get("in_recovery")?,
            statements_tracked: row.get("statements_tracked")?,
            started_at: row.get("started_at")?,
            activity_hidden: row.get("activity_hidden")?,
            conforming_strings: row.get("conforming_strings")?,
            statistics_readable: row.get("statistics_readable")?,
            lists_directories: row.get("lists_directories")?,
            granted: serde_json::from_str(&json(row.get("granted")?)).unwrap_or_default(),
            roles: roles.unwrap_or_default(),
            extensions: extensions.unwrap_or_default(),
        })
    }

    /// The major version: 15 for 15.18.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// An installed extension.
    pub fn extension(&self, name: &str) -> Option<&Extension> {
        self.extensions.get(name)
    }

    /// The current role as SQL names it.
    pub fn quoted_role(&self) -> String {
        quote::ident(&self.role)
    }

    /// Where the statistics of columns may be read, as a `FROM` item with the columns `relid`, `attnum`,
    /// `inherited`, `null_fraction`, `average_width` (bytes) and `distinct_values` (as `pg_statistic.stadistinct`);
    /// `None` where they are hidden. `pg_stats` is of no use: it hides the rows of every table that we may not
    /// read, and looks empty.
    pub(crate) fn column_statistics(&self) -> Option<&'static str> {
        match self.statistics_readable {
            true => Some(grants::STATISTICS_OF_SUPERUSER),
            false => {
                self.granted.iter().any(|name| name == "column_statistics").then_some("ops.column_statistics")
            }
        }
    }

    /// Whether `ops.sequence_last_value(oid)` may be called, and is needed: a superuser calls nothing that is made.
    pub(crate) fn reads_every_sequence(&self) -> bool {
        !self.superuser && self.granted.iter().any(|name| name == "sequence_last_value")
    }

    /// The expression that counts the segments of multixact members; `None` where they are hidden.
    pub(crate) fn multixact_member_segments(&self) -> Option<&'static str> {
        match self.lists_directories {
            true => Some("(SELECT count(*) FROM pg_ls_dir('pg_multixact/members'))"),
            false => {
                let ours = self.granted.iter().any(|name| name == "multixact_member_segments");
                ours.then_some("ops.multixact_member_segments()")
            }
        }
    }

    /// What is different on the managed service that this is; `None` on a server of one's own.
    pub(crate) fn managed(&self) -> Option<&'static Managed> {
        self.provider.managed()
    }

    /// Whether the role has the rights of this predefined one.
    pub(crate) fn holds(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }

    /// What of `requires` is missing, as the words and the fix of an `Unknown`.
    pub(crate) fn missing(&self, requires: &[Requirement]) -> Option<Missing> {
        requires.iter().find_map(|requirement| self.lacks(requirement))
    }

    fn lacks(&self, requirement: &Requirement) -> Option<Missing> {
        match requirement {
            Requirement::Role(role) if !self.holds(role) => Some(Missing::Unknown {
                what: format!("role {} does not have the rights of {role}", self.role),
                fix: format!("GRANT {role} TO {};", self.quoted_role()),
            }),
            Requirement::Extension(name) if self.extension(name).is_none() => Some(Missing::Unknown {
                what: format!("extension {name} is not installed in database {}", self.database),
                fix: format!("CREATE EXTENSION {name};"),
            }),
            Requirement::Extension(name) if self.extension(name).is_some_and(|found| !found.usable) => {
                let schema = &self.extension(name)?.schema;
                Some(Missing::Unknown {
                    what: format!(
                        "role {} may not use schema {schema}, which extension {name} is in",
                        self.role
                    ),
                    fix: format!("GRANT USAGE ON SCHEMA {schema} TO {};", self.quoted_role()),
                })
            }
            Requirement::ServerVersion(minimum) if self.version_num < *minimum => {
                Some(Missing::NotApplicable {
                    reason: format!("needs PostgreSQL {}, this is {}", minimum / 10_000, self.version),
                })
            }
            needed if *needed == grants::ACTIVITY => self.activity_hidden.then(|| Missing::Unknown {
                what: "some sessions do not say what they do: track_activities is off".to_owned(),
                fix: grants::TRACK_ACTIVITIES.to_owned(),
            }),
            needed if *needed == grants::COLUMN_STATISTICS => match self.column_statistics() {
                Some(_) => None,
                None => Some(Missing::Unknown {
                    what: format!("the statistics of columns are hidden from role {}", self.role),
                    fix: match self.managed() {
                        None => grants::column_statistics(&self.quoted_role()),
                        Some(managed) => {
                            grants::column_statistics_without_superuser(&self.quoted_role(), managed)
                        }
                    },
                }),
            },
            Requirement::Role(_) | Requirement::Extension(_) | Requirement::ServerVersion(_) => None,
            // Whatever else there may be, nobody has looked for it here.
            other => Some(Missing::Unknown {
                what: format!("ops cannot tell whether role {} has {other:?}", self.role),
                fix: String::new(),
            }),
        }
    }
}

/// Why a probe cannot judge.
pub(crate) enum Missing {
    Unknown { what: String, fix: String },
    NotApplicable { reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_compared_by_number() {
        let at = |version: &str| Extension { version: version.into(), schema: "public".into(), usable: true };
        for (version, expected) in
            [("1.10", true), ("1.9", true), ("1.8", false), ("2.0", true), ("1", false)]
        {
            assert_eq!(at(version).at_least(1, 9), expected, "{version}");
        }
    }
}
