//! Isolation is tried, not read out of a catalogue.

use ops_core::{Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::{IsolationConfig, PgConfig, PgTarget, RlsConfig, TenantConfig};
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::Row;

use crate::rows::probe_named;

/// Two tenants with a row each, and a role for their clients, behind a policy that holds.
async fn tenants(db: &TestDb) -> IsolationConfig {
    let (app, monitor) = (db.role(Role::Nobody), db.role(Role::Monitor));
    db.execute(format!(
        "CREATE TABLE orders (id int PRIMARY KEY, tenant int NOT NULL, item text);
         CREATE TABLE lines (id int PRIMARY KEY, tenant int NOT NULL);
         INSERT INTO orders VALUES (1, 1, 'a'), (2, 2, 'b'); INSERT INTO lines VALUES (1, 1), (2, 2);
         ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE lines ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON orders USING (tenant = current_setting('app.tenant')::int);
         CREATE POLICY own ON lines USING (tenant = current_setting('app.tenant')::int);
         GRANT SELECT, INSERT, UPDATE, DELETE ON orders, lines TO {app}; GRANT {app} TO {monitor}"
    ))
    .await;
    let tenants = [TenantConfig::new("acme", "1"), TenantConfig::new("globex", "2")];
    let relations = ["public.orders", "public.lines"].map(str::to_owned);
    IsolationConfig::new(app, "app.tenant", "tenant", tenants).with_relations(relations)
}

async fn look(db: &TestDb, role: Role, isolation: &IsolationConfig) -> ProbeResult {
    look_by(db, role, isolation, RlsConfig::default()).await
}

async fn look_by(db: &TestDb, role: Role, isolation: &IsolationConfig, rls: RlsConfig) -> ProbeResult {
    let config = PgConfig::default().with_isolation([isolation.clone()]).with_rls(rls);
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url_as(role)), config).unwrap();
    let probe = probe_named("pg.rls_isolation");
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
    set.run(&Context::new()).await.probes.remove(0)
}

/// Code and object of each finding, sorted and each once.
fn found(result: &ProbeResult) -> Vec<(&str, &str)> {
    let mut found: Vec<_> =
        result.findings.iter().map(|f| (&*f.code, f.object.as_deref().unwrap_or_default())).collect();
    found.sort_unstable();
    found.dedup();
    found
}

async fn rows_left(db: &TestDb) -> i64 {
    let mut connection = db.connect().await.unwrap();
    sqlx::query("SELECT count(*) FROM orders").fetch_one(&mut connection).await.unwrap().get(0)
}

on_each_postgres!(tenants_behind_policies_that_hold_are_isolated, async |db: TestDb| {
    let isolation = tenants(&db).await.with_writes();
    db.execute("CREATE POLICY strict ON orders AS RESTRICTIVE USING (true) WITH CHECK (tenant > 0)").await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!((result.status, found(&result)), (Status::Ok, Vec::new()), "{result:#?}");
    assert_eq!(result.measurements.iter().map(|m| m.value).collect::<Vec<_>>(), [2.0, 2.0]);
    assert_eq!(rows_left(&db).await, 2);
});

// Every table has its policy, and each of these walks around it.
on_each_postgres!(a_leak_that_no_policy_shows_is_found, async |db: TestDb| {
    let isolation = tenants(&db).await.with_functions(["public.all_orders".to_owned()]);
    let app = &isolation.role;
    db.execute(format!(
        "CREATE VIEW report AS SELECT * FROM orders; GRANT SELECT ON report TO {app};
         CREATE VIEW hidden AS SELECT * FROM orders;
         CREATE VIEW totals AS SELECT count(*) FROM orders; GRANT SELECT ON totals TO {app};
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM lines; GRANT SELECT ON kept TO {app};
         CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE plpgsql SECURITY DEFINER
           AS $$ BEGIN RETURN QUERY SELECT * FROM public.orders; END $$"
    ))
    .await;
    let result = look(&db, Role::Monitor, &isolation).await;
    let leaks = ["public.all_orders()", "public.kept", "public.report"];
    assert_eq!(found(&result), leaks.map(|object| ("pg.rls_isolation.leak", object)), "{result:#?}");
    let unseen: Vec<_> = result.unseen.iter().map(|unseen| unseen.what.split(' ').next().unwrap()).collect();
    assert_eq!((result.status, &*unseen), (Status::Critical, &["public.totals"][..]));
});

on_each_postgres!(a_view_without_the_tenants_column_is_unknown_until_it_is_exposed, async |db: TestDb| {
    let isolation = tenants(&db).await;
    let app = &isolation.role;
    db.execute(format!(
        "CREATE VIEW items AS SELECT item FROM orders; GRANT SELECT ON items TO {app};
         CREATE VIEW closed AS SELECT item FROM orders"
    ))
    .await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!((result.status, result.unseen.len()), (Status::Unknown, 1), "{result:#?}");
    assert!(result.unseen[0].what.starts_with("public.items shows"), "{result:#?}");
    let exposed = RlsConfig::default().with_exposed(["public.items".to_owned()]);
    let result = look_by(&db, Role::Monitor, &isolation, exposed).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
});

on_each_postgres!(a_row_can_be_handed_over, async |db: TestDb| {
    let isolation = tenants(&db).await.with_writes();
    db.execute(
        "DROP POLICY own ON orders;
         CREATE POLICY own ON orders USING (tenant = current_setting('app.tenant')::int) WITH CHECK (true)",
    )
    .await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!(found(&result), [("pg.rls_isolation.write", "public.orders")], "{result:#?}");
    // The key of a copied row is taken, which the index says once row security has let it through.
    let told: Vec<_> = result.findings.iter().map(|finding| finding.message.as_str()).collect();
    let says = |what: &str| told.iter().any(|message| message.contains(what));
    assert!(says("insert a row for globex") && says("hand a row over to globex"), "{told:#?}");
    assert!(result.unseen.is_empty(), "{result:#?}");
    assert_eq!(rows_left(&db).await, 2);
});

