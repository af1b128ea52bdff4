//! `pg.public_grants`: what everybody may do.

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later (until 15, everybody may create in schema public by default). Functions are
/// executable by everybody by default, so only those with their owner's rights are told, and as one number.
const SQL: &str = "
SELECT 'schema' AS kind, quote_ident(n.nspname) AS name, 'CREATE' AS privileges, 0::int8 AS n
  FROM pg_namespace n
 CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
 WHERE a.grantee = 0 AND a.privilege_type = 'CREATE' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'table', quote_ident(n.nspname) || '.' || quote_ident(c.relname), g.privileges, 0
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN (SELECT x.oid, string_agg(DISTINCT x.privilege_type, ', ') AS privileges
          FROM (SELECT t.oid, a.privilege_type FROM pg_class t, aclexplode(t.relacl) a
                 WHERE t.relacl IS NOT NULL AND a.grantee = 0
                UNION ALL
                SELECT t.attrelid, a.privilege_type || ' of columns' FROM pg_attribute t, aclexplode(t.attacl) a
                 WHERE t.attacl IS NOT NULL AND a.grantee = 0 AND NOT t.attisdropped) x
         GROUP BY x.oid) g ON g.oid = c.oid
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
UNION ALL
SELECT 'functions', min(p.oid::regprocedure::text), 'EXECUTE', count(*)
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prosecdef
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
HAVING count(*) > 0
 ORDER BY 1, 2";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.public_grants",
    group: "security",
    explanation: Explanation {
        why: "What is granted to PUBLIC is granted to every role there will ever be. Whoever may create objects in a \
              schema that others have on their search_path can make them run his code (CVE-2018-1058).",
        measures: "Schemas in which everybody may create objects; tables and views that everybody may read or write, \
                   as a whole or by column; and how many SECURITY DEFINER functions everybody may execute. Ordinary \
                   functions are everybody's by default, and are not told.",
        queries: &[("grants to PUBLIC", SQL)],
        codes: &[
            ("pg.grant.public_create", "everybody may create objects in a schema (info)"),
            ("pg.grant.public_table", "everybody may read or write a table or view (info)"),
            (
                "pg.grant.public_functions",
                "everybody may execute functions that run with their owner's rights (info)",
            ),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one pass over pg_class, pg_attribute and pg_proc",
        remedy: "REVOKE … FROM PUBLIC, after a grant to the roles that need it.",
    },
    thresholds: &[],
    requires: &[],
};

/// Findings about tables at most.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct PublicGrants;

#[async_trait]
impl PgProbe for PublicGrants {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let (mut findings, mut schemas, mut tables) = (Vec::new(), 0, 0);
        for row in &rows {
            match row.get::<String>("kind")?.as_str() {
                "schema" => {
                    schemas += 1;
                    findings.push(schema(row)?);
                }
                "table" => {
                    tables += 1;
                    if tables <= REPORTED {
                        findings.push(table(row)?);
                    }
                }
                _ => findings.push(functions(row)?),
            }
        }
        let summary = match (schemas, tables) {
            (0, 0) => "nothing is everybody's".to_owned(),
            (0, _) => format!("{} open to everybody", counted(tables, "table is", "tables are")),
            _ => format!(
                "everybody may create objects in {}; {} open to everybody",
                counted(schemas, "schema", "schemas"),
                counted(tables, "table is", "tables are")
            ),
        };
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("tables", tables as f64, Unit::Count))
            .measure(Measurement::new("schemas", schemas as f64, Unit::Count))
            .findings(findings))
    }
}

fn schema(row: &Row) -> Result<Finding> {
    let name: String = row.get("name")?;
    Ok(Finding::info("pg.grant.public_create", format!("everybody may create objects in schema {name}"))
        .object(&name)
        .evidence(json!({ "schema": name }))
        .remedy(
            Remedy::statement(format!("REVOKE CREATE ON SCHEMA {name} FROM PUBLIC;"))
                .because("first GRANT CREATE to the roles that run migrations there"),
        ))
}

fn table(row: &Row) -> Result<Finding> {
    let (name, privileges): (String, String) = (row.get("name")?, row.get("privileges")?);
    Ok(Finding::info("pg.grant.public_table", format!("everybody has {privileges} on {name}"))
        .object(&name)
        .evidence(json!({ "table": name, "privileges": privileges }))
        .remedy(
            Remedy::statement(format!("REVOKE ALL ON {name} FROM PUBLIC;")).because(
                "if it is not public on purpose, and the roles that need it have a grant of their own",
            ),
        ))
}

fn functions(row: &Row) -> Result<Finding> {
    let (first, n): (String, i64) = (row.get("name")?, row.get("n")?);
    let message = match n {
        1 => format!("everybody may execute {first}, which runs with its owner's rights"),
        n => {
            format!("everybody may execute {n} functions that run with their owner's rights, such as {first}")
        }
    };
    Ok(Finding::info("pg.grant.public_functions", message).object(&first).evidence(json!({ "functions": n })))
}
