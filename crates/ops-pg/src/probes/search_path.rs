//! `pg.search_path`: functions with their owner's rights that find what their caller put in the way.

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

/// Serves PostgreSQL 14 and later. A body that was parsed when the function was made (BEGIN ATOMIC) and one in C find
/// nothing by the path. A schema counts as writable where others than its owner, the function's owner and superusers
/// were granted CREATE on it. Where pg_temp is not on the path, or not last, relations are looked for there first; an
/// empty path has every name written out.
const SQL: &str = "
SELECT p.oid::regprocedure::text AS function_name, quote_ident(r.rolname) AS owner, r.rolsuper AS superuser,
       s.path, w.writable, t.temp_first,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                WHERE a.grantee <> p.proowner AND a.privilege_type = 'EXECUTE') AS open
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_roles r ON r.oid = p.proowner
  JOIN pg_language l ON l.oid = p.prolang
  LEFT JOIN LATERAL (
         SELECT substr(c.setting, 13) AS path FROM unnest(p.proconfig) c (setting)
          WHERE c.setting LIKE 'search\\_path=%') s ON true
  LEFT JOIN LATERAL (SELECT s.path NOT IN ('', '\"\"') AND s.path !~ 'pg_temp\"?\\s*$' AS temp_first) t ON true
  LEFT JOIN LATERAL (
         SELECT string_agg(DISTINCT quote_ident(ns.nspname), ', ') AS writable
           FROM regexp_matches(s.path, '\"(?:[^\"]|\"\")*\"|[^,\\s]+', 'g') m
           JOIN pg_namespace ns ON ns.nspname = replace(trim(BOTH '\"' FROM m[1]), '\"\"', '\"')
          WHERE EXISTS (SELECT FROM aclexplode(coalesce(ns.nspacl, acldefault('n', ns.nspowner))) a
                         WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (ns.nspowner, p.proowner)
                           AND NOT EXISTS (SELECT FROM pg_roles g WHERE g.oid = a.grantee AND g.rolsuper))) w
         ON s.path IS NOT NULL
 WHERE p.prosecdef AND p.prosqlbody IS NULL AND l.lanname NOT IN ('internal', 'c')
   AND (s.path IS NULL OR w.writable IS NOT NULL OR t.temp_first)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY s.path IS NOT NULL AND w.writable IS NULL, open DESC, superuser DESC, 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.search_path",
    group: "security",
    explanation: Explanation {
        why: "A SECURITY DEFINER function without a search_path of its own uses its caller's. Whoever may call it \
              and create a table or an operator somewhere on that path runs code with its owner's rights.",
        measures: "SECURITY DEFINER functions without a SET search_path, and those whose path has a schema in which \
                   others may create objects, or does not end in pg_temp (shown without alarm: whoever may make temporary \
                   tables can put one in front of the function's). Functions of extensions, in C, and with a body that was parsed when \
                   they were made are left out. One that nobody but its owner may call is shown without alarm.",
        queries: &[("SECURITY DEFINER functions with an open path", SQL)],
        codes: &[
            ("pg.search_path.missing", "a SECURITY DEFINER function uses its caller's search_path"),
            (
                "pg.search_path.writable",
                "a SECURITY DEFINER function's search_path has a schema that others may write in",
            ),
            (
                "pg.search_path.temporary",
                "a SECURITY DEFINER function's search_path does not end in pg_temp (info)",
            ),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one pass over pg_proc",
        remedy: "ALTER FUNCTION … SET search_path to the schemas it needs, pg_temp last (PostgreSQL documentation, \
                 'Writing SECURITY DEFINER Functions Safely'). Test it: what it found by its caller's path it does \
                 not find any more.",
    },
    thresholds: &[],
    requires: &[],
};

/// Findings at most, those of superusers first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct SearchPath;

#[async_trait]
impl PgProbe for SearchPath {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let findings = rows.iter().take(REPORTED).map(finding).collect::<Result<Vec<_>>>()?;
        let summary = match rows.len() {
            0 => "every SECURITY DEFINER function has a safe search_path".to_owned(),
            n => format!(
                "{} with an open search_path",
                counted(n, "SECURITY DEFINER function", "SECURITY DEFINER functions")
            ),
        };
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("functions", rows.len() as f64, Unit::Count))
            .findings(findings))
    }
}

fn finding(row: &Row) -> Result<Finding> {
    let (function, owner): (String, String) = (row.get("function_name")?, row.get("owner")?);
    let (path, writable): (Option<String>, Option<String>) = (row.get("path")?, row.get("writable")?);
    let (superuser, open): (bool, bool) = (row.get("superuser")?, row.get("open")?);
    let severity = if open { Severity::Warning } else { Severity::Info };
    let whose = if superuser { format!("superuser {owner}") } else { owner.clone() };
    let finding = match &writable {
        None if path.is_some() => Finding::info(
            "pg.search_path.temporary",
            format!("{function} runs with the rights of {whose}, and finds its caller's temporary tables before others"),
        )
        .remedy(Remedy::statement(format!(
            "ALTER ROUTINE {function} SET search_path = {}, pg_temp;",
            path.as_deref().unwrap_or_default()
        ))),
        None => Finding::new(
            severity,
            "pg.search_path.missing",
            format!("{function} runs with the rights of {whose} and the search_path of its caller"),
        )
        .remedy(
            Remedy::statement(format!("ALTER ROUTINE {function} SET search_path = pg_catalog, pg_temp;"))
                .because("with the schemas that it needs before pg_temp: it finds nothing else any more"),
        ),
        Some(schemas) => Finding::new(
            severity,
            "pg.search_path.writable",
            format!("{function} runs with the rights of {whose}, and others may create objects in {schemas}, on its search_path"),
        )
        .remedy(Remedy::advice("revoke CREATE on the schema, or take it off the function's search_path")),
    };
    Ok(finding.object(&function).evidence(json!({
        "function": function, "owner": owner, "superuser": superuser, "search_path": path, "writable": writable,
        "open_to_others": open,
    })))
}
