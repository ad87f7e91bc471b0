//! TLS of outgoing connections, on rustls with the ring provider.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::{HttpConfig, HttpError, SecretSource};

/// Builds the TLS side of a client. Files are read now.
pub(super) fn client_config(config: &HttpConfig) -> Result<ClientConfig, HttpError> {
    let tls = &config.tls;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match (tls.tls12_only, tls.tls13_only) {
        (true, _) => &[&rustls::version::TLS12],
        (_, true) => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let server_name = match &tls.server_name {
        Some(name) => Some(
            ServerName::try_from(name.clone())
                .map_err(|e| HttpError::Tls(format!("server_name {name:?}: {e}")))?,
        ),
        None => None,
    };
    let roots = match &tls.ca {
        Some(ca) => {
            let mut store = RootCertStore::empty();
            for certificate in certificates(ca, "CA certificate")? {
                store.add(certificate).map_err(|e| HttpError::Tls(e.to_string()))?;
            }
            Some(Arc::new(store))
        }
        None => None,
    };
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        roots,
        inner: OnceLock::new(),
        server_name,
        skip: tls.insecure_skip_verify,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| HttpError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut built = match &tls.identity {
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key, "client key")?)
                .map_err(|e| HttpError::Pem { what: "client key".to_owned(), cause: e.to_string() })?;
            builder
                .with_client_auth_cert(certificates(cert, "client certificate")?, key)
                .map_err(|e| HttpError::Tls(e.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    built.alpn_protocols = match config.enable_http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    Ok(built)
}

/// The files that [`client_config`] reads.
pub(super) fn files(config: &HttpConfig) -> impl Iterator<Item = &PathBuf> {
    let identity = config.tls.identity.as_ref();
    [config.tls.ca.as_ref(), identity.map(|i| &i.0), identity.map(|i| &i.1)].into_iter().flatten().filter_map(
        |source| match source {
            SecretSource::File(path) => Some(path),
            SecretSource::Value(_) => None,
        },
    )
}

pub(super) fn read(source: &SecretSource, what: &'static str) -> Result<Vec<u8>, HttpError> {
    match source {
        SecretSource::Value(text) => Ok(text.reveal().as_bytes().to_vec()),
        SecretSource::File(path) => {
            std::fs::read(path).map_err(|cause| HttpError::File { what, path: path.clone(), cause })
        }
    }
}

fn certificates(
    source: &SecretSource,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let pem = |cause: String| HttpError::Pem { what: what.to_owned(), cause };
    let list: Vec<_> = CertificateDer::pem_slice_iter(&read(source, what)?)
        .collect::<Result<_, _>>()
        .map_err(|e| pem(e.to_string()))?;
    if list.is_empty() { Err(pem("it holds no certificate".to_owned())) } else { Ok(list) }
}

/// Where systems keep their roots as one PEM file.
const ROOT_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's roots (`SSL_CERT_FILE` first); Mozilla's where the system has none, as in an empty container.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        for file in given.into_iter().chain(ROOT_FILES.iter().map(PathBuf::from)) {
            let Ok(pem) = std::fs::read(&file) else { continue };
            let mut store = RootCertStore::empty();
            let (added, _unusable) =
                store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            if added > 0 {
                return Arc::new(store);
            }
        }
        Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    };
    Arc::clone(ROOTS.get_or_init(load))
}

/// Checks a server's certificate against roots that are loaded at the first handshake, under the name that the
/// configuration gives instead of the URL's host.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None: the system's.
    roots: Option<Arc<RootCertStore>>,
    inner: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
    server_name: Option<ServerName<'static>>,
    skip: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.skip {
            return Ok(ServerCertVerified::assertion());
        }
        let inner = self.inner.get_or_init(|| {
            let roots = self.roots.clone().unwrap_or_else(system_roots);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
                .build()
                .map_err(|e| e.to_string())
        });
        let inner = inner.as_ref().map_err(|e| rustls::Error::General(e.clone()))?;
        let name = self.server_name.as_ref().unwrap_or(server_name);
        inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
