use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct XminHolder;

#[async_trait]
impl Plant for XminHolder {
    fn name(&self) -> &'static str {
        "xmin-holder"
    }

    fn story(&self) -> &'static str {
        "a report left its snapshot open: VACUUM can remove nothing that died since"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.xmin_horizon.session", None)
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut report = site.connect("report").await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop.customers";
        site.execute(&mut report, begin).await?;
        site.hold(report);
        let mut shop = site.connect("ops demo").await?;
        site.execute(&mut shop, "SET synchronous_commit = off").await?;
        let pass = "DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$";
        site.execute(&mut shop, pass).await?;
        // A statement that was running meanwhile holds the horizon as well, until it ends.
        site.until("SELECT count(*) <= 1 FROM pg_stat_activity WHERE age(backend_xmin) >= 500").await
    }
}
