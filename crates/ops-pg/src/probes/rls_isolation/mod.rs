//! `pg.rls_isolation`: becomes one tenant after the other, and looks for the other's rows.

mod statements;

use async_trait::async_trait;
use ops_core::{
    Context, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Unit,
};
use serde_json::json;

use crate::config::{IsolationConfig, TenantConfig};
use crate::probe::{PgProbe, Scope};
use crate::quote::ident;
use crate::target::PgTarget;
use statements::{FUNCTIONS, RELATIONS, ROLE, Table, filled};

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.rls_isolation",
    group: "security",
    explanation: Explanation {
        why: "A catalogue can show that every table has its policies while a view, a materialised view or a function \
              that runs with its owner's rights hands one tenant's rows to another. Only somebody who tries finds out.",
        measures: "For each [[postgres.NAME.isolation]], and in transactions that are rolled back or read-only: as each \
                   of two tenants, with the clients' role and claims, whether it sees rows of its own and of the \
                   other's, in the relations configured, in every view over them that the role may read, and in what \
                   the functions configured return. A view with its owner's rights and without the tenants' column \
                   is unknown, unless rls.exposed names it. Where neither sees its own rows, nothing is proven, and the answer \
                   is unknown. With `writes`, also whether it can insert, hand over, update and delete the other's \
                   rows: refused is SQLSTATE 42501 or no row.",
        queries: &[
            ("the role to become", ROLE),
            ("relations and the views over them", RELATIONS),
            ("functions", FUNCTIONS),
        ],
        codes: &[
            ("pg.rls_isolation.leak", "a tenant sees rows of the other"),
            ("pg.rls_isolation.write", "a tenant can write rows of the other"),
            ("pg.rls_isolation.bypass", "row security does not hold the clients' role at all"),
            (
                "pg.rls_isolation.owner",
                "the clients' role owns a table whose row security is not forced on owners",
            ),
            ("pg.rls_isolation.missing", "a configured relation or function does not exist"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one transaction a relation and tenant, each with two existence checks as that tenant; reads users' rows, \
               and keeps none",
        remedy: "Take the relation that the finding names: recreate a view WITH (security_invoker = true), close a \
                 materialised view, filter inside a SECURITY DEFINER function; then run ops check --only \
                 pg.rls_isolation again.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct RlsIsolation;

#[async_trait]
impl PgProbe for RlsIsolation {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        if pg.config().isolation.is_empty() {
            return Ok(ProbeReport::not_applicable("no tenants are configured (isolation)"));
        }
        let mut trial = Trial { cx, pg, findings: Vec::new(), unseen: Vec::new(), proven: 0, tried: 0 };
        for isolation in &pg.config().isolation {
            trial.of(isolation).await?;
        }
        let summary = format!("isolation proven in {} of {} relations", trial.proven, trial.tried);
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("tried", trial.tried as f64, Unit::Count))
            .measure(Measurement::new("proven", trial.proven as f64, Unit::Count))
            .findings(trial.findings);
        Ok(trial.unseen.into_iter().fold(report, |report, (what, fix)| report.unseen(what, fix)))
    }
}

/// What a tenant may reach rows through.
struct Reachable {
    name: String,
    column: String,
    /// Of a table, which can be written: the columns of a copied row.
    copied: Option<String>,
    /// Whether it was asked for: what was merely found may well be closed to the role.
    named: bool,
}

struct Trial<'t> {
    cx: &'t Context,
    pg: &'t PgTarget,
    findings: Vec<Finding>,
    unseen: Vec<(String, Option<String>)>,
    proven: usize,
    tried: usize,
}

