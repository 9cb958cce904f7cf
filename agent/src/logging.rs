//! Logs go to standard error: text on a terminal, JSON lines anywhere else. `LINEAL_LOG` filters them.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Lines that a [`Throttle`] admits in a second.
const LINES_PER_SECOND: u32 = 10;

/// Bounds log lines that a job can cause by the thousand.
#[derive(Default)]
pub struct Throttle(Mutex<Option<Window>>);

/// One second, and how many lines were written and left out in it.
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    /// Whether a line may be written at `now`; if so, how many were left out since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert(Window { began: now, lines: 0, left_out: 0 });
        if now.saturating_duration_since(window.began) >= Duration::from_secs(1) {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines == LINES_PER_SECOND {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// Starts logging.
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
    // A second start, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(text).with(json).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_bounded_and_the_rest_counted() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| throttle.admit(start).is_some()).count();
        assert_eq!(admitted, LINES_PER_SECOND as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(throttle.admit(later), Some(90));
        assert_eq!(throttle.admit(later), Some(0));
    }
}
