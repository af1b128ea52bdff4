use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct UnusedIndex;

#[async_trait]
impl Plant for UnusedIndex {
    fn name(&self) -> &'static str {
        "unused-index"
    }

    fn story(&self) -> &'static str {
        "nobody reads shop.orders_placed_at; no alarm before it was watched for a month"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.index.unused", Some("shop.orders_placed_at"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("ops demo").await?;
        // Wide enough to be worth a finding, with a value of its own in each entry.
        let index = "CREATE INDEX orders_placed_at ON shop.orders (placed_at, id, amount)";
        site.execute(&mut shop, index).await
    }
}
