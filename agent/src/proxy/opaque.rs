//! Connections whose content nobody reads: allowed as a whole, counted, cut when the job's standing ends.

use tokio::{io::copy_bidirectional, net::TcpStream};

use super::session::Session;

/// Forwards both ways until either side ends or the job may no longer act.
pub async fn serve(mut session: Session, client: std::net::TcpStream) {
    let Ok(mut client) = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) else {
        return session.end("client_failed");
    };
    let mut upstream = match session.dial().await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::info!(%error, destination = %session.destination, "cannot reach the upstream");
            return session.end("upstream_unreachable");
        }
    };
    let mut standing = session.standing.clone();
    let reason = tokio::select! {
        biased;
        _ = standing.wait_for(|standing| *standing != crate::jobs::Standing::Valid) => "revoked",
        copied = copy_bidirectional(&mut client, &mut upstream) => match copied {
            Ok(_) => "closed",
            Err(_) => "broken",
        },
    };
    session.end(reason);
}
