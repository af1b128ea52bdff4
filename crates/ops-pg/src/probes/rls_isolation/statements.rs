//! What is asked as a tenant.

use crate::config::{IsolationConfig, TenantConfig};
use crate::quote::{dollar, ident, literal};

/// Serves PostgreSQL 14 and later. The role to become, and whether we may.
pub(super) const ROLE: &str = "
SELECT r.rolsuper AS superuser, r.rolbypassrls AS bypasses,
       pg_has_role(current_user, r.oid, {become}) AS reachable
  FROM pg_roles r WHERE r.rolname = {role}";

/// Serves PostgreSQL 14 and later. The relations that are named, and every view over them, each with its tenant
/// column where it has one, and with the columns that a copied row can have: the server alone writes generated ones,
/// and a key that a default makes need not be copied. A default by a sequence wants a right of its own, so that a refusal
/// would prove nothing, and a sequence that is drawn from is not rolled back: those are copied, identities too.
pub(super) const RELATIONS: &str = "
WITH RECURSIVE shown AS (
  SELECT c.oid, true AS named
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname || '.' || c.relname = ANY ({names})
  UNION
  SELECT w.ev_class, false
    FROM shown s
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
                    AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> s.oid)
SELECT n.nspname || '.' || c.relname AS plain_name,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relkind::text AS kind,
       bool_or(s.named) AS named, c.relrowsecurity AND NOT c.relforcerowsecurity AS owner_sees_all,
       pg_has_role({role}, c.relowner, 'USAGE') AS owned,
       c.relkind IN ('v', 'm') AND has_any_column_privilege({role}, c.oid, 'SELECT')
         AND has_schema_privilege({role}, n.oid, 'USAGE')
         AND NOT coalesce((SELECT o.option_value::bool FROM pg_options_to_table(c.reloptions) o
                            WHERE o.option_name = 'security_invoker'), false) AS shows_as_owner,
       quote_ident(a.attname) AS tenant_column,
       (SELECT string_agg(quote_ident(f.attname), ', ' ORDER BY f.attnum)
          FROM pg_attribute f
         WHERE f.attrelid = c.oid AND f.attnum > 0 AND NOT f.attisdropped AND f.attgenerated = ''
           AND (f.attname = a.attname OR f.attidentity <> '' OR NOT f.atthasdef
                OR NOT EXISTS (SELECT FROM pg_index i
                                WHERE i.indrelid = c.oid AND i.indisunique AND f.attnum = ANY (i.indkey::int2[]))
                OR EXISTS (SELECT FROM pg_attrdef v
                             JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid
                                             AND d.refclassid = 'pg_class'::regclass
                             JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
                            WHERE v.adrelid = c.oid AND v.adnum = f.attnum))) AS copied
  FROM shown s
  JOIN pg_class c ON c.oid = s.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = {column} AND NOT a.attisdropped
 GROUP BY c.oid, n.oid, a.attname
 ORDER BY 1";

/// Serves PostgreSQL 14 and later. The functions that are named and can be called without an argument.
pub(super) const FUNCTIONS: &str = "
SELECT DISTINCT n.nspname || '.' || p.proname AS plain_name,
       quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '()' AS name
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname || '.' || p.proname = ANY ({names}) AND p.pronargs = p.pronargdefaults AND p.prokind = 'f'
 ORDER BY 1";

/// Fills the braces of the above.
pub(super) fn filled(sql: &str, isolation: &IsolationConfig, names: &[String], major: u32) -> String {
    let names = names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    sql.replace("{names}", &format!("ARRAY[{names}]::text[]"))
        .replace("{role}", &literal(&isolation.role))
        .replace("{column}", &literal(&isolation.column))
        // Membership alone no longer lets one become a role from 16 on.
        .replace("{become}", if major >= 16 { "'SET'" } else { "'MEMBER'" })
}

