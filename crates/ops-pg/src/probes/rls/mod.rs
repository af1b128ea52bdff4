//! `pg.rls`: is row security on where it must be, and can it be walked around?

mod shows;

use std::collections::BTreeSet;

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Severity,
    Unit,
};
use serde_json::json;

use self::shows::{FUNCTIONS, VIEWS};
use super::words::counted;
use crate::config::RlsConfig;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A policy whose expression is the constant true, or two constants that are the
/// same (`1 = 1`, `'a' = 'a'`: operators 96 and 98), is known by its node tree: `pg_get_expr` would open the table,
/// and wait behind an ALTER. A partition that only its owner can reach is held
/// by the policies of its parent. A policy for named roles may well let everything through: it is told, but for
/// `anon` and `authenticated`, which are everybody where PostgREST serves the tables.
const TABLES: &str = "
SELECT n.nspname::text AS schema_name,
       n.nspname || '.' || c.relname                       AS plain_name,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       coalesce(p.policies, 0) AS policies, p.always_true, p.true_for_some, p.repeated
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
         SELECT count(*) AS policies,
                array_agg(polname::text ORDER BY polname) FILTER (WHERE is_true AND for_all) AS always_true,
                array_agg(polname::text ORDER BY polname) FILTER (WHERE is_true AND NOT for_all) AS true_for_some,
                (SELECT string_agg(DISTINCT command, ', ') FROM (
                   SELECT polcmd::text AS command, polroles FROM pg_policy q
                    WHERE q.polrelid = c.oid AND q.polpermissive
                    GROUP BY polcmd, polroles HAVING count(*) > 1) twice) AS repeated
           FROM (SELECT polname,
                        0 = ANY (polroles) OR EXISTS (
                          SELECT FROM pg_roles r
                           WHERE r.oid = ANY (polroles) AND r.rolname IN ('anon', 'authenticated')) AS for_all,
                        polpermissive AND EXISTS (
                          SELECT FROM (VALUES (polqual::text), (polwithcheck::text)) AS side (tree)
                           WHERE tree ~ '^\\{CONST :consttype 16 .*:constvalue 1 \\[ 1 '
                              OR regexp_replace(tree, ':location -?\\d+', '', 'g')
                                 ~ '^\\{OPEXPR :opno (96|98) .*:args \\((\\{CONST [^}]*\\}) \\2\\)') AS is_true
                   FROM pg_policy WHERE polrelid = c.oid) policy) p ON true
 WHERE c.relkind IN ('r', 'p')
   AND (NOT c.relispartition OR c.relrowsecurity
        OR EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner))
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 2";

