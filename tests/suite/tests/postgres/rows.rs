//! One row a probe: what is planted, what it must say, about which object.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ops_core::{Bounds, Context, HealthReport, Limits, ProbeResult, ProbeSet, ProbeSpec, Secret, Status};
use ops_pg::{PgConfig, PgProbe, PgTarget, registry};
use ops_testkit::{Role, TestDb, eventually};
use sqlx::{Connection, Executor, PgConnection};

/// What must stay alive while the plant is looked at.
pub(crate) type Held = Vec<Box<dyn Any + Send>>;
type Planting<'a> = Pin<Box<dyn Future<Output = Held> + 'a>>;

pub(crate) struct Row {
    pub(crate) probe: &'static str,
    /// The status with the plant. Without it: ok, or not applicable.
    pub(crate) expected: Status,
    pub(crate) code: &'static str,
    /// The object of the finding; `None` where only the server knows its name.
    pub(crate) object: Option<fn(&TestDb) -> String>,
    /// Bounds that bring the plant within a test's means.
    pub(crate) bounds: &'static [(&'static str, Bounds)],
    pub(crate) plant: for<'a> fn(&'a TestDb) -> Planting<'a>,
    /// The URL to look at once planted, where it is another one.
    pub(crate) url: Option<fn(&TestDb, Role) -> String>,
}

const NO_BOUNDS: &[(&str, Bounds)] = &[];

pub(crate) fn rows() -> Vec<Row> {
    let sql_row = |probe, expected, code, object, plant| Row {
        probe,
        expected,
        code,
        object: Some(object),
        bounds: NO_BOUNDS,
        plant,
        url: None,
    };
    vec![
        Row {
            probe: "pg.reachable",
            expected: Status::Critical,
            code: "pg.reachable.down",
            object: None,
            bounds: NO_BOUNDS,
            plant: |_| Box::pin(async { Held::new() }),
            // Nothing listens on the port of TCP's own multiplexer.
            url: Some(|db, role| db.url_at(([127, 0, 0, 1], 1).into(), role)),
        },
        Row {
            probe: "pg.connections",
            expected: Status::Warning,
            code: "pg.connections.high",
            object: None,
            bounds: &[("used", Bounds { warning: Some(5.0), critical: None })],
            plant: |db| Box::pin(idle_sessions(db)),
            url: None,
        },
        sql_row(
            "pg.blocking",
            Status::Critical,
            "pg.blocking.root",
            |_| "public.orders".into(),
            |db| Box::pin(blocked_alter(db)),
        ),
        Row {
            probe: "pg.wraparound",
            expected: Status::Warning,
            code: "pg.wraparound.age",
            object: Some(|db| db.name().to_owned()),
            bounds: &[("age", Bounds { warning: Some(100.0), critical: None })],
            plant: |db| {
                run(db, "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")
            },
            url: None,
        },
        sql_row(
            "pg.sequences",
            Status::Critical,
            "pg.sequence.exhausted",
            |_| "public.events_id_seq".into(),
            |db| {
                run(
                    db,
                    "CREATE TABLE events (id serial PRIMARY KEY); SELECT setval('events_id_seq', 2130000000)",
                )
            },
        ),
        Row {
            probe: "pg.slow_queries",
            expected: Status::Warning,
            code: "pg.query.slow",
            object: None,
            bounds: NO_BOUNDS,
            plant: |db| Box::pin(slow_queries(db)),
            url: None,
        },
        sql_row(
            "pg.index_duplicate",
            Status::Warning,
            "pg.index.duplicate",
            |_| "public.t_a2".into(),
            |db| run(db, "CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); CREATE INDEX t_a2 ON t (a)"),
        ),
        sql_row(
            "pg.rls",
            Status::Critical,
            "pg.rls.disabled",
            |_| "public.invoices".into(),
            |db| {
                run(
                    db,
                    "CREATE TABLE accounts (tenant int); ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY own ON accounts USING (tenant = 1); CREATE TABLE invoices (tenant int)",
                )
            },
        ),
    ]
}