impl Trial<'_> {
    async fn of(&mut self, isolation: &IsolationConfig) -> Result<()> {
        if !self.role(isolation).await? {
            return Ok(());
        }
        for reachable in self.relations(isolation).await?.into_iter().chain(self.functions(isolation).await?)
        {
            self.tried += 1;
            if self.isolated(isolation, &reachable).await? {
                self.proven += 1;
            }
        }
        Ok(())
    }

    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn unseen(&mut self, what: String, fix: Option<String>) {
        self.unseen.push((what, fix));
    }

    /// Whether we can become the role, and row security holds it.
    async fn role(&mut self, isolation: &IsolationConfig) -> Result<bool> {
        let capabilities = self.pg.capabilities(self.cx).await?;
        if capabilities.superuser {
            let what = format!(
                "what is looked through runs its users' own functions, and one of them could take back the rights of {}, \
                 a superuser",
                capabilities.role
            );
            let fix = format!(
                "let ops log in as the role of `ops grants`, and GRANT {} TO it",
                ident(&isolation.role)
            );
            self.unseen(what, Some(fix));
            return Ok(false);
        }
        let rows = self.pg.read(self.cx, &filled(ROLE, isolation, &[], capabilities.major())).await?;
        let name = &isolation.role;
        let Some(row) = rows.first() else {
            self.unseen(format!("there is no role {name} to become"), None);
            return Ok(false);
        };
        if row.get("superuser")? || row.get("bypasses")? {
            let message = format!("role {name} bypasses row security: every client sees every row");
            self.found(
                Finding::critical("pg.rls_isolation.bypass", message).object(name).remedy(Remedy::statement(
                    format!("ALTER ROLE {} NOSUPERUSER NOBYPASSRLS;", ident(name)),
                )),
            );
        }
        if !row.get::<bool>("reachable")? {
            let fix = format!("GRANT {} TO {};", ident(name), capabilities.quoted_role());
            self.unseen(format!("role {} may not become {name}", capabilities.role), Some(fix));
            return Ok(false);
        }
        Ok(true)
    }

    async fn relations(&mut self, isolation: &IsolationConfig) -> Result<Vec<Reachable>> {
        let rows = self.pg.read(self.cx, &filled(RELATIONS, isolation, &isolation.relations, 0)).await?;
        let mut reachable = Vec::new();
        let mut there = Vec::new();
        for row in &rows {
            let (name, named): (String, bool) = (row.get("name")?, row.get("named")?);
            let plain_name: String = row.get("plain_name")?;
            there.push(plain_name.clone());
            if row.get("owned")? && row.get("owner_sees_all")? {
                let message =
                    format!("role {} owns {name}, and owners are not held by its policies", isolation.role);
                let force = format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY;");
                self.found(
                    Finding::warning("pg.rls_isolation.owner", message)
                        .object(&name)
                        .remedy(Remedy::statement(force)),
                );
            }
            let table = matches!(row.get::<String>("kind")?.as_str(), "r" | "p");
            match row.get::<Option<String>>("tenant_column")? {
                Some(column) => {
                    let copied = if table { row.get("copied")? } else { None };
                    reachable.push(Reachable { name, column, copied, named });
                }
                None if named => self.unseen(format!("{name} has no column {}", isolation.column), None),
                // A view of sums and counts has no such column, and nor has one that leaves it out.
                None if row.get("shows_as_owner")? && !self.pg.config().rls.exposed.contains(&plain_name) => {
                    let what = format!(
                        "{name} shows {} what its owner sees, and has no column {}: whose rows they are cannot be told",
                        isolation.role, isolation.column
                    );
                    let fix = "if that is on purpose, name it in rls.exposed".to_owned();
                    self.unseen(what, Some(fix));
                }
                None => {}
            }
        }
        self.missing(&isolation.relations, &there);
        Ok(reachable)
    }

    async fn functions(&mut self, isolation: &IsolationConfig) -> Result<Vec<Reachable>> {
        if isolation.functions.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.pg.read(self.cx, &filled(FUNCTIONS, isolation, &isolation.functions, 0)).await?;
        let there = rows.iter().map(|row| row.get("plain_name")).collect::<Result<Vec<String>>>()?;
        self.missing(&isolation.functions, &there);
        let column = ident(&isolation.column);
        let reachable = |name| Reachable { name, column: column.clone(), copied: None, named: true };
        rows.iter().map(|row| Ok(reachable(row.get("name")?))).collect()
    }

    fn missing(&mut self, named: &[String], there: &[String]) {
        for name in named.iter().filter(|name| !there.contains(name)) {
            let message = format!("{name} is configured to isolate tenants, and does not exist");
            self.found(Finding::critical("pg.rls_isolation.missing", message).object(name));
        }
    }

    /// Looks as each of the two. Whether both see their own rows, and neither the other's.
    async fn isolated(&mut self, isolation: &IsolationConfig, reachable: &Reachable) -> Result<bool> {
        let mut proven = true;
        for pair in [[0, 1], [1, 0]] {
            let [Some(own), Some(other)] = pair.map(|index| isolation.tenants.get(index)) else {
                self.unseen("isolation takes two tenants".to_owned(), None);
                return Ok(false);
            };
            proven &= self.looks(isolation, reachable, own, other).await?;
            if let Some(copied) = reachable.copied.as_deref().filter(|_| isolation.writes) {
                let table = Table { name: &reachable.name, column: &reachable.column, copied };
                proven &= self.writes(isolation, table, own, other).await?;
            }
        }
        Ok(proven)
    }

    async fn looks(
        &mut self,
        isolation: &IsolationConfig,
        reachable: &Reachable,
        own: &TenantConfig,
        other: &TenantConfig,
    ) -> Result<bool> {
        let name = &reachable.name;
        let sql = statements::look(isolation, own, other, name, &reachable.column);
        let rows = match self.pg.read(self.cx, &sql).await {
            Ok(rows) => rows,
            // Closed to the role: nobody reaches a row through it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                if reachable.named {
                    self.unseen(
                        format!("role {} may not read {name}: nothing is proven", isolation.role),
                        None,
                    );
                }
                return Ok(!reachable.named);
            }
            Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
            Err(error) => {
                let fix = error.fix().map(str::to_owned);
                self.unseen(format!("{name} as {}: {}", own.name, error.report()), fix);
                return Ok(false);
            }
        };
        // The statements before it return no rows.
        let Some(row) = rows.first() else {
            self.unseen(format!("{name} as {} answered nothing", own.name), None);
            return Ok(false);
        };
        if row.get::<String>("role")? != isolation.role {
            self.unseen(format!("becoming {} had no effect", isolation.role), None);
            return Ok(false);
        }
        let (sees_own, sees_other): (bool, bool) = (row.get("own")?, row.get("other")?);
        if sees_other {
            let message = format!("tenant {} sees rows of {} in {name}", own.name, other.name);
            self.found(self.about(Finding::critical("pg.rls_isolation.leak", message), name, own, other));
        } else if !sees_own {
            let what = format!("tenant {} sees no row of its own in {name}: nothing is proven", own.name);
            self.unseen(what, None);
        }
        Ok(sees_own && !sees_other)
    }

    async fn writes(
        &mut self,
        isolation: &IsolationConfig,
        table: Table<'_>,
        own: &TenantConfig,
        other: &TenantConfig,
    ) -> Result<bool> {
        let name = table.name;
        let mut refused = true;
        for (what, sql) in statements::writes(isolation, own, other, table) {
            let written = match self.pg.try_and_roll_back(self.cx, &sql).await {
                Ok(rows) => rows.first().map_or(Ok(0), |row| row.get::<i64>("rows"))?,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => 0,
                Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                Err(error) => {
                    let what = format!(
                        "whether {} can {what} {} in {name}: {}",
                        own.name,
                        other.name,
                        error.report()
                    );
                    self.unseen(what, None);
                    refused = false;
                    continue;
                }
            };
            if written > 0 {
                refused = false;
                let message =
                    format!("tenant {} can {what} {} in {name} (rolled back)", own.name, other.name);
                self.found(self.about(
                    Finding::critical("pg.rls_isolation.write", message),
                    name,
                    own,
                    other,
                ));
            }
        }
        Ok(refused)
    }

    fn about(&self, finding: Finding, name: &str, own: &TenantConfig, other: &TenantConfig) -> Finding {
        finding.object(name).evidence(json!({ "relation": name, "as": own.name, "rows_of": other.name }))
    }
}