/// Every schema, to tell one that is misspelt from one that holds nothing.
const SCHEMAS: &str = "SELECT nspname::text AS name FROM pg_namespace";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.rls",
    group: "security",
    explanation: Explanation {
        why: "Row security is what keeps one tenant's rows from another. A table that was forgotten, or a view that \
              runs with its owner's rights, shows everything, and nothing fails.",
        measures: "On the tables configured, on every table of the schemas configured, and, where nothing is \
                   configured, on every table of a schema in which some table has row security (that is a guess: it \
                   gives one warning for all of them): whether it is enabled and has policies. Everywhere: policies on a table whose row security is off, policies \
                   that are always true, the same permissive command twice, and views, materialised views and \
                   SECURITY DEFINER functions that show such tables with their owner's rights, but for those that the configuration \
                   lets (rls.exposed). Reading catalogues \
                   proves that the rules are there, not that they isolate.",
        queries: &[
            ("tables and their policies", TABLES),
            ("views that read them with their owner's rights", VIEWS),
            ("functions that may", FUNCTIONS),
            ("what the configuration lets show them", shows::EXPOSED),
        ],
        codes: &[
            ("pg.rls.disabled", "a table that is configured to have row security has none"),
            (
                "pg.rls.unlike_others",
                "tables have no row security, in schemas where others have it; none is configured",
            ),
            (
                "pg.rls.missing",
                "what the configuration names does not exist (a warning for what rls.exposed names)",
            ),
            ("pg.rls.policies_off", "a table has policies, and its row security is off: they do nothing"),
            (
                "pg.rls.always_true",
                "a permissive policy lets every row through, for everybody (info for one of rls.public_tables)",
            ),
            (
                "pg.rls.true_for_some",
                "a permissive policy lets every row through, for the roles that it names (info)",
            ),
            ("pg.rls.no_policy", "row security is on without a policy: only the owner sees rows (info)"),
            ("pg.rls.not_forced", "the owner of tables with row security sees every row (info)"),
            (
                "pg.rls.repeated",
                "two permissive policies for one command: the rows of both are let through (info)",
            ),
            ("pg.rls.view", "a view shows such a table with the rights of its owner"),
            ("pg.rls.function", "a SECURITY DEFINER function names such a table (info)"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "three reads of the catalogue; one more where rls.schemas or rls.exposed is configured",
        remedy: "Write the policy first, then ENABLE ROW LEVEL SECURITY: the other way round the application sees \
                 nothing. FORCE it where the application connects as the owner. Recreate views WITH \
                 (security_invoker = true); one that shows such a table on purpose goes into rls.exposed.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Rls;

#[async_trait]
impl PgProbe for Rls {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let config = &pg.config().rls;
        let tables = pg.read(cx, TABLES).await?.iter().map(Table::read).collect::<Result<Vec<_>>>()?;
        let enabled = tables.iter().filter(|table| table.enabled).count();
        let any_policy = tables.iter().any(|table| table.policies > 0);
        let nothing_named =
            config.schemas.is_empty() && config.tables.is_empty() && config.exposed.is_empty();
        if enabled == 0 && !any_policy && nothing_named {
            return Ok(ProbeReport::not_applicable(
                "no table has row security, and none is configured to have it (rls.schemas, rls.tables)",
            ));
        }
        let required = required(&tables, config);
        let mut findings: Vec<Finding> =
            config.tables.iter().filter_map(|name| missing(name, &tables)).collect();
        if !config.schemas.is_empty() {
            let rows = pg.read(cx, SCHEMAS).await?;
            let there = rows.iter().map(|row| row.get::<String>("name")).collect::<Result<BTreeSet<_>>>()?;
            findings
                .extend(config.schemas.iter().filter(|name| !there.contains(*name)).map(|name| gone(name)));
        }
        findings.extend(not_forced(&tables, &required));
        findings.extend(match is_guess(config) {
            true => unlike_others(&tables, &required),
            false => None,
        });
        findings.extend(tables.iter().flat_map(|table| table.findings(&required, config)));
        let exposed = shows::exposed(cx, pg, &config.exposed).await?;
        findings.extend(exposed.missing());
        let protected =
            tables.iter().filter(|t| t.enabled && required.contains(t.plain_name.as_str())).count();
        let which = match is_guess(config) {
            true => "tables in schemas where some have row security",
            false => "tables that must have it",
        };
        let summary = format!("{protected} of {} {which} have row security", required.len());
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("required", required.len() as f64, Unit::Count))
            .measure(Measurement::new("protected", protected as f64, Unit::Count))
            .findings(findings);
        Ok(match enabled > 0 {
            true => shows::look(cx, pg, &exposed, report).await,
            false => report,
        })
    }
}

/// Whether nobody says which tables must have row security.
fn is_guess(config: &RlsConfig) -> bool {
    config.schemas.is_empty() && config.tables.is_empty()
}

/// The tables that must have row security, by their plain name.
fn required<'a>(tables: &'a [Table], config: &RlsConfig) -> BTreeSet<&'a str> {
    let exposed: BTreeSet<&str> = if is_guess(config) {
        tables.iter().filter(|table| table.enabled).map(|table| table.schema.as_str()).collect()
    } else {
        config.schemas.iter().map(String::as_str).collect()
    };
    tables
        .iter()
        .filter(|table| exposed.contains(table.schema.as_str()) || config.tables.contains(&table.plain_name))
        .filter(|table| !config.public_tables.contains(&table.plain_name))
        .map(|table| table.plain_name.as_str())
        .collect()
}

