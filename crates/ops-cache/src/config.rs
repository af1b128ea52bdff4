//! What a configuration says about a Redis, besides its URL.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A Redis or Valkey server. Its URL is a secret, and is resolved by whoever reads the configuration.
///
/// ```
/// let config: ops_cache::RedisConfig = serde_json::from_str(r#"{"root_certificate": "/etc/ops/ca.pem"}"#).unwrap();
/// assert!(serde_json::from_str::<ops_cache::RedisConfig>(r#"{"rot_certificate": "x"}"#).is_err());
/// # let _ = ops_cache::RedisOptions::from(&config);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// A PEM file with the certificate authorities to trust for `rediss://`, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_certificate: Option<PathBuf>,
}

/// How to reach a server, besides its URL.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The certificate authorities to trust for `rediss://`, in place of the system's.
    pub root_certificate: Option<RootCertificate>,
}

/// Certificate authorities in PEM form.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RootCertificate {
    /// A file, read when a connection is made, so that a renewed one is found.
    File(PathBuf),
    /// The bytes themselves.
    Pem(Vec<u8>),
}

impl RedisOptions {
    /// Trusts these certificate authorities, in place of the system's.
    #[must_use]
    pub fn with_root_certificate(mut self, certificate: RootCertificate) -> Self {
        self.root_certificate = Some(certificate);
        self
    }
}

impl From<&RedisConfig> for RedisOptions {
    fn from(config: &RedisConfig) -> Self {
        Self { root_certificate: config.root_certificate.clone().map(RootCertificate::File) }
    }
}