/// Becomes a tenant for the rest of the transaction. Its statements find what its clients' do: the policies' own
/// functions may rely on the search path.
fn tenant(isolation: &IsolationConfig, tenant: &TenantConfig) -> String {
    let setting = isolation.setting.split('.').map(ident).collect::<Vec<_>>().join(".");
    let claims = literal(tenant.claims.as_ref().unwrap_or(&tenant.id));
    let role = ident(&isolation.role);
    format!("SET LOCAL search_path TO DEFAULT; SET LOCAL ROLE {role}; SET LOCAL {setting} = {claims}")
}

/// Whether `own` sees a row of its own, and one of `other`'s. The ids are plain literals, so that an index on the
/// column serves.
pub(super) fn look(
    isolation: &IsolationConfig,
    own: &TenantConfig,
    other: &TenantConfig,
    relation: &str,
    column: &str,
) -> String {
    let sees = |id: &str| format!("EXISTS (SELECT FROM {relation} WHERE {column} = {})", literal(id));
    format!(
        "{}; SELECT current_user::text AS role, {} AS own, {} AS other",
        tenant(isolation, own),
        sees(&own.id),
        sees(&other.id)
    )
}

/// A table to write to, its tenants' column, and the columns of a copied row; as SQL names them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'r> {
    pub(super) name: &'r str,
    pub(super) column: &'r str,
    pub(super) copied: &'r str,
}

/// What a tenant must not be able to do to the other's rows, in words, with the statement that tries it.
pub(super) fn writes(
    isolation: &IsolationConfig,
    own: &TenantConfig,
    other: &TenantConfig,
    Table { name: table, column, copied }: Table<'_>,
) -> Vec<(&'static str, String)> {
    let (mine, theirs) = (literal(&own.id), literal(&other.id));
    let one_of_theirs =
        format!("(tableoid, ctid) = (SELECT tableoid, ctid FROM {table} WHERE {column} = {theirs} LIMIT 1)");
    let key = literal(&isolation.column);
    [
        (
            "insert a row for",
            format!(
                "INSERT INTO {table} ({copied}) OVERRIDING SYSTEM VALUE SELECT {copied} FROM \
                 (SELECT (jsonb_populate_record(r, jsonb_build_object({key}, {theirs}))).* \
                 FROM {table} r WHERE {column} = {mine} LIMIT 1) copy"
            ),
        ),
        // By a cursor: an UPDATE that reads a column is held by the policies for reading as well, and one that
        // reads none, as an attacker would write it, would take every row of the tenant's.
        ("hand a row over to", format!("UPDATE {table} SET {column} = {theirs} WHERE CURRENT OF own")),
        ("update a row of", format!("UPDATE {table} SET {column} = {column} WHERE {one_of_theirs}")),
        ("delete a row of", format!("DELETE FROM {table} WHERE {one_of_theirs}")),
    ]
    .map(|(what, statement)| {
        let cursor =
            format!("own CURSOR FOR SELECT 1 FROM {table} WHERE {column} = {mine} LIMIT 1 FOR UPDATE;");
        let (declare, open) = match statement.contains("CURRENT OF own") {
            true => (cursor, "OPEN own; MOVE own;"),
            false => (String::new(), ""),
        };
        (what, counted(&tenant(isolation, own), table, &declare, open, &statement))
    })
    .into()
}

/// RETURNING would apply the policies for reading as well, and hide what only those for writing let through: the
/// rows are counted by the server. Row security has let a row through that its table then refuses as one that it has
/// already: policies are asked before the indexes are.
fn counted(tenant: &str, table: &str, declare: &str, open: &str, statement: &str) -> String {
    let body = format!(
        "DECLARE n bigint; space text; refusing text; {declare} BEGIN {open} {statement}; GET DIAGNOSTICS n = ROW_COUNT; \
         PERFORM pg_catalog.set_config('ops.rows', n::text, true); \
         EXCEPTION WHEN unique_violation THEN \
         GET STACKED DIAGNOSTICS space = SCHEMA_NAME, refusing = TABLE_NAME; \
         IF pg_catalog.format('%I.%I', space, refusing) <> {} THEN RAISE; END IF; \
         PERFORM pg_catalog.set_config('ops.rows', '1', true); END",
        literal(table)
    );
    format!("{tenant}; DO {}; SELECT pg_catalog.current_setting('ops.rows')::bigint AS rows", dollar(&body))
}
