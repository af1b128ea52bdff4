//! The rights that let every probe see, without the right to read a row of a user's.

use std::collections::BTreeSet;

use ops_core::{ProbeSpec, Requirement};

use crate::probe::{Scope, registry};
use crate::provider::{Managed, Provider};
use crate::quote;

/// What bloat estimates need.
pub(crate) const COLUMN_STATISTICS: Requirement =
    Requirement::Grant { what: "the statistics of columns", statement: COLUMN_STATISTICS_VIEW };

/// What everything about other sessions needs besides the right to see them.
pub(crate) const ACTIVITY: Requirement =
    Requirement::Grant { what: "sessions that say what they do", statement: TRACK_ACTIVITIES };

/// It may also be off for a role or a database, or in a session itself.
pub(crate) const TRACK_ACTIVITIES: &str = "ALTER SYSTEM SET track_activities = on; SELECT pg_reload_conf();";

/// The columns that both ways to the statistics have: widths and shares, none of the values that `pg_stats` shows
/// beside them.
pub(crate) const STATISTICS_OF_SUPERUSER: &str = "
(SELECT starelid AS relid, staattnum AS attnum, stainherit AS inherited, stanullfrac AS null_fraction,
        stawidth AS average_width, stadistinct AS distinct_values FROM pg_catalog.pg_statistic)";

/// A view runs with its owner's rights, so that the role itself needs none on `pg_statistic`.
const COLUMN_STATISTICS_VIEW: &str = "CREATE OR REPLACE VIEW ops.column_statistics AS \
     SELECT starelid AS relid, staattnum AS attnum, stainherit AS inherited, stanullfrac AS null_fraction, \
     stawidth AS average_width, stadistinct AS distinct_values FROM pg_catalog.pg_statistic";

/// The last value of any sequence: what `SELECT` on it would show, also of those that are made later.
const SEQUENCE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION ops.sequence_last_value(sequence oid) RETURNS bigint \
     LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
     AS 'SELECT pg_sequence_last_value(sequence::regclass)'";

/// The schema's owner could drop what is in it, and put something else there under the same name that would be called
/// with our rights: so it has to be a superuser's.
const SCHEMA: [&str; 2] = [
    "CREATE SCHEMA IF NOT EXISTS ops",
    "DO $ops$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n \
     JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner AND r.rolsuper WHERE n.nspname = 'ops') THEN \
     RAISE EXCEPTION 'schema ops is not owned by a superuser: its owner could replace what is made in it'; \
     END IF; END $ops$",
];

/// How many segments hold the members of multixacts. Not EXECUTE on pg_ls_dir(text) itself: that would let the role list
/// every directory of the data directory.
const MULTIXACT_FUNCTION: &str = "CREATE OR REPLACE FUNCTION ops.multixact_member_segments() RETURNS bigint \
     LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
     AS 'SELECT count(*) FROM pg_ls_dir(''pg_multixact/members'')'";

/// Lets `role`, as SQL names it, read the statistics of columns. For a superuser to run, in each database.
pub(crate) fn column_statistics(role: &str) -> String {
    on_one_line(&column_statistics_statements(role))
}

fn in_schema(statements: impl IntoIterator<Item = String>) -> Vec<String> {
    SCHEMA.map(str::to_owned).into_iter().chain(statements).collect()
}

fn column_statistics_statements(role: &str) -> Vec<String> {
    in_schema([
        format!("GRANT USAGE ON SCHEMA ops TO {role}"),
        COLUMN_STATISTICS_VIEW.to_owned(),
        format!("GRANT SELECT ON ops.column_statistics TO {role}"),
    ])
}

/// The same where there is no superuser to own a view: nothing less than every row shows them.
pub(crate) fn column_statistics_without_superuser(role: &str, managed: &Managed) -> String {
    let title = managed.title;
    format!(
        "GRANT pg_read_all_data TO {role}; -- {title} has nothing less that shows them; it shows every row too"
    )
}

/// Lets `role`, as SQL names it, read how far every sequence is. For a superuser to run, in each database.
pub(crate) fn sequence_values(role: &str) -> String {
    on_one_line(&sequence_values_statements(role))
}

fn sequence_values_statements(role: &str) -> Vec<String> {
    in_schema([
        format!("GRANT USAGE ON SCHEMA ops TO {role}"),
        SEQUENCE_FUNCTION.to_owned(),
        "REVOKE ALL ON FUNCTION ops.sequence_last_value(oid) FROM PUBLIC".to_owned(),
        format!("GRANT EXECUTE ON FUNCTION ops.sequence_last_value(oid) TO {role}"),
    ])
}