fn missing(name: &str, tables: &[Table]) -> Option<Finding> {
    let there = tables.iter().any(|table| table.plain_name == name);
    (!there).then(|| gone(name))
}

fn gone(name: &str) -> Finding {
    Finding::critical(
        "pg.rls.missing",
        format!("{name} is configured to have row security, and does not exist"),
    )
    .object(name)
    .remedy(Remedy::advice("correct rls.tables and rls.schemas, or look for who dropped it"))
}

/// One finding for all: most services connect as another role than the owner, and then nothing is wrong.
fn not_forced(tables: &[Table], required: &BTreeSet<&str>) -> Option<Finding> {
    let open: Vec<_> = tables
        .iter()
        .filter(|t| t.enabled && !t.forced && required.contains(t.plain_name.as_str()))
        .collect();
    let first = open.first()?;
    let which = match open.len() {
        1 => first.name.clone(),
        n => format!("{n} tables with row security, such as {},", first.name),
    };
    let message =
        format!("the owner of {which} sees every row; it matters where a service connects as the owner");
    let finding = Finding::info("pg.rls.not_forced", message).object(&first.name).remedy(
        Remedy::statement(format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY;", first.name))
            .because("only where the application connects as the owner"),
    );
    Some(open.iter().fold(finding, |finding, table| finding.evidence(json!({ "table": table.name }))))
}

/// One finding for all: which tables are public on purpose, only their owner knows.
fn unlike_others(tables: &[Table], required: &BTreeSet<&str>) -> Option<Finding> {
    let open: Vec<_> = tables
        .iter()
        .filter(|t| !t.enabled && t.policies == 0 && required.contains(t.plain_name.as_str()))
        .collect();
    let first = open.first()?;
    let message = match open.len() {
        1 => format!("{} has no row security, unlike what is around it", first.name),
        n => format!("{n} tables have no row security, unlike what is around them, such as {}", first.name),
    };
    let finding = Finding::warning("pg.rls.unlike_others", message).object(&first.name).remedy(Remedy::advice(
        "say in rls.schemas or rls.tables which must have it, and in rls.public_tables which are public on purpose",
    ));
    Some(open.iter().fold(finding, |finding, table| finding.evidence(json!({ "table": table.name }))))
}

#[derive(Debug)]
struct Table {
    schema: String,
    plain_name: String,
    name: String,
    enabled: bool,
    forced: bool,
    policies: i64,
    /// Policies for everybody that let every row through.
    always_true: Vec<String>,
    /// The same, for named roles.
    true_for_some: Vec<String>,
    repeated: Option<String>,
}

impl Table {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            schema: row.get("schema_name")?,
            plain_name: row.get("plain_name")?,
            name: row.get("name")?,
            enabled: row.get("enabled")?,
            forced: row.get("forced")?,
            policies: row.get("policies")?,
            always_true: row.get::<Option<Vec<String>>>("always_true")?.unwrap_or_default(),
            true_for_some: row.get::<Option<Vec<String>>>("true_for_some")?.unwrap_or_default(),
            repeated: row.get("repeated")?,
        })
    }

    fn findings(&self, required: &BTreeSet<&str>, config: &RlsConfig) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.enabled {
            let required = !is_guess(config) && required.contains(self.plain_name.as_str());
            findings.extend(self.disabled(required));
            return findings;
        }
        let is_public = config.public_tables.contains(&self.plain_name);
        if self.policies == 0 {
            let message = format!("{} has row security and no policy: only its owner sees rows", self.name);
            findings.push(Finding::info("pg.rls.no_policy", message).object(&self.name));
        }
        for policy in &self.always_true {
            let message = format!("policy {policy} on {} lets every row through", self.name);
            let severity = if is_public { Severity::Info } else { Severity::Warning };
            findings.push(self.about(Finding::new(severity, "pg.rls.always_true", message)).remedy(
                Remedy::advice(
                    "restrict the policy's expression, or its roles when it is meant for an administrator",
                ),
            ));
        }
        for policy in &self.true_for_some {
            let message = format!(
                "policy {policy} on {} lets every row through for the roles that it names",
                self.name
            );
            findings.push(self.about(Finding::info("pg.rls.true_for_some", message)).remedy(Remedy::advice(
                "right for an administrator's role; check that no client logs in as, or becomes, one of them",
            )));
        }
        if let Some(commands) = &self.repeated {
            let commands: Vec<_> = commands.split(", ").map(command).collect();
            let message = format!(
                "{} has several permissive policies for {}: any one suffices",
                self.name,
                commands.join(", ")
            );
            findings.push(self.about(Finding::info("pg.rls.repeated", message)));
        }
        findings
    }

    fn disabled(&self, required: bool) -> Option<Finding> {
        if self.policies > 0 {
            let enable = Remedy::statement(format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY;", self.name));
            let policies = counted(self.policies as usize, "policy", "policies");
            let message =
                format!("{} has {policies}, and its row security is off: nothing is held", self.name);
            return Some(self.about(Finding::critical("pg.rls.policies_off", message)).remedy(enable));
        }
        required.then(|| {
            let message = format!("{} must have row security, and has none", self.name);
            // No statement to copy: without a policy, row security hides every row from the application.
            self.about(Finding::critical("pg.rls.disabled", message)).remedy(Remedy::advice(
                "create its policies first, then ALTER TABLE … ENABLE ROW LEVEL SECURITY: the other way round the \
                 application sees no row. A table that is public on purpose goes into rls.public_tables",
            ))
        })
    }

    fn about(&self, finding: Finding) -> Finding {
        finding.object(&self.name).evidence(json!({
            "table": self.name, "enabled": self.enabled, "forced": self.forced, "policies": self.policies,
        }))
    }
}

