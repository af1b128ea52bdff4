//! What shows tables with row security with its owner's rights, and what of it may.

use std::collections::BTreeSet;

use ops_core::{Context, Finding, Remedy, Result};
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
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name, pg_get_userbyid(s.by)::text AS owner
  FROM shows s
  JOIN pg_class v ON v.oid = s.view
  JOIN pg_namespace vn ON vn.oid = v.relnamespace
  JOIN pg_class t ON t.oid = s.rel
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE EXISTS (SELECT FROM aclexplode(v.relacl) a WHERE a.grantee <> v.relowner AND a.privilege_type = 'SELECT')
    OR EXISTS (SELECT FROM pg_attribute c, aclexplode(c.attacl) a
                WHERE c.attrelid = v.oid AND a.grantee <> v.relowner AND a.privilege_type = 'SELECT')
 ORDER BY 1";

/// Serves PostgreSQL 14 and later. SECURITY DEFINER functions of roles that row security does not hold, open to
/// others, whose body names a table with row security: a hint, since most bodies are text.
pub(super) const FUNCTIONS: &str = "
SELECT DISTINCT p.oid::regprocedure::text AS function_name,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name,
       pg_get_userbyid(p.proowner)::text AS owner
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_roles r ON r.oid = p.proowner
  JOIN pg_class t ON t.relrowsecurity AND t.relkind IN ('r', 'p')
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND (r.rolsuper OR r.rolbypassrls OR (pg_has_role(p.proowner, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity))
   AND (p.prosrc ~* ('\\m' || regexp_replace(t.relname, '([^a-zA-Z0-9_])', '\\\\\\1', 'g') || '\\M')
        OR EXISTS (SELECT FROM pg_depend b WHERE b.classid = 'pg_proc'::regclass AND b.objid = p.oid
                      AND b.refclassid = 'pg_class'::regclass AND b.refobjid = t.oid))
   AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                WHERE a.grantee <> p.proowner AND a.privilege_type = 'EXECUTE')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
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

/// What shows such tables and is not exposed on purpose.
pub(super) async fn findings(cx: &Context, pg: &PgTarget, exposed: &Exposed) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for row in &pg.read(cx, VIEWS).await? {
        findings.push(view(row)?);
    }
    for row in &pg.read(cx, FUNCTIONS).await? {
        findings.push(function(row)?);
    }
    findings.retain(|finding| !finding.object.as_ref().is_some_and(|name| exposed.names.contains(name)));
    Ok(findings)
}

fn view(row: &Row) -> Result<Finding> {
    let (view, table, owner): (String, String, String) =
        (row.get("view_name")?, row.get("table_name")?, row.get("owner")?);
    let materialised = row.get::<String>("kind")? == "m";
    let (kind, remedy) = match materialised {
        true => (
            "materialised view",
            Remedy::statement(format!("REVOKE SELECT ON {view} FROM PUBLIC;")).because(
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
        .evidence(json!({ "view": view, "table": table, "owner": owner, "materialised": materialised }))
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
