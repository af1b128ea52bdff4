use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct DuplicateIndex;

#[async_trait]
impl Plant for DuplicateIndex {
    fn name(&self) -> &'static str {
        "duplicate-index"
    }

    fn story(&self) -> &'static str {
        "shop.orders has two indexes on customer_id; every insert pays for both"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.index.duplicate", Some("shop.orders_by_customer"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("ops demo").await?;
        site.execute(&mut shop, "CREATE INDEX orders_by_customer ON shop.orders (customer_id)").await
    }
}
