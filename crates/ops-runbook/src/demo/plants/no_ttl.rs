use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct NoTtl;

#[async_trait]
impl Plant for NoTtl {
    fn name(&self) -> &'static str {
        "keys-without-ttl"
    }

    fn story(&self) -> &'static str {
        "250 session keys in the cache never expire"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("redis.keys.no_ttl", Some("db0"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut redis = site.redis().await?;
        let mut pipeline = redis::pipe();
        for n in 0..250 {
            pipeline.set(format!("session:{n}"), "signed in").ignore();
        }
        pipeline.exec_async(&mut redis).await.map_err(|error| site.redis_failed(&error))
    }
}
