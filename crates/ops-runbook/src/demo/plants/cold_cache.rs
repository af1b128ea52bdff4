use std::time::Duration;

use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

/// Look-ups in one go, and the pause between two: some 375 a second.
const AT_ONCE: u64 = 15;
const PAUSE: Duration = Duration::from_millis(40);

#[derive(Debug)]
pub(super) struct ColdCache;

#[async_trait]
impl Plant for ColdCache {
    fn name(&self) -> &'static str {
        "cold-cache"
    }

    fn story(&self) -> &'static str {
        "Redis is asked for prices that nobody has put there"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("redis.cache.hit_rate", Some("keyspace"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut redis = site.redis().await?;
        site.keep_up(async move {
            for n in 0_u64.. {
                // Several at once: enough of them a second also where the machine has other work.
                let mut look_ups = redis::pipe();
                for price in 0..AT_ONCE {
                    look_ups.cmd("GET").arg(format!("price:{}", n * AT_ONCE + price)).ignore();
                }
                // It ends with its server.
                let Ok(()) = look_ups.query_async::<()>(&mut redis).await else { return };
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(())
    }
}
