use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct BloatedTable;

#[async_trait]
impl Plant for BloatedTable {
    fn name(&self) -> &'static str {
        "bloated-table"
    }

    fn story(&self) -> &'static str {
        "four of five rows of shop.carts were deleted; VACUUM came, and the file stayed as it was"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.table.bloat", Some("shop.carts"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let fill = "
CREATE TABLE shop.carts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, items text NOT NULL);
INSERT INTO shop.carts (items) SELECT repeat('3 items ', 25) FROM generate_series(1, 20000);
DELETE FROM shop.carts WHERE id % 5 <> 0";
        site.apart(fill).await?;
        site.apart("VACUUM (ANALYZE) shop.carts").await
    }
}