fn run<'a>(db: &'a TestDb, sql: &'static str) -> Planting<'a> {
    Box::pin(async move {
        db.execute(sql).await;
        Held::new()
    })
}

async fn idle_sessions(db: &TestDb) -> Held {
    let mut held = Held::new();
    for _ in 0..15 {
        held.push(Box::new(db.connect().await.unwrap()));
    }
    held
}

/// An idle reader, an ALTER behind it, two SELECTs behind that, all settled for over a second.
pub(crate) async fn blocked_alter(db: &TestDb) -> Held {
    db.execute("CREATE TABLE IF NOT EXISTS orders (id int)").await;
    let mut reader = db.connect().await.unwrap();
    reader.execute("SET application_name = 'forgotten'; BEGIN; SELECT count(*) FROM orders").await.unwrap();
    let mut held: Held = vec![Box::new(reader)];
    for (sql, waiting) in
        [("ALTER TABLE orders ADD COLUMN note text", 1), ("TABLE orders", 2), ("TABLE orders", 3)]
    {
        let connection = db.connect().await.unwrap();
        held.push(Box::new(AbortOnDrop(tokio::spawn(endless(connection, sql)))));
        until(
            db,
            &format!("SELECT count(*) = {waiting} FROM pg_locks WHERE NOT granted AND {THIS_DATABASE}"),
        )
        .await;
    }
    let settled =
        "count(*) = 3 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - '1.1 s'::interval";
    until(db, &format!("SELECT {settled} AND {THIS_DATABASE}")).await;
    held
}

const THIS_DATABASE: &str = "database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Six sessions that run a slow statement again and again.
async fn slow_queries(db: &TestDb) -> Held {
    db.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
    let mut held = Held::new();
    for _ in 0..6 {
        let mut connection = db.connect().await.unwrap();
        held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
            while connection.execute("SELECT pg_sleep(0.55)").await.is_ok() {}
        }))));
    }
    held
}

async fn endless(mut connection: PgConnection, sql: &'static str) {
    // It ends with its database.
    let _ = connection.execute(sql).await;
}

pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks until the answer is true.
pub(crate) async fn until(db: &TestDb, question: &str) {
    let mut connection = db.connect().await.unwrap();
    let answer = eventually(question, Duration::from_secs(20), async || {
        let sql = sqlx::AssertSqlSafe(question.to_owned());
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap().then_some(())
    });
    answer.await;
    connection.close().await.unwrap();
}

pub(crate) fn probe_named(name: &str) -> &'static dyn PgProbe {
    *registry().iter().find(|probe| probe.spec().name == name).expect("a registered probe")
}

impl Row {
    fn limits(&self, spec: &'static ProbeSpec) -> Limits {
        self.bounds
            .iter()
            .fold(Limits::defaults(spec), |limits, (name, bounds)| limits.with(name, *bounds).unwrap())
    }

    /// Runs the row's probe once as `role`.
    pub(crate) async fn look(&self, db: &TestDb, role: Role, planted: bool) -> ProbeResult {
        let url = match self.url.filter(|_| planted) {
            Some(url) => url(db, role),
            None => db.url_as(role),
        };
        let target = PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()).unwrap();
        let probe = probe_named(self.probe);
        let mut set = ProbeSet::new("test");
        // Without its plant a probe is ok by its defaults; the age of ids is the whole cluster's, tests and all.
        let limits = if planted { self.limits(probe.spec()) } else { Limits::defaults(probe.spec()) };
        target.add_to(&mut set, probe, limits);
        let mut report: HealthReport =
            set.run(&Context::new().with_window_gap(Duration::from_millis(1500))).await;
        report.probes.remove(0)
    }

    /// Whether the result shows the planted object.
    pub(crate) fn shows(&self, db: &TestDb, result: &ProbeResult) -> bool {
        let object = self.object.map(|object| object(db));
        result.findings.iter().any(|finding| {
            finding.code == self.code && object.as_ref().is_none_or(|o| finding.object.as_ref() == Some(o))
        })
    }
}
