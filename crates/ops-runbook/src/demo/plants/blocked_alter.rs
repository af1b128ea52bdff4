use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

/// Readers that queue behind the ALTER.
const READERS: usize = 3;

#[derive(Debug)]
pub(super) struct BlockedAlter;

#[async_trait]
impl Plant for BlockedAlter {
    fn name(&self) -> &'static str {
        "blocked-alter"
    }

    fn story(&self) -> &'static str {
        "somebody left a transaction open in psql; an ALTER TABLE waits behind it, and readers behind that"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.blocking.root", Some("shop.orders"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut forgotten = site.connect("psql").await?;
        site.execute(&mut forgotten, "BEGIN; SELECT count(*) FROM shop.orders").await?;
        site.hold(forgotten);

        let migration = site.connect("migration").await?;
        site.run(migration, "ALTER TABLE shop.orders ADD COLUMN note text");
        site.until("SELECT count(*) >= 1 FROM pg_locks WHERE NOT granted").await?;

        for _ in 0..READERS {
            let web = site.connect("web").await?;
            site.run(web, "SELECT amount FROM shop.orders WHERE customer_id = 7");
        }
        // A wait of a second is what makes a queue worth telling.
        site.until(
            "SELECT count(*) >= 4 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1.1 s'",
        )
        .await
    }
}
