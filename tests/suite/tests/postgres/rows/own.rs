//! Servers of a row's own, for plants that are a whole cluster's.

use std::time::Duration;

use ops_core::Context;
use ops_pg::cluster::{Cluster, ClusterOptions};
use ops_testkit::{Role, TestDb, local_options};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::Held;

/// A streaming pair.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
}

/// How a cluster of the same version as `db`'s is made.
pub(crate) async fn options(db: &TestDb) -> ClusterOptions {
    local_options(db.server().major()).await.unwrap()
}

/// The same for a test that not every version can run: `None`, after a loud line, where there are no binaries.
pub(crate) async fn options_here(db: &TestDb) -> Option<ClusterOptions> {
    let major = db.server().major();
    // The suite has 17 in a container only; where the others have no binaries, that is a fault.
    if major == 17 && local_options(major).await.is_err() {
        eprintln!("NOT TRIED on {major}: it takes a cluster of its own, and there are no binaries");
        return None;
    }
    Some(options(db).await)
}

/// A cluster with the roles of `db`.
pub(crate) async fn cluster(db: &TestDb, options: &ClusterOptions) -> Cluster {
    let cluster = Cluster::start(&Context::new(), options).await.unwrap();
    let (monitor, nobody) = (db.role(Role::Monitor), db.role(Role::Nobody));
    let roles = format!("CREATE ROLE {monitor} LOGIN IN ROLE pg_monitor; CREATE ROLE {nobody} LOGIN");
    execute(&cluster.url("postgres"), &roles).await;
    cluster
}

/// A primary and its standby, with the roles of `db`.
pub(crate) async fn pair(db: &TestDb) -> Pair {
    let options = options(db).await;
    let primary = cluster(db, &options).await;
    let options = options.with_setting("cluster_name", "follower");
    let standby = Cluster::start_standby(&Context::new(), &primary, &options).await.unwrap();
    Pair { primary, standby }
}

/// A cluster's URL for each role of `db`.
pub(crate) fn urls(cluster: &Cluster, db: &TestDb) -> impl Fn(Role) -> String + Send + 'static {
    let [superuser, monitor, nobody] =
        [Role::Superuser, Role::Monitor, Role::Nobody].map(|role| cluster.url_as(&db.role(role), "postgres"));
    move |role| match role {
        Role::Superuser => superuser.clone(),
        Role::Monitor => monitor.clone(),
        Role::Nobody => nobody.clone(),
    }
}

/// Runs statements, each by itself: some refuse to share a transaction.
pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    // On a primary whose synchronous standby is gone, nothing else would return.
    connection.execute("SET synchronous_commit = local").await.unwrap();
    for statement in sql.split_inclusive(';').filter(|statement| !statement.trim().is_empty()) {
        let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await;
        done.unwrap_or_else(|error| panic!("{error}, in: {statement}"));
    }
    connection.close().await.unwrap();
}

/// Asks until the answer is true.
pub(crate) async fn until(url: &str, question: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let answer = ops_testkit::eventually(question, Duration::from_secs(20), async || {
        let sql = AssertSqlSafe(question.to_owned());
        // No row, or nothing in it, is an answer as well: a standby that has just connected has not said where it is.
        let answer =
            sqlx::query_scalar::<_, Option<bool>>(sql).fetch_optional(&mut connection).await.unwrap();
        (answer.flatten() == Some(true)).then_some(())
    });
    answer.await;
    connection.close().await.unwrap();
}

/// Looks at this cluster, for as long as it is held.
pub(crate) fn held(cluster: Cluster, db: &TestDb) -> Held {
    let mut held = Held::new().at(urls(&cluster, db)).fixed_at(cluster.url("postgres"));
    held.push(Box::new(cluster));
    held
}

/// Kills a session's process as the kernel would, and waits until the server has recovered.
pub(crate) async fn kill_a_session(url: &str) {
    let mut victim = PgConnection::connect(url).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut victim).await.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    sqlx::query("SELECT pg_sleep(60)").execute(&mut victim).await.unwrap_err();
    // The postmaster may let somebody in before it has seen the death: only a younger checkpointer tells.
    ops_testkit::eventually("the server recovers", Duration::from_secs(20), async || {
        let mut connection = PgConnection::connect(url).await.ok()?;
        let again = "SELECT backend_start > pg_postmaster_start_time() + interval '1 s'
                       FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        sqlx::query_scalar::<_, bool>(again).fetch_one(&mut connection).await.ok()?.then_some(())
    })
    .await;
}

/// Ends a server without an orderly shutdown.
pub(crate) async fn cut_the_power(cluster: &Cluster) {
    let pid = i32::try_from(cluster.pid().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT).unwrap();
    ops_testkit::eventually("the server ends", Duration::from_secs(20), async || {
        cluster.pid().is_none().then_some(())
    })
    .await;
}
