//! What shows tables with row security with its owner's rights, and what of it may.

use std::collections::BTreeSet;

use ops_core::{Context, Finding, ProbeReport, Remedy, Result};
use serde_json::json;

use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later (`security_invoker` came with 15; before, every view runs as its owner). Views
/// and materialised views that read a table with row security, directly or through another such view, and are open
/// to others than their owner, as a whole or by column.
pub(super) const VIEWS: &str = "
WITH RECURSIVE edge AS (
  SELECT DISTINCT w.ev_class AS view, d.refobjid AS reads
    FROM pg_rewrite w
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
definer AS (
  SELECT v.oid, v.relowner, v.relkind
    FROM pg_class v
   WHERE v.relkind = 'm'
      OR (v.relkind = 'v' AND NOT coalesce((SELECT o.option_value::bool FROM pg_options_to_table(v.reloptions) o
                                             WHERE o.option_name = 'security_invoker'), false))),
shows AS (
  SELECT e.view, t.oid AS rel, v.relowner AS by
    FROM edge e
    JOIN definer v ON v.oid = e.view
    JOIN pg_class t ON t.oid = e.reads AND t.relrowsecurity
    JOIN pg_roles r ON r.oid = v.relowner
   WHERE v.relkind = 'm' OR r.rolsuper OR r.rolbypassrls
      OR (pg_has_role(v.relowner, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity)
  UNION
  SELECT e.view, s.rel, s.by
    FROM shows s JOIN edge e ON e.reads = s.view JOIN definer v ON v.oid = e.view)
SELECT DISTINCT quote_ident(vn.nspname) || '.' || quote_ident(v.relname) AS view_name, v.relkind::text AS kind,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name, pg_get_userbyid(s.by)::text AS owner,
       g.grantees
  FROM shows s
  JOIN pg_class v ON v.oid = s.view
  JOIN pg_namespace vn ON vn.oid = v.relnamespace
  JOIN pg_class t ON t.oid = s.rel
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
 CROSS JOIN LATERAL (
       SELECT string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                         ', ') AS grantees
         FROM (SELECT grantee, privilege_type FROM aclexplode(v.relacl)
               UNION ALL
               SELECT e.grantee, e.privilege_type FROM pg_attribute c, aclexplode(c.attacl) e
                WHERE c.attrelid = v.oid) a
        WHERE a.grantee <> v.relowner AND a.privilege_type = 'SELECT') g
 WHERE g.grantees IS NOT NULL
 ORDER BY 1";

/// Serves PostgreSQL 14 and later. SECURITY DEFINER functions of roles that row security does not hold, open to
/// others, whose body names a table with row security: a hint, since most bodies are text. Each body is split into its
/// words once, and joined by them: a search for each table in each function takes minutes where there are a thousand
/// of each. A name of several words is found by its first one, and then searched for.
pub(super) const FUNCTIONS: &str = "
WITH definer AS MATERIALIZED (
  SELECT p.oid, p.proowner, lower(p.prosrc) AS body, r.rolsuper OR r.rolbypassrls AS sees_all
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_roles r ON r.oid = p.proowner
   WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                  WHERE a.grantee <> p.proowner AND a.privilege_type = 'EXECUTE')
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                        AND d.objid = p.oid AND d.deptype = 'e')),
held AS MATERIALIZED (
  SELECT t.oid, t.relowner, t.relforcerowsecurity AS forced, lower(t.relname) AS name,
         substring(lower(t.relname) from '\\w+') AS word
    FROM pg_class t WHERE t.relrowsecurity AND t.relkind IN ('r', 'p')),
words AS MATERIALIZED (
  SELECT DISTINCT d.oid, w.word FROM definer d, regexp_split_to_table(d.body, '\\W+') w (word)),
named AS (
  SELECT w.oid AS function, h.oid AS rel
    FROM words w JOIN held h ON h.word = w.word JOIN definer d ON d.oid = w.oid
   WHERE h.name = h.word OR strpos(d.body, h.name) > 0
  UNION
  SELECT b.objid, b.refobjid FROM pg_depend b
   WHERE b.classid = 'pg_proc'::regclass AND b.refclassid = 'pg_class'::regclass)
SELECT DISTINCT d.oid::regprocedure::text AS function_name,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name,
       pg_get_userbyid(d.proowner)::text AS owner
  FROM named n
  JOIN definer d ON d.oid = n.function
  JOIN held h ON h.oid = n.rel
  JOIN pg_class t ON t.oid = h.oid
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE d.sees_all OR (NOT h.forced AND pg_has_role(d.proowner, h.relowner, 'USAGE'))
 ORDER BY 1";

