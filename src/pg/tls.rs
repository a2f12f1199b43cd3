//! TLS as libpq's `sslmode` defines it: which parts of a server's certificate are checked, and against which root certificates.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls::{ClientConnection, Error};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5912;

use super::conninfo::{Ssl, SslMode};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "sslmode verify-ca and verify-full need root certificates; name a file by sslrootcert, or `system`"
    )]
    NoRoots,
    #[error("cannot take a {what} from {path}: {why}")]
    File {
        what: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("the system has no root certificates: {0}")]
    System(String),
    #[error("there is a client's certificate (sslcert) and no key for it; name one by sslkey")]
    NoKey,
    #[error("the client's certificate and key are not accepted: {0}")]
    Client(Error),
    #[error("roots cannot be trusted: {0}")]
    Roots(String),
    #[error("`{0}` is neither a host's name nor an address, which TLS needs")]
    Name(String),
}

/// How connections to one host are encrypted.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for Tls {}

/// Reads a private key. As in libpq, a key file that others can access is refused; the group may read a file that root owns.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let refuse = |why: String| TlsError::File {
        what: "private key",
        path: path.to_owned(),
        why,
    };
    let file = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    let (others, fitting) = if file.uid() == 0 {
        (0o037, "0640")
    } else {
        (0o077, "0600")
    };
    if file.mode() & others != 0 {
        return Err(refuse(format!("others have access to it; chmod {fitting}")));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| refuse(error.to_string()))
}

impl Tls {
    /// The TLS settings for a host. With `verify-full` the server's certificate must be issued for this host name.
    pub fn new(ssl: &Ssl, host: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(ssl, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Client)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        // As in libpq, a client certificate whose file does not exist is left out.
        let certificate = ssl.certificate.as_deref().filter(|path| path.exists());
        let config = match (certificate, &ssl.key) {
            (None, _) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = private_key(key)?;
                let built = builder.with_client_auth_cert(chain, key);
                built.map_err(TlsError::Client)?
            }
            (Some(_), None) => return Err(TlsError::NoKey),
        };
        let name = ServerName::try_from(host.to_owned());
        Ok(Self {
            config: Arc::new(config),
            name: name.map_err(|_| TlsError::Name(host.to_owned()))?,
        })
    }

    /// The TLS state of a new connection.
    pub(super) fn connection(&self) -> Result<ClientConnection, Error> {
        ClientConnection::new(self.config.clone(), self.name.clone())
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }
}

/// All certificates in a file, which must have at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: String| TlsError::File {
        what: "certificate",
        path: path.to_owned(),
        why,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is none in it".into()));
    }
    Ok(found)
}

/// Checks a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// `None` if any certificate is accepted.
    roots: Option<Roots>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Roots {
    chain: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl Verifier {
    fn new(ssl: &Ssl, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let trusted = match ssl.root.as_deref() {
            Some("system") => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    let why = found.errors.first().map(ToString::to_string);
                    return Err(TlsError::System(why.unwrap_or_else(|| "none found".into())));
                }
                Some(found.certs)
            }
            // As in libpq, a root certificate file that exists is used whatever the mode.
            Some(path) if ssl.mode > SslMode::Require || Path::new(path).exists() => {
                Some(certificates(Path::new(path))?)
            }
            _ if ssl.mode <= SslMode::Require => None,
            _ => return Err(TlsError::NoRoots),
        };
        let roots = trusted.map(|trusted| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(trusted.iter().cloned());
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
            Ok(Roots {
                chain: builder
                    .build()
                    .map_err(|error| TlsError::Roots(error.to_string()))?,
                trusted,
                checks_name: ssl.mode == SslMode::VerifyFull,
            })
        });
        Ok(Self {
            roots: roots.transpose()?,
            provider: provider.clone(),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = roots.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The verifier checks the name last, so everything else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !roots.checks_name => Ok(ServerCertVerified::assertion()),
            // A self-signed server certificate is its own root, as in the example of PostgreSQL's manual. The verifier has already checked
            // its dates.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if is_root_itself(&other) && roots.trusted.contains(end_entity) =>
            {
                if roots.checks_name {
                    let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
                    rustls::client::verify_server_name(&parsed, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn is_root_itself(error: &rustls::OtherError) -> bool {
    let error = error.0.downcast_ref::<webpki::Error>();
    matches!(error, Some(webpki::Error::CaUsedAsEndEntity))
}

/// The data that binds a password's proof to this connection (RFC 5929, `tls-server-end-point`); `None` if the RFC defines no digest for
/// the certificate's signature algorithm.
pub(super) fn server_end_point(connection: &ClientConnection) -> Option<Vec<u8>> {
    let certificate = connection.peer_certificates()?.first()?;
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(match parsed.signature_algorithm.oid {
        // The RFC replaces MD5 and SHA-1 by SHA-256.
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Sha256::digest(certificate).to_vec(),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => {
            Sha384::digest(certificate).to_vec()
        }
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => {
            Sha512::digest(certificate).to_vec()
        }
        _ => return None,
    })
}
