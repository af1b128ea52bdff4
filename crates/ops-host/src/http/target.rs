//! An endpoint to look at.

use std::fmt::Debug;
use std::sync::Arc;

use ops_core::{Limits, Result, Secret};
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::config::{HttpConfig, invalid, parse_url};
use super::probe::{BoundHttpProbe, HttpProbe};

/// An endpoint to look at. Cheap to clone. Prints without its headers.
#[derive(Clone)]
pub struct HttpTarget {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    config: HttpConfig,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTarget")
            .field("name", &self.name())
            .field("url", &self.display())
            .finish_non_exhaustive()
    }
}

impl HttpTarget {
    /// Checks the configuration; connects to nothing.
    ///
    /// ```
    /// use ops_core::Secret;
    /// use ops_host::{HttpConfig, HttpTarget};
    /// let token = Secret::from("Bearer hunter2".to_owned());
    /// let headers = vec![("authorization".to_owned(), token)];
    /// let api = HttpTarget::new("api", HttpConfig::new("https://api.example.org/health"), headers).unwrap();
    /// assert!(!format!("{api:?}").contains("hunter2"));
    /// ```
    ///
    /// # Errors
    /// `Configuration` for what no request can be made of.
    pub fn new(name: impl Into<String>, config: HttpConfig, headers: Vec<(String, Secret)>) -> Result<Self> {
        let name = name.into();
        if let Some((_, mistake)) = config.mistakes().into_iter().next() {
            return Err(mistake);
        }
        let url = parse_url(&config.url)?;
        let headers = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_>>()?;
        Ok(Self { shared: Arc::new(Shared { name, config, url, headers }) })
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its configuration.
    pub fn config(&self) -> &HttpConfig {
        &self.shared.config
    }

    /// The address without its query, which may hold a token.
    pub fn display(&self) -> String {
        let mut url = self.shared.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// A probe that looks at this endpoint.
    pub fn bind(&self, probe: &'static dyn HttpProbe, limits: Limits) -> BoundHttpProbe {
        BoundHttpProbe::new(self.clone(), probe, limits)
    }

    #[cfg(feature = "ws")]
    pub(crate) fn url(&self) -> &Url {
        &self.shared.url
    }

    pub(crate) fn is_websocket(&self) -> bool {
        self.shared.config.joins()
    }

    /// The address of the request: a websocket begins as one.
    pub(crate) fn request_url(&self) -> Url {
        let mut url = self.shared.url.clone();
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            _ => return url,
        };
        // Both are schemes of the web's: this cannot fail.
        let _ = url.set_scheme(scheme);
        url
    }

    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.shared.headers
    }
}

fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue)> {
    use ops_core::redact::ExposeSecret;
    let parsed = HeaderName::try_from(name).map_err(|_| invalid(format!("{name:?} is no header name")))?;
    let mut value = HeaderValue::try_from(value.expose_secret())
        .map_err(|_| invalid(format!("the value of header {name} has characters that no header may have")))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::ErrorKind;

    #[test]
    fn what_no_request_can_be_made_of_is_refused_without_its_secrets() {
        let plain = HttpConfig::new("https://api/health");
        for (config, header, words) in [
            (HttpConfig::new("api/health"), "x-a", "does not parse"),
            (HttpConfig::new("ftp://api"), "x-a", "ftp://"),
            (HttpConfig::new("https://u:hunter2@api"), "x-a", "belong in a header"),
            (plain.clone().with_status(20), "x-a", "status 20"),
            (plain.clone().with_json("status", "ok"), "x-a", "no JSON pointer"),
            (plain.clone().with_graphql("mutation { x }"), "x-a", "must be a query"),
            #[cfg(feature = "ws")]
            (HttpConfig::new("wss://api/socket"), "x-a", "there is no subscription"),
            (plain.clone(), "x a", "no header name"),
        ] {
            let headers = vec![(header.to_owned(), Secret::from("hunter2".to_owned()))];
            let error = HttpTarget::new("api", config, headers).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.to_string().contains(words) && !format!("{error:?}").contains("hunter2"),
                "{error}"
            );
        }
        let broken = vec![("x-a".to_owned(), Secret::from("hunter2\n".to_owned()))];
        let error = HttpTarget::new("api", plain, broken).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn the_address_is_shown_without_its_query() {
        let target =
            HttpTarget::new("api", HttpConfig::new("https://api/h?token=hunter2"), Vec::new()).unwrap();
        assert_eq!(target.display(), "https://api/h");
    }
}
