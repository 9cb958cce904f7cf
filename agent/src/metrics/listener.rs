//! Serves the metrics over HTTP. It must never take much from the agent: scrapes are bounded in number and in
//! time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    service::service_fn,
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::declared::Metrics;
use crate::bounds::Bound;

/// Connections served at once. One more is closed at once, and counted.
const SCRAPES_MAX: usize = 16;
/// How long accepting pauses after it failed, as when no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long one connection may live.
const SCRAPE_MAX: Duration = Duration::from_secs(5);

/// Opens the listener, so that an address in use is known before the agent starts.
pub async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Serves `GET /metrics` for as long as it is polled. `refresh` is called before each answer, to take over
/// totals that are kept elsewhere.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    refresh: impl Fn() + Clone + Send + 'static,
) {
    let slots = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a connection for metrics cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            metrics.bound(Bound::Scrapes).inc();
            continue;
        };
        let (metrics, refresh) = (Arc::clone(&metrics), refresh.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                refresh();
                let answer = answer(&metrics, &request);
                async move { answer }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            let _ = tokio::time::timeout(SCRAPE_MAX, connection).await;
            drop(slot);
        });
    }
}

fn answer(
    metrics: &Metrics,
    request: &Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let response = Response::builder();
    if request.uri().path() != "/metrics" {
        return response.status(StatusCode::NOT_FOUND).body(Full::from("see /metrics\n"));
    }
    if request.method() != Method::GET {
        return response.status(StatusCode::METHOD_NOT_ALLOWED).body(Full::from(""));
    }
    match metrics.render() {
        Ok(text) => response.header(CONTENT_TYPE, prometheus::TEXT_FORMAT).body(Full::from(text)),
        Err(error) => response.status(StatusCode::INTERNAL_SERVER_ERROR).body(Full::from(error.to_string())),
    }
}
