//! The wall clock, for what is compared with the times in tokens and revocations. It can be set back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch; 0 while the clock is set before it.
pub fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
