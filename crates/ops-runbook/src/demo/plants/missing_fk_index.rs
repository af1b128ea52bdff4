use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct MissingFkIndex;

#[async_trait]
impl Plant for MissingFkIndex {
    fn name(&self) -> &'static str {
        "missing-fk-index"
    }

    fn story(&self) -> &'static str {
        "every order that is deleted reads all of shop.refunds: its foreign key has no index"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.index.missing_fk", Some("shop.refunds (order_id)"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let refunds = "
CREATE TABLE shop.refunds (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id bigint NOT NULL REFERENCES shop.orders);
INSERT INTO shop.refunds (order_id) SELECT n FROM generate_series(1, 12000) n;
DELETE FROM shop.orders WHERE id = 20000";
        site.apart(refunds).await?;
        site.apart("VACUUM (ANALYZE) shop.refunds").await
    }
}