/// Serves PostgreSQL 14 and later. `$1` are names of views and materialised views, and signatures of functions, each as
/// the queries above write it once it is found; null where there is none.
pub(super) const EXPOSED: &str = "
SELECT e.name, coalesce(
         (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('v', 'm') AND n.nspname || '.' || c.relname = e.name),
         (SELECT p.oid::regprocedure::text FROM pg_proc p
           WHERE p.pronamespace <> 'pg_catalog'::regnamespace
             AND replace(p.oid::regprocedure::text, ' ', '') = replace(e.name, ' ', ''))) AS found
  FROM unnest($1::text[]) AS e (name)";

/// What may show such tables.
#[derive(Debug, Default)]
pub(super) struct Exposed {
    names: BTreeSet<String>,
    missing: Vec<String>,
}

/// Looks for what the configuration names.
pub(super) async fn exposed(cx: &Context, pg: &PgTarget, names: &[String]) -> Result<Exposed> {
    let mut exposed = Exposed::default();
    if names.is_empty() {
        return Ok(exposed);
    }
    for row in &pg.read_about(cx, EXPOSED, &[names]).await? {
        match row.get::<Option<String>>("found")? {
            Some(found) => {
                exposed.names.insert(found);
            }
            None => exposed.missing.push(row.get("name")?),
        }
    }
    Ok(exposed)
}

impl Exposed {
    fn has(&self, finding: &Finding) -> bool {
        finding.object.as_ref().is_some_and(|name| self.names.contains(name))
    }

    /// A name that is kept lets whatever gets it next show everything.
    pub(super) fn missing(&self) -> impl Iterator<Item = Finding> + '_ {
        self.missing.iter().map(|name| {
            let message = format!("{name} is configured to be exposed, and no view or function is called so");
            Finding::warning("pg.rls.missing", message).object(name).remedy(Remedy::advice(
                "correct rls.exposed: a view as schema.name, a function as schema.name(types), or take it out",
            ))
        })
    }
}

/// Adds what shows such tables and is not exposed on purpose. Where one of the two cannot be seen (a catalogue so large
/// that the server's time-out ends the query), the report keeps what it has, and says so.
pub(super) async fn look(
    cx: &Context,
    pg: &PgTarget,
    exposed: &Exposed,
    mut report: ProbeReport,
) -> ProbeReport {
    type Judge = fn(&Row) -> Result<Finding>;
    let asked: [(&str, &str, Judge); 2] = [
        ("the views that show tables with row security", VIEWS, view),
        ("the functions that show tables with row security", FUNCTIONS, function),
    ];
    for (what, sql, judge) in asked {
        let rows = pg.read(cx, sql).await;
        report = match rows.and_then(|rows| rows.iter().map(judge).collect::<Result<Vec<_>>>()) {
            Ok(findings) => report.findings(findings.into_iter().filter(|finding| !exposed.has(finding))),
            Err(error) => {
                report.unseen(format!("{what}: {}", error.report()), error.fix().map(str::to_owned))
            }
        };
    }
    report
}

fn view(row: &Row) -> Result<Finding> {
    let (view, table, owner): (String, String, String) =
        (row.get("view_name")?, row.get("table_name")?, row.get("owner")?);
    let (materialised, grantees) = (row.get::<String>("kind")? == "m", row.get::<String>("grantees")?);
    let (kind, remedy) = match materialised {
        true => (
            "materialised view",
            Remedy::statement(format!("REVOKE SELECT ON {view} FROM {grantees};")).because(
                "a materialised view cannot have row security: close it, or filter in a view above it",
            ),
        ),
        false => (
            "view",
            Remedy::statement(format!("ALTER VIEW {view} SET (security_invoker = true);"))
                .because("from PostgreSQL 15; before, close the view"),
        ),
    };
    let message = format!("{kind} {view} shows {table} with the rights of {owner}");
    Ok(Finding::warning("pg.rls.view", message)
        .object(&view)
        .evidence(json!({ "view": view, "table": table, "owner": owner, "materialised": materialised,
            "grantees": grantees }))
        .remedy(remedy))
}

fn function(row: &Row) -> Result<Finding> {
    let (function, table, owner): (String, String, String) =
        (row.get("function_name")?, row.get("table_name")?, row.get("owner")?);
    let message = format!("{function} runs as {owner} and names {table}: check that it filters by tenant");
    Ok(Finding::info("pg.rls.function", message)
        .object(&function)
        .evidence(json!({ "function": function, "table": table, "owner": owner })))
}
