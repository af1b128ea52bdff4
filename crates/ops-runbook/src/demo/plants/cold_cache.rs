use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

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
                // It ends with its server.
                let Ok(()) = redis::cmd("GET").arg(format!("price:{n}")).query_async::<()>(&mut redis).await
                else {
                    return;
                };
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        Ok(())
    }
}