// Keys that the server makes are not copied: what is refused is refused by row security.
on_each_postgres!(a_key_that_the_server_makes_hides_nothing, async |db: TestDb| {
    let isolation = tenants(&db).await.with_writes();
    let app = &isolation.role;
    db.execute(format!(
        "DROP TABLE orders; DROP TABLE lines;
         CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int NOT NULL, item text,
                              words int GENERATED ALWAYS AS (length(item)) STORED);
         CREATE TABLE lines (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant int NOT NULL);
         INSERT INTO orders (tenant, item) VALUES (1, 'a'), (2, 'b'); INSERT INTO lines (tenant) VALUES (1), (2);
         ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE lines ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON orders USING (tenant = current_setting('app.tenant')::int);
         CREATE POLICY own ON lines USING (tenant = current_setting('app.tenant')::int);
         GRANT SELECT, INSERT, UPDATE, DELETE ON orders, lines TO {app}"
    ))
    .await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!((result.status, found(&result)), (Status::Ok, Vec::new()), "{result:#?}");

    let open = ["orders", "lines"]
        .map(|table| format!("CREATE POLICY open ON {table} FOR INSERT WITH CHECK (true)"));
    db.execute(open.join("; ")).await;
    let result = look(&db, Role::Monitor, &isolation).await;
    let expected = ["public.lines", "public.orders"].map(|object| ("pg.rls_isolation.write", object));
    assert_eq!((found(&result), result.unseen.len()), (expected.to_vec(), 0), "{result:#?}");
    assert_eq!(rows_left(&db).await, 2);
});

on_each_postgres!(what_proves_nothing_is_unknown, async |db: TestDb| {
    let isolation = tenants(&db).await;
    let (app, monitor) = (&isolation.role, db.role(Role::Monitor));
    // Another role than the clients': it may not become them.
    db.execute(format!("REVOKE {app} FROM {monitor}")).await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    let fix = result.unseen[0].fix.clone().unwrap();
    assert_eq!(fix, format!("GRANT {app} TO {monitor};"));
    db.execute(fix).await;
    assert_eq!(look(&db, Role::Monitor, &isolation).await.status, Status::Ok);

    db.execute("DELETE FROM lines WHERE tenant = 2").await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    assert!(result.unseen[0].what.contains("globex sees no row of its own in public.lines"), "{result:#?}");

    db.execute(format!("REVOKE SELECT ON lines FROM {app}")).await;
    let result = look(&db, Role::Monitor, &isolation).await;
    assert!(result.unseen[0].what.contains("may not read public.lines"), "{result:#?}");
});

// A view's function runs as whoever looks through it, and RESET ROLE is open to everybody.
on_each_postgres!(a_superuser_is_not_lent_to_functions, async |db: TestDb| {
    let isolation = tenants(&db).await;
    let app = &isolation.role;
    db.execute(format!(
        "CREATE FUNCTION innocent() RETURNS bool LANGUAGE plpgsql AS
           $$ BEGIN RESET ROLE; RAISE EXCEPTION 'called by %', current_user; END $$;
         CREATE VIEW looks AS SELECT tenant FROM orders WHERE innocent(); GRANT SELECT ON looks TO {app}"
    ))
    .await;
    let result = look(&db, Role::Superuser, &isolation).await;
    assert_eq!((result.status, result.unseen.len()), (Status::Unknown, 1), "{result:#?}");
    assert!(result.unseen[0].what.contains("a superuser"), "{result:#?}");
    // The login of a monitoring role has little to take back.
    let result = look(&db, Role::Monitor, &isolation).await;
    let called = format!("called by {}", db.role(Role::Monitor));
    assert!(result.unseen.iter().any(|unseen| unseen.what.contains(&called)), "{result:#?}");
});

// What is tried leaves nothing, not even a gap in a sequence.
on_each_postgres!(no_sequence_is_drawn_from, async |db: TestDb| {
    let isolation = tenants(&db).await.with_writes();
    db.execute(
        "DROP TABLE lines; ALTER TABLE orders DROP COLUMN id;
         ALTER TABLE orders ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    )
    .await;
    let isolation = isolation.with_relations(["public.orders".to_owned()]);
    let last = "SELECT last_value FROM orders_id_seq";
    let mut connection = db.connect().await.unwrap();
    let before: i64 = sqlx::query(last).fetch_one(&mut connection).await.unwrap().get(0);
    let result = look(&db, Role::Monitor, &isolation).await;
    assert_eq!((result.status, found(&result)), (Status::Ok, Vec::new()), "{result:#?}");
    let after: i64 = sqlx::query(last).fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(before, after);
});

on_each_postgres!(a_role_that_row_security_does_not_hold_is_told, async |db: TestDb| {
    let isolation = tenants(&db).await;
    let app = &isolation.role;
    db.execute(format!("ALTER ROLE {app} BYPASSRLS; ALTER TABLE lines OWNER TO {app}; DROP TABLE orders"))
        .await;
    let result = look(&db, Role::Monitor, &isolation).await;
    let expected = [
        ("pg.rls_isolation.bypass", &**app),
        ("pg.rls_isolation.leak", "public.lines"),
        ("pg.rls_isolation.missing", "public.orders"),
        ("pg.rls_isolation.owner", "public.lines"),
    ];
    assert_eq!(found(&result), expected, "{result:#?}");
});
