use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct InvalidIndex;

#[async_trait]
impl Plant for InvalidIndex {
    fn name(&self) -> &'static str {
        "invalid-index"
    }

    fn story(&self) -> &'static str {
        "CREATE UNIQUE INDEX CONCURRENTLY met a duplicate in shop.events, and left its index behind"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.index.invalid", Some("shop.events_once"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("migration").await?;
        let build = "CREATE UNIQUE INDEX CONCURRENTLY events_once ON shop.events (kind)";
        // That it fails is the fault.
        let _ = site.execute(&mut shop, build).await;
        site.until("SELECT count(*) = 1 FROM pg_index WHERE NOT indisvalid").await
    }
}
