//! One row a probe: what is planted, what it must say, about which object. The rows are in files by family.

pub(crate) mod activity;
pub(crate) mod availability;
pub(crate) mod indexes;
pub(crate) mod objects;
pub(crate) mod own;
pub(crate) mod replication;
pub(crate) mod security;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod tables;
pub(crate) mod wal;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ops_core::testing::ManualClock;
use ops_core::{Bounds, Context, HealthReport, Limits, ProbeResult, ProbeSet, ProbeSpec, Secret, Status};
use ops_pg::{PgConfig, PgProbe, PgTarget, registry};
use ops_testkit::{Missing, ROLES, Role, TestDb, eventually, or_skip};
use sqlx::{Connection, Executor, PgConnection, PgPool};

/// What must stay alive while the plant is looked at, and where to look when it is not in the test's database.
#[derive(Default)]
pub(crate) struct Held {
    things: Vec<Box<dyn Any + Send>>,
    url: Option<Box<dyn Fn(Role) -> String + Send>>,
    console: Option<String>,
    pools: Vec<(Role, PgPool)>,
    writable: Option<String>,
}

impl Held {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, thing: Box<dyn Any + Send>) {
        self.things.push(thing);
    }

    /// Looks at this URL instead of the test database's.
    pub(crate) fn at(mut self, url: impl Fn(Role) -> String + Send + 'static) -> Self {
        self.url = Some(Box::new(url));
        self
    }

    /// Asks the console of a PgBouncer at this URL as well.
    pub(crate) fn with_console(mut self, url: String) -> Self {
        self.console = Some(url);
        self
    }

    /// Looks through this role's pool, as the service that has it would.
    pub(crate) fn with_pools(mut self, pools: Vec<(Role, PgPool)>) -> Self {
        self.pools = pools;
        self
    }

    /// Fixes are applied at this URL, a superuser's, instead of the test database's.
    pub(crate) fn fixed_at(mut self, url: String) -> Self {
        self.writable = Some(url);
        self
    }
}

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
    /// The major versions on which it can be planted: a plant that needs a cluster of its own needs binaries.
    pub(crate) majors: &'static [u32],
    /// What time it is, before the plant and with it; by default what it is.
    pub(crate) clock: Option<[&'static str; 2]>,
    /// The target's configuration, for a probe that looks at what it names.
    pub(crate) config: fn() -> PgConfig,
    /// The first major version that has what is asked; before it, the probe is not applicable.
    pub(crate) since: u32,
    /// What the plant takes besides the server.
    pub(crate) needs: fn() -> Result<(), Missing>,
}

/// Each is tested in a database of its own: see `plants`.
const FAMILIES: &[fn() -> Vec<Row>] = &[
    availability::rows,
    replication::rows,
    wal::rows,
    sessions::rows,
    activity::rows,
    tables::rows,
    indexes::rows,
    objects::rows,
    settings::rows,
    security::rows,
];

/// Every row there is.
pub(crate) fn rows() -> Vec<Row> {
    FAMILIES.iter().flat_map(|family| family()).collect()
}

impl Row {
    /// A row of the defaults: no bounds of its own, any object, the database's own URL.
    fn of(
        probe: &'static str,
        expected: Status,
        code: &'static str,
        plant: for<'a> fn(&'a TestDb) -> Planting<'a>,
    ) -> Self {
        Self {
            probe,
            expected,
            code,
            object: None,
            bounds: &[],
            plant,
            majors: &ops_testkit::MAJORS,
            clock: None,
            config: PgConfig::default,
            since: 0,
            needs: || Ok(()),
        }
    }

    /// The object that the finding must name.
    fn about(self, object: fn(&TestDb) -> String) -> Self {
        Self { object: Some(object), ..self }
    }

    /// The first major version that has what is asked.
    fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    /// What the plant takes besides the server.
    fn needing(self, needs: fn() -> Result<(), Missing>) -> Self {
        Self { needs, ..self }
    }

    /// Needs a cluster of its own, which takes binaries: the suite has version 17 in a container only.
    fn with_cluster(self) -> Self {
        Self { majors: &[15, 18], ..self }
    }

    /// The time before the plant, and with it.
    fn at_times(self, clock: [&'static str; 2]) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Looks with this configuration.
    fn configured(self, config: fn() -> PgConfig) -> Self {
        Self { config, ..self }
    }

    /// Bounds that bring the plant within a test's means.
    fn bounded(self, bounds: &'static [(&'static str, Bounds)]) -> Self {
        Self { bounds, ..self }
    }
}