/// Lets `role`, as SQL names it, count the segments of multixact members. For a superuser to run, in each database that
/// the server is probed through.
pub(crate) fn multixact_members(role: &str) -> String {
    on_one_line(&multixact_members_statements(role))
}

fn multixact_members_statements(role: &str) -> Vec<String> {
    in_schema([
        format!("GRANT USAGE ON SCHEMA ops TO {role}"),
        MULTIXACT_FUNCTION.to_owned(),
        "REVOKE ALL ON FUNCTION ops.multixact_member_segments() FROM PUBLIC".to_owned(),
        format!("GRANT EXECUTE ON FUNCTION ops.multixact_member_segments() TO {role}"),
    ])
}

/// Lets `role`, as SQL names it, read what is wrong in configuration files. For a superuser to run, in each database
/// that the server is probed through: rights on the catalogue are a database's own.
pub(crate) fn file_errors(role: &str) -> String {
    on_one_line(&file_errors_statements(role))
}

fn file_errors_statements(role: &str) -> Vec<String> {
    vec![
        format!("GRANT SELECT ON pg_catalog.pg_file_settings TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_all_file_settings() TO {role}"),
    ]
}

/// As an Unknown gives them, to be pasted.
fn on_one_line(statements: &[String]) -> String {
    format!("{};", statements.join("; "))
}

/// The SQL that lets `role` see everything that the built-in probes look at, for a superuser to run with `psql`: a
/// login, predefined roles, and in each of `databases` its extensions and the objects in schema `ops`. None of it
/// lets the role read a row of a user's table. Running it again changes nothing.
///
/// ```
/// let sql = ops_pg::grants("ops_monitor", &["shop".to_owned()]);
/// assert!(sql.contains("GRANT pg_monitor TO ops_monitor;"));
/// ```
pub fn grants(role: &str, databases: &[String]) -> String {
    grants_on(Provider::Own, role, databases)
}

/// Like [`grants`], for who runs the server. On a managed service the administrator who runs the script is no
/// superuser: what only a superuser can give is left out, and the script says so.
///
/// ```
/// let sql = ops_pg::grants_on(ops_pg::Provider::Rds, "ops_monitor", &["shop".to_owned()]);
/// assert!(!sql.contains("CREATE SCHEMA"));
/// ```
pub fn grants_on(provider: Provider, role: &str, databases: &[String]) -> String {
    let managed = provider.managed();
    let name = quote::ident(role);
    let mut sql = format!(
        "DO {};\n",
        quote::dollar(&format!(
            "BEGIN\n  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal}) THEN\n    \
             CREATE ROLE {name} LOGIN; -- \\password sets one\n  END IF;\nEND",
            literal = quote::literal(role),
        ))
    );
    // It holds pg_read_all_stats, pg_read_all_settings and pg_stat_scan_tables, and the right to list the WAL.
    sql.push_str(&format!("GRANT pg_monitor TO {name};\n"));
    for needed in needs(Scope::Cluster) {
        sql.push_str(&lines(&statements(&needed, &name, managed)));
    }
    for database in databases {
        let quoted = quote::ident(database);
        let Some(connect) = connect(database) else {
            sql.push_str(&format!("\n-- left out, for a line break in its name: {database:?}\n"));
            continue;
        };
        sql.push_str(&format!("\n{connect}\nGRANT CONNECT ON DATABASE {quoted} TO {name};\n"));
        let mut all: Vec<String> = Vec::new();
        let needed =
            needs(Scope::Database).into_iter().flat_map(|needed| statements(&needed, &name, managed));
        let of_superuser = managed.is_none().then(|| {
            let of = [sequence_values_statements, multixact_members_statements, file_errors_statements];
            of.into_iter().flat_map(|statements| statements(&name)).collect::<Vec<_>>()
        });
        for statement in needed.chain(of_superuser.into_iter().flatten()) {
            if !all.contains(&statement) {
                all.push(statement);
            }
        }
        sql.push_str(&lines(&all));
        sql.push_str(&managed.map(|managed| left_out(managed, &name)).unwrap_or_default());
    }
    sql
}

