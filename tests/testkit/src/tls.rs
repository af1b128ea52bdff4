//! Certificates for tests: an authority, and what it signed.

use std::io::Write;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// An authority of its own for each test, with certificates for a server at 127.0.0.1 and `localhost`.
#[derive(Debug)]
pub struct Authority {
    /// The authority's certificate, in PEM.
    pub certificate: String,
    /// A certificate in order.
    pub server: Identity,
    /// One that has expired.
    pub expired: Identity,
    /// One for another name, `elsewhere.test`.
    pub elsewhere: Identity,
    /// The authority's certificate as a file, which goes with this.
    pub file: tempfile::NamedTempFile,
}

impl Authority {
    /// Makes an authority and its certificates.
    ///
    /// # Panics
    /// Where keys can't be made, or the file can't be written.
    #[expect(clippy::new_without_default, reason = "making keys is no default")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "ops test authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");

        let here = ["localhost", "127.0.0.1"];
        let certificate = issuer.pem();
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(certificate.as_bytes()).expect("a written certificate");
        Self {
            server: sign(&issuer, &here, (2020, 2099)),
            expired: sign(&issuer, &here, (2020, 2021)),
            elsewhere: sign(&issuer, &["elsewhere.test"], (2020, 2099)),
            certificate,
            file,
        }
    }
}

/// Signs a certificate that is valid from the first year's beginning to the second's.
fn sign(issuer: &CertifiedIssuer<'_, KeyPair>, names: &[&str], (from, to): (i32, i32)) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params.distinguished_name.push(DnType::CommonName, names[0].as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}
