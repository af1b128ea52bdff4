//! The write-ahead log and its archive.

use std::time::Duration;

use ops_core::Status;
use ops_pg::PgConfig;
use ops_testkit::{Role, TestDb, eventually, on_each_postgres};

use crate::judgement::{look, look_at};
use crate::rows::own;

const RPO: Duration = Duration::from_secs(300);

on_each_postgres!(archiving_that_is_off_matters_with_an_objective, async |db: TestDb| {
    let result = look(&db, "pg.archiving", PgConfig::default()).await;
    assert_eq!(result.status, Status::NotApplicable, "{result:#?}");
    let result = look(&db, "pg.archiving", PgConfig::default().with_rpo(RPO)).await;
    assert_eq!(result.status, Status::Critical, "{result:#?}");
    assert_eq!(result.findings[0].code, "pg.archiving.off");
});

// A server that has nothing to archive is not late; one that has archived nothing yet neither.
on_each_postgres!(an_idle_archive_is_fine, async |db: TestDb| {
    let Some(options) = own::options_here(&db).await else { return };
    let options = options.with_setting("archive_mode", "on").with_setting("archive_command", "true");
    let cluster = own::cluster(&db, &options).await;
    let url = cluster.url("postgres");
    let see = async |role: Role, config: PgConfig| {
        let result = look_at(own::urls(&cluster, &db)(role), "pg.archiving", config).await;
        let codes: Vec<_> = result.findings.iter().map(|finding| finding.code.to_string()).collect();
        (result.status, codes)
    };
    let fine = (Status::Ok, vec![]);
    assert_eq!(see(Role::Superuser, PgConfig::default()).await, fine, "nothing archived yet");
    own::execute(&url, "CREATE TABLE t (); SELECT pg_switch_wal()").await;
    let archived =
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver";
    own::until(&url, archived).await;
    for role in [Role::Superuser, Role::Monitor, Role::Nobody] {
        assert_eq!(see(role, PgConfig::default()).await, fine, "{role:?}");
    }
    let late = (Status::Warning, vec!["pg.archiving.timeout".to_owned()]);
    assert_eq!(see(Role::Superuser, PgConfig::default().with_rpo(RPO)).await, late);
    own::execute(&url, "ALTER SYSTEM SET archive_timeout = '5min'; SELECT pg_reload_conf()").await;
    eventually("the timeout is kept", Duration::from_secs(20), async || {
        (see(Role::Superuser, PgConfig::default().with_rpo(RPO)).await == fine).then_some(())
    })
    .await;

    let nothing = (Status::Critical, vec!["pg.archiving.not_configured".to_owned()]);
    own::execute(&url, "ALTER SYSTEM SET archive_command = ''; SELECT pg_reload_conf()").await;
    eventually("nothing archives", Duration::from_secs(20), async || {
        (see(Role::Superuser, PgConfig::default()).await == nothing).then_some(())
    })
    .await;
});

on_each_postgres!(wal_is_judged_by_its_disk_where_that_is_known, async |db: TestDb| {
    let result = look(&db, "pg.wal_size", PgConfig::default()).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    let result = look(&db, "pg.wal_size", PgConfig::default().with_wal_disk(1 << 20)).await;
    assert_eq!(result.status, Status::Critical, "{result:#?}");
});
