use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

/// Sessions that call it: a floor of calls keeps a single slow report from alarming.
const SESSIONS: usize = 8;

#[derive(Debug)]
pub(super) struct SlowQuery;

#[async_trait]
impl Plant for SlowQuery {
    fn name(&self) -> &'static str {
        "slow-query"
    }

    fn story(&self) -> &'static str {
        "the web asks for totals again and again, and waits over half a second for each"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.query.slow", None)
    }

    fn needs_statements(&self) -> bool {
        true
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("ops demo").await?;
        // Sleeping, not computing: a demo leaves the machine to others.
        let slow = "
CREATE FUNCTION shop.totals() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.6); RETURN (SELECT count(*) FROM shop.customers); END $$";
        site.execute(&mut shop, slow).await?;
        for _ in 0..SESSIONS {
            let web = site.connect("web").await?;
            site.repeat(web, "SELECT shop.totals()");
        }
        Ok(())
    }
}
