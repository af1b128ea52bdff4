//! `pg.functions`: are the required functions there, for those who call them?

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. `$1` to `$3` are schemas, names and arguments of what is wanted (`*` for any),
/// `$4` the role. Types are compared as the server writes them, so that `int` is `integer`.
const SQL: &str = "
SELECT w.position::int4 AS position, f.signature, r.oid IS NOT NULL AS role_known, quote_ident(r.rolname) AS role,
       has_function_privilege('public', f.oid, 'EXECUTE') AND has_schema_privilege('public', f.schema_oid, 'USAGE')
         AS by_public,
       has_function_privilege(r.oid, f.oid, 'EXECUTE') AND has_schema_privilege(r.oid, f.schema_oid, 'USAGE')
         AS by_role,
       f.schema_name
  FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY w (schema_name, name, arguments, position)
  LEFT JOIN pg_roles r ON r.rolname = ANY ($4::text[])
  LEFT JOIN LATERAL (
         SELECT p.oid, n.oid AS schema_oid, quote_ident(n.nspname) AS schema_name, p.oid::regprocedure::text AS signature
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE p.proname = w.name AND w.schema_name IN (n.nspname, '*')
            AND (w.arguments = '*'
                 OR oidvectortypes(p.proargtypes) = coalesce(
                      (SELECT string_agg(coalesce(to_regtype(trim(a.type))::text, trim(a.type)), ', ' ORDER BY a.position)
                         FROM unnest(string_to_array(nullif(trim(w.arguments), ''), ',')) WITH ORDINALITY a (type, position)),
                      ''))) f ON true
 ORDER BY 1, 2";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.functions",
    group: "objects",
    explanation: Explanation {
        why: "A function that a migration dropped, or made anew without its grants, fails only when the application \
              calls it.",
        measures: "Whether the functions that the configuration requires (required.functions) exist, and whether the \
                   role that it names (required.role), or else everybody, may execute them and use their schema.",
        queries: &[("the required functions and who may execute them", SQL)],
        codes: &[
            ("pg.function.missing", "a required function does not exist"),
            (
                "pg.function.not_executable",
                "the role may not execute a required function (info where no role is named)",
            ),
            ("pg.function.no_role", "the role that must execute them does not exist"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "a look-up by name for each",
        remedy: "Create it, or grant EXECUTE on it and USAGE on its schema.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Functions;

#[async_trait]
impl PgProbe for Functions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let required = &pg.config().required;
        if required.functions.is_empty() {
            return Ok(ProbeReport::not_applicable("no function is required (required.functions)"));
        }
        let (mut schemas, mut names, mut arguments) = (Vec::new(), Vec::new(), Vec::new());
        for (schema, name, types) in required.functions.iter().map(|wanted| parts(wanted)) {
            schemas.push(schema);
            names.push(name);
            arguments.push(types);
        }
        let role: Vec<String> = required.role.iter().cloned().collect();
        let rows = pg.read_about(cx, SQL, &[&schemas, &names, &arguments, &role]).await?;
        let candidates = rows.iter().map(Candidate::read).collect::<Result<Vec<_>>>()?;
        let known = candidates.first().is_none_or(|candidate| candidate.role_known);
        let no_role = required.role.as_ref().filter(|_| !known).map(|role| {
            let message = format!("role {role} must execute the required functions, and does not exist");
            Finding::critical("pg.function.no_role", message).object(role)
        });
        let judged = required.functions.iter().enumerate().filter_map(|(index, wanted)| {
            let those: Vec<_> =
                candidates.iter().filter(|c| c.wanted == index && c.function.is_some()).collect();
            finding(wanted, &those, required.role.as_deref().filter(|_| known))
        });
        let findings: Vec<_> = no_role.into_iter().chain(judged).collect();
        let summary = match findings.len() {
            0 => format!(
                "{} there",
                counted(required.functions.len(), "required function is", "required functions are")
            ),
            n => format!(
                "{n} of {} to be seen to",
                counted(required.functions.len(), "required function", "required functions")
            ),
        };
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("required", required.functions.len() as f64, Unit::Count))
            .findings(findings))
    }
}

/// Schema, name and argument types of `schema.name(types)`; `*` for what is not said.
fn parts(wanted: &str) -> (String, String, String) {
    let (path, types) = match wanted.split_once('(') {
        Some((path, types)) => (path, types.trim_end().trim_end_matches(')').trim()),
        None => (wanted, "*"),
    };
    let (schema, name) = path.split_once('.').unwrap_or(("*", path));
    (schema.trim().to_owned(), name.trim().to_owned(), types.to_owned())
}

#[derive(Debug)]
struct Candidate {
    /// Which of the required ones it may be.
    wanted: usize,
    role_known: bool,
    role: Option<String>,
    /// Schema and signature, as the server writes them.
    function: Option<(String, String)>,
    by_public: bool,
    by_role: bool,
}

impl Candidate {
    fn read(row: &Row) -> Result<Self> {
        let (schema, signature): (Option<String>, Option<String>) =
            (row.get("schema_name")?, row.get("signature")?);
        Ok(Self {
            wanted: usize::try_from(row.get::<i32>("position")? - 1).unwrap_or(0),
            role_known: row.get("role_known")?,
            role: row.get("role")?,
            function: schema.zip(signature),
            by_public: row.get::<Option<bool>>("by_public")?.unwrap_or(false),
            by_role: row.get::<Option<bool>>("by_role")?.unwrap_or(false),
        })
    }
}

/// One that may be executed is enough where arguments are not said.
fn finding(wanted: &str, those: &[&Candidate], role: Option<&str>) -> Option<Finding> {
    let Some(first) = those.first() else {
        let message = format!("function {wanted} is required and does not exist");
        return Some(
            Finding::critical("pg.function.missing", message)
                .object(wanted)
                .remedy(Remedy::advice("run the migration that creates it, or look for who dropped it")),
        );
    };
    let (schema, signature) = first.function.as_ref()?;
    let code = "pg.function.not_executable";
    let finding = match role {
        Some(_) if those.iter().any(|candidate| candidate.by_role) => return None,
        None if those.iter().any(|candidate| candidate.by_public) => return None,
        Some(role) => {
            let grantee = first.role.clone().unwrap_or_else(|| role.to_owned());
            Finding::critical(code, format!("role {role} may not execute {signature}")).remedy(
                Remedy::statement(format!(
                    "GRANT USAGE ON SCHEMA {schema} TO {grantee}; GRANT EXECUTE ON ROUTINE {signature} TO {grantee};"
                ))
                .because("look first whether it was taken away on purpose"),
            )
        }
        None => {
            let message = format!("not everybody may execute {signature}; required.role says who must");
            Finding::info(code, message)
        }
    };
    Some(
        finding
            .object(signature)
            .evidence(json!({ "required": wanted, "function": signature, "role": role })),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_anything() {
        for (wanted, schema, name, types) in [
            ("app.score", "app", "score", "*"),
            ("app.score(integer, text)", "app", "score", "integer, text"),
            ("app.now_utc()", "app", "now_utc", ""),
            ("score( int )", "*", "score", "int"),
        ] {
            assert_eq!(parts(wanted), (schema.to_owned(), name.to_owned(), types.to_owned()), "{wanted}");
        }
    }
}
