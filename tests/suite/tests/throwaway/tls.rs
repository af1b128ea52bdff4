//! Servers that speak TLS, with certificates good and bad.

use ops_cache::server::Server;
use ops_core::{Context, ErrorKind, Secret};
use ops_pg::cluster::Cluster;
use ops_testkit::{Authority, Identity, local_options, local_redis_options, or_skip};
use sqlx::{Connection, PgConnection};

use super::Parent;

/// Debian's PostgreSQL: the wheel of 18 comes without OpenSSL.
const MAJOR: u32 = 15;

async fn postgres_with(authority: &Authority, identity: &Identity) -> Option<sqlx::Result<bool>> {
    let parent = Parent::new();
    let options = or_skip(local_options(MAJOR).await)?;
    let options = options
        .with_parent(parent.path())
        .with_tls(&identity.certificate, Secret::from(identity.key.clone()));
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let file = authority.file.path().display();
    let url = format!("{}?sslmode=verify-full&sslrootcert={file}", cluster.tcp_url("postgres").unwrap());
    let asked = async {
        let mut connection = PgConnection::connect(&url).await?;
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        sqlx::query_scalar(ssl).fetch_one(&mut connection).await
    };
    Some(asked.await)
}

#[tokio::test]
async fn postgres_is_believed_only_with_a_certificate_in_order() {
    let authority = Authority::new();
    let Some(asked) = postgres_with(&authority, &authority.server).await else { return };
    assert!(asked.unwrap());
    for (identity, why) in [(&authority.expired, "expired"), (&authority.elsewhere, "not valid for name")] {
        let Some(asked) = postgres_with(&authority, identity).await else { return };
        let error = asked.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn redis_is_believed_only_with_a_certificate_in_order() {
    let authority = Authority::new();
    for (identity, good) in [(&authority.server, true), (&authority.expired, false)] {
        let parent = Parent::new();
        let options = local_redis_options()
            .with_parent(parent.path())
            .with_tls(&identity.certificate, Secret::from(identity.key.clone()));
        let server = match Server::start(&Context::new(), &options).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                or_skip::<()>(Err(ops_testkit::Missing::new(error.report())));
                return;
            }
            other => other.unwrap(),
        };
        let root_cert = Some(authority.certificate.clone().into_bytes());
        let certificates = redis::TlsCertificates { client_tls: None, root_cert };
        let client = redis::Client::build_with_tls(server.tls_url().unwrap(), certificates).unwrap();
        let connected = client.get_multiplexed_async_connection().await;
        assert_eq!(connected.is_ok(), good, "{:?}", connected.err());
    }
}
