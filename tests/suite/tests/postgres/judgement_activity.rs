//! Ratios and rates that other tools take over a lifetime.

use std::time::Duration;

use ops_core::{Bounds, Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, on_each_postgres};

use crate::rows::probe_named;

/// In this context, whose baselines stay; with a bound on the hit rate that anything short of all crosses.
async fn look(cx: &Context, db: &TestDb, probe: &str) -> ProbeResult {
    look_above(1000.0, cx, db, probe).await
}

/// The same, with another floor of traffic.
async fn look_above(blocks: f64, cx: &Context, db: &TestDb, probe: &str) -> ProbeResult {
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let probe = probe_named(probe);
    let bounds = Bounds { warning: Some(99.0), critical: None };
    let limits = Limits::defaults(probe.spec()).with("hit", bounds).unwrap();
    let limits = limits.with("blocks", Bounds { warning: Some(blocks), critical: None }).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, limits);
    set.run(&cx.new_run()).await.probes.remove(0)
}

fn measured(result: &ProbeResult, name: &str) -> Option<f64> {
    result.measurements.iter().find(|measurement| measurement.name == name).map(|m| m.value)
}

/// Autovacuum would come for so many rows, and read them.
const FILL: &str =
    "CREATE TABLE t WITH (autovacuum_enabled = off) AS SELECT g AS id FROM generate_series(1, 100000) g;
                    CREATE INDEX t_id ON t (id); CREATE INDEX t_other ON t (id, (id + 1)); ANALYZE t";
const SCAN: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off;
                    SELECT count(*) FROM t WHERE id > 0; SELECT count(*) FROM t WHERE id > 1";

on_each_postgres!(a_quiet_database_has_no_hit_rate, async |db: TestDb| {
    db.execute(FILL).await;
    let cx = Context::new().with_window_gap(Duration::from_millis(1200));
    for probe in ["pg.cache_hit", "pg.index_hit"] {
        // The statistics of the session that filled it come in late.
        look(&cx, &db, probe).await;
        // What looking itself reads comes close to the default.
        let result = look_above(5000.0, &cx, &db, probe).await;
        assert_eq!(result.status, Status::Ok, "{result:#?}");
        assert_eq!(measured(&result, "hit"), None, "{result:#?}");
    }
});

// A sum over indexes falls with one that is dropped, and what is left of it is no rise.
on_each_postgres!(a_dropped_index_is_not_read_traffic, async |db: TestDb| {
    db.execute(FILL).await;
    db.execute(SCAN).await;
    let cx = Context::new().with_window_gap(Duration::from_millis(500));
    look(&cx, &db, "pg.index_hit").await;
    db.execute("DROP INDEX t_other").await;
    let result = look(&cx, &db, "pg.index_hit").await;
    assert!(measured(&result, "asked").unwrap() < 10.0, "{result:#?}");
    // And one window later it counts again.
    db.execute(SCAN).await;
    let result = look(&cx, &db, "pg.index_hit").await;
    assert!(measured(&result, "asked").unwrap() > 10.0, "{result:#?}");
});
