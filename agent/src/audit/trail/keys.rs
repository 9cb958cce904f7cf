//! The Ed25519 key that signs checkpoints: made on the first start, kept apart from the trail, its public
//! half laid beside the trail. PEM throughout, so that openssl reads both.
//!
//! The private key is never printed, logged or put into an error.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_core::audit::Checkpoint;
use agent_core::audit::chain::{hex, unhex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::error::{AuditError, TrailError};
use crate::files;

const KEY_FILE: &str = "audit-checkpoint.key";
const PUBLIC_FILE_PREFIX: &str = "checkpoint-key-";
const PUBLIC_FILE_SUFFIX: &str = ".pem";
/// No key file is longer.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// RFC 8410 section 7: a PKCS #8 PrivateKeyInfo is this and the 32-byte seed.
const PRIVATE_DER: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// RFC 8410 section 4: a SubjectPublicKeyInfo is this and the 32-byte key.
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The signing half, in the agent.
pub(super) struct CheckpointKey {
    key: SigningKey,
    fingerprint: String,
}

impl CheckpointKey {
    /// Reads the key from `state_dir`, or makes it there, and lays its public half into `trail_dir`.
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

    /// SHA-256 of the public key's DER form, as `openssl pkey -pubin -outform DER | sha256sum` prints it.
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
            "can be read by others: chmod 600 it, and consider it known to whoever could read it",
        ));
    }
    let mut text = String::new();
    opened.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(AuditError::io("read", file))?;
    unpem(&text, &PRIVATE_DER).ok_or_else(|| {
        bad("is no Ed25519 private key in PEM: restore it, or move it away to have a new one made")
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

/// The verifying half.
pub(super) struct PublicKey {
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads a public key from a PEM file, or from one with the 32 bytes in hex.
    pub(super) fn read(file: &Path) -> Result<Self, TrailError> {
        let bad = |reason: &str| TrailError::Key { file: file.to_owned(), reason: reason.to_owned() };
        let mut text = String::new();
        File::open(file)
            .and_then(|opened| opened.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text))
            .map_err(TrailError::io("read the public key", file))?;
        let bytes = unpem(&text, &PUBLIC_DER)
            .or_else(|| unhex(text.trim().as_bytes()))
            .ok_or_else(|| bad("is no Ed25519 public key, in PEM or as 64 hex digits"))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| bad("is no point on the curve"))?;
        Ok(Self { key })
    }

    /// The public keys that lie in a trail's directory.
    pub(super) fn beside(trail_dir: &Path) -> Result<Vec<Self>, TrailError> {
        let entries = fs::read_dir(trail_dir).map_err(TrailError::io("list", trail_dir))?;
        let mut files = Vec::new();
        for entry in entries {
            let file: PathBuf = entry.map_err(TrailError::io("list", trail_dir))?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if name.starts_with(PUBLIC_FILE_PREFIX) && name.ends_with(PUBLIC_FILE_SUFFIX) {
                files.push(file);
            }
        }
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    /// See [`CheckpointKey::fingerprint`].
    pub(super) fn fingerprint(&self) -> String {
        let digest =
            Sha256::new().chain_update(PUBLIC_DER).chain_update(self.key.as_bytes()).finalize().into();
        format!("sha256:{}", String::from_utf8_lossy(&hex(&digest)))
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &PUBLIC_DER, self.key.as_bytes())
    }

    /// Whether this key signed the checkpoint.
    pub(super) fn signed(&self, checkpoint: &Checkpoint, signature: &[u8; 64]) -> bool {
        self.key.verify_strict(&checkpoint.bytes_to_sign(), &Signature::from_bytes(signature)).is_ok()
    }
}
