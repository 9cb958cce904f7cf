//! The steps that every tested driver runs, with tokio-postgres: prints a line for each. The environment
//! holds libpq's variables, and libpq's sslmode in MODE.

use std::{env, error::Error, sync::Arc, time::Duration};

use tokio_postgres::{Client, Config, NoTls, config::ChannelBinding};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new();
    config.host(env::var("PGHOST")?).port(env::var("PGPORT")?.parse()?).dbname(env::var("PGDATABASE")?);
    config.user(env::var("PGUSER")?).password(env::var("PGPASSWORD")?);
    let tls = MakeRustlsConnect::new(trusting()?);
    let client: Client = if env::var("MODE")? == "verify-full" {
        config.channel_binding(ChannelBinding::Disable).ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(tls.clone()).await?;
        tokio::spawn(connection);
        client
    } else {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client
    };
    println!("select {}", client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0));
    let by_id = client.prepare("SELECT id FROM orders WHERE id = $1").await?;
    print!("prepared");
    for number in [41, 42, 43] {
        print!(" {}", client.query_one(&by_id, &[&number]).await?.get::<_, i32>(0));
    }
    println!();
    println!("denied {}", code(client.batch_execute("DROP TABLE orders").await));
    client.batch_execute("BEGIN").await?;
    client.execute("UPDATE orders SET status = $1 WHERE id = $2", &[&"lost", &2001]).await?;
    println!("denied {}", code(client.batch_execute("DELETE FROM orders").await));
    client.batch_execute("ROLLBACK").await?;
    let lost = client.query_one("SELECT count(*) FROM orders WHERE status = 'lost'", &[]).await?;
    println!("kept {}", lost.get::<_, i64>(0));
    let update = client.prepare("UPDATE orders SET status = $1 WHERE id = $2").await?;
    for number in 1..20 {
        client.execute(&update, &[&"paid", &number]).await?;
    }
    println!("rows {}", client.query("SELECT id, status FROM orders", &[]).await?.len());
    println!("error {}", code(client.batch_execute("SELECT 1/0").await));
    let cancel = client.cancel_token();
    let slow = client.batch_execute("SELECT count(*) FROM generate_series(1, 10000000000)");
    let cancelling = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if env::var("MODE").is_ok_and(|mode| mode == "verify-full") {
            cancel.cancel_query(tls).await
        } else {
            cancel.cancel_query(NoTls).await
        }
    };
    let (slow, cancelled) = tokio::join!(slow, cancelling);
    cancelled?;
    if code(slow) == "57014" {
        println!("cancelled");
    }
    println!("goes on {}", client.query_one("SELECT 2", &[]).await?.get::<_, i32>(0));
    Ok(())
}

/// The SQLSTATE that a statement failed with, or `none`.
fn code<T>(outcome: Result<T, tokio_postgres::Error>) -> String {
    match outcome {
        Ok(_) => "none".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

/// A TLS configuration that trusts the system's authorities, which `SSL_CERT_FILE` replaces.
fn trusting() -> Result<ClientConfig, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        roots.add(certificate)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