/// What a managed service gives nobody the right to give.
fn left_out(managed: &Managed, role: &str) -> String {
    // A comment ends with its line.
    let role = if role.contains(char::is_control) { "the role" } else { role };
    format!(
        "-- left out, for {title} has no superuser to give it: the statistics of columns, without which bloat is \
         unknown\n-- (GRANT pg_read_all_data TO {role} would show them, and every row of every table)\n\
         -- left out likewise: the last value of sequences; the owner of each schema's can run\n\
         -- GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO {role}\n",
        title = managed.title,
    )
}

/// What the built-in probes of a scope need, each once.
fn needs(scope: Scope) -> Vec<Requirement> {
    let mut seen = BTreeSet::new();
    let specs = registry().iter().filter(|probe| probe.scope() == scope).map(|probe| probe.spec());
    let requirements = specs.flat_map(|spec: &'static ProbeSpec| spec.requires);
    requirements.filter(|needed| seen.insert(format!("{needed:?}"))).copied().collect()
}

fn statements(needed: &Requirement, role: &str, managed: Option<&Managed>) -> Vec<String> {
    match needed {
        needed if *needed == COLUMN_STATISTICS => match managed {
            None => column_statistics_statements(role),
            Some(_) => Vec::new(),
        },
        // No right, but a setting of the server: who wants rights for a role does not want that changed.
        needed if *needed == ACTIVITY => Vec::new(),
        Requirement::Extension(name) => {
            vec![format!("CREATE EXTENSION IF NOT EXISTS {name}"), use_schema_of(name, role)]
        }
        Requirement::Grant { statement, .. } => {
            vec![statement.replace("{role}", role).trim_end_matches(';').to_owned()]
        }
        // Those of pg_monitor.
        Requirement::Role(_) | Requirement::ServerVersion(_) | Requirement::Command(_) => Vec::new(),
        _ => Vec::new(),
    }
}

/// Lets `role`, as SQL names it, use the schema that an extension is in, whichever that is.
fn use_schema_of(extension: &str, role: &str) -> String {
    let grant = quote::literal(&format!("GRANT USAGE ON SCHEMA %I TO {}", role.replace('%', "%%")));
    let body = format!(
        "BEGIN EXECUTE (SELECT pg_catalog.format({grant}, n.nspname) FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = {}); END",
        quote::literal(extension)
    );
    format!("DO {}", quote::dollar(&body))
}

/// One statement a line.
fn lines(statements: &[String]) -> String {
    statements.iter().map(|statement| format!("{statement};\n")).collect()
}

/// How `psql` is told to go on in another database; `None` where it cannot be. Its commands end with the line,
/// whatever is quoted in it, so that a name with a line break in it would become statements, run by a superuser. A
/// name with `=` in it, or one that looks like a URL, it would take for a connection string: so it gets one.
fn connect(database: &str) -> Option<String> {
    if database.chars().any(char::is_control) {
        return None;
    }
    let quoted = quote::ident(database);
    if !quoted.starts_with('"') {
        return Some(format!("\\connect {quoted}"));
    }
    let value = database.replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\"\"");
    Some(format!("\\connect -reuse-previous=on \"dbname='{value}'\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        for (database, expected) in [
            ("shop", Some(r"\connect shop")),
            ("Second One", Some(r#"\connect -reuse-previous=on "dbname='Second One'""#)),
            ("host=evil", Some(r#"\connect -reuse-previous=on "dbname='host=evil'""#)),
            (r#"a"b'c\d"#, Some(r#"\connect -reuse-previous=on "dbname='a""b\'c\\d'""#)),
            ("x\nALTER ROLE evil SUPERUSER; --", None),
            ("x\rALTER ROLE evil SUPERUSER; --", None),
        ] {
            assert_eq!(connect(database).as_deref(), expected);
        }
        let script = grants("Odd; x", &["x\nALTER ROLE evil SUPERUSER; --".to_owned()]);
        assert!(!script.contains("\nALTER"), "{script}");
        assert!(script.contains("GRANT pg_monitor TO \"Odd; x\";"), "{script}");
    }

    #[test]
    fn nothing_is_said_twice() {
        for provider in [Provider::Own, Provider::Rds] {
            let script = grants_on(provider, "w", &["shop".to_owned()]);
            let statements: Vec<&str> = script.lines().filter(|line| line.ends_with(';')).collect();
            let different: BTreeSet<&str> = statements.iter().copied().collect();
            assert_eq!(statements.len(), different.len(), "{script}");
        }
    }
}
