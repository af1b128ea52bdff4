//! Who runs the server, and what cannot be done there.
//!
//! On a managed service there are no files, no `archive_command` of one's own, and no superuser. What a probe would
//! need one of them for is told with a next step that is possible there, and what only the provider can prove (from
//! when to when it can restore) is unknown, never ok.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who runs the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Provider {
    /// What the server shows: a role that only one provider makes, and no superuser for us.
    #[default]
    Auto,
    /// We do, files and superuser included.
    #[serde(rename = "self")]
    Own,
    /// Amazon RDS, or Aurora.
    Rds,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database for PostgreSQL.
    Azure,
    /// Supabase.
    Supabase,
    /// Neon.
    Neon,
}

/// What is different on a managed service.
#[derive(Debug)]
pub(crate) struct Managed {
    provider: Provider,
    /// The service's name.
    pub(crate) title: &'static str,
    /// The role that it makes for its customers, and nobody else does: the mark by which it is known.
    role: &'static str,
    /// Where a setting of the server is changed.
    pub(crate) settings: &'static str,
    /// Where it shows from when to when it can restore.
    pub(crate) restores: &'static str,
    /// Where it shows how much WAL there is; `None` where the WAL is not kept on the server at all.
    pub(crate) wal: Option<&'static str>,
    /// Settings that risk data elsewhere and none here, since what is durable is not the server's own disk.
    harmless: &'static [&'static str],
}

/// The capability table. Sources: RDS, "Understanding the rds_superuser role", "Working with parameter groups" and
/// "Restoring a DB instance to a specified time"; Cloud SQL, "About PostgreSQL users and roles" and "Configure
/// database flags"; Azure, "Create users", "Server parameters" and "Backup and restore"; Supabase, "Postgres roles",
/// "Custom Postgres config" and "Database backups"; Neon, "Manage roles", "Parameter settings" and "Instant restore".
/// Neon runs with fsync and full_page_writes off: a commit is durable once its safekeepers have the WAL, and pages come
/// from its page servers ("Architecture overview", "Parameter settings").
static MANAGED: [Managed; 5] = [
    Managed {
        provider: Provider::Rds,
        title: "Amazon RDS",
        role: "rds_superuser",
        settings: "its DB parameter group",
        restores: "LatestRestorableTime and BackupRetentionPeriod in `aws rds describe-db-instances`",
        wal: Some("TransactionLogsDiskUsage in CloudWatch"),
        harmless: &[],
    },
    Managed {
        provider: Provider::CloudSql,
        title: "Cloud SQL",
        role: "cloudsqlsuperuser",
        settings: "the instance's database flags",
        restores: "backupConfiguration in `gcloud sql instances describe`",
        wal: Some("the instance's storage metrics in Cloud Monitoring"),
        harmless: &[],
    },
    Managed {
        provider: Provider::Azure,
        title: "Azure Database for PostgreSQL",
        role: "azure_pg_admin",
        settings: "its server parameters",
        restores: "the earliest restore point on its page \"Backup and restore\"",
        wal: Some("txlogs_storage_used in Azure Monitor"),
        harmless: &[],
    },
    Managed {
        provider: Provider::Supabase,
        title: "Supabase",
        role: "supabase_admin",
        settings: "the project's Postgres configuration (`supabase postgres-config update`)",
        restores: "the project's page \"Backups\"",
        wal: Some("the project's reports on its disk"),
        harmless: &[],
    },
    Managed {
        provider: Provider::Neon,
        title: "Neon",
        role: "neon_superuser",
        settings: "Neon by its support, or for a database or role by ALTER DATABASE or ALTER ROLE",
        restores: "the project's history window for instant restore",
        wal: None,
        harmless: &["fsync", "full_page_writes"],
    },
];

/// The databases of RDS, Azure and Cloud SQL that let nobody in but the provider, as SQL lists them.
pub(crate) const DATABASES: &str = "'rdsadmin', 'azure_maintenance', 'azure_sys', 'cloudsqladmin'";

impl Provider {
    /// Who it is, of `marks` that the server shows. A superuser is nobody's customer: a server whose dump came from
    /// elsewhere, roles and all, is one's own.
    pub(crate) fn resolve(self, marks: &[String], superuser: bool) -> Provider {
        let shown = |managed: &&Managed| !superuser && marks.iter().any(|mark| mark == managed.role);
        match self {
            Provider::Auto => MANAGED.iter().find(shown).map_or(Provider::Own, |managed| managed.provider),
            told => told,
        }
    }

    /// What is different there; `None` where nothing is.
    pub(crate) fn managed(self) -> Option<&'static Managed> {
        MANAGED.iter().find(|managed| managed.provider == self)
    }
}

impl Managed {
    /// Whether this setting, whatever its value, risks no data there.
    pub(crate) fn makes_harmless(&self, setting: &str) -> bool {
        self.harmless.contains(&setting)
    }

    /// What to do in place of a statement that is refused there; `None` where it is not.
    pub(crate) fn instead_of(&self, statement: &str) -> Option<String> {
        if let Some((_, rest)) = statement.split_once("ALTER SYSTEM ") {
            let end = rest.find("; SELECT pg_reload_conf()").or_else(|| rest.find(';')).unwrap_or(rest.len());
            let (change, after) = rest.split_at(end);
            let restart = if after.contains("restart") { ", and restart" } else { "" };
            let (verb, change) = change.split_once(' ').unwrap_or(("SET", change));
            return Some(format!("{} {change} in {}{restart}", verb.to_lowercase(), self.settings));
        }
        None
    }

    /// The next step where the server refuses what nobody can be granted there.
    pub(crate) fn refused(&self) -> String {
        format!("see the metrics and logs of {}: it gives nobody the right to this", self.title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_known_by_its_role() {
        for managed in &MANAGED {
            assert!(crate::capabilities::SQL.contains(&format!("'{}'", managed.role)), "{}", managed.role);
            let marks = [managed.role.to_owned()];
            assert_eq!(Provider::Auto.resolve(&marks, false), managed.provider);
            assert_eq!(Provider::Auto.resolve(&marks, true), Provider::Own, "a superuser is no customer");
            assert_eq!(Provider::Own.resolve(&marks, false), Provider::Own, "what is configured counts");
        }
        assert_eq!(Provider::Auto.resolve(&[], false), Provider::Own);
        assert_eq!(Provider::Neon.resolve(&[], false), Provider::Neon);
        assert!(Provider::Own.managed().is_none() && Provider::Auto.managed().is_none());
    }

    #[test]
    fn a_setting_is_changed_where_the_provider_keeps_it() {
        let rds = Provider::Rds.managed().unwrap();
        for (statement, expected) in [
            (
                "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();",
                Some("set fsync = on in its DB parameter group"),
            ),
            (
                "ALTER SYSTEM SET shared_buffers = '4MB'; -- and restart",
                Some("set shared_buffers = '4MB' in its DB parameter group, and restart"),
            ),
            (
                "ALTER SYSTEM RESET event_triggers; SELECT pg_reload_conf();",
                Some("reset event_triggers in its DB parameter group"),
            ),
            ("DROP INDEX CONCURRENTLY i;", None),
        ] {
            assert_eq!(rds.instead_of(statement).as_deref(), expected);
        }
    }
}
