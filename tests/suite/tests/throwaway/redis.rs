//! Throwaway Redis servers.

use ops_cache::server::{Server, ServerOptions};
use ops_core::{Context, ErrorKind, Secret};
use ops_testkit::{RedisServer, local_redis_options, or_skip};

use super::{Parent, processes};

async fn start(options: ServerOptions) -> Option<Server> {
    match Server::start(&Context::new(), &options).await {
        Ok(server) => Some(server),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            or_skip(Err(ops_testkit::Missing::new(error.report())))
        }
        Err(error) => panic!("{}", error.report()),
    }
}

async fn ask<T: redis::FromRedisValue>(url: &str, command: &[&str]) -> redis::RedisResult<T> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
}

#[tokio::test]
async fn it_answers_on_its_socket_and_port_and_keeps_nothing() {
    let parent = Parent::new();
    let options = local_redis_options().with_parent(parent.path()).with_tcp();
    let Some(server) = start(options.with_setting("maxmemory", "8mb")).await else { return };
    assert!(server.version().starts_with("Redis ") || server.version().starts_with("Valkey "));
    for url in [server.url(), server.tcp_url().unwrap()] {
        let maxmemory: Vec<String> = ask(&url, &["CONFIG", "GET", "maxmemory"]).await.unwrap();
        assert_eq!(maxmemory, ["maxmemory", "8388608"]);
        let save: Vec<String> = ask(&url, &["CONFIG", "GET", "save"]).await.unwrap();
        assert_eq!(save, ["save", ""]);
    }
    let user = processes::user_of(server.pid().unwrap());
    assert_ne!(user, 0);
    assert_eq!(server.user().is_some(), nix::unistd::geteuid().is_root());
}

#[tokio::test]
async fn it_wants_its_password() {
    let parent = Parent::new();
    let secret = Secret::from(r#"p@ss "w/rd\ #1"#.to_owned());
    let options = local_redis_options().with_parent(parent.path()).with_tcp().with_password(secret);
    let Some(server) = start(options).await else { return };
    for url in [server.url(), server.tcp_url().unwrap()] {
        assert_eq!(ask::<String>(&url, &["PING"]).await.unwrap(), "PONG");
    }
    let bare = format!("redis://{}", server.address().unwrap());
    assert!(ask::<String>(&bare, &["PING"]).await.is_err());
    assert!(!format!("{server:?}").contains("p@ss"));
}

#[tokio::test]
async fn a_bad_setting_is_named_with_the_servers_own_words() {
    let parent = Parent::new();
    let options = local_redis_options().with_parent(parent.path()).with_setting("maxmemory", "a-lot");
    let error = Server::start(&Context::new(), &options).await.unwrap_err();
    if error.kind() == ErrorKind::NotFound {
        or_skip::<()>(Err(ops_testkit::Missing::new(error.report())));
        return;
    }
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert!(parent.is_clean());
}

#[tokio::test]
async fn a_restart_comes_back_empty() {
    let parent = Parent::new();
    let Some(mut server) = start(local_redis_options().with_parent(parent.path())).await else { return };
    ask::<()>(&server.url(), &["SET", "k", "v"]).await.unwrap();
    let before = server.pid();
    server.restart(&Context::new()).await.unwrap();
    assert_ne!(server.pid(), before);
    assert_eq!(ask::<u32>(&server.url(), &["EXISTS", "k"]).await.unwrap(), 0);
}

#[tokio::test]
async fn each_test_has_its_own() {
    let (Some(one), Some(other)) = (RedisServer::fresh().await, RedisServer::fresh().await) else { return };
    let mut connection = one.connect().await.unwrap();
    redis::cmd("SET").arg("k").arg("v").exec_async(&mut connection).await.unwrap();
    assert_eq!(ask::<u32>(other.url(), &["DBSIZE"]).await.unwrap(), 0);
}
