//! The certificate that the server shows, read on a connection of its own: the driver does not give out the one that
//! it saw. Nobody logs in on it, and nothing is sent but the wish for TLS.

use std::io;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ops_core::{Context, Error, ErrorKind, Result, Retry};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{PgTarget, Source};

/// Where the server listens, and whether it sees us come over its own Unix socket: what a pooler's socket leads to may
/// be a server elsewhere.
pub(crate) const LISTENS: &str = "
SELECT current_setting('listen_addresses') AS addresses, current_setting('port')::int4 AS port,
       inet_server_addr() IS NULL AS by_socket";

/// Addresses to try: every one of a server's shows the same certificate.
const TRIED: usize = 3;

/// What came of looking for the certificate.
#[derive(Debug)]
pub(crate) enum Certificate {
    /// When the one that is shown ends.
    Ends(DateTime<Utc>),
    /// The server listens on its Unix socket alone, where there is no TLS.
    ShownToNobody,
    /// It was not seen, and why.
    Unseen(String),
}

/// The message that asks for TLS: its length, and the code 80877103 (protocol-message-formats, SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl PgTarget {
    /// The certificate that the server shows at the target's address; of one that is reached over its Unix socket, at
    /// an address that it listens on. Nothing is connected beside a service's pool.
    ///
    /// # Errors
    /// Where no address answers, or no handshake can be made.
    pub(crate) async fn certificate(&self, cx: &Context) -> Result<Certificate> {
        let Source::Options { options, .. } = &self.inner.source else {
            return Ok(Certificate::Unseen("nothing is connected beside a service's pool".to_owned()));
        };
        let (mut hosts, mut port) = (vec![options.get_host().to_owned()], options.get_port());
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            let rows = self.read(cx, LISTENS).await?;
            let row =
                rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read where the server listens"))?;
            if !row.get::<bool>("by_socket")? {
                return Ok(Certificate::Unseen("the Unix socket is a pooler's".to_owned()));
            }
            hosts = reached_at(&row.get::<String>("addresses")?);
            port = u16::try_from(row.get::<i32>("port")?).unwrap_or(0);
        }
        let mut outcome = Ok(Certificate::ShownToNobody);
        for host in hosts.iter().take(TRIED) {
            let started = Instant::now();
            let shown = cx.run("read the certificate", shown(host, port)).await;
            cx.cost().round_trip(started.elapsed());
            outcome = shown.map_err(|error| self.located(error));
            if matches!(outcome, Ok(Certificate::Ends(_))) {
                break;
            }
        }
        outcome
    }
}

/// The entries of listen_addresses, with this machine's own address in place of "every one".
fn reached_at(listen_addresses: &str) -> Vec<String> {
    let entries = listen_addresses.split(',').map(|entry| entry.trim().trim_matches('"'));
    let entries = entries.filter(|entry| !entry.is_empty()).map(|entry| match entry {
        "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        address => address,
    });
    entries.map(str::to_owned).collect()
}

async fn shown(host: &str, port: u16) -> Result<Certificate> {
    let failed = |error: io::Error| {
        let tls = error.kind() == io::ErrorKind::InvalidData;
        let kind = if tls { ErrorKind::Tls } else { ErrorKind::Unreachable };
        Error::new(kind, "read the certificate").because(error.to_string()).retry(Retry::Safe { after: None })
    };
    let mut stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.write_all(&SSL_REQUEST).await.map_err(failed)?;
    if stream.read_u8().await.map_err(failed)? != b'S' {
        return Ok(Certificate::Unseen(format!("{host}:{port} offers no TLS")));
    }
    let wrong = |why: String| Error::new(ErrorKind::Tls, "read the certificate").because(why);
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)?;
    let first = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let first = first.ok_or_else(|| wrong("the server showed none".to_owned()))?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| wrong(error.to_string()))?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
        .map(Certificate::Ends)
        .ok_or_else(|| wrong("it ends at a time that no calendar has".to_owned()))
}

/// Takes any certificate: it is looked at, and not believed. What is signed with it is checked.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_where_it_listens() {
        for (addresses, expected) in [
            ("", vec![]),
            ("*", vec!["127.0.0.1"]),
            ("localhost", vec!["localhost"]),
            ("::, 0.0.0.0", vec!["::1", "127.0.0.1"]),
            ("10.0.0.7, db.internal", vec!["10.0.0.7", "db.internal"]),
        ] {
            assert_eq!(reached_at(addresses), expected, "{addresses}");
        }
    }
}
