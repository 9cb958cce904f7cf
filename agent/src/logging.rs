//! Logs go to standard error: text on a terminal, JSON lines anywhere else. `LINEAL_LOG` filters them.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging, the kernel side's messages included.
pub fn start() {
    let filter = EnvFilter::try_from_env("LINEAL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let text = terminal.then(|| fmt::layer().with_writer(std::io::stderr).with_target(false));
    let json = (!terminal).then(|| {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
    });
    // A second start, as in tests, keeps the first one's subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(text).with(json).try_init();
}
