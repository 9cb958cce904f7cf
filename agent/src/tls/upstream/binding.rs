//! Channel binding: what ties a password proof to the TLS connection on which it is given, so that it is
//! worth nothing on any other.

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::der::{Decode, oid::db};

use crate::tls::stream::Stream;

/// The binding to the upstream at the other end: the hash of its certificate, by the hash function of the
/// certificate's signature, or by SHA-256 where that is MD5 or SHA-1 (RFC 5929, section 4.1). None without
/// TLS, and for signatures of which the standard says nothing.
pub fn end_point(stream: &Stream) -> Option<Vec<u8>> {
    let Stream::Tls(stream) = stream else { return None };
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(match parsed.signature_algorithm.oid {
        db::rfc5912::ECDSA_WITH_SHA_384 | db::rfc5912::SHA_384_WITH_RSA_ENCRYPTION => {
            Sha384::digest(certificate).to_vec()
        }
        db::rfc5912::ECDSA_WITH_SHA_512 | db::rfc5912::SHA_512_WITH_RSA_ENCRYPTION => {
            Sha512::digest(certificate).to_vec()
        }
        db::rfc5912::ECDSA_WITH_SHA_256
        | db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | db::rfc5912::SHA_1_WITH_RSA_ENCRYPTION => Sha256::digest(certificate).to_vec(),
        // Other algorithms name their hash function in parameters, or use none.
        _ => return None,
    })
}
