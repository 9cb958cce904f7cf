//! The Ed25519 key that signs checkpoints: made on the first start and kept apart from the trail, with its
//! public half beside the trail. Both are PEM files, so that openssl reads them.
//!
//! The private key is never printed, logged or put into an error.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use agent_core::audit::{
    Checkpoint,
    chain::{hex, unhex},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::{audit::error::AuditError, files};

const KEY_FILE: &str = "audit-checkpoint.key";
/// A public key beside a trail is called `checkpoint-key-<first 16 digits of its fingerprint>.pem`.
pub(in crate::audit) const PUBLIC_FILE_PREFIX: &str = "checkpoint-key-";
pub(in crate::audit) const PUBLIC_FILE_SUFFIX: &str = ".pem";
/// Bytes of a key file that are read: several times what one has.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// RFC 8410 section 7: a PKCS #8 PrivateKeyInfo is these bytes and the 32-byte seed.
const PRIVATE_DER: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// RFC 8410 section 4: a SubjectPublicKeyInfo is these bytes and the 32-byte key.
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The private key. It signs, and cannot be read out.
pub(super) struct CheckpointKey {
    key: SigningKey,
    fingerprint: String,
}

impl CheckpointKey {
    /// Reads the key from `state_dir`, or makes one there, and writes its public half into `trail_dir`.
    pub(super) fn open(state_dir: &Path, trail_dir: &Path) -> Result<Self, AuditError> {
        let file = state_dir.join(KEY_FILE);
        let seed = match File::open(&file) {
            Ok(opened) => read_seed(opened, &file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make_seed(state_dir, &file)?,
            Err(error) => return Err(AuditError::io("open the checkpoint key", &file)(error)),
        };
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey { key: key.verifying_key() };
        let fingerprint = public.fingerprint();
        let short: String = fingerprint.chars().skip("sha256:".len()).take(16).collect();
        let beside = trail_dir.join(format!("{PUBLIC_FILE_PREFIX}{short}{PUBLIC_FILE_SUFFIX}"));
        if !beside.exists() {
            write_new(&beside, &public.pem(), 0o644)?;
        }
        Ok(Self { key, fingerprint })
    }

    /// `sha256:` and the SHA-256 of the public key in DER, as `openssl pkey -pubin -outform DER | sha256sum`
    /// prints it.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The checkpoint's signature.
    pub(super) fn sign(&self, checkpoint: &Checkpoint) -> [u8; 64] {
        self.key.sign(&checkpoint.bytes_to_sign()).to_bytes()
    }
}

fn read_seed(opened: File, file: &Path) -> Result<[u8; 32], AuditError> {
    let bad = |reason: &str| AuditError::Key { file: file.to_owned(), reason: reason.to_owned() };
    let metadata = opened.metadata().map_err(AuditError::io("stat", file))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(bad(
            "can be read by other users: chmod 600 it, and treat it as known to everyone who could read it",
        ));
    }
    let mut text = String::new();
    opened.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(AuditError::io("read", file))?;
    unpem(&text, &PRIVATE_DER).ok_or_else(|| {
        bad("is not an Ed25519 private key in PEM: restore it, or move it away to have a new one made")
    })
}

fn make_seed(state_dir: &Path, file: &Path) -> Result<[u8; 32], AuditError> {
    fs::create_dir_all(state_dir).map_err(AuditError::io("create", state_dir))?;
    let random = Path::new("/dev/urandom");
    let mut seed = [0; 32];
    File::open(random)
        .and_then(|mut random| random.read_exact(&mut seed))
        .map_err(AuditError::io("read", random))?;
    write_new(file, &pem("PRIVATE KEY", &PRIVATE_DER, &seed), 0o600)?;
    Ok(seed)
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), AuditError> {
    files::replace(file, text.as_bytes(), mode).map_err(AuditError::io("write", file))
}

fn pem(label: &str, der: &[u8], key: &[u8; 32]) -> String {
    let body = STANDARD.encode([der, key].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn unpem(text: &str, der: &[u8]) -> Option<[u8; 32]> {
    let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).ok()?.strip_prefix(der)?.try_into().ok()
}

/// A public key that checkpoints are verified with.
pub(in crate::audit) struct PublicKey {
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads a public key from PEM, or from 64 hex digits. The error says what is wrong with the text.
    pub(in crate::audit) fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = unpem(text, &PUBLIC_DER)
            .or_else(|| unhex(text.trim().as_bytes()))
            .ok_or("is not an Ed25519 public key, in PEM or as 64 hex digits")?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| "is not a point on the curve")?;
        Ok(Self { key })
    }

    /// `sha256:` and the SHA-256 of the key in DER, see [`CheckpointKey::fingerprint`].
    pub(in crate::audit) fn fingerprint(&self) -> String {
        let digest =
            Sha256::new().chain_update(PUBLIC_DER).chain_update(self.key.as_bytes()).finalize().into();
        format!("sha256:{}", String::from_utf8_lossy(&hex(&digest)))
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &PUBLIC_DER, self.key.as_bytes())
    }

    /// Whether this key signed the checkpoint.
    pub(in crate::audit) fn signed(&self, checkpoint: &Checkpoint, signature: &[u8; 64]) -> bool {
        self.key.verify_strict(&checkpoint.bytes_to_sign(), &Signature::from_bytes(signature)).is_ok()
    }
}

/// Reads the beginning of a key's file, which is all of it unless it is no key.
pub(in crate::audit) fn read_text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