/// `pg_policy.polcmd` in words.
fn command(polcmd: &str) -> &'static str {
    match polcmd {
        "r" => "SELECT",
        "a" => "INSERT",
        "w" => "UPDATE",
        "d" => "DELETE",
        _ => "ALL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(plain_name: &str, enabled: bool) -> Table {
        Table {
            schema: plain_name.split_once('.').unwrap().0.to_owned(),
            plain_name: plain_name.to_owned(),
            name: plain_name.to_owned(),
            enabled,
            forced: false,
            policies: i64::from(enabled),
            always_true: Vec::new(),
            true_for_some: Vec::new(),
            repeated: None,
        }
    }

    #[test]
    fn a_guess_warns_once() {
        let tables = [table("app.a", true), table("app.b", false), table("app.c", false)];
        let finding = |config: &RlsConfig| unlike_others(&tables, &required(&tables, config));
        let guessed = finding(&RlsConfig::default()).unwrap();
        assert_eq!((guessed.severity, guessed.evidence.len()), (Severity::Warning, 2));
        let public = RlsConfig::default().with_public_tables(["app.b".into(), "app.c".into()]);
        assert!(finding(&public).is_none());
    }

    #[test]
    fn what_is_required_follows_the_configuration_or_the_neighbours() {
        let tables = [table("app.a", true), table("app.b", false), table("log.c", false)];
        let names = |config: &RlsConfig| required(&tables, config).into_iter().collect::<Vec<_>>();
        assert_eq!(names(&RlsConfig::default()), ["app.a", "app.b"]);
        assert_eq!(names(&RlsConfig::default().with_schemas(["log".into()])), ["log.c"]);
        assert_eq!(names(&RlsConfig::default().with_tables(["log.c".into()])), ["log.c"]);
        assert_eq!(names(&RlsConfig::default().with_public_tables(["app.b".into()])), ["app.a"]);
    }
}
