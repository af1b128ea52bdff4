//! The rights that a configuration needs: SQL and ACL commands, by target.

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::{Context, Error, ErrorKind, Result, Secret};
use ops_pg::{PgConfig, PgTarget, Provider};
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
    /// Who may run it.
    #[serde(skip)]
    pub administrator: &'static str,
    /// Who gets the rights.
    pub role: String,
    /// What to run.
    pub script: String,
}

/// The rights for each of `targets` (all PostgreSQL and Redis targets, where none is named), for `role` or the role
/// that the target's URL names. Asks a server where its databases are "all", which must succeed; and where its provider
/// is "auto", and a Redis whether it is a sentinel, which need not: the role may be the one that the script is to make.
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
        grants.push(of_postgres(cx, &postgres, role).await?);
    }
    for (name, target) in config.redis.iter().filter(|(name, _)| chosen(name)) {
        let redis = RedisTarget::connect_lazily(name, &target.url, RedisOptions::from(&target.config))?;
        grants.push(of_redis(cx, &redis, role).await?);
    }
    Ok(grants)
}

/// The rights for a PostgreSQL and a Redis given by their URLs alone, as a check of these needs them.
///
/// # Errors
/// `InvalidInput` for a URL that is none.
pub async fn grants_of_urls(
    cx: &Context,
    postgres: Option<&Secret>,
    redis: Option<&Secret>,
    role: Option<&str>,
) -> Result<Vec<TargetGrants>> {
    let mut grants = Vec::new();
    if let Some(url) = postgres {
        let postgres = PgTarget::connect_lazily("postgres", url, PgConfig::default())?;
        grants.push(of_postgres(cx, &postgres, role).await?);
    }
    if let Some(url) = redis {
        let redis = RedisTarget::connect_lazily("redis", url, RedisOptions::default())?;
        grants.push(of_redis(cx, &redis, role).await?);
    }
    Ok(grants)
}

async fn of_postgres(cx: &Context, postgres: &PgTarget, role: Option<&str>) -> Result<TargetGrants> {
    let role = named(role.map_or_else(|| postgres.role(), str::to_owned), char::is_control)?;
    let (provider, doubt) = provider(cx, postgres).await;
    let databases = postgres.databases(cx).await?;
    let databases: Vec<String> =
        databases.iter().map(|database| database.database().unwrap_or_else(|| postgres.role())).collect();
    Ok(TargetGrants {
        target: postgres.name().to_owned(),
        address: postgres.address().to_owned(),
        program: "psql",
        administrator: match provider {
            Provider::Own => "a superuser",
            _ => "the administrator that the provider made",
        },
        script: doubt + &ops_pg::grants_on(provider, &role, &databases),
        role,
    })
}

/// A sentinel takes other rights than a server that holds data. One that cannot be asked gets both: the user may be the
/// one that the script is to make.
async fn of_redis(cx: &Context, redis: &RedisTarget, role: Option<&str>) -> Result<TargetGrants> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    let role = named(role.unwrap_or_else(|| redis.user()).to_owned(), is_odd)?;
    let script = match redis.is_sentinel(cx).await {
        Ok(true) => ops_cache::grants_on_sentinel(&role),
        Ok(false) | Err(_) => ops_cache::grants(redis, &role),
    };
    Ok(TargetGrants {
        target: redis.name().to_owned(),
        address: redis.address().to_owned(),
        program: "redis-cli",
        administrator: "an administrator",
        script,
        role,
    })
}

/// A role's name that stays one in a script: with a line break in it, its end would be a command of its own, run by an
/// administrator.
fn named(role: String, is_odd: impl Fn(char) -> bool) -> Result<String> {
    match role.is_empty() || role.contains(is_odd) {
        true => Err(Error::new(ErrorKind::InvalidInput, "print its grants")
            .because(format!("{role:?} is no name for a role that a script could hold"))),
        false => Ok(role),
    }
}

/// Who runs the server, and a comment for the script where it could not be asked.
async fn provider(cx: &Context, postgres: &PgTarget) -> (Provider, String) {
    match postgres.config().provider {
        Provider::Auto => match postgres.capabilities(cx).await {
            Ok(capabilities) => (capabilities.provider, String::new()),
            Err(_) => (
                Provider::Own,
                "-- the server did not let ops see whether it is a managed service; on one, set its provider in \
                 ops.toml\n"
                    .to_owned(),
            ),
        },
        told => (told, String::new()),
    }
}
