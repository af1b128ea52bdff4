//! `pg.roles`: who may do anything.

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Severity,
    Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A login that is a member of a superuser can become one by SET ROLE. The predefined
/// roles of the server are left out.
const SQL: &str = "
SELECT r.rolname::text AS plain_name, quote_ident(r.rolname) AS name, r.rolcanlogin AS logs_in,
       r.rolsuper AS superuser, r.rolbypassrls AS bypasses_rls, r.rolreplication AS replicates,
       r.rolcreaterole AS creates_roles,
       CASE WHEN r.rolcanlogin AND NOT r.rolsuper
            THEN (SELECT min(quote_ident(s.rolname)) FROM pg_roles s WHERE s.rolsuper AND pg_has_role(r.oid, s.oid, 'MEMBER'))
       END AS becomes
  FROM pg_roles r
 WHERE r.rolname !~ '^pg_'
 ORDER BY 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.roles",
    group: "security",
    explanation: Explanation {
        why: "A superuser is held by no grant and no row security, and can run programs on the machine. Each login \
              that is one is a way in.",
        measures: "Roles that are superusers or can become one, that bypass row security, may replicate (and so read \
                   everything), or create roles. All are shown without alarm; a login that is a superuser alarms \
                   where the configuration says which ones may be (superusers) and it is not among them. Passwords \
                   that do not expire are no finding.",
        queries: &[("roles and what they may do", SQL)],
        codes: &[
            (
                "pg.role.superuser",
                "a role is a superuser, or can become one (info unless others are expected)",
            ),
            ("pg.role.bypassrls", "a role bypasses row security (info)"),
            ("pg.role.replication", "a role may replicate, and so read everything (info)"),
            ("pg.role.createrole", "a role may create roles (info)"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_roles",
        remedy: "ALTER ROLE … NOSUPERUSER, and grant what it needs by predefined roles.",
    },
    thresholds: &[],
    requires: &[],
};

/// Findings of one kind at most.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct Roles;

#[async_trait]
impl PgProbe for Roles {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let roles = rows.iter().map(Role::read).collect::<Result<Vec<_>>>()?;
        let logins = roles.iter().filter(|role| role.logs_in && role.is_super()).count();
        let summary = format!(
            "{} of {} can be superuser",
            logins,
            counted(roles.iter().filter(|role| role.logs_in).count(), "login", "logins")
        );
        let expected = &pg.config().superusers;
        let mut supers: Vec<_> = roles.iter().filter_map(|role| role.superuser(expected)).collect();
        supers.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let bypassing = roles
            .iter()
            .filter(|role| role.bypasses_rls)
            .map(|role| role.told("pg.role.bypassrls", "bypasses row security", "NOBYPASSRLS"));
        let replicating = roles.iter().filter(|role| role.replicates).map(|role| {
            role.told("pg.role.replication", "may replicate, and so read everything", "NOREPLICATION")
        });
        let creating = roles
            .iter()
            .filter(|role| role.creates_roles)
            .map(|role| role.told("pg.role.createrole", "may create roles", "NOCREATEROLE"));
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("superuser_logins", logins as f64, Unit::Count))
            .findings(supers.into_iter().take(REPORTED))
            .findings(bypassing.take(REPORTED))
            .findings(replicating.take(REPORTED))
            .findings(creating.take(REPORTED)))
    }
}

#[derive(Debug)]
struct Role {
    plain_name: String,
    name: String,
    logs_in: bool,
    superuser: bool,
    /// For others than superusers: theirs come with the role.
    bypasses_rls: bool,
    replicates: bool,
    creates_roles: bool,
    /// The superuser that it is a member of.
    becomes: Option<String>,
}

impl Role {
    fn read(row: &Row) -> Result<Self> {
        let superuser = row.get("superuser")?;
        Ok(Self {
            plain_name: row.get("plain_name")?,
            name: row.get("name")?,
            logs_in: row.get("logs_in")?,
            superuser,
            bypasses_rls: !superuser && row.get("bypasses_rls")?,
            replicates: !superuser && row.get("replicates")?,
            creates_roles: !superuser && row.get("creates_roles")?,
            becomes: row.get("becomes")?,
        })
    }

    fn is_super(&self) -> bool {
        self.superuser || self.becomes.is_some()
    }

    fn superuser(&self, expected: &[String]) -> Option<Finding> {
        if !self.is_super() {
            return None;
        }
        let surprising = self.logs_in && !expected.is_empty() && !expected.contains(&self.plain_name);
        let severity = if surprising { Severity::Warning } else { Severity::Info };
        let Self { name, .. } = self;
        let (what, statement) = match &self.becomes {
            Some(superuser) => (
                format!("login {name} can become superuser {superuser}"),
                format!("REVOKE {superuser} FROM {name};"),
            ),
            None if self.logs_in => {
                (format!("login {name} is a superuser"), format!("ALTER ROLE {name} NOSUPERUSER;"))
            }
            None => (
                format!("role {name}, which cannot log in, is a superuser"),
                format!("ALTER ROLE {name} NOSUPERUSER;"),
            ),
        };
        let message = if surprising { format!("{what}, and is not expected to be") } else { what };
        let finding =
            Finding::new(severity, "pg.role.superuser", message).object(&self.plain_name).evidence(json!({
                "role": name, "login": self.logs_in, "superuser": self.superuser, "member_of": self.becomes,
            }));
        Some(match surprising {
            true => finding.remedy(
                Remedy::statement(statement)
                    .because("grant what it needs first; one that is meant to be goes into superusers"),
            ),
            false => finding,
        })
    }

    fn told(&self, code: &'static str, what: &str, attribute: &str) -> Finding {
        let kind = if self.logs_in { "login" } else { "role" };
        Finding::info(code, format!("{kind} {} {what}", self.name))
            .object(&self.plain_name)
            .evidence(json!({ "role": self.name, "login": self.logs_in }))
            .remedy(
                Remedy::statement(format!("ALTER ROLE {} {attribute};", self.name))
                    .because("if it does not need it"),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unexpected_login_alarms() {
        let role = |name: &str, logs_in, superuser, becomes: Option<&str>| Role {
            plain_name: name.into(),
            name: name.into(),
            logs_in,
            superuser,
            bypasses_rls: false,
            replicates: false,
            creates_roles: false,
            becomes: becomes.map(str::to_owned),
        };
        let severity = |role: Role, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|name| (*name).to_owned()).collect();
            role.superuser(&expected).map(|finding| finding.severity)
        };
        let (info, warning) = (Some(Severity::Info), Some(Severity::Warning));
        assert_eq!(severity(role("app", true, true, None), &[]), info);
        assert_eq!(severity(role("app", true, true, None), &["postgres"]), warning);
        assert_eq!(severity(role("app", true, false, Some("admin")), &["postgres"]), warning);
        assert_eq!(severity(role("postgres", true, true, None), &["postgres"]), info);
        assert_eq!(severity(role("admin", false, true, None), &["postgres"]), info);
        assert_eq!(severity(role("app", true, false, None), &["postgres"]), None);
    }
}
