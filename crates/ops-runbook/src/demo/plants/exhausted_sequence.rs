use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct ExhaustedSequence;

#[async_trait]
impl Plant for ExhaustedSequence {
    fn name(&self) -> &'static str {
        "exhausted-sequence"
    }

    fn story(&self) -> &'static str {
        "shop.events counts in an integer column that is 98.7 % full"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.sequence.exhausted", Some("shop.events_id_seq"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("ops demo").await?;
        site.execute(&mut shop, "SELECT setval('shop.events_id_seq', 2119566360)").await
    }
}
