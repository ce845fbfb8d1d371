//! The trust anchors of TLS connections: which certificate authorities vouch for a server.
//!
//! A function has them compiled in. Reading the bundle of the operating system takes more instructions than all else that a
//! function does before its first request (docs/decisions/0041-compiled-in-trust-anchors.md). Where the operator names a bundle
//! with `SSL_CERT_FILE` or `SSL_CERT_DIR`, that bundle is trusted instead, for AWS and for everything else.

use crate::{Error, Result};
use aws_config::Region;
use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore};
use std::env::var_os;
use std::sync::Arc;

/// The certificate authorities of the endpoints of AWS. Amazon's own repository of authorities lists these five.
const OF_AWS: &str = include_str!("trust_anchors/aws.pem");

/// Whether the operator names a bundle of certificate authorities.
fn operator_names_a_bundle() -> bool {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The beginning of an HTTP client for servers outside AWS. It trusts the authorities that Mozilla trusts; with `as_the_system`,
/// or where the operator names a bundle, those that the operating system trusts.
///
/// # Errors
/// [`Error::Internal`] when the TLS library refuses its own defaults.
pub(crate) fn http_client(as_the_system: bool) -> Result<ClientBuilder> {
    let client = reqwest::Client::builder();
    if as_the_system || operator_names_a_bundle() {
        return Ok(client);
    }
    let anchors = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(anchors.collect::<RootCertStore>())
        .with_no_client_auth();
    // What this build of the client speaks.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(client.tls_backend_preconfigured(tls))
}

/// The HTTP client for the endpoints of AWS in this region. `None` for the SDK's own, which trusts what the operating system
/// trusts: where the operator names a bundle, and in regions whose endpoints other authorities vouch for.
pub(crate) fn aws_http_client(region: Option<&Region>) -> Option<SharedHttpClient> {
    let region = region.map_or("", |region| region.as_ref());
    // The partitions of China and of closed networks.
    if region.starts_with("cn-") || region.contains("-iso") || operator_names_a_bundle() {
        return None;
    }
    let anchors = TrustStore::empty().with_pem_certificate(OF_AWS);
    let tls = TlsContext::builder().with_trust_store(anchors).build();
    let client = Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc));
    Some(client.tls_context(tls.ok()?).build_https())
}

#[cfg(test)]
mod tests {
    use super::OF_AWS;
    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn the_authorities_of_aws_are_five_that_mozilla_trusts() {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(OF_AWS.as_bytes()) {
            store.add(certificate.unwrap()).unwrap();
        }
        assert_eq!(store.len(), 5);
        for anchor in &store.roots {
            assert!(
                webpki_roots::TLS_SERVER_ROOTS
                    .iter()
                    .any(|one| one.subject == anchor.subject
                        && one.subject_public_key_info == anchor.subject_public_key_info)
            );
        }
    }
}