fn run<'a>(db: &'a TestDb, sql: &'static str) -> Planting<'a> {
    Box::pin(async move {
        db.execute(sql).await;
        Held::new()
    })
}

/// An idle reader, an ALTER behind it, two SELECTs behind that, all settled for over a second.
pub(crate) async fn blocked_alter(db: &TestDb) -> Held {
    db.execute("CREATE TABLE IF NOT EXISTS orders (id int)").await;
    let mut reader = db.connect().await.unwrap();
    reader.execute("SET application_name = 'forgotten'; BEGIN; SELECT count(*) FROM orders").await.unwrap();
    let mut held = Held::new();
    held.push(Box::new(reader));
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

    /// Runs the row's probe once as `role`: with its plant, or before it.
    pub(crate) async fn look(&self, db: &TestDb, role: Role, planted: Option<&Held>) -> ProbeResult {
        let url = match planted.and_then(|held| held.url.as_ref()) {
            Some(url) => url(role),
            None => db.url_as(role),
        };
        let pools = planted.map_or(&[][..], |held| &held.pools);
        let mut target = match pools.iter().find(|(of, _)| *of == role) {
            Some((_, pool)) => PgTarget::from_pool("main", pool.clone(), (self.config)()),
            None => PgTarget::connect_lazily("main", &Secret::from(url), (self.config)()).unwrap(),
        };
        if let Some(console) = planted.and_then(|held| held.console.clone()) {
            target = target.with_pgbouncer(&Secret::from(console)).unwrap();
        }
        let probe = probe_named(self.probe);
        let mut set = ProbeSet::new("test");
        // Without its plant a probe is ok by its defaults; the age of ids is the whole cluster's, tests and all.
        let limits =
            if planted.is_some() { self.limits(probe.spec()) } else { Limits::defaults(probe.spec()) };
        target.add_to(&mut set, probe, limits);
        let mut cx = Context::new().with_window_gap(Duration::from_millis(1500));
        if let Some(times) = self.clock {
            cx = cx.with_clock(ManualClock::at(times[usize::from(planted.is_some())].parse().unwrap()));
        }
        let mut report: HealthReport = set.run(&cx).await;
        report.probes.remove(0)
    }

    /// Whether it cannot be planted here. Where the server cannot have what is asked, the probe must say so, to
    /// everybody.
    pub(crate) async fn is_left_out(&self, db: &TestDb) -> bool {
        if or_skip((self.needs)()).is_none() {
            return true;
        }
        if !self.majors.contains(&db.server().major()) {
            eprintln!("NOT PLANTED on {}: {} ({})", db.server().major(), self.probe, self.code);
            return true;
        }
        let too_new = db.server().major() < self.since;
        if too_new {
            for role in ROLES {
                let result = self.look(db, role, None).await;
                assert_eq!(result.status, Status::NotApplicable, "{} as {role:?}: {result:#?}", self.probe);
            }
        }
        too_new
    }

    /// Runs a statement as superuser where the probe looks.
    pub(crate) async fn execute(&self, db: &TestDb, held: &Held, sql: &str) {
        if let Some(url) = &held.writable {
            return own::execute(url, sql).await;
        }
        let Some(url) = &held.url else { return db.execute(sql).await };
        let mut connection = PgConnection::connect(&url(Role::Superuser)).await.unwrap();
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Whether the result shows the planted object.
    pub(crate) fn shows(&self, db: &TestDb, result: &ProbeResult) -> bool {
        let object = self.object.map(|object| object(db));
        result.findings.iter().any(|finding| {
            finding.code == self.code && object.as_ref().is_none_or(|o| finding.object.as_ref() == Some(o))
        })
    }
}
