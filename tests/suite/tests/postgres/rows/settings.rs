use std::net::{IpAddr, SocketAddr, UdpSocket};

use ops_core::{Context, Status};
use ops_pg::cluster::{Cluster, SUPERUSER};
use ops_testkit::{Role, TestDb, local_options};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Held, Row, run};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.statements", Status::Warning, "pg.statements.outdated", |db| {
            run(db, "CREATE EXTENSION pg_stat_statements VERSION '1.8'")
        })
        .about(|db| db.name().to_owned()),
        Row::of("pg.settings", Status::Critical, "pg.settings.unsafe", |db| {
            Box::pin(async {
                db.execute(format!("ALTER DATABASE {} SET zero_damaged_pages = on", db.name())).await;
                Held::new()
            })
        })
        .about(|_| "zero_damaged_pages".to_owned()),
        Row::of("pg.ssl", Status::Warning, "pg.ssl.plain", |db| Box::pin(plain_session(db)))
            .about(|db| format!("{}_plain", db.name())),
    ]
}

/// A session from another host, without TLS. A container's clients are on another host; the local servers listen
/// on the loopback only, so there it takes a cluster of its own.
async fn plain_session(db: &TestDb) -> Held {
    let role = format!("{}_plain", db.name());
    let password = db.server().password();
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD '{password}' CONNECTION LIMIT 3");
    let mut held = Held::new();
    let address = if db.server().container().is_some() {
        // It goes with its session, at the latest with the container.
        db.execute(create).await;
        db.server().address()
    } else {
        let reachable = Reachable::start(db, &[]).await;
        reachable.execute(&create).await;
        let (address, urls) = (reachable.address, reachable.urls(db));
        held = held.at(urls);
        held.push(Box::new(reachable));
        address
    };
    let database = if db.server().container().is_some() { db.name() } else { "postgres" };
    let url = format!("{}?sslmode=disable", db.server().tcp_url_as(address, &role, database));
    held.push(Box::new(PgConnection::connect(&url).await.unwrap()));
    held
}

/// A cluster that other hosts can reach, with the roles that a test database has.
pub(crate) struct Reachable {
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    _hba: tempfile::NamedTempFile,
}

impl Reachable {
    pub(crate) async fn start(db: &TestDb, tls: &[(&str, &str)]) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let hba = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hba.path(), "local all all trust\nhost all all 0.0.0.0/0 trust\n").unwrap();
        std::fs::set_permissions(hba.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut options = local_options(db.server().major())
            .await
            .unwrap()
            .with_setting("listen_addresses", "0.0.0.0")
            .with_setting("hba_file", hba.path().to_string_lossy());
        if let [(certificate, key)] = tls {
            options = options.with_tls(*certificate, (*key).to_owned());
        }
        let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
        let address = SocketAddr::new(own_address(), cluster.address().unwrap().port());
        let reachable = Self { cluster, address, _hba: hba };
        let (monitor, nobody) = (db.role(Role::Monitor), db.role(Role::Nobody));
        let roles = format!("CREATE ROLE {monitor} LOGIN IN ROLE pg_monitor; CREATE ROLE {nobody} LOGIN");
        reachable.execute(&roles).await;
        reachable
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.cluster.url("postgres")).await.unwrap();
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
        connection.close().await.unwrap();
    }

    fn urls(&self, db: &TestDb) -> impl Fn(Role) -> String + Send + 'static {
        let url = |role: &str| self.cluster.url_as(role, "postgres");
        let (superuser, monitor, nobody) =
            (url(SUPERUSER), url(&db.role(Role::Monitor)), url(&db.role(Role::Nobody)));
        move |role| match role {
            Role::Superuser => superuser.clone(),
            Role::Monitor => monitor.clone(),
            Role::Nobody => nobody.clone(),
        }
    }
}

/// Under which another host would reach this one; nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("a machine with an address besides the loopback's");
    socket.local_addr().unwrap().ip()
}
