//! The rights that a configuration needs: SQL and ACL commands, by target.

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::{Context, Error, ErrorKind, Result};
use ops_pg::PgTarget;
use serde::Serialize;

use crate::config::Config;

/// What to run on one target, as an administrator.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TargetGrants {
    /// The target's name.
    pub target: String,
    /// Where it is, without user and password.
    pub address: String,
    /// The program that takes the script: `psql` or `redis-cli`.
    pub program: &'static str,
    /// Who gets the rights.
    pub role: String,
    /// What to run.
    pub script: String,
}

/// The rights for each of `targets` (all PostgreSQL and Redis targets, where none is named), for `role` or the role
/// that the target's URL names. Asks a server only where its databases are "all".
///
/// # Errors
/// `InvalidInput` for a target that is not there or takes no rights; what keeps a server from naming its databases.
pub async fn grants(
    cx: &Context,
    config: &Config,
    targets: &[String],
    role: Option<&str>,
) -> Result<Vec<TargetGrants>> {
    let known = |name: &String| config.postgres.contains_key(name) || config.redis.contains_key(name);
    if let Some(name) = targets.iter().find(|name| !known(name)) {
        let why = format!("there is no PostgreSQL and no Redis {name:?} in the configuration");
        return Err(Error::new(ErrorKind::InvalidInput, "print its grants").because(why));
    }
    let chosen = |name: &String| targets.is_empty() || targets.contains(name);
    let mut grants = Vec::new();
    for (name, target) in config.postgres.iter().filter(|(name, _)| chosen(name)) {
        let postgres = PgTarget::connect_lazily(name, &target.url, target.config.clone())?;
        let role = role.map_or_else(|| postgres.role(), str::to_owned);
        let databases = postgres.databases(cx).await?;
        let databases: Vec<String> =
            databases.iter().map(|database| database.database().unwrap_or_else(|| postgres.role())).collect();
        grants.push(TargetGrants {
            target: name.clone(),
            address: postgres.address().to_owned(),
            program: "psql",
            script: ops_pg::grants(&role, &databases),
            role,
        });
    }
    for (name, target) in config.redis.iter().filter(|(name, _)| chosen(name)) {
        let redis = RedisTarget::connect_lazily(name, &target.url, RedisOptions::from(&target.config))?;
        let role = role.unwrap_or_else(|| redis.user()).to_owned();
        grants.push(TargetGrants {
            target: name.clone(),
            address: redis.address().to_owned(),
            program: "redis-cli",
            script: ops_cache::grants(&redis, &role),
            role,
        });
    }
    Ok(grants)
}
