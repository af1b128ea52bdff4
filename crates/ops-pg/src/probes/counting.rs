//! Whether the server counts rows, and since when: what the probes of dead and changed rows ask first.

use ops_core::{ProbeReport, Result};

use super::words::counted;
use crate::row::Row;

/// Serves PostgreSQL 14 and later; one row, also where no table has anything to say. VACUUM and ANALYZE note how many
/// rows there are in `pg_class`, which is kept, and when in the counters, which a crash and `pg_stat_reset` lose: a table
/// with the one and without the other has lost its counters. CREATE INDEX notes the number alone, so that the counters
/// must also know of less than half of it. Below 10,000 rows none of these probes judges.
pub(super) const SQL: &str = "
SELECT current_setting('track_counts')::bool AS counted,
       (SELECT coalesce(json_agg(t.name), '[]') FROM (
          SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.reltuples >= 10000
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
             AND pg_stat_get_live_tuples(c.oid) < c.reltuples / 2
             AND greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid),
                          pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NULL
           ORDER BY c.reltuples DESC LIMIT 1000) t)::text AS uncounted";

/// Tables that the remedy names; where there are more, it takes them all.
const NAMED: usize = 20;

/// What the counters are worth.
#[derive(Debug)]
pub(super) struct Counting {
    counted: bool,
    /// Tables whose counters began after they were filled.
    uncounted: Vec<String>,
}

impl Counting {
    /// Takes the row of [`SQL`], the first of several.
    pub(super) fn read(rows: &mut impl Iterator<Item = Row>) -> Result<Self> {
        let Some(row) = rows.next() else { return Ok(Self { counted: false, uncounted: Vec::new() }) };
        let uncounted: String = row.get("uncounted")?;
        Ok(Self {
            counted: row.get("counted")?,
            uncounted: serde_json::from_str(&uncounted).unwrap_or_default(),
        })
    }

    /// The answer where nobody counts.
    pub(super) fn off(&self) -> Option<ProbeReport> {
        let fix = "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf();".to_owned();
        (!self.counted).then(|| {
            ProbeReport::unknown("track_counts is off: nobody counts dead and changed rows", Some(fix))
        })
    }

    /// Adds what the counters do not know. In the same words whatever is asked, so that it is told once.
    pub(super) fn unseen(&self, report: ProbeReport) -> ProbeReport {
        let (first, others) = match self.uncounted.as_slice() {
            [] => return report,
            [first, others @ ..] => (first, others.len()),
        };
        let which = match others {
            0 => first.clone(),
            others => format!("{first} and {}", counted(others, "other table", "other tables")),
        };
        let what = format!(
            "how many rows of {which} died or changed: the counters began anew, by a crash or a reset, and nobody has \
             vacuumed or analysed since"
        );
        let fix = match self.uncounted.len() {
            0..=NAMED => format!("ANALYZE {};", self.uncounted.join(", ")),
            _ => "ANALYZE;".to_owned(),
        };
        report.unseen(what, Some(fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn what_the_counters_have_lost_is_unknown() {
        let of = |names: &[&str]| {
            let uncounted = names.iter().map(|name| (*name).to_owned()).collect();
            Counting { counted: true, uncounted }.unseen(ProbeReport::new("fine"))
        };
        assert_eq!(of(&[]).status(), Status::Ok);
        let report = of(&["public.a", "public.b"]);
        assert_eq!(report.status(), Status::Unknown);
        let unseen = format!("{report:?}");
        assert!(
            unseen.contains("public.a and 1 other table") && unseen.contains("ANALYZE public.a, public.b;")
        );
    }
}
