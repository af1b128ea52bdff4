use ops_core::Status;
use ops_testkit::{Role, TestDb};

use super::{Held, Row};

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::of("pg.reachable", Status::Critical, "pg.reachable.down", |db| Box::pin(nobody_listens(db)))]
}

/// On the port of TCP's own multiplexer.
async fn nobody_listens(db: &TestDb) -> Held {
    let url = db.url_at(([127, 0, 0, 1], 1).into(), Role::Superuser);
    Held::new().at(move |_| url.clone())
}
