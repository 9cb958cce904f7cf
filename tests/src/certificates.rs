//! Certificates for the lab: a company's own authority, its database server's certificate, and a user's.

use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{OpenOptionsExt, chown},
    path::Path,
};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// The name in the server's certificate.
pub const SERVER_NAME: &str = "db.lab.example";
/// The database user that logs in by a certificate alone.
pub const CERTIFIED_USER: &str = "app_cert";

/// Writes `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key` into `directory`, and
/// `other-ca.pem` of an authority that has signed no certificate. The file of the server's key belongs to
/// `owner`, a user and group id, and that of the client's key to the caller.
pub fn make(directory: &Path, owner: (u32, u32)) -> anyhow::Result<()> {
    let authority = authority("lab authority")?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    fs::write(directory.join("other-ca.pem"), self::authority("other authority")?.pem())?;
    let (uid, gid) = owner;

    let mut server = CertificateParams::new([SERVER_NAME.to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    server.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let key = KeyPair::generate()?;
    fs::write(directory.join("server.pem"), server.signed_by(&key, &authority)?.pem())?;
    let path = directory.join("server.key");
    write_key(&path, &key)?;
    chown(&path, Some(uid), Some(gid)).context("cannot give the server its key")?;

    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, CERTIFIED_USER);
    let key = KeyPair::generate()?;
    fs::write(directory.join("client.pem"), client.signed_by(&key, &authority)?.pem())?;
    write_key(&directory.join("client.key"), &key)
}

fn authority(name: &str) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn write_key(path: &Path, key: &KeyPair) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(key.serialize_pem().as_bytes())?)
}
