use ops_core::Status;

use super::{Row, run};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.sequences", Status::Critical, "pg.sequence.exhausted", |db| {
            run(db, "CREATE TABLE events (id serial PRIMARY KEY); SELECT setval('events_id_seq', 2130000000)")
        })
        .about(|_| "public.events_id_seq".into()),
        Row::of("pg.index_duplicate", Status::Warning, "pg.index.duplicate", |db| {
            run(db, "CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); CREATE INDEX t_a2 ON t (a)")
        })
        .about(|_| "public.t_a2".into()),
    ]
}
