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

/// The message that asks for TLS: its length, and the code 80877103 (protocol-message-formats, SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl PgTarget {
    /// When the certificate ends that the server shows at the target's address. `None` where there is none to see: over
    /// a Unix socket, of a server without TLS, and for a service's pool, beside which nothing is connected.
    ///
    /// # Errors
    /// Where the address does not answer, or no handshake can be made.
    pub(crate) async fn certificate_ends(&self, cx: &Context) -> Result<Option<DateTime<Utc>>> {
        let Source::Options { options, .. } = &self.inner.source else { return Ok(None) };
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            return Ok(None);
        }
        let (host, port) = (options.get_host(), options.get_port());
        let started = Instant::now();
        let ends = cx.run("read the certificate", shown(host, port)).await;
        cx.cost().round_trip(started.elapsed());
        ends.map_err(|error| self.located(error))
    }
}

async fn shown(host: &str, port: u16) -> Result<Option<DateTime<Utc>>> {
    let failed = |error: io::Error| {
        let tls = error.kind() == io::ErrorKind::InvalidData;
        let kind = if tls { ErrorKind::Tls } else { ErrorKind::Unreachable };
        Error::new(kind, "read the certificate").because(error.to_string()).retry(Retry::Safe { after: None })
    };
    let mut stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.write_all(&SSL_REQUEST).await.map_err(failed)?;
    if stream.read_u8().await.map_err(failed)? != b'S' {
        return Ok(None);
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
    Ok(DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0))
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
